"""What the faults changed: transcripts held against the undisturbed ones, word by word. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Document = Mapping[str, Any]  # a transcript as `pipeline.sink.transcript.Transcript.to_document` gives it
Place = tuple[int, float, float, str, str]  # channel, start, end, text, speaker


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Words of one or more calls. ``lost`` ones are missing, ``twice`` ones there again, ``changed`` ones others than they were.

    ``invented`` ones stand where nothing was said. ``gaps`` are gaps that the undisturbed transcript has not. ``otherwise``
    counts calls whose words are all there and whose transcript is another all the same: cuts of segments, probabilities,
    gaps, duration, state.
    """

    words: int = 0
    lost: int = 0
    twice: int = 0
    changed: int = 0
    invented: int = 0
    gaps: int = 0
    otherwise: int = 0

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def is_clean(self) -> bool:
        """Return whether nothing was changed."""
        return not any((self.lost, self.twice, self.changed, self.invented, self.gaps, self.otherwise))


def compare(expected: Document, found: Document | None, *, is_poisoned: bool = False) -> Counts:
    """Return what of the undisturbed transcript is not in the one that was found; None stands for none at all.

    A call that was poisoned may be ``degraded`` more often than the undisturbed one. Ids are left out.
    """
    should, are = Counter(_places(expected)), Counter(_places(found or {"segments": []}))
    missing, extra = list((should - are).elements()), list((are - should).elements())
    twice = [place for place in extra if place in should]
    others = [place for place in extra if place not in should]
    changed = [place for place in missing if any(_overlap(place, other) for other in others)]
    invented = [place for place in others if not any(_overlap(place, other) for other in missing)]
    again = [place for place in invented if any(_overlap(place, other) for other in should)]
    gaps = Counter(_gaps(found)) - Counter(_gaps(expected)) if found is not None else Counter[Any]()
    is_other = found is not None and not (missing or extra or gaps) and _differs(expected, found, is_poisoned)
    return Counts(
        words=should.total(),
        lost=len(missing) - len(changed),
        twice=len(twice) + len(again),
        changed=len(changed),
        invented=len(invented) - len(again),
        gaps=gaps.total(),
        otherwise=int(is_other),
    )


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum."""
    return sum(counts, Counts())


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value that ``share`` of the values do not exceed; None without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _differs(expected: Document, found: Document, is_poisoned: bool) -> bool:
    """Return whether two transcripts differ in anything but ids."""
    should, are = _degraded(expected), _degraded(found)
    is_degraded_otherwise = bool(should - are) or (not is_poisoned and bool(are - should))
    return is_degraded_otherwise or _rest(expected) != _rest(found)


def _rest(document: Document) -> dict[str, Any]:
    rest = {name: value for name, value in document.items() if name not in ("call_id", "degraded", "segments")}
    segments = [
        {name: value for name, value in segment.items() if name != "segment_id"} for segment in document["segments"]
    ]
    return rest | {"segments": segments}


def _degraded(document: Document) -> Counter[str]:
    return Counter(json.dumps(one, sort_keys=True) for one in document.get("degraded", ()))


def _places(document: Document) -> Iterable[Place]:
    for segment in document["segments"]:
        for word in segment["words"]:
            yield segment["channel"], word["start_seconds"], word["end_seconds"], word["text"], segment["speaker"]


def _gaps(document: Document) -> Iterable[tuple[int, float, float]]:
    for gap in document["gaps"]:
        yield gap["channel"], gap["start_seconds"], gap["end_seconds"]


def _overlap(one: Place, other: Place) -> bool:
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]

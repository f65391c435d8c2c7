"""What is counted of one recording, as pure functions of who speaks when, and how recordings add up. All times are seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.bench.diarization.recordings import Speech, SpokenWord, speech_of
from pipeline.bench.diarization.running import WrittenTurns
from pipeline.bench.diarization.spans import Span, covered, seconds_of, within, without
from pipeline.core.rttm import SpeakerTurn
from pipeline.core.speakers import UNKNOWN

WORD_SLICE_SECONDS = 0.2  # stands for a word where the reference has none
LATENCY_SLICE_SECONDS = 0.1
SETTLED_SECONDS = 15.0  # labels may change for free before
LEAST_TURN_SECONDS = 1.0  # of a speaker alone, for a turn to have a label

Mapped = Mapping[str, str]  # label of the output -> speaker of the reference


@dataclass(frozen=True, slots=True, kw_only=True)
class DiarizationErrors:
    """The components of the diarization error rate, in seconds summed over speakers; ``total`` is the speech of the reference."""

    total: float = 0.0
    missed: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0

    @property
    def rate(self) -> float | None:
        """Return the diarization error rate, None where nobody speaks."""
        return (self.missed + self.false_alarm + self.confusion) / self.total if self.total else None

    def __add__(self, other: DiarizationErrors) -> DiarizationErrors:
        return DiarizationErrors(
            total=self.total + other.total,
            missed=self.missed + other.missed,
            false_alarm=self.false_alarm + other.false_alarm,
            confusion=self.confusion + other.confusion,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many of how many."""

    errors: int = 0
    of: int = 0

    @property
    def rate(self) -> float | None:
        """Return the share, None of nothing."""
        return self.errors / self.of if self.of else None

    def __add__(self, other: Count) -> Count:
        return Count(errors=self.errors + other.errors, of=self.of + other.of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How right an output is.

    ``strict`` has no collar, ``forgiving`` leaves out 0.25 s on each side of every boundary of the reference. ``word_errors`` counts
    words, or slices where the reference ``has_words`` not. ``label_changes`` are `label_changes`. ``speakers`` is how many labels
    there are, unknown left out.
    """

    strict: DiarizationErrors = DiarizationErrors()
    forgiving: DiarizationErrors = DiarizationErrors()
    has_words: bool = False
    word_errors: Count = Count()
    label_changes: Count = Count()
    speakers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds of processor and of wall clock, for ``audio_seconds``."""

    audio_seconds: float = 0.0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            audio_seconds=self.audio_seconds + other.audio_seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            wall_seconds=self.wall_seconds + other.wall_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What another pipeline made of the same recording."""

    output: Speech
    accuracy: Accuracy
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingFigures:
    """Everything measured of one recording.

    ``latencies`` are those of the slices of speech whose speaker became final, ``never_final`` counts the others.
    """

    name: str
    group: str
    reference: Speech
    output: Speech
    accuracy: Accuracy
    cost: Cost
    latencies: tuple[float, ...] = ()
    never_final: int = 0
    baseline: Compared | None = field(default=None)


def output_of(written: Sequence[WrittenTurns], audio_seconds: float) -> Speech:
    """Return who spoke when, by label, as the readers of call.annotations have it in the end.

    A later turn with the same speaker and start replaces the earlier one. What is open-ended lasts to the end of the recording, what
    lies behind it is cut off.
    """
    ends: dict[tuple[str, float], float] = {}
    for one in written:
        for turn in one.turns.turns:
            end = audio_seconds if turn.end_sample is None else turn.end_sample / one.sample_rate_hz
            ends[turn.speaker, turn.start_sample / one.sample_rate_hz] = min(end, audio_seconds)
    return speech_of((speaker, start, end) for (speaker, start), end in ends.items())


def latencies(reference: Speech, written: Sequence[WrittenTurns]) -> tuple[tuple[float, ...], int]:
    """Return for every 0.1 s of speech, of each speaker, how much audio behind its end had been fed when its speaker was final.

    Final is what lies below the watermark of the turns; what is known beforehand counts as 0. Slices that the watermark never passed
    are counted apart.
    """
    passed: list[tuple[float, float]] = []  # watermark, fed: each watermark higher than all before
    for one in written:
        watermark = one.turns.watermark_sample / one.sample_rate_hz
        if not passed or watermark > passed[-1][0]:
            passed.append((watermark, one.fed_seconds))
    found: list[float] = []
    never, index = 0, 0
    ends = sorted(
        end for spans in reference.values() for span in spans for _, end in slices(span, LATENCY_SLICE_SECONDS)
    )
    for end in ends:
        while index < len(passed) and passed[index][0] < end - 1e-9:
            index += 1
        if index == len(passed):
            never += 1
        else:
            found.append(max(0.0, passed[index][1] - end))
    return tuple(found), never


def slices(span: Span, seconds: float) -> Iterator[Span]:
    """Yield a span in pieces of equal length, as many as fit best into it, at least one.

    >>> list(slices((1.0, 1.5), 0.2))
    [(1.0, 1.25), (1.25, 1.5)]
    """
    start, end = span
    count = max(1, int((end - start) / seconds + 1e-9))
    step = (end - start) / count
    for index in range(count):
        yield start + index * step, start + (index + 1) * step


def word_errors(reference: Speech, words: Sequence[SpokenWord], output: Speech, mapped: Mapped) -> Count:
    """Return how many words of the reference, slices of 0.2 s where it has none, have another speaker in the output.

    The speaker of a word is the one whose label overlaps it most; nobody and ``unknown`` are wrong.
    """
    units = [(word.speaker, (word.start_seconds, word.end_seconds)) for word in words] or [
        (speaker, piece)
        for speaker, spans in reference.items()
        for span in spans
        for piece in slices(span, WORD_SLICE_SECONDS)
    ]
    known = {label: spans for label, spans in output.items() if label != UNKNOWN}
    wrong = 0
    for speaker, span in units:
        label = most_overlapping(known, [span])
        unknown = seconds_of(within(output.get(UNKNOWN, ()), span))
        is_unknown = label is None or unknown > seconds_of(within(known[label], span))
        wrong += is_unknown or mapped.get(str(label)) != speaker
    return Count(errors=wrong, of=len(units))


def label_changes(reference: Speech, turns: Sequence[SpeakerTurn], output: Speech) -> Count:
    """Return how often a person gets another label than before, out of the turns that could be compared.

    Counted are turns of the reference behind the first 15 s in which their speaker speaks alone for at least 1 s. The label of
    a turn is the one with most of that time; it changes when it is not the one with most of the person's earlier turns (of several
    with as many, the latest). ``unknown`` is no label.
    """
    known = {label: spans for label, spans in output.items() if label != UNKNOWN}
    seen: dict[str, list[str]] = {}
    changes = compared = 0
    for turn in sorted(turns, key=lambda turn: turn.start_seconds):
        if turn.start_seconds < SETTLED_SECONDS:
            continue
        others = [span for speaker, spans in reference.items() if speaker != turn.speaker for span in spans]
        alone = without([(turn.start_seconds, turn.end_seconds)], others)
        label = most_overlapping(known, alone) if seconds_of(alone) >= LEAST_TURN_SECONDS - 1e-9 else None
        if label is None:
            continue
        earlier = seen.setdefault(turn.speaker, [])
        if earlier:
            counts = Counter(reversed(earlier))  # of equal counts the one met first comes first
            compared += 1
            changes += counts.most_common(1)[0][0] != label
        earlier.append(label)
    return Count(errors=changes, of=compared)


def most_overlapping(output: Speech, spans: Sequence[Span]) -> str | None:
    """Return the label with most of the time in ``spans``, the first by name of equal ones; None where there is none."""
    shares = {
        label: seconds_of(piece for span in spans for piece in within(own, span)) for label, own in output.items()
    }
    best = max(sorted(shares), key=lambda label: shares[label], default=None)
    return best if best is not None and shares[best] > 0 else None


def overlap_share(speech: Speech) -> float | None:
    """Return the share of the time with speech in which more than one speaks."""
    layers = list(speech.values())
    any_seconds = seconds_of(covered(layers, at_least=1))
    return seconds_of(covered(layers, at_least=2)) / any_seconds if any_seconds else None

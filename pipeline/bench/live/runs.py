"""Runs of the benchmark: each with a broker, workers and a store of its own, in a folder that goes when it is over."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bench.live.compositions import Composition, Load, compose
from pipeline.bench.live.measuring import Spoken, measure, read_complete
from pipeline.bench.live.observing import AbandonedError
from pipeline.bench.live.plan import FeedPlan, PlannedRecording, spread_calls
from pipeline.bench.live.replays import Document, replay_all, spoken_words, without_ids
from pipeline.bench.live.result import LiveRun
from pipeline.bench.recordings import Recording
from pipeline.bench.system import own_settings
from pipeline.bench.word_ends import TrueWord
from pipeline.core.speakers import UNKNOWN
from pipeline.core.wer import WordErrors, normalise, word_error_rate
from pipeline.runtime.settings import Settings

TAIL_SECONDS = 1.0  # of every call behind the measured window


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How long a run is: starts are spread over the first, figures are taken over the second, from the last start on."""

    spread_seconds: float
    measure_seconds: float

    @property
    def call_seconds(self) -> float:
        """Return how long every call is: none ends before the window does."""
        return self.spread_seconds + self.measure_seconds + TAIL_SECONDS


@dataclass(slots=True, kw_only=True)
class LiveBench:
    """All runs of one command. Calls, their replays and the true ends of their words are made once.

    ``different_calls`` is how many calls with other audio there are at most. What a run leaves behind is
    removed when it is over, unless ``is_kept``.
    """

    settings: Settings
    folder: Path
    recordings: Sequence[Recording]
    load: Load
    different_calls: int
    sample_seconds: float
    is_kept: bool
    say: Callable[[str], None]
    _spoken: dict[str, Sequence[TrueWord]] = field(default_factory=dict)  # by recording
    _expected: dict[str, Document] = field(default_factory=dict)  # by composition
    _runs: int = 0

    def run(self, calls: int, length: Length, *, is_full: bool, abandon_seconds: float | None = None) -> LiveRun:
        """Make one run. A full one holds every transcript against its replay.

        With ``abandon_seconds`` it is given up when a stage is so far behind. Raises NotReadyError when something does not
        become ready, FailedError when the feeder dies.
        """
        composed = self._composed(calls, length)
        plan = self._plan(calls, length, composed)
        spoken = self._spoken_by_call(plan, composed)
        share = sum(composed[call.recording].speech_share for call in plan.calls) / calls
        self._runs += 1
        folder = self.folder / f"run-{self._runs}-of-{calls}"
        settings = own_settings(self.settings, folder, has_voices=self.load == "mixed")
        self.say(
            f"{calls} {self.load.replace('_', '-')} calls, {len(plan.recordings)} different, speech in "
            f"{100 * share:.0f} % of call time; starts over {length.spread_seconds:g} s, "
            f"then {length.measure_seconds:g} s measured"
        )
        problems: list[str] = []
        figures, errors = None, None
        stored: dict[str, Document] = {}
        different: tuple[str, ...] = ()
        try:
            figures, problems = measure(
                settings,
                plan,
                spoken,
                measure_seconds=length.measure_seconds,
                sample_seconds=self.sample_seconds,
                abandon_seconds=abandon_seconds,
                say=self.say,
            )
            stored = read_complete(settings.work_folder, plan)
            errors = _errors(stored, spoken)
            if len(stored) < calls:
                problems.append(f"{calls - len(stored)} of {calls} transcripts are not complete")
            if is_full:
                different = self._differences(settings, plan, stored)
            if different:
                problems.append(f"{len(different)} of {len(stored)} transcripts differ from their replay")
        except AbandonedError as error:
            problems = [f"given up: {error}"]
        if not self.is_kept:
            shutil.rmtree(settings.work_folder, ignore_errors=True)
        return LiveRun(
            calls=calls,
            load=self.load,
            is_full=is_full,
            spread_seconds=length.spread_seconds,
            measure_seconds=length.measure_seconds,
            speech_share=share,
            complete=len(stored),
            compared=len(stored) if is_full else 0,
            different=different,
            recognisers=_recognisers(stored),
            word_error_rate=None if errors is None else round(errors.rate, 4),
            named_share=_named_share(stored) if self.load == "mixed" else None,
            problems=tuple(problems),
            figures=figures,
        )

    def _composed(self, calls: int, length: Length) -> dict[str, Composition]:
        """Return the different calls of a run by name; names tell the length, so that files and replays serve later runs."""
        composed = compose(
            self.recordings,
            count=min(self.different_calls, len(self.recordings)),
            length_seconds=length.call_seconds,
            load=self.load,
        )
        return {f"{one.name}-{length.call_seconds:g}s": one for one in composed[:calls]}

    def _plan(self, calls: int, length: Length, composed: Mapping[str, Composition]) -> FeedPlan:
        """Return the plan of a feed; audio files that are not there yet are written."""
        folder = self.folder / "calls"
        folder.mkdir(parents=True, exist_ok=True)
        files = {name: folder / f"{name}.wav" for name in composed}
        for name, path in files.items():
            if not path.exists():
                composed[name].write(path)
        record_seconds = self.settings.ingest.record_seconds
        return FeedPlan(
            record_seconds=record_seconds,
            recordings={
                name: PlannedRecording(path=str(files[name]), roles=tuple(one.roles[at] for at in sorted(one.roles)))
                for name, one in composed.items()
            },
            calls=spread_calls(
                calls, list(composed), spread_seconds=length.spread_seconds, record_seconds=record_seconds
            ),
        )

    def _spoken_by_call(self, plan: FeedPlan, composed: Mapping[str, Composition]) -> Spoken:
        """Return what is said in every call, and when."""
        used = {piece.recording.name: piece.recording for one in composed.values() for piece in one.pieces}
        missing = [recording for name, recording in used.items() if name not in self._spoken]
        if missing:
            self.say(f"aligning the references of {len(missing)} recordings")
            self._spoken |= spoken_words(self.settings.asr, missing)
        by_name = {name: composition.words(self._spoken) for name, composition in composed.items()}
        return {call.call_id: by_name[call.recording] for call in plan.calls}

    def _differences(self, settings: Settings, plan: FeedPlan, stored: Mapping[str, Document]) -> tuple[str, ...]:
        """Return the calls whose transcript is not that of their replay; both are written to ``differences`` in the run's folder."""
        missing = {name: one for name, one in plan.recordings.items() if name not in self._expected}
        if missing:
            self.say(f"replaying {len(missing)} recordings")
            self._expected |= replay_all(settings, missing)
        different = []
        for call in plan.calls:
            if call.call_id not in stored:
                continue
            found, expected = without_ids(stored[call.call_id]), self._expected[call.recording]
            if found != expected:
                different.append(call.call_id)
                folder = settings.work_folder / "differences"
                folder.mkdir(parents=True, exist_ok=True)
                for name, document in (("found", found), ("expected", expected)):
                    path = folder / f"{call.call_id}.{name}.json"
                    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return tuple(different)


@contextmanager
def work_folder(settings: Settings, *, is_kept: bool, name: str = "live") -> Iterator[Path]:
    """Give a new folder below the work folder; removed at the end, or on an interrupt, unless ``is_kept``. An error leaves it."""
    parent = settings.work_folder / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    try:
        yield folder
    except Exception:
        raise
    except BaseException:  # an interrupt
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if not is_kept:
        shutil.rmtree(folder, ignore_errors=True)


def _recognisers(stored: Mapping[str, Document]) -> tuple[str, ...]:
    """Return every model and policy that a segment names."""
    segments = [segment for document in stored.values() for segment in document["segments"]]
    return tuple(sorted({f"{segment['model']} {segment['policy']}" for segment in segments}))


def _named_share(stored: Mapping[str, Document]) -> float | None:
    """Return the share of words of all transcripts whose segment names a speaker; None without words."""
    segments = [segment for document in stored.values() for segment in document["segments"]]
    words = sum(len(segment["words"]) for segment in segments)
    named = sum(len(segment["words"]) for segment in segments if segment["speaker"] != UNKNOWN)
    return round(named / words, 4) if words else None


def _errors(stored: Mapping[str, Document], spoken: Spoken) -> WordErrors | None:
    """Return the word errors of all transcripts, channel by channel; None where the references tell no times."""
    scores = []
    for call_id, document in stored.items():
        for channel in {word.channel for word in spoken[call_id]}:
            said = " ".join(word.text for word in spoken[call_id] if word.channel == channel)
            heard = " ".join(one["text"] for one in document["segments"] if one["channel"] == channel)
            scores.append(word_error_rate(normalise(said), normalise(heard)))
    return sum(scores[1:], scores[0]) if scores else None

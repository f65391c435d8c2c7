"""One run: a system of its own, calls in real time, faults, and the verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bench.live.compositions import compose, mixed
from pipeline.bench.live.plan import PlannedRecording
from pipeline.bench.live.replays import Document, replay_all
from pipeline.bench.recordings import recordings
from pipeline.bench.system import System, own_settings, running
from pipeline.chaos.broker import COMMITTED, OUTPUTS, Poisoner, Progress
from pipeline.chaos.faults import Tormentor
from pipeline.chaos.feeding import Feed, Feeding
from pipeline.chaos.schedule import Fault, Kind, schedule
from pipeline.chaos.verdict import Counts, compare
from pipeline.core.errors import CallscribeError, NotReadyError
from pipeline.runtime.call_state import partition_of
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.runtime.settings import Settings
from pipeline.stages import STAGES

WORKERS = 2  # a stage
DIFFERENT_CALLS = 10  # with other audio
SPREAD_SECONDS = 5.0  # over which the calls start
SETTLED_SECONDS = 3.0  # a call that ends sooner behind a fault says nothing about recovery
PATIENCE_SECONDS = 300.0  # behind the last fault, for all transcripts to be complete
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is asked for."""

    calls: int
    seconds: float
    seed: int
    kinds: tuple[Kind, ...]
    faults: int


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run came to. ``recoveries`` are seconds from a fault to the next step of the stage it hit, by kind."""

    plan: Plan
    faults: list[tuple[Fault, str]] = field(default_factory=list)  # and what went wrong with it, if anything
    counts: Mapping[str, Counts] = field(default_factory=dict)  # by call
    incomplete: list[str] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    dead_letters: int = 0
    restarts: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Return whether no word was lost, said twice or changed, and every call is complete."""
        return not self.incomplete and all(counts.is_clean for counts in self.counts.values())


def run(settings: Settings, folder: Path, plan: Plan, say: Callable[[str], None]) -> Outcome:
    """Make one run in ``folder``. Raises NotReadyError when a part does not become ready."""
    settings = own_settings(settings, folder)
    began = time.monotonic()
    feeds, sources = _calls(settings, folder, plan)
    say(f"replaying {len(sources)} calls undisturbed")
    expected = replay_all(settings, sources)
    workers = [f"{stage}-{number}" for stage in STAGES for number in range(1, WORKERS + 1)]
    faults = schedule(
        seed=plan.seed,
        seconds=plan.seconds,
        kinds=plan.kinds,
        count=plan.faults,
        workers=workers,
        calls=[feed.call_id for feed, _ in feeds],
        session_seconds=settings.kafka.session_timeout_seconds,
    )
    outcome = Outcome(plan=plan)
    with running(settings, workers=WORKERS, say=say) as system, closing(Poisoner(settings)) as poisoner:
        feeding, progress = Feeding(settings, [feed for feed, _ in feeds], say), Progress(settings)
        tormentor = Tormentor(settings, system.supervisor, feeding, poisoner)
        progress.start()
        feeding.start()
        try:
            hits = _torment(faults, tormentor, feeding, outcome, say)
            say("the last fault is over; waiting for the transcripts")
            found = _wait_complete(system, {feed.call_id for feed, _ in feeds}, say)
        finally:
            feeding.stop()
            progress.stop()
        outcome.incomplete = sorted({feed.call_id for feed, _ in feeds} - found.keys())
        outcome.counts = {feed.call_id: compare(expected[source], found.get(feed.call_id)) for feed, source in feeds}
        for fault, at, live in hits:
            for seconds in _recovery(fault, at, live, progress, settings):
                outcome.recoveries.setdefault(fault.kind, []).append(seconds)
        outcome.dead_letters = sum(1 for _ in read_dead_letters(settings))
        outcome.restarts = sum(worker.restarts for worker in system.supervisor.state.workers)
    outcome.seconds = time.monotonic() - began
    return outcome


def _calls(settings: Settings, folder: Path, plan: Plan) -> tuple[list[tuple[Feed, str]], dict[str, PlannedRecording]]:
    """Return the feeds, each with the name of its audio, and the audio by name."""
    composed = compose(
        mixed(recordings()),
        count=min(plan.calls, DIFFERENT_CALLS),
        length_seconds=plan.seconds - SPREAD_SECONDS,
        is_mono=False,
    )
    (folder / "calls").mkdir(parents=True, exist_ok=True)
    sources: dict[str, PlannedRecording] = {}
    for one in composed:
        path = folder / "calls" / f"{one.name}.wav"
        one.write(path)
        sources[one.name] = PlannedRecording(path=str(path), roles=tuple(one.roles[at] for at in sorted(one.roles)))
    feeds = []
    for number in range(plan.calls):
        one = composed[number % len(composed)]
        path = Path(sources[one.name].path)
        start = SPREAD_SECONDS * number / plan.calls
        feeds.append((Feed(f"chaos-{plan.seed}-{number:03}", path, one.roles, start), one.name))
    return feeds, sources


def _torment(
    faults: Sequence[Fault],
    tormentor: Tormentor,
    feeding: Feeding,
    outcome: Outcome,
    say: Callable[[str], None],
) -> list[tuple[Fault, float, set[str]]]:
    """Carry every fault out at its time; return them with their moment and the calls that were fed then."""
    began = time.monotonic()
    hits = []
    running_faults = []

    def carry_out(fault: Fault) -> None:
        problem = ""
        try:
            tormentor.carry_out(fault)
        except Exception as error:
            problem = str(error) if isinstance(error, CallscribeError) else type(error).__name__
            say(f"{fault}: {problem}")
        outcome.faults.append((fault, problem))

    for number, fault in enumerate(faults, start=1):
        time.sleep(max(0.0, began + fault.at_seconds - time.monotonic()))
        say(f"{time.monotonic() - began:6.1f} s  {number:3} of {len(faults)}  {fault}")
        hits.append((fault, time.monotonic(), feeding.live))
        thread = threading.Thread(target=carry_out, args=(fault,), daemon=True)
        thread.start()
        running_faults.append(thread)
    for thread in running_faults:
        thread.join()
    return hits


def _wait_complete(system: System, call_ids: set[str], say: Callable[[str], None]) -> dict[str, Document]:
    """Return the complete transcripts, when all are complete or patience is over."""
    began = last = time.monotonic()
    while time.monotonic() - began < PATIENCE_SECONDS:
        try:
            if system.is_complete(call_ids):
                break
        except NotReadyError as error:
            say(str(error))
        if time.monotonic() - last > 30:
            last = time.monotonic()
            say("still waiting")
        time.sleep(POLL_SECONDS)
    found = system.transcripts(call_ids)
    return {call_id: one.to_document() for call_id, one in found.items() if one.state == "complete"}


def _recovery(fault: Fault, at: float, live: set[str], progress: Progress, settings: Settings) -> list[float]:
    """Return for every partition with live calls how long the stage that was hit stood still; for the broker, every stage."""
    stages = (*OUTPUTS, *COMMITTED) if fault.kind == "broker" else ()
    if fault.kind in ("kill", "term", "stop"):
        stages = (fault.target.rpartition("-")[0],)
    if fault.kind == "store":
        stages = ("sink",)
    partitions = {partition_of(call_id, settings.partitions) for call_id in live}
    moments = [progress.resumed((stage, partition), at) for stage in stages for partition in partitions]
    return [round(moment - at, 2) for moment in moments if moment is not None]

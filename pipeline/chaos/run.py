"""One run: a system of its own, calls in real time, faults, and the verdict."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bench.live.broker import BrokerProbe
from pipeline.bench.live.compositions import compose, interleaved
from pipeline.bench.live.plan import PlannedRecording
from pipeline.bench.live.replays import Document, replay_all
from pipeline.bench.recordings import recordings
from pipeline.bench.system import System, own_settings, running
from pipeline.chaos.broker import Poisoner, Progress
from pipeline.chaos.delays import word_delays
from pipeline.chaos.faults import Tormentor
from pipeline.chaos.feeding import Feed, Feeding
from pipeline.chaos.members import partitions_of
from pipeline.chaos.recovery import Hit, by_kind
from pipeline.chaos.schedule import WORKER_KINDS, Fault, Kind, schedule
from pipeline.chaos.verdict import Counts, compare
from pipeline.core.errors import CallscribeError, NotReadyError
from pipeline.runtime.call_state import partition_of
from pipeline.runtime.dead_letters import coordinates_of, read_dead_letters
from pipeline.runtime.settings import Settings
from pipeline.sink.coverage import coverage_of
from pipeline.sink.stores.base import StoredCall
from pipeline.sink.transcript import Transcript
from pipeline.stages import STAGES

WORKERS = 2  # a stage
DIFFERENT_CALLS = 10  # with other audio
SPREAD_SECONDS = 5.0  # over which the calls start
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
    """What a run came to.

    ``recoveries`` are seconds from a fault to the next step of the stage it hit, by kind; None where none was seen.
    ``ignored`` are the places of poison that no stage has rejected, ``unaccounted`` the calls with samples of which the store does not
    say what became of them.
    """

    plan: Plan
    folder: Path
    hits: list[Hit] = field(default_factory=list)
    counts: Mapping[str, Counts] = field(default_factory=dict)  # by call
    incomplete: list[str] = field(default_factory=list)
    unaccounted: list[str] = field(default_factory=list)
    recoveries: dict[str, list[float | None]] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)  # of words, in seconds
    poisoned: int = 0
    ignored: list[str] = field(default_factory=list)
    dead_letters: int = 0
    restarts: int = 0
    seconds: float = 0.0

    @property
    def different(self) -> list[str]:
        """Return the calls whose transcripts are not the undisturbed ones."""
        return sorted(call_id for call_id, counts in self.counts.items() if not counts.is_clean)

    @property
    def is_clean(self) -> bool:
        """Return whether every call is complete, accounted for, and as undisturbed, every poison rejected, and some fault carried out."""
        spoilt = self.incomplete or self.different or self.unaccounted or self.ignored
        return not spoilt and (not self.hits or any(not hit.problem for hit in self.hits))


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
    outcome = Outcome(plan=plan, folder=folder)
    call_ids = {feed.call_id for feed, _ in feeds}
    with running(settings, workers=WORKERS, say=say) as system, closing(Poisoner(settings)) as poisoner:
        with closing(BrokerProbe(settings)) as probe:
            probe.stamp_on_append()
        feeding, progress = Feeding(settings, [feed for feed, _ in feeds], say), Progress(settings)
        tormentor = Tormentor(settings, system.supervisor, feeding, poisoner)
        progress.start()
        feeding.start()
        try:
            outcome.hits = _torment(faults, tormentor, feeding, settings, say)
            say("the last fault is over; waiting for the transcripts")
            stored = _wait_complete(system, call_ids, say)
        finally:
            feeding.stop()
            progress.stop()
        outcome.recoveries = by_kind(outcome.hits, progress.moves)
        outcome.delays = word_delays(settings)
        rejected = {coordinates_of(letter) for letter in read_dead_letters(settings)}
        outcome.dead_letters = len(rejected)
        outcome.restarts = sum(worker.restarts for worker in system.supervisor.state.workers)
    found = {call_id: Transcript.from_stored(one).to_document() for call_id, one in stored.items()}
    outcome.incomplete = sorted(call_ids - found.keys())
    outcome.unaccounted = sorted(call_id for call_id, one in stored.items() if coverage_of(one).problems)
    outcome.poisoned = len(poisoner.written)
    outcome.ignored = sorted(map(str, poisoner.written - rejected))
    poisoned = {hit.fault.detail.split()[1] for hit in outcome.hits if hit.fault.kind == "poison"}
    outcome.counts = {
        feed.call_id: compare(expected[source], found.get(feed.call_id), is_poisoned=feed.call_id in poisoned)
        for feed, source in feeds
    }
    _keep_differences(outcome, folder, {feed.call_id: expected[source] for feed, source in feeds}, found)
    outcome.seconds = time.monotonic() - began
    return outcome


def _calls(settings: Settings, folder: Path, plan: Plan) -> tuple[list[tuple[Feed, str]], dict[str, PlannedRecording]]:
    """Return the feeds, each with the name of its audio, and the audio by name."""
    composed = compose(
        interleaved(recordings()),
        count=min(plan.calls, DIFFERENT_CALLS),
        length_seconds=plan.seconds - SPREAD_SECONDS,
        load="two_channel",
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
    settings: Settings,
    say: Callable[[str], None],
) -> list[Hit]:
    """Carry every fault out at its time; returns what came of them when the last one is over."""
    began = time.monotonic()
    hits, threads = [], []

    def carry_out(hit: Hit) -> None:
        try:
            tormentor.carry_out(hit)
        except Exception as error:
            hit.problem = str(error) if isinstance(error, CallscribeError) else type(error).__name__
            say(f"{hit.fault}: {hit.problem}")

    for number, fault in enumerate(faults, start=1):
        time.sleep(max(0.0, began + fault.at_seconds - time.monotonic()))
        partitions = _partitions(fault, feeding.live, settings, say)
        hit = Hit(fault=fault, at=time.time(), partitions=partitions)
        say(f"{time.monotonic() - began:6.1f} s  {number:3} of {len(faults)}  {fault}")
        hits.append(hit)
        threads.append(threading.Thread(target=carry_out, args=(hit,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return hits


def _partitions(fault: Fault, live: set[str], settings: Settings, say: Callable[[str], None]) -> frozenset[int]:
    """Return the partitions with live calls that a fault can hit; none for a worker whose broker does not say what it owns."""
    partitions = frozenset(partition_of(call_id, settings.partitions) for call_id in live)
    if fault.kind not in WORKER_KINDS:
        return partitions
    try:
        return partitions & partitions_of(settings, fault.target)
    except NotReadyError as error:
        say(f"no recovery is measured for {fault}: {error}")
        return frozenset()


def _wait_complete(system: System, call_ids: set[str], say: Callable[[str], None]) -> dict[str, StoredCall]:
    """Return the complete calls, when all are complete or patience is over."""
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
    return {call_id: one for call_id, one in system.stored(call_ids).items() if one.call.state == "complete"}


def _keep_differences(
    outcome: Outcome, folder: Path, expected: Mapping[str, Document], found: Mapping[str, Document]
) -> None:
    """Write both transcripts of every call that differs to ``differences`` in the folder of the run."""
    for call_id in outcome.different:
        (folder / "differences").mkdir(exist_ok=True)
        for name, document in (("expected", expected[call_id]), ("found", found.get(call_id))):
            path = folder / "differences" / f"{call_id}.{name}.json"
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

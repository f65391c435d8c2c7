"""A stage on a log, carried out as the runtime carries it out, that may die between any two effects and start again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from pipeline.core.errors import StaleStateError
from pipeline.core.ids import CALL_CHANNEL
from schemas.records import CallAnnotation, LaneState, Started
from tests.fakes import CODEC, Call, Said, Stage, passed, run_chain, said, stages, step

EXAMPLES = int(os.environ.get("CALLSCRIBE_TEST_EXAMPLES", "6"))  # 200 or more to hunt, drawn anew in each run

# Every run draws the same examples, and a failure is not shrunk: the fast tests stay fast whatever they find.
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 100,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)


PLAIN = Call(script={0: said("one two three.", at=0.4) + said("four five.", at=2.6)}, seconds=4.0)


def log_of(call: Call, name: str) -> list[Any]:
    """Return what a stage reads of a call."""
    if name == "vad":
        return call.records()
    chain = run_chain(call)
    return chain.annotations if name == "assemble" else chain.outputs["vad"]


def identity(record: Any) -> tuple[str, int, int]:
    """Return what a reader drops repeats by: writer, channel, sequence."""
    return (record.stage if isinstance(record, CallAnnotation) else "", record.channel, record.sequence)


def once(records: Iterable[Any]) -> list[Any]:
    """Return the records without repeats, in order. Fails when one identity stands for two different records."""
    found: dict[tuple[str, int, int], Any] = {}
    for record in records:
        if record.kind != "tail":
            first = found.setdefault(identity(record), record)
            assert first == record, f"two records are {identity(record)}:\n{first}\n{record}"
    return list(found.values())


def by_lane(records: Iterable[Any]) -> dict[tuple[str, int], list[Any]]:
    """Return the records of each lane in order of sequence; fails on a hole."""
    lanes: dict[tuple[str, int], list[Any]] = {}
    for record in sorted(once(records), key=identity):
        lanes.setdefault(identity(record)[:2], []).append(record)
    for lane, members in lanes.items():
        assert [record.sequence for record in members] == list(range(len(members))), f"lane {lane} has a hole"
    return lanes


@dataclass(slots=True)
class Durable:
    """One stage of one call. ``log`` is its input topic, ``topic`` what the broker holds of its output.

    Of the log everything before ``first`` was deleted before it was read; ``known`` is how the call has started.
    """

    stage: Stage
    log: list[Any]
    topic: list[Any] = field(default_factory=list)
    changelog: dict[int, bytes] = field(default_factory=dict)
    released: set[int] = field(default_factory=set)
    position: int = 0
    flow: Any = None
    first: int = 0
    known: Started | None = None

    def __post_init__(self) -> None:
        self.released |= set(range(self.first))
        self.restart()

    @property
    def committed(self) -> int:
        """Return the offset that the ledger lets Faust commit: the first that is not released."""
        offset = 0
        while offset in self.released:
            offset += 1
        return offset

    @property
    def is_drained(self) -> bool:
        """Return whether everything on the log was read."""
        return self.position >= len(self.log)

    def restart(self, lag: int = 0) -> None:
        """Start again from the changelog; the broker may know of ``lag`` releases fewer than were made."""
        states = {channel: CODEC.decode(value, LaneState) for channel, value in self.changelog.items()}
        control = states.get(CALL_CHANNEL)
        is_known = control is not None and control.started is not None
        self.position = max(self.committed - lag, self.first)
        read_from = self.position if self.first else 0
        self.flow = self.stage.flow(states if is_known else None, read_from=read_from, first_offset=self.first)

    def work(self, burst: int = 1, dies_after: float | None = None) -> None:
        """Take a burst of records: outputs, states, releases. ``dies_after``: share of the effects that still happen."""
        outputs: list[Any] = []
        states: dict[int, LaneState] = {}
        released: list[int] = []
        for record in self.log[self.position : self.position + burst]:
            try:
                effects = step(self.flow, self.stage, record, self.position, self.known)
            except StaleStateError as error:
                self.released -= set(range(error.offset, len(self.log)))
                self.restart()
                return
            self.position += 1
            outputs += effects.outputs
            states |= {state.channel: state for state in effects.states}
            released += effects.released
        actions: list[tuple[str, Any]] = [("output", output) for output in outputs]
        actions += [("state", state) for state in states.values()]
        actions += [("release", offset) for offset in released]
        count = len(actions) if dies_after is None else int(dies_after * (len(actions) + 1))
        for action, value in actions[:count]:
            if action == "output":
                self.topic.append(passed(value))
            elif action == "state":
                self.changelog[value.channel] = CODEC.encode(value)
            else:
                self.released.add(value)

    def drain(self, burst: int = 1) -> None:
        """Work until the log is read."""
        while not self.is_drained:
            self.work(burst)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """After ``records`` more records the stage dies within a burst of ``burst``, ``share`` of whose effects happen."""

    records: int
    burst: int
    share: float
    lag: int


def crashes(most: int = 3) -> st.SearchStrategy[list[Crash]]:
    """Return the strategy of crash schedules."""
    return st.lists(
        st.builds(
            Crash,
            records=st.integers(0, 60),
            burst=st.integers(1, 8),
            share=st.floats(0, 1),
            lag=st.sampled_from([0, 0, 1, 7, 50]),
        ),
        min_size=1,
        max_size=most,
    )


def disturbed_chain(call: Call, data: st.DataObject, **configs: Any) -> tuple[Durable, ...]:
    """Return vad, diarize, asr and assemble, in this order, after a call went through them with crashes in any order."""
    chain = stages(call, **configs)
    vad = Durable(chain["vad"], call.records())
    diarize = Durable(chain["diarize"], vad.topic)
    asr = Durable(chain["asr"], vad.topic, topic=diarize.topic)
    workers = (vad, diarize, asr, Durable(chain["assemble"], diarize.topic))
    moves = st.tuples(st.integers(0, 3), st.integers(1, 30), st.none() | st.floats(0, 1), st.sampled_from([0, 1, 9]))
    for index, burst, share, lag in data.draw(st.lists(moves, max_size=25)):
        workers[index].work(burst, share)
        if share is not None:
            workers[index].restart(lag)
    while not all(worker.is_drained for worker in workers):
        for worker in workers:
            worker.drain(5)
    return workers


def disturbed(stage: Stage, log: Sequence[Any], schedule: Iterable[Crash]) -> Durable:
    """Return the stage after it went through ``log`` with crashes."""
    return crashed(Durable(stage, list(log)), schedule)


def crashed(durable: Durable, schedule: Iterable[Crash]) -> Durable:
    """Return the stage after it went through its log with crashes."""
    for crash in schedule:
        for _ in range(crash.records):
            if not durable.is_drained:
                durable.work()
        durable.work(crash.burst, crash.share)
        durable.restart(crash.lag)
    durable.drain()
    return durable


def undisturbed(stage: Stage, log: Sequence[Any]) -> list[Any]:
    """Return what the stage writes for ``log`` in one go."""
    durable = Durable(stage, list(log))
    durable.drain()
    return durable.topic


def assert_same(
    stage: Stage, log: Sequence[Any], schedule: Iterable[Crash], expected: Iterable[Any] | None = None
) -> None:
    """Fail unless crashes change nothing: same records, each identity one record, everything released."""
    durable = disturbed(stage, log, schedule)
    assert by_lane(durable.topic) == by_lane(undisturbed(stage, log) if expected is None else expected)
    if log[-1].kind == "ended":
        assert durable.committed == len(log)


# -- random calls ----------------------------------------------------------------------------------------------------


PAUSES = st.one_of(st.integers(2, 25), st.integers(3, 6)).map(lambda tenths: tenths / 10)


@st.composite
def scripts(
    draw: st.DrawFn, *, channel: int, seconds: float, pauses: st.SearchStrategy[float] = PAUSES
) -> tuple[Said, ...]:
    """Draw the words of a channel: bursts of speech with ``pauses``, some words ending a sentence."""
    words: list[Said] = []
    at = draw(st.integers(0, 15)) / 10
    while True:
        for _ in range(draw(st.integers(1, 6))):
            length = draw(st.integers(20, 40)) / 100
            if at + length + 0.1 > seconds:
                return tuple(words)
            mark = draw(st.sampled_from(["", "", "", "."]))
            words.append(Said(f"c{channel}w{len(words)}{mark}", round(at, 3), round(at + length, 3)))
            at += length + draw(st.sampled_from([0.02, 0.08, 0.2]))
        at += draw(pauses)


@st.composite
def calls(
    draw: st.DrawFn,
    *,
    seconds: float = 7.0,
    rates: Sequence[int] = (8_000, 16_000),
    controls: Mapping[str, Any] | None = None,
    pauses: st.SearchStrategy[float] = PAUSES,
) -> Call:
    """Draw a call of one or two channels; ``controls`` are kinds and bodies of control records to strew in."""
    channels = draw(st.integers(1, 2))
    script = {channel: draw(scripts(channel=channel, seconds=seconds, pauses=pauses)) for channel in range(channels)}
    kinds = draw(st.lists(st.sampled_from(sorted(controls)), max_size=3)) if controls else []
    times = sorted(draw(st.integers(0, int(seconds * 100))) / 100 for _ in kinds)
    return Call(
        script=script,
        seconds=seconds,
        rate=draw(st.sampled_from(rates)),
        roles=("mixed",) if channels == 1 else ("agent", "customer"),
        controls=tuple((at, kind, (controls or {})[kind]) for at, kind in zip(times, kinds, strict=True)),
    )

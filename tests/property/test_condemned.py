"""Samples that an engine does not survive are lost and said to be lost; everything else of the call is as it would have been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.contract import Engine
from pipeline.core.passing import CRASHED
from pipeline.sink.coverage import Coverage
from schemas.records import Interrupted
from tests.fakes import Call, Stage, outputs_of, run, said, stages
from tests.positions import place_of
from tests.property.durable import BOUNDED, Crash, Durable, assert_same, by_lane, calls, crashes, log_of
from tests.property.test_coverage import account
from tests.transcripts import words_of

CONTROLS: dict[str, dict[str, Any]] = {
    "pause": {},
    "resume": {},
    "interrupted": {"interrupted": Interrupted(reason="idle")},
}
NAMES = st.sampled_from(["vad", "asr"])
MAX_DEATHS = 3


def segments_of(call: Call, name: str, written: Sequence[Any]) -> list[Any]:
    """Return call.segments where the stage has written that."""
    chain = stages(call)
    speech = written if name == "vad" else log_of(call, "asr")
    annotations = written if name == "asr" else outputs_of(run(chain["asr"], speech))
    return outputs_of(run(chain["assemble"], [*annotations, *outputs_of(run(chain["diarize"], speech))]))


def lost(found: Coverage, channel: int) -> list[tuple[int, int]]:
    spans = found.channels[channel].spans
    return [(one.start_sample, one.end_sample) for one in spans if one.reason == CRASHED]


def span_of(record: Any) -> tuple[int, int]:
    """Return where the samples of a record of audio or speech lie, at the channel's rate."""
    if record.kind == "audio":
        return record.start_sample, record.start_sample + len(record.audio.data) // 2
    return record.start_sample, record.start_sample + len(record.speech.audio) * record.sample_rate_hz // 32_000


@BOUNDED
@given(call=calls(controls=CONTROLS), name=NAMES, condemned=st.sets(st.integers(0, 80), min_size=1, max_size=4))
def test_the_account_of_a_call_with_condemned_records_adds_up(call: Call, name: str, condemned: set[int]) -> None:
    log = log_of(call, name)
    stage = replace(stages(call)[name], condemned=frozenset(condemned))
    made = run(stage, log)
    segments = segments_of(call, name, outputs_of(made))
    found = account(segments)
    assert found.state == "complete"
    assert found.problems == ()
    assert sorted(offset for effects in made for offset in effects.released) == list(range(len(log)))
    marks = [record.degraded for record in segments if record.degraded and record.degraded.topic == "input"]
    owed = sorted(offset for offset in condemned if offset < len(log))
    assert sorted(mark.offset for mark in marks) == owed
    for offset in owed:
        record = log[offset]
        if record.kind in ("audio", "speech"):
            start, end = span_of(record)
            spans = lost(found, record.channel)
            assert start == end or any(first <= start and end <= last for first, last in spans)


@BOUNDED
@given(
    call=calls(controls=CONTROLS),
    name=NAMES,
    condemned=st.sets(st.integers(0, 80), min_size=1, max_size=4),
    schedule=crashes(2),
)
def test_condemned_records_and_restarts(call: Call, name: str, condemned: set[int], schedule: list[Crash]) -> None:
    stage = replace(stages(call)[name], condemned=frozenset(condemned))
    assert_same(stage, log_of(call, name), schedule)


@BOUNDED
@given(call=calls(), unusable=st.sets(st.integers(1, 60), min_size=1, max_size=4), schedule=crashes(2))
def test_unusable_records_and_restarts(call: Call, unusable: set[int], schedule: list[Crash]) -> None:
    """Their lane says where they were, and says it once, whenever its state was last recorded."""
    log = [
        replace(record, audio=replace(record.audio, encoding="opus")) if at in unusable and record.audio else record
        for at, record in enumerate(call.records())
    ]
    marks = [record for record in outputs_of(run(stages(call)["vad"], log)) if record.degraded]
    assert [(mark.channel, mark.start_sample) for mark in marks] == [
        (record.channel, record.start_sample) for record in log if record.audio and record.audio.encoding == "opus"
    ]
    assert_same(stages(call)["vad"], log, schedule)


class Died(Exception):
    """The process is gone."""


@dataclass(frozen=True, slots=True)
class Mortal:
    """An engine that does not survive samples of the first channel that lie between ``start`` and ``end``, at 16 kHz."""

    engine: Engine[Any, Any]
    start: int
    end: int
    max_batch: int = 1
    threads: int = 1

    def infer(self, batch: Sequence[Any]) -> Sequence[Any]:
        for work in batch:
            if self._is_deadly(work):
                raise Died
        return self.engine.infer(batch)

    def _is_deadly(self, work: Any) -> bool:
        windows = [work.audio] if hasattr(work, "audio") else [(one * 32_768).astype("int16") for one in work.windows]
        places = [(place_of(window), len(window)) for window in windows]
        return any(
            place is not None and place.channel == 0 and place.start < self.end and place.start + length > self.start
            for place, length in places
        )


def survived(stage: Stage, log: list[Any]) -> tuple[Durable, Counter[int]]:
    """Return the stage behind the log, and how often its process died at which offset; it begins anew each time."""
    durable, deaths = Durable(stage, log), Counter[int]()
    while not durable.is_drained:
        try:
            durable.work()
        except Died:
            deaths[durable.position] += 1
            if deaths[durable.position] == MAX_DEATHS:
                durable.stage = replace(durable.stage, condemned=durable.stage.condemned | {durable.position})
            durable.restart()
    return durable, deaths


SPOKEN = Call(
    script={
        0: said("one two three.", at=1.0)
        + said("four five six seven eight nine ten.", at=3.0)
        + said("eleven.", at=7.0),
        1: said("yes.", at=2.2) + said("no.", at=5.5),
    },
    seconds=9.0,
)


@pytest.mark.parametrize("name", ["vad", "asr"])
@pytest.mark.parametrize("at", [1.1, 3.1, 4.0, 7.1])
@pytest.mark.parametrize("roles", [("agent", "customer"), ("mixed", "customer")])
def test_a_call_outlives_samples_that_kill(name: str, at: float, roles: tuple[str, ...]) -> None:
    call = replace(SPOKEN, roles=roles)
    stage, log = stages(call)[name], log_of(call, name)
    assert stage.engine is not None
    start = round(at * 16_000)
    durable, deaths = survived(replace(stage, engine=Mortal(stage.engine, start, start + 1_600)), list(log))
    assert set(deaths.values()) == {MAX_DEATHS}
    assert len(deaths) <= 2  # the samples may lie on both sides of the end of a record
    assert durable.committed == len(log)
    by_lane(durable.topic)
    segments = segments_of(call, name, durable.topic)
    found = account(segments)
    assert (found.state, found.problems) == ("complete", ())
    (first, _), *_ = lost(found, 0)
    assert first <= start // 2
    assert lost(found, 0)[-1][1] >= start // 2 + 800
    assert lost(found, 1) == []
    assert words_of(segments, 1) == [word.text for word in call.script[1]]
    spans = lost(found, 0)
    kept = [
        word.text
        for word in call.script[0]
        if word.end < spans[0][0] / call.rate - 0.3 or word.start > spans[-1][1] / call.rate + 0.3
    ]
    assert set(kept) <= set(words_of(segments, 0))
    assert len(kept) >= 5

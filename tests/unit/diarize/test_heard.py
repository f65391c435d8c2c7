"""The lane of a mixed channel that is heard: turns, watermarks, restarts, failures."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import fastavro
import pytest

from pipeline.core.speakers import UNBOUNDED
from pipeline.diarize.logic import DiarizeLogic
from schemas import released_schema_text
from schemas.codec import CodecError, decode_plain, encode_plain, upgraded_plain
from schemas.records import CallAnnotation, DiarizeLane
from tests.fakes import Call, outputs_of, run, run_chain, said, stages
from tests.voices import DIARIZE, ScriptedDiarizer

TALK = (
    *said("one two three four five.", at=0.4),
    *said("six seven eight nine ten.", at=2.4),
    *said("eleven twelve thirteen.", at=4.2),
    *said("fourteen fifteen.", at=9.0),
)
CALL = Call(script={0: TALK}, seconds=12.0, roles=("mixed",))


def annotations(call: Call, **configs: Any) -> list[CallAnnotation]:
    engine = configs.pop("diarizer", None) or ScriptedDiarizer(call)
    stage = stages(call, diarize=configs.pop("diarize", DIARIZE), diarizer=engine)["diarize"]
    return outputs_of(run(stage, run_chain(call).outputs["vad"]))


def turns_of(records: list[CallAnnotation]) -> list[tuple[str, float, float]]:
    """Return (speaker, start, end) of the turns as they stand in the end, in seconds."""
    found: dict[tuple[int, str], int] = {}
    for record in records:
        for turn in record.turns.turns if record.turns else ():
            assert turn.end_sample is not None
            found[turn.start_sample, turn.speaker] = turn.end_sample
    return [(speaker, start / 8000, end / 8000) for (start, speaker), end in sorted(found.items())]


def heard_lane() -> tuple[list[Any], Any, bytes]:
    """Return what vad writes of the call, the lane of its channel, and the last state that diarize recorded of it."""
    speech = run_chain(CALL).outputs["vad"]
    started = speech[0].started
    assert started is not None
    lane: Any = type("L", (), {"channel": started.channels[0], "started": started})()
    stage = stages(CALL, diarize=DIARIZE, diarizer=ScriptedDiarizer(CALL))["diarize"]
    states = [state for effects in run(stage, speech) for state in effects.states if state.channel == 0 and state.logic]
    return speech, lane, states[-1].logic or b""


def test_turns_are_where_the_words_are() -> None:
    found = turns_of(annotations(CALL))
    assert [speaker for speaker, _, _ in found] == ["speaker_1", "speaker_2", "speaker_1", "speaker_2"]
    for (_, start, end), (first, last) in zip(found, ((0, 4), (5, 9), (10, 12), (13, 14)), strict=True):
        assert start == pytest.approx(TALK[first].start, abs=0.05)
        assert end == pytest.approx(TALK[last].end, abs=0.05)


def test_the_watermark_rises_behind_the_turns() -> None:
    """What a turn says lies behind the watermark before it, and a turn is not changed below a watermark but made longer."""
    watermark = 0
    for record in annotations(CALL):
        if record.turns is not None:
            for turn in record.turns.turns:
                assert (turn.end_sample or 0) > watermark
            assert watermark <= record.turns.watermark_sample < UNBOUNDED
            watermark = record.turns.watermark_sample
        elif record.kind == "watermark":
            watermark = max(watermark, record.start_sample)
    assert watermark > 10 * 8_000


def test_the_speaker_is_known_while_the_utterance_is_open() -> None:
    """At most latency and a step behind what was heard."""
    for record in annotations(CALL):
        if record.turns is not None and record.start_sample < 4 * 8_000:
            behind = record.start_sample * 2 - record.turns.watermark_sample * 2
            assert behind <= DIARIZE.latency + DIARIZE.step


def test_labels_of_a_model_that_is_gone_are_not_used_again() -> None:
    _, lane, last = heard_lane()
    other = DiarizeLogic(replace(DIARIZE, model="scripted@2"))
    state = other.restore(lane, last)
    assert state.voices.speakers == ()
    assert state.voices.next_label == 3
    same = DiarizeLogic(DIARIZE).restore(lane, last)
    assert (same.voices.speakers, same.voices.next_label) == ((1, 2), 3)


def test_a_lane_that_began_without_models_stays_so() -> None:
    speech = run_chain(CALL).outputs["vad"]
    started = speech[0].started
    assert started is not None
    lane: Any = type("L", (), {"channel": started.channels[0], "started": started})()
    plain = DiarizeLogic()
    state = plain.plan(plain.open(lane), speech[0]).state
    snapshot = plain.snapshot(state)
    assert snapshot is not None
    assert not DiarizeLogic(DIARIZE).restore(lane, snapshot.data).is_heard


@pytest.mark.parametrize("damage", [{"labels": (9,)}, {"points": b"short"}, {"labels": ()}])
def test_a_state_with_damaged_voices_is_unreadable(damage: dict[str, Any]) -> None:
    _, lane, last = heard_lane()
    saved = decode_plain(last, DiarizeLane)
    DiarizeLogic(DIARIZE).restore(lane, encode_plain(saved))
    with pytest.raises(CodecError, match="voices"):
        DiarizeLogic(DIARIZE).restore(lane, encode_plain(replace(saved, **damage)))


@pytest.mark.parametrize("has_written", [True, False])
def test_a_state_of_release_1_goes_on(has_written: bool) -> None:
    """That release heard no mixed channel: a call that it began keeps the turn it has, one that it has not begun is heard."""
    body = io.BytesIO()
    written_by = fastavro.parse_schema(json.loads(released_schema_text("1", "DiarizeLane")))
    fastavro.schemaless_writer(body, written_by, {"engine": "channel", "has_written": has_written})
    speech = run_chain(CALL).outputs["vad"]
    started = speech[0].started
    assert started is not None
    lane: Any = type("L", (), {"channel": started.channels[0], "started": started})()
    logic = DiarizeLogic(DIARIZE)
    state = logic.restore(lane, upgraded_plain(body.getvalue(), "DiarizeLane", 1))
    outputs, asked = [], False
    for record in speech[1:]:
        step = logic.plan(state, record)
        outputs += step.outputs
        asked |= step.work is not None
        state = step.state
        if asked:
            break
    assert asked is not has_written
    assert not [draft for draft in outputs if draft.kind == "turns"]


def test_a_lane_whose_models_are_gone_says_that_nobody_is_known() -> None:
    speech, lane, last = heard_lane()
    plain = DiarizeLogic()
    state = plain.restore(lane, last)
    piece = next(record for record in speech if record.speech is not None)
    (draft,) = plain.plan(state, piece).outputs
    assert draft.body["turns"].watermark_sample == UNBOUNDED
    assert draft.body["turns"].turns[0].speaker == "unknown"


def test_a_failure_degrades_the_call_once_and_the_words_of_the_time_are_unknown() -> None:
    found = annotations(CALL, diarizer=ScriptedDiarizer(CALL, failing=(0.0, 5.2)))
    degraded = [record.degraded for record in found if record.degraded is not None]
    assert [(one.stage, one.reason) for one in degraded] == [("diarize", "diarization_failed:ScriptedError")]
    speakers = [speaker for speaker, _, _ in turns_of(found)]
    assert speakers[0] == "unknown"
    assert speakers[-1].startswith("speaker_")


def test_without_the_extra_the_call_says_so() -> None:
    speech = run_chain(CALL).outputs["vad"]
    stage = replace(stages(CALL)["diarize"], logic=DiarizeLogic(absence="diarization_not_installed"))
    found = outputs_of(run(stage, speech))
    assert [record.degraded.reason for record in found if record.degraded] == ["diarization_not_installed"]


def test_a_range_of_speakers_is_kept() -> None:
    """Three voices; the call says that there are two."""
    speakers = {word.text: index // 5 for index, word in enumerate(TALK)}
    call = CALL

    class Two(Call):
        @property
        def started(self) -> Any:
            return replace(super().started, min_speakers=2, max_speakers=2)

    limited = Two(script=call.script, seconds=call.seconds, roles=call.roles)
    assert (
        len({speaker for speaker, _, _ in turns_of(annotations(call, diarizer=ScriptedDiarizer(call, speakers)))}) == 3
    )
    found = annotations(limited, diarizer=ScriptedDiarizer(limited, speakers))
    assert {speaker for speaker, _, _ in turns_of(found)} == {"speaker_1", "speaker_2"}

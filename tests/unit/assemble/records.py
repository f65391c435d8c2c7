"""Records of call.annotations for tests of assemble, in seconds; and what its logic makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.assemble import logic
from pipeline.core.contract import Lane
from schemas.records import CallAnnotation, Channel, Identity, Rejected, Started, Turn, Turns, Word, Words
from tests.fakes import ASSEMBLE, CALL

RATE = 8_000
CHANNEL = Channel(channel=0, role="agent", sample_rate_hz=RATE, encoding="mulaw", language="en", offset_samples=0)
LANE = Lane(channel=CHANNEL, started=Started(channels=(CHANNEL,), hot_words=()))
MIXED = replace(LANE, channel=replace(CHANNEL, role="mixed"))


def annotation(kind: str, *, stage: str = "asr", start: float = 0.0, **body: Any) -> CallAnnotation:
    return CallAnnotation(
        call_id=CALL,
        stage=stage,
        kind=kind,
        channel=0,
        sequence=0,
        start_sample=round(start * RATE),
        sample_rate_hz=RATE,
        capture_time_ms=0,
        **body,
    )


def words(
    text: str,
    at: float,
    *,
    utterance: int = 0,
    is_last: bool = False,
    seconds: float = 0.5,
    rejected: tuple[Rejected, ...] = (),
) -> CallAnnotation:
    made = tuple(
        Word(
            text=part,
            start_sample=round((at + i * seconds) * RATE),
            end_sample=round((at + (i + 1) * seconds) * RATE),
            probability=0.5,
        )
        for i, part in enumerate(text.split())
    )
    body = Words(
        utterance=utterance,
        is_last=is_last,
        words=made,
        rejected=rejected,
        watermark_sample=made[-1].end_sample if made else round(at * RATE),
        language="en",
        model="m@1",
        policy="alignatt",
    )
    return annotation("words", start=at, words=body)


def turns(
    *spans: tuple[str, float, float | None],
    watermark: float,
    start: float = 0.0,
    identities: tuple[Identity, ...] = (),
) -> CallAnnotation:
    made = tuple(
        Turn(speaker=name, start_sample=round(begin * RATE), end_sample=None if end is None else round(end * RATE))
        for name, begin, end in spans
    )
    body = Turns(turns=made, watermark_sample=round(watermark * RATE), identities=identities)
    return annotation("turns", stage="diarize", start=start, turns=body)


AGENT = turns(("agent", 0.0, None), watermark=1e6)


def drive(
    *records: CallAnnotation, lane: Lane = LANE, config: logic.AssembleConfig = ASSEMBLE
) -> tuple[logic.AssembleState, list[Any]]:
    assemble = logic.AssembleLogic(config)
    state, drafts = assemble.open(lane), []
    for record in records:
        step = assemble.plan(state, record)
        assert step.work is None
        state = step.state
        drafts += step.outputs
    return state, drafts


def segments(drafts: Sequence[Any]) -> list[tuple[str, str]]:
    return [(d.body["segment"].speaker, d.body["segment"].text) for d in drafts if d.kind == "segment"]

"""Records of ``call.segments`` for tests: a small two-channel call, and the parts to make others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from schemas.records import (
    CallSegment,
    Channel,
    Coverage,
    Degraded,
    Dtmf,
    Ended,
    Gap,
    Hold,
    Interrupted,
    Segment,
    Span,
    Speaker,
    Speakers,
    Started,
    Word,
)

RATE = 8000


def envelope(call_id: str, kind: str, **fields: Any) -> CallSegment:
    defaults = {"channel": -1, "sequence": 0, "start_sample": 0, "sample_rate_hz": RATE, "capture_time_ms": 0}
    return CallSegment(call_id=call_id, kind=kind, **(defaults | fields))


def started(call_id: str = "c1", **fields: Any) -> CallSegment:
    channels = (
        Channel(channel=0, role="agent", sample_rate_hz=RATE, encoding="mulaw", language="en"),
        Channel(channel=1, role="customer", sample_rate_hz=RATE, encoding="mulaw", language="en"),
    )
    content = Started(channels=channels, tenant="acme", attributes={"queue": "billing", "agent": "7"})
    return envelope(call_id, "started", **({"started": content, "capture_time_ms": 1_700_000_000_000} | fields))


def segment(
    call_id: str = "c1", *, channel: int = 0, start: int = 3360, text: str = "Thank you.", **fields: Any
) -> CallSegment:
    role = ("agent", "customer")[channel]
    words = tuple(
        Word(text=word, start_sample=start + 2000 * index, end_sample=start + 2000 * index + 1600, probability=0.98)
        for index, word in enumerate(text.split())
    )
    content = Segment(
        segment_id=f"{call_id}/{channel}/{start}",
        revision=fields.pop("revision", 0),
        end_sample=words[-1].end_sample if words else start + 800,
        role=role,
        speaker=fields.pop("speaker", role),
        text=text,
        language="en",
        model="demo@abc",
        policy="alignatt",
        words=words,
    )
    return envelope(call_id, "segment", **({"channel": channel, "start_sample": start, "segment": content} | fields))


def gap(call_id: str = "c1", *, channel: int = 0, start: int = 72_000, end: int = 75_200) -> CallSegment:
    return envelope(
        call_id, "gap", channel=channel, start_sample=start, gap=Gap(end_sample=end, reason="missing_audio")
    )


def degraded(call_id: str = "c1", *, offset: int = 7, **fields: Any) -> CallSegment:
    content = Degraded(stage="asr", reason="PoisonError", topic="t.call.speech.v1", partition=2, offset=offset)
    return envelope(call_id, "degraded", **({"channel": 1, "start_sample": 16_000, "degraded": content} | fields))


def ended(call_id: str = "c1", *, sequence: int = 9, **fields: Any) -> CallSegment:
    content = Ended(end_samples={"0": 490_400, "1": 488_000})
    return envelope(call_id, "ended", **({"sequence": sequence, "start_sample": 490_400, "ended": content} | fields))


def coverage(
    call_id: str = "c1", *, channel: int = 0, start: int = 0, spans: tuple[tuple[int, str, str], ...]
) -> CallSegment:
    content = Coverage(spans=tuple(Span(end_sample=end, kind=kind, reason=reason) for end, kind, reason in spans))
    return envelope(call_id, "coverage", channel=channel, start_sample=start, coverage=content)


def whole_call(call_id: str = "c1") -> list[CallSegment]:
    """A complete call: two speakers that overlap, a hold, digits, a gap, a correction, a record that was rejected."""
    return [
        started(call_id),
        envelope(call_id, "watermark", channel=1, start_sample=8000),
        segment(call_id, channel=0, start=3360, text="Thank you for calling."),
        segment(call_id, channel=1, start=9600, text="Hi, my bill is wrong."),
        segment(call_id, channel=0, start=8800, text="How can I help?"),
        envelope(call_id, "hold", sequence=1, start_sample=64_000, hold=Hold(active=True)),
        envelope(call_id, "dtmf", channel=1, sequence=3, start_sample=66_000, dtmf=Dtmf(digits="12#")),
        envelope(call_id, "hold", sequence=2, start_sample=70_000, hold=Hold(active=False)),
        gap(call_id),
        degraded(call_id),
        segment(call_id, channel=1, start=9600, text="Hi, my bill is strong.", revision=1),
        envelope(call_id, "something_new", sequence=3),
        envelope(call_id, "interrupted", sequence=4, start_sample=80_000, interrupted=Interrupted(reason="idle")),
        envelope(call_id, "resumed", sequence=5, start_sample=80_000),
        coverage(call_id, spans=((3360, "non_speech", ""), (16_400, "segment", ""), (72_000, "refused", "no_words"))),
        coverage(call_id, start=72_000, spans=((75_200, "gap", "missing_audio"), (490_400, "non_speech", ""))),
        coverage(call_id, channel=1, spans=((9600, "non_speech", ""), (19_200, "segment", ""))),
        coverage(
            call_id, channel=1, start=19_200, spans=((40_000, "refused", "repetition"), (488_000, "non_speech", ""))
        ),
        ended(call_id),
    ]


def mixed_started(call_id: str = "c1") -> CallSegment:
    channel = Channel(channel=0, role="mixed", sample_rate_hz=RATE, encoding="mulaw", language="en")
    return started(call_id, started=Started(channels=(channel,)))


def mixed_segment(
    speaker: str, *, start: int, text: str, revision: int = 0, end: int | None = None, call_id: str = "c1"
) -> CallSegment:
    """Words of a mixed channel; ``end`` reaches behind the last one."""
    made = segment(call_id, start=start, text=text, revision=revision, speaker=speaker)
    assert made.segment is not None
    content = replace(made.segment, role="mixed", end_sample=made.segment.end_sample if end is None else end)
    return replace(made, segment=content)


def speakers(
    *known: tuple[str, str | None, str | None, float], sequence: int = 20, call_id: str = "c1", channel: int = 0
) -> CallSegment:
    """Return a record of (label, role, name, seconds); a role without a name rests on a rule."""
    made = tuple(
        Speaker(
            speaker=label,
            role=role,
            name=name,
            rule=None if role is None else "first" if name is None else "enrolment",
            spoken_seconds=seconds,
        )
        for label, role, name, seconds in known
    )
    content = Speakers(speakers=made, unknown_words=4, corrected_words=2)
    return envelope(call_id, "speakers", channel=channel, sequence=sequence, start_sample=9600, speakers=content)


def corrected_call(call_id: str = "c1") -> list[CallSegment]:
    """A mixed call whose first segment was published without a speaker, and became two when its speakers were named."""
    return [
        mixed_started(call_id),
        mixed_segment("unknown", start=0, text="Thank you for calling. Hi.", call_id=call_id),
        mixed_segment("speaker_1", start=16_000, text="How can I help?", call_id=call_id),
        speakers(("speaker_1", None, None, 1.0), sequence=5, call_id=call_id),
        coverage(call_id, spans=((9600, "segment", ""), (16_000, "non_speech", ""), (23_600, "segment", ""))),
        mixed_segment("speaker_1", start=0, text="Thank you for calling.", revision=1, end=8000, call_id=call_id),
        mixed_segment("speaker_2", start=8000, text="Hi.", revision=1, end=9600, call_id=call_id),
        speakers(
            ("speaker_1", "agent", "Ann", 1.95), ("speaker_2", "customer", None, 0.2), sequence=9, call_id=call_id
        ),
        ended(call_id, ended=Ended(end_samples={"0": 23_600}), start_sample=23_600),
    ]

"""Diarization that names the speakers of a mixed channel, scripted: turns that come as late as a test wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.records import CallAnnotation, CallSegment, Identity, Turn, Turns
from tests.fakes import CALL, EPOCH_MS, Call

Span = tuple[str, float, float]  # speaker, start and end in seconds


def diarized(
    call: Call,
    spans: Sequence[Span],
    *,
    late: float,
    every: float = 1.0,
    identities: Mapping[float, tuple[Identity, ...]] | None = None,
    watermark_late: float | None = None,
) -> list[CallAnnotation]:
    """Return what diarize writes of channel 0: each ``every`` seconds of audio the turns up to ``late`` seconds before.

    Speakers are final ``watermark_late`` seconds before (default: ``late``). At the end of the audio everything is known.
    """
    records: list[CallAnnotation] = []
    told: set[tuple[int, int]] = set()
    waiting = dict(identities or {})
    steps = int(call.seconds / every)
    for step in range(1, steps + 2):
        is_last = step > steps
        at = min(step * every, call.seconds)
        known_to = call.seconds if is_last else at - late
        final_to = call.seconds if is_last else at - (late if watermark_late is None else watermark_late)
        turns = []
        for speaker, start, end in spans:
            turn = Turn(
                speaker=speaker, start_sample=round(start * call.rate), end_sample=round(min(end, known_to) * call.rate)
            )
            assert turn.end_sample is not None
            if start < known_to and (turn.start_sample, turn.end_sample) not in told:
                told.add((turn.start_sample, turn.end_sample))
                turns.append(turn)
        named = tuple(one for when in sorted(waiting) if when <= at for one in waiting.pop(when))
        body = Turns(turns=tuple(turns), watermark_sample=round(max(final_to, 0.0) * call.rate), identities=named)
        records.append(annotation("turns", len(records), round(at * call.rate), call.rate, turns=body))
    return records


def annotation(kind: str, sequence: int, start: int, rate: int, **body: Any) -> CallAnnotation:
    """Return a record of diarize."""
    return CallAnnotation(
        call_id=CALL,
        stage="diarize",
        kind=kind,
        channel=0,
        sequence=sequence,
        start_sample=start,
        sample_rate_hz=rate,
        capture_time_ms=EPOCH_MS + start * 1000 // rate,
        **body,
    )


def merged(
    annotations: Iterable[CallAnnotation], turns: Sequence[CallAnnotation], order: Iterable[bool]
) -> list[CallAnnotation]:
    """Return what asr has written of a call and the ``turns`` of its channel in one log.

    ``order`` says whose record is next, True for diarize's. Control records of diarize stand around its turns.
    """
    annotations = list(annotations)
    control = [one for one in annotations if one.stage == "diarize" and one.channel < 0]
    queues = {
        False: [one for one in annotations if one.stage == "asr"],
        True: [*control[:-1], *turns, control[-1]] if control else list(turns),
    }
    log = [queues[is_diarize].pop(0) for is_diarize in order if queues[is_diarize]]
    return log + queues[False] + queues[True]


def in_time(annotations: Iterable[CallAnnotation], turns: Sequence[CallAnnotation]) -> list[CallAnnotation]:
    """Return the log where both writers are equally fast."""
    merged_log = merged(annotations, turns, ())
    rank = {id(one): (one.start_sample, one.kind == "ended") for one in merged_log}
    started = [one for one in merged_log if one.kind == "started"]
    rest = [one for one in merged_log if one.kind != "started"]
    asr = [one for one in rest if one.stage == "asr"]
    diarize = [one for one in rest if one.stage != "asr"]
    log: list[CallAnnotation] = []
    while asr and diarize:
        log.append((asr if rank[id(asr[0])] <= rank[id(diarize[0])] else diarize).pop(0))
    return [*started, *log, *asr, *diarize]


def final(segments: Iterable[CallSegment]) -> list[CallSegment]:
    """Return the segments of the highest revision, by start; fails where one revision of one id stands for two segments."""
    found: dict[str, dict[int, CallSegment]] = {}
    for record in segments:
        if record.segment is not None:
            of_id = found.setdefault(record.segment.segment_id, {})
            first = of_id.setdefault(record.segment.revision, record)
            assert first.segment == record.segment, f"two segments are {record.segment.segment_id}"
    return sorted((of_id[max(of_id)] for of_id in found.values()), key=lambda record: record.start_sample)


def who(segments: Iterable[CallSegment]) -> list[tuple[str, str]]:
    """Return the words of the final segments, each with its speaker."""
    return [
        (record.segment.speaker, word.text)
        for record in final(segments)
        if record.segment is not None
        for word in record.segment.words
    ]

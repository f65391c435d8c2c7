"""How long after it was spoken a word was committed, measured on the topics themselves."""

from __future__ import annotations

from collections.abc import Collection

import topics
from pipeline.runtime.read import read_to_end
from pipeline.runtime.settings import Settings
from schemas.codec import Codec, CodecError
from schemas.records import CallAnnotation


def word_commit_latencies(settings: Settings, call_ids: Collection[str], *, codec: Codec | None = None) -> list[float]:
    """Return, for every committed word of the calls, seconds from the capture of its end to the broker's timestamp of its commit.

    Computation-aware; meaningful for calls that were fed in real time. Raises NotReadyError.
    """
    codec = codec or Codec()
    keys = {call_id.encode("ascii") for call_id in call_ids}
    seen: set[tuple[str, int, int]] = set()
    latencies = []
    for message in read_to_end(settings, topics.topic("call.annotations").full_name(settings.topics.prefix)):
        if message.key() not in keys:
            continue
        try:
            record = codec.decode(message.value(), CallAnnotation)
        except CodecError:
            continue
        identity = (record.call_id, record.channel, record.sequence)
        if record.kind != "words" or record.words is None or identity in seen:
            continue
        seen.add(identity)
        committed_ms = message.timestamp()[1]
        for word in record.words.words:
            captured_ms = (
                record.capture_time_ms + (word.end_sample - record.start_sample) * 1000 / record.sample_rate_hz
            )
            latencies.append((committed_ms - captured_ms) / 1000)
    return latencies


def percentile(values: Collection[float], share: float) -> float | None:
    """Return the value below which ``share`` of ``values`` lie (nearest rank), None when there are none.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5)
    2.0
    """
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, min(len(ordered) - 1, -(-int(share * 1000 * len(ordered)) // 1000) - 1))]

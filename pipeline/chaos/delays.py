"""How late words were: from the end of each word to the broker's timestamp of the record that committed it."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Message

from pipeline.runtime.read import decode, read_to_end
from pipeline.runtime.settings import Settings
from schemas.codec import Codec, CodecError
from schemas.records import CallAnnotation
from topics import topic

LATE_SECONDS = 10.0


def word_delays(settings: Settings) -> list[float]:
    """Return the seconds of every committed word on call.annotations, in no order. Raises NotReadyError."""
    return delays_of(read_to_end(settings, topic("call.annotations").full_name(settings.topics.prefix)))


def delays_of(messages: Iterable[Message]) -> list[float]:
    """Return the seconds of every word; what a recovering stage has written again does not count, nor what is no annotation."""
    codec, seen, found = Codec(), set[tuple[str, int, int]](), list[float]()
    for message in messages:
        try:
            record = decode(codec, message.value(), CallAnnotation)
        except CodecError:
            continue
        place = (record.call_id, record.channel, record.sequence)
        if record.words is None or record.sample_rate_hz <= 0 or place in seen:
            continue
        seen.add(place)
        for word in record.words.words:
            end_ms = record.capture_time_ms + (word.end_sample - record.start_sample) * 1000 / record.sample_rate_hz
            found.append((message.timestamp()[1] - end_ms) / 1000)
    return found

"""Following calls on the topics while they happen: committed segments, and the tentative text before them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

from confluent_kafka import KafkaError

from pipeline.core.errors import NotReadyError
from pipeline.runtime.provisioning import schema_source
from pipeline.runtime.read import POLL_SECONDS, decode, open_reader
from pipeline.runtime.settings import Settings
from schemas.codec import Codec, CodecError
from schemas.records import CallAnnotation, CallSegment
from topics import topic

ANNOTATIONS = topic("call.annotations")
SEGMENTS = topic("call.segments")


def follow(
    settings: Settings,
    *,
    call_id: str | None = None,
    from_beginning: bool = False,
    stop: threading.Event | None = None,
    on_ready: Callable[[], None] | None = None,
    codec: Codec | None = None,
) -> Generator[CallAnnotation | CallSegment | None, None, None]:
    """Yield the records of ``call.annotations`` and ``call.segments`` as they arrive, of one call or of all.

    Records of one topic and call come in order; the two topics are not ordered with each other. None is yielded at
    least every 0.2 s while nothing arrives, so that the caller can look at other things. Without ``from_beginning``
    only records written after ``on_ready`` was called are certain to come. Values that are no records are passed over.
    Nothing is left on the broker: no group, no offsets. Raises NotReadyError.
    """
    codec = codec or Codec(schema_source(settings))
    annotations = ANNOTATIONS.full_name(settings.topics.prefix)
    segments = SEGMENTS.full_name(settings.topics.prefix)
    key = None if call_id is None else call_id.encode()
    with open_reader(settings, [annotations, segments], from_beginning=from_beginning) as consumer:
        if on_ready is not None:
            on_ready()
        while stop is None or not stop.is_set():
            message = consumer.poll(POLL_SECONDS)
            if message is None:
                yield None
                continue
            error = message.error()
            if error is not None:
                if error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise NotReadyError(f"Kafka: {error.str()}")
                continue
            if key is not None and message.key() != key:
                continue
            try:
                if message.topic() == segments:
                    yield decode(codec, message.value(), CallSegment)
                else:
                    yield decode(codec, message.value(), CallAnnotation)
            except CodecError:
                continue

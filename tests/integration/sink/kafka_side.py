"""The Kafka side of the sink's tests: produce records, look at offsets, run the sink in this process or another."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from pipeline.runtime.consume import Limits, consume
from pipeline.runtime.settings import Settings
from schemas.codec import Codec, Record
from topics import topic

CODEC = Codec()
QUICK = Limits(max_seconds=0.05, first_retry_seconds=0.2, last_retry_seconds=0.5, stop_seconds=5)


def segments_topic(settings: Settings) -> str:
    return topic("call.segments").full_name(settings.topics.prefix)


def produce(settings: Settings, name: str, items: Sequence[tuple[str, bytes]]) -> None:
    """Write (key, value) pairs and wait; the partition follows the key."""
    servers = {"bootstrap.servers": settings.kafka.bootstrap_servers, "partitioner": "murmur2_random"}
    producer = Producer({**servers, "enable.idempotence": True, "linger.ms": 0})
    for key, value in items:
        producer.produce(name, key=key, value=value)
    assert producer.flush(20) == 0


def produce_records(settings: Settings, name: str, records: Sequence[Any]) -> None:
    encodable: Sequence[Record] = records
    produce(settings, name, [(r.call_id, CODEC.encode(e)) for r, e in zip(records, encodable, strict=True)])


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)


def lag(settings: Settings) -> int:
    """Return how many records of call.segments the sink's group has not committed, -1 while it cannot say."""
    group = {"group.id": f"{settings.topics.prefix}.sink", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, **group})
    try:
        name = segments_topic(settings)
        partitions = [TopicPartition(name, number) for number in range(settings.partitions)]
        try:
            committed = consumer.committed(partitions, timeout=10)
        except KafkaException as error:
            if error.args[0].retriable() or error.args[0].code() == KafkaError.NOT_COORDINATOR:
                return -1  # the broker is not done with its own start
            raise
        total = 0
        for one in committed:
            _, end = consumer.get_watermark_offsets(one, timeout=10)
            total += end - max(one.offset, 0)
        return total
    finally:
        consumer.close()


@contextmanager
def sink(settings: Settings, write: Callable[[Any], None], **options: Any) -> Iterator[list[int]]:
    """Run the sink in a thread while the block runs; gives the partition counts it was told."""
    stop, counts, failures = threading.Event(), [], []

    def run() -> None:
        try:
            consume(settings, write=write, stop=stop, on_assigned=counts.append, limits=QUICK, **options)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert not failures, failures


def sink_process(settings: Settings, code: str) -> subprocess.Popen[str]:
    """Start another process; ``code`` finds ``settings``, ``store`` and ``consume`` made ready."""
    head = """
import os
from pipeline.runtime.consume import Limits, consume
from pipeline.runtime import settings as settings_module
from pipeline.sink.stage import Sink
from pipeline.sink.stores import open_store
settings = settings_module.load(environment=os.environ).settings
store = Sink(lambda: open_store(settings.store.url.get_secret_value(), settings.work_folder))
limits = Limits(max_seconds=0.05)
"""
    environment = {
        **os.environ,
        "CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "CALLSCRIBE_KAFKA__SESSION_TIMEOUT_SECONDS": str(settings.kafka.session_timeout_seconds),
        "CALLSCRIBE_TOPICS__PREFIX": settings.topics.prefix,
        "CALLSCRIBE_RUNTIME__WORK_FOLDER": settings.runtime.work_folder,
        "CALLSCRIBE_STORE__URL": settings.store.url.get_secret_value(),
    }
    return subprocess.Popen([sys.executable, "-c", head + code], env=environment, text=True, stderr=subprocess.PIPE)

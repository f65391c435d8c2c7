"""What topics of one partition hold, for tests."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.core.ids import CALL_CHANNEL
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.settings import Settings
from pipeline.sink.stores import open_store
from pipeline.sink.stores.base import Store, StoredCall
from schemas.codec import Codec
from schemas.records import LaneState
from topics import topic


def records_of(settings: Settings, name: str, start: int = 0, *, partition: int = 0) -> list[Any]:
    """Return the records that a topic's partition holds from ``start`` on."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers(settings), "group.id": "t", "enable.auto.commit": False}
    )
    try:
        place = TopicPartition(topic(name).full_name(settings.topics.prefix), partition, start)
        first, end = consumer.get_watermark_offsets(place, timeout=10)
        place.offset = max(start, first)
        if place.offset >= end:
            return []
        consumer.assign([place])
        found: list[Any] = []
        while consumer.position([place])[0].offset < end and (not found or found[-1].offset() + 1 < end):
            message = consumer.poll(5)
            assert message is not None
            found.append(message)
        return found
    finally:
        consumer.close()


def delete_records(settings: Settings, name: str, before: int = OFFSET_END) -> None:
    """Delete what a topic's first partition holds before an offset, by default all of it, as retention does."""
    place = TopicPartition(topic(name).full_name(settings.topics.prefix), 0, before)
    admin = AdminClient({"bootstrap.servers": bootstrap_servers(settings)})
    admin.delete_records([place])[place].result(30)


def states_of(settings: Settings, call_id: str, channel: int, stage: str = "vad") -> list[bytes]:
    """Return the states that a stage has recorded of a lane, oldest first."""
    key = f"{call_id}/{channel}".encode()
    return [message.value() for message in records_of(settings, f"{stage}-state-changelog") if message.key() == key]


def committed_offset(settings: Settings, stage: str, name: str) -> int:
    """Return the offset that a stage has committed in a topic of one partition; negative when it has none."""
    return committed(settings, stage, name)[0]


def committed(settings: Settings, stage: str, name: str) -> tuple[int, str]:
    """Return the offset and the metadata of a stage's commit in a topic of one partition."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers(settings), "group.id": f"{settings.topics.prefix}.{stage}"}
    )
    try:
        place = TopicPartition(topic(name).full_name(settings.topics.prefix), 0)
        (found,) = consumer.committed([place], timeout=10)
        return int(found.offset), str(found.metadata or "")
    finally:
        consumer.close()


def is_marked(settings: Settings, stage: str, call_id: str) -> bool:
    """Return whether of the call's states only the mark of its end is left."""
    last = {message.key(): message.value() for message in records_of(settings, f"{stage}-state-changelog")}
    control = last.get(f"{call_id}/{CALL_CHANNEL}".encode())
    return control is not None and Codec().decode(control, LaneState).started is None


def is_let_go(settings: Settings, stage: str, call_id: str) -> bool:
    """Return whether at most the mark of its end is left of the call's states; that goes when the input holds nothing of the call."""
    last = {message.key(): message.value() for message in records_of(settings, f"{stage}-state-changelog")}
    key = f"{call_id}/{CALL_CHANNEL}".encode()
    return key in last and (last[key] is None or is_marked(settings, stage, call_id))


def stored_calls(settings: Settings) -> dict[str, StoredCall]:
    """Return every call that the store has."""
    with closing(_store(settings)) as store:
        found = [store.read(summary.call.call_id) for summary in store.calls()]
    return {stored.call.call_id: stored for stored in found if stored is not None}


def stored_call(settings: Settings, call_id: str) -> StoredCall:
    """Return a call that the store has."""
    with closing(_store(settings)) as store:
        found = store.read(call_id)
    assert found is not None
    return found


def rows_of(found: StoredCall) -> StoredCall:
    """Return the rows of a call without its id."""
    rows = {
        name: tuple(replace(row, call_id="") for row in getattr(found, name))
        for name in ("segments", "gaps", "degraded", "events", "coverage")
    }
    return StoredCall(call=replace(found.call, call_id=""), **rows)


def _store(settings: Settings) -> Store:
    return open_store(settings.store.url.get_secret_value(), settings.work_folder, create=False)

"""Where calls stand: the compacted topic call.state, written by the feeds and vad, read by feeds and by stages that were behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from aiokafka.partitioner import murmur2
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from pipeline.core.errors import CallRefusedError, NotReadyError
from pipeline.core.feeds import Grant, Place
from pipeline.core.ids import CALL_CHANNEL
from pipeline.runtime.admission import Admission
from pipeline.runtime.broker import bootstrap_servers
from pipeline.runtime.crash_points import reach
from pipeline.runtime.lag import stage_lags
from pipeline.runtime.produce import DELIVERY_SECONDS, AudioProducer, Delivery
from pipeline.runtime.provisioning import schema_source
from pipeline.runtime.read import partitions_of
from pipeline.runtime.security import confluent_config
from pipeline.runtime.settings import Settings
from schemas.codec import Codec, CodecError
from schemas.records import CallState, Started
from topics import topic

READ_SECONDS = 30.0
POLL_SECONDS = 0.5
PLACE_SECONDS = 60.0  # for vad to read up to a feed
COMPLETE = "complete"

log = logging.getLogger("callscribe.calls")


def partition_of(call_id: str, partitions: int) -> int:
    """Return the partition a call's records are in: Kafka's default partitioner, murmur2 of the key.

    >>> partition_of("c1", 6) == partition_of("c1", 6) < 6
    True
    """
    return int(murmur2(call_id.encode()) & 0x7FFFFFFF) % partitions


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a call stands: its state, the offset at which the feed that holds it took it, and what vad has said of it last."""

    state: CallState
    taken_at: int
    read_to: CallState | None = None

    @property
    def is_complete(self) -> bool:
        """Return whether everything of the call was written."""
        return self.state.state == COMPLETE

    @property
    def is_read(self) -> bool:
        """Return whether vad has read it to its end, and what follows from it is written, too."""
        return self.read_to is not None and self.read_to.state == COMPLETE


def read_state(settings: Settings, call_id: str, *, codec: Codec | None = None) -> CallState | None:
    """Return the latest state of a call, None when there is none. Raises as `read_standing`."""
    standing = read_standing(settings, call_id, codec=codec)
    return None if standing is None else standing.state


def read_standing(settings: Settings, call_id: str, *, codec: Codec | None = None, since: int = 0) -> Standing | None:
    """Return where a call stands, None when nothing is known of it.

    The highest epoch counts, and of its records the last, but a call that was complete stays so; what was said for an earlier feed
    behind it does not count. Of two feeds that take a call at the same time, the first record of the epoch holds it.

    Reads the one partition of the call, from offset ``since`` to where it ends now. Raises NotReadyError when the broker
    or the topic is not there, or reading takes longer than 30 s.
    """
    codec = codec or Codec(schema_source(settings))
    found: Standing | None = None
    with state_records(settings, call_id, since=since) as (_, messages):
        for offset, _, value in _values(messages, {call_id}):
            try:
                found = _next_standing(found, offset, _decoded(value, codec))
            except CodecError as error:
                raise NotReadyError(f"topic call.state: the state of call {call_id} is unreadable: {error}") from None
    return found


def read_standings(settings: Settings, call_ids: Collection[str], *, codec: Codec) -> dict[str, Standing | None]:
    """Return where calls of one partition, one at least, stand; None where nothing is known of one, or what is cannot be read.

    Counts as `read_standing`. Raises NotReadyError.
    """
    found: dict[str, Standing | None] = dict.fromkeys(call_ids)
    with state_records(settings, next(iter(found))) as (_, messages):
        for offset, call_id, value in _values(messages, found.keys()):
            try:
                found[call_id] = _next_standing(found[call_id], offset, _decoded(value, codec))
            except CodecError as error:
                log.warning("topic call.state: a state is unreadable: %s", error, extra={"call_id": call_id})
    return found


def _next_standing(found: Standing | None, offset: int, state: CallState | None) -> Standing | None:
    """Return where a call stands behind the next record of it, a tombstone where that is None."""
    if state is None:
        return None
    if found is None or state.feed_epoch > found.state.feed_epoch:
        found = Standing(state, offset)
    elif state.feed_epoch == found.state.feed_epoch and not found.is_complete:
        found = replace(found, state=state)
    is_newest = bool(state.stage) and state.feed_epoch == found.state.feed_epoch
    return replace(found, read_to=state) if is_newest else found


@contextmanager
def state_records(settings: Settings, call_id: str, *, since: int = 0) -> Iterator[tuple[int, Iterator[Message]]]:
    """Give the number of partitions of call.state, and the records in that of a call, from offset ``since`` to where it ends now.

    Raises NotReadyError when the broker or the topic is not there, or reading takes longer than 30 s.
    """
    name = topic("call.state").full_name(settings.topics.prefix)
    config = confluent_config(settings.kafka, bootstrap_servers(settings)) | {
        "group.id": f"{settings.topics.prefix}.reader",  # librdkafka wants one; with assign() none is joined
        "enable.auto.commit": False,
    }
    consumer = Consumer(config)
    deadline = time.monotonic() + READ_SECONDS
    try:
        count = len(partitions_of(consumer, name, settings))
        partition = TopicPartition(name, partition_of(call_id, count))
        first, end = consumer.get_watermark_offsets(partition, timeout=READ_SECONDS)
        partition.offset = max(first, since)
        consumer.assign([partition])
        yield count, _messages(consumer, position=partition.offset, end=end, deadline=deadline)
    except KafkaException as error:
        raise NotReadyError(f"topic {name}: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _messages(consumer: Consumer, *, position: int, end: int, deadline: float) -> Iterator[Message]:
    """Yield every record below ``end``."""
    while position < end:
        if time.monotonic() > deadline:
            raise NotReadyError(f"topic call.state: could not be read to its end within {READ_SECONDS:.0f} s")
        message = consumer.poll(POLL_SECONDS)
        if message is None:
            # Compaction may leave no record at the end: the client's position moves on all the same.
            position = max(position, consumer.position(consumer.assignment())[0].offset)
            continue
        if message.error() is not None:
            if not message.error().retriable():
                raise KafkaException(message.error())
            continue
        position = message.offset() + 1
        yield message


def _values(messages: Iterable[Message], call_ids: Set[str]) -> Iterator[tuple[int, str, bytes | None]]:
    """Yield (offset, call, value) of every record of the calls; None for a tombstone."""
    keys = {call_id.encode(): call_id for call_id in call_ids}
    for message in messages:
        call_id = keys.get(message.key() or b"")
        if call_id is not None:
            yield message.offset(), call_id, message.value()


def _decoded(value: bytes | None, codec: Codec) -> CallState | None:
    """Return the state. Raises CodecError, also where its legs have no numbers."""
    if not value:
        return None
    state = codec.decode(value, CallState)
    try:
        place_of(state)
    except ValueError as error:
        raise CodecError(f"CallState: a leg has no number: {type(error).__name__}") from None
    return state


def place_of(state: CallState) -> Place:
    """Return where a call stands; what a feed of an earlier version left says no ends."""
    return Place(
        next_sequence={int(channel): sequence for channel, sequence in state.next_sequence.items()},
        end_samples={int(channel): end for channel, end in state.end_samples.items()},
    )


class CallOutlet:
    """Where feeds put calls: audio and call states on one broker. One object serves every thread of a program."""

    def __init__(self, settings: Settings) -> None:
        """Raise NotReadyError within about 10 s when the broker does not answer or lacks a topic."""
        self._settings = settings
        self._producer = AudioProducer(settings)
        self._admission = Admission(settings.ingest.max_lag_seconds, lambda: stage_lags(settings))
        self._complete: set[str] = set()  # calls that vad has read to their ends: its word on them stands

    def delivery(self) -> Delivery:
        """Return where the records of one call go."""
        return self._producer.delivery()

    def take(self, call_id: str, *, started: Started, is_new: bool, take_over: bool = False) -> Grant:
        """Take a call for a feed, by writing that it is live under the next epoch and reading that back.

        A call that ``is_new`` is not looked up. A live call is refused, unless it is to be taken over from the feed that holds it.
        Raises CallRefusedError (complete, or live), NotReadyError (also when a new call is not admitted) or FailedError; when refused,
        nothing of the call has changed.
        """
        if is_new:
            self._admission.admit(call_id)
            offset = self._write(call_id, "live", 1, Place(), started)
            return Grant(feed_epoch=1, next_control=0, taken_at=offset)
        known = read_standing(self._settings, call_id)
        if known is not None and known.state.state == COMPLETE:
            raise CallRefusedError(f"call {call_id} is complete already")
        if known is not None and known.state.state == "live" and not take_over:
            raise CallRefusedError(self._is_live(call_id, known.state))
        place = Place() if known is None else place_of(known.state)
        if known is None:
            self._admission.admit(call_id)
        epoch = 1 if known is None else known.state.feed_epoch + 1
        offset = self._write(call_id, "live", epoch, place, started)
        reach("ingest", "taken")
        now = read_standing(self._settings, call_id)
        if now is None or now.state.feed_epoch != epoch or now.taken_at != offset:
            raise CallRefusedError(f"call {call_id} was taken by another feed at the same time")
        return Grant(
            feed_epoch=epoch,
            next_control=place.next_sequence.get(CALL_CHANNEL, 0),
            taken_at=offset,
            is_known=known is not None,
        )

    def place(self, call_id: str, grant: Grant, *, is_stopped: Callable[[], bool]) -> Place | None:
        """Return where a call stands once vad has read that the feed of ``grant`` speaks: no earlier feed counts behind that.

        None when ``is_stopped`` before. Raises NotReadyError when vad does not say so in time, CallRefusedError when another feed has
        taken the call.
        """
        deadline = time.monotonic() + PLACE_SECONDS
        while time.monotonic() < deadline:
            if is_stopped():
                return None
            known = read_standing(self._settings, call_id, since=grant.taken_at)
            if known is not None and known.state.feed_epoch > grant.feed_epoch:
                raise CallRefusedError(f"call {call_id} was taken over by another feed")
            if known is not None and known.read_to is not None:
                if known.is_read:
                    raise CallRefusedError(f"call {call_id} is complete already")
                return place_of(known.read_to)
            time.sleep(POLL_SECONDS)
        raise NotReadyError(
            f"where call {call_id} goes on is not known: vad has not read up to this feed; feed it again later"
        )

    def _is_live(self, call_id: str, state: CallState) -> str:
        since = datetime.fromtimestamp(state.time_ms / 1000, UTC).isoformat(timespec="seconds")
        idle = self._settings.ingest.idle_seconds
        return (
            f"call {call_id} is fed by another feed since {since}; it may be resumed when that is silent for {idle:g} s, "
            "or taken over (--take-over)"
        )

    def leave(self, call_id: str, *, state: str, feed_epoch: int, place: Place, started: Started) -> None:
        """Say that the call is complete or interrupted, and where. Raises NotReadyError or FailedError."""
        reach("ingest", "fed")
        if state == COMPLETE and call_id in self._complete:
            self._complete.discard(call_id)
        else:
            self._write(call_id, state, feed_epoch, place, started)
        reach("ingest", "left")

    def close(self) -> None:
        """Let go of the broker."""
        self._producer.close()

    def holds(self, call_id: str, grant: Grant) -> bool:
        """Return whether the feed of ``grant`` holds the call still. A broker that is away is waited for as when a record is delivered.

        Raises NotReadyError.
        """
        deadline = time.monotonic() + DELIVERY_SECONDS
        while True:
            try:
                known = read_standing(self._settings, call_id, since=grant.taken_at)
            except NotReadyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)
            else:
                if known is not None and known.is_read:
                    self._complete.add(call_id)
                return known is None or known.state.feed_epoch <= grant.feed_epoch

    def _write(self, call_id: str, state: str, epoch: int, place: Place, started: Started) -> int:
        record = CallState(
            call_id=call_id,
            state=state,
            feed_epoch=epoch,
            next_sequence={str(channel): sequence for channel, sequence in place.next_sequence.items()},
            end_samples={str(channel): end for channel, end in place.end_samples.items()},
            tenant=started.tenant,
            time_ms=time.time_ns() // 1_000_000,
            started=replace(started, attributes={}),
        )
        return self._producer.write_state(record)

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import pytest
from confluent_kafka import Consumer, TopicPartition

from pipeline.core.errors import FatalError, NotReadyError
from pipeline.runtime import read
from pipeline.runtime.attempts import Attempts
from pipeline.runtime.consume import consume
from pipeline.runtime.dead_letters import read_dead_letters
from pipeline.runtime.settings import Settings
from pipeline.sink.stage import Sink
from pipeline.sink.stores import open_store
from pipeline.sink.stores.base import Store
from pipeline.sink.transcript import Transcript
from schemas.codec import Codec, RepositorySchemas
from schemas.records import CallSegment
from schemas.registry import RegistryUnreachableError
from tests.integration.conftest import Kafka
from tests.integration.postgres import PostgresServer
from tests.integration.reading import committed, delete_records
from tests.integration.sink.kafka_side import (
    CODEC,
    lag,
    produce,
    produce_records,
    segments_topic,
    sink,
    sink_process,
    until,
)
from tests.unit.sink.records_of_calls import segment, started, whole_call

SinkOf: TypeAlias = Callable[[Settings], Sink]

pytestmark = pytest.mark.integration


def opener(settings: Settings) -> Callable[[], Store]:
    return lambda: open_store(settings.store.url.get_secret_value(), settings.work_folder)


@pytest.fixture
def sink_of() -> Iterator[SinkOf]:
    """Make sinks on the store of settings; they are closed after the test."""
    made: list[Sink] = []

    def make(settings: Settings) -> Sink:
        made.append(Sink(opener(settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def transcripts(settings: Settings) -> dict[str, Transcript]:
    store = opener(settings)()
    try:
        stored = [store.read(summary.call.call_id) for summary in store.calls()]
        return {one.call.call_id: Transcript.from_stored(one) for one in stored if one is not None}
    finally:
        store.close()


def test_calls_reach_the_store_and_their_offsets_are_committed(kafka: Kafka, sink_of: SinkOf) -> None:
    settings = kafka.ready()
    calls = {f"c{number}": whole_call(f"c{number}") for number in range(5)}
    mixed = [record for group in zip(*calls.values(), strict=True) for record in group]
    produce_records(settings, segments_topic(settings), mixed)
    with sink(settings, sink_of(settings).write) as counts:
        until(lambda: lag(settings) == 0)
    assert counts[0] == settings.partitions
    assert transcripts(settings) == {name: Transcript.from_records(records) for name, records in calls.items()}


def test_records_that_were_deleted_before_they_were_stored_are_told(
    kafka: Kafka, sink_of: SinkOf, caplog: pytest.LogCaptureFixture
) -> None:
    settings = kafka.ready(topics__partitions=1)
    first, second = whole_call("c1"), whole_call("c2")
    produce_records(settings, segments_topic(settings), first)
    with sink(settings, sink_of(settings).write):
        until(lambda: lag(settings) == 0)
    produce_records(settings, segments_topic(settings), second)
    delete_records(settings, "call.segments", len(first) + 3)
    with caplog.at_level(logging.WARNING, logger="callscribe.sink"), sink(settings, sink_of(settings).write):
        until(lambda: lag(settings) == 0)
    (told,) = [record for record in caplog.records if "deleted before they were stored" in record.message]
    assert (vars(told)["records"], vars(told)["partition"]) == (3, 0)
    assert transcripts(settings)["c1"] == Transcript.from_records(first)
    assert transcripts(settings)["c2"] == Transcript.from_records(second[3:])


def test_killed_between_store_and_commit_nothing_is_lost_or_doubled(kafka: Kafka, sink_of: SinkOf) -> None:
    settings = kafka.ready(kafka__session_timeout_seconds=6.0)
    produce_records(settings, segments_topic(settings), whole_call("a") + whole_call("b"))
    killed = sink_process(
        settings,
        """
def write(records):
    store.write(records)
    os.kill(os.getpid(), 9)
consume(settings, write=write, limits=Limits(max_records=9))
""",
    )
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert lag(settings) == 2 * len(whole_call())
    before = transcripts(settings)
    assert before  # it was in the store when the process died
    seen: list[CallSegment] = []
    store = sink_of(settings)

    def write(records: Sequence[CallSegment]) -> None:
        store.write(records)
        seen.extend(records)

    with sink(settings, write):
        until(lambda: lag(settings) == 0)
    assert len(seen) == 2 * len(whole_call())  # all of them again, those of the first batch a second time
    assert transcripts(settings) == {name: Transcript.from_records(whole_call(name)) for name in ("a", "b")}


def test_commits_keep_what_is_condemned_and_orderly_ends_are_no_deaths(kafka: Kafka, sink_of: SinkOf) -> None:
    settings = kafka.ready(topics__partitions=1)
    produce_records(settings, segments_topic(settings), whole_call("a"))
    kept = Attempts(condemned=(100_000,))
    group = {"group.id": f"{settings.topics.prefix}.sink", "bootstrap.servers": settings.kafka.bootstrap_servers}
    with closing(Consumer(group)) as consumer:
        told = TopicPartition(segments_topic(settings), 0, 0, metadata=kept.to_text())
        consumer.commit(offsets=[told], asynchronous=False)
    tried = threading.Event()

    def away(records: Sequence[CallSegment]) -> None:
        tried.set()
        raise NotReadyError("the store is away")

    for _ in range(3):
        tried.clear()
        with sink(settings, away):
            assert tried.wait(30)
        assert Attempts.parse(committed(settings, "sink", "call.segments")[1]) == kept
    with sink(settings, sink_of(settings).write):
        until(lambda: lag(settings) == 0)
        assert Attempts.parse(committed(settings, "sink", "call.segments")[1]) == kept


def test_sigterm_ends_a_run_with_its_batch_committed(kafka: Kafka) -> None:
    settings = kafka.ready()
    produce_records(settings, segments_topic(settings), whole_call("a"))
    process = sink_process(settings, "consume(settings, write=store.write, limits=limits)")
    until(lambda: lag(settings) == 0)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert transcripts(settings)["a"].state == "complete"


def test_a_sink_that_another_with_its_id_has_pushed_out_ends(kafka: Kafka, sink_of: SinkOf) -> None:
    settings = kafka.ready(runtime__instance_id="twin")
    turned_away: list[BaseException] = []
    is_in, stop = threading.Event(), threading.Event()

    def first() -> None:
        try:
            consume(settings, write=sink_of(settings).write, stop=stop, on_assigned=lambda _: is_in.set())
        except FatalError as error:
            turned_away.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert is_in.wait(30)
        with sink(settings, sink_of(settings).write) as counts:
            thread.join(30)
            assert not thread.is_alive()
            until(lambda: counts and counts[-1] == settings.partitions)
    finally:
        stop.set()
        thread.join(30)
    assert "fenced" in str(turned_away[0])


def test_what_cannot_be_decoded_becomes_a_dead_letter_and_the_rest_goes_on(
    kafka: Kafka, sink_of: SinkOf, caplog: pytest.LogCaptureFixture
) -> None:
    settings = kafka.ready()
    name = segments_topic(settings)
    poison = b"\x00\x00\x00\x00\x68 these are secret words"
    produce_records(settings, name, whole_call("good")[:5])
    produce(settings, name, [("good", poison), ("no call/id", b"junk"), ("bad", b"")])
    produce_records(settings, name, whole_call("good")[5:])
    with caplog.at_level(logging.INFO), sink(settings, sink_of(settings).write):
        until(lambda: lag(settings) == 0)
    assert "secret" not in caplog.text
    letters = {letter.key: letter for letter in read_dead_letters(settings)}
    assert set(letters) == {b"good", b"no call/id", b"bad"}
    assert letters[b"good"].value == poison
    assert (letters[b"good"].stage, letters[b"good"].reason, letters[b"good"].topic) == ("sink", "CodecError", name)
    assert letters[b"no call/id"].call_id is None
    found = transcripts(settings)
    assert found["good"].state == "complete"
    assert found["good"].segments == Transcript.from_records(whole_call("good")).segments
    assert [one.stage for one in found["good"].degraded] == ["sink", "asr"]
    assert [one.reason for one in found["bad"].degraded] == ["CodecError"]
    assert set(found) == {"good", "bad"}


def test_a_record_that_the_store_refuses_becomes_a_dead_letter(
    kafka: Kafka, sink_of: SinkOf, postgres: PostgresServer
) -> None:
    settings = kafka.ready(store__url=postgres.socket_url)
    name = segments_topic(settings)
    call = f"refused-{settings.topics.prefix}"
    unstorable = CODEC.encode(
        segment("\x00", text="never mind")
    )  # PostgreSQL has no such text, and ids stay as they are
    good = [(call, CODEC.encode(record)) for record in whole_call(call)]
    produce(settings, name, [*good[:3], (call, unstorable), *good[3:]])
    with sink(settings, sink_of(settings).write):
        until(lambda: lag(settings) == 0)
    assert [letter.reason for letter in read_dead_letters(settings)] == ["PoisonError"]
    found = transcripts(settings)[call]
    assert found.segments == Transcript.from_records(whole_call(call)).segments
    assert [one.stage for one in found.degraded] == ["sink", "asr"]


def test_while_the_store_is_away_nothing_is_acknowledged_and_the_group_stays(
    kafka: Kafka, sink_of: SinkOf, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = kafka.ready(store__url=postgres.tcp_url(), kafka__session_timeout_seconds=6.0)
    call = f"away-{settings.topics.prefix}"
    with caplog.at_level(logging.WARNING), sink(settings, sink_of(settings).write) as counts:
        produce_records(settings, segments_topic(settings), whole_call(call)[:5])
        until(lambda: lag(settings) == 0)
        postgres.stop()
        try:
            produce_records(settings, segments_topic(settings), whole_call(call)[5:])
            until(lambda: caplog.text.count("trying again") >= 4)
            assert lag(settings) == len(whole_call()) - 5
        finally:
            postgres.start()
        until(lambda: lag(settings) == 0)
        assert counts == [settings.partitions]  # no rebalance
    assert transcripts(settings)[call] == Transcript.from_records(whole_call(call))
    assert "battery" not in caplog.text


def test_a_store_that_is_away_at_the_start_is_waited_for(kafka: Kafka) -> None:
    settings = kafka.ready()
    produce_records(settings, segments_topic(settings), whole_call("a"))
    attempts: list[int] = []

    def open_late() -> Store:
        attempts.append(1)
        if len(attempts) < 3:
            raise NotReadyError("store: not there yet")
        return opener(settings)()

    late = Sink(open_late)
    with closing(late), sink(settings, late.write):
        until(lambda: lag(settings) == 0)
    assert transcripts(settings)["a"].state == "complete"


def test_a_store_that_hangs_does_not_hold_up_the_group(kafka: Kafka, sink_of: SinkOf) -> None:
    """A second member gets partitions while the first one's write hangs; both together store everything."""
    settings = kafka.ready()
    entered, go_on = threading.Event(), threading.Event()
    first = sink_of(settings)

    def hang(records: Sequence[CallSegment]) -> None:
        entered.set()
        assert go_on.wait(60)
        first.write(records)

    names = [f"c{number}" for number in range(8)]
    produce_records(settings, segments_topic(settings), [record for name in names for record in whole_call(name)])
    with sink(settings, hang) as first_counts:
        assert entered.wait(30)
        with sink(settings, sink_of(settings).write) as second_counts:
            until(lambda: second_counts and second_counts[-1] == 1)
            until(lambda: first_counts[-1] == 1)
            go_on.set()
            until(lambda: lag(settings) == 0)
    assert transcripts(settings) == {name: Transcript.from_records(whole_call(name)) for name in names}


def test_an_error_of_ours_ends_the_run_with_nothing_acknowledged(kafka: Kafka) -> None:
    settings = kafka.ready()
    produce_records(settings, segments_topic(settings), [started()])

    def fail(records: Sequence[CallSegment]) -> None:
        raise KeyError("a fault")

    with pytest.raises(KeyError):
        consume(settings, write=fail, stop=threading.Event())
    assert lag(settings) == 1


def test_a_topic_that_is_not_there_is_named(kafka: Kafka) -> None:
    with pytest.raises(NotReadyError, match=r"call\.segments\.v1.*callscribe topics apply"):
        consume(kafka.settings(), write=lambda records: None, stop=threading.Event())


def test_a_broker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "METADATA_SECONDS", 1.0)
    settings = Settings.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:1"}})
    with pytest.raises(NotReadyError, match=r"127\.0\.0\.1:1"):
        consume(settings, write=lambda records: None, stop=threading.Event())


def test_a_schema_registry_that_is_away_is_waited_for(kafka: Kafka, sink_of: SinkOf) -> None:
    """A record is not to blame for a registry that does not answer: no dead letter."""
    settings = kafka.ready()
    produce_records(settings, segments_topic(settings), whole_call("a"))

    class Registry(RepositorySchemas):
        answers = 0

        def schema_of(self, schema_id: int) -> str:
            self.answers += 1
            if self.answers < 3:
                raise RegistryUnreachableError("the schema registry does not answer")
            return super().schema_of(schema_id)

    with sink(settings, sink_of(settings).write, codec=Codec(Registry())):
        until(lambda: lag(settings) == 0)
    assert not list(read_dead_letters(settings))
    assert transcripts(settings)["a"].state == "complete"


def test_partitions_that_go_while_the_store_is_away_are_read_when_they_come_back(kafka: Kafka, sink_of: SinkOf) -> None:
    """librdkafka keeps the pause of a partition that it takes away, and the sink pauses everything while it waits."""
    settings = kafka.ready(kafka__session_timeout_seconds=6.0)
    calls = [f"paused-{number}" for number in range(12)]  # some in each partition
    is_away = threading.Event()
    is_away.set()
    ours, others = sink_of(settings), sink_of(settings)

    def write_to(one: Sink) -> Callable[[Any], None]:
        def write(records: Any) -> None:
            if is_away.is_set():
                raise NotReadyError("the store is away")
            one.write(records)

        return write

    def put(names: list[str]) -> None:
        produce_records(settings, segments_topic(settings), [record for name in names for record in whole_call(name)])

    with sink(settings, write_to(ours)) as counts:
        until(lambda: counts and counts[-1] == 2)
        put(calls[:6])
        with sink(settings, write_to(others)) as other_counts:
            until(lambda: other_counts and other_counts[-1] == 1 and counts[-1] == 1)
            is_away.clear()
            until(lambda: lag(settings) == 0)
        until(lambda: counts[-1] == 2)
        put(calls[6:])
        until(lambda: lag(settings) == 0)
    assert set(transcripts(settings)) == set(calls)

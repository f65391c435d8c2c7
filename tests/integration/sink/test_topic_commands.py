"""``callscribe tail`` and ``callscribe dead-letters`` on a real broker."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import typer
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from pipeline.cli import dead_letters as dead_letter_commands
from pipeline.cli import tail as tail_command
from pipeline.core.errors import FailedError, NotReadyError, PoisonError, UsageError
from pipeline.runtime.dead_letters import MAX_VALUE_BYTES, DeadLetterProducer, dead_letter
from pipeline.runtime.settings import Settings
from pipeline.runtime.tail import follow
from schemas.records import CallAnnotation, CallSegment
from tests.integration.conftest import Kafka
from tests.integration.sink.kafka_side import produce, produce_records, segments_topic
from tests.unit.cli.test_tail_view import tail, words
from tests.unit.sink.records_of_calls import ended, segment, started, whole_call
from topics import topic

pytestmark = pytest.mark.integration
Invoke = Callable[..., Any]


@pytest.fixture
def settings(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose topics exist; commands find them in the environment."""
    made = kafka.ready()
    monkeypatch.setenv("CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS", made.kafka.bootstrap_servers)
    monkeypatch.setenv("CALLSCRIBE_TOPICS__PREFIX", made.topics.prefix)
    monkeypatch.setenv("CALLSCRIBE_RUNTIME__WORK_FOLDER", made.runtime.work_folder)
    return made


def invoke(*arguments: str) -> Any:
    app = typer.Typer()
    tail_command.register(app)
    dead_letter_commands.register(app)
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def annotations_topic(settings: Settings) -> str:
    return topic("call.annotations").full_name(settings.topics.prefix)


def test_tail_of_a_call_from_the_beginning_ends_with_the_call(settings: Settings) -> None:
    produce_records(settings, annotations_topic(settings), [words("Thank", "you"), tail("for")])
    mixed = [record for pair in zip(whole_call("c1"), whole_call("c2"), strict=True) for record in pair]
    produce(settings, segments_topic(settings), [("c1", b"no record")])
    produce_records(settings, segments_topic(settings), mixed)
    lines = [json.loads(line) for line in invoke("tail", "c1", "--from", "beginning", "--json").stdout.splitlines()]
    assert {line["call_id"] for line in lines} == {"c1"}
    kinds = [line["type"] for line in lines if line["type"] not in ("words", "tail")]
    assert kinds == [
        "started",
        *["segment"] * 3,
        "hold",
        "hold",
        "gap",
        "degraded",
        "segment",
        "interrupted",
        "resumed",
        "ended",
    ]
    text = invoke("tail", "c1", "--from", "beginning").stdout.splitlines()
    assert text[:2] == ["c1 started", "c1 [00:00.4] agent: Thank you for calling."]
    assert text[-1] == "c1 ended"


def test_tail_from_now_leaves_out_what_was_before(settings: Settings, kafka: Kafka) -> None:
    produce_records(settings, segments_topic(settings), [started(), segment(text="Before.")])
    ready, seen = threading.Event(), []

    def run() -> None:
        for record in follow(settings, call_id="c1", on_ready=ready.set):
            if record is not None:
                seen.append(record)
            if record is not None and record.kind == "ended":
                return

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    produce_records(settings, annotations_topic(settings), [words("After")])
    produce_records(settings, segments_topic(settings), [segment("c2", text="Other.")])
    produce_records(settings, segments_topic(settings), [segment(start=80_000, text="After."), ended()])
    thread.join(30)
    assert not thread.is_alive()
    texts = [record.segment.text for record in seen if isinstance(record, CallSegment) and record.segment]
    assert texts == ["After."]
    assert {type(record) for record in seen} <= {CallSegment, CallAnnotation}
    groups = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers}).list_consumer_groups().result(10)
    assert not [one for one in groups.valid if one.group_id.startswith(settings.topics.prefix)]


def test_tail_refuses_what_is_no_call_id(settings: Settings) -> None:
    with pytest.raises(UsageError, match="not a call id"):
        invoke("tail", "a/b")


def test_tail_names_a_topic_that_is_not_there(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("CALLSCRIBE_TOPICS__PREFIX", "nothing-here")
    with pytest.raises(NotReadyError, match=r"nothing-here\.call\.annotations\.v1.*topics apply"):
        invoke("tail")


def bury(settings: Settings, *, stage: str, offset: int, value: bytes, times: int = 1, time_ms: int = 1000) -> str:
    name = segments_topic(settings)
    letter = dead_letter(
        stage=stage,
        error=PoisonError("not usable"),
        topic=name,
        partition=1,
        offset=offset,
        key=b"c1",
        value=value,
        time_ms=time_ms,
    )
    DeadLetterProducer(settings)([letter] * times)
    return f"{name}/1/{offset}"


def test_dead_letters_are_listed_once_per_stage_oldest_first(settings: Settings) -> None:
    assert json.loads(invoke("dead-letters", "list", "--json").stdout) == []
    second = bury(settings, stage="asr", offset=4, value=b"words", times=2, time_ms=2000)
    bury(settings, stage="diarize", offset=4, value=b"words", time_ms=3000)
    first = bury(settings, stage="asr", offset=3, value=b"words", time_ms=1000)
    found = json.loads(invoke("dead-letters", "list", "--json").stdout)
    assert [(one["id"], one["stage"]) for one in found] == [(first, "asr"), (second, "asr"), (second, "diarize")]
    assert found[0]["rejected_at"] == "1970-01-01T00:00:01.000+00:00"
    lines = [line.split("\t") for line in invoke("dead-letters", "list").stdout.splitlines()]
    assert lines[0][1:] == [first, "asr", "PoisonError", "c1", "not usable"]


def test_show_tells_everything_but_the_content_unless_asked(settings: Settings) -> None:
    name = bury(settings, stage="asr", offset=4, value=b"secret words" + bytes(500))
    result = invoke("dead-letters", "show", name)
    assert "PoisonError" in result.stdout
    assert b"secret".hex() not in result.stdout
    assert "secret" not in result.stdout
    shown = json.loads(invoke("dead-letters", "show", name, "--bytes", "--json").stdout)
    assert bytes.fromhex(shown[0]["value_hex"]) == (b"secret words" + bytes(500))[:256]
    assert bytes.fromhex(shown[0]["key_hex"]) == b"c1"
    with pytest.raises(FailedError, match="no dead letter about"):
        invoke("dead-letters", "show", name + "0")
    with pytest.raises(UsageError, match="topic/partition/offset"):
        invoke("dead-letters", "show", "4")


def test_requeue_writes_the_original_where_it_was(settings: Settings) -> None:
    names = [bury(settings, stage="asr", offset=offset, value=b"original %d" % offset) for offset in (4, 5)]
    bury(settings, stage="diarize", offset=4, value=b"original 4")
    result = invoke("dead-letters", "requeue", *names, names[0])
    assert "requeued 2" in result.stderr
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "look"})
    consumer.assign([TopicPartition(segments_topic(settings), 1, 0)])
    found = consumer.consume(3, timeout=3)
    consumer.close()
    assert [(one.key(), one.value(), one.partition()) for one in found] == [
        (b"c1", b"original 4", 1),
        (b"c1", b"original 5", 1),
    ]


def test_a_value_that_was_too_large_cannot_be_requeued(settings: Settings) -> None:
    kept = bury(settings, stage="asr", offset=1, value=b"kept")
    left_out = bury(settings, stage="asr", offset=2, value=bytes(MAX_VALUE_BYTES + 1))
    with pytest.raises(UsageError, match=r"/1/2: the value \(524289 bytes\) was too large"):
        invoke("dead-letters", "requeue", kept, left_out)
    consumer = Consumer({"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "look"})
    assert consumer.get_watermark_offsets(TopicPartition(segments_topic(settings), 1), timeout=10) == (0, 0)
    consumer.close()

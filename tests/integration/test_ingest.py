"""Ingest against a real broker: what is on the topics after a command has said that all is well."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Message, Producer
from numpy.typing import NDArray

from pipeline.core.errors import CallRefusedError, NotReadyError
from pipeline.core.feeds import Place
from pipeline.ingest.chunks import CallDescription, Feed
from pipeline.runtime.call_state import CallOutlet, partition_of, read_standings, read_state
from pipeline.runtime.produce import AudioProducer
from pipeline.runtime.provisioning import schema_source
from pipeline.runtime.read import read_to_end
from pipeline.runtime.settings import Settings
from schemas.codec import Codec
from schemas.records import CallAudio, CallState, Channel
from tests.integration.conftest import Kafka
from tests.integration.feeds import STARTED
from tests.integration.system import wait_for
from topics import topic

pytestmark = pytest.mark.integration

PROGRAM = """
import sys, typer
from pipeline.cli import ingest
from pipeline.core.errors import CallscribeError
app = typer.Typer()
app.callback()(lambda: None)
ingest.register(app)
try:
    app()
except CallscribeError as error:
    print(f"callscribe: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""
CODES = np.random.default_rng(4).integers(0, 256, size=(8000 * 2 + 123, 2), dtype=np.uint8)


def environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "CALLSCRIBE_TOPICS__PREFIX": settings.topics.prefix,
        "CALLSCRIBE_RUNTIME__WORK_FOLDER": str(settings.work_folder),
    }


def ingest(settings: Settings, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "ingest", *arguments],
        env=environment(settings),
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@contextlib.contextmanager
def started(settings: Settings, *arguments: str, stdin: int | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "ingest", *arguments],
        env=environment(settings),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def messages(settings: Settings) -> list[Message]:
    return list(read_to_end(settings, f"{settings.topics.prefix}.call.audio.v1"))


def records(settings: Settings, call_id: str) -> list[CallAudio]:
    found = [Codec().decode(message.value(), CallAudio) for message in messages(settings)]
    return [record for record in found if record.call_id == call_id]


def stereo(path: Path, codes: NDArray[np.uint8] = CODES) -> Path:
    """Write a two-channel mu-law WAV of ``codes``."""
    soundfile.write(path, np.zeros(codes.shape), 8000, subtype="ULAW")
    header = path.read_bytes()[: -codes.size]
    path.write_bytes(header + codes.tobytes())
    return path


def channel_bytes(found: list[CallAudio], channel: int) -> bytes:
    return b"".join(record.audio.data for record in found if record.audio and record.channel == channel)


def test_a_call_is_on_the_topic_byte_by_byte_before_the_command_returns(kafka: Kafka, tmp_path: Path) -> None:
    settings = kafka.ready(topics__partitions=3)
    path = stereo(tmp_path / "call.wav")
    options = [
        "--language",
        "en",
        "--prompt",
        "Ada",
        "--hot-word",
        "Ada",
        "--attribute",
        "queue=billing",
        "--tenant",
        "t",
    ]

    done = ingest(settings, str(path), "--call-id", "t:c1", *options)

    assert (done.returncode, done.stdout) == (0, "t:c1\n"), done.stderr
    found = records(settings, "t:c1")
    assert [(r.kind, r.sequence) for r in found if r.channel == -1] == [("started", 0), ("ended", 1)]
    assert found[0].started is not None
    assert [(c.role, c.encoding, c.language) for c in found[0].started.channels] == [
        ("agent", "mulaw", "en"),
        ("customer", "mulaw", "en"),
    ]
    assert (found[0].started.tenant, found[0].started.attributes) == ("t", {"queue": "billing"})
    for channel in (0, 1):
        assert channel_bytes(found, channel) == CODES[:, channel].tobytes()
    assert found[-1].ended is not None
    assert found[-1].ended.end_samples == {"0": len(CODES), "1": len(CODES)}

    (partition,) = {message.partition() for message in messages(settings)}
    assert partition == partition_of("t:c1", 3) == DefaultPartitioner()(b"t:c1", [0, 1, 2], [0, 1, 2])
    assert {message.key() for message in messages(settings)} == {b"t:c1"}
    assert dict(messages(settings)[0].headers() or []) == {"kind": b"started"}

    state = read_state(settings, "t:c1")
    assert state is not None
    assert (state.state, state.feed_epoch, state.tenant) == ("complete", 1, "t")
    cut = math.ceil(len(CODES) / round(8_000 * settings.ingest.record_seconds))
    assert state.next_sequence == {"-1": 2, "0": cut, "1": cut}


def test_a_complete_call_is_refused_and_bad_files_do_not_stop_good_ones(kafka: Kafka, tmp_path: Path) -> None:
    settings = kafka.ready()
    stereo(tmp_path / "a.wav")
    stereo(tmp_path / "c.wav")
    (tmp_path / "b.wav").write_bytes(b"RIFF")

    assert ingest(settings, str(tmp_path / "a.wav"), "--call-id", "c1").returncode == 0
    again = ingest(settings, str(tmp_path / "a.wav"), "--call-id", "c1")
    assert (again.returncode, again.stdout) == (4, "")
    assert "a.wav: call c1 is complete already" in again.stderr

    folder = ingest(settings, str(tmp_path), "--json")
    assert folder.returncode == 4
    calls = json.loads(folder.stdout)["calls"]
    assert [call["outcome"] for call in calls] == ["ended", "refused", "ended"]
    for call in (calls[0], calls[2]):
        assert channel_bytes(records(settings, call["call_id"]), 1) == CODES[:, 1].tobytes()
    assert {record.call_id for record in map(_decoded, messages(settings))} == {
        "c1",
        calls[0]["call_id"],
        calls[2]["call_id"],
    }


def _decoded(message: Message) -> CallAudio:
    return Codec().decode(message.value(), CallAudio)


def test_a_pipe_of_raw_g711(kafka: Kafka) -> None:
    settings = kafka.ready()
    done = ingest(
        settings,
        "-",
        "--encoding",
        "alaw",
        "--rate",
        "8000",
        "--channels",
        "2",
        "--call-id",
        "p",
        stdin=CODES.tobytes(),
    )
    assert done.returncode == 0, done.stderr
    found = records(settings, "p")
    assert channel_bytes(found, 0) == CODES[:, 0].tobytes()
    assert {record.audio.encoding for record in found if record.audio} == {"alaw"}


def test_a_feed_that_is_stopped_goes_on_without_loss(kafka: Kafka, tmp_path: Path) -> None:
    settings = kafka.ready()
    path = stereo(
        tmp_path / "call.wav", codes=(codes := np.tile(CODES, (15, 1)))
    )  # half a minute: it must not end first
    with started(settings, str(path), "--call-id", "c1", "--speed", "real") as process:
        wait_for(lambda: len(records(settings, "c1")) > 5, 30, "the call is under way")
        process.send_signal(signal.SIGTERM)
        _, text = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "call c1 is interrupted" in text
    first = records(settings, "c1")
    assert (first[-1].kind, first[-1].sequence) == ("interrupted", 1)
    state = read_state(settings, "c1")
    assert state is not None
    assert state.state == "interrupted"

    assert ingest(settings, str(path), "--call-id", "c1").returncode == 0
    second = records(settings, "c1")[len(first) :]
    assert {record.feed_epoch for record in second} == {2}
    assert [(r.kind, r.sequence) for r in second if r.channel == -1] == [("started", 0), ("resumed", 2), ("ended", 3)]
    assert channel_bytes(second, 0) == codes[:, 0].tobytes()


def test_a_feed_that_lost_its_call_says_so_and_fails(kafka: Kafka, tmp_path: Path) -> None:
    settings = kafka.ready()
    path = stereo(tmp_path / "call.wav", codes=np.tile(CODES, (3, 1)))
    with started(settings, str(path), "--call-id", "c1", "--speed", "real") as process:
        wait_for(lambda: len(records(settings, "c1")) > 2, 30, "the call is under way")
        assert ingest(settings, str(path), "--call-id", "c1", "--take-over").returncode == 0
        _, text = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "call c1 was taken over by another feed" in text
    state = read_state(settings, "c1")
    assert state is not None
    assert (state.state, state.feed_epoch) == ("complete", 2)


def test_a_watched_folder_is_fed_once_across_restarts(kafka: Kafka, tmp_path: Path) -> None:
    settings = kafka.ready()
    inbox = tmp_path / "in"
    inbox.mkdir()
    old = stereo(tmp_path / "a.wav")
    old.rename(inbox / "a.wav")
    os.utime(inbox / "a.wav", (1_000_000_000, 1_000_000_000))
    with started(settings, str(inbox), "--watch") as process:
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        stereo(tmp_path / "b.wav").rename(inbox / "b.wav")
        second = process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    for call_id in (first, second):
        assert channel_bytes(records(settings, call_id), 0) == CODES[:, 0].tobytes()
    with started(settings, str(inbox), "--watch") as process:
        assert process.stdout is not None
        stereo(tmp_path / "c.wav").rename(inbox / "c.wav")
        third = process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    assert {record.call_id for record in map(_decoded, messages(settings))} == {first, second, third}


def test_states_of_many_calls_in_one_partition(kafka: Kafka) -> None:
    settings = kafka.ready(topics__partitions=1)
    outlet = CallOutlet(settings)
    assert read_state(settings, "c0") is None
    for number in range(20):
        grant = outlet.take(f"c{number}", started=STARTED, is_new=True)
        assert (grant.feed_epoch, grant.next_control, grant.is_known) == (1, 0, False)
    place = Place(next_sequence={-1: 7, 0: 4}, end_samples={0: 16000})
    outlet.leave("c3", state="interrupted", feed_epoch=1, place=place, started=STARTED)
    grant = outlet.take("c3", started=STARTED, is_new=False)
    assert (grant.feed_epoch, grant.next_control, grant.is_known) == (2, 7, True)
    assert outlet.place("c3", grant, is_stopped=lambda: True) is None
    producer = AudioProducer(settings)
    said = CallState(call_id="c3", state="live", feed_epoch=2, time_ms=0)
    for rival in (said, replace(said, stage="vad", next_sequence={"-1": 7, "0": 4}, end_samples={"0": 16000}), said):
        producer.write_state(rival)  # two feeds that took the call at the same time, and in between what vad has read
    assert outlet.place("c3", grant, is_stopped=lambda: False) == place
    assert outlet.holds("c3", grant)
    assert not outlet.holds("c3", replace(grant, feed_epoch=1))
    outlet.leave("c4", state="complete", feed_epoch=1, place=Place(), started=STARTED)
    producer.write_state(
        CallState(call_id="c4", state="live", feed_epoch=1, stage="vad", time_ms=0)
    )  # by one that stood still
    producer.close()
    raw = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    raw.produce(topic("call.state").full_name(settings.topics.prefix), key=b"junk", value=b"no state")
    assert raw.flush(10) == 0
    found = read_standings(settings, ["c3", "c4", "junk", "nobody"], codec=Codec(schema_source(settings)))
    assert (found["junk"], found["nobody"]) == (None, None)
    c3, c4 = found["c3"], found["c4"]
    assert c3 is not None
    assert (c3.state.state, c3.state.feed_epoch, c3.is_complete, c3.is_read) == ("live", 2, False, False)
    assert c4 is not None
    assert (c4.is_complete, c4.is_read) == (True, False)
    with pytest.raises(NotReadyError, match="the state of call junk is unreadable"):
        read_state(settings, "junk")
    with pytest.raises(CallRefusedError, match="complete"):
        outlet.take("c4", started=STARTED, is_new=False)
    with pytest.raises(CallRefusedError, match="another feed since"):
        outlet.take("c5", started=STARTED, is_new=False)
    assert outlet.take("c5", started=STARTED, is_new=False, take_over=True).feed_epoch == 2
    outlet.leave("c5", state="interrupted", feed_epoch=1, place=Place(), started=STARTED)  # of the feed before
    with pytest.raises(CallRefusedError, match="another feed since"):
        outlet.take("c5", started=STARTED, is_new=False)
    assert outlet.take("c5", started=STARTED, is_new=False, take_over=True).feed_epoch == 3
    state = read_state(settings, "c3")
    assert isinstance(state, CallState)
    assert (state.state, state.feed_epoch, state.tenant, state.started) == ("live", 2, None, None)
    held = read_state(settings, "c5")
    assert held is not None
    assert (held.tenant, held.started) == ("t", STARTED)
    outlet.close()


def test_a_topic_that_is_missing_is_named_with_the_command_that_makes_it(kafka: Kafka) -> None:
    with pytest.raises(NotReadyError, match=r"call\.audio\.v1: .*callscribe topics apply"):
        AudioProducer(kafka.settings())


def test_a_broker_that_does_not_answer_is_told_in_time(kafka: Kafka) -> None:
    began = time.monotonic()
    with pytest.raises(NotReadyError, match=r"Kafka at 127\.0\.0\.1:1 does not answer"):
        AudioProducer(kafka.settings(kafka__bootstrap_servers="127.0.0.1:1"))
    assert time.monotonic() - began < 15


def test_the_queue_is_bounded_and_nothing_is_lost_when_it_is_full(kafka: Kafka) -> None:
    settings = kafka.ready(ingest__queue_max_bytes=1024 * 1024, topics__partitions=1)
    channel = Channel(channel=0, role="mixed", sample_rate_hz=16000, encoding="pcm_s16le")
    feed = Feed(CallDescription(call_id="big", channels=(channel,), capture_start_ms=0, record_seconds=2.0))
    producer = AudioProducer(settings)
    delivery = producer.delivery()
    block = bytes(64000)
    for record in feed.start():
        delivery.send(record)
    for _ in range(200):  # 12.8 MB through a queue of 1 MB
        for record in feed.push([block]):
            delivery.send(record)
    for record in feed.end():
        delivery.send(record)
    delivery.wait()
    producer.close()
    found = records(settings, "big")
    assert [record.sequence for record in found if record.channel == 0] == list(range(200))
    assert found[-1].kind == "ended"

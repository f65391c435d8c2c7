"""The README's consumer, run as it stands, against a real broker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas.codec import Codec
from schemas.records import CallSegment, Ended, Segment
from tests.integration.conftest import Kafka

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


def envelope(kind: str, **body: object) -> bytes:
    record = CallSegment(
        call_id="c1",
        kind=kind,
        channel=0 if kind == "segment" else -1,
        sequence=0,
        start_sample=4000,
        sample_rate_hz=8000,
        capture_time_ms=0,
        **body,  # type: ignore[arg-type]
    )
    return Codec().encode(record)


def test_the_consumer_prints_segments_ends_and_what_it_cannot_read(kafka: Kafka, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    script = tmp_path / "segments.py"
    script.write_text(program, encoding="utf-8")
    kafka.topics("callscribe")
    segment = Segment(
        segment_id="c1/0/4000",
        revision=0,
        end_sample=8000,
        role="agent",
        speaker="agent",
        text="Thank you.",
        language="en",
        model="demo@0",
        policy="alignatt",
        words=(),
    )
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    ended = envelope("ended", ended=Ended(reason="completed", end_samples={"0": 8000}))
    for value in (b"no record", envelope("segment", segment=segment), ended):
        producer.produce("callscribe.call.segments.v1", key="c1", value=value)
    assert producer.flush(20) == 0

    command = [sys.executable, str(script), kafka.bootstrap_servers]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "c1    0.50 agent: Thank you.\n"
            assert process.stdout.readline() == "c1 has ended\n"
            assert "offset 0: the value is not Avro" in process.stderr.readline()
        finally:
            process.terminate()

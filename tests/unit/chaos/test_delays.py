from __future__ import annotations

from dataclasses import dataclass

from pipeline.chaos.delays import delays_of
from schemas.codec import Codec
from schemas.records import CallAnnotation, Word, Words


@dataclass(frozen=True)
class Written:
    """A record as the broker has it."""

    content: bytes
    at_ms: int

    def value(self) -> bytes:
        return self.content

    def timestamp(self) -> tuple[int, int]:
        return 2, self.at_ms


def words(sequence: int, *ends: int) -> bytes:
    found = tuple(Word(text="w", start_sample=end - 100, end_sample=end, probability=1.0) for end in ends)
    body = Words(utterance=0, is_last=False, watermark_sample=ends[-1], words=found, model="m", policy="p")
    return Codec().encode(
        CallAnnotation(
            call_id="c1",
            stage="asr",
            kind="words",
            channel=0,
            sequence=sequence,
            start_sample=8000,
            sample_rate_hz=8000,
            capture_time_ms=1000,
            words=body,
        )
    )


def test_a_word_is_as_late_as_the_first_record_that_has_it() -> None:
    log = [
        Written(words(0, 16_000), 2500),
        Written(b"no avro", 2600),
        Written(words(1, 16_000, 24_000), 4000),
        Written(words(0, 16_000), 9000),  # written again after a restart
    ]
    assert delays_of(log) == [0.5, 2.0, 1.0]  # type: ignore[arg-type]

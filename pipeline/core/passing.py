"""Records on their way through a flow: what is refused, what is copied, what stands for a missing one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from pipeline.core.contract import Draft
from pipeline.core.entries import LaneEntry
from pipeline.core.errors import PoisonError
from pipeline.core.ids import CALL_CHANNEL
from schemas.records import Ended, Gap, Started

LARGEST = 2**48
# Between two records of a lane: longer than a feed may pause, and than any topic keeps what it cuts.
FARTHEST_SECONDS = 7 * 24 * 3600
# Above any number of skips (`pipeline.core.entries.OVERTAKEN`) and of records that were lost.
FARTHEST_SEQUENCES = 100_000_000
CRASHED = "decoder_crash"  # reason of a loss: a model did not survive the samples
MISSING = "missing_records"  # reason of a gap: records never came
DELETED = "deleted_records"  # reason of a gap: the topic did not keep the records until they were read
# Sub-records of the envelopes: what every one of them has is passed on, the rest is a stage's own.
SHARED = ("started", "settings", "hold", "dtmf", "transfer", "gap", "interrupted", "degraded", "ended")
OWN = ("audio", "speech", "words", "turns", "tail", "segment", "speakers", "coverage")


def control_rate(started: Started) -> int:
    """Return the rate at which channel -1 counts samples: the highest of the channels'."""
    return max(channel.sample_rate_hz for channel in started.channels)


def check_channels(started: Started) -> None:
    """Refuse a start whose channels no stage could work with. Raises PoisonError."""
    if not started.channels or [channel.channel for channel in started.channels] != list(range(len(started.channels))):
        raise PoisonError("a started record lists its channels from 0 without holes")
    for channel in started.channels:
        if channel.sample_rate_hz not in (8000, 16000):
            raise PoisonError(
                f"channel {channel.channel} has {channel.sample_rate_hz} Hz; 8000 and 16000 are supported"
            )


def writer_of(record: Any, writers: Sequence[str], clocks: Sequence[str]) -> str:
    """Return which of the ``writers`` has written the record, or of the ``clocks`` what those may say. Raises PoisonError."""
    writer: str = getattr(record, "stage", writers[0])
    if writer not in writers and not (writer in clocks and record.kind == "interrupted"):
        raise PoisonError(f"{writer!r} is not a writer of this topic")
    return writer


def check_control_rate(record: Any, started: Started) -> None:
    """Refuse a control record that counts samples at another rate than the call's. Raises PoisonError."""
    if started.channels and record.sample_rate_hz != (rate := control_rate(started)):
        raise PoisonError(f"control records of this call count samples at {rate} Hz, not {record.sample_rate_hz}")


def check_key(record: Any, call_id: str) -> None:
    """Refuse a record that stands under the key of another call. Raises PoisonError."""
    if record.call_id != call_id:
        raise PoisonError("the record's call_id is not its key")


def check_numbers(record: Any) -> None:
    """Refuse numbers that would not survive arithmetic. Raises PoisonError."""
    values = {
        "start_sample": record.start_sample,
        "sequence": record.sequence,
        "capture_time_ms": record.capture_time_ms,
    }
    if record.gap is not None:
        values["gap.end_sample"] = record.gap.end_sample
    for name, value in values.items():
        if not 0 <= value < LARGEST:
            raise PoisonError(f"{name} of the record is {value}; 0 to 2^48 is accepted")


def check_lane(record: Any, lane: LaneEntry[Any] | None, *, channels: int) -> None:
    """Refuse a record of a channel that the call has not, or at another rate. Raises PoisonError."""
    if lane is None:
        raise PoisonError(f"channel {record.channel} is not one of the call's {channels}")
    if record.sample_rate_hz != lane.rate:
        raise PoisonError(
            f"channel {record.channel} counts samples at {lane.rate} Hz, the record at {record.sample_rate_hz} Hz"
        )


def check_reach(record: Any, anchor: tuple[int, int] | None) -> None:
    """Refuse a record far behind ``anchor``, the lane's last (sample, ms since the epoch). Raises PoisonError."""
    end = record.start_sample if record.gap is None else max(record.start_sample, record.gap.end_sample)
    if end > (anchor[0] if anchor else 0) + FARTHEST_SECONDS * record.sample_rate_hz:
        raise PoisonError(f"the record reaches to sample {end}, more than a week behind its predecessor")


def check_sequence(record: Any, expected: int) -> None:
    """Refuse a record so far ahead that every honest one behind it would be taken for a repeat. Raises PoisonError."""
    if record.sequence > expected + FARTHEST_SEQUENCES:
        raise PoisonError(f"sequence {record.sequence} came where {expected} was due")


def not_started(record: Any, first_offset: int) -> PoisonError:
    """Return the error of a record of a call without a start; the input holds records from ``first_offset`` on."""
    cause = "; retention may have deleted its start" if first_offset > 0 else ""
    return PoisonError(
        f"the call has not started: a {record.kind} record of channel {record.channel} came first{cause}"
    )


def is_own_degraded(record: Any, writer: str) -> bool:
    """Return whether a writer that is not authoritative says that it rejected a record itself."""
    return record.degraded is not None and record.degraded.stage == writer


def copy_of(record: Any) -> Draft:
    """Return the draft that passes ``record`` on, with the sub-records every envelope has."""
    body = {name: getattr(record, name) for name in SHARED if getattr(record, name) is not None}
    return Draft(kind=record.kind, start_sample=record.start_sample, body=body)


def gap_before(record: Any, start: int, *, is_overtaken: bool) -> Any:
    """Return the gap record that stands for the records missing before ``record``, from ``start`` at the earliest."""
    gap = Gap(end_sample=record.start_sample, reason=DELETED if is_overtaken else MISSING)
    return _bare(record, kind="gap", start_sample=min(start, record.start_sample), gap=gap)


def gap_to_end(record: Any, lane: LaneEntry[Any], writer: str) -> Any | None:
    """Return the gap record of a lane that may have been deleted up to the end of the call, which is ``record``; None where it was not.

    What of it the lane has read is no gap: that the stage's logic knows.
    """
    end = 0 if record.ended is None else record.ended.end_samples.get(str(lane.channel), 0)
    if writer not in lane.overtaken or end <= lane.sample:
        return None
    gap = Gap(end_sample=end, reason=DELETED)
    place = {"channel": lane.channel, "sample_rate_hz": lane.rate, "start_sample": lane.sample}
    return _bare(record, kind="gap", gap=gap, **place)


def end_for(
    writer: str,
    reads: type[Any],
    call_id: str,
    lanes: Mapping[int, LaneEntry[Any]],
    *,
    end_samples: Mapping[int, int],
    reason: str,
) -> Any:
    """Return the end of a call as ``writer`` would have written it in the envelope ``reads``; ``end_samples`` by leg.

    An end that no record could reach (`check_reach`) counts as far as one could.
    """
    control = lanes[CALL_CHANNEL]
    ends = {
        channel: min(end, lanes[channel].sample + FARTHEST_SECONDS * lanes[channel].rate)
        for channel, end in sorted(end_samples.items())
        if channel in lanes and channel != CALL_CHANNEL
    }
    sample = max([control.sample, *(-(-end * control.rate // lanes[channel].rate) for channel, end in ends.items())])
    names = {field.name for field in fields(reads)}
    return reads(
        call_id=call_id,
        kind="ended",
        channel=CALL_CHANNEL,
        sequence=control.next_control.get(writer, 0),
        start_sample=sample,
        sample_rate_hz=control.rate,
        capture_time_ms=control.capture_time_ms(sample),
        ended=Ended(reason=reason, end_samples={str(channel): end for channel, end in ends.items()}),
        **({"stage": writer} if "stage" in names else {}),
    )


def is_start(record: Any) -> bool:
    """Return whether the record starts its call."""
    return bool(record.channel == CALL_CHANNEL and record.kind == "started")


def start_before(record: Any, started: Started) -> Any:
    """Return the record that stands for the deleted start of the call of ``record``. Its time is told by that record's."""
    elapsed_ms = record.start_sample * 1000 // record.sample_rate_hz if record.sample_rate_hz > 0 else 0
    return _bare(
        record,
        kind="started",
        channel=CALL_CHANNEL,
        sequence=0,
        start_sample=0,
        sample_rate_hz=control_rate(started),
        capture_time_ms=max(0, record.capture_time_ms - elapsed_ms),
        started=started,
    )


def _bare(record: Any, **fields: Any) -> Any:
    """Return ``record`` with no sub-records but those of ``fields``, and these."""
    blank = {name: None for name in (*SHARED, *OWN) if hasattr(record, name)}
    return replace(record, **(blank | fields))

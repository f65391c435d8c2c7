"""The records of a call follow from its audio and its control records alone, never from how the audio arrived."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.chunks import SAMPLE_BYTES, CallDescription, Control, Feed
from schemas.records import CallAudio, Channel, Hold

KINDS = ("hold", "pause", "resume", "commit")

legs = st.sampled_from([("mulaw", 8000), ("alaw", 8000), ("pcm_s16le", 8000), ("pcm_s16le", 16000)])
cuts = st.lists(st.integers(0, 900), max_size=12)


def run(
    channels: tuple[Channel, ...], audio: list[bytes], controls: list[tuple[int, str]], sizes: list[int], seconds: float
) -> list[CallAudio]:
    """Feed ``audio`` in blocks that end at ``sizes`` and at the control records."""
    clock = min(channel.sample_rate_hz for channel in channels)
    widths = [SAMPLE_BYTES[c.encoding] * c.sample_rate_hz // clock for c in channels]
    length = len(audio[0]) // widths[0]
    feed = Feed(CallDescription(call_id="c", channels=channels, capture_start_ms=5, record_seconds=seconds))
    records = feed.start()
    is_paused = False
    waiting = sorted(controls)
    for end in sorted({*(size % (length + 1) for size in sizes), *(at for at, _ in waiting), length}):
        start = feed.position
        records += feed.push([data[start * width : end * width] for data, width in zip(audio, widths, strict=True)])
        while waiting and waiting[0][0] == end:
            kind = waiting.pop(0)[1]
            if kind in ("pause", "resume"):
                if (kind == "pause") == is_paused:
                    continue
                is_paused = kind == "pause"
            records += feed.control(Control(kind=kind, body=Hold(active=True) if kind == "hold" else None))
    return records + feed.end()


@given(data=st.data(), kinds=st.lists(legs, min_size=1, max_size=3), sizes=cuts, others=cuts)
def test_block_sizes_never_show(
    data: st.DataObject, kinds: list[tuple[str, int]], sizes: list[int], others: list[int]
) -> None:
    channels = tuple(
        Channel(
            channel=index,
            role="agent",
            sample_rate_hz=rate,
            encoding=encoding,
            offset_samples=data.draw(st.integers(0, 500)),
        )
        for index, (encoding, rate) in enumerate(kinds)
    )
    clock = min(rate for _, rate in kinds)
    length = data.draw(st.integers(0, 900))
    seconds = data.draw(st.sampled_from([0.02, 0.025, 0.0301]))
    audio = [
        bytes((7 * index + position) % 251 for position in range(length * rate // clock * SAMPLE_BYTES[encoding]))
        for index, (encoding, rate) in enumerate(kinds)
    ]
    controls = data.draw(st.lists(st.tuples(st.integers(0, length), st.sampled_from(KINDS)), max_size=5))

    records = run(channels, audio, controls, sizes, seconds)

    assert records == run(channels, audio, controls, others, seconds)
    _check_sequences(records)
    _check_positions(records, channels, audio, controls)


def _check_sequences(records: list[CallAudio]) -> None:
    for channel in {record.channel for record in records}:
        sequences = [record.sequence for record in records if record.channel == channel]
        assert sequences == list(range(len(sequences)))
    assert (records[0].kind, records[-1].kind) == ("started", "ended")
    times = [record.start_sample / record.sample_rate_hz for record in records[:-1]]
    joined = [time for time, record in zip(times, records, strict=False) if record.channel == 0]
    assert joined == sorted(joined)


def _check_positions(
    records: list[CallAudio], channels: tuple[Channel, ...], audio: list[bytes], controls: list[tuple[int, str]]
) -> None:
    """Every record holds the samples its position says; without pauses all samples after the offset are there."""
    for channel, data in zip(channels, audio, strict=True):
        width = SAMPLE_BYTES[channel.encoding]
        found = b""
        for record in records:
            if record.channel == channel.channel and record.audio is not None:
                start = record.start_sample * width
                assert record.audio.data
                assert data[start : start + len(record.audio.data)] == record.audio.data
                found += record.audio.data
        if all(kind not in ("pause", "resume") for _, kind in controls):
            assert found == data[channel.offset_samples * width :]

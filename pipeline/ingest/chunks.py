"""Blocks of samples become the records of call.audio: a pure transformation with the sample position as its only clock.

The records of a call depend on its audio and on where its control records stand, never on the sizes of the blocks it
arrived in: audio is cut on an absolute grid of ``record_seconds`` and at the positions of control records. Feeding the
same audio again therefore gives the same records with the same sequences, which every stage drops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.feeds import Place
from pipeline.core.ids import CALL_CHANNEL
from schemas.records import (
    Audio,
    CallAudio,
    Channel,
    Dtmf,
    Ended,
    Hold,
    Interrupted,
    Settings,
    Started,
    Transfer,
)

BASE_RATE_HZ = 8_000  # every rate of call.audio is a multiple of it
SAMPLE_BYTES = {"mulaw": 1, "alaw": 1, "pcm_s16le": 2}
BODIES: Mapping[str, type[Any] | None] = {
    "settings": Settings,
    "hold": Hold,
    "dtmf": Dtmf,
    "transfer": Transfer,
    "pause": None,
    "resume": None,
    "commit": None,
    "clear": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDescription:
    """What is known of a call when it starts.

    ``channels`` are the legs by ascending index without holes. ``capture_start_ms`` is the wall-clock time of sample 0.
    ``next_control`` is the sequence an interrupted call goes on with on the control channel; 0 for a new call. ``begins_at`` is where its
    audio goes on when what was fed before cannot be read again; what is fed from the start has none.
    """

    call_id: str
    channels: tuple[Channel, ...]
    capture_start_ms: int
    record_seconds: float = 0.2
    feed_epoch: int = 1
    next_control: int = 0
    begins_at: Place | None = None
    tenant: str | None = None
    prompt: str | None = None
    hot_words: tuple[str, ...] = ()
    model: str | None = None
    policy: str | None = None
    task: str | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def started(self) -> Started:
        """Return what the first record of the call says."""
        return Started(
            channels=self.channels,
            tenant=self.tenant,
            prompt=self.prompt,
            hot_words=self.hot_words,
            model=self.model,
            policy=self.policy,
            task=self.task,
            min_speakers=self.min_speakers,
            max_speakers=self.max_speakers,
            attributes=dict(self.attributes),
        )

    @property
    def clock_hz(self) -> int:
        """Return the rate every channel's rate is a multiple of: the lowest."""
        return min(channel.sample_rate_hz for channel in self.channels)

    @property
    def control_rate_hz(self) -> int:
        """Return the rate of positions in records of the whole call: that of its channels, else the highest."""
        return max(channel.sample_rate_hz for channel in self.channels)

    @property
    def start(self) -> int:
        """Return where the audio of this feed begins, in samples at ``clock_hz``: behind the end of every leg."""
        ends = {} if self.begins_at is None else self.begins_at.end_samples
        return max(
            -(-ends.get(channel.channel, 0) * self.clock_hz // channel.sample_rate_hz) for channel in self.channels
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A control record of the call; ``body`` is the sub-record of its kind, None for the kinds without one."""

    kind: str
    body: Settings | Hold | Dtmf | Transfer | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown kind or a body that is not of this kind."""
        if self.kind not in BODIES:
            raise ValueError(f"{self.kind!r} is not a control kind of a feed ({', '.join(BODIES)})")
        expected = BODIES[self.kind]
        if not isinstance(self.body, expected or type(None)):
            raise ValueError(
                f"a {self.kind} record needs {'no body' if expected is None else 'a body: ' + expected.__name__}"
            )


class Feed:
    """One call on its way into call.audio. Calls return the records that are complete, in order.

    ``start`` first, then ``push`` and ``control`` as the call goes, then ``end`` or ``interrupt``. All channels are
    pushed together and span the same time, so they stay interleaved in time order. A leg that joins late
    (``offset_samples``) is pushed like the others; what lies before its offset is left out.
    """

    def __init__(self, call: CallDescription, *, is_paused: bool = False) -> None:
        """Raise ValueError when the channels are not what call.audio carries. ``is_paused``: where it ``begins_at``."""
        _check_channels(call.channels)
        self._call = call
        self._ratios = tuple(channel.sample_rate_hz // call.clock_hz for channel in call.channels)
        self._widths = tuple(SAMPLE_BYTES[channel.encoding] for channel in call.channels)
        self._grid = max(round(call.record_seconds * BASE_RATE_HZ), 1) * (call.clock_hz // BASE_RATE_HZ)
        self._pending = [bytearray() for _ in call.channels]
        self._cut = self._position = call.start  # everything below is in records, or was paused
        used = {} if call.begins_at is None else call.begins_at.next_sequence
        self._sequences = {channel.channel: used.get(channel.channel, 0) for channel in call.channels} | {
            CALL_CHANNEL: 0
        }
        self._is_paused = is_paused
        self._is_open: bool | None = None  # None: not started

    @property
    def position(self) -> int:
        """Return the end of the audio so far, in samples at ``CallDescription.clock_hz``."""
        return self._position

    @property
    def next_sequence(self) -> dict[str, int]:
        """Return the next sequence by channel index as text, as `schemas.records.CallState` holds it."""
        return {str(channel): sequence for channel, sequence in self._sequences.items()}

    def start(self) -> list[CallAudio]:
        """Return the first record of the call; for an interrupted call that goes on, also that it is resumed."""
        if self._is_open is not None:
            raise ValueError("the feed has started")
        self._is_open = True
        records = [self._control("started", 0, started=self._call.started)]
        if self._call.next_control > 0:
            self._sequences[CALL_CHANNEL] = self._call.next_control
            if self._call.begins_at is None:  # else it was said when the feed asked where it begins
                records.append(self._control("resumed", 0))
        return records

    def push(self, blocks: Sequence[bytes]) -> list[CallAudio]:
        """Take the next samples, one block per channel over the same time. Raises ValueError when they are not."""
        self._require_open()
        spans = {
            len(block) / (width * ratio) for block, width, ratio in zip(blocks, self._widths, self._ratios, strict=True)
        }
        span = spans.pop()
        if spans or span != int(span):
            raise ValueError("the blocks of a push must span the same time in every channel")
        self._position += int(span)
        if self._is_paused:
            self._cut = self._position
            return []
        for pending, block in zip(self._pending, blocks, strict=True):
            pending += block
        return list(self._cut_up_to(self._position - self._position % self._grid))

    def control(self, control: Control) -> list[CallAudio]:
        """Put a control record at the present position; the audio before it comes first.

        Raises ValueError for a pause while paused, or a resume while not.
        """
        self._require_open()
        if control.kind in ("pause", "resume") and (control.kind == "pause") == self._is_paused:
            raise ValueError(f"a {control.kind} where the call is {'' if self._is_paused else 'not '}paused")
        records = list(self._cut_up_to(self._position))
        body = {} if control.body is None else {control.kind: control.body}
        records.append(self._control(control.kind, self._position, **body))
        if control.kind in ("pause", "resume"):
            self._is_paused = control.kind == "pause"
        return records

    def end(self, reason: str = "completed") -> list[CallAudio]:
        """Return the rest of the audio and the last record of the call."""
        self._require_open()
        records = list(self._cut_up_to(self._position))
        ends = {
            str(channel.channel): self._position * ratio
            for channel, ratio in zip(self._call.channels, self._ratios, strict=True)
        }
        records.append(self._control("ended", self._position, ended=Ended(reason=reason, end_samples=ends)))
        self._is_open = False
        return records

    def flush(self) -> list[CallAudio]:
        """Return the audio that does not fill a record: what cannot be read again must not be left out."""
        self._require_open()
        return list(self._cut_up_to(self._position))

    def interrupt(self, reason: str) -> list[CallAudio]:
        """Return the record that says the feed vanished.

        Audio that does not fill a record is left out, so that the call goes on from exactly here when it is fed again.
        """
        self._require_open()
        self._is_open = False
        return [self._control("interrupted", self._cut, interrupted=Interrupted(reason=reason))]

    def _require_open(self) -> None:
        if not self._is_open:
            raise ValueError("the feed has ended" if self._is_open is False else "the feed has not started")

    def _cut_up_to(self, end: int) -> Iterator[CallAudio]:
        """Yield the records of [cut, end), slot by slot, channel by channel."""
        first = self._cut
        while self._cut < end:
            boundary = min((self._cut // self._grid + 1) * self._grid, end)
            for index, channel in enumerate(self._call.channels):
                ratio, width = self._ratios[index], self._widths[index]
                start = max(self._cut * ratio, channel.offset_samples)
                stop = boundary * ratio
                if start < stop:
                    base = first * ratio
                    data = bytes(self._pending[index][(start - base) * width : (stop - base) * width])
                    audio = Audio(encoding=channel.encoding, data=data)
                    yield self._record("audio", channel.channel, start, channel.sample_rate_hz, audio=audio)
            self._cut = boundary
        for pending, ratio, width in zip(self._pending, self._ratios, self._widths, strict=True):
            del pending[: (self._cut - first) * ratio * width]

    def _control(self, kind: str, position: int, **body: Any) -> CallAudio:
        rate = self._call.control_rate_hz
        return self._record(kind, CALL_CHANNEL, position * (rate // self._call.clock_hz), rate, **body)

    def _record(self, kind: str, channel: int, start_sample: int, rate: int, **body: Any) -> CallAudio:
        sequence = self._sequences[channel]
        self._sequences[channel] = sequence + 1
        return CallAudio(
            call_id=self._call.call_id,
            kind=kind,
            channel=channel,
            sequence=sequence,
            start_sample=start_sample,
            sample_rate_hz=rate,
            capture_time_ms=self._call.capture_start_ms + start_sample * 1000 // rate,
            feed_epoch=self._call.feed_epoch,
            **body,
        )


def _check_channels(channels: Sequence[Channel]) -> None:
    if [channel.channel for channel in channels] != list(range(len(channels))) or not channels:
        raise ValueError("the channels of a call are 0, 1, ... without holes")
    for channel in channels:
        rates = (8_000,) if channel.encoding in ("mulaw", "alaw") else (8_000, 16_000)
        if channel.encoding not in SAMPLE_BYTES or channel.sample_rate_hz not in rates:
            raise ValueError(
                f"channel {channel.channel}: {channel.encoding} at {channel.sample_rate_hz} Hz is not carried"
            )

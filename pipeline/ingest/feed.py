"""One source becomes one call: decode, cut into records, pace, hand each record on.

`records` is the part without Kafka and without a clock; ``callscribe replay`` runs on it. `feed_call` adds pacing,
delivery and what happens when the source or the operator breaks off: a call that was not read to its end is
``interrupted``, never ``ended``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from pipeline.core.errors import InputError
from pipeline.core.feeds import Place
from pipeline.core.ids import CALL_CHANNEL
from pipeline.ingest.chunks import SAMPLE_BYTES, CallDescription, Control, Feed
from pipeline.ingest.decode import AudioSource, DamagedAudioError
from pipeline.ingest.pacing import FeedStopped, Pace
from schemas.records import CallAudio, Channel, Interrupted

STEREO_ROLES = ("agent", "customer")

Outcome = Literal["ended", "interrupted", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedControl:
    """A control record and where it belongs, in seconds from the start of the call."""

    at_seconds: float
    control: Control


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedOptions:
    """What the operator says about the calls of one command."""

    roles: Mapping[int, str] = field(default_factory=dict)
    language: str | None = None
    prompt: str | None = None
    hot_words: tuple[str, ...] = ()
    model: str | None = None
    policy: str | None = None
    task: str | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None
    controls: tuple[TimedControl, ...] = ()
    record_seconds: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class FedCall:
    """What became of one source. ``call_id`` is None where nothing of it was produced."""

    source: str
    outcome: Outcome
    call_id: str | None = None
    reason: str | None = None
    channels: int = 0
    duration_seconds: float = 0.0
    records: int = 0
    audio_bytes: int = 0


class Delivery(Protocol):
    """Where the records of one call go."""

    def send(self, record: CallAudio) -> None:
        """Hand over a record; may wait for room. Raises when an earlier one could not be delivered."""

    def wait(self) -> None:
        """Return when every record is acknowledged. Raises when one was not."""


def default_role(channel: int, channels: int) -> str:
    """Return who is on a leg that no option names.

    >>> default_role(0, 1), default_role(1, 2), default_role(2, 3)
    ('mixed', 'customer', 'channel3')
    """
    if channels == 1:
        return "mixed"
    return STEREO_ROLES[channel] if channels == 2 else f"channel{channel + 1}"


def check_roles(source: AudioSource, options: FeedOptions) -> None:
    """Raise InputError when a role names a channel the source has not."""
    for channel in options.roles:
        if not 0 <= channel < source.channels:
            raise InputError(source.name, f"has {source.channels} channel(s), a role names channel {channel}")


def describe(
    source: AudioSource,
    options: FeedOptions,
    *,
    call_id: str,
    capture_start_ms: int,
    feed_epoch: int = 1,
    next_control: int = 0,
    begins_at: Place | None = None,
) -> CallDescription:
    """Return the description of the call a source becomes. Raises InputError when a role names a channel it has not."""
    check_roles(source, options)
    channels = tuple(
        Channel(
            channel=channel,
            role=options.roles.get(channel, default_role(channel, source.channels)),
            sample_rate_hz=source.sample_rate_hz,
            encoding=source.encoding,
            language=options.language,
        )
        for channel in range(source.channels)
    )
    return CallDescription(
        call_id=call_id,
        channels=channels,
        capture_start_ms=capture_start_ms,
        record_seconds=options.record_seconds,
        feed_epoch=feed_epoch,
        next_control=next_control,
        begins_at=begins_at,
        tenant=options.tenant,
        prompt=options.prompt,
        hot_words=options.hot_words,
        model=options.model,
        policy=options.policy,
        task=options.task,
        min_speakers=options.min_speakers,
        max_speakers=options.max_speakers,
        attributes=options.attributes,
    )


def records(
    source: AudioSource,
    options: FeedOptions,
    *,
    call_id: str,
    capture_start_ms: int,
    feed_epoch: int = 1,
    next_control: int = 0,
    begins_at: Place | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[CallAudio]:
    """Yield the records of a call, from ``started`` to ``ended``.

    Raises InputError before the first record when an option does not fit the source. When the audio breaks off, yields
    ``interrupted`` and raises DamagedAudioError; when a source that cannot be read again ends because the feed ``is_stopped``,
    FeedStopped.
    """
    call = describe(
        source,
        options,
        call_id=call_id,
        capture_start_ms=capture_start_ms,
        feed_epoch=feed_epoch,
        next_control=next_control,
        begins_at=begins_at,
    )
    said, waiting = _controls_around(call.start, call.clock_hz, options.controls)
    feed = Feed(call, is_paused=bool(said) and said[-1].control.kind == "pause")
    yield from feed.start()
    try:
        yield from _audio(feed, source, waiting, clock_hz=call.clock_hz)
        if begins_at is not None and is_stopped():
            raise FeedStopped
    except (DamagedAudioError, FeedStopped) as error:
        if begins_at is not None:
            yield from feed.flush()
        yield from feed.interrupt("stopped" if isinstance(error, FeedStopped) else "damaged")
        raise
    for timed in waiting:  # behind the end of the audio
        yield from feed.control(timed.control)
    yield from feed.end()


def _controls_around(
    start: int, clock_hz: int, controls: tuple[TimedControl, ...]
) -> tuple[list[TimedControl], list[TimedControl]]:
    """Return the pauses and resumes before ``start``, which an earlier feed has sent, and all controls from there on, in their order."""
    ordered = sorted(controls, key=lambda timed: timed.at_seconds)
    waiting = [timed for timed in ordered if round(timed.at_seconds * clock_hz) >= start]
    said = ordered[: len(ordered) - len(waiting)]
    return [timed for timed in said if timed.control.kind in ("pause", "resume")], waiting


def _audio(feed: Feed, source: AudioSource, waiting: list[TimedControl], *, clock_hz: int) -> Iterator[CallAudio]:
    """Yield audio and control records; a block is split where a control record belongs. Takes from ``waiting`` what it yields."""
    width = SAMPLE_BYTES[source.encoding]
    for blocks in source.blocks():
        while waiting and (at := round(waiting[0].at_seconds * clock_hz)) <= feed.position + len(blocks[0]) // width:
            cut = (at - feed.position) * width
            yield from feed.push([block[:cut] for block in blocks])
            yield from feed.control(waiting.pop(0).control)
            blocks = tuple(block[cut:] for block in blocks)
        yield from feed.push(blocks)


def feed_call(
    source: AudioSource,
    options: FeedOptions,
    *,
    call_id: str,
    delivery: Delivery,
    pace: Pace,
    capture_start_ms: int,
    feed_epoch: int = 1,
    next_control: int = 0,
    begins_at: Place | None = None,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> tuple[FedCall, Place]:
    """Feed an open source as one call, and return when every record is acknowledged.

    Returns what became of it and where it has left the call. ``on_progress`` hears the seconds of audio produced.
    Damage and a stop (`Pace`) end the call as ``interrupted``. What was read of a source that cannot be read again, which has a place
    where it ``begins_at``, is fed first. Raises what ``delivery`` raises, and InputError when an option does not fit the source; nothing
    was produced then.
    """
    sent = _Sent.since(begins_at or Place(), source)
    begin = sent.seconds
    reason = None
    stream = records(
        source,
        options,
        call_id=call_id,
        capture_start_ms=capture_start_ms,
        feed_epoch=feed_epoch,
        next_control=next_control,
        begins_at=begins_at,
        is_stopped=pace.is_stopped,
    )
    try:
        for record in stream:
            try:  # as a live feed: audio when its last sample has been captured
                pace.wait(max(_end_seconds(record) - begin, 0.0))
            except FeedStopped:
                if begins_at is None:
                    raise
            delivery.send(record)
            sent.count(record)
            on_progress(sent.seconds)
    except DamagedAudioError as error:
        reason = error.reason
    except FeedStopped:
        reason = "stopped"
        if begins_at is None and sent.last is not None:
            record = sent.interruption("stopped")
            delivery.send(record)
            sent.count(record)
    delivery.wait()
    fed = FedCall(
        source=source.name,
        outcome="ended" if reason is None else "interrupted",
        call_id=call_id,
        reason=reason,
        channels=source.channels,
        duration_seconds=round(sent.seconds, 3),
        records=sent.records,
        audio_bytes=sent.audio_bytes,
    )
    return fed, Place(next_sequence=sent.next_sequence, end_samples=sent.end_samples)


@dataclass(slots=True)
class _Sent:
    """What of a call has been handed over."""

    records: int = 0
    audio_bytes: int = 0
    seconds: float = 0.0
    last: CallAudio | None = None
    control: CallAudio | None = None
    next_sequence: dict[int, int] = field(default_factory=dict)
    end_samples: dict[int, int] = field(default_factory=dict)

    @classmethod
    def since(cls, place: Place, source: AudioSource) -> _Sent:
        """Return what had been handed over where a feed of ``source`` begins."""
        legs = dict.fromkeys(range(source.channels), 0)
        ends = legs | dict(place.end_samples)
        return cls(
            seconds=max(ends.values()) / source.sample_rate_hz,
            next_sequence=legs | dict(place.next_sequence),
            end_samples=ends,
        )

    def count(self, record: CallAudio) -> None:
        self.records += 1
        self.next_sequence[record.channel] = record.sequence + 1
        self.seconds = max(self.seconds, _end_seconds(record))
        self.last = record
        if record.channel == CALL_CHANNEL:
            self.control = record
        if record.audio is not None:
            self.audio_bytes += len(record.audio.data)
            self.end_samples[record.channel] = _end_sample(record)

    def interruption(self, reason: str) -> CallAudio:
        """Return the record that says the feed stopped here."""
        assert self.control is not None  # started is the first record of every call
        rate = self.control.sample_rate_hz
        position = round(self.seconds * rate)
        return replace(
            self.control,
            kind="interrupted",
            sequence=self.next_sequence[CALL_CHANNEL],
            start_sample=position,
            capture_time_ms=self.control.capture_time_ms + (position - self.control.start_sample) * 1000 // rate,
            started=None,
            settings=None,
            hold=None,
            dtmf=None,
            transfer=None,
            interrupted=Interrupted(reason=reason),
        )


def _end_sample(record: CallAudio) -> int:
    samples = 0 if record.audio is None else len(record.audio.data) // SAMPLE_BYTES[record.audio.encoding]
    return record.start_sample + samples


def _end_seconds(record: CallAudio) -> float:
    return _end_sample(record) / record.sample_rate_hz

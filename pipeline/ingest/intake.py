"""Sources in, calls out: opens each source, gives it a call id, feeds it, and goes on when one is refused."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.core.errors import CallRefusedError, InputError
from pipeline.core.feeds import Grant, Place
from pipeline.core.ids import CALL_CHANNEL
from pipeline.ingest.chunks import Feed
from pipeline.ingest.decode import AudioSource
from pipeline.ingest.feed import Delivery, FedCall, FeedOptions, describe, feed_call
from pipeline.ingest.formats import RawFormat
from pipeline.ingest.pacing import FeedStopped, Pace, Speed
from pipeline.ingest.sources import Source
from schemas.records import Started

MAX_CONCURRENT_CALLS = 128  # of --speed real: one thread and one open file each
STOP_SECONDS = 10.0


class Outlet(Protocol):
    """Where calls go: audio and call states on one broker."""

    def delivery(self) -> Delivery:
        """Return where the records of one call go."""

    def take(self, call_id: str, *, started: Started, is_new: bool, take_over: bool = False) -> Grant:
        """Take a call for this feed. A call that ``is_new`` is not looked up.

        Raises CallRefusedError when it is complete, or live and not to be taken over.
        """

    def place(self, call_id: str, grant: Grant, *, is_stopped: Callable[[], bool]) -> Place | None:
        """Return where the call goes on behind the first record of the feed of ``grant``; None when stopped before it was known."""

    def leave(self, call_id: str, *, state: str, feed_epoch: int, place: Place, started: Started) -> None:
        """Say where the call stands now: complete or interrupted."""

    def holds(self, call_id: str, grant: Grant) -> bool:
        """Return whether the feed of ``grant`` holds the call still."""

    def close(self) -> None:
        """Let go of the broker."""


class Listener(Protocol):
    """Hears how the feeds go; called from their threads, in the order of its methods."""

    def began(self, source: Source, call_id: str, duration_seconds: float | None) -> None:
        """Hear that ``source`` becomes ``call_id``."""

    def progressed(self, source: Source, seconds: float) -> None:
        """Hear that so many seconds of audio have been produced."""


class Silent:
    """A listener that shows nothing."""

    def began(self, source: Source, call_id: str, duration_seconds: float | None) -> None:
        """Hear nothing."""

    def progressed(self, source: Source, seconds: float) -> None:
        """Hear nothing."""


@dataclass(slots=True, kw_only=True)
class Intake:
    """Feeds one source after the other. One object serves all threads of a command.

    ``connect`` is called when the first source has proved usable, so that bad input is told without a broker.
    """

    options: FeedOptions
    raw: RawFormat | None
    speed: Speed
    max_channels: int
    new_call_id: Callable[[], str]
    connect: Callable[[], Outlet]
    listener: Listener
    call_id: str | None = None
    take_over: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    _outlet: Outlet | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, source: Source) -> FedCall:
        """Feed ``source`` as one call; a source that is refused is told in the result.

        Raises what ``connect`` and the outlet raise.
        """
        try:
            with source.open(raw=self.raw, max_channels=self.max_channels) as audio:
                started = describe(audio, self.options, call_id="", capture_start_ms=0).started
                outlet = self._connected()
                known_id = self.call_id or source.call_id
                call_id = known_id or self.new_call_id()
                is_ours = self.call_id is None and source.call_id is not None  # begun by an earlier run of this feed
                grant = outlet.take(
                    call_id,
                    started=started,
                    is_new=known_id is None,
                    take_over=self.take_over or is_ours,
                )
                self.listener.began(source, call_id, audio.duration_seconds)
                begins_at = None if source.is_repeatable else self._place(audio, outlet, call_id, grant)
                fed, place = feed_call(
                    audio,
                    self.options,
                    call_id=call_id,
                    delivery=outlet.delivery(),
                    pace=Pace(speed=self.speed, monotonic=time.monotonic, wait_stopped=self._wait_stopped),
                    capture_start_ms=_capture_start_ms(audio, begins_at),
                    feed_epoch=grant.feed_epoch,
                    next_control=grant.next_control
                    if begins_at is None
                    else begins_at.next_sequence.get(CALL_CHANNEL, 0),
                    begins_at=begins_at,
                    on_progress=lambda seconds: self.listener.progressed(source, seconds),
                )
        except InputError as error:
            return FedCall(source=error.source, outcome="refused", reason=error.reason)
        except CallRefusedError as error:
            return FedCall(source=source.name, outcome="refused", reason=str(error))
        except FeedStopped:
            return FedCall(source=source.name, outcome="interrupted", reason="stopped")
        # Whose call has a name that somebody else may know, or lives for long, asks whether it was taken over meanwhile.
        if (known_id is not None or self.speed == "real") and not outlet.holds(call_id, grant):
            reason = f"call {call_id} was taken over by another feed; what this one sent behind that is dropped"
            return FedCall(source=source.name, outcome="refused", call_id=call_id, reason=reason)
        state = "complete" if fed.outcome == "ended" else "interrupted"
        outlet.leave(call_id, state=state, feed_epoch=grant.feed_epoch, place=place, started=started)
        return fed

    def close(self) -> None:
        """Let go of the broker, if it was needed at all."""
        if self._outlet is not None:
            self._outlet.close()

    def _place(self, audio: AudioSource, outlet: Outlet, call_id: str, grant: Grant) -> Place:
        """Return where a feed that cannot begin again goes on; it says first that it is there, which makes void what others send later.

        Raises FeedStopped, and what the outlet raises.
        """
        if not grant.is_known:
            return Place()
        call = describe(
            audio,
            self.options,
            call_id=call_id,
            capture_start_ms=time.time_ns() // 1_000_000,
            feed_epoch=grant.feed_epoch,
            next_control=grant.next_control,
        )
        delivery = outlet.delivery()
        for record in Feed(call).start():
            delivery.send(record)
        delivery.wait()
        place = outlet.place(call_id, grant, is_stopped=self.stop.is_set)
        if place is None:
            raise FeedStopped
        return place

    def _connected(self) -> Outlet:
        with self._lock:
            if self._outlet is None:
                self._outlet = self.connect()
            return self._outlet

    def _wait_stopped(self, seconds: float) -> bool:
        return self.stop.wait(seconds) if seconds > 0 else self.stop.is_set()


def _capture_start_ms(audio: AudioSource, begins_at: Place | None) -> int:
    """Return the wall-clock time of sample 0, for audio whose first sample is captured now; ms since the epoch."""
    ends = {} if begins_at is None else begins_at.end_samples
    return time.time_ns() // 1_000_000 - max(ends.values(), default=0) * 1000 // audio.sample_rate_hz


def feed_all(
    sources: Iterable[Source], feed: Callable[[Source], FedCall], *, workers: int, stop: threading.Event
) -> Iterator[FedCall]:
    """Feed ``sources``, at most ``workers`` at a time, and yield each result as it comes.

    The first error of ``feed`` sets ``stop`` and is raised when the other feeds have stopped. So is an interrupt
    (KeyboardInterrupt, or the generator being closed).
    """
    results: queue.SimpleQueue[FedCall | BaseException | None] = queue.SimpleQueue()
    waiting = iter(sources)
    lock = threading.Lock()

    def work() -> None:
        try:
            while not stop.is_set():
                with lock:
                    source = next(waiting, None)
                if source is None:
                    break
                results.put(feed(source))
        except BaseException as error:
            stop.set()
            results.put(error)
        results.put(None)

    threads = [threading.Thread(target=work, name=f"feed-{index}", daemon=True) for index in range(workers)]
    for thread in threads:
        thread.start()
    failure: BaseException | None = None
    running = workers
    try:
        while running:
            result = results.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                failure = failure or result
            else:
                yield result
    finally:
        stop.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
    if failure is not None:
        raise failure

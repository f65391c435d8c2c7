"""Feeds of a run: every call in real time in a thread of its own, from feeds that may vanish and come again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import CallRefusedError, FailedError, NotReadyError
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import Delivery, FeedOptions, describe, feed_call
from pipeline.ingest.pacing import FeedStopped, Pace
from pipeline.runtime.call_state import CallOutlet
from pipeline.runtime.settings import Settings

if TYPE_CHECKING:
    from schemas.records import CallAudio

AGAIN_SECONDS = 1.0  # between two attempts while the broker is away


class _VanishedError(Exception):
    """The feed is gone without a word."""


@dataclass(slots=True)
class Feed:
    """One call: its file, when it starts, and what is to become of its feed."""

    call_id: str
    path: Path
    roles: Mapping[int, str]
    start_seconds: float
    vanishes: threading.Event = field(default_factory=threading.Event)
    away_seconds: float = 0.0
    is_done: bool = False


class Feeding:
    """Feeds every call to its end, whatever happens.

    A feed that vanished comes again from the start of its call. What was due by then comes at once, what the broker has already is a
    repeat, and from there on it goes on in real time: the call stays live for later faults.
    """

    def __init__(self, settings: Settings, feeds: list[Feed], say: Callable[[str], None]) -> None:
        self._settings = settings
        self._feeds = {feed.call_id: feed for feed in feeds}
        self._say = say
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._outlet: CallOutlet | None = CallOutlet(settings)
        self._threads = [
            threading.Thread(target=self._feed, args=(feed,), name=f"feed {feed.call_id}", daemon=True)
            for feed in feeds
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def vanish(self, call_id: str, seconds: float) -> None:
        """Have the feed of a call vanish, and come again after ``seconds``. Raises FailedError when it has ended."""
        feed = self._feeds[call_id]
        if feed.is_done:
            raise FailedError(f"call {call_id} is fed to its end already")
        feed.away_seconds = seconds
        feed.vanishes.set()

    @property
    def live(self) -> set[str]:
        """Return the calls that are still fed."""
        return {feed.call_id for feed in self._feeds.values() if not feed.is_done}

    def stop(self) -> None:
        """Give up what is not fed yet."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(10)
        if self._outlet is not None:
            self._outlet.close()

    def _feed(self, feed: Feed) -> None:
        if self._stop.wait(feed.start_seconds):
            return
        capture_start_ms, origin = time.time_ns() // 1_000_000, time.monotonic()
        is_new = True
        while not self._stop.is_set():
            outlet = None
            try:
                outlet = self._outlet_now()
                self._attempt(feed, outlet, is_new=is_new, origin=origin, capture_start_ms=capture_start_ms)
            except _VanishedError:
                self._stop.wait(feed.away_seconds)
            except FeedStopped:
                return
            except CallRefusedError as error:  # complete already: the answer to its last record was lost
                self._say(f"the feed of {feed.call_id} is over: {error}")
                feed.is_done = True
                return
            except (NotReadyError, FailedError) as error:
                self._say(f"the feed of {feed.call_id} begins again: {error}")
                self._renew(outlet)
                self._stop.wait(AGAIN_SECONDS)
            else:
                feed.is_done = True
                return
            is_new = False

    def _attempt(self, feed: Feed, outlet: CallOutlet, *, is_new: bool, origin: float, capture_start_ms: int) -> None:
        """Feed the call from its start; ``origin`` is the moment of the monotonic clock at which its first attempt began."""
        options = FeedOptions(roles=feed.roles, record_seconds=self._settings.ingest.record_seconds)
        with open_audio(feed.path, name=feed.call_id) as audio:
            started = describe(audio, options, call_id=feed.call_id, capture_start_ms=capture_start_ms).started
            grant = outlet.take(feed.call_id, started=started, is_new=is_new, take_over=True)
            fed, place = feed_call(
                audio,
                options,
                call_id=feed.call_id,
                delivery=_Vanishing(outlet.delivery(), feed.vanishes),
                pace=Pace(speed="real", monotonic=time.monotonic, wait_stopped=self._wait_stopped, origin=origin),
                capture_start_ms=capture_start_ms,
                feed_epoch=grant.feed_epoch,
                next_control=grant.next_control,
            )
        if fed.outcome != "ended":
            raise FeedStopped
        outlet.leave(feed.call_id, state="complete", feed_epoch=grant.feed_epoch, place=place, started=started)

    def _wait_stopped(self, seconds: float) -> bool:
        return self._stop.wait(seconds) if seconds > 0 else self._stop.is_set()

    def _outlet_now(self) -> CallOutlet:
        with self._lock:
            if self._outlet is None:
                self._outlet = CallOutlet(self._settings)
            return self._outlet

    def _renew(self, outlet: CallOutlet | None) -> None:
        """Let go of a producer that has given up, unless another feed has done so."""
        with self._lock:
            if outlet is None or outlet is not self._outlet:
                return
            self._outlet = None
        outlet.close()


class _Vanishing:
    """Hands records on until the feed vanishes."""

    def __init__(self, delivery: Delivery, vanishes: threading.Event) -> None:
        self._delivery = delivery
        self._vanishes = vanishes

    def send(self, record: CallAudio) -> None:
        if self._vanishes.is_set():
            self._vanishes.clear()
            raise _VanishedError
        self._delivery.send(record)

    def wait(self) -> None:
        self._delivery.wait()

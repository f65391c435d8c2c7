"""A pipe as a source."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from pipeline.ingest.pacing import FeedStopped

POLL_SECONDS = 0.2


class PipeStream:
    """Reads a file descriptor as bytes arrive, so that a live pipe is heard at once, and ends when told to stop."""

    def __init__(self, descriptor: int, *, is_stopped: Callable[[], bool]) -> None:
        self._descriptor = descriptor
        self._is_stopped = is_stopped
        self._has_read = False

    def read(self, size: int = -1) -> bytes:
        """Return the bytes that are there, at most ``size``; none at the end, or when stopped: what was read is to be fed.

        Raises FeedStopped when stopped before there was anything.
        """
        while not select.select([self._descriptor], [], [], POLL_SECONDS)[0]:
            if self._is_stopped():
                if self._has_read:
                    return b""
                raise FeedStopped
        self._has_read = True
        return os.read(self._descriptor, size if size > 0 else 65536)

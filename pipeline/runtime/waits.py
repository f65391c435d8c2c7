"""How long to wait before something that is away is tried again."""

from __future__ import annotations

from collections.abc import Iterator

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 10.0


def doubling(first: float = FIRST_RETRY_SECONDS, last: float = LAST_RETRY_SECONDS) -> Iterator[float]:
    """Yield wait after wait, in seconds: ``first``, then twice as long each time, ``last`` at most. Has no end.

    >>> from itertools import islice
    >>> list(islice(doubling(0.5, 3.0), 5))
    [0.5, 1.0, 2.0, 3.0, 3.0]
    """
    wait = min(first, last)
    while True:
        yield wait
        wait = min(2 * wait, last)

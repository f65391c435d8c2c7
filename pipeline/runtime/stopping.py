"""A stop that ends in time: a process that was asked to end is gone after `STOP_SECONDS`, whatever it waits for then.

A broker that is away answers neither the last commit nor the farewell to the group, and the clients wait for both without end.
What was not committed comes again.
"""

from __future__ import annotations

import signal
import socket
import threading

from pipeline.core.errors import FatalError
from pipeline.runtime.exits import exit_hard

STOP_SECONDS = 12.0  # supervisors kill a little later (`supervise.GRACE_SECONDS`)


def end_within(seconds: float = STOP_SECONDS) -> None:
    """End this process after ``seconds``, if it is still there."""
    timer = threading.Timer(
        seconds, exit_hard, [FatalError(f"the stop was not over after {seconds:g} s: is the broker away?")]
    )
    timer.daemon = True
    timer.start()


def stop_by_signal() -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets; the process then ends in time. Only the main thread may call this.

    A handler written in Python would wait until the main thread is back from librdkafka, which may be never; the interpreter's own
    handler writes to a socket at once (signal.set_wakeup_fd).
    """
    stop = threading.Event()
    hears, told = socket.socketpair()
    told.setblocking(False)

    def listen() -> None:
        hears.recv(1)
        stop.set()
        end_within()

    threading.Thread(target=listen, name="stop", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)
    return stop

"""Every error callscribe raises on purpose.

    CallscribeError
    ├── UsageError            wrong options or settings                        exit 2
    ├── NotReadyError         broker, store or model is not ready              exit 3
    ├── InputError            a source was refused                             exit 4
    ├── CallRefusedError      a call cannot be taken by this feed        exit 4
    ├── FailedError           the work failed, or a check found drift          exit 1
    ├── PoisonError           a record that can never be used: dead letter, the stage goes on
    │   └── CondemnedError    a record that has ended the process again and again
    └── FatalError            the worker must stop at once and acknowledge nothing
        └── StaleStateError   a state is older than what was read: the input must be read again from an offset

Texts name what was wrong and where. They never hold a customer's words or a secret.
"""

from __future__ import annotations


class CallscribeError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class FailedError(CallscribeError):
    """The work failed, or a check found drift."""


class UsageError(CallscribeError):
    """Wrong options or settings."""

    exit_code = 2


class NotReadyError(CallscribeError):
    """Something outside is not ready: broker, store, model."""

    exit_code = 3


class InputError(CallscribeError):
    """A source was refused; ``source`` is its name, ``reason`` what is wrong with it."""

    exit_code = 4

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class CallRefusedError(CallscribeError):
    """A feed may not take this call: it is complete, or another feed holds it."""

    exit_code = 4


class PoisonError(CallscribeError):
    """A record that can never be used."""


class CondemnedError(PoisonError):
    """A record whose processing has ended the process again and again."""

    def __init__(self) -> None:
        super().__init__("processing the record has ended the process again and again")


class FatalError(CallscribeError):
    """The worker must stop at once; nothing it holds may be acknowledged."""


class StaleStateError(FatalError):
    """A lane's state is older than what was released: its input must be read again from ``offset``."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"a lane's state is older than what was released: reading again from offset {offset}")
        self.offset = offset

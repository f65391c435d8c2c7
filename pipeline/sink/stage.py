"""The sink wired up: records of ``call.segments`` become rows of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.sink.logic import plan
from pipeline.sink.stores.base import Store
from schemas.records import CallSegment


class Sink:
    """Writes batches of records to a store that is opened when first needed.

    >>> sink = Sink(lambda: open_store("", work_folder))  # doctest: +SKIP
    >>> consume(settings, write=sink.write)  # doctest: +SKIP
    """

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._store: Store | None = None

    def write(self, records: Sequence[CallSegment]) -> None:
        """Write ``records`` in one transaction; again after an error gives the same rows.

        Raises NotReadyError while the store is away, PoisonError when it can never take these records.
        """
        self.open()
        assert self._store is not None
        self._store.write(plan(records))

    def open(self) -> None:
        """Open the store now, so that a worker that cannot reach it says so at its start. Raises NotReadyError."""
        if self._store is None:
            self._store = self._open_store()

    def close(self) -> None:
        """Release the store."""
        if self._store is not None:
            self._store.close()
        self._store = None

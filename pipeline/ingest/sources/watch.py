"""A watched folder: every recording that is complete becomes a call, once, also across restarts.

A file is complete when its size and time have not changed for a while (a file that is written elsewhere and renamed
into place is complete at once when it is older). What was done is kept in a journal of JSON lines. A file is known by
its path, size and time of change, so a file that was refused is looked at again when it changes, and one whose feed
broke off goes on under the same call id.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.core.errors import NotReadyError
from pipeline.ingest.feed import FedCall
from pipeline.ingest.sources import Source
from pipeline.ingest.sources.files import recordings_of

POLL_SECONDS = 0.5
SETTLE_SECONDS = 2.0
DONE = frozenset(("ended", "refused", "damaged"))


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a file is known by."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Return the fingerprint of the file at ``path``. Raises OSError when it is gone."""
        stat = path.stat()
        return cls(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


class Journal:
    """What has been done with each file, in a file of its own that one process at a time may hold."""

    def __init__(self, path: Path) -> None:
        """Raise NotReadyError when another process holds the journal or it cannot be written."""
        self._entries: dict[Fingerprint, tuple[str, str | None]] = {}
        self._given: dict[str, Fingerprint] = {}
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise NotReadyError(f"{path}: cannot be written ({error.strerror})") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise NotReadyError(f"{path}: another callscribe ingest --watch is at work on this folder") from None
        self._file.seek(0)
        for line in self._file:
            try:
                entry = json.loads(line)
                known = Fingerprint(entry["path"], entry["size"], entry["mtime_ns"])
                self._entries[known] = (entry["outcome"], entry["call_id"])
            except (ValueError, KeyError, TypeError):
                continue  # a line that a crash cut off

    def is_done(self, file: Fingerprint) -> bool:
        """Return whether the file needs nothing more."""
        return file in self._entries and self._entries[file][0] in DONE

    def call_id(self, file: Fingerprint) -> str | None:
        """Return the call an earlier run has begun to feed the file as."""
        return self._entries[file][1] if file in self._entries else None

    def give(self, name: str, file: Fingerprint) -> None:
        """Note that ``file`` is handed out as the source ``name``."""
        self._given[name] = file

    def begin(self, name: str, call_id: str) -> None:
        """Record that the source ``name`` is being fed as ``call_id``, before any of it is."""
        self._write(name, "begun", call_id)

    def finish(self, fed: FedCall) -> None:
        """Record what became of a source. One that was stopped is fed again by the next run, as the same call."""
        if fed.outcome != "interrupted":
            self._write(fed.source, fed.outcome, fed.call_id)
        elif fed.reason != "stopped":
            self._write(fed.source, "damaged", fed.call_id)

    def _write(self, name: str, outcome: str, call_id: str | None) -> None:
        file = self._given.get(name)
        if file is None:
            return
        entry = {
            "path": file.path,
            "size": file.size,
            "mtime_ns": file.mtime_ns,
            "outcome": outcome,
            "call_id": call_id,
        }
        with self._lock:
            self._entries[file] = (outcome, call_id)
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Let go of the journal."""
        self._file.close()


def journal_path(work_folder: Path, folders: Sequence[Path]) -> Path:
    """Return where the journal of watched ``folders`` lies in the work folder."""
    identity = "\n".join(sorted(str(folder.resolve()) for folder in folders))
    return work_folder / "ingest" / f"watch-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.jsonl"


def watch(
    folders: Sequence[Path],
    journal: Journal,
    *,
    is_raw: bool,
    wall: Callable[[], float],
    monotonic: Callable[[], float],
    wait_stopped: Callable[[float], bool],
    settle_seconds: float = SETTLE_SECONDS,
) -> Iterator[Source]:
    """Yield every complete recording that has not been dealt with, as files arrive, until stopped.

    ``wall`` returns seconds since the epoch, ``monotonic`` seconds; ``wait_stopped`` waits so many seconds and returns
    whether to stop.
    """
    since: dict[Fingerprint, float] = {}
    given: set[Fingerprint] = set()
    while True:
        present: dict[Fingerprint, float] = {}
        for path in [path for folder in folders for path in recordings_of(folder, is_raw=is_raw)[0]]:
            try:
                file = Fingerprint.of(path)
            except OSError:
                continue
            now = monotonic()
            present[file] = since.get(file, now)
            is_old = wall() - file.mtime_ns / 1e9 >= settle_seconds
            if file in given or journal.is_done(file) or not (is_old or now - present[file] >= settle_seconds):
                continue
            given.add(file)
            journal.give(str(path), file)
            yield Source(name=str(path), path=path, call_id=journal.call_id(file))
        since = present
        given &= present.keys()
        if wait_stopped(POLL_SECONDS):
            return

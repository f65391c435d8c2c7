"""Where recordings are found: files, folders, a watched folder, a pipe."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pipeline.core.errors import InputError, NotReadyError
from pipeline.ingest.feed import FedCall
from pipeline.ingest.pacing import FeedStopped
from pipeline.ingest.sources import Source
from pipeline.ingest.sources.files import find_sources
from pipeline.ingest.sources.stdin import PipeStream
from pipeline.ingest.sources.watch import Journal, journal_path, watch


def names(folder: Path, *, is_raw: bool = False) -> list[str]:
    return [source.name.removeprefix(f"{folder}/") for source in find_sources(folder, is_raw=is_raw)]


def touch(path: Path, *, age_seconds: float = 1000.0, now: float = 10_000.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (now - age_seconds, now - age_seconds))
    return path


def test_a_folder_stands_for_its_recordings_in_order(tmp_path: Path) -> None:
    for name in ("b.wav", "a.FLAC", "sub/c.mp3", "notes.txt", ".hidden.wav", ".tmp/d.wav", "e.wav.part", "f.ulaw"):
        touch(tmp_path / name)
    assert names(tmp_path) == ["a.FLAC", "b.wav", "sub/c.mp3"]
    assert names(tmp_path, is_raw=True) == ["f.ulaw"]
    assert names(tmp_path / "notes.txt") == [str(tmp_path / "notes.txt")]  # a file that is named is taken


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (source,) = find_sources(tmp_path, is_raw=False)
    with pytest.raises(InputError, match="is a folder without recordings"):
        source.open(raw=None, max_channels=2)


def test_a_pipe_gives_bytes_as_they_arrive_and_stops() -> None:
    reading, writing = os.pipe()
    stop = threading.Event()
    stream = PipeStream(reading, is_stopped=stop.is_set)
    os.write(writing, b"abc")
    assert stream.read(4096) == b"abc"  # does not wait for more
    stop.set()
    assert stream.read(4096) == b""  # what was read is to be fed
    with pytest.raises(FeedStopped):
        PipeStream(reading, is_stopped=stop.is_set).read(4096)
    os.close(writing)
    assert stream.read(4096) == b""
    os.close(reading)


class Folder:
    """A watched folder under a clock that moves by polling; ``script`` acts before each poll."""

    def __init__(self, path: Path, journal: Path) -> None:
        self.path = path
        self.journal = journal
        self.now = 10_000.0

    def run(self, polls: int, script: dict[int, list[Path]] | None = None) -> list[tuple[int, Source]]:
        """Return what is given and in which poll."""
        poll = 0

        def wait_stopped(seconds: float) -> bool:
            nonlocal poll
            poll += 1
            self.now += seconds
            for path in (script or {}).get(poll, []):
                touch(path, age_seconds=0, now=self.now)
            return poll >= polls

        journal = Journal(self.journal)
        found = []
        for source in watch(
            [self.path],
            journal,
            is_raw=False,
            wall=lambda: self.now,
            monotonic=lambda: self.now,
            wait_stopped=wait_stopped,
            settle_seconds=2.0,
        ):
            found.append((poll, source))
            journal.begin(source.name, source.call_id or f"call-{len(found)}")
            journal.finish(FedCall(source=source.name, outcome=self.outcome(source), reason="stopped", call_id="x"))
        journal.close()
        return found

    def outcome(self, source: Source) -> str:
        return "ended"


def test_a_watched_recording_is_fed_once_when_it_has_settled(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "in", tmp_path / "journal")
    old = touch(folder.path / "old.wav")
    new = folder.path / "new.wav"
    # new.wav is written at polls 1 to 4 (0.5 s apart), and so settles 2 s after the last.
    assert [(poll, source.path) for poll, source in folder.run(12, {poll: [new] for poll in range(1, 5)})] == [
        (0, old),
        (8, new),
    ]
    assert folder.run(6) == []  # a restart
    assert [source.path for _, source in folder.run(8, {1: [old]})] == [old]  # changed


def test_a_recording_renamed_into_place_is_taken_at_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path, tmp_path / "journal" / "j")
    touch(tmp_path / "call.wav.part")
    assert folder.run(3) == []
    (tmp_path / "call.wav.part").rename(tmp_path / "call.wav")
    assert [poll for poll, _ in folder.run(3)] == [0]


def test_a_feed_that_broke_off_goes_on_as_the_same_call(tmp_path: Path) -> None:
    class Stopping(Folder):
        def outcome(self, source: Source) -> str:
            return "interrupted"

    touch(tmp_path / "call.wav")
    (first,) = Stopping(tmp_path, tmp_path / "j").run(2)
    assert first[1].call_id is None
    (second,) = Folder(tmp_path, tmp_path / "j").run(2)
    assert second[1].call_id == "call-1"
    assert Folder(tmp_path, tmp_path / "j").run(2) == []


def test_the_journal_survives_a_cut_off_line_and_has_one_writer(tmp_path: Path) -> None:
    path = journal_path(tmp_path, [tmp_path])
    assert path != journal_path(tmp_path, [tmp_path.parent])
    touch(tmp_path / "call.wav")
    Folder(tmp_path, path).run(1)
    path.write_text(path.read_text(encoding="utf-8") + '{"path": "/x", "si', encoding="utf-8")
    journal = Journal(path)
    with pytest.raises(NotReadyError, match="another callscribe ingest --watch"):
        Journal(path)
    journal.close()
    assert Folder(tmp_path, path).run(1) == []

"""A source becomes a call: roles, control at its place, pacing, and how a call that breaks off ends."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import InputError, NotReadyError
from pipeline.core.feeds import Place
from pipeline.ingest.chunks import Control
from pipeline.ingest.decode import DamagedAudioError, open_audio
from pipeline.ingest.feed import FeedOptions, TimedControl, feed_call, records
from pipeline.ingest.pacing import FeedStopped, Pace
from schemas.records import CallAudio, Hold
from tests.unit.ingest.recordings import encode, speechlike, write


class Written:
    """Keeps what is delivered; fails from the ``fails_at``-th record on."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.records: list[CallAudio] = []
        self.waited = 0
        self._fails_at = fails_at

    def send(self, record: CallAudio) -> None:
        if self._fails_at is not None and len(self.records) >= self._fails_at:
            raise NotReadyError("topic call.audio: a record was not acknowledged")
        self.records.append(record)

    def wait(self) -> None:
        self.waited = len(self.records)


class Clock:
    """A clock that moves only by waiting."""

    def __init__(self, stop_after: float = float("inf")) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        self._stop_after = 100.0 + stop_after

    def monotonic(self) -> float:
        return self.now

    def wait_stopped(self, seconds: float) -> bool:
        if seconds:
            self.waits.append(seconds)
        self.now += seconds
        return self.now > self._stop_after

    def pace(self, speed: str = "real") -> Pace:
        assert speed in ("real", "max")
        return Pace(speed=speed, monotonic=self.monotonic, wait_stopped=self.wait_stopped)  # type: ignore[arg-type]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write(tmp_path / "call.wav", speechlike(1.1, 8000, channels=2), 8000, "ULAW")


@pytest.mark.parametrize(
    ("channels", "roles", "expected"),
    [
        (1, {}, ["mixed"]),
        (1, {0: "agent"}, ["agent"]),
        (2, {}, ["agent", "customer"]),
        (2, {0: "customer", 1: "agent"}, ["customer", "agent"]),
        (3, {1: "interpreter"}, ["channel1", "interpreter", "channel3"]),
    ],
)
def test_roles(tmp_path: Path, channels: int, roles: dict[int, str], expected: list[str]) -> None:
    path = write(tmp_path / "call.wav", np.zeros((80, channels)), 8000)
    options = FeedOptions(roles=roles, language="en")
    with open_audio(path) as source:
        started = next(records(source, options, call_id="c1", capture_start_ms=0)).started
    assert started is not None
    assert [channel.role for channel in started.channels] == expected
    assert {channel.language for channel in started.channels} == {"en"}


def test_the_start_says_how_many_speakers_there_are(recording: Path) -> None:
    with open_audio(recording) as source:
        options = FeedOptions(min_speakers=2, max_speakers=4)
        started = next(records(source, options, call_id="c1", capture_start_ms=0)).started
    assert started is not None
    assert (started.min_speakers, started.max_speakers) == (2, 4)


def test_a_role_for_a_channel_that_is_not_there_is_refused(recording: Path) -> None:
    with (
        open_audio(recording) as source,
        pytest.raises(InputError, match=r"has 2 channel\(s\), a role names channel 2"),
    ):
        next(records(source, FeedOptions(roles={2: "agent"}), call_id="c1", capture_start_ms=0))


def test_timed_control_lands_at_its_sample_whatever_the_blocks(recording: Path) -> None:
    options = FeedOptions(
        controls=(
            TimedControl(at_seconds=0.9, control=Control(kind="resume")),
            TimedControl(at_seconds=0.25, control=Control(kind="hold", body=Hold(active=True))),
            TimedControl(at_seconds=0.5, control=Control(kind="pause")),
            TimedControl(at_seconds=99.0, control=Control(kind="commit")),
        )
    )
    with open_audio(recording) as source:
        found = list(records(source, options, call_id="c1", capture_start_ms=0))
    control = [(r.kind, r.sequence, r.start_sample) for r in found if r.channel == -1]
    assert control == [
        ("started", 0, 0),
        ("hold", 1, 2000),
        ("pause", 2, 4000),
        ("resume", 3, 7200),
        ("commit", 4, 8800),
        ("ended", 5, 8800),
    ]
    spans = [(r.start_sample, len(r.audio.data)) for r in found if r.channel == 1 and r.audio]
    assert spans == [(0, 1600), (1600, 400), (2000, 1200), (3200, 800), (7200, 800), (8000, 800)]


def test_a_call_is_delivered_whole_and_acknowledged(recording: Path) -> None:
    out, heard = Written(), list[float]()
    with open_audio(recording) as source:
        fed, place = feed_call(
            source,
            FeedOptions(),
            call_id="c1",
            delivery=out,
            pace=Clock().pace("max"),
            capture_start_ms=0,
            on_progress=heard.append,
        )
    assert (fed.outcome, fed.call_id, fed.channels, fed.duration_seconds) == ("ended", "c1", 2, 1.1)
    assert (fed.records, fed.audio_bytes, out.waited) == (14, 17600, 14)
    assert place == Place(next_sequence={-1: 2, 0: 6, 1: 6}, end_samples={0: 8800, 1: 8800})
    assert heard == sorted(heard)
    assert heard[-1] == 1.1


def test_real_speed_follows_sample_positions_without_drift(recording: Path) -> None:
    clock = Clock()
    out = Written()
    sent_at: list[float] = []

    class Slow(Written):
        def send(self, record: CallAudio) -> None:
            sent_at.append(clock.now - 100.0)
            clock.now += 0.03  # the work of a record must not add up
            super().send(record)

    out = Slow()
    with open_audio(recording) as source:
        feed_call(source, FeedOptions(), call_id="c1", delivery=out, pace=clock.pace(), capture_start_ms=0)
    due = [(r.start_sample + (len(r.audio.data) if r.audio else 0)) / 8000 for r in out.records]
    late = [at - wanted for at, wanted in zip(sent_at, due, strict=True)]
    assert min(late) >= -1e-9
    assert max(late) <= 0.03 * 2 + 1e-9


def test_a_stopped_call_is_interrupted_never_ended(recording: Path) -> None:
    out = Written()
    with open_audio(recording) as source:
        fed, place = feed_call(
            source,
            FeedOptions(),
            call_id="c1",
            delivery=out,
            pace=Clock(stop_after=0.5).pace(),
            capture_start_ms=7000,
        )
    assert (fed.outcome, fed.reason) == ("interrupted", "stopped")
    assert [r.kind for r in out.records if r.channel == -1] == ["started", "interrupted"]
    last = out.records[-1]
    assert (last.sequence, last.start_sample, last.capture_time_ms) == (1, 3200, 7400)
    assert last.interrupted is not None
    assert last.started is None
    assert place == Place(next_sequence={-1: 2, 0: 2, 1: 2}, end_samples={0: 3200, 1: 3200})


def test_a_damaged_recording_is_interrupted_never_ended(tmp_path: Path) -> None:
    path = encode(tmp_path / "call.mp3", speechlike(6.0, 8000), 8000, codec="libmp3lame")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = np.random.default_rng(3).bytes(3000)
    path.write_bytes(data)
    with open_audio(path) as source:
        found: list[CallAudio] = []
        with pytest.raises(DamagedAudioError):
            found.extend(records(source, FeedOptions(), call_id="c1", capture_start_ms=0))
    assert found[-1].kind == "interrupted"
    assert found[-1].start_sample % 1600 == 0
    out = Written()
    with open_audio(path) as source:
        fed, _ = feed_call(
            source, FeedOptions(), call_id="c1", delivery=out, pace=Clock().pace("max"), capture_start_ms=0
        )
    assert (fed.outcome, out.records) == ("interrupted", found)


def test_a_lost_record_ends_the_feed(recording: Path) -> None:
    with open_audio(recording) as source, pytest.raises(NotReadyError):
        feed_call(
            source,
            FeedOptions(),
            call_id="c1",
            delivery=Written(fails_at=3),
            pace=Clock().pace("max"),
            capture_start_ms=0,
        )


def test_the_same_recording_gives_the_same_records(recording: Path) -> None:
    def run(epoch: int) -> list[CallAudio]:
        with open_audio(recording) as source:
            return list(records(source, FeedOptions(), call_id="c1", capture_start_ms=0, feed_epoch=epoch))

    assert run(1) == [replace(record, feed_epoch=1) for record in run(2)]


def test_a_pace_stops_even_at_full_speed() -> None:
    stop = threading.Event()
    pace = Pace(speed="max", monotonic=lambda: 0.0, wait_stopped=lambda seconds: stop.is_set())
    pace.wait(1000.0)
    stop.set()
    with pytest.raises(FeedStopped):
        pace.wait(0.0)


def test_a_source_that_cannot_begin_again_goes_on_where_it_was_left(recording: Path) -> None:
    """A pipe is stopped in its middle, and another one brings the rest: together they are the recording, sample by sample."""
    first, second = Written(), Written()
    with open_audio(recording) as source:
        _, place = feed_call(
            source,
            FeedOptions(),
            call_id="c1",
            delivery=first,
            pace=Clock(stop_after=0.5).pace(),
            capture_start_ms=0,
            begins_at=Place(),
        )
    assert place.end_samples == {0: 8800, 1: 8800}  # what was read was fed, whether it was due or not
    assert [record.kind for record in first.records if record.channel == -1] == ["started", "interrupted"]
    clock = Clock()
    with open_audio(recording) as source:
        fed, end = feed_call(
            source,
            FeedOptions(controls=(TimedControl(at_seconds=0.2, control=Control(kind="commit")),)),
            call_id="c1",
            delivery=second,
            pace=clock.pace(),
            capture_start_ms=0,
            feed_epoch=2,
            next_control=place.next_sequence[-1],
            begins_at=place,
        )
    control = [(record.kind, record.sequence, record.start_sample) for record in second.records if record.channel == -1]
    assert control == [("started", 0, 0), ("ended", 2, 17600)]
    assert clock.now == pytest.approx(100.0 + 1.1)  # paced from where it begins
    audio = [record for out in (first, second) for record in out.records if record.channel == 1]
    assert [record.sequence for record in audio] == list(range(end.next_sequence[1]))
    position = 0
    for record in audio:
        assert record.audio is not None
        assert record.start_sample == position
        position += len(record.audio.data)
    assert (position, end.end_samples, fed.duration_seconds) == (17600, {0: 17600, 1: 17600}, 2.2)


def test_what_was_read_of_a_damaged_pipe_is_fed_to_the_last_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", speechlike(2.0, 8000), 8000)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 10_400])  # its header says more
    ends = []
    for begins_at in (None, Place()):
        out = Written()
        with path.open("rb") as stream, open_audio(stream, name="-") as source:
            fed, place = feed_call(
                source,
                FeedOptions(record_seconds=0.5),
                call_id="c1",
                delivery=out,
                pace=Clock().pace("max"),
                capture_start_ms=0,
                begins_at=begins_at,
            )
        assert fed.outcome == "interrupted"
        assert out.records[-1].start_sample == place.end_samples[0]
        ends.append(place.end_samples)
    assert ends == [{0: 8_000}, {0: 10_400}]  # a recording is read again, a pipe cannot be


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "killed"])
def test_a_pipe_that_breaks_off_while_paused_is_still_paused_when_the_next_one_comes(
    recording: Path, is_stopped: bool
) -> None:
    """One that was stopped says how far it has come. Of one that was killed, nobody knows: the next one begins with the pause."""
    controls = tuple(
        TimedControl(at_seconds=at, control=Control(kind=kind)) for at, kind in ((0.5, "pause"), (1.5, "resume"))
    )
    first, second = Written(), Written()
    with open_audio(recording) as source:  # 1.1 s
        _, place = feed_call(
            source,
            FeedOptions(controls=controls),
            call_id="c1",
            delivery=first,
            pace=Clock(stop_after=0.4).pace(),
            capture_start_ms=0,
            begins_at=Place(),
        )
    sent = [(record.kind, record.start_sample) for record in first.records if record.channel == -1]
    assert sent == [("started", 0), ("pause", 4000), ("interrupted", 8800)]
    assert place.end_samples == {0: 4000, 1: 4000}
    stands = Place(next_sequence=place.next_sequence, end_samples=dict.fromkeys((0, 1), 8800 if is_stopped else 4000))
    with open_audio(recording) as source:
        fed, _ = feed_call(
            source,
            FeedOptions(controls=controls),
            call_id="c1",
            delivery=second,
            pace=Clock().pace(),
            capture_start_ms=0,
            feed_epoch=2,
            next_control=place.next_sequence[-1],
            begins_at=stands,
        )
    audio = [record.start_sample for record in second.records if record.audio is not None]
    assert min(audio) == 12000
    assert fed.duration_seconds == (2.2 if is_stopped else 1.6)

"""Known voices: who is recognised, who is not, and the file they are kept in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import FailedError, InputError, NotReadyError, UsageError
from pipeline.diarize import voiceprints
from pipeline.diarize.enrolling import enrol
from pipeline.diarize.enrolment import Enrolled, changes, recognise
from pipeline.diarize.points import Voices, unit
from pipeline.diarize.voiceprints import Voiceprint
from pipeline.diarize.window import DiarizeWork, Failure, Heard
from schemas.records import Identity

BASE = np.eye(8, dtype=np.float32)
KNOWN = Enrolled(names=("Ann", "Bob"), roles=("agent", None), embeddings=BASE[:2], similarity=0.8)


def known(centroids: np.ndarray, weights: tuple[float, ...]) -> Voices:  # type: ignore[type-arg]
    return Voices(centroids, weights, tuple(range(1, len(weights) + 1)), len(weights) + 1)


def near(index: int, amount: float) -> np.ndarray:  # type: ignore[type-arg]
    return unit(BASE[index] + amount * BASE[7])


def test_who_is_near_enough_is_recognised() -> None:
    voices = known(np.stack([near(1, 0.3), near(0, 0.2), near(2, 0.1)]), (9.0, 9.0, 9.0))
    found = recognise(voices, KNOWN)
    assert [(one.speaker, one.name, one.role) for one in found] == [
        ("speaker_2", "Ann", "agent"),
        ("speaker_1", "Bob", None),
    ]


def test_who_is_far_or_has_hardly_spoken_is_not() -> None:
    voices = known(np.stack([near(0, 2.0), near(1, 0.0)]), (9.0, 1.0))
    assert recognise(voices, KNOWN) == ()
    assert recognise(voices, None) == ()


def test_a_known_voice_is_one_speaker_and_two_as_near_are_nobody() -> None:
    voices = known(np.stack([near(0, 0.3), near(0, 0.1)]), (9.0, 9.0))
    assert [one.speaker for one in recognise(voices, KNOWN)] == ["speaker_2"]
    between = known(unit(BASE[:1] + BASE[1:2]), (9.0,))
    lax = Enrolled(names=KNOWN.names, roles=KNOWN.roles, embeddings=KNOWN.embeddings, similarity=0.5)
    assert recognise(between, lax) == ()


def test_only_what_has_changed_is_said() -> None:
    ann = Identity(speaker="speaker_1", similarity=0.9, name="Ann")
    bob = Identity(speaker="speaker_1", similarity=0.95, name="Bob")
    assert changes((), (ann,)) == (ann,)
    assert changes((ann,), (ann,)) == ()
    assert changes((ann,), (bob,)) == (bob,)
    assert [(one.speaker, one.name) for one in changes((ann,), ())] == [("speaker_1", None)]


def test_the_file_comes_back_and_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "voices.json"
    voiceprints.write(path, {"Ann Lee": Voiceprint(role="agent", embedding=BASE[0], seconds=12.3)}, model="m@1")
    assert os.stat(path).st_mode & 0o077 == 0
    (found,) = voiceprints.read(path, model="m@1").items()
    assert (found[0], found[1].role, found[1].seconds) == ("Ann Lee", "agent", 12.3)
    assert np.array_equal(found[1].embedding, BASE[0])
    assert voiceprints.read_voiceprints(str(path), model="m@1", similarity=0.7).names == ("Ann Lee",)


@pytest.mark.parametrize("text", ["", "[]", '{"model": "m@1"}', '{"model": "m@1", "voices": {"x": {}}}', "\x00"])
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "voices.json"
    path.write_text(text)
    with pytest.raises(NotReadyError, match=r"voices\.json"):
        voiceprints.read(path, model="m@1")


def test_voices_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "voices.json"
    voiceprints.write(path, {"Ann": Voiceprint(role=None, embedding=BASE[0], seconds=9.0)}, model="m@1")
    with pytest.raises(NotReadyError, match=r"as m@1 hears them, not m@2: enrol them again"):
        voiceprints.read(path, model="m@2")
    with pytest.raises(NotReadyError, match="cannot be read"):
        voiceprints.read(tmp_path / "none.json", model="m@1")


def test_a_strange_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name of a voice"):
        voiceprints.write(
            tmp_path / "v.json", {"a\nb": Voiceprint(role=None, embedding=BASE[0], seconds=9.0)}, model="m"
        )


class Loud:
    """Hears one local speaker where samples are loud; the voice is that of the sample value."""

    max_batch = 1
    threads = 1

    def infer(self, batch: Sequence[DiarizeWork]) -> list[Heard | Failure]:
        results: list[Heard | Failure] = []
        for work in batch:
            loud = np.abs(work.audio.reshape(-1, 320)).max(axis=1) > 0
            voice = BASE[int(np.abs(work.audio).max()) % 8]
            results.append(Heard(scores=loud[:, None].astype(np.float32), embeddings=voice[None], owners=(0,)))
        return results


def test_a_voice_is_the_mean_of_what_one_person_says() -> None:
    recordings = [("a.wav", np.full(8 * 16_000, 9, dtype=np.int16))]
    voice = enrol(recordings, Loud(), window_seconds=5.0, threshold=0.5, similarity=0.85, role="agent")
    assert np.array_equal(voice.embedding, BASE[1])
    assert voice.seconds == 8.0


def test_too_little_speech_and_two_voices_are_refused() -> None:
    with pytest.raises(FailedError, match=r"3\.0 s of speech"):
        enrol(
            [("a.wav", np.full(3 * 16_000, 9, dtype=np.int16))],
            Loud(),
            window_seconds=5.0,
            threshold=0.5,
            similarity=0.85,
            role=None,
        )
    half = 10 * 16_000
    two = np.concatenate([np.full(half, 9, dtype=np.int16), np.full(half, 10, dtype=np.int16)])
    with pytest.raises(InputError, match="more than one voice"):
        enrol([("a.wav", two)], Loud(), window_seconds=5.0, threshold=0.5, similarity=0.85, role=None)

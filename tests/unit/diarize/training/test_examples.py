"""Examples: shards are made once, read back as made, and do not depend on how they are made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.diarize.training import examples
from pipeline.diarize.training.examples import Examples, load_examples, make_examples, source_of
from pipeline.diarize.training.mixtures import Voices


class ScriptedMaker:
    """Makes small examples that hold their numbers."""

    made: list[int]

    def __init__(self, made: list[int]) -> None:
        self.made = made

    def make(self, numbers: range) -> tuple[np.ndarray, np.ndarray]:
        self.made += numbers
        features = np.repeat(np.array(numbers, dtype=np.float16), 4).reshape(-1, 2, 2)
        return features, features > 2


@pytest.fixture
def origin(tmp_path: Path) -> Examples:
    (tmp_path / "encoder.pt").write_bytes(b"weights")
    return Examples(speech=tmp_path / "speech", encoder=tmp_path / "encoder.pt", seed=7)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make examples in this process, and return the numbers of those that are made."""
    numbers: list[int] = []
    monkeypatch.setattr(examples, "SHARD_EXAMPLES", 2)
    monkeypatch.setattr(examples, "load_speech", lambda *_: [])
    monkeypatch.setattr(examples, "_makers", [ScriptedMaker(numbers)])
    monkeypatch.setattr(examples, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    return numbers


def test_shards_are_read_back_and_not_made_twice(made: list[int], origin: Examples, tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    assert len(list(make_examples(folder, "training", 5, origin, processes=1))) == 3
    assert made == [0, 1, 2, 3, 4]
    found = load_examples(folder, "training")
    assert [one.features[:, 0, 0].tolist() for one in found] == [[0, 1], [2, 3], [4]]
    assert [one.active[:, 0, 0].tolist() for one in found] == [[False, False], [False, True], [True]]
    assert [len(one.active) for one in load_examples(folder, "training", 3)] == [2, 1]
    made.clear()
    (folder / "training-000002.json").unlink()  # as if the run had broken off there
    list(make_examples(folder, "training", 5, origin, processes=1))
    assert made == [2, 3]
    assert list(make_examples(folder, "training", 5, origin, processes=1)) == ["training: all 3 shards are there"]
    assert sorted({path.suffix for path in folder.iterdir()}) == [".json", ".npy"]


def test_shards_of_another_origin_are_refused(made: list[int], origin: Examples, tmp_path: Path) -> None:
    list(make_examples(tmp_path / "examples", "training", 2, origin, processes=1))
    origin.encoder.write_bytes(b"others")
    with pytest.raises(UsageError, match="choose another folder"):
        list(make_examples(tmp_path / "examples", "training", 2, origin, processes=1))


def test_missing_examples_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="no examples of the set 'held-out'"):
        load_examples(tmp_path, "held-out")


def test_every_example_is_drawn_from_its_own_numbers() -> None:
    draws = {
        source_of(*of).random()
        for of in [(1, "training", 0), (1, "training", 1), (2, "training", 0), (1, "held-out", 0)]
    }
    assert len(draws) == 4
    assert source_of(1, "training", 0).random() in draws


@pytest.mark.diarization
@pytest.mark.usefixtures("one_thread")
def test_features_do_not_depend_on_the_shard(voices: Voices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torchaudio")
    from pipeline.diarize.card import ENCODER, FOLDER

    monkeypatch.setattr(examples, "load_speech", lambda *_: voices.speech)
    monkeypatch.setattr(examples, "voices_of", lambda *_: voices)
    maker = examples._Maker(Examples(speech=tmp_path, encoder=FOLDER / ENCODER, seed=1), "validation")
    features, active = maker.make(range(3))
    later, same = maker.make(range(2, 3))
    assert (features.shape, features.dtype, active.shape) == ((3, 250, 552), np.float16, (3, 250, 3))
    np.testing.assert_allclose(features[2:].astype(np.float32), later.astype(np.float32), atol=0.01)
    assert np.array_equal(active[2:], same)

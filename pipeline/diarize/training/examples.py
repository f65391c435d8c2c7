"""Examples on disk: frame features of simulated conversations, and who speaks in each frame, in numbered shards.

The features come from layers that are not trained, so they are computed once. An example depends on its seed, its set, its number and the
speech alone, however many processes make the shards; those that are there are kept.
"""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.diarize.card import digest_of
from pipeline.diarize.training.mixtures import Voices, draw_mixture
from pipeline.diarize.training.speech import load_speech
from pipeline.diarize.training.voices import SETS
from pipeline.diarize.window import Flags

SHARD_EXAMPLES = 250  # 70 MB
BATCH = 32
# Examples of the voices of training, more of them with other numbers, and conversations of voices that training never hears.
VOICES_OF = {"training": "training", "validation": "training", "held-out": "held-out"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shard:
    """float16 [examples, 250, 552] on disk, and bool [examples, 250, 3]."""

    features: NDArray[np.float16]
    active: Flags


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Where examples come from: the folder with the speech, the file of the speaker encoder, the seed."""

    speech: Path
    encoder: Path
    seed: int

    def origin(self) -> dict[str, Any]:
        """Return what the examples depend on, as a shard keeps it. Raises NotReadyError when there is no encoder."""
        return {"seed": self.seed, "encoder": digest_of(self.encoder)}


def make_examples(folder: Path, name: str, count: int, examples: Examples, *, processes: int) -> Iterator[str]:
    """Write the examples of a set as shards ``<name>-<number>``; yields a line of progress for each.

    Raises NotReadyError when there is no speech, UsageError when the folder holds shards of another seed or encoder.
    """
    origin = examples.origin()
    parts = [range(first, min(first + SHARD_EXAMPLES, count)) for first in range(0, count, SHARD_EXAMPLES)]
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [part for part in parts if not _is_there(_stem(folder, name, part.start), len(part), origin)]
    if not wanted:
        yield f"{name}: all {len(parts)} shards are there"
        return
    load_speech(examples.speech, VOICES_OF[name])  # what is missing is said before processes start
    with ProcessPoolExecutor(processes, get_context("spawn"), _start, (examples, name)) as pool:
        running = [pool.submit(_make_shard, _stem(folder, name, part.start), part, origin) for part in wanted]
        try:
            for done, future in enumerate(as_completed(running), start=1):
                future.result()
                yield f"{name}: {done} of {len(wanted)} shards, {len(parts) - len(wanted)} were there"
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def load_examples(folder: Path, name: str, count: int | None = None) -> list[Shard]:
    """Return the shards of a set, in order, up to ``count`` examples; features stay on disk until they are used.

    Raises NotReadyError when there are none.
    """
    shards: list[Shard] = []
    left = count
    for path in sorted(folder.glob(f"{name}-*.json")):
        features = np.load(path.with_suffix(".features.npy"), mmap_mode="r")[:left]
        shards.append(Shard(features=features, active=np.load(path.with_suffix(".active.npy"))[:left]))
        left = left - len(features) if left is not None else None
        if left == 0:
            break
    if not shards:
        raise NotReadyError(f"no examples of the set {name!r} in {folder}: make them first")
    return shards


def voices_of(speech: Sequence[NDArray[np.int16]], name: str) -> Voices:
    """Return the voices of a set, with how often each is drawn."""
    shares = np.array([voice.share for voice in SETS[name]])
    return Voices(speech=speech, shares=shares / shares.sum())


def source_of(seed: int, name: str, number: int) -> np.random.Generator:
    """Return what an example is drawn from."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), number])


class _Maker:
    """What a process has loaded, to make the examples of one set."""

    def __init__(self, examples: Examples, name: str) -> None:
        with warnings.catch_warnings(action="ignore"):  # of the packages' own imports
            import torch

            from pipeline.diarize.encoder import SpeakerEncoder
            from pipeline.diarize.segmentation import FrameFeatures
        torch.set_num_threads(1)  # there are as many processes as threads are asked for
        self._torch = torch
        self._features = FrameFeatures(SpeakerEncoder.load(examples.encoder)).eval()
        self._voices = voices_of(load_speech(examples.speech, VOICES_OF[name]), VOICES_OF[name])
        self._seed, self._name = examples.seed, name

    def make(self, numbers: range) -> tuple[NDArray[np.float16], Flags]:
        """Return the features and labels of examples."""
        features, active = [], []
        for first in range(0, len(numbers), BATCH):
            batch = [
                draw_mixture(self._voices, source_of(self._seed, self._name, number))
                for number in numbers[first : first + BATCH]
            ]
            samples = np.stack([one.samples for one in batch]).astype(np.float32) / 32768.0
            with self._torch.inference_mode():
                features.append(self._features(self._torch.from_numpy(samples)).half().numpy())
            active.append(np.stack([one.active for one in batch]))
        return np.concatenate(features), np.concatenate(active)


_makers: list[_Maker] = []  # of this process


def _start(examples: Examples, name: str) -> None:
    _makers[:] = [_Maker(examples, name)]


def _make_shard(stem: Path, numbers: range, origin: dict[str, Any]) -> None:
    """Write a shard. The JSON is last: with it the shard is complete."""
    features, active = _makers[0].make(numbers)
    partial = stem.with_suffix(".partial")
    for suffix, array in ((".features.npy", features), (".active.npy", active)):
        with partial.open("wb") as file:
            np.save(file, array)
        os.replace(partial, stem.with_suffix(suffix))
    partial.write_text(json.dumps({"origin": origin, "examples": len(numbers)}) + "\n", encoding="utf-8")
    os.replace(partial, stem.with_suffix(".json"))


def _is_there(stem: Path, count: int, origin: dict[str, Any]) -> bool:
    """Return whether a shard has at least so many examples. Raises UsageError when it is of another origin."""
    path = stem.with_suffix(".json")
    if not path.exists():
        return False
    document = json.loads(path.read_text(encoding="utf-8"))
    if document["origin"] != origin:
        raise UsageError(f"{path} was made from {document['origin']}, not from {origin}: choose another folder")
    return int(document["examples"]) >= count


def _stem(folder: Path, name: str, first: int) -> Path:
    return folder / f"{name}-{first:06d}"

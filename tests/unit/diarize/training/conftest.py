"""Voices that need no synthesizer: harmonics that come and go like syllables, each voice at a pitch of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.diarize.training.examples import Shard
from pipeline.diarize.training.mixtures import Voices
from pipeline.diarize.window import RATE

SECONDS = 12


@pytest.fixture(scope="session")
def voices() -> Voices:
    """Return three voices, drawn equally often."""
    source = np.random.default_rng(3)
    times = np.arange(SECONDS * RATE) / RATE
    speech = []
    for hertz in (110.0, 170.0, 260.0):
        sound = sum(np.sin(2 * np.pi * hertz * order * times) / order for order in range(1, 12))
        syllables = np.repeat(source.uniform(0.3, 1.0, SECONDS * 5), RATE // 5)
        speech.append((sound * syllables * 8000).astype(np.int16))
    return Voices(speech=speech, shares=np.full(3, 1 / 3))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sum in one order, and leave torch as it was."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shards() -> list[Shard]:
    """Return 40 examples of 0.8 s whose features tell who speaks."""
    source = np.random.default_rng(1)
    active = np.repeat(source.random((40, 5, 3)) < 0.4, 8, axis=1)
    features = np.tile(source.normal(0, 0.5, 552), (40, 40, 1))
    features[:, :, :3] += active * 3
    return [Shard(features=features.astype(np.float16), active=active)]

"""A network small enough for tests, and clips that need no synthesizer."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from pipeline.demo.training.speech import RATE, Clip, Sentence

TEXTS = ("Thank you.", "My name is Anna.", "It is one two three.", "Goodbye.", "Can I get a refund?", "Hello, my bill.")


@pytest.fixture(scope="session")
def clips() -> list[Clip]:
    """Return twelve clips of 0.6 to 1.4 s, ordered by length; every one sounds different."""
    made = []
    for number in range(12):
        seconds = 0.6 + 0.07 * number
        times = np.arange(round(seconds * RATE)) / RATE
        audio = (8000 * np.sin(2 * np.pi * (200 + 150 * number) * times)).astype(np.int16)
        made.append(Clip(audio, (Sentence(TEXTS[number % len(TEXTS)], 0.0, seconds),)))
    return made


@pytest.fixture
def network() -> Any:
    """Return a network of random weights with Whisper's vocabulary and positions, and little else."""
    torch = pytest.importorskip("torch")
    from pipeline.demo.training.network import Dimensions, Whisper

    torch.manual_seed(1)
    network = Whisper(
        Dimensions(n_audio_state=16, n_audio_head=2, n_audio_layer=1, n_text_state=16, n_text_head=2, n_text_layer=2)
    )
    network.initialise()
    return network


@pytest.fixture
def source() -> random.Random:
    """Return a source of numbers that is the same in every test."""
    return random.Random(1)

"""Silence, tones, noise and music give no words, whatever the voice activity detector says."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.bench.policy.no_speech import RATE, Heard, listen, sounds
from pipeline.runtime.settings import Settings, load


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(environment={}).settings


@pytest.mark.parametrize("name", sorted(sounds(0.1)))
@pytest.mark.parametrize("is_forced_open", [False, True])
def test_no_speech_gives_no_words(name: str, is_forced_open: bool, settings: Settings) -> None:
    assert listen(name, 8.0, settings, is_forced_open=is_forced_open).words == 0


def test_forced_open_the_recogniser_does_hear_it(settings: Settings) -> None:
    """Music makes the model write; what keeps it from being committed is counted."""
    assert sum(listen("hold music", 12.0, settings, is_forced_open=True).refusals.values()) > 0
    assert listen("hold music", 12.0, settings, is_forced_open=False) == Heard(words=0)


def test_sounds_are_audible_and_do_not_clip() -> None:
    for name, sound in sounds(3.0).items():
        assert (sound.dtype, len(sound)) == (np.float32, 3 * RATE)
        assert (np.abs(sound).max() > 0.003) == (name != "silence")
        assert np.abs(sound).max() <= 1.0

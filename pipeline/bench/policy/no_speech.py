"""Ten minutes of what is no speech, through the whole path and with voice activity forced open: there must be no words."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import FeedOptions, records
from pipeline.replay import Replay
from pipeline.runtime.settings import Settings
from schemas.records import CallAnnotation

RATE = 8000
SECONDS = 100.0  # of each sound; six make ten minutes
LEVEL = 0.1
KEYS_HERTZ = ((697, 1209), (770, 1336), (852, 1477), (941, 1336), (697, 1477))
CHORDS_HERTZ = ((262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294))
FORCED_OPEN = {"threshold": 1e-9, "negative_threshold": 1e-9, "silence_dbfs": -100.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was made of a sound: committed words, and how many hypotheses each guard refused."""

    words: int
    refusals: Mapping[str, int] = field(default_factory=dict)


def sounds(seconds: float = SECONDS) -> dict[str, NDArray[np.float32]]:
    """Return sounds by name: float32 [samples] at 8 kHz in -1..1."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.RandomState(1).standard_normal(len(time))
    is_on = (time % 6.0) < 2.0
    key = (time // 0.4).astype(int) % len(KEYS_HERTZ)
    bar = (time // 0.6).astype(int) % len(CHORDS_HERTZ)
    keys = _chords(time, KEYS_HERTZ, key) * ((time % 0.4) < 0.2)
    struck = _chords(time, CHORDS_HERTZ, bar, overtones=4) * np.exp(-3.0 * (time % 0.6))
    made = {
        "silence": np.zeros(len(time)),
        "ringing": _chords(time, ((440, 480),), np.zeros(len(time), dtype=int)) * is_on,
        "keypad tones": keys,
        "white noise": noise * LEVEL,
        "faint noise": noise * LEVEL / 50,
        "hold music": struck,
    }
    return {name: np.clip(sound, -1.0, 1.0).astype(np.float32) for name, sound in made.items()}


def listen(name: str, seconds: float, settings: Settings, *, is_forced_open: bool) -> Heard:
    """Return what the stages make of a sound. Raises NotReadyError when a model is missing."""
    import soundfile

    if is_forced_open:
        settings = settings.model_copy(update={"vad": settings.vad.model_copy(update=FORCED_OPEN)})
    words, refusals = 0, Counter[str]()
    with tempfile.TemporaryDirectory(prefix="callscribe-") as folder:
        path = Path(folder) / "sound.wav"
        soundfile.write(path, sounds(seconds)[name], RATE, subtype="ULAW")
        with open_audio(path, name=name) as audio:
            options = FeedOptions(roles={0: "agent"}, language="en")
            fed = records(audio, options, call_id="sound", capture_start_ms=0)
            for record in Replay(settings).run(fed):
                if isinstance(record, CallAnnotation) and record.words is not None:
                    words += len(record.words.words)
                    refusals.update(record.words.refusals)
    return Heard(words=words, refusals=dict(sorted(refusals.items())))


def _chords(
    time: NDArray[np.float64], chords: tuple[tuple[int, ...], ...], which: NDArray[np.int64], *, overtones: int = 1
) -> NDArray[np.float64]:
    """Return the chord that ``which`` names at every moment."""
    played = [
        sum(np.sin(2 * np.pi * hertz * n * time) / n for hertz in chord for n in range(1, overtones + 1))
        for chord in chords
    ]
    return np.asarray(np.choose(which, played) * LEVEL / max(len(chord) for chord in chords), dtype=np.float64)

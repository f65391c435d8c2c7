"""Makes the demo model's self-test recording and its machine-readable card.

    python -m pipeline.demo.make_card

``card.json`` holds what a program must know of a model folder: the digest of its weights, how much padding its windows
need, and a recording with the text that a sound copy of the model writes for it. Needs flite.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

from pipeline.demo.assets import MODEL
from pipeline.demo.baseline import PADDING_SECONDS, RATE, decode
from pipeline.demo.dialogues import Voice
from pipeline.demo.make_calls import synthesize, synthesizers

RECORDING = "self_test.flac"
SENTENCE = "Good afternoon, how may I help you?"
VOICE = Voice(program="flite", name="slt", rate=1.0, pitch=180)
PEAK = 0.5
EDGE_SECONDS = 0.1  # zeros before and after the speech


def make_card(folder: Path) -> Path:
    """Write ``self_test.flac`` (16 kHz, mono, 16 bit) and ``card.json`` into a model folder; return the card's path."""
    import soundfile

    speech = synthesize(SENTENCE, VOICE, rate_hz=RATE)
    audio = np.pad(speech * (PEAK / np.abs(speech).max()), round(EDGE_SECONDS * RATE))
    soundfile.write(folder / RECORDING, audio, RATE, format="FLAC", subtype="PCM_16")
    recorded, _ = soundfile.read(folder / RECORDING, dtype="float32")
    weights = folder / "model.bin"
    card = {
        "name": "demo",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "bytes": weights.stat().st_size,
        "languages": ["en"],
        "is_multilingual": True,
        "sample_rate_hz": RATE,
        "padding_seconds": PADDING_SECONDS,
        "min_mean_log_probability": -1.05,
        "sure_log_probability": -0.8,
        "suppress_annotations": False,
        "prompt_tokens": 0,  # earlier text costs this model words
        "step_seconds": 1.2,
        "frame_threshold": 4,
        "self_test": {"audio": RECORDING, "language": "en", "text": decode(recorded, folder)[0]},
    }
    path = folder / "card.json"
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Make the card of the shipped model."""
    argparse.ArgumentParser(description="Make the demo model's self-test recording and card.").parse_args()
    synthesizers()
    print(make_card(MODEL))


if __name__ == "__main__":
    main()

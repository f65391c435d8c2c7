"""Makes the shipped calls and their references with the synthesizers espeak-ng and flite.

    python -m pipeline.demo.make_calls [--seed N] [--out FOLDER]

The same seed and synthesizer versions give the same files, byte for byte. The product never runs this: the calls are
shipped.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import NotReadyError
from pipeline.demo.assets import CALLS
from pipeline.demo.dialogues import AGENT, CUSTOMER, DIALOGUES, Dialogue, Hold, Turn, Voice

RATE = 8000
SEED = 7
LEAD_SECONDS = 0.6
TAIL_SECONDS = 1.0
GAP_SECONDS = (0.2, 1.2)  # between speakers, drawn
SENTENCE_SECONDS = (0.2, 0.45)  # between sentences of one turn
PAUSE_SECONDS = (0.3, 0.6)  # inside a sentence, at "|"
EDGE = 0.004  # samples below count as silence around a sentence
EDGE_SECONDS = 0.025  # kept around a sentence

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Placed:
    """A sentence and where its audio starts, in samples."""

    channel: int
    start: int
    audio: Samples
    text: str


def synthesizers() -> dict[str, str]:
    """Return the versions of espeak-ng and flite. Raises NotReadyError when one is not installed."""
    versions = {}
    for program in ("espeak-ng", "flite"):
        if shutil.which(program) is None:
            raise NotReadyError(f"{program} is not installed; it is needed to make the demo calls, not to run them")
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"\d+\.\d+(\.\d+)?", answer.stdout + answer.stderr)
        versions[program] = found.group() if found else "unknown"
    return versions


def make_call(dialogue: Dialogue, *, seed: int, out: Path, versions: dict[str, str]) -> Path:
    """Write ``<name>.wav`` (two channels, 8 kHz, mu-law) and ``<name>.json``; return the latter's path."""
    import soundfile

    placed, events = lay_out(dialogue, random.Random(f"{seed}/{dialogue.name}"))
    audio = mix(dialogue, placed, noise_seed=seed * 2)
    out.mkdir(parents=True, exist_ok=True)
    soundfile.write(out / f"{dialogue.name}.wav", audio, RATE, format="WAV", subtype="ULAW")
    path = out / f"{dialogue.name}.json"
    document = reference(dialogue, placed, events) | {"synthesizers": versions, "seed": seed}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def mix(dialogue: Dialogue, placed: list[Placed], *, noise_seed: int) -> Samples:
    """Return the channels of a call, levels and line noise applied; float32, shape (samples, 2), full scale 1.

    Channel c draws its noise from ``noise_seed + c``. Raises ValueError when the sum would clip.
    """
    length = max(sentence.start + len(sentence.audio) for sentence in placed) + round(TAIL_SECONDS * RATE)
    audio = np.zeros((length, 2), dtype=np.float32)
    for sentence in placed:
        audio[sentence.start : sentence.start + len(sentence.audio), sentence.channel] += sentence.audio
    for channel in (AGENT, CUSTOMER):
        audio[:, channel] *= gain(placed, channel, dialogue.level_dbfs[channel])
    for channel, level in enumerate(dialogue.noise_dbfs):
        if level is not None:
            audio[:, channel] += line_noise(length, level, seed=noise_seed + channel)
    if (peak := float(np.abs(audio).max())) > 0.95:
        raise ValueError(f"{dialogue.name}: peak {peak:.2f} would clip; lower its level")
    return audio


def synthesize(text: str, voice: Voice, *, rate_hz: int = RATE) -> Samples:
    """Return ``text`` in ``voice``, silence at its edges cut off; float32, shape (samples,)."""
    import soundfile
    import soxr

    if voice.program == "espeak-ng":
        command = [
            "espeak-ng",
            "-v",
            voice.name,
            "-s",
            str(round(voice.rate)),
            "-p",
            str(voice.pitch),
            "--stdout",
            text,
        ]
        wav = subprocess.run(command, capture_output=True, check=True).stdout
        # A stream has no length to write into its header; libsndfile then reads to the end.
        audio, rate = soundfile.read(
            io.BytesIO(wav[44:]), dtype="float32", format="RAW", subtype="PCM_16", channels=1, samplerate=22_050
        )
    else:
        with tempfile.TemporaryDirectory() as folder:
            wav_path = Path(folder) / "speech.wav"
            settings = ["--setf", f"duration_stretch={voice.rate}", "--setf", f"int_f0_target_mean={voice.pitch}"]
            subprocess.run(
                ["flite", "-voice", voice.name, *settings, "-t", text, "-o", str(wav_path)],
                capture_output=True,
                check=True,
            )
            audio, rate = soundfile.read(wav_path, dtype="float32")
    speech = soxr.resample(audio, rate, rate_hz).astype(np.float32)
    loud = np.flatnonzero(np.abs(speech) > EDGE)
    edge = round(EDGE_SECONDS * rate_hz)
    return np.asarray(speech[max(0, loud[0] - edge) : loud[-1] + edge], dtype=np.float32)


def lay_out(
    dialogue: Dialogue, source: random.Random, *, synthesis: Callable[[str, Voice], Samples] = synthesize
) -> tuple[list[Placed], list[dict[str, Any]]]:
    """Return the sentences with their places, and the holds as `reference` writes them."""
    placed: list[Placed] = []
    events: list[dict[str, Any]] = []
    free = [0, 0]  # first sample at which a channel may speak again
    end = round(LEAD_SECONDS * RATE)  # where the last speaker, or hold, ended
    is_quiet = True  # nobody to wait for
    for turn in dialogue.turns:
        if isinstance(turn, Hold):
            start, end = end, end + round(turn.seconds * RATE)
            events.append({"kind": turn.kind, "start_seconds": start / RATE, "end_seconds": end / RATE})
            is_quiet = True
            continue
        gap = turn.gap_seconds
        if gap is None:
            gap = 0.0 if is_quiet else source.uniform(*GAP_SECONDS)
        start = max(free[turn.channel], end + round(gap * RATE))
        spoken = _speak(turn, dialogue.voices[turn.channel], source, start, synthesis)
        placed += spoken
        finish = spoken[-1].start + len(spoken[-1].audio)
        end, is_quiet = max(end, finish), False
        free[turn.channel] = finish + round(SENTENCE_SECONDS[0] * RATE)
    return placed, events


def _speak(
    turn: Turn, voice: Voice, source: random.Random, start: int, synthesis: Callable[[str, Voice], Samples]
) -> list[Placed]:
    spoken = []
    for sentence in turn.sentences:
        pieces = [synthesis(piece.strip(), voice) for piece in sentence.split("|")]
        audio = pieces[0]
        for piece in pieces[1:]:
            pause = np.zeros(round(source.uniform(*PAUSE_SECONDS) * RATE), dtype=np.float32)
            audio = np.concatenate([audio, pause, piece])
        spoken.append(Placed(turn.channel, start, audio, " ".join(sentence.replace("|", " ").split())))
        start += len(audio) + round(source.uniform(*SENTENCE_SECONDS) * RATE)
    return spoken


def gain(placed: list[Placed], channel: int, level_dbfs: float) -> float:
    """Return the factor that brings a channel's speech, pauses left out, to an RMS level."""
    speech = np.concatenate([sentence.audio for sentence in placed if sentence.channel == channel])
    loud = speech[np.abs(speech) > EDGE]
    return float(10 ** (level_dbfs / 20) / np.sqrt(np.mean(np.square(loud))))


def line_noise(samples: int, level_dbfs: float, *, seed: int) -> Samples:
    """Return white noise of an RMS level; RandomState, because NumPy has frozen its stream."""
    return np.asarray(np.random.RandomState(seed).standard_normal(samples) * 10 ** (level_dbfs / 20), dtype=np.float32)


def reference(dialogue: Dialogue, placed: list[Placed], events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is said where, and the holds, as the JSON document of a call."""
    utterances = [
        {
            "channel": sentence.channel,
            "start_seconds": round(sentence.start / RATE, 3),
            "end_seconds": round((sentence.start + len(sentence.audio)) / RATE, 3),
            "text": sentence.text,
        }
        for sentence in sorted(placed, key=lambda sentence: (sentence.start, sentence.channel))
    ]
    return {
        "call": dialogue.name,
        "description": dialogue.description,
        "sample_rate_hz": RATE,
        "channels": [{"channel": AGENT, "role": "agent"}, {"channel": CUSTOMER, "role": "customer"}],
        "words": sum(len(sentence.text.split()) for sentence in placed),
        "events": [
            {key: round(value, 3) if isinstance(value, float) else value for key, value in event.items()}
            for event in events
        ],
        "utterances": utterances,
    }


def main() -> None:
    """Make every call."""
    parser = argparse.ArgumentParser(description="Make the demo calls and their references.")
    parser.add_argument(
        "--seed", type=int, default=SEED, help="draws gaps, pauses and line noise (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=CALLS, help="folder to write into (default: the shipped calls)")
    options = parser.parse_args()
    versions = synthesizers()
    for dialogue in DIALOGUES:
        print(make_call(dialogue, seed=options.seed, out=options.out, versions=versions))


if __name__ == "__main__":
    main()

"""What a model makes of the shipped calls, and of sounds that are no speech."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import bench
from pipeline.bench.recordings import Recording, recordings
from pipeline.core.errors import NotReadyError
from pipeline.core.wer import WordErrors, normalise, word_error_rate
from pipeline.demo.assets import CALLS, MODEL
from pipeline.demo.baseline import MAX_TOKENS, PADDING_SECONDS, RATE, offline_transcript
from pipeline.demo.training.augment import Audio, chord, tones

BENCH_CALLS = Path(bench.__file__).resolve().parent / "calls"
SPEECH = "self_test.flac"  # of the shipped model: every model is given the same
SOUND_SECONDS = 5.0
LEVEL = 0.1  # amplitude of tones, RMS of noise
CHORDS_HERTZ = ((262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294))
CHORD_SECONDS = SOUND_SECONDS / 8
OVERTONES, FADING_PER_SECOND = 4, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the model makes of a sound: the two scores that can tell speech from none, and the text."""

    no_speech_probability: float
    mean_log_probability: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Word errors by set of calls, offline, and what is heard in single sounds by their name; one of them is speech."""

    errors: Mapping[str, WordErrors]
    sounds: Mapping[str, Heard]

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON writes them."""
        return {
            "calls": {
                name: {"words": row.words, "errors": row.errors, "rate": row.rate} for name, row in self.errors.items()
            },
            "sounds": {
                name: {
                    "no_speech_probability": round(heard.no_speech_probability, 3),
                    "mean_log_probability": round(heard.mean_log_probability, 2),
                    "text": heard.text,
                }
                for name, heard in self.sounds.items()
            },
        }


def evaluate(model: Path) -> Evaluation:
    """Return what the model in ``model``, a CTranslate2 folder, makes of everything that is shipped.

    Raises NotReadyError when it cannot be loaded.
    """
    try:
        errors = {name: _errors(calls, model) for name, calls in call_sets().items()}
        return Evaluation(errors=errors, sounds=dict(_heard(model)))
    except (RuntimeError, ValueError, OSError) as error:
        raise NotReadyError(f"the model in {model} cannot be used: {error}") from error


def call_sets() -> dict[str, list[Recording]]:
    """Return the shipped calls: those of the demonstration, and of the benchmark by kind, where there are any."""
    sets = {"demo": list(recordings(CALLS))}
    if any(BENCH_CALLS.glob("*.json")):
        for call in sorted(recordings(BENCH_CALLS), key=lambda call: call.kind, reverse=True):  # plain before hard
            sets.setdefault(f"bench {call.kind}".strip(), []).append(call)
    return sets


def table(evaluation: Evaluation) -> str:
    """Return the figures as two Markdown tables."""
    lines = ["| calls | words | errors | word error rate |", "|---|---|---|---|"]
    lines += [f"| {name} | {row.words} | {row.errors} | {row.rate:.1%} |" for name, row in evaluation.errors.items()]
    lines += ["", "| 5 s of | no-speech probability | mean log probability | text |", "|---|---|---|---|"]
    lines += [
        f'| {name} | {heard.no_speech_probability:.2f} | {heard.mean_log_probability:.1f} | "{heard.text}" |'
        for name, heard in evaluation.sounds.items()
    ]
    return "\n".join(lines)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write ``evaluation.json`` and ``evaluation.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps(evaluation.document(), indent=2, ensure_ascii=False)
    (folder / "evaluation.json").write_text(document + "\n", encoding="utf-8")
    (folder / "evaluation.md").write_text(table(evaluation) + "\n", encoding="utf-8")


def sounds() -> dict[str, Audio]:
    """Return sounds by name, float32, shape (samples,), 16 kHz, 5 s each: all but ``speech`` hold no word."""
    import soundfile

    speech, _ = soundfile.read(MODEL / SPEECH, dtype="float32")
    noise = np.random.RandomState(1).standard_normal(round(SOUND_SECONDS * RATE)) * LEVEL
    return {
        "silence": np.zeros(round(SOUND_SECONDS * RATE), dtype=np.float32),
        "white noise": noise.astype(np.float32),
        "ringing (440 and 480 Hz)": tones((440, 480), SOUND_SECONDS, level=LEVEL),
        "DTMF (697 and 1209 Hz)": tones((697, 1209), SOUND_SECONDS, level=LEVEL, switching_hertz=2.5),
        "a chord": tones(CHORDS_HERTZ[0], SOUND_SECONDS, level=LEVEL),
        "music": _music(),
        "speech": speech,
    }


def _music() -> Audio:
    """Return chords that are struck and fade: hold music at its plainest."""
    played = [
        chord(notes, CHORD_SECONDS, level=LEVEL, overtones=OVERTONES, fading_per_second=FADING_PER_SECOND)
        for notes in CHORDS_HERTZ * 2
    ]
    return np.concatenate(played)


def _errors(calls: Sequence[Recording], model: Path) -> WordErrors:
    total = WordErrors(errors=0, words=0)
    for call in calls:
        regions = offline_transcript(call.path, model)
        for channel in call.references:
            heard = " ".join(region.text for region in regions if region.channel == channel)
            total += word_error_rate(normalise(call.text(channel)), normalise(heard))
    return total


def _heard(folder: Path) -> Iterator[tuple[str, Heard]]:
    """Yield each sound's name and what is heard in it, decoded as `baseline.decode` does."""
    import ctranslate2
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)
    tokenizer = Tokenizer(model.hf_tokenizer, True, task="transcribe", language="en")
    for name, audio in sounds().items():
        padded = np.pad(audio, (0, round(PADDING_SECONDS * RATE)))
        features = np.ascontiguousarray(model.feature_extractor(padded, padding=0)[None])
        result = model.model.generate(
            ctranslate2.StorageView.from_array(features),
            [[*tokenizer.sot_sequence, tokenizer.no_timestamps]],
            beam_size=1,
            max_length=MAX_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=[],
        )[0]
        text = tokenizer.decode([token for token in result.sequences_ids[0] if token < tokenizer.eot]).strip()
        probability, score = float(result.no_speech_prob), float(result.scores[0])
        yield name, Heard(no_speech_probability=probability, mean_log_probability=score, text=text)

"""Training speech: call-centre sentences in synthetic voices, in numbered shards on disk.

A clip is one to four sentences of one voice, and where each begins and ends. A clip depends on its seed, its number and
the synthesizers' versions alone, so that a run that broke off continues with the shards that are missing.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import NotReadyError, UsageError
from pipeline.demo.dialogues import Voice
from pipeline.demo.make_calls import synthesize, synthesizers
from pipeline.demo.phrases import ADJECTIVES, AGENT, CUSTOMER, DIGITS, FIELDS, PROBLEMS, THINGS, VERBS

RATE = 16_000
SHARD_CLIPS = 100
MAX_CLIP_SECONDS = 24.0  # no further sentence is added after this
TEMPLATE_SHARE, DIGITS_SHARE = 0.7, 0.1  # the rest are words in random order
SENTENCES = (1, 1, 1, 2, 2, 3, 4)  # of a clip, drawn
DIGIT_COUNT = (3, 9)  # in a template
DIGIT_SENTENCE = (3, 10)
WORD_SENTENCE = (3, 9)
LEAD_SECONDS = (0.0, 0.5)
GAP_SECONDS = (0.05, 0.7)  # after every sentence
PEAK = (0.2, 0.9)

ESPEAK_SHARE = 0.4
ESPEAK_VOICES = ("en-us", "en-us+m3", "en-us+f2", "en-gb", "en-gb+f3", "en-us+m7")
ESPEAK_WORDS_PER_MINUTE, ESPEAK_PITCH = (140, 185), (35, 65)
FLITE_VOICES = ("kal16", "awb", "rms", "slt", "slt", "rms")
FLITE_STRETCH = (0.85, 1.15)
FLITE_HERTZ: Mapping[str, tuple[int, int]] = {
    "kal16": (85, 120),
    "awb": (110, 150),
    "rms": (80, 115),
    "slt": (150, 210),
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is said, and where in the clip, in seconds."""

    text: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Sentences of one voice and their audio, int16, shape (samples,), 16 kHz, mono."""

    audio: npt.NDArray[np.int16]
    sentences: tuple[Sentence, ...]

    @property
    def seconds(self) -> float:
        """Return the length of the audio."""
        return len(self.audio) / RATE


def words_in_any_order() -> tuple[str, ...]:
    """Return the words, in lower case, that sentences of random word order are made of: no names, months or digits."""
    fixed = " ".join(re.sub(r"\{\w+\}", " ", template) for template in AGENT + CUSTOMER)
    text = " ".join((fixed, *THINGS, *ADJECTIVES, *VERBS, *PROBLEMS)).lower()
    return tuple(sorted({word for word in re.findall(r"[a-z]+", text) if len(word) > 1}))


WORDS = words_in_any_order()


def draw_sentence(source: random.Random) -> str:
    """Return a sentence: from a template, a number digit by digit, or known words in random order."""
    kind = source.random()
    if kind < TEMPLATE_SHARE:
        return _fill(source.choice(AGENT if source.random() < 0.5 else CUSTOMER), source)
    if kind < TEMPLATE_SHARE + DIGITS_SHARE:
        return _digits(source, DIGIT_SENTENCE).capitalize() + "."
    words = " ".join(source.choice(WORDS) for _ in range(source.randint(*WORD_SENTENCE)))
    return words[0].upper() + words[1:] + source.choice("..?")


def draw_voice(source: random.Random) -> Voice:
    """Return one of the voices, at a rate and pitch the model is to know."""
    if source.random() < ESPEAK_SHARE:
        rate, pitch = source.randint(*ESPEAK_WORDS_PER_MINUTE), source.randint(*ESPEAK_PITCH)
        return Voice(program="espeak-ng", name=source.choice(ESPEAK_VOICES), rate=rate, pitch=pitch)
    name = source.choice(FLITE_VOICES)
    stretch, pitch = round(source.uniform(*FLITE_STRETCH), 2), source.randint(*FLITE_HERTZ[name])
    return Voice(program="flite", name=name, rate=stretch, pitch=pitch)


def make_clip(seed: str) -> Clip:
    """Return the clip of a seed. Raises NotReadyError when a synthesizer does not speak."""
    source = random.Random(seed)
    voice = draw_voice(source)
    pieces = [_silence(source, LEAD_SECONDS)]
    sentences = []
    length = len(pieces[0])
    for _ in range(source.choice(SENTENCES)):
        text = draw_sentence(source)
        try:
            speech = synthesize(text, voice, rate_hz=RATE)
        except (subprocess.CalledProcessError, OSError, IndexError):  # an index of the first loud sample: all is silent
            raise NotReadyError(f"{voice.program} does not speak in the voice {voice.name}") from None
        end = length + len(speech)
        sentences.append(Sentence(text, round(length / RATE, 3), round(end / RATE, 3)))
        pieces += [speech, _silence(source, GAP_SECONDS)]
        length = end + len(pieces[-1])
        if length > MAX_CLIP_SECONDS * RATE:
            break
    audio = np.concatenate(pieces)
    audio *= source.uniform(*PEAK) / max(1e-3, float(np.abs(audio).max()))
    return Clip((audio * 32767).astype(np.int16), tuple(sentences))


def make_speech(folder: Path, name: str, clips: int, *, seed: int, threads: int) -> Iterator[str]:
    """Write the clips of a set, such as ``train``, as shards ``<name>-<number>.npy`` (audio) and ``.json`` (sentences).

    Shards that are there already are kept. Yields a line of progress for every shard. Raises NotReadyError when a
    synthesizer is missing, UsageError when the folder holds shards of another seed or of other synthesizers.
    """
    origin = {"seed": seed, "synthesizers": synthesizers()}
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, clips, SHARD_CLIPS)
    seconds = 0.0
    with ThreadPoolExecutor(threads) as pool:
        numbers = (range(start, min(start + SHARD_CLIPS, clips)) for start in starts)
        shards = [pool.submit(_make_shard, folder / f"{name}-{part.start:06d}", part, origin) for part in numbers]
        try:
            for done, shard in enumerate(as_completed(shards), start=1):
                seconds += shard.result()
                yield f"{name}: {done} of {len(starts)} shards, {seconds / 3600:.2f} h of audio"
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def load_speech(folder: Path, name: str) -> list[Clip]:
    """Return the clips of a set, in order; audio stays on disk until it is used. Raises NotReadyError when none is there."""
    clips = []
    for path in sorted(folder.glob(f"{name}-*.json")):
        audio = np.load(path.with_suffix(".npy"), mmap_mode="r")
        start = 0
        for samples, sentences in json.loads(path.read_text(encoding="utf-8"))["clips"]:
            clips.append(Clip(audio[start : start + samples], tuple(Sentence(**sentence) for sentence in sentences)))
            start += samples
    if not clips:
        raise NotReadyError(f"no clips of the set {name!r} in {folder}: make them first")
    return clips


def _make_shard(stem: Path, numbers: range, origin: Mapping[str, Any]) -> float:
    """Write a shard unless it is there; return its seconds of audio. The JSON is last: with it the shard is complete."""
    path = stem.with_suffix(".json")
    if path.exists():
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["origin"] != origin:
            raise UsageError(f"{path} was made from {document['origin']}, not from {origin}: choose another folder")
        if len(document["clips"]) >= len(numbers):
            return float(sum(samples for samples, _ in document["clips"]) / RATE)
    clips = [make_clip(f"{origin['seed']}/{stem.name.rpartition('-')[0]}/{number}") for number in numbers]
    rows = [[len(clip.audio), [asdict(sentence) for sentence in clip.sentences]] for clip in clips]
    partial = stem.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, np.concatenate([clip.audio for clip in clips]))
    os.replace(partial, stem.with_suffix(".npy"))
    partial.write_text(json.dumps({"origin": origin, "clips": rows}) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return sum(clip.seconds for clip in clips)


def _fill(template: str, source: random.Random) -> str:
    def choose(field: re.Match[str]) -> str:
        return _digits(source, DIGIT_COUNT) if field[1] == "digits" else source.choice(FIELDS[field[1]])

    return re.sub(r"\{(\w+)\}", choose, template)


def _digits(source: random.Random, count: tuple[int, int]) -> str:
    return " ".join(source.choice(DIGITS) for _ in range(source.randint(*count)))


def _silence(source: random.Random, seconds: tuple[float, float]) -> npt.NDArray[np.float32]:
    return np.zeros(round(source.uniform(*seconds) * RATE), dtype=np.float32)

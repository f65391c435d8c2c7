"""Clips become training examples: joined, cut, put on a telephone line, or replaced by what is no speech.

Everything is drawn from the ``random.Random`` that is passed in. Audio of an example is float32, 16 kHz, full scale 1.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.core import g711
from pipeline.core.resample import TAPS_AHEAD, TAPS_BEHIND, double_rate
from pipeline.demo.training.speech import RATE, Clip, Sentence

MAX_SECONDS = 28.5  # of joined clips; the network hears 30 s
JOIN_GAP_SECONDS = (0.0, 0.8)
NO_SPEECH_SHARE = 0.04
LATER_START_SHARE, EARLIER_END_SHARE = 0.3, 0.2  # among clips of several sentences
TRUNCATED_SHARE = 0.35
WORD_END_SECONDS = 0.04  # a word counts as heard when it ends this long before the cut
TRAILING_SILENCE_SHARE, TRAILING_SILENCE_SECONDS = 0.2, (0.0, 2.0)
TIMESTAMPS_SHARE = 0.45  # among examples that are not truncated
PROMPT_SHARE = 0.7  # among those that start later
GAIN = (-1.0, 0.1)  # powers of ten
TELEPHONE_SHARE = 0.6
NOISE_SHARE, NOISE = 0.6, (-4.3, -2.3)  # RMS in powers of ten

NO_SPEECH_SECONDS = (1.0, 12.0)
NO_SPEECH_LEVEL = (-3.5, -1.0)
SILENCE_SHARE, WHITE_NOISE_SHARE, TONES_SHARE = 0.3, 0.3, 0.2  # the rest is music
TONES_HERTZ = ((440, 480), (350, 440), (697, 1209), (262, 330, 392), (1004,))  # ringing, dial tone, DTMF, a chord, test
TONE_SWITCHING_HERTZ = (0.2, 3.0)
LOWEST_NOTE_HERTZ, NOTES = 98.0, 30  # of music: semitones up from G2
CHORD_STEPS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 11), (0, 5, 7), (0, 12))  # semitones
CHORD_SECONDS, FADING_PER_SECOND = (0.2, 1.5), (0.3, 6.0)
OVERTONES = (1, 6)

Audio = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Example:
    """What the network hears, float32, shape (samples,), and what it is to write.

    ``prompt`` is the text before the audio. Without speech there are no sentences.
    """

    audio: Audio
    sentences: tuple[Sentence, ...] = ()
    prompt: str = ""
    has_timestamps: bool = False
    is_speech: bool = True

    @property
    def text(self) -> str:
        """Return everything said, in order."""
        return " ".join(sentence.text for sentence in self.sentences)


def draw_example(clips: Sequence[Clip], source: random.Random) -> Example:
    """Return an example made of ``clips``, one after the other, or one without speech in their stead."""
    if source.random() < NO_SPEECH_SHARE:
        return Example(audio=degrade(draw_no_speech(source), source), is_speech=False)
    clip, prompt = join(clips, source), ""
    if len(clip.sentences) > 1 and source.random() < LATER_START_SHARE:
        clip, prompt = start_later(clip, source)
        prompt = prompt if source.random() < PROMPT_SHARE else ""
    if len(clip.sentences) > 1 and source.random() < EARLIER_END_SHARE:
        clip = end_earlier(clip)
    is_truncated = source.random() < TRUNCATED_SHARE
    if is_truncated:
        clip = truncate(clip, source.uniform(0.3, max(0.3, clip.seconds)))
    audio = degrade(clip.audio.astype(np.float32) / 32768 * 10 ** source.uniform(*GAIN), source)
    if not is_truncated and source.random() < TRAILING_SILENCE_SHARE:
        audio = np.pad(audio, (0, round(source.uniform(*TRAILING_SILENCE_SECONDS) * RATE)))
    has_timestamps = not is_truncated and source.random() < TIMESTAMPS_SHARE
    return Example(audio=audio, sentences=clip.sentences, prompt=prompt, has_timestamps=has_timestamps)


def join(clips: Sequence[Clip], source: random.Random) -> Clip:
    """Return clips one after the other with a gap between; those with which it would get too long are left out."""
    audio, sentences = [np.asarray(clips[0].audio)], list(clips[0].sentences)
    length = len(audio[0])
    for clip in clips[1:]:
        if length + len(clip.audio) > MAX_SECONDS * RATE:
            continue
        gap = np.zeros(round(source.uniform(*JOIN_GAP_SECONDS) * RATE), dtype=np.int16)
        sentences += _moved(clip.sentences, (length + len(gap)) / RATE)
        audio += [gap, clip.audio]
        length += len(gap) + len(clip.audio)
    return Clip(np.concatenate(audio), tuple(sentences))


def start_later(clip: Clip, source: random.Random) -> tuple[Clip, str]:
    """Return the clip from one of its later sentences on, and the text before that."""
    first = source.randint(1, len(clip.sentences) - 1)
    start = round(max(0.0, clip.sentences[first].start_seconds - source.uniform(0.0, 0.1)) * RATE)
    prompt = " ".join(sentence.text for sentence in clip.sentences[:first])
    return Clip(clip.audio[start:], tuple(_moved(clip.sentences[first:], -start / RATE))), prompt


def end_earlier(clip: Clip) -> Clip:
    """Return the clip without its last sentence, and with at most 0.3 s of the gap before that."""
    last, left_out = clip.sentences[-2:]
    gap = min(0.3, max(0.0, left_out.start_seconds - last.end_seconds))
    return Clip(clip.audio[: round((last.end_seconds + gap) * RATE)], clip.sentences[:-1])


def truncate(clip: Clip, seconds: float) -> Clip:
    """Return the first ``seconds`` of the clip with the words that end in them, taking letters to be equally long."""
    heard: list[Sentence] = []
    for sentence in clip.sentences:
        words = sentence.text.split()
        per_letter = (sentence.end_seconds - sentence.start_seconds) / sum(len(word) + 1 for word in words)
        end, kept = sentence.start_seconds, 0
        for word in words:
            end += per_letter * (len(word) + 1)
            if end > seconds - WORD_END_SECONDS:
                break
            kept += 1
        if kept:
            heard.append(replace(sentence, text=" ".join(words[:kept])))
        if kept < len(words):
            break
    return Clip(clip.audio[: round(seconds * RATE)], tuple(heard))


def degrade(audio: Audio, source: random.Random) -> Audio:
    """Return the audio as a telephone line may give it: 8 kHz mu-law and back, white noise, both or neither."""
    if source.random() < TELEPHONE_SHARE:
        audio = telephone(audio)
    if source.random() < NOISE_SHARE:
        noise = _generator(source).standard_normal(len(audio), dtype=np.float32)
        audio = audio + noise * np.float32(10 ** source.uniform(*NOISE))
    return audio


def telephone(audio: Audio) -> Audio:
    """Return the audio after G.711 mu-law at 8 kHz, doubled to 16 kHz by the product's own arithmetic; same length."""
    import soxr

    narrow = soxr.resample(audio, RATE, RATE // 2)
    samples = np.clip(np.round(narrow * 32768), -32768, 32767).astype(np.int16)
    heard = g711.decode(g711.encode(samples, "mulaw"), "mulaw")
    wide = double_rate(np.pad(heard, (TAPS_BEHIND, TAPS_AHEAD))).astype(np.float32) / 32768
    return np.pad(wide, (0, max(0, len(audio) - len(wide))))[: len(audio)]


def draw_no_speech(source: random.Random) -> Audio:
    """Return silence, white noise, tones that are switched on and off, or chords."""
    seconds, kind = source.uniform(*NO_SPEECH_SECONDS), source.random()
    level = 10 ** source.uniform(*NO_SPEECH_LEVEL)
    if kind < SILENCE_SHARE:
        return np.zeros(round(seconds * RATE), dtype=np.float32)
    if kind < SILENCE_SHARE + WHITE_NOISE_SHARE:
        noise = _generator(source).standard_normal(round(seconds * RATE), dtype=np.float32)
        return noise * np.float32(level)
    if kind < SILENCE_SHARE + WHITE_NOISE_SHARE + TONES_SHARE:
        switching = source.uniform(*TONE_SWITCHING_HERTZ)
        return tones(source.choice(TONES_HERTZ), seconds, level=level, switching_hertz=switching)
    overtones, fading = source.randint(*OVERTONES), source.uniform(*FADING_PER_SECOND)
    chord_seconds = source.uniform(*CHORD_SECONDS)
    played = [
        chord(_draw_chord(source), chord_seconds, level=level, overtones=overtones, fading_per_second=fading)
        for _ in range(round(seconds / chord_seconds) + 1)
    ]
    return np.concatenate(played)


def tones(hertz: Sequence[float], seconds: float, *, level: float, switching_hertz: float = 0.0) -> Audio:
    """Return sines of amplitude ``level`` together, off in every second half period of ``switching_hertz``."""
    times = np.arange(round(seconds * RATE)) / RATE
    audio = np.sum([np.sin(2 * np.pi * one * times) for one in hertz], axis=0) * level
    if switching_hertz:
        audio *= np.sin(2 * np.pi * switching_hertz * times) > 0
    return np.asarray(audio, dtype=np.float32)


def chord(hertz: Sequence[float], seconds: float, *, level: float, overtones: int, fading_per_second: float) -> Audio:
    """Return notes that are struck together and fade; the n-th harmonic has amplitude ``level`` / n."""
    harmonics = range(1, overtones + 1)
    struck = [tones([note * one for note in hertz], seconds, level=level / one) for one in harmonics]
    fading = np.exp(-fading_per_second * np.arange(round(seconds * RATE)) / RATE)
    return np.asarray(np.sum(struck, axis=0) * fading, dtype=np.float32)


def _draw_chord(source: random.Random) -> list[float]:
    root = LOWEST_NOTE_HERTZ * 2 ** (source.randrange(NOTES) / 12)
    return [root * 2 ** (step / 12) for step in source.choice(CHORD_STEPS)]


def _moved(sentences: Sequence[Sentence], seconds: float) -> list[Sentence]:
    return [
        Sentence(one.text, max(0.0, one.start_seconds + seconds), max(0.0, one.end_seconds + seconds))
        for one in sentences
    ]


def _generator(source: random.Random) -> np.random.Generator:
    return np.random.default_rng(source.getrandbits(64))

"""Simulated conversations of 5 s, with who speaks in each frame: what the segmentation model learns from.

A conversation of up to three speakers runs for 13 s, and 5 s are cut out of it anywhere, so that windows begin and end as those of a call
do. Every number is drawn from the ``numpy.random.Generator`` that is passed in; the shares and ranges below are the model's training
data, so changing one makes another model. Samples are float32 at 16 kHz, full scale 1, until `pipeline.diarize.training.acoustics` has put
them on a line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from pipeline.diarize.training.acoustics import WINDOW_FRAMES, WINDOW_SAMPLES, on_a_line
from pipeline.diarize.training.timbre import with_formants
from pipeline.diarize.window import FRAME, FRAMES_PER_SECOND, RATE, Flags, Floats

LOCAL_SPEAKERS = 3  # of `pipeline.diarize.segmentation`
SPEAKER_SHARES = (0.05, 0.18, 0.60, 0.17)  # conversations of nobody, of one, two, three: two talk on a telephone line
CONVERSATION_SAMPLES = WINDOW_SAMPLES + 8 * RATE
FIRST_SECONDS = (0.0, 2.0)
UTTERANCE_SECONDS, LEAST_UTTERANCE_SECONDS = (0.35, 2.6), 0.2
SCALES = (0.6, 1.0, 2.2)  # of the utterances of a conversation: brisk talk, and explanations longer than a window
SHORTEST_SECONDS, SHORTEST_SAMPLES = 0.3, 1_600
TURN_SHARE = 0.8  # somebody else goes on, else the same speaker after a pause
EARLY_SHARE, EARLY_SECONDS = 0.38, (0.1, 1.2)  # of those begin before the other has ended: enough overlap to learn it
GAP_DEVIATION_SECONDS = 0.45  # of the gaps of the others, a folded normal distribution
PAUSE_SECONDS = (0.1, 1.3)
BACKCHANNEL_SHARE, BACKCHANNEL_SECONDS = 0.12, (0.3, 0.9)  # "mhm" while the other speaks

ALIKE_SHARE = 0.12  # a further speaker has the first one's voice at another speed: near voices, as in a family
ALIKE_SPEED, LEAST_DIFFERENCE = (0.80, 1.25), 0.12  # of the logarithms of their speeds: two semitones
SPEED = (0.82, 1.22)  # of playing: changes pitch and formants, so that one voice makes many speakers
TILT = (-0.45, 0.45)  # of a first-order filter
FORMANT_SHARE, FORMANTS = 0.6, (0.87, 1.15)  # of the speakers have another vocal tract than their voice
# Nobody speaks like a machine: from one utterance to the next pitch (not the formants) and level move.
PITCH_DEVIATION, LEVEL_DEVIATION_DB = 0.05, 2.0
LOWER_DB = (0.0, 10.0)  # a speaker is quieter than the loudest may be
EQUALIZER_DB, BANDS = (-4.0, 4.0), 6  # gains at evenly spaced frequencies: microphones and telephones
RMS = 0.08  # -22 dBFS
BABBLE_SHARE, BABBLE_SPEAKERS, BABBLE_DB = 0.08, (4, 8), (12.0, 32.0)  # other people in the room, below an RMS of 0.1
TRANSFORMED = 2_048  # lengths that Fourier transforms are fast at
RAMP_SAMPLES = 160  # 10 ms, at both ends of an utterance

LOUD_QUANTILE, QUIETEST_DB = 0.9, -32.0  # frames that far below an utterance's loud ones are silent
CLOSED_FRAMES = 10  # shorter pauses, 0.2 s, belong to the speech


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Voices:
    """What each voice says, int16 at 16 kHz, and how often it is drawn, adding up to 1."""

    speech: Sequence[NDArray[np.int16]]
    shares: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """A window: int16 [80000] at 16 kHz, and bool [250, 3], which of its local speakers speak in each frame of 20 ms."""

    samples: NDArray[np.int16]
    active: Flags


class Speaker:
    """Somebody who speaks: a voice, drawn or given by its number, at a speed, with a timbre and a level of its own."""

    def __init__(self, voices: Voices, source: np.random.Generator, voice: int | None = None) -> None:
        self.voice = int(source.choice(len(voices.speech), p=voices.shares)) if voice is None else voice
        self.speed = _speed(source, SPEED)
        self._formants = source.uniform(*FORMANTS) if source.random() < FORMANT_SHARE else 1.0
        self._tilt = source.uniform(*TILT)
        self._gain = 10 ** (-source.uniform(*LOWER_DB) / 20)
        self._equalizer = source.uniform(*EQUALIZER_DB, BANDS)
        self._speech = voices.speech[self.voice]
        self._source = source

    def say(self, seconds: float) -> Floats:
        """Return a stretch of the voice's speech from anywhere, of the speaker's level; shorter where the voice has no more."""
        pitch = math.exp(self._source.normal(0, PITCH_DEVIATION))
        gain = self._gain * 10 ** (self._source.normal(0, LEVEL_DEVIATION_DB) / 20)
        speed = self.speed * pitch
        count = int(seconds * RATE * speed) + 400
        start = int(self._source.integers(0, max(1, len(self._speech) - count)))
        samples = self._speech[start : start + count].astype(np.float32) / 32768
        if abs(speed - 1) > 0.01:
            samples = soxr.resample(samples, RATE * speed, RATE, quality="QQ")
        samples = samples[: int(seconds * RATE)]
        if self._formants != 1.0:
            samples = with_formants(samples, self._formants / pitch)
        length = -(-len(samples) // TRANSFORMED) * TRANSFORMED
        spectrum = np.fft.rfft(samples, length)
        gains = np.interp(np.linspace(0, BANDS - 1, len(spectrum)), np.arange(BANDS), self._equalizer)
        samples = np.fft.irfft(spectrum * 10 ** (gains / 20), length)[: len(samples)].astype(np.float32)
        samples = samples + self._tilt * np.concatenate([[0], samples[:-1]]).astype(np.float32)
        level = float(np.sqrt((samples**2).mean())) + 1e-6
        return np.asarray(samples * (RMS / level) * gain, dtype=np.float32)

    def differ_from(self, other: Speaker) -> None:
        """Speak at a speed that is clearly another's not."""
        while abs(math.log(self.speed / other.speed)) < LEAST_DIFFERENCE:
            self.speed = _speed(self._source, ALIKE_SPEED)


def draw_mixture(voices: Voices, source: np.random.Generator) -> Mixture:
    """Return a window of a conversation, as it is heard on a line."""
    count = int(source.choice(len(SPEAKER_SHARES), p=SPEAKER_SHARES))
    speakers = draw_speakers(voices, source, count)
    first = int(source.integers(0, CONVERSATION_SAMPLES // FRAME - WINDOW_FRAMES))
    conversation = Conversation(speakers, source, first)
    if speakers:
        conversation.hold()
    samples, active = conversation.window()
    if source.random() < BABBLE_SHARE:
        samples = samples + babble(voices, source)
    heard, silenced = on_a_line(samples, source, is_empty=not speakers)
    if silenced:
        active = active.copy()
        active[:silenced] = False
    return Mixture(samples=heard, active=active)


def draw_speakers(voices: Voices, source: np.random.Generator, count: int) -> list[Speaker]:
    """Return so many speakers; those of one voice differ in speed."""
    speakers: list[Speaker] = []
    for _ in range(count):
        is_alike = bool(speakers) and source.random() < ALIKE_SHARE
        speaker = Speaker(voices, source, speakers[0].voice if is_alike else None)
        if is_alike:
            speaker.differ_from(speakers[0])
        speakers.append(speaker)
    return speakers


def babble(voices: Voices, source: np.random.Generator) -> Floats:
    """Return a window of people who talk all at once and far away, which is nobody's speech."""
    samples = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
    for _ in range(source.integers(*BABBLE_SPEAKERS)):
        spoken = Speaker(voices, source).say(WINDOW_SAMPLES / RATE)
        samples[: len(spoken)] += spoken
    level = float(np.sqrt((samples**2).mean())) + 1e-6
    return np.asarray(samples * (0.1 * 10 ** (-source.uniform(*BABBLE_DB) / 20) / level), dtype=np.float32)


class Conversation:
    """A conversation, silent before `hold`, of which only the window that begins with the frame ``first`` is rendered."""

    def __init__(self, speakers: Sequence[Speaker], source: np.random.Generator, first: int) -> None:
        self._first = first
        self._samples = np.zeros(CONVERSATION_SAMPLES, dtype=np.float32)
        self._active = np.zeros((CONVERSATION_SAMPLES // FRAME, LOCAL_SPEAKERS), dtype=np.bool_)
        self._speakers = speakers
        self._source = source

    def window(self) -> tuple[Floats, Flags]:
        """Return the window: float32 [80000], and who speaks in it, bool [250, 3]."""
        frames = slice(self._first, self._first + WINDOW_FRAMES)
        return self._samples[frames.start * FRAME : frames.stop * FRAME], self._active[frames]

    def hold(self) -> None:
        """Let the speakers, one or more, talk until the end."""
        source, seconds = self._source, CONVERSATION_SAMPLES / RATE
        start = source.uniform(*FIRST_SECONDS)
        current = int(source.integers(len(self._speakers)))
        scale = source.choice(SCALES)
        while start < seconds - 0.5:
            wanted = source.uniform(*UTTERANCE_SECONDS) * scale + LEAST_UTTERANCE_SECONDS
            length = min(wanted, seconds - start - 0.05)
            if length < SHORTEST_SECONDS:
                break
            self._say(current, start, length)
            end = start + length
            if len(self._speakers) > 1 and source.random() < BACKCHANNEL_SHARE:
                self._backchannel(current, start, end)
            if len(self._speakers) > 1 and source.random() < TURN_SHARE:
                current = self._other(current)
                is_early = source.random() < EARLY_SHARE
                start = (
                    end - source.uniform(*EARLY_SECONDS)
                    if is_early
                    else end + abs(source.normal(0, GAP_DEVIATION_SECONDS))
                )
            else:
                start = end + source.uniform(*PAUSE_SECONDS)
            start = max(start, 0)

    def _backchannel(self, current: int, start: float, end: float) -> None:
        """Let somebody else say a little within an utterance."""
        other = self._other(current)
        length = self._source.uniform(*BACKCHANNEL_SECONDS)
        at = max(0, self._source.uniform(start, max(start + 0.01, end - length)))
        self._say(other, at, length)

    def _say(self, speaker: int, start: float, seconds: float) -> None:
        """Let somebody speak, where that reaches into the window."""
        frame = int(start * FRAMES_PER_SECOND)
        if start + seconds < self._first / FRAMES_PER_SECOND or frame > self._first + WINDOW_FRAMES:
            return
        spoken = self._speakers[speaker].say(seconds)[: CONVERSATION_SAMPLES - frame * FRAME]
        if len(spoken) < SHORTEST_SAMPLES:
            return
        ramp = np.minimum(1, np.arange(len(spoken)) / RAMP_SAMPLES)
        spoken = np.asarray(spoken * ramp * ramp[::-1], dtype=np.float32)
        self._samples[frame * FRAME : frame * FRAME + len(spoken)] += spoken
        heard = speech_of(spoken)
        self._active[frame : frame + len(heard), speaker] |= heard

    def _other(self, current: int) -> int:
        return int(self._source.choice([one for one in range(len(self._speakers)) if one != current]))


def speech_of(samples: NDArray[Any]) -> Flags:
    """Return in which whole frames of an utterance there is speech: bool [frames]."""
    count = len(samples) // FRAME
    energy = (samples[: count * FRAME].reshape(count, FRAME).astype(np.float32) ** 2).mean(axis=1)
    loud = np.quantile(energy[energy > 0], LOUD_QUANTILE) if (energy > 0).any() else 1.0
    heard: Flags = energy > loud * 10 ** (QUIETEST_DB / 10)
    found = np.flatnonzero(heard)
    for before, after in pairwise(found):
        if 1 < after - before <= CLOSED_FRAMES:
            heard[before:after] = True
    return heard


def _speed(source: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(source.uniform(np.log(limits[0]), np.log(limits[1]))))

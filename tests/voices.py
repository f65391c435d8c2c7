"""A scripted diarizer: hears the words of a call's script where they are, and knows who says which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.diarize.logic import DiarizeConfig
from pipeline.diarize.partition import ClusteringConfig
from pipeline.diarize.window import FRAME, DiarizeWork, Failure, Heard, runs_of
from tests.fakes import Call, Said
from tests.positions import place_of

DIMENSIONS = 8
DIARIZE = DiarizeConfig(
    model="scripted@1",
    window=32_000,
    step=8_000,
    latency=20_800,
    threshold=0.5,
    clean_seconds=0.1,
    clustering=ClusteringConfig(distance=0.3, distance_seconds=0.0, point_seconds=0.1, new_seconds=0.2),
)


@dataclass(slots=True)
class ScriptedDiarizer:
    """Local speakers are numbered by who speaks first in a window; the voice of speaker n is the n-th unit vector, a little blurred.

    ``speakers`` says who speaks a word, by its text; else sentences alternate between two. A window whose samples are not where the
    lane says that they are is found out. Windows that end in ``failing`` (seconds, from and to) fail.
    """

    call: Call
    speakers: Mapping[str, int] = field(default_factory=dict)
    failing: tuple[float, float] = (-1.0, -1.0)
    max_batch: int = 1
    threads: int = 1
    windows: list[DiarizeWork] = field(default_factory=list)

    def infer(self, batch: Sequence[DiarizeWork]) -> list[Heard | Failure]:
        self.windows += batch
        return [self._hear(work) for work in batch]

    def speaker_of(self, channel: int, word: Said) -> int:
        if word.text in self.speakers:
            return self.speakers[word.text]
        script = self.call.script[channel]
        return sum(other.text.endswith(".") for other in script[: script.index(word)]) % 2

    def _hear(self, work: DiarizeWork) -> Heard | Failure:
        if self.failing[0] <= work.position / 16_000 < self.failing[1]:
            return Failure(reason="ScriptedError")
        start, count = work.position - len(work.audio), len(work.audio) // FRAME
        place = place_of(work.audio)
        if place is None:
            return Heard(
                scores=np.zeros((count, 0), np.float32),
                embeddings=np.zeros((0, DIMENSIONS), np.float32),
                owners=(),
            )
        assert place.start == start, "the samples of the window are not where it says"
        frames: dict[int, np.ndarray] = {}  # type: ignore[type-arg]
        for word in self.call.script[place.channel]:
            first, last = (round(at * 16_000) - start for at in (word.start, word.end))
            middle = (first + last) // 2
            if 0 <= middle < len(work.audio) and np.any(work.audio[max(0, middle - 40) : middle + 40]):
                speaker = self.speaker_of(place.channel, word)
                own = frames.setdefault(speaker, np.zeros(count, dtype=np.float32))
                own[max(0, first) // FRAME : max(0, last) // FRAME] = 1.0
        voices = np.zeros((len(frames), DIMENSIONS), dtype=np.float32)
        for local, speaker in enumerate(frames):
            voices[local, speaker] = 1.0
            voices[local, DIMENSIONS - 1] = 0.1 * (work.position % 3)  # no two windows hear quite the same
        voices /= np.maximum(np.linalg.norm(voices, axis=1, keepdims=True), 1e-9)
        scores = np.stack(list(frames.values()), axis=1) if frames else np.zeros((count, 0), np.float32)
        runs, owners = runs_of(scores > 0.5, start=work.position // FRAME - count, bridge=4, longest=20)
        return Heard(scores=runs.astype(np.float32), embeddings=voices[list(owners)], owners=owners)

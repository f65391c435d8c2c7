"""Scripted engines, calls made of positions, and runners of one stage or of the chain; no model, no broker.

The samples of a spoken word say where they are: `tests.positions` writes the position, the channel and the rate into every
four samples. So `ScriptedAsr` knows from the audio alone which words of its script a window holds, however the audio was
cut, resampled or rebuilt, and a stage that hands it the wrong audio is found out.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.asr.hypothesis import FRAME, AsrWork, Hypothesis, HypothesisWord
from pipeline.asr.logic import AsrConfig, AsrLogic
from pipeline.asr.profiles import Catalogue, ModelProfile
from pipeline.assemble.logic import AssembleConfig, AssembleLogic
from pipeline.core.contract import Engine
from pipeline.core.errors import PoisonError
from pipeline.core.flow import CallFlow, Effects
from pipeline.diarize.logic import DiarizeConfig, DiarizeLogic
from pipeline.vad.logic import VadLogic
from pipeline.vad.state import WINDOW, VadConfig, VadResult, VadWork
from schemas.codec import Codec
from schemas.records import (
    Audio,
    CallAnnotation,
    CallAudio,
    CallSegment,
    CallSpeech,
    Channel,
    Ended,
    LaneState,
    Started,
)
from tests.positions import Samples, place_of, speech_samples

CALL = "call-1"
CODEC = Codec()
EPOCH_MS = 1_700_000_000_000

VAD = VadConfig(
    threshold=0.5,
    negative_threshold=0.35,
    pre_roll=4_800,
    hangover=8_000,
    min_speech=1_536,
    max_utterance=80_000,
    watermark=16_000,
)
# Scripted speech sounds like nothing on earth.
ASR = AsrConfig(language="en", window=48_000, disabled_guards=("silence", "tone", "noise"))
PROFILE = ModelProfile(
    name="scripted",
    revision="scripted@1",
    step_seconds=0.5,
    frame_threshold=10,
    prompt_tokens=16,
    min_mean_log_probability=-3.0,
)
ASSEMBLE = AssembleConfig(sentence_seconds=3.0, longest_seconds=6.0, wait_seconds=5.0)


@dataclass(frozen=True, slots=True)
class Said:
    """A word of the script; seconds since the start of the call."""

    text: str
    start: float
    end: float


def said(text: str, *, at: float, word_seconds: float = 0.25, pause: float = 0.05) -> tuple[Said, ...]:
    """Return the words of ``text`` one after the other from ``at`` on."""
    words = text.split()
    step = word_seconds + pause
    return tuple(
        Said(word, round(at + i * step, 6), round(at + i * step + word_seconds, 6)) for i, word in enumerate(words)
    )


# -- engines ---------------------------------------------------------------------------------------------------------


class LoudnessVad:
    """Voice activity by loudness, smoothed over windows: the state it is given back matters."""

    max_batch = 64
    threads = 1

    def infer(self, batch: Sequence[VadWork]) -> list[VadResult]:
        return [self._score(work) for work in batch]

    def _score(self, work: VadWork) -> VadResult:
        level = float(np.frombuffer(work.cell, dtype=np.float32)[0])
        count = int(np.frombuffer(work.hidden, dtype=np.uint32)[0])
        probabilities = []
        for window in work.windows:
            assert window.shape == (64 + WINDOW,)
            loud = float(np.mean(np.abs(window[64:]) > 0.01))
            level = float(np.float32(0.25 * level + 0.75 * loud))
            count += 1
            probabilities.append(level)
        cell, hidden = np.zeros(128, dtype=np.float32), np.zeros(128, dtype=np.uint32)
        cell[0], hidden[0] = level, count
        return VadResult(probabilities, hidden.tobytes(), cell.tobytes())


class ScriptedAsr:
    """Hears the words of a script where they are; honours the forced prefix; garbles a word that the window cuts off.

    ``script`` holds the words by channel; a word is two tokens, ``2 i`` and ``2 i + 1`` of its place in the script.
    """

    max_batch = 1
    threads = 1

    def __init__(self, script: Mapping[int, Sequence[Said]]) -> None:
        self.script = {channel: tuple(words) for channel, words in script.items()}
        self.windows: list[AsrWork] = []

    def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
        self.windows += batch
        return [self._hear(work) for work in batch]

    def _hear(self, work: AsrWork) -> Hypothesis:
        place = place_of(work.audio)
        if place is None:
            assert not work.prefix, "committed tokens are forced on a window without speech"
            return Hypothesis(words=(), end_frame=work.frames, no_speech_probability=0.9)
        start, end = place.start, place.start + len(work.audio)
        heard = [
            (index, word)
            for index, word in enumerate(self.script[place.channel])
            if self._middle(word) >= start
            and (self._middle(word) < end if work.is_final else self._begins(word) < end - FRAME)
        ]
        tokens = [token for index, _ in heard for token in (2 * index, 2 * index + 1)]
        assert tuple(tokens[: len(work.prefix)]) == work.prefix, "the prefix is not what the window holds"
        words = tuple(
            self._word(index, word, start, len(work.audio), work) for index, word in heard[len(work.prefix) // 2 :]
        )
        return Hypothesis(
            words=words, end_frame=words[-1].end_frame if words else work.frames, no_speech_probability=0.0
        )

    def _word(self, index: int, word: Said, start: int, length: int, work: AsrWork) -> HypothesisWord:
        frames = work.frames
        first = max(self._begins(word) - start, 0) // FRAME
        last = min(max(self._ends(word) - start, 0) // FRAME, frames)
        is_whole = work.is_final or self._ends(word) - start <= length
        text = word.text if is_whole else word.text[:1] + "…"
        return HypothesisWord(
            text=text,
            tokens=(2 * index, 2 * index + 1),
            frames=(min(first, frames), min((first + last) // 2, frames)),
            end_frame=last,
            log_probabilities=(-0.1, -0.2),
        )

    @staticmethod
    def _begins(word: Said) -> int:
        return round(word.start * 16_000)

    @staticmethod
    def _ends(word: Said) -> int:
        return round(word.end * 16_000)

    def _middle(self, word: Said) -> int:
        return (self._begins(word) + self._ends(word)) // 2


# -- calls -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A scripted call: words by channel, and control records ``(seconds, kind, body)`` in order of time."""

    script: Mapping[int, tuple[Said, ...]]
    seconds: float
    rate: int = 8_000
    roles: tuple[str, ...] = ("agent", "customer", "third", "fourth")
    controls: tuple[tuple[float, str, Mapping[str, Any]], ...] = ()
    offsets: Mapping[int, float] = field(default_factory=dict)
    call_id: str = CALL
    is_ended: bool = True

    @property
    def started(self) -> Started:
        """Return the first record's body."""
        return Started(
            channels=tuple(
                Channel(
                    channel=channel,
                    role=self.roles[channel],
                    sample_rate_hz=self.rate,
                    encoding="pcm_s16le",
                    language="en",
                    offset_samples=round(self.offsets.get(channel, 0.0) * self.rate),
                )
                for channel in sorted(self.script)
            ),
            hot_words=(),
        )

    def samples(self, channel: int) -> Samples:
        """Return the audio of a channel: zeros, and `speech_samples` where words are."""
        audio = np.zeros(round(self.seconds * self.rate), dtype=np.int16)
        for word in self.script[channel]:
            start, end = round(word.start * self.rate), round(word.end * self.rate)
            audio[start:end] = speech_samples(start=start, count=end - start, channel=channel, rate=self.rate)
        return audio

    def records(self, record_seconds: float = 0.2) -> list[CallAudio]:
        """Return call.audio of the call. Audio between ``pause`` and ``resume`` is left out."""
        audio = {channel: self.samples(channel) for channel in self.script}
        made: list[CallAudio] = []
        sequences = dict.fromkeys((*self.script, -1), 0)

        def put(kind: str, channel: int, start: int, **body: Any) -> None:
            made.append(
                CallAudio(
                    call_id=self.call_id,
                    kind=kind,
                    channel=channel,
                    sequence=sequences[channel],
                    start_sample=start,
                    sample_rate_hz=self.rate,
                    capture_time_ms=EPOCH_MS + start * 1000 // self.rate,
                    **body,
                )
            )
            sequences[channel] += 1

        put("started", -1, 0, started=self.started)
        step, end, at, is_paused = round(record_seconds * self.rate), round(self.seconds * self.rate), 0, False
        waiting = [(round(seconds * self.rate), kind, body) for seconds, kind, body in self.controls]
        while at < end or waiting:
            stop = min([(at // step + 1) * step, end, *(position for position, _, _ in waiting[:1])])
            for channel in self.script if not is_paused and stop > at else ():
                begin = max(at, round(self.offsets.get(channel, 0.0) * self.rate))
                if begin < stop:
                    data = audio[channel][begin:stop].astype("<i2").tobytes()
                    put("audio", channel, begin, audio=Audio(encoding="pcm_s16le", data=data))
            at = stop
            while waiting and waiting[0][0] <= at:
                position, kind, body = waiting.pop(0)
                put(kind, -1, position, **body)
                is_paused = {"pause": True, "resume": False}.get(kind, is_paused)
        if self.is_ended:
            ends = {str(channel): end for channel in self.script}
            put("ended", -1, end, ended=Ended(reason="completed", end_samples=ends))
        return made


# -- stages ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage with a scripted engine, as `pipeline.core.contract.StageSpec` describes the real one."""

    name: str
    logic: Any
    engine: Engine[Any, Any] | None
    writes: type[Any]
    writers: tuple[str, ...]
    clocks: tuple[str, ...] = ()
    condemned: frozenset[int] = frozenset()  # offsets of records that have ended its process again and again

    def flow(self, restored: Mapping[int, LaneState] | None = None, call_id: str = CALL, **places: int) -> Any:
        """Return the flow of one call through the stage; ``places`` are its ``read_from`` and ``first_offset``."""
        return CallFlow(
            call_id=call_id,
            logic=self.logic,
            writes=self.writes,
            writers=self.writers,
            clocks=self.clocks,
            stage=self.name,
            restored=restored,
            **places,
        )


def asr_logic(config: AsrConfig = ASR, profile: ModelProfile = PROFILE) -> AsrLogic:
    """Return the logic of a deployment that offers one model."""
    return AsrLogic(config, Catalogue(default=profile.name, profiles={profile.name: profile}))


def stages(
    call: Call,
    *,
    vad: VadConfig = VAD,
    asr: AsrConfig = ASR,
    profile: ModelProfile = PROFILE,
    assemble: AssembleConfig = ASSEMBLE,
    diarize: DiarizeConfig | None = None,
    diarizer: Engine[Any, Any] | None = None,
) -> dict[str, Stage]:
    """Return the four stream stages, scripted for ``call``; without ``diarize`` mixed channels are not heard."""
    return {
        "vad": Stage(name="vad", logic=VadLogic(vad), engine=LoudnessVad(), writes=CallSpeech, writers=("ingest",)),
        "asr": Stage(
            name="asr",
            logic=asr_logic(asr, profile),
            engine=ScriptedAsr(call.script),
            writes=CallAnnotation,
            writers=("vad",),
        ),
        "diarize": Stage(
            name="diarize", logic=DiarizeLogic(diarize), engine=diarizer, writes=CallAnnotation, writers=("vad",)
        ),
        "assemble": Stage(
            name="assemble", logic=AssembleLogic(assemble), engine=None, writes=CallSegment, writers=("asr", "diarize")
        ),
    }


def step(flow: CallFlow[Any, Any, Any], stage: Stage, record: Any, offset: int, known: Any = None) -> Effects:
    """Feed one record as the worker does: infer what is asked, abandon what is condemned, reject what is poison."""
    steps = flow.feed(record, offset, known)
    try:
        if offset in stage.condemned:
            return flow.abandon(record, offset, reason="CondemnedError", topic="input", partition=0)
        return inferred(stage, steps)
    except PoisonError as error:
        return flow.reject(offset, reason=type(error).__name__, topic="input", partition=0, record=record)


def inferred(stage: Stage, steps: Generator[Any, Any, Effects]) -> Effects:
    """Return what ``steps`` come to, with what they ask the engine for."""
    try:
        work = next(steps)
        while True:
            assert stage.engine is not None, f"{stage.name} asks for inference and has no engine"
            work = steps.send(stage.engine.infer([work])[0])
    except StopIteration as stop:
        effects: Effects = stop.value
        return effects


def passed(record: Any) -> Any:
    """Return ``record`` as its reader gets it: encoded and decoded."""
    return CODEC.decode(CODEC.encode(record), type(record))


def run(stage: Stage, records: Iterable[Any]) -> list[Effects]:
    """Return what the stage does for each record of one call, offset by offset from 0."""
    flow = stage.flow()
    return [step(flow, stage, record, offset) for offset, record in enumerate(records)]


def outputs_of(effects: Iterable[Effects]) -> list[Any]:
    """Return the outputs in order."""
    return [output for effect in effects for output in effect.outputs]


@dataclass(frozen=True, slots=True)
class Chain:
    """What every topic holds after a call: outputs by stage, and what assemble read."""

    outputs: Mapping[str, list[Any]]
    annotations: list[CallAnnotation]

    @property
    def segments(self) -> list[CallSegment]:
        """Return the records of call.segments."""
        return self.outputs["assemble"]


def run_chain(call: Call, records: Iterable[CallAudio] | None = None, **configs: Any) -> Chain:
    """Run a call through all stages, record by record; records pass as the bytes the topics hold."""
    chain = stages(call, **configs)
    flows = {name: stage.flow() for name, stage in chain.items()}
    outputs: dict[str, list[Any]] = {name: [] for name in chain}
    offsets = dict.fromkeys(chain, -1)
    annotations: list[CallAnnotation] = []

    def feed(name: str, record: Any) -> list[Any]:
        offsets[name] += 1
        made = [passed(output) for output in step(flows[name], chain[name], record, offsets[name]).outputs]
        outputs[name] += made
        return made

    for record in call.records() if records is None else records:
        for speech in feed("vad", record):
            for name in ("diarize", "asr"):
                for annotation in feed(name, speech):
                    annotations.append(annotation)
                    feed("assemble", annotation)
    return Chain(outputs, annotations)

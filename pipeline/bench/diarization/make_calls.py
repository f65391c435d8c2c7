"""Makes the shipped calls of ``callscribe bench diarization`` with the synthesizers espeak-ng and flite.

    python -m pipeline.bench.diarization.make_calls [--seed N] [--out FOLDER]

Each call is a mono recording (Ogg/Opus of telephone sound, one of them mu-law), ``<name>.rttm`` with who speaks when, and
``<name>.json`` with what is said. Speech is where the synthesizer's audio is above its silence threshold; a pause of more than
0.25 s is none. The same seed and synthesizer versions give the same files. The product never runs this: the calls are shipped.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bench.diarization.music import hold_music
from pipeline.bench.diarization.recordings import CALLS
from pipeline.bench.diarization.scripts import SHORT, SHORT_SHARE, STYLES, Style, named, sentences
from pipeline.bench.diarization.spans import Span, covered, merged, seconds_of
from pipeline.bench.make_calls import RATES, VOICES, source_of
from pipeline.core.rttm import SpeakerTurn, write_rttm
from pipeline.demo.dialogues import Voice
from pipeline.demo.make_calls import (
    EDGE,
    EDGE_SECONDS,
    LEAD_SECONDS,
    PAUSE_SECONDS,
    RATE,
    SENTENCE_SECONDS,
    TAIL_SECONDS,
    Placed,
    Samples,
    gain,
    line_noise,
    synthesize,
    synthesizers,
)

Synthesis = Callable[[str, Voice], Samples]

SEED = 5
TURN_SECONDS = (0.5, 10.0)
LONGEST_PAUSE_SECONDS = 0.25  # a longer one is no speech
OVERLAP_SHARE = (0.09, 0.11)  # of the time in which anybody speaks: two do
DRAWN_OVERLAP_SHARE = (0.095, 0.105)
OVERLAP_SECONDS = (0.3, 1.8)
BETWEEN_SECONDS = 0.35  # the least between two turns of one speaker
EVENT_GAP_SECONDS = 0.8
MUSIC_DBFS = -23.0
COMFORT_DBFS = -62.0
BIT_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Spoken:
    """A piece of a sentence between two pauses; ``placed.channel`` is the speaker."""

    placed: Placed
    turn: int
    sentence: int

    @property
    def spans(self) -> tuple[Span, ...]:
        """Return where there is speech, in seconds."""
        loud = np.flatnonzero(np.abs(self.placed.audio) > EDGE) + self.placed.start
        breaks = np.flatnonzero(np.diff(loud) > LONGEST_PAUSE_SECONDS * RATE)
        firsts, lasts = loud[[0, *(breaks + 1)]], loud[[*breaks, -1]]
        return tuple(
            (first / RATE, (last + 1) / RATE) for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
        )


@dataclass(slots=True)
class Call:
    """A call that grows turn by turn. Positions are samples."""

    name: str
    voices: tuple[Voice, ...]
    spoken: list[Spoken]
    events: list[tuple[str, int, int]]
    end: int = round(LEAD_SECONDS * RATE)  # of the last speech or event

    def spans(self, speaker: int) -> tuple[Span, ...]:
        """Return where a speaker speaks, in seconds; short pauses are speech."""
        own = [span for piece in self.spoken if piece.placed.channel == speaker for span in piece.spans]
        return merged(own, gap_seconds=LONGEST_PAUSE_SECONDS)

    @property
    def speech_seconds(self) -> float:
        """Return for how long somebody speaks."""
        return seconds_of(covered([self.spans(speaker) for speaker in range(len(self.voices))], at_least=1))

    @property
    def overlap_share(self) -> float:
        """Return the share of the time with speech in which more than one speaks."""
        both = covered([self.spans(speaker) for speaker in range(len(self.voices))], at_least=2)
        return seconds_of(both) / self.speech_seconds if self.spoken else 0.0

    @property
    def length_seconds(self) -> float:
        """Return the length of the recording."""
        return self.end / RATE + TAIL_SECONDS


def make_call(name: str, *, seed: int, out: Path, versions: dict[str, str]) -> dict[str, Any]:
    """Write the recording, ``<name>.rttm`` and ``<name>.json``; return the latter's document.

    Raises ValueError when the call would break the limits of the corpus.
    """
    style = STYLES[named(name)]
    call = script(name, seed=seed, synthesis=cache(synthesize))
    _check_limits(call, style)
    source = source_of(seed, name, "sound")
    level = source.uniform(*style.level_dbfs)
    levels = [level] * len(call.voices)
    levels[source.randrange(len(levels))] -= source.uniform(*style.level_difference_db)
    noise = None if source.random() < style.silent_share else source.uniform(*style.noise_dbfs)
    audio = mix(call, levels, noise, seed=source.getrandbits(31))
    out.mkdir(parents=True, exist_ok=True)
    _write(audio, out / f"{name}.{'wav' if style.is_mulaw else 'opus'}", is_mulaw=style.is_mulaw)
    (out / f"{name}.rttm").write_text(write_rttm(_turns(call)), encoding="utf-8")
    document = _document(call, style, levels, noise) | {"synthesizers": versions, "seed": seed}
    (out / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document


def script(name: str, *, seed: int, synthesis: Synthesis = synthesize) -> Call:
    """Return who says what when. Overlaps are drawn as long as there are too few of them."""
    style, source = STYLES[named(name)], source_of(seed, name, "script")
    wanted_seconds = source.uniform(*style.drawn_seconds)
    call = Call(name=name, voices=_voices(name, style, seed, source), spoken=[], events=[])
    texts = [sentences(speaker, source) for speaker in range(len(call.voices))]
    said: set[str] = set()
    speaker, is_after_event = 0, True
    while call.length_seconds < wanted_seconds or not _is_overlap_right(call, style):
        if call.length_seconds > style.length_seconds[1]:
            raise ValueError(f"{name}: the share of overlap is {call.overlap_share:.1%} at the end")
        if style.event and not call.events and call.length_seconds > wanted_seconds / 2 - style.event_seconds / 2:
            _add_event(call, style)
            is_after_event = True
        pieces = _turn(call.voices[speaker], texts[speaker], said, source, synthesis)
        length = max(offset + len(audio) for offset, audio, _, _ in pieces)
        start = _start(call, style, speaker, length, source, may_overlap=not is_after_event)
        number = call.spoken[-1].turn + 1 if call.spoken else 0
        call.spoken += [
            Spoken(Placed(speaker, start + offset, audio, text), number, sentence)
            for offset, audio, text, sentence in pieces
        ]
        call.end, is_after_event = max(call.end, start + length), False
        others = [other for other in range(len(call.voices)) if other != speaker]
        speaker = source.choice(others) if others else speaker
    return call


def _is_overlap_right(call: Call, style: Style) -> bool:
    low, high = DRAWN_OVERLAP_SHARE
    return not style.is_overlapping or low <= call.overlap_share <= high


def _turn(
    voice: Voice, texts: Iterator[str], said: set[str], source: random.Random, synthesis: Synthesis
) -> list[tuple[int, Samples, str, int]]:
    """Return the pieces of a turn (offset, audio, text, number of the sentence in the call), none said before in the call."""
    low, high = (TURN_SECONDS[0] + 2 * EDGE_SECONDS) * RATE, TURN_SECONDS[1] * RATE
    if source.random() < SHORT_SHARE:
        for text in source.sample(SHORT, len(SHORT)):
            made, end = _sentence(text, voice, source, synthesis, 0, number=len(said))
            if text not in said and end >= low:
                said.add(text)
                return made
    pieces: list[tuple[int, Samples, str, int]] = []
    offset = 0
    for _ in range(source.choice((1, 1, 2, 2, 3))):
        while True:
            text = next(texts)
            made, end = _sentence(text, voice, source, synthesis, offset, number=len(said))
            if pieces and end > high:
                return pieces
            if text not in said and low <= end <= high:
                break
        said.add(text)
        pieces += made
        offset = end + round(source.uniform(*SENTENCE_SECONDS) * RATE)
    return pieces


def _sentence(
    sentence: str, voice: Voice, source: random.Random, synthesis: Synthesis, offset: int, *, number: int
) -> tuple[list[tuple[int, Samples, str, int]], int]:
    """Return the pieces of a sentence, and where it ends."""
    pieces: list[tuple[int, Samples, str, int]] = []
    for text in (piece.strip() for piece in sentence.split("|")):
        offset += round(source.uniform(*PAUSE_SECONDS) * RATE) if pieces else 0
        audio = synthesis(text, voice)
        pieces.append((offset, audio, text, number))
        offset += len(audio)
    return pieces, offset


def _start(call: Call, style: Style, speaker: int, length: int, source: random.Random, *, may_overlap: bool) -> int:
    """Return where a turn of ``length`` samples begins: before the end of the last one where overlap is wanted."""
    free = max((_end(piece) for piece in call.spoken if piece.placed.channel == speaker), default=0)
    gap = source.uniform(*style.gap_seconds)
    overlap = source.uniform(*OVERLAP_SECONDS)
    if not may_overlap:
        start = call.end + round(EVENT_GAP_SECONDS * RATE) if call.events else call.end
    elif style.is_overlapping and call.overlap_share < sum(DRAWN_OVERLAP_SHARE) / 2:
        last = [piece for piece in call.spoken if piece.turn == call.spoken[-1].turn]
        room = 0.7 * (_end(last[-1]) - last[0].placed.start)
        wanted = (
            max(overlap * RATE, 1.2 * length) if length < 1.2 * RATE else overlap * RATE
        )  # short answers lie inside
        start = call.end - round(min(wanted, room))
    else:
        start = call.end + round(gap * RATE)
    return max(start, free + round(BETWEEN_SECONDS * RATE) if free else start)


def _end(piece: Spoken) -> int:
    return piece.placed.start + len(piece.placed.audio)


def _add_event(call: Call, style: Style) -> None:
    start = call.end + round(EVENT_GAP_SECONDS * RATE)
    call.end = start + round(style.event_seconds * RATE)
    call.events.append((str(style.event), start, call.end))


def mix(call: Call, levels_dbfs: Sequence[float], noise_dbfs: float | None, *, seed: int) -> Samples:
    """Return the call as one channel, float32 [samples], full scale 1. Raises ValueError when it would clip.

    Music replaces the line; a hold is digital silence in its first half and comfort noise in its second.
    """
    audio = np.zeros(round(call.length_seconds * RATE), dtype=np.float32)
    placed = [piece.placed for piece in call.spoken]
    for one in placed:
        audio[one.start : one.start + len(one.audio)] += one.audio * gain(placed, one.channel, levels_dbfs[one.channel])
    if noise_dbfs is not None:
        audio += line_noise(len(audio), noise_dbfs, seed=seed)
    for kind, start, end in call.events:
        if kind == "music":
            music = hold_music((end - start) / RATE, RATE, level_dbfs=MUSIC_DBFS, seed=seed)
            audio[start:end] = music[: end - start]
        else:
            audio[start:end] = 0.0
            half = (start + end) // 2
            audio[half:end] = line_noise(end - half, COMFORT_DBFS, seed=seed + 1)
    if (peak := float(np.abs(audio).max())) > 0.95:
        raise ValueError(f"{call.name}: peak {peak:.2f} would clip; lower its level")
    return audio


def _write(audio: Samples, path: Path, *, is_mulaw: bool) -> None:
    import av
    import soundfile

    if is_mulaw:
        soundfile.write(path, audio, RATE, format="WAV", subtype="ULAW")
        return
    linear = np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)
    with av.open(str(path), "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono")
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(linear[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def _turns(call: Call) -> list[SpeakerTurn]:
    turns = [
        SpeakerTurn(
            file=call.name,
            start_seconds=round(start, 3),
            duration_seconds=round(round(end, 3) - round(start, 3), 3),
            speaker=_label(speaker),
        )
        for speaker in range(len(call.voices))
        for start, end in call.spans(speaker)
    ]
    return sorted(turns, key=lambda turn: (turn.start_seconds, turn.speaker))


def _document(call: Call, style: Style, levels: Sequence[float], noise: float | None) -> dict[str, Any]:
    order = sorted(call.spoken, key=lambda piece: (piece.placed.start, piece.placed.channel))
    return {
        "call": call.name,
        "kind": named(call.name),
        "description": style.description,
        "sample_rate_hz": RATE,
        "duration_seconds": round(call.length_seconds, 3),
        "speech_seconds": round(call.speech_seconds, 3),
        "overlap_share": round(call.overlap_share, 4),
        "noise_dbfs": None if noise is None else round(noise, 1),
        "speakers": [
            {
                "speaker": _label(index),
                "program": voice.program,
                "voice": voice.name,
                "rate": voice.rate,
                "pitch": voice.pitch,
                "level_dbfs": round(levels[index], 1),
            }
            for index, voice in enumerate(call.voices)
        ],
        "events": [
            {"kind": kind, "start_seconds": round(start / RATE, 3), "end_seconds": round(end / RATE, 3)}
            for kind, start, end in call.events
        ],
        "utterances": [
            {
                "speaker": _label(piece.placed.channel),
                "turn": piece.turn,
                "sentence": piece.sentence,
                "start_seconds": round(piece.spans[0][0], 3),
                "end_seconds": round(piece.spans[-1][1], 3),
                "text": piece.placed.text,
            }
            for piece in order
        ],
    }


def _label(speaker: int) -> str:
    return "ABC"[speaker]


def _voices(name: str, style: Style, seed: int, source: random.Random) -> tuple[Voice, ...]:
    """Return the voices of a call: those its style names, else others than in any call of the kind before."""
    wanted = style.voices.get(name) or _decks(named(name), style, seed)[int(name.rpartition("-")[2]) - 1]
    drawn = []
    for voice in wanted:
        program, _, pitches = next(each for each in VOICES if each[1] == voice)
        low, high = RATES[program]
        drawn.append(
            Voice(
                program="flite" if program == "flite" else "espeak-ng",
                name=voice,
                rate=round(source.uniform(low, high), 2 if program == "flite" else 0),
                pitch=source.randint(*pitches),
            )
        )
    return tuple(drawn)


def _decks(kind: str, style: Style, seed: int) -> list[tuple[str, ...]]:
    """Return the names of the voices of every call of a kind, no set of them twice, each voice about equally often."""
    order, found = source_of(seed, kind, "voices"), list[tuple[str, ...]]()
    deck: list[str] = []
    while len(found) < style.count:
        if len(deck) < style.speakers:
            deck = order.sample([voice for _, voice, _ in VOICES], len(VOICES))
        drawn, deck = tuple(deck[: style.speakers]), deck[style.speakers :]
        if {*drawn} not in [{*each} for each in found]:
            found.append(drawn)
    return found


def _check_limits(call: Call, style: Style) -> None:
    low, high = style.length_seconds
    if not low <= call.length_seconds <= high:
        raise ValueError(f"{call.name}: {call.length_seconds:.1f} s is not within {style.length_seconds}")
    if style.is_overlapping and not OVERLAP_SHARE[0] <= call.overlap_share <= OVERLAP_SHARE[1]:
        raise ValueError(
            f"{call.name}: overlap in {call.overlap_share:.1%} of the speech is not within {OVERLAP_SHARE}"
        )


def main() -> None:
    """Make every call."""
    parser = argparse.ArgumentParser(description="Make the calls of bench diarization and their references.")
    parser.add_argument("--seed", type=int, default=SEED, help="draws everything (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=CALLS, help="folder to write into (default: the shipped calls)")
    options = parser.parse_args()
    versions = synthesizers()
    for kind, style in STYLES.items():
        for number in range(1, style.count + 1):
            found = make_call(f"{kind}-{number:02}", seed=options.seed, out=options.out, versions=versions)
            print(
                f"{found['call']}  {found['duration_seconds']:>6.1f} s  {found['overlap_share']:>6.1%}  {found['description']}"
            )


if __name__ == "__main__":
    main()

"""Makes the shipped benchmark calls and their references with the synthesizers espeak-ng and flite.

    python -m pipeline.bench.make_calls [--seed N] [--out FOLDER]

Plain calls are sentences of the templates the demo model was trained on. Hard calls mix them with words in random order
and digit strings, spoken fast or slowly, over a noisy line, one speaker louder than the other, often both at once.
Voices, rates, levels and noise stay inside the ranges of the model's training. The same seed and synthesizer versions
give the same files. The product never runs this: the calls are shipped.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.recordings import CALLS
from pipeline.core.g711 import decode, encode
from pipeline.demo.dialogues import AGENT, CUSTOMER, Dialogue, Hold, Turn, Voice
from pipeline.demo.make_calls import (
    RATE,
    TAIL_SECONDS,
    Placed,
    Samples,
    lay_out,
    mix,
    reference,
    synthesize,
    synthesizers,
)
from pipeline.demo.phrases import AGENT as AGENT_SENTENCES
from pipeline.demo.phrases import CUSTOMER as CUSTOMER_SENTENCES
from pipeline.demo.phrases import DIGITS, FIELDS

Kind = Literal["plain", "hard"]
Synthesis = Callable[[str, Voice], Samples]

SEED = 11
LENGTH_SECONDS = (45.0, 75.0)  # limits of every call
SPEECH_SHARE = (0.65, 0.75)  # limits of the length of all sentences, channels summed, over the length of the call
DRAWN_LENGTH_SECONDS = (45.5, 49.0)
DRAWN_SPEECH_SHARE = (0.66, 0.72)
MIN_HOLD_SECONDS = 1.0
RATES = {"espeak-ng": (140.0, 185.0), "flite": (0.85, 1.15)}
VOICES = (  # program, name, range of the pitch
    ("espeak-ng", "en-us", (35, 65)),
    ("espeak-ng", "en-us+m3", (35, 65)),
    ("espeak-ng", "en-us+m7", (35, 65)),
    ("espeak-ng", "en-us+f2", (35, 65)),
    ("espeak-ng", "en-gb", (35, 65)),
    ("espeak-ng", "en-gb+f3", (35, 65)),
    ("flite", "kal16", (85, 120)),
    ("flite", "awb", (110, 150)),
    ("flite", "rms", (80, 115)),
    ("flite", "slt", (150, 210)),
)
OPENINGS = (AGENT_SENTENCES[0], "Good morning, you are speaking with {name}.", "Good afternoon, how may I help you?")
WAITS = ("One moment please.", "Let me put you on hold for a minute.", "Please hold while I pull up your account.")
CLOSINGS = ("Have a great day.", "I appreciate your call.")
FAREWELL = "Goodbye."
FRAME = (*OPENINGS, *WAITS, *CLOSINGS, FAREWELL)
GROUPED_SHARE = 0.5  # of the strings of at least six digits: spoken in threes, with pauses


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What is said in the calls of a kind, and how they sound. Ranges are drawn from evenly.

    ``loose_share`` of the sentences are words in random order, ``digit_share`` digit strings, the rest trained templates.
    ``rate_range`` lies within 0-1, the trained range of speaking rates; it is mirrored for the customer.
    ``level_difference_db`` is how far one channel, drawn, lies below ``level_dbfs``. ``silent_share`` of the calls have
    digital silence instead of ``noise_dbfs``. ``overlap_share`` of the turns begin ``overlap_seconds`` early.
    """

    count: int
    description: str
    loose_share: float
    digit_share: float
    rate_range: tuple[float, float]
    level_dbfs: tuple[float, float]
    level_difference_db: tuple[float, float]
    noise_dbfs: tuple[float, float]
    silent_share: float
    gap_seconds: tuple[float, float]
    overlap_share: float
    overlap_seconds: tuple[float, float]


STYLES: dict[Kind, Style] = {
    "plain": Style(
        count=12,
        description="Trained templates",
        loose_share=0.0,
        digit_share=0.0,
        rate_range=(0.0, 1.0),
        level_dbfs=(-22.0, -19.0),
        level_difference_db=(0.0, 3.0),
        noise_dbfs=(-78.0, -68.0),
        silent_share=1 / 3,
        gap_seconds=(0.3, 1.4),
        overlap_share=0.1,
        overlap_seconds=(0.3, 0.8),
    ),
    "hard": Style(
        count=10,
        description="Trained templates, words in random order and digit strings",
        loose_share=0.35,
        digit_share=0.25,
        rate_range=(0.0, 0.2),
        level_dbfs=(-22.0, -19.0),
        level_difference_db=(3.0, 9.0),
        noise_dbfs=(-68.0, -58.0),
        silent_share=0.0,
        gap_seconds=(0.4, 2.4),
        overlap_share=0.4,
        overlap_seconds=(0.5, 1.5),
    ),
}


def names() -> tuple[str, ...]:
    """Return the names of all calls, in order."""
    return tuple(f"{kind}-{number:02}" for kind in STYLES for number in range(1, STYLES[kind].count + 1))


def make_call(name: str, *, seed: int, out: Path, versions: dict[str, str]) -> dict[str, Any]:
    """Write ``<name>.flac`` (two channels, 8 kHz, values of mu-law) and ``<name>.json``; return the latter's document.

    Raises ValueError when the call would break the limits of the corpus.
    """
    import soundfile

    synthesis = cache(synthesize)
    dialogue = script(name, seed=seed, synthesis=synthesis)
    placed, events = lay_out(dialogue, source_of(seed, name, "layout"), synthesis=synthesis)
    _check_limits(name, placed)
    audio = as_mulaw(mix(dialogue, placed, noise_seed=source_of(seed, name, "noise").getrandbits(31)))
    out.mkdir(parents=True, exist_ok=True)
    soundfile.write(out / f"{name}.flac", audio, RATE, format="FLAC", subtype="PCM_16", compression_level=1.0)
    document = reference(dialogue, placed, events) | {"kind": _kind(name), "synthesizers": versions, "seed": seed}
    (out / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document


def as_mulaw(audio: Samples) -> NDArray[np.int16]:
    """Return samples, full scale 1, shape (samples, channels), as the 16-bit values that G.711 mu-law keeps of them."""
    linear = np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)
    return np.stack([decode(encode(channel, "mulaw"), "mulaw") for channel in linear.T], axis=1)


def script(name: str, *, seed: int, synthesis: Synthesis = synthesize) -> Dialogue:
    """Return a call as a script. Its hold is as long as the drawn share of speech asks for."""
    kind, source = _kind(name), source_of(seed, name, "script")
    style = STYLES[kind]
    voices = _voices(name, seed, source)
    share = source.uniform(*DRAWN_SPEECH_SHARE)
    wanted_seconds = source.uniform(*DRAWN_LENGTH_SECONDS) * share
    is_silent = source.random() < style.silent_share
    levels = [source.uniform(*style.level_dbfs)] * 2
    levels[source.choice((AGENT, CUSTOMER))] -= source.uniform(*style.level_difference_db)
    noise = (source.uniform(*style.noise_dbfs), source.uniform(*style.noise_dbfs))
    turns, hold_index = _turns(kind, source, wanted_seconds, partial(_spoken_seconds, voices, synthesis))
    dialogue = Dialogue(
        name=name,
        description=f"{style.description}; {voices[0].name} and {voices[1].name}; "
        + ("digital silence." if is_silent else f"line noise of {noise[0]:.0f} and {noise[1]:.0f} dBFS."),
        voices=voices,
        level_dbfs=(levels[0], levels[1]),
        noise_dbfs=(None, None) if is_silent else noise,
        turns=turns,
    )
    placed, _ = lay_out(dialogue, source_of(seed, name, "layout"), synthesis=synthesis)
    hold = Hold(_speech_seconds(placed) / share - _length_seconds(placed))
    if hold.seconds < MIN_HOLD_SECONDS:
        raise ValueError(f"{name}: only {hold.seconds:.1f} s are left for a hold")
    return replace(dialogue, turns=(*turns[:hold_index], hold, *turns[hold_index:]))


def _turns(
    kind: Kind, source: random.Random, wanted_seconds: float, spoken_seconds: Callable[[Turn], float]
) -> tuple[tuple[Turn, ...], int]:
    """Return turns that hold ``wanted_seconds`` of speech, and the index of the turn before which there is a hold."""
    sentences = [_sentences(templates, STYLES[kind], source) for templates in (AGENT_SENTENCES, CUSTOMER_SENTENCES)]
    turns: list[Turn] = []
    hold_index, spoken = 0, 0.0
    while spoken < wanted_seconds or hold_index in (0, len(turns)):
        channel = len(turns) % 2
        lines = [next(sentences[channel]) for _ in range(source.randint(1, 3))]
        if kind == "plain" and not turns:
            lines[0] = filled(source.choice(OPENINGS), source)
        if not hold_index and channel == AGENT and spoken > wanted_seconds / 3:
            hold_index = len(turns) + 1
            if kind == "plain":
                lines[-1] = source.choice(WAITS)
        gap = _gap_seconds(STYLES[kind], source)
        turns.append(Turn(channel, tuple(lines), 0.0 if len(turns) in (0, hold_index) else gap))
        spoken += spoken_seconds(turns[-1])
    if kind == "plain":
        closings = (source.choice(CLOSINGS), FAREWELL)
        order = (AGENT, CUSTOMER) if len(turns) % 2 == AGENT else (CUSTOMER, AGENT)
        turns += [Turn(channel, (closings[channel],), STYLES[kind].gap_seconds[0]) for channel in order]
    return tuple(turns), hold_index


def _gap_seconds(style: Style, source: random.Random) -> float:
    if source.random() < style.overlap_share:
        return -source.uniform(*style.overlap_seconds)
    return source.uniform(*style.gap_seconds)


def _sentences(templates: tuple[str, ...], style: Style, source: random.Random) -> Iterator[str]:
    """Yield sentences; templates in random order, none again before all were drawn."""
    deck: list[str] = []
    while True:
        draw = source.random()
        if draw < style.loose_share:
            yield loose(source)
        elif draw < style.loose_share + style.digit_share:
            yield digit_string(source, 3, 10).capitalize() + "."
        else:
            deck = deck or [sentence for sentence in source.sample(templates, len(templates)) if sentence not in FRAME]
            yield filled(deck.pop(), source)


def filled(template: str, source: random.Random) -> str:
    """Return a template with its fields drawn."""

    def field(match: re.Match[str]) -> str:
        return digit_string(source, 3, 9) if match[1] == "digits" else source.choice(FIELDS[match[1]])

    return re.sub(r"\{(\w+)\}", field, template)


def loose(source: random.Random) -> str:
    """Return a sentence without grammar."""
    text = " ".join(source.choice(loose_words()) for _ in range(source.randint(3, 9)))
    return text[0].upper() + text[1:] + source.choice("..?")


@cache
def loose_words() -> tuple[str, ...]:
    """Return the words the model was taught in any order: those of the templates and of their fields of plain words."""
    texts = [re.sub(r"\{\w+\}", " ", template) for template in AGENT_SENTENCES + CUSTOMER_SENTENCES]
    texts += [entry for field in ("thing", "adjective", "verb", "problem") for entry in FIELDS[field]]
    return tuple(sorted({word for word in re.findall(r"[a-z]+", " ".join(texts).lower()) if len(word) > 1}))


def digit_string(source: random.Random, low: int, high: int) -> str:
    """Return ``low`` to ``high`` spoken digits; long ones may be in threes, with pauses ("|")."""
    digits = [source.choice(DIGITS) for _ in range(source.randint(low, high))]
    size = 3 if len(digits) >= 6 and source.random() < GROUPED_SHARE else len(digits)
    return " | ".join(" ".join(digits[start : start + size]) for start in range(0, len(digits), size))


def _voices(name: str, seed: int, source: random.Random) -> tuple[Voice, Voice]:
    """Return two voices; over the calls of a kind, all voices speak about equally often."""
    kind, index = _kind(name), 2 * (int(name.partition("-")[2]) - 1)
    order = source_of(seed, kind, "voices")
    deck = [voice for _ in range(STYLES[kind].count) for voice in order.sample(VOICES, len(VOICES))]
    drawn = []
    for position, (program, voice, pitches) in enumerate(deck[index : index + 2]):
        place = source.uniform(*STYLES[kind].rate_range)
        low, high = RATES[program]
        rate = low + (high - low) * (1 - place if position else place)
        drawn.append(
            Voice(
                program="flite" if program == "flite" else "espeak-ng",
                name=voice,
                rate=round(rate, 2 if program == "flite" else 0),
                pitch=source.randint(*pitches),
            )
        )
    return drawn[0], drawn[1]


def _spoken_seconds(voices: tuple[Voice, Voice], synthesis: Synthesis, turn: Turn) -> float:
    pieces = [piece.strip() for sentence in turn.sentences for piece in sentence.split("|")]
    return sum(len(synthesis(piece, voices[turn.channel])) for piece in pieces) / RATE


def _speech_seconds(placed: list[Placed]) -> float:
    return sum(len(sentence.audio) for sentence in placed) / RATE


def _length_seconds(placed: list[Placed]) -> float:
    return max(sentence.start + len(sentence.audio) for sentence in placed) / RATE + TAIL_SECONDS


def _check_limits(name: str, placed: list[Placed]) -> None:
    length = _length_seconds(placed)
    share = _speech_seconds(placed) / length
    if not LENGTH_SECONDS[0] <= length <= LENGTH_SECONDS[1]:
        raise ValueError(f"{name}: {length:.1f} s is not within {LENGTH_SECONDS}")
    if not SPEECH_SHARE[0] <= share <= SPEECH_SHARE[1]:
        raise ValueError(f"{name}: speech in {share:.0%} of the call is not within {SPEECH_SHARE}")


def _kind(name: str) -> Kind:
    return next(kind for kind in get_args(Kind) if name.startswith(f"{kind}-"))


def source_of(seed: int, name: str, use: str) -> random.Random:
    """Return the random numbers of one use in one call."""
    return random.Random(f"{seed}/{name}/{use}")


def main() -> None:
    """Make every call."""
    parser = argparse.ArgumentParser(description="Make the benchmark calls and their references.")
    parser.add_argument("--seed", type=int, default=SEED, help="draws everything (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=CALLS, help="folder to write into (default: the shipped calls)")
    options = parser.parse_args()
    versions = synthesizers()
    for name in names():
        document = make_call(name, seed=options.seed, out=options.out, versions=versions)
        print(f"{name}  {document['words']:>4} words  {document['description']}")


if __name__ == "__main__":
    main()

"""The part of Whisper's vocabulary that the demo model has: what the words of training are spelled with, and special tokens.

Byte-pair encoding joins the most frequent pair of neighbours again and again. A word is spelled as with the whole vocabulary
when every token and every merge on its way is left; all 256 bytes stay, so that any other text can be spelled too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pipeline.demo.phrases import AGENT, CUSTOMER, FIELDS

TEXTS: tuple[str, ...] = (*AGENT, *CUSTOMER, *(text for texts in FIELDS.values() for text in texts))
MARKS = ".,?"  # the punctuation of the texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A tokenizer with a part of another one's tokens.

    ``document`` is what its tokenizer.json holds. ``kept`` are the ids that its tokens have in the other one, in the order of
    their own, ascending: text first, special tokens behind.
    """

    document: Mapping[str, Any]
    kept: tuple[int, ...]


def forms_of(texts: Iterable[str]) -> frozenset[str]:
    """Return every word of templates as it is written, in lower case and capitalised; what fields hold is not among them."""
    words = {word for raw in " ".join(texts).split() if (word := raw.strip(MARKS)) and "{" not in word}
    return frozenset(form for word in words for form in (word, word.lower(), word.capitalize()))


def cut_vocabulary(document: Mapping[str, Any], texts: Iterable[str]) -> Vocabulary:
    """Return what is left of a byte-level BPE tokenizer, given as its tokenizer.json, for the words of ``texts``.

    Every form of a word, behind a space or not, is spelled by the same tokens as before. Special tokens all stay.
    """
    from tokenizers import Tokenizer, pre_tokenizers

    model = document["model"]
    ids: Mapping[str, int] = model["vocab"]
    merges = [(left, right) for left, right in model["merges"]]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    pieces_of = Tokenizer.from_str(json.dumps(document)).pre_tokenizer.pre_tokenize_str
    pieces = {piece for form in forms_of(texts) for text in (form, f" {form}") for piece, _ in pieces_of(text)}
    used = set(pre_tokenizers.ByteLevel.alphabet())
    for piece in pieces:
        used.update(_passed(piece, ranks))
        if piece in ids:  # with ignore_merges, as Whisper's has it, no merge need lead to a token that is a whole piece
            used.add(piece)
    text = sorted(used, key=ids.__getitem__)
    special = sorted(document["added_tokens"], key=lambda token: int(token["id"]))
    cut = {
        **document,
        "added_tokens": [{**token, "id": number} for number, token in enumerate(special, start=len(text))],
        "model": {
            **model,
            "vocab": {token: number for number, token in enumerate(text)},
            "merges": [list(pair) for pair in merges if {*pair, "".join(pair)} <= used],
        },
    }
    return Vocabulary(document=cut, kept=(*(ids[token] for token in text), *(token["id"] for token in special)))


def _passed(piece: str, ranks: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """Yield every token that byte-pair encoding passes through when it spells a piece, in order."""
    parts = list(piece)
    yield from parts
    while len(parts) > 1:
        rank, first = min((ranks.get(pair, len(ranks)), index) for index, pair in enumerate(pairwise(parts)))
        if rank == len(ranks):
            return
        parts[first : first + 2] = ["".join(parts[first : first + 2])]
        yield parts[first]

"""LocalAgreement-n (Liu, Spanakis and Niehues, Interspeech 2020): a word is safe when n passes in a row agree on it."""

from __future__ import annotations

from pipeline.asr.hypothesis import Hypothesis
from pipeline.asr.policies.base import Memory


class LocalAgreement:
    """Commits the longest common prefix, in whole words, of the last ``agreement`` hypotheses.

    The committed tokens are forced on every pass, so hypotheses start at the same place and only what follows is compared.
    """

    name = "local_agreement"

    def __init__(self, *, agreement: int) -> None:
        self._agreement = agreement

    def commit(self, hypothesis: Hypothesis, *, frames: int, is_final: bool, memory: Memory) -> tuple[int, Memory]:
        """Return the number of leading words that are final, and the words behind them for the next passes."""
        words = tuple(word.tokens for word in hypothesis.words)
        if is_final:
            return len(words), Memory()
        passes = (*memory.hypotheses, words)[-self._agreement :]
        agreed = 0
        if len(passes) == self._agreement:
            for index, (word, *others) in enumerate(zip(*passes, strict=False)):
                if any(other != word for other in others) or "\ufffd" in hypothesis.words[index].text:
                    break
                agreed += 1
        return agreed, Memory(tuple(words[agreed:] for words in passes[-(self._agreement - 1) :]))

"""G.711 tables against libsndfile, an independent implementation."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from pipeline.core import g711
from pipeline.core.g711 import Law

SUBTYPES: dict[Law, str] = {"mulaw": "ULAW", "alaw": "ALAW"}
CODES = bytes(range(256))
EVERY_SAMPLE = np.arange(-32768, 32768, dtype=np.int16)


@pytest.mark.parametrize("law", SUBTYPES)
def test_every_code_decodes_as_libsndfile_does(law: Law) -> None:
    raw = io.BytesIO(CODES)
    expected, _ = soundfile.read(raw, dtype="int16", samplerate=8000, channels=1, format="RAW", subtype=SUBTYPES[law])
    np.testing.assert_array_equal(g711.decode(CODES, law), expected)


@pytest.mark.parametrize("law", SUBTYPES)
def test_every_code_that_libsndfile_writes_is_the_code_we_write(law: Law) -> None:
    samples = g711.decode(CODES, law)
    out = io.BytesIO()
    soundfile.write(out, samples, 8000, format="RAW", subtype=SUBTYPES[law])
    assert g711.encode(samples, law) == out.getvalue()


@pytest.mark.parametrize("law", SUBTYPES)
def test_encoding_a_decoded_code_gives_it_back_except_for_the_second_zero_of_mulaw(law: Law) -> None:
    back = g711.encode(g711.decode(CODES, law), law)
    changed = [code for code in range(256) if back[code] != code]
    assert changed == ([0x7F] if law == "mulaw" else [])
    assert g711.encode(np.zeros(1, np.int16), law)[0] == g711.SILENCE[law]


@pytest.mark.parametrize("law", SUBTYPES)
def test_every_sample_is_encoded_as_libsndfile_does_apart_from_alaw_decision_values(law: Law) -> None:
    out = io.BytesIO()
    soundfile.write(out, EVERY_SAMPLE, 8000, format="RAW", subtype=SUBTYPES[law])
    ours = np.frombuffer(g711.encode(EVERY_SAMPLE, law), np.uint8)
    changed = EVERY_SAMPLE[ours != np.frombuffer(out.getvalue(), np.uint8)]
    if law == "mulaw":
        assert changed.size == 0
    else:  # a negative sample exactly on a decision value may go either way (G.711, table 1a, note 3)
        assert (changed < 0).all()
        assert (changed % 16 == 0).all()


def test_extremes_are_clipped_not_wrapped() -> None:
    extremes = np.array([-32768, 32767], np.int16)
    assert g711.decode(g711.encode(extremes, "mulaw"), "mulaw").tolist() == [-32124, 32124]
    assert g711.decode(g711.encode(extremes, "alaw"), "alaw").tolist() == [-32256, 32256]

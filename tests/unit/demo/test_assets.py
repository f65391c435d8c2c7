import itertools
import json
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.core.wer import normalise
from pipeline.demo import assets, baseline, make_calls
from pipeline.demo.dialogues import DIALOGUES
from pipeline.demo.phrases import AGENT, CUSTOMER, FIELDS, vocabulary

CALLS = assets.calls()
EDGE = 160  # samples around an utterance that may still hold the tail of its neighbour's filter


@pytest.fixture(params=CALLS, ids=lambda call: call.name)
def call(request: pytest.FixtureRequest) -> assets.DemoCall:
    return request.param


def samples_of(call: assets.DemoCall) -> np.ndarray:
    return soundfile.read(call.path, dtype="float32", always_2d=True)[0]


def spoken_mask(call: assets.DemoCall, channel: int, length: int) -> np.ndarray:
    mask = np.zeros(length, dtype=bool)
    for utterance in call.utterances:
        if utterance.channel == channel:
            start, end = (
                round(value * call.sample_rate_hz) for value in (utterance.start_seconds, utterance.end_seconds)
            )
            mask[max(0, start - EDGE) : end + EDGE] = True
    return mask


def sentence_pattern() -> re.Pattern[str]:
    def field(match: re.Match[str]) -> str:
        choice = "|".join(FIELDS[match.group(1)])
        return rf"(?:(?:{choice}) ?){{3,9}}" if match.group(1) == "digits" else f"(?:{choice})"

    sentences = [re.sub(r"\\{(\w+)\\}", field, re.escape(template)) for template in AGENT + CUSTOMER]
    digits = "|".join(FIELDS["digits"])
    return re.compile("|".join([*sentences, rf"(?i:(?:(?:{digits}) ?){{3,10}})\."]))


def test_three_calls_of_four_hundred_words_and_more() -> None:
    assert [call.name for call in CALLS] == ["billing", "delivery", "internet"]
    assert sum(call.words for call in CALLS) >= 400


def test_wave_format_is_two_channel_8_khz_mu_law(call: assets.DemoCall) -> None:
    header = call.path.read_bytes()[:36]
    tag, channels, rate = struct.unpack("<HHI", header[20:28])
    assert (header[:4], header[8:16]) == (b"RIFF", b"WAVEfmt ")
    assert (tag, channels, rate) == (7, 2, 8000)
    assert 55 <= soundfile.info(call.path).duration <= 100


def test_reference_fits_the_audio(call: assets.DemoCall) -> None:
    duration = soundfile.info(call.path).duration
    assert call.sample_rate_hz == 8000
    assert call.roles == {0: "agent", 1: "customer"}
    assert call.words == sum(len(normalise(utterance.text)) for utterance in call.utterances)
    assert list(call.utterances) == sorted(call.utterances, key=lambda u: (u.start_seconds, u.channel))
    for utterance in call.utterances:
        assert 0 <= utterance.start_seconds < utterance.end_seconds <= duration
    for channel in call.roles:
        own = [utterance for utterance in call.utterances if utterance.channel == channel]
        assert all(first.end_seconds < second.start_seconds for first, second in itertools.pairwise(own))


def test_every_sentence_is_one_the_model_was_taught(call: assets.DemoCall) -> None:
    assert len(vocabulary()) == 320
    pattern = sentence_pattern()
    for utterance in call.utterances:
        assert set(normalise(utterance.text)) <= vocabulary()
        assert pattern.fullmatch(utterance.text), utterance.text


def test_channels_are_separate_and_speech_is_where_the_reference_says(call: assets.DemoCall) -> None:
    samples = samples_of(call)
    masks = [spoken_mask(call, channel, len(samples)) for channel in call.roles]
    for channel in call.roles:
        speech = samples[masks[channel], channel]
        rest = samples[~masks[channel], channel]
        assert -32 < 20 * np.log10(np.sqrt(np.mean(speech**2))) < -18
        assert np.abs(samples[:, channel]).max() < 0.96
        assert np.sqrt(np.mean(rest**2)) < 0.001  # the other leg never leaks in, noise stays below -60 dBFS
    alone = masks[0] ^ masks[1]
    assert abs(np.corrcoef(samples[alone].T)[0, 1]) < 0.05


def test_calls_overlap_pause_and_hold(call: assets.DemoCall) -> None:
    samples = samples_of(call)
    both = np.logical_and(*(spoken_mask(call, channel, len(samples)) for channel in call.roles))
    assert np.count_nonzero(np.diff(both.astype(int)) == 1) >= 3
    assert any(event.kind == "hold" and 6 <= event.end_seconds - event.start_seconds <= 10 for event in call.events)
    for event in call.events:
        inside = slice(round(event.start_seconds * 8000) + EDGE, round(event.end_seconds * 8000) - EDGE)
        assert np.sqrt(np.mean(samples[inside] ** 2)) < 0.001


def test_one_call_has_digital_silence_and_one_has_line_noise() -> None:
    floors = {}
    for call in CALLS:
        samples = samples_of(call)
        quiet = ~(spoken_mask(call, 0, len(samples)) | spoken_mask(call, 1, len(samples)))
        floors[call.name] = np.abs(samples[quiet]).mean(axis=0)
    assert (floors["delivery"] < 1e-5).all()
    assert (floors["billing"] > 1e-5).all()


def test_offline_word_error_rate_stays_low() -> None:
    call = next(call for call in CALLS if call.name == "internet")
    assert baseline.score(call, baseline.offline_transcript(call.path)).rate <= 0.02


def test_card_tells_the_text_of_its_recording() -> None:
    card = json.loads((assets.MODEL / "card.json").read_text(encoding="utf-8"))
    audio, rate = soundfile.read(assets.MODEL / card["self_test"]["audio"], dtype="float32")
    assert rate == card["sample_rate_hz"] == 16_000
    assert 2 <= len(audio) / rate <= 4
    text, log_probability = baseline.decode(audio, padding_seconds=card["padding_seconds"])
    assert text == card["self_test"]["text"]
    assert log_probability > card["min_mean_log_probability"]


@pytest.mark.skipif(
    shutil.which("espeak-ng") is None or shutil.which("flite") is None,
    reason="needs the synthesizers espeak-ng and flite",
)
def test_making_a_call_again_gives_the_same_bytes(tmp_path: Path) -> None:
    versions = make_calls.synthesizers()
    shipped = next(call for call in CALLS if call.name == "delivery")
    if versions != shipped.synthesizers:
        pytest.skip(f"the shipped calls come from {shipped.synthesizers}, here are {versions}")
    dialogue = next(dialogue for dialogue in DIALOGUES if dialogue.name == shipped.name)

    reference = make_calls.make_call(dialogue, seed=make_calls.SEED, out=tmp_path, versions=versions)

    assert reference.with_suffix(".wav").read_bytes() == shipped.path.read_bytes()
    assert reference.read_text() == shipped.path.with_suffix(".json").read_text()

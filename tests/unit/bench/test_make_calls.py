from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.bench import make_calls
from pipeline.bench.recordings import Recording, recordings
from pipeline.core.g711 import decode, encode
from pipeline.core.wer import normalise
from pipeline.demo.make_calls import RATE, Placed, synthesizers
from pipeline.demo.phrases import AGENT, CUSTOMER, FIELDS, vocabulary

CALLS = {recording.name: recording for recording in recordings()}


def of_kind(kind: str) -> list[Recording]:
    return [recording for recording in CALLS.values() if recording.kind == kind]


def samples_of(recording: Recording) -> np.ndarray:
    return soundfile.read(recording.path, dtype="int16", always_2d=True)[0]


def sentences_of(recording: Recording) -> list[str]:
    return [utterance.text for spoken in recording.references.values() for utterance in spoken]


def template_pattern(template: str) -> re.Pattern[str]:
    def field(match: re.Match[str]) -> str:
        choice = "|".join(FIELDS[match.group(1)])
        return rf"(?:(?:{choice}) ?){{3,9}}" if match.group(1) == "digits" else f"(?:{choice})"

    return re.compile(re.sub(r"\\{(\w+)\\}", field, re.escape(template)))


TEMPLATES = [template_pattern(template) for template in AGENT + CUSTOMER]
DIGIT_STRING = re.compile(rf"(?i:(?:(?:{'|'.join(FIELDS['digits'])}) ?){{3,10}}\.)")


def test_corpus_has_twelve_plain_and_ten_hard_calls_of_two_and_a_half_thousand_words() -> None:
    assert set(CALLS) == set(make_calls.names())
    assert (len(of_kind("plain")), len(of_kind("hard"))) == (12, 10)
    assert sum(recording.words for recording in of_kind("plain")) >= 1000
    assert sum(recording.words for recording in of_kind("hard")) >= 750
    assert sum(file.stat().st_size for file in make_calls.CALLS.iterdir()) < 12e6


@pytest.mark.parametrize("name", CALLS)
def test_length_speech_share_and_format(name: str) -> None:
    info = soundfile.info(CALLS[name].path)
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", RATE, 2)
    assert 45 <= info.duration <= 75
    utterances = [utterance for spoken in CALLS[name].references.values() for utterance in spoken]
    spoken = sum((utterance.end_seconds or 0) - (utterance.start_seconds or 0) for utterance in utterances)
    assert 0.65 <= spoken / info.duration <= 0.75
    assert all((utterance.end_seconds or 0) <= info.duration for utterance in utterances)
    for spoken_by_one in CALLS[name].references.values():
        assert all((a.end_seconds or 0) < (b.start_seconds or 0) for a, b in pairwise(spoken_by_one))


def test_what_is_stored_survives_mu_law_unchanged() -> None:
    samples = samples_of(CALLS["hard-01"])
    assert len(np.unique(samples)) > 150  # the codes are in use: this is speech
    for channel in samples.T:
        np.testing.assert_array_equal(decode(encode(channel, "mulaw"), "mulaw"), channel)


def test_as_mulaw_keeps_what_mu_law_keeps() -> None:
    audio = np.array([[0.0, -1.0], [0.5, 2.0], [1e-5, -0.25]], dtype=np.float32)
    stored = make_calls.as_mulaw(audio)
    assert stored.dtype == np.int16
    assert stored.tolist() == [[0, -32124], [16764, 32124], [0, -8316]]


def test_plain_calls_keep_to_the_templates_and_cover_nearly_all() -> None:
    used: set[int] = set()
    for recording in of_kind("plain"):
        for sentence in sentences_of(recording):
            matching = {index for index, pattern in enumerate(TEMPLATES) if pattern.fullmatch(sentence)}
            assert matching, sentence
            used |= matching
    assert len(used) >= 0.95 * len(TEMPLATES)


def test_hard_calls_have_random_words_and_digit_strings_of_the_vocabulary() -> None:
    kinds: Counter[str] = Counter()
    for recording in of_kind("hard"):
        for sentence in sentences_of(recording):
            assert set(normalise(sentence)) <= vocabulary()
            if DIGIT_STRING.fullmatch(sentence):
                kinds["digits"] += 1
            elif any(pattern.fullmatch(sentence) for pattern in TEMPLATES):
                kinds["template"] += 1
            else:
                assert set(normalise(sentence)) <= set(make_calls.loose_words())
                kinds["loose"] += 1
    assert kinds["loose"] > kinds.total() / 4
    assert kinds["digits"] > kinds.total() / 8


def test_words_of_random_sentences_are_those_trained_in_any_order() -> None:
    words = make_calls.loose_words()
    assert {"how", "router", "expensive", "cancel"} <= set(words) <= vocabulary()
    assert not set(words) & {"a", "i", "anna", "wednesday", "digits"}


def test_hard_calls_are_noisier_uneven_and_overlap_more() -> None:
    def measured(kind: str) -> tuple[float, float, float]:
        floors, differences, overlaps = [], [], 0
        for recording in of_kind(kind):
            samples = samples_of(recording) / 32768
            active = np.zeros((2, len(samples)), dtype=bool)
            for channel, spoken in recording.references.items():
                for u in spoken:
                    active[channel, round((u.start_seconds or 0) * RATE) : round((u.end_seconds or 0) * RATE)] = True
            floors.append(np.sqrt(np.mean(samples[~active.any(axis=0)] ** 2)))
            levels = [np.sqrt(np.mean(samples[active[channel], channel] ** 2)) for channel in (0, 1)]
            differences.append(abs(20 * np.log10(levels[0] / levels[1])))
            overlaps += int(active.all(axis=0).sum())
        return float(np.median(floors)), float(np.mean(differences)), overlaps / RATE / len(of_kind(kind))

    plain, hard = measured("plain"), measured("hard")
    assert hard[0] > 2 * plain[0]
    assert hard[1] > plain[1] + 2
    assert hard[2] > 2 * plain[2] > 0


def test_some_plain_calls_have_digital_silence_and_some_line_noise() -> None:
    quiet = [not samples_of(recording)[:4000].any() for recording in of_kind("plain")]
    assert 3 <= sum(quiet) <= 9


def test_many_voices_speak() -> None:
    documents = [json.loads(recording.path.with_suffix(".json").read_text()) for recording in CALLS.values()]
    voices = Counter(voice for document in documents for voice in document["description"].split("; ")[1].split(" and "))
    assert set(voices) == {name for _, name, _ in make_calls.VOICES}
    assert min(voices.values()) >= 3


@pytest.mark.parametrize("name", make_calls.names())
def test_voices_stay_within_the_trained_ranges(name: str) -> None:
    voices = make_calls._voices(name, make_calls.SEED, make_calls.source_of(make_calls.SEED, name, "script"))
    assert voices[0].name != voices[1].name
    pitches = {voice: pitch for _, voice, pitch in make_calls.VOICES}
    for voice in voices:
        low, high = make_calls.RATES[voice.program]
        assert low <= voice.rate <= high
        assert pitches[voice.name][0] <= voice.pitch <= pitches[voice.name][1]


@pytest.mark.parametrize(
    ("speech_seconds", "end_seconds", "reason"),
    [(30.0, 40.0, r"41\.0 s is not within"), (60.0, 79.0, r"80\.0 s is not within"), (30.0, 54.0, "speech in 55%")],
)
def test_a_call_outside_the_limits_is_refused(speech_seconds: float, end_seconds: float, reason: str) -> None:
    audio = np.zeros(round(speech_seconds * RATE), dtype=np.float32)
    placed = [Placed(0, round(end_seconds * RATE) - len(audio), audio, "One.")]
    with pytest.raises(ValueError, match=reason):
        make_calls._check_limits("plain-01", placed)


@pytest.mark.skipif(
    shutil.which("espeak-ng") is None or shutil.which("flite") is None,
    reason="needs the synthesizers espeak-ng and flite",
)
def test_making_a_call_again_gives_the_same_samples(tmp_path: Path) -> None:
    shipped = CALLS["hard-09"]
    expected = json.loads(shipped.path.with_suffix(".json").read_text())
    if (versions := synthesizers()) != expected["synthesizers"]:
        pytest.skip(f"the shipped calls come from {expected['synthesizers']}, here are {versions}")

    document = make_calls.make_call(shipped.name, seed=make_calls.SEED, out=tmp_path, versions=versions)

    assert document == expected
    (made,) = recordings(tmp_path)
    np.testing.assert_array_equal(samples_of(made), samples_of(shipped))

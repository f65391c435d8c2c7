"""The engine with the shipped model, and with models of random weights and other sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import soundfile
import soxr

from pipeline.asr.engine import WhisperEngine, bucket_of, resolve_device
from pipeline.asr.hypothesis import AsrWork, Hypothesis
from pipeline.core.errors import FatalError, NotReadyError
from pipeline.core.text import joined
from pipeline.demo.assets import MODEL, calls
from tests.unit.asr.models import make_model, profile, window, work

DEMO = profile("demo", languages=("en",), is_multilingual=True)


@pytest.fixture(scope="module")
def demo() -> WhisperEngine:
    return WhisperEngine(str(MODEL), DEMO)


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="module")
def english_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "english", is_english=True, bins=128, width=48)


@pytest.fixture(scope="module")
def windows(demo: WhisperEngine) -> list[AsrWork]:
    """Utterances of a shipped call with what vad leaves around them, whole and up to a step, some with a prefix."""
    call = calls()[0]
    samples, rate = soundfile.read(call.path, dtype="int16", always_2d=True)
    found = []
    for utterance in call.utterances[:8]:
        first, last = round((utterance.start_seconds - 0.3) * rate), round((utterance.end_seconds + 0.5) * rate)
        audio = soxr.resample(samples[max(first, 0) : last, utterance.channel], rate, 16_000)
        found += [work(audio, model="demo"), work(audio[: len(audio) // 16_000 * 16_000], model="demo")]
    heard = demo.infer(found)
    forced = [
        replace(item, prefix=tuple(token for word in hypothesis.words[:2] for token in word.tokens))
        for item, hypothesis in zip(found, heard, strict=True)
        if len(hypothesis.words) > 2
    ]
    return [*found, *forced]


@dataclass
class Watched:
    """A model of CTranslate2 that notes what it is asked, and does something first."""

    model: Any
    asked: list[tuple[str, Sequence[Any]]]
    before: Callable[[str, Sequence[Any]], None] = lambda name, arguments: None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.model, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self.before(name, arguments)
            self.asked.append((name, arguments))
            return found(*arguments, **options)

        return call

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


def watched(engine: WhisperEngine, before: Callable[[str, Sequence[Any]], None] | None = None) -> Watched:
    watch = Watched(engine._whisper, []) if before is None else Watched(engine._whisper, [], before)
    engine._whisper = watch
    return watch


def words(found: Sequence[Hypothesis]) -> list[list[str]]:
    return [[word.text for word in hypothesis.words] for hypothesis in found]


def test_the_shipped_model_hears_its_recording(demo: WhisperEngine) -> None:
    audio, _ = soundfile.read(MODEL / "self_test.flac", dtype="int16")
    found = demo.infer([work(audio)])[0]
    assert joined(found.words) == "Good afternoon, how may I help you?"
    assert not found.is_capped
    assert (found.language, found.language_probability) == (None, None)
    frames = [frame for word in found.words for frame in word.frames]
    assert frames == sorted(frames)
    assert found.end_frame <= len(audio) // 320


def test_the_prefix_is_kept_and_only_new_words_come_back(demo: WhisperEngine) -> None:
    audio, _ = soundfile.read(MODEL / "self_test.flac", dtype="int16")
    whole = demo.infer([work(audio)])[0]
    prefix = tuple(token for word in whole.words[:3] for token in word.tokens)
    rest = demo.infer([work(audio, prefix=prefix)])[0]
    assert [word.text for word in rest.words] == [word.text for word in whole.words[3:]]
    assert [word.frames for word in rest.words] == [word.frames for word in whole.words[3:]]


def test_nothing_new_behind_the_prefix_is_an_empty_hypothesis(demo: WhisperEngine) -> None:
    audio, _ = soundfile.read(MODEL / "self_test.flac", dtype="int16")
    whole = demo.infer([work(audio)])[0]
    found = demo.infer([work(audio, prefix=tuple(token for word in whole.words for token in word.tokens))])[0]
    assert (found.words, found.is_capped) == ((), False)


def test_company_changes_nothing_on_a_cpu(demo: WhisperEngine, windows: list[AsrWork]) -> None:
    assert demo.max_batch == 1
    assert demo.infer(windows) == [demo.infer([item])[0] for item in windows]


def test_batches_give_the_words_that_windows_give_alone(demo: WhisperEngine, windows: list[AsrWork]) -> None:
    engine = WhisperEngine(str(MODEL), DEMO, is_batched=True, max_batch=5)
    watch = watched(engine)
    together = words(engine.infer(windows))
    assert watch.names().count("generate") < len(windows) * 2 / 3
    assert together == words([engine.infer([item])[0] for item in windows])
    # A CPU does not pad to whole seconds: 790 of 790 words of the shipped calls were equal on one processor, 184 of these 186 on another.
    alone = words(demo.infer(windows))
    matchers = [SequenceMatcher(None, one, other, autojunk=False) for one, other in zip(together, alone, strict=True)]
    equal = sum(block.size for matcher in matchers for block in matcher.get_matching_blocks())
    count = sum(map(len, alone))
    assert count > 80
    assert max(count, sum(map(len, together))) - equal <= 0.02 * count


def test_a_batch_mixes_prefixes_and_separates_heads_tasks_and_lengths(random_model: Path) -> None:
    engine = WhisperEngine(str(random_model), profile(), is_batched=True)
    watch = watched(engine)
    batch = [
        window(1.2),
        window(1.9, prefix=(100, 101, 102)),
        window(2.1),
        window(1.2, prompt="Hello."),
        window(1.2, task="translate"),
        window(1.2, language="de"),
        window(1.2, language="de", prefix=(7,)),
    ]
    found = engine.infer(batch)
    assert sorted(len(arguments[1]) for name, arguments in watch.asked if name == "generate") == [1, 1, 1, 2, 2]
    assert words(found) == words([engine.infer([item])[0] for item in batch])


def test_languages_that_were_just_detected_are_aligned_apart(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = WhisperEngine(str(random_model), profile(), is_batched=True)
    watch = watched(engine)
    detected = [[("<|de|>", 0.9), ("<|fr|>", 0.1)], [("<|fr|>", 0.8), ("<|de|>", 0.2)], [("<|de|>", 0.7)]]
    monkeypatch.setattr(watch, "detect_language", lambda encoded: detected, raising=False)
    found = engine.infer([window(language=None) for _ in detected])
    assert [item.language for item in found] == ["de", "fr", "de"]
    assert watch.names().count("align") == 2
    assert words(found)[0] == words(engine.infer([window(language="de")]))[0]
    assert words(found)[1] == words(engine.infer([window(language="fr")]))[0]


def test_a_detected_language_is_one_of_those_offered_with_its_share_among_them(random_model: Path) -> None:
    free = WhisperEngine(str(random_model), profile()).infer([window(language=None)])[0]
    bound = WhisperEngine(str(random_model), profile(languages=("de", "nl"))).infer([window(language=None)])[0]
    assert free.language not in ("de", "nl")
    assert bound.language in ("de", "nl")
    assert bound.language_probability is not None
    assert 0.5 <= bound.language_probability < 1


def test_an_only_language_need_not_be_detected(random_model: Path, english_model: Path) -> None:
    for engine in (
        WhisperEngine(str(random_model), profile(languages=("de",))),
        WhisperEngine(str(english_model), profile()),
    ):
        watch = watched(engine)
        found = engine.infer([window(language=None)])[0]
        assert found.language == ("en" if engine._profile.languages == () else "de")
        assert found.language_probability == 1.0
        assert "detect_language" not in watch.names()


def test_the_task_and_the_language_stand_in_the_start_sequence(random_model: Path) -> None:
    engine = WhisperEngine(str(random_model), profile())
    watch = watched(engine)
    engine.infer([window(language="ja", task="translate")])
    prompt = next(arguments[1][0] for name, arguments in watch.asked if name == "generate")
    assert [engine._spelling.id_to_token(token) for token in prompt] == [
        "<|startoftranscript|>",
        "<|ja|>",
        "<|translate|>",
        "<|notimestamps|>",
    ]
    assert engine._tokenizer("ja", "translate").language_code == "en"


def test_a_model_of_another_size_for_english_alone(english_model: Path) -> None:
    engine = WhisperEngine(str(english_model), profile())
    watch = watched(engine)
    found = engine.infer([window(language="en"), window(0.5, prompt="Hi", prefix=(40, 41))])
    prompt = next(arguments[1][0] for name, arguments in watch.asked if name == "generate")
    assert [engine._spelling.id_to_token(token) for token in prompt] == ["<|startoftranscript|>", "<|notimestamps|>"]
    assert all(hypothesis.words for hypothesis in found)


@pytest.mark.parametrize("language", ["de", None])
def test_a_model_whose_card_says_so_is_multilingual_with_few_tokens(language: str | None) -> None:
    engine = WhisperEngine(str(MODEL), profile("demo", languages=("de", "en"), is_multilingual=True))
    assert not engine._whisper.is_multilingual  # CTranslate2 counts tokens, and then refuses to detect
    watch = watched(engine)
    audio, _ = soundfile.read(MODEL / "self_test.flac", dtype="int16")
    found = engine.infer([work(audio, language=language, task="translate")])[0]
    start = ["<|startoftranscript|>", "<|de|>", "<|translate|>"]
    for name, given in (("generate", [*start, "<|notimestamps|>"]), ("align", start)):
        arguments = next(arguments for asked, arguments in watch.asked if asked == name)
        tokens = arguments[1][0] if name == "generate" else arguments[1]
        assert [engine._spelling.id_to_token(token) for token in tokens] == given
    assert (found.language, found.language_probability) == ((None, None) if language else ("de", 1.0))
    assert "detect_language" not in watch.names()


def test_a_loop_ends_at_the_limit_and_is_called_capped(random_model: Path) -> None:
    found = WhisperEngine(str(random_model), profile()).infer([window(3.0), window(1.0, prefix=(100,) * 60)])
    assert [sum(len(word.tokens) for word in hypothesis.words) for hypothesis in found] == [16 + 3 * 14, 16]
    assert all(hypothesis.is_capped for hypothesis in found)


def test_in_a_batch_every_window_has_its_own_limit(random_model: Path) -> None:
    engine = WhisperEngine(str(random_model), profile(), is_batched=True)
    found = engine.infer([window(1.2), window(1.9), window(1.5, prefix=(100,) * 60)])
    assert [sum(len(word.tokens) for word in hypothesis.words) for hypothesis in found] == [16 + 16, 16 + 26, 16]
    assert all(hypothesis.is_capped for hypothesis in found)


@pytest.mark.parametrize("is_batched", [False, True])
def test_a_prefix_that_fills_the_decoder_is_answered_without_decoding(random_model: Path, is_batched: bool) -> None:
    engine = WhisperEngine(str(random_model), profile(), is_batched=is_batched)
    watch = watched(engine)
    found = engine.infer([window(prefix=(100,) * 440), window(prefix=(100,) * 1_000, language=None)])
    assert [(item.words, item.is_capped, item.end_frame) for item in found] == [((), True, 100)] * 2
    assert watch.asked == []


def test_the_fullest_decoder_works(random_model: Path) -> None:
    engine = WhisperEngine(str(random_model), profile())
    found = engine.infer([window(28.0, prefix=(100,) * 427, prompt="word " * 300, prompt_tokens=(200,) * 224)])[0]
    assert sum(len(word.tokens) for word in found.words) == 16


@pytest.mark.parametrize("samples", [0, 319, 320, 321, 30 * 16_000])
def test_windows_of_any_length_up_to_the_encoder_s(random_model: Path, samples: int) -> None:
    engine = WhisperEngine(str(random_model), profile(padding_seconds=0.0))
    found = engine.infer([work(np.zeros(samples, dtype=np.int16))])[0]
    assert (found.words == ()) == (samples < 320)
    assert not (samples < 320 and found.is_capped)


def test_a_window_longer_than_the_encoder_is_fatal(random_model: Path) -> None:
    with pytest.raises(FatalError, match=r"30\.1 s is longer than the 30 s"):
        WhisperEngine(str(random_model), profile()).infer([window(30.1)])


def test_padding_fills_the_window_up_to_thirty_seconds_at_most(random_model: Path) -> None:
    engine = WhisperEngine(str(random_model), profile(padding_seconds=30.0))
    watch = watched(engine)
    engine.infer([window(3.0)])
    assert next(arguments[0] for name, arguments in watch.asked if name == "encode").shape == [1, 80, 3_000]


# -- memory ------------------------------------------------------------------------------------------------------------


def scarce(room: int, text: str = "CUDA failed with error out of memory") -> Callable[[str, Sequence[Any]], None]:
    """Return what fails when more than ``room`` windows are encoded together."""

    def check(name: str, arguments: Sequence[Any]) -> None:
        if name == "encode" and arguments[0].shape[0] > room:
            raise RuntimeError(text)

    return check


def test_without_memory_for_a_batch_it_is_halved_and_stays_so(random_model: Path) -> None:
    engine = WhisperEngine(str(random_model), profile(), is_batched=True, max_batch=16)
    batch = [window(1.5, prefix=(100 + index,)) for index in range(11)]
    expected = words(engine.infer(batch))
    watch = watched(engine, scarce(3))
    assert words(engine.infer(batch)) == expected
    assert engine.max_batch == 2
    watch.asked.clear()
    engine.infer(batch)
    assert [arguments[0].shape[0] for name, arguments in watch.asked if name == "encode"] == [2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize("is_batched", [False, True])
def test_without_memory_for_one_window_it_is_fatal_and_says_no_word(random_model: Path, is_batched: bool) -> None:
    engine = WhisperEngine(str(random_model), profile("big"), is_batched=is_batched)
    watched(engine, scarce(0, "cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"))
    with pytest.raises(FatalError, match=r"model 'big' cannot decode a window of 2\.5 s on cpu: cuBLAS") as caught:
        engine.infer([window(2.0, prompt="secret")] * 3)
    assert "secret" not in str(caught.value)


def test_other_errors_are_not_tried_again(random_model: Path) -> None:
    engine = WhisperEngine(str(random_model), profile(), is_batched=True)
    watch = watched(engine, scarce(1, "something else"))
    with pytest.raises(RuntimeError, match="something else"):
        engine.infer([window(), window()])
    assert watch.asked == []


# -- where it runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compute_type", ["float32", "int8", "default"])
def test_compute_types_of_a_cpu(random_model: Path, compute_type: str) -> None:
    assert resolve_device("cpu", compute_type) == "cpu"
    engine = WhisperEngine(str(random_model), profile(), compute_type=compute_type)
    assert engine.infer([window()])[0].words
    assert engine.compute_type == ("int8_float32" if compute_type == "int8" else "float32")


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 0)
    with pytest.raises(NotReadyError, match=r"asr\.device is cuda, but CTranslate2 finds no CUDA device"):
        resolve_device("cuda", "default")
    assert resolve_device("auto", "default") == "cpu"


def test_auto_takes_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    monkeypatch.setattr(ctranslate2, "get_supported_compute_types", lambda device: {"float16"})
    assert resolve_device("auto", "float16") == "cuda"
    assert resolve_device("cpu", "default") == "cpu"


def test_an_unknown_compute_type_lists_the_known_ones() -> None:
    with pytest.raises(NotReadyError, match=r"asr\.compute_type is 'int3', but this cpu has default, auto, .*int8"):
        resolve_device("cpu", "int3")


def test_weights_that_are_not_a_model_are_not_ready(tmp_path: Path, random_model: Path) -> None:
    for file in random_model.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "model.bin").unlink()
    (tmp_path / "model.bin").write_bytes((random_model / "model.bin").read_bytes()[:100_000])
    with pytest.raises(NotReadyError, match=r"model 'cut' cannot be loaded from .*: .*model\.bin|payload") as caught:
        WhisperEngine(str(tmp_path), profile("cut"))
    assert "\n" not in str(caught.value)


def test_what_can_be_decoded_together_has_one_bucket() -> None:
    assert bucket_of(window(1.2)) == bucket_of(window(1.9, prefix=(1, 2)))
    others = [
        window(2.1),
        window(1.2, model="small"),
        window(1.2, language=None),
        window(1.2, task="translate"),
        window(1.2, prompt="Hello."),
        window(1.2, hot_words=("brand",)),
        window(1.2, prompt_tokens=(1,)),
    ]
    assert len({bucket_of(item) for item in [window(1.2), *others]}) == len(others) + 1

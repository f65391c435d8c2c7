"""The asr stage with real models: what it refuses to start with, and a call through models of other sizes."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from pipeline.asr.hypothesis import AsrWork, Hypothesis
from pipeline.asr.stage import SPEC
from pipeline.core.errors import FatalError, NotReadyError, UsageError
from pipeline.demo.assets import MODEL, calls
from pipeline.ingest.decode import open_audio
from pipeline.ingest.feed import records
from pipeline.ingest.options import feed_options
from pipeline.replay import Replay
from pipeline.runtime.settings import Settings
from schemas.records import CallAudio, CallSegment
from tests.unit.asr.models import make_model, shipped_model, window

SECONDS = 6.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models of several sizes; ``wordless`` ends every text at once."""
    root = tmp_path_factory.mktemp("models")
    return {
        "random": str(make_model(root / "random", width=48)),
        "english": str(make_model(root / "english", is_english=True, bins=128)),
        "wordless": str(make_model(root / "wordless", is_english=True, end_bias=1e3)),
    }


def settings(**asr: Any) -> Settings:
    return Settings.model_validate({"asr": asr, "runtime": {"threads": 1}})


def short_call(**started: Any) -> Iterator[CallAudio]:
    """Yield the beginning of a shipped call, and its end."""
    call = calls()[0]
    options = feed_options(
        roles=[f"{channel}={role}" for channel, role in call.roles.items()],
        language=None,
        prompt=None,
        hot_words=(),
        attributes=(),
        tenant=None,
        controls=None,
        record_seconds=0.2,
    )
    with open_audio(call.path, name=call.name, raw=None, max_channels=2) as audio:
        made = list(records(audio, options, call_id="call-1", capture_start_ms=0))
    if started and made[0].started is not None:
        made[0] = replace(made[0], started=replace(made[0].started, **started))
    heard = takewhile(lambda record: record.start_sample < SECONDS * call.sample_rate_hz, made[:-1])
    control = sum(record.channel == -1 for record in made[:-1])
    yield from heard
    yield replace(made[-1], sequence=control)


class Heard:
    """The stage's engine, and what it said."""

    def __init__(self, found: Settings) -> None:
        self.engine: Any = SPEC.make_engine(found)
        self.hypotheses: list[Hypothesis] = []

    def infer(self, batch: Sequence[AsrWork]) -> list[Hypothesis]:
        said: list[Hypothesis] = self.engine.infer(batch)
        self.hypotheses += said
        return said


def segments(found: Settings, heard: Heard | None = None, **started: Any) -> list[CallSegment]:
    return list(Replay(found, None if heard is None else {"asr": heard}).segments(short_call(**started)))  # type: ignore[dict-item]


def models_of(made: list[CallSegment]) -> set[str]:
    return {record.segment.model for record in made if record.segment is not None}


def test_the_shipped_model_transcribes_the_call() -> None:
    made = segments(settings())
    assert made[-1].kind == "ended"
    assert models_of(made) == {"demo@d6dd37645cee"}
    assert any(record.segment is not None and "Thank you" in record.segment.text for record in made)


@pytest.mark.parametrize("name", ["random", "english", "wordless"])
@pytest.mark.parametrize("policy", ["alignatt", "local_agreement"])
def test_a_model_of_another_size_runs_through_the_same_path(folders: dict[str, str], name: str, policy: str) -> None:
    found = settings(model=folders[name], policy=policy)
    heard = Heard(found)
    made = segments(found, heard)
    assert made[-1].kind == "ended"
    assert len(heard.hypotheses) >= 4
    assert all(bool(hypothesis.words) == (name != "wordless") for hypothesis in heard.hypotheses)
    assert any(hypothesis.is_capped for hypothesis in heard.hypotheses) == (name != "wordless")


def test_a_call_may_ask_for_another_model_of_the_pool(folders: dict[str, str]) -> None:
    found = settings(models=[folders["wordless"]])
    assert models_of(segments(found)) == {"demo@d6dd37645cee"}
    assert models_of(segments(found, model=folders["wordless"])) == set()


def test_every_model_on_offer_is_loaded_and_tested_at_the_start(folders: dict[str, str]) -> None:
    offered = [folders["random"], folders["english"]]
    pool: Any = SPEC.make_engine(settings(models=offered, pinned=offered[1:], max_loaded=3))
    assert (pool.loads, pool.loaded) == (3, ("demo", folders["english"], folders["random"]))
    assert (pool.max_batch, pool.threads) == (1, 1)
    untested: Any = SPEC.make_engine(settings(models=offered, pinned=offered[1:], max_loaded=3, self_test="off"))
    assert untested.loaded == ("demo", folders["english"])
    assert [len(pool.infer([window(1.0, model=name)])) for name in offered] == [1, 1]


def test_models_that_vanish_are_fatal_when_they_are_needed(folders: dict[str, str], tmp_path: Path) -> None:
    here = shutil.copytree(folders["english"], tmp_path / "model")
    pool: Any = SPEC.make_engine(settings(models=[str(here)], self_test="off"))
    (here / "model.bin").unlink()
    with pytest.raises(FatalError, match=r"gone: model '.*/model' cannot be loaded"):
        pool.infer([window(1.0, model=str(here))])


def damaged(folder: Path, size: int) -> str:
    """Return a copy of the shipped model, without its card, whose weights end after ``size`` bytes."""
    weights = shipped_model(folder) / "model.bin"
    weights.unlink()
    weights.write_bytes((MODEL / "model.bin").read_bytes()[:size])
    return str(folder)


@pytest.mark.parametrize("size", [0, 100, 2_000_000])
def test_a_corrupt_model_file_is_not_ready(tmp_path: Path, size: int) -> None:
    name = damaged(tmp_path / "cut", size)
    for found in (settings(model=name), settings(models=[name])):
        with pytest.raises(NotReadyError, match=r"model '.*/cut' cannot be loaded from .*/cut: "):
            SPEC.make_engine(found)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_other_corrupt_files_are_not_ready(tmp_path: Path, file: str) -> None:
    name = damaged(tmp_path / "cut", 10_000_000)
    (tmp_path / "cut" / file).unlink()
    (tmp_path / "cut" / file).write_text("{")
    with pytest.raises(NotReadyError, match=r"model '.*/cut' cannot be loaded from .*/cut: "):
        SPEC.make_engine(settings(model=name))


def test_a_model_that_fails_its_self_test_is_not_ready(tmp_path: Path) -> None:
    name = str(make_model(tmp_path / "broken", is_english=True, gain=math.nan))
    with pytest.raises(NotReadyError, match=r"self-test of model '.*/broken': its scores are not finite"):
        SPEC.make_engine(settings(models=[name]))
    assert SPEC.make_engine(settings(models=[name], self_test="off")) is not None


@pytest.mark.parametrize(
    ("asr", "complaint"),
    [
        ({"model": "./nowhere"}, "no such folder"),
        ({"models": ["./nowhere"]}, "no such folder"),
        ({"model": "largest"}, "nor a name that faster-whisper knows"),
        ({"compute_type": "int3"}, "asr.compute_type is 'int3'"),
    ],
)
def test_what_cannot_be_had_is_not_ready(asr: dict[str, Any], complaint: str) -> None:
    with pytest.raises(NotReadyError, match=complaint):
        SPEC.make_engine(settings(**asr))


def test_logic_and_engine_refuse_the_same_settings() -> None:
    for make in (SPEC.make_logic, SPEC.make_engine):
        with pytest.raises(NotReadyError, match="no such folder"):
            make(settings(models=["./nowhere"]))
        with pytest.raises(UsageError, match=r"asr\.pinned"):
            make(settings(pinned=["small"]))


@pytest.mark.parametrize("compute_type", ["int8", "float32"])
def test_a_compute_type_passes_the_strict_self_test(compute_type: str) -> None:
    assert SPEC.make_engine(settings(compute_type=compute_type, self_test="strict")) is not None

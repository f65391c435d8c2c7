"""Every stage has the same rooms: what a new stage touches, and what is missing when it does not."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import topics
from pipeline import stages
from pipeline.core.contract import StageSpec
from pipeline.runtime.settings import DiarizeSettings, Settings
from schemas import REPOSITORY_IDS, records

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "faust",
    "mode",
    "aiokafka",
    "confluent_kafka",
    "ctranslate2",
    "faster_whisper",
    "onnxruntime",
    "pyannote",
    "diart",
)
SECTIONS = {"sink": "store"}  # a stage's section is called like the stage, but for these
METHODS = ("open", "plan", "apply", "snapshot", "restore")


WITHOUT_TORCH = Settings(diarize=DiarizeSettings(engine="channel"))


@cache
def engine_of(name: str) -> Any:
    return spec(name).make_engine(WITHOUT_TORCH)


def spec(name: str) -> StageSpec[Any, Any, Any]:
    return stages.spec(name)


@pytest.mark.parametrize("name", stages.STAGES)
def test_has_logic_and_wiring(name: str) -> None:
    for room in ("logic", "stage"):
        assert find_spec(f"pipeline.{name}.{room}") is not None, f"pipeline/{name}/{room}.py is missing"


@pytest.mark.parametrize("name", stages.STAGES)
def test_has_a_section_in_the_settings(name: str) -> None:
    assert SECTIONS.get(name, name) in Settings.model_fields, f"pipeline/runtime/settings.py has no section {name}"


@pytest.mark.parametrize("name", stages.STAGES)
def test_logic_imports_with_kafka_and_models_blocked(name: str) -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r})); import pipeline.{name}.logic"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", stages.STAGES)
def test_layer_rules_name_it(name: str) -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    logic, independent, kafka, core, _ = config["contracts"]
    assert f"pipeline.{name}" in independent["modules"]
    assert f"pipeline.{name}" in kafka["source_modules"]
    assert f"pipeline.{name}" in core["forbidden_modules"]
    if name in stages.STREAM_STAGES:
        assert f"pipeline.{name}.logic" in logic["source_modules"]


@pytest.mark.parametrize("name", stages.STAGES)
def test_may_write_dead_letters(name: str) -> None:
    assert name in topics.topic("dead-letters").producers, (
        f"topics.yaml: dead-letters does not name {name} as a producer"
    )


@pytest.mark.parametrize("name", stages.STREAM_STAGES)
def test_spec_and_topics_say_the_same(name: str) -> None:
    stage = spec(name)
    assert stage.name == name
    read, written = topics.topic(stage.input), topics.topic(stage.output)
    assert name in read.consumers, f"topics.yaml: {stage.input} does not name {name} as a consumer"
    assert name in written.producers, f"topics.yaml: {stage.output} does not name {name} as a producer"
    assert stage.reads.__name__ == read.schema
    assert stage.writes.__name__ == written.schema
    assert read.group == written.group, "records of one call would meet in different workers"
    assert stage.writers, "the writers of the input decide what a repeat is"
    assert set(stage.writers) <= set(read.producers)
    assert stage.writers[0] == read.producers[0], "the first writer is authoritative for control"


@pytest.mark.parametrize("name", stages.STREAM_STAGES)
def test_the_stages_that_write_its_input_are_its_writers(name: str) -> None:
    stage = spec(name)
    writing = {other for other in stages.STREAM_STAGES if spec(other).output == stage.input}
    if writing:
        assert set(stage.writers) == writing


@pytest.mark.parametrize("name", stages.STREAM_STAGES)
def test_has_a_changelog_of_its_own(name: str) -> None:
    changelog = topics.changelog_of(name)
    assert changelog.changelog_of == name
    assert (changelog.producers, changelog.consumers) == ((name,), (name,))
    assert (changelog.schema, changelog.cleanup, changelog.retention_ms) == ("LaneState", "compact", -1)
    assert changelog.group == topics.topic(spec(name).input).group, (
        "Faust refuses a changelog with another partition count"
    )
    assert changelog.full_name("p") == f"p.{name}-state-changelog", (
        "the name Faust gives to the table 'state' of the app"
    )


@pytest.mark.parametrize("name", stages.STREAM_STAGES)
def test_lane_state_has_a_schema(name: str) -> None:
    record = f"{name.capitalize()}Lane"
    assert (ROOT / "schemas" / f"{name}_lane.avsc").exists()
    assert hasattr(records, record), f"schemas/records.py has no {record}: run python -m schemas.generate"


@pytest.mark.parametrize("name", stages.STREAM_STAGES)
def test_logic_keeps_the_contract(name: str) -> None:
    logic = spec(name).make_logic(WITHOUT_TORCH)
    assert logic.kinds
    assert logic.kinds.isdisjoint(logic.controls), "a kind is of a channel or of the call"
    for method in METHODS:
        assert callable(getattr(logic, method))


@pytest.mark.parametrize("name", stages.STREAM_STAGES)
def test_engine_is_in_its_room_where_the_stage_infers(name: str) -> None:
    engine = engine_of(name)
    if engine is None and spec(name).is_rarely_asked:  # tests/unit/diarize/test_engine.py has it loaded
        assert find_spec(f"pipeline.{name}.engine") is not None
    elif engine is None:
        assert find_spec(f"pipeline.{name}.engine") is None, (
            f"pipeline/{name}/engine.py is not wired in pipeline/{name}/stage.py"
        )
    else:
        assert find_spec(f"pipeline.{name}.engine") is not None
        assert type(engine).__module__.startswith(f"pipeline.{name}.")
        assert callable(engine.infer)
    if find_spec(f"pipeline.{name}.engine") is not None:
        logic = spec(name).make_logic(WITHOUT_TORCH)
        assert callable(logic.abandon), "some audio may end the engine with the process"


def test_the_sink_reads_the_end_of_the_flow() -> None:
    assert topics.topic(spec("assemble").output).consumers[0] == "sink"


def test_topics_name_no_stage_that_does_not_read_or_write_them() -> None:
    changelogs = {f"{name}-state-changelog" for name in stages.STREAM_STAGES}
    for topic in topics.load():
        # call.state is looked into by every stage that finds a call whose start was deleted
        readers = {name for name in stages.STREAM_STAGES if topic.name in (spec(name).input, "call.state")}
        if topic.name not in changelogs:
            assert set(topic.consumers) & set(stages.STREAM_STAGES) == readers, topic.name


def test_every_topic_has_a_schema_with_a_fixed_id() -> None:
    assert {topic.schema for topic in topics.load()} == set(REPOSITORY_IDS)
    assert len(set(REPOSITORY_IDS.values())) == len(REPOSITORY_IDS)

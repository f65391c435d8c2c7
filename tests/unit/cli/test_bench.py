"""``callscribe bench policy``: its options, its document, what it writes; the measuring itself is scripted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner, Result

from pipeline.asr.profiles import ModelProfile
from pipeline.bench.policy import measure as measuring
from pipeline.bench.policy.figures import RecordingFigures, StreamingFigures
from pipeline.bench.policy.variants import Variant
from pipeline.bench.recordings import Recording
from pipeline.cli.bench import register
from pipeline.cli.common import Context
from pipeline.core.errors import InputError, UsageError
from pipeline.core.wer import WordErrors
from pipeline.demo import assets
from pipeline.runtime.settings import Settings


def run(*arguments: str) -> Result:
    app = typer.Typer()

    @app.callback()
    def root(context: typer.Context) -> None:
        context.obj = Context(config=None)

    register(app)
    result = CliRunner().invoke(app, ["bench", "policy", "--no-sounds", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


class Asked:
    """Stands for the measuring: notes what it was asked, and answers with a figure for everything."""

    def __init__(self) -> None:
        self.variants: list[Variant] = []
        self.settings = Settings()
        self.jobs = 0

    def __call__(
        self,
        recordings: Sequence[Recording],
        variants: Sequence[Variant],
        settings: Settings,
        *,
        jobs: int,
        on_progress: Any,
    ) -> tuple[RecordingFigures, ...]:
        self.variants, self.settings, self.jobs = list(variants), settings, jobs
        figures = tuple(
            RecordingFigures(
                name=recording.name,
                kind=recording.kind,
                audio_seconds=10.0,
                truth=(),
                offline=WordErrors(errors=1, words=10),
                streaming=tuple(streamed(variant) for variant in variants),
            )
            for recording in recordings
        )
        for one in figures:
            on_progress(one)
        return figures


def streamed(variant: Variant) -> StreamingFigures:
    return StreamingFigures(
        errors=WordErrors(errors=1, words=10),
        latencies=(0.5,),
        cpu_seconds=1.0,
        profile=ModelProfile(name="demo", revision="demo@0", policy=variant.policy),
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    monkeypatch.chdir(tmp_path)
    scripted = Asked()
    monkeypatch.setattr(measuring, "measure", scripted)
    return scripted


def test_both_policies_are_measured_with_the_parameters_of_the_settings(asked: Asked) -> None:
    result = run(str(assets.CALLS), "--no-live", "--json", "--jobs", "3")
    document = json.loads(result.stdout)
    assert asked.variants == [Variant(policy="alignatt"), Variant(policy="local_agreement")]
    assert asked.jobs == 3
    assert [row["policy"] for row in document["policies"]] == ["alignatt", "local_agreement"]
    assert document["recordings"] == len(assets.calls())
    assert document["sweep"] == []
    assert all(call.name in result.stderr for call in assets.calls())


def test_one_policy_may_be_asked_for_and_swept(asked: Asked, tmp_path: Path) -> None:
    plot = tmp_path / "sweep.svg"
    run(str(assets.CALLS), "--no-live", "--policy", "alignatt", "--sweep", "--plot", str(plot), "--model", "small")
    assert len(asked.variants) > 5
    assert {variant.policy for variant in asked.variants} == {"alignatt"}
    assert asked.settings.asr.model == "small"
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


def test_without_json_there_is_a_table(asked: Asked) -> None:
    assert "points more, all" in run(str(assets.CALLS), "--no-live").stdout


@pytest.mark.parametrize("name", ["plot.png", "no-such-folder/plot.svg"])
def test_a_plot_that_cannot_be_written_is_told_before_anything_is_measured(asked: Asked, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        run(str(assets.CALLS), "--no-live", "--plot", name)
    assert not asked.variants


def test_a_folder_without_references_is_refused(asked: Asked, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recording with a reference"):
        run(str(tmp_path), "--no-live")
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    (tmp_path / "broken.txt").write_text("hello")
    with pytest.raises(InputError, match="broken"):
        run(str(tmp_path), "--no-live")


def test_an_unknown_policy_is_wrong_usage(asked: Asked) -> None:
    result = run("--policy", "best")
    assert result.exit_code == 2
    assert "local_agreement" in result.stderr

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bench.system import environment_of, own_folder, own_settings
from pipeline.core.errors import FailedError
from pipeline.runtime.settings import Settings, load


def test_a_process_with_the_environment_has_the_settings_whatever_its_file_says(tmp_path: Path) -> None:
    file = tmp_path / "callscribe.toml"
    file.write_text('[kafka]\nbootstrap_servers = "elsewhere:9092"\n[vad]\nthreshold = 0.9\n[asr]\nmodel = "small"\n')
    flags = {
        "asr.models": "one,two",
        "asr.policy": "local_agreement",
        "vad.threshold": 0.6,
        "store.url": "postgresql://h/d",
    }
    settings = load(environment={}, flags=flags).settings
    assert load(config=file, environment=environment_of(settings)).settings == settings


def test_an_own_system_recognises_the_same_and_shares_nothing() -> None:
    flags = {
        "kafka.bootstrap_servers": "elsewhere:9092",
        "store.url": "postgresql://h/d",
        "schemas.registry_url": "http://registry",
        "broker.port": 9092,
        "asr.step_seconds": 0.6,
        "vad.threshold": 0.6,
    }
    given = load(environment={}, flags=flags).settings
    own = own_settings(given, Path("/work/bench"))
    assert own.is_embedded
    assert own.work_folder == Path("/work/bench")
    assert (own.store, own.schemas, own.broker.port) == (Settings().store, Settings().schemas, 0)
    assert (own.asr, own.vad, own.ingest, own.topics) == (given.asr, given.vad, given.ingest, given.topics)
    assert own.diarize.engine == "channel"
    assert own_settings(given, Path("/work/bench"), has_voices=True).diarize == given.diarize


def test_the_folder_goes_after_success_and_stays_after_failure(tmp_path: Path) -> None:
    settings = load(environment={}, flags={"runtime.work_folder": str(tmp_path)}).settings
    with own_folder(settings, "a") as gone:
        (gone / "log").write_text("x")
    assert not gone.exists()
    with pytest.raises(FailedError), own_folder(settings, "a") as left:
        raise FailedError("no")
    assert left.parent == tmp_path / "bench"
    assert left.exists()

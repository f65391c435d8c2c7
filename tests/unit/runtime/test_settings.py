from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.core.errors import UsageError
from pipeline.runtime.settings import Settings, known_keys, load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "callscribe.toml"
    path.write_text('[asr]\nmodel = "small"\nstep_seconds = 0.6\n[vad]\nthreshold = 0.6\n', encoding="utf-8")
    return path


def test_flags_beat_the_environment_beats_the_file_beats_defaults(file: Path) -> None:
    environment = {"CALLSCRIBE_ASR__STEP_SECONDS": "0.8", "CALLSCRIBE_ASR__MODEL": "medium", "HOME": "/x"}
    loaded = load(config=file, environment=environment, flags={"asr.model": "demo", "asr.language": None})
    asr = loaded.settings.asr
    assert (asr.model, asr.step_seconds, loaded.settings.vad.threshold, asr.language) == ("demo", 0.8, 0.6, "en")
    assert loaded.origins == {
        "asr.model": "flag",
        "asr.step_seconds": "CALLSCRIBE_ASR__STEP_SECONDS",
        "vad.threshold": "callscribe.toml",
    }


def test_the_file_of_the_current_folder_is_used_and_may_be_missing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert load(environment={}).settings.asr.model == "small"
    file.unlink()
    loaded = load(environment={})
    assert (loaded.settings, loaded.origins) == (Settings(), {})


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS", "broker:9092")
    settings = load().settings
    assert settings.kafka.bootstrap_servers == "broker:9092"
    assert not settings.is_embedded
    assert (settings.partitions, Settings().partitions) == (24, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[kafak]\nport = 1\n", "kafak.*callscribe.toml.*nearest known one is kafka"),
        ("[kafak]\n", "kafak.*callscribe.toml.*nearest known one is kafka"),
        ('[kafka]\nbootstrap_server = "x"\n', "nearest known one is kafka.bootstrap_servers"),
        ("[vad.deep]\nx = 1\n", "unknown setting vad.deep"),
        ("threshold = 1\n", "is not a \\[section\\]"),
        ("[vad]\nthreshold = 2\n", "vad.threshold \\(from callscribe.toml\\)"),
        ("[vad\n", "not TOML"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_the_key(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "callscribe.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load(config=path, environment={})


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read"):
        load(config=tmp_path / "none.toml", environment={})
    with pytest.raises(UsageError, match="cannot be read"):
        load(config=tmp_path, environment={})
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not TOML"):
        load(config=tmp_path / "b.toml", environment={})


def test_an_origin_is_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "production.conf"
    path.write_text("[vad]\nthreshold = 0.6\n", encoding="utf-8")
    assert load(config=path, environment={}).origins == {"vad.threshold": "production.conf"}


def test_thresholds_that_make_no_hysteresis_are_refused() -> None:
    with pytest.raises(UsageError):
        load(environment={"CALLSCRIBE_VAD__THRESHOLD": "0.3", "CALLSCRIBE_VAD__NEGATIVE_THRESHOLD": "0.6"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CALLSCRIBE_VAD__TRESHOLD", "0.5", "unknown setting vad.treshold \\(from environment\\).*vad.threshold"),
        ("CALLSCRIBE_VAD__THRESHOLD", "high", "vad.threshold \\(from CALLSCRIBE_VAD__THRESHOLD\\)"),
        ("CALLSCRIBE_TOPICS__PREFIX", "a b", "topics.prefix"),
        ("CALLSCRIBE_KAFKA__SECURITY_PROTOCOL", "TLS", "kafka.security_protocol"),
    ],
)
def test_an_environment_that_is_wrong_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(environment={name: value})


def test_an_error_never_shows_the_value() -> None:
    secret = "hunter2-hunter2"
    with pytest.raises(UsageError) as error:
        load(environment={"CALLSCRIBE_KAFKA__SESSION_TIMEOUT_SECONDS": secret})
    assert secret not in str(error.value)
    loaded = load(environment={"CALLSCRIBE_KAFKA__SASL_PASSWORD": secret})
    assert secret not in repr(loaded)
    assert loaded.settings.kafka.sasl_password.get_secret_value() == secret


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().vad.threshold = 0.9  # type: ignore[misc]


def test_every_key_can_be_set_from_the_environment() -> None:
    defaults = Settings().model_dump()
    assert len(known_keys()) == len(set(known_keys())) == sum(len(section) for section in defaults.values())
    for key in known_keys():
        section, _, name = key.partition(".")
        value = defaults[section][name]
        if value is None:
            continue  # "not set" has no text
        text = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
        if isinstance(value, tuple):
            text = ",".join(value)
        loaded = load(environment={f"CALLSCRIBE_{section.upper()}__{name.upper()}": text})
        assert loaded.settings == Settings()


def test_lists_of_names_are_separated_by_commas_in_the_environment() -> None:
    asr = load(environment={"CALLSCRIBE_ASR__MODELS": "small, large-v3,,demo"}).settings.asr
    assert asr.models == ("small", "large-v3", "demo")
    assert asr.offered == ("demo", "small", "large-v3")


def test_a_list_of_names_may_stand_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[asr]\nmodels = ["small"]\nlanguage = "auto"\n')
    asr = load(config=tmp_path / "c.toml", environment={}).settings.asr
    assert (asr.models, asr.language) == (("small",), "auto")

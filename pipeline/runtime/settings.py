"""Settings: defaults < ``callscribe.toml`` < environment ``CALLSCRIBE_<SECTION>__<NAME>`` < flags.

One frozen section per concern, one origin per value. Durations are seconds. `load` is the only place that reads the
file or the environment.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.core.errors import UsageError
from pipeline.core.languages import unknown_language
from pipeline.core.recognition import AUTOMATIC, PolicyName, Task
from pipeline.runtime.sections import AssembleSettings, Names, Section

PREFIX = "CALLSCRIBE_"
TEST_PREFIX = "CALLSCRIBE_TEST_"  # what only the test run reads
FILE = "callscribe.toml"


class KafkaSettings(Section):
    """The broker. Empty ``bootstrap_servers`` means the embedded one, started on demand."""

    bootstrap_servers: str = ""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password: SecretStr = SecretStr("")
    ssl_ca_file: str = ""
    ssl_certificate_file: str = ""
    ssl_key_file: str = ""
    ssl_key_password: SecretStr = SecretStr("")
    session_timeout_seconds: float = Field(10.0, ge=6, le=300)
    request_timeout_seconds: float = Field(30.0, gt=0)
    fetch_wait_seconds: float = Field(0.15, ge=0, le=1, description="Stages collect so long what arrives; 0: at once")
    linger_seconds: float = Field(0.03, ge=0, le=1, description="Stages collect so long what they write")


class BrokerSettings(Section):
    """The embedded Apache Kafka. ``port`` 0 takes a free one at the first start and keeps it."""

    port: int = Field(0, ge=0, le=65535)
    heap_mb: int = Field(512, ge=128)
    compiler: Literal["full", "quick"] = Field(
        "full",
        description="quick saves a minute of one core after the start; full, a third of the broker's time after that",
    )


class TopicSettings(Section):
    """Names and sizes of the topics declared in topics/topics.yaml."""

    prefix: str = Field("callscribe", pattern=r"^[a-zA-Z0-9._-]{1,60}$")
    partitions: int = Field(24, ge=1)
    embedded_partitions: int = Field(6, ge=1)
    replication_factor: int = Field(-1, description="-1: the broker's default")


class SchemaSettings(Section):
    """Schema ids come from the repository, or from a Confluent-compatible registry when a URL is set."""

    registry_url: str = ""
    registry_username: str = ""
    registry_password: SecretStr = SecretStr("")


class IngestSettings(Section):
    """How audio is cut and produced."""

    record_seconds: float = Field(0.5, ge=0.02, le=2.0)
    queue_max_bytes: int = Field(32 * 1024 * 1024, ge=1024 * 1024)
    max_channels: int = Field(32, ge=1)
    max_lag_seconds: float = Field(
        0.0,
        ge=0,
        description="New calls are refused while a stage is further behind; utterances count up to 30 s; 0: never",
    )
    idle_seconds: float = Field(60.0, ge=1, description="A feed that is silent for so long is closed as interrupted")
    paused_idle_seconds: float = Field(
        3600.0, ge=1, description="The same for a paused call, which is silent on purpose"
    )


class VadSettings(Section):
    """Voice activity: Silero's thresholds and the shape of utterances."""

    threshold: float = Field(0.5, gt=0, lt=1)
    negative_threshold: float = Field(0.35, gt=0, lt=1)
    silence_dbfs: float = Field(
        -60.0, ge=-100, le=-30, description="Windows of 32 ms without a sample above this level are silence, unscored"
    )
    pre_roll_seconds: float = Field(0.3, ge=0.0, le=2.0)
    hangover_seconds: float = Field(0.5, ge=0.1, le=5.0)
    min_speech_seconds: float = Field(0.096, ge=0.0, le=1.0)
    max_utterance_seconds: float = Field(24.0, ge=5.0, le=28.0)
    watermark_seconds: float = Field(2.0, ge=0.5, le=10.0)
    pause_seconds: float = Field(
        0.22, ge=0.05, le=5.0, description="Quiet for so long is a pause: what was said before it is committed"
    )
    piece_seconds: float = Field(
        0.6, ge=0.05, le=1.0, description="Speech per record of call.speech; asr.step_seconds should be a multiple"
    )

    @model_validator(mode="after")
    def _check_hysteresis(self) -> Self:
        if self.negative_threshold > self.threshold:
            raise ValueError("negative_threshold must not be above threshold")
        return self


class AsrSettings(Section):
    """Recogniser. ``model``: ``demo``, a faster-whisper name (small, large-v3-turbo), or a local folder.

    What is unset and has no default is taken from the model's card, and without a card from
    `pipeline.asr.profiles.ModelProfile`.
    """

    model: str = "demo"
    models: Names = Field((), description="Further models that calls may ask for by name")
    pinned: Names = Field((), description="Models that stay loaded, besides the default one")
    max_loaded: int = Field(2, ge=1, description="Models in memory at once; the least recently used goes first")
    idle_seconds: float = Field(600.0, ge=0, description="A model unused for so long is unloaded; 0: never")
    model_cache: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: str = "default"
    threads: int = Field(0, ge=0, description="Threads of one decoding on a CPU; 0: one")
    self_test: Literal["strict", "basic", "off"] = "basic"
    language: str = Field("en", description="Of calls that name none; auto: detected once per channel, then locked")
    task: Task = "transcribe"
    policy: PolicyName | None = None
    step_seconds: float | None = Field(None, ge=0.2, le=5.0, description="Audio between two committing passes")
    tentative_seconds: float = Field(
        0.0, ge=0.0, le=5.0, description="Audio between two passes for the tentative text alone; 0: none"
    )
    frame_threshold: int | None = Field(
        None, ge=1, le=200, description="AlignAtt: frames of 20 ms kept back from the end of the audio"
    )
    agreement: int | None = Field(None, ge=2, le=5, description="LocalAgreement-n: passes that must agree")
    window_seconds: float = Field(
        12.0, ge=4.0, le=28.0, description="Longer windows are cut at the last committed sentence end"
    )
    padding_seconds: float | None = Field(None, ge=0.0, le=30.0, description="Zeros behind every window")
    prompt_tokens: int | None = Field(None, ge=0, le=224, description="Tokens of earlier text given to the next window")
    min_mean_log_probability: float | None = Field(
        None,
        description="Guard: text below this mean token log probability is refused",
    )
    sure_log_probability: float | None = Field(
        None, description="Text below this mean token log probability waits while its utterance is open"
    )
    suppress_annotations: bool | None = Field(None, description="Signs like those around [music] are never text")
    disabled_guards: Names = Field((), description="Guards that are switched off, by the name that records give")

    @property
    def offered(self) -> tuple[str, ...]:
        """Return the names that calls may ask for, the default model first."""
        return tuple(dict.fromkeys((self.model, *self.models)))

    @field_validator("language")
    @classmethod
    def _check_language(cls, value: str) -> str:
        if value != AUTOMATIC and (problem := unknown_language(value)):
            raise ValueError(problem)
        return value


class DiarizeSettings(Section):
    """Who speaks on a mixed channel. ``segmentation``, ``embedding``: checkpoint, or name on the hub; empty: the shipped one."""

    engine: Literal["auto", "channel", "diart"] = Field(
        "auto",
        description="channel: speakers of mixed channels stay unknown; auto: diart where its extra is installed, else channel",
    )
    segmentation: str = ""
    embedding: str = ""
    hub_token: SecretStr = SecretStr("")
    model_cache: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    window_seconds: float = Field(5.0, ge=1.0, le=10.0, description="Audio that the models are given at once")
    step_seconds: float = Field(
        1.0,
        ge=0.1,
        le=5.0,
        description="Audio between two windows; half as much costs twice as much, and tells speakers apart better",
    )
    latency_seconds: float = Field(
        1.8,
        ge=0.5,
        le=10.0,
        description="Audio behind speech before its speaker is final; the end of an utterance is at once",
    )
    min_speakers: int = Field(1, ge=1, le=20, description="Of calls that do not say how many")
    max_speakers: int = Field(8, ge=1, le=20, description="The same")
    threshold: float = Field(0.5, gt=0, lt=1, description="Score from which on somebody speaks")
    new_speaker_distance: float | None = Field(
        None, gt=0, lt=2, description="Cosine distance between voices, known from much speech, of two speakers"
    )
    enrolled: str = Field("", description="File of known voices that `callscribe speakers enrol` writes")
    enrolled_similarity: float | None = Field(
        None, gt=0, lt=1, description="Cosine similarity below which a speaker is none of the known voices"
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.min_speakers > self.max_speakers:
            raise ValueError("min_speakers must not be above max_speakers")
        if self.latency_seconds + self.step_seconds > self.window_seconds:
            raise ValueError("latency_seconds and step_seconds together must not be longer than window_seconds")
        return self


class StoreSettings(Section):
    """Where the sink writes. Empty: SQLite in the work folder."""

    url: SecretStr = SecretStr("")


class RuntimeSettings(Section):
    """The workers."""

    work_folder: str = ".work"
    max_batch: int = Field(0, ge=0, description="Items decoded together; 0: one on a CPU, sixteen on a GPU")
    max_wait_ms: int = Field(5, ge=0)
    threads: int = Field(0, ge=0, description="Inference threads of a worker; 0: one per core")
    commit_interval_seconds: float = Field(1.0, gt=0)
    stream_buffer_records: int = Field(512, ge=64)
    pending_records: int = Field(
        16_384, ge=64, description="Records in memory that wait for compute, per worker; its partitions share them"
    )
    pending_mb: int = Field(
        64, ge=8, description="Their size; what was fetched of a partition with a backlog, up to 9 MB, comes on top"
    )
    max_deaths: int = Field(
        3, ge=1, description="A record that has ended the process so often goes to the dead letters"
    )
    instance_id: str = Field(
        "", description="Static group membership: a name no other worker of the stage has; the pod name"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "plain"] = "plain"


class Settings(Section):
    """Everything that can be set."""

    kafka: KafkaSettings = KafkaSettings()
    broker: BrokerSettings = BrokerSettings()
    topics: TopicSettings = TopicSettings()
    schemas: SchemaSettings = SchemaSettings()
    ingest: IngestSettings = IngestSettings()
    vad: VadSettings = VadSettings()
    asr: AsrSettings = AsrSettings()
    diarize: DiarizeSettings = DiarizeSettings()
    assemble: AssembleSettings = AssembleSettings()
    store: StoreSettings = StoreSettings()
    runtime: RuntimeSettings = RuntimeSettings()

    @property
    def work_folder(self) -> Path:
        """Return the absolute folder that holds the embedded broker, the store, logs and process ids."""
        return Path(self.runtime.work_folder).expanduser().resolve()

    @property
    def is_embedded(self) -> bool:
        """Return whether the embedded broker is used."""
        return not self.kafka.bootstrap_servers

    @property
    def partitions(self) -> int:
        """Return the number of partitions of every topic of the call group."""
        return self.topics.embedded_partitions if self.is_embedded else self.topics.partitions


class LoadedSettings(BaseModel):
    """Effective settings with the origin of every value that is not a default (``kafka.bootstrap_servers`` -> where)."""

    model_config = ConfigDict(frozen=True)
    settings: Settings
    origins: Mapping[str, str]


def load(
    *, config: Path | None = None, environment: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> LoadedSettings:
    """Return the effective settings.

    ``config`` is a TOML file (default: ``callscribe.toml`` in the current folder, if there). ``flags`` are dotted keys,
    None meaning "not given". Raises UsageError naming the key, its origin and, for an unknown key, the nearest known one.
    """
    environment = os.environ if environment is None else environment
    merged: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for origin, values in (
        _from_file(config),
        _from_environment(environment),
        ("flag", {k: v for k, v in (flags or {}).items() if v is not None}),
    ):
        for key, value in values.items():
            _refuse_unknown(key, origin)
            section, _, name = key.partition(".")
            merged.setdefault(section, {})[name] = value
            origins[key] = f"{PREFIX}{section}__{name}".upper() if origin == "environment" else origin
    try:
        return LoadedSettings(settings=Settings.model_validate(merged), origins=origins)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        raise UsageError(f"setting {key} (from {origins.get(key, 'default')}): {first['msg']}") from None


def known_keys() -> tuple[str, ...]:
    """Return every dotted key, in order."""
    return tuple(
        f"{section}.{name}"
        for section, field in Settings.model_fields.items()
        for name in field.annotation.model_fields  # type: ignore[union-attr]
    )


def _from_file(config: Path | None) -> tuple[str, dict[str, Any]]:
    path = config or Path(FILE)
    if config is None and not path.exists():
        return FILE, {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML ({error})") from None
    values: dict[str, Any] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise UsageError(f"{path}: {section!r} is not a [section]; {_nearest(section)}")
        if section not in Settings.model_fields:
            raise UsageError(f"unknown section [{section}] (from {path.name}); {_nearest(section + '.')}")
        values |= {f"{section}.{name}": value for name, value in content.items()}
    return path.name, values


def _from_environment(environment: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    values = {}
    for name, value in environment.items():
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX):
            section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
            if not separator:
                raise UsageError(
                    f"environment variable {name} names no setting ({PREFIX}<SECTION>__<NAME>); {_nearest(section)}"
                )
            values[f"{section}.{key}"] = value
    return "environment", values


def _refuse_unknown(key: str, origin: str) -> None:
    if key not in known_keys():
        raise UsageError(f"unknown setting {key} (from {origin}); {_nearest(key)}")


def _nearest(key: str) -> str:
    nearest = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.0)
    return f"the nearest known one is {nearest[0]}"

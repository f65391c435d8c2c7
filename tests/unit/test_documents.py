"""The documents against the code: commands and options, topics, files and settings they name are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import topics
from pipeline.core import errors
from pipeline.runtime import crash_points, stage_app
from pipeline.runtime.settings import PREFIX, known_keys

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docker/README.md", "helm/README.md")
DAYS = {"24 h": 1, "7 days": 7, "14 days": 14, "30 days": 30}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_of(name: str) -> Iterator[str]:
    """Yield every line of code and every span of code."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text_of(name), re.DOTALL | re.MULTILINE)
    for block in blocks:
        yield from block.splitlines()
    for span in re.findall(
        r"`([^`\n]+(?:\n[^`\n]+)?)`", re.sub(r"^```.*?^```", "", text_of(name), flags=re.DOTALL | re.MULTILINE)
    ):
        yield " ".join(span.split())


@cache
def program() -> Any:
    from pipeline.cli.main import app

    return get_command(app)


def check_command(line: str) -> str | None:
    """Return what is wrong with a line that runs callscribe, None when nothing is."""
    words = shlex.split(re.split(r"\bcallscribe ", line, maxsplit=1)[1], comments=True)
    command = program()
    for word in words:
        if word in ("<", ">", "|", "&&"):
            break
        if re.match(r"--[a-z]", word):
            known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
            if word.partition("=")[0].rstrip(")") not in known:
                return f"{command.name} has no option {word}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"{command.name} has no command {word}"
            command = command.commands[word]
    return None


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_and_options_exist(name: str) -> None:
    lines = [line for line in code_of(name) if re.search(r"(?:^|[ /(])callscribe [a-z-]", line)]
    assert [(line, problem) for line in lines if (problem := check_command(line))] == []
    assert lines or name in ("ARCHITECTURE.md", "CHANGELOG.md")


def test_a_wrong_line_is_found() -> None:
    assert check_command("callscribe transcribe c1") is not None
    assert check_command("callscribe topics destroy") is not None
    assert check_command("x | callscribe ingest - --codec mulaw") is not None
    assert check_command("callscribe ingest call.wav --call-id c1 # --codec") is None


@pytest.mark.parametrize("name", DOCUMENTS)
def test_settings_exist(name: str) -> None:
    variables = re.findall(rf"{PREFIX}([A-Z]+)__([A-Z_]+)", text_of(name))
    assert {f"{section}.{key}".lower() for section, key in variables} <= set(known_keys())


def test_dotted_settings_exist() -> None:
    sections = {key.partition(".")[0] for key in known_keys()}
    dotted = [span for span in code_of("README.md") if re.fullmatch(r"[a-z]+\.[a-z_]+", span)]
    assert dotted
    assert {span for span in dotted if span.partition(".")[0] in sections} <= set(known_keys())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_exist(name: str) -> None:
    spans = {span for span in code_of(name) if re.fullmatch(r"[A-Za-z_./]+\.(py|yaml|avsc|toml|lock|md)", span)}
    spans |= set(re.findall(r"\]\(([^)]+)\)", text_of(name)))
    known = {"callscribe.toml", "logic.py", "engine.py", "stage.py"}  # made by users, and rooms of every stage
    places = ("", "pipeline/", "schemas/", "topics/", "tests/", "pipeline/runtime/broker/")
    assert {span for span in spans - known if not any((ROOT / place / span).exists() for place in places)} == set()


def test_the_table_of_topics_is_that_of_the_declaration() -> None:
    rows = re.findall(r"^\| `callscribe\.([^`]+)` \| .* \| (.*) \|$", text_of("README.md"), re.MULTILINE)
    declared = {topic.full_name("").removeprefix("."): topic for topic in topics.load() if topic.changelog_of is None}
    assert [name for name, _ in rows] == list(declared)
    for name, kept in rows:
        expected = "compacted" if declared[name].cleanup == "compact" else declared[name].retention_ms
        assert (DAYS[kept] * 86_400_000 if kept in DAYS else kept) == expected


def test_the_exit_codes_are_those_of_the_errors() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \| ", text_of("README.md"), re.MULTILINE)}
    classes = (errors.FailedError, errors.UsageError, errors.NotReadyError, errors.InputError)
    assert codes == {0, 130, *(one.exit_code for one in classes)}


def test_every_setting_of_the_app_has_a_reason() -> None:
    """ARCHITECTURE.md, section 4, explains each argument that `make_app` gives to Faust."""
    source = Path(stage_app.__file__).read_text(encoding="utf-8")
    arguments = set(
        re.findall(
            r"^        ([a-z_]+)=", source.partition("app = faust.App(")[2].partition("\n    )\n")[0], re.MULTILINE
        )
    )
    section = text_of("ARCHITECTURE.md").partition("## 4.")[2].partition("## 5.")[0]
    plain = {"broker", "broker_credentials"}  # where Kafka is and who we are
    covered = {"broker_heartbeat_interval": "heartbeat"} | {
        name: "web_*" for name in arguments if name.startswith("web_")
    }
    assert len(arguments) > 20
    assert {name for name in arguments - plain if covered.get(name, name) not in section} == set()


def test_the_documents_stay_short() -> None:
    assert len(text_of("ARCHITECTURE.md").splitlines()) <= 250


def test_the_table_of_crash_points_has_every_point_and_its_stage() -> None:
    """`tests/integration/test_crash_points.py` kills a process at each of them."""
    table = text_of("ARCHITECTURE.md").split("**Crash points.**")[1].split("\n## ")[0]
    named: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (.*`.*) \| (\w+(?:, \w+)*) \| .* \|$", table, re.MULTILINE):
        for point in re.findall(r"`(\w+)`", row[0]):
            named.setdefault(point, set()).update(row[1].split(", "))
    assert named.keys() == crash_points.POINTS.keys()
    for point, stages in crash_points.POINTS.items():
        streaming = set(crash_points.STAGES)
        expected = {"stage"} | set(stages) - streaming if streaming <= set(stages) else set(stages)
        assert named[point] == expected, point

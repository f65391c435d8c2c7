from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import NotReadyError
from pipeline.runtime.broker import jars


def test_the_lock_pins_what_a_broker_needs() -> None:
    pinned = jars.read_lock()
    assert f"kafka_2.13-{jars.KAFKA_VERSION}.jar" in pinned
    assert f"kafka-clients-{jars.KAFKA_VERSION}.jar" in pinned, "another version of the clients breaks the broker"
    assert {len(digest) for digest in pinned.values()} == {64}


def test_every_difference_from_the_lock_is_found(tmp_path: Path) -> None:
    for name in ("a.jar", "b.jar", "extra.jar"):
        (tmp_path / name).write_bytes(name.encode())
    digest = hashlib.sha256(b"a.jar").hexdigest()
    assert jars.mismatches(tmp_path, {"a.jar": digest, "b.jar": "0" * 64, "c.jar": digest}) == [
        f"b.jar has sha256 {hashlib.sha256(b'b.jar').hexdigest()[:12]}..., pinned is 000000000000...",
        "c.jar is missing",
        "extra.jar is not pinned",
    ]
    (tmp_path / "b.jar").unlink()
    (tmp_path / "extra.jar").unlink()
    assert jars.mismatches(tmp_path, {"a.jar": digest}) == []


def test_a_fetched_jar_with_another_digest_never_enters_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(work: Path, target: Path) -> None:
        target.mkdir()
        for name in jars.read_lock():
            (target / name).write_bytes(b"something else")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jars, "_resolve", resolve)
    lines: list[str] = []
    with pytest.raises(
        NotReadyError, match=r"was fetched, but HdrHistogram.* has sha256 .* \(and 45 more\): remove that jar"
    ):
        jars.ensure_jars(progress=lines.append)
    assert lines == [f"fetching Apache Kafka {jars.KAFKA_VERSION} (45 MB, once)"]
    assert [path.name for path in (tmp_path / "callscribe").iterdir()] == ["kafka.lock"]


def test_no_network_says_what_to_do(tmp_path: Path) -> None:
    code = (
        "from pipeline.runtime.broker import jars\n"
        "from pipeline.core.errors import NotReadyError\n"
        "try: jars.ensure_jars(progress=print)\n"
        "except NotReadyError as error: print(error)\n"
    )
    dead = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"), "http://127.0.0.1:9")
    environment = {
        **os.environ,
        **dead,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "no_proxy": "",
        "NO_PROXY": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert "cannot be fetched (ProxyError): connect this machine" in done.stdout
    assert "CALLSCRIBE_KAFKA__BOOTSTRAP_SERVERS" in done.stdout


def test_an_unwritable_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(NotReadyError, match=r"the cache .*/file/callscribe cannot be written \(Not a directory\)"):
        jars.ensure_jars(progress=lambda line: None)

"""A real PostgreSQL server for tests, from the binaries of the pgserver wheel.

PostgreSQL refuses to run as root; then it runs as ``nobody``, from a copy of the binaries where that user cannot reach
the environment.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

PASSWORD = "correct horse/battery@staple"
START_SECONDS = 20


@dataclass(slots=True, kw_only=True)
class PostgresServer:
    """One server on loopback: no password over its socket, SCRAM over TCP."""

    folder: Path
    binaries: Path
    port: int
    as_user: dict[str, Any]
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def socket_url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self.folder), safe='')}&port={self.port}"

    def tcp_url(self, password: str = PASSWORD) -> str:
        return f"postgresql://postgres:{quote(password, safe='')}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = [f"-cunix_socket_directories={self.folder}", "-clisten_addresses=127.0.0.1", "-cfsync=off"]
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), f"-p{self.port}", *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self.as_user)
        deadline = time.monotonic() + START_SECONDS
        ready = [str(self.binaries / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()  # it forgets nothing that was committed
            self.process.wait()
            self.process = None
            (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server; tests that stop it start it again."""
    folder = Path(tempfile.mkdtemp(prefix="callscribe-postgres-", dir="/tmp"))
    binaries, as_user = _for_user(_binaries(), folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = PostgresServer(folder=folder, binaries=binaries, port=port, as_user=as_user)
    password_file = folder / "password"
    password_file.write_text(PASSWORD)
    initdb = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "--encoding=UTF8", "--no-sync"]
    access = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password_file}"]
    subprocess.run([*initdb, *access], check=True, capture_output=True, cwd=folder, **as_user)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


def _binaries() -> Path:
    spec = importlib.util.find_spec("pgserver")  # importing it would make folders and a system user
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the pgserver wheel is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _for_user(binaries: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return binaries and process options for a user that PostgreSQL accepts, who owns ``folder``."""
    if os.geteuid() != 0:
        return binaries, {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    try:
        subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, cwd=folder, **as_user)
    except (PermissionError, subprocess.CalledProcessError):
        shutil.copytree(binaries.parent, folder / "pginstall")
        binaries = folder / "pginstall" / "bin"
    return binaries, as_user

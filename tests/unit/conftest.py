from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.schemas.registry_server import RegistryServer


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    """A schema registry that knows no schema yet."""
    server = RegistryServer()
    yield server
    server.stop()

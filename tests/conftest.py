from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


def _forget_lazy_modules() -> None:
    """Forget what speechbrain (of pyannote.audio) puts among the modules to import later: hypothesis looks at all of them, and fails."""
    if "speechbrain" in sys.modules:
        for name, module in list(sys.modules.items()):
            if type(module).__module__ == "speechbrain.utils.importutils":
                del sys.modules[name]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems() -> None:
    """Modules are collected before hypothesis looks."""
    _forget_lazy_modules()


@pytest.fixture(autouse=True)
def _without_lazy_modules() -> Iterator[None]:
    yield
    _forget_lazy_modules()

"""What tests of all packages share: one running server for those that do it no harm."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from whole_server import WholeServer, running

# Each server that a test starts is seven processes: they are not to compile everything anew, whatever the shell says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def whole_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeServer]:
    """The server with the town of tests/support/whole_server.py."""
    with running(WholeServer(tmp_path_factory.mktemp("whole"))) as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker begins one when the others have nothing left to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Commands that a test runs in this process set its umask; what comes next starts as from a shell."""
    os.umask(0o022)

"""What tests of all packages share: one running server for those that do it no harm."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings
from whole_server import WholeServer, running
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

# Each server that a test starts is seven processes: they are not to compile everything anew, whatever the shell says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# Thousands of tests and all that they import stay until the end: the collector is not to search them again and again.
gc.disable()


# How long an example takes depends on what else the machine does: that is nothing to fail for.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def whole_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeServer]:
    """The server with the town of tests/support/whole_server.py."""
    with running(WholeServer(tmp_path_factory.mktemp("whole"))) as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker begins one when the others have nothing left to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


# Files that share a server: on several workers each of these would start one, which costs more than most of the tests.
TOGETHER = {
    "tests/test_end_to_end.py": "whole server",
    "tests/test_tenants_apart.py": "whole server",
    "tests/hosting/test_dav_outside.py": "whole server",
    "tests/hosting/test_review_processes.py": "whole server",
}


class FilesThatShareTogether(LoadFileScheduling):
    """As `--dist loadfile`, but what shares a server is for one worker."""

    def _split_scope(self, nodeid: str) -> str:
        path = str(super()._split_scope(nodeid))
        return "hostile" if path.startswith("tests/hostile/") else TOGETHER.get(path, path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesThatShareTogether | None:
    return FilesThatShareTogether(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Commands that a test runs in this process set its umask; what comes next starts as from a shell."""
    os.umask(0o022)

"""What tests of all packages share: one running server for those that do it no harm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from whole_server import WholeServer, running


@pytest.fixture(scope="session")
def whole_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeServer]:
    """The server with the town of tests/support/whole_server.py."""
    with running(WholeServer(tmp_path_factory.mktemp("whole"))) as server:
        yield server

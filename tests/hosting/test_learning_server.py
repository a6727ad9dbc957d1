"""The whole server learns: a MOVE over IMAP is a lesson within seconds, and what waited when everything died is too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from whole_server import WholeServer, running, until

pytestmark = pytest.mark.slow

MAIL = b"From: shop@shop.example\r\nSubject: Cheap pills\r\n\r\nBuy them today.\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WholeServer]:
    with running(WholeServer(tmp_path, settings="[jobs]\nindex_pause = 0.2\n", web=False)) as server:
        yield server


def test_what_people_move_is_learned(server: WholeServer) -> None:
    with server.imap() as imap:
        assert imap.append(b"INBOX", MAIL).ok
        assert imap.command(b"SELECT INBOX").ok
        assert imap.command(b"UID MOVE 1 Junk").ok
        until(lambda: "was learned from: 1 taught" in server.log(), "a lesson")
        assert imap.command(b"SELECT Junk").ok
        assert imap.command(b"UID MOVE 1 INBOX").ok
        server.kill()
    server.start()
    until(lambda: "was learned from: 1 taken back" in server.log(), "taking it back")
    assert "Cheap pills" not in server.log()
    assert "shop.example" not in server.log()

"""The socket of a connection: octets go out at once and in order, whatever its client takes; the event loop."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from imap_play import SocketClient, play
from imap_server import RunningServer, running_server
from imap_town import PASSWORD, MailTown, new_mail_town

from hosting.roles import epoll


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    town: MailTown
    with new_mail_town(tmp_path) as town, running_server(town, plain_allowed=True) as running:
        yield running


class NarrowClient(SocketClient):
    """Its buffer takes little: the server's writes are taken in parts."""

    def __init__(self, server: RunningServer, *, tls: bool) -> None:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.settimeout(20)
        narrow.connect(server.tls_address if tls else server.address)
        self._socket = narrow
        self._buffer, self._at = b"", 0
        if tls:
            self.start_tls(server.client_context)


@pytest.mark.parametrize("tls", [False, True])
def test_octets_come_in_order_to_a_client_that_reads_late(server: RunningServer, tls: bool) -> None:
    """Commands sent together (RFC 9051 §5.5), whose answers are a hundred times what its buffer takes."""
    client = NarrowClient(server, tls=tls)
    play(client, f'S: * OK …\nC: x LOGIN alice@example.test "{PASSWORD}"\nS: x OK …')
    texts = [b"Subject: %d\r\n\r\n" % number + (b"%07d\r\n" % number) * 6000 for number in range(8)]
    for text in texts:
        client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(text), text))
        client.until("a")
    client.send(b"b SELECT INBOX\r\n")
    client.until("b")
    client.send(b"c FETCH 1:8 (BODY.PEEK[])\r\nd NOOP\r\ne FETCH 8,1 (BODY.PEEK[])\r\nf NOOP\r\n")
    for number in range(8):
        line, octets = client.literal()
        assert line.startswith(f"* {number + 1} FETCH") and octets == texts[number]
        assert client.receive(1) == [")"]
    play(client, "S: c OK …\nS: d OK …")
    for number in (0, 7):
        _line, octets = client.literal()
        assert octets == texts[number] and client.receive(1) == [")"]
    play(client, "S: e OK …\nS: f OK …")
    client.close()


class Readable:
    """One end of a pair of sockets on which an octet waits."""

    def __init__(self, reactor: Any, *, fails: bool = False, ends: Readable | None = None) -> None:
        self._reactor, self._fails, self._ends = reactor, fails, ends
        self._socket, self._other = socket.socketpair()
        self._other.send(b"x")
        self.reads = 0
        self.lost = False
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def doRead(self) -> None:
        self.reads += 1
        self._socket.recv(1)
        if self._ends is not None:
            self._reactor.removeReader(self._ends)
        if self._fails:
            raise ValueError

    def connectionLost(self, _reason: object) -> None:
        self.lost = True

    def logPrefix(self) -> str:
        return "-"

    def close(self) -> None:
        self._socket.close()
        self._other.close()


def test_the_event_loop_goes_on_after_an_event_that_failed_or_ended_another() -> None:
    reactor = epoll.new()
    bad = Readable(reactor, fails=True)
    good = Readable(reactor)
    first = Readable(reactor)
    second = Readable(reactor, ends=first)
    first._ends = second  # whichever is told of first takes the other out of the loop
    reactor.doIteration(0)
    reactor.doIteration(0)
    assert (bad.reads, bad.lost, good.reads, good.lost) == (1, True, 1, False)
    assert first.reads + second.reads == 1
    for each in (bad, good, first, second):
        reactor.removeReader(each)
        each.close()
    reactor._poller.close()

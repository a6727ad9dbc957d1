"""The socket of a connection: octets go out at once and in order, whatever its client takes; the event loop."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from imap_play import SocketClient, play
from imap_server import RunningServer, running_server
from imap_town import PASSWORD, MailTown, new_mail_town
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory

from hosting.imap.shell.transport import Tls
from hosting.roles import epoll
from hosting.tls import ReloadableContext, make_self_signed


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


class Collector(Protocol):
    """What a connection's program is given, piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)


def test_records_come_whole_in_order_and_at_once_however_they_are_cut(tmp_path: Path) -> None:
    """RFC 8446 §5.1: where records end is nothing that the octets of a socket say.

    Now and then the connection rests: it gets new buffers, unless a record has come in part.
    """
    make_self_signed(tmp_path, ["localhost"])
    context: Any = ReloadableContext(tmp_path / "certificate.pem", tmp_path / "key.pem")
    make: Any = Tls
    got, transport = Collector(), StringTransport()
    server = make(TLSMemoryBIOFactory(context, False, Factory()), got, True)
    server.makeConnection(transport)
    came, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem")).wrap_bio(
        came, sent, server_hostname="localhost"
    )
    random, expected, rests = Random(5), b"", 0

    def read_all() -> bytes:
        pieces = []
        with suppress(ssl.SSLWantReadError):
            while True:
                pieces.append(client.read(1 << 20))
        return b"".join(pieces)

    def to_server(cut: bool) -> None:
        octets = sent.read()
        while octets:
            size = random.randrange(1, random.choice([4, 60, 40_000])) if cut else len(octets)
            server.dataReceived(octets[:size])
            octets = octets[size:]

    for _ in range(4):
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        to_server(cut=True)
        came.write(transport.value())
        transport.clear()
    for number in range(300):
        octets = b"%d " % number + bytes(random.randrange(random.choice([20, 20, 40_000])))
        client.write(octets)
        expected += octets
        if random.randrange(4):
            to_server(cut=not random.randrange(3))
            assert b"".join(got.pieces) == expected
        if not random.randrange(4):
            server.rest()
            rests += server._resting
            server.write(octets)
            came.write(transport.value())
            transport.clear()
            assert read_all() == octets
    assert 40 < rests < 120
    to_server(cut=False)
    client.write(b"last")
    to_server(cut=False)
    assert b"".join(got.pieces) == expected + b"last" and got.pieces[-1] == b"last"
    with suppress(ssl.SSLWantReadError):
        client.unwrap()
    assert not transport.disconnecting
    to_server(cut=False)
    assert transport.disconnecting


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

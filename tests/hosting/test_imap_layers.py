"""COMPRESS (RFC 4978) and UNAUTHENTICATE (RFC 8437): in dialogues, on sockets with TLS, and against hostile streams."""

from __future__ import annotations

import base64
import random
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imap_play import CoreClient, SocketClient, play
from imap_server import RunningServer, in_reactor, running_server
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.decoder import Frame
from hosting.imap.limits import Limits
from hosting.imap.shell.deflate import PIECE, Broken, Deflated, Inflated
from hosting.imap.shell.wire import Wire
from storage.mail.messages import NewMessage

LOGIN = f'C: x LOGIN alice@example.test "{PASSWORD}"\nS: x OK …\n'


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("layers"), Limits(message=4_000_000)) as made:
        with made.account() as account:
            inbox = account.mailboxes.find("INBOX")
            account.messages.append_many(inbox.id, [NewMessage(mail(f"Number {n}")) for n in range(3)])
        yield made


@pytest.fixture(scope="module")
def server(town: MailTown) -> Iterator[RunningServer]:
    with running_server(town) as running:
        yield running


# --- the streams ---


def everything(inflated: Inflated) -> bytes:
    pieces = []
    while piece := inflated.next_piece():
        assert len(piece) <= PIECE
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("window", [-15, -12, -9])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_streams_that_rest_go_on_with_zlib_at_the_other_side(window: int, level: int) -> None:
    """RFC 1951: the client may refer to 32 KB before; and need not know that ours begin anew."""
    chance = random.Random(window * 10 + level)
    theirs, reads = zlib.compressobj(level, zlib.DEFLATED, window), zlib.decompressobj(-15)
    ours, inflated = Deflated(), Inflated()
    lines = [b"a%d UID FETCH %d:* (FLAGS)\r\n" % (n, n * 7919) for n in range(400)] + [chance.randbytes(700)]
    rested = 0
    for _ in range(120):
        said = b"".join(chance.choices(lines, k=chance.randrange(1, 30)))
        raw = theirs.compress(said) + theirs.flush(chance.choice((zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH)))
        came = b""
        while raw:
            size = chance.randrange(1, 500)
            inflated.feed(raw[:size])
            raw = raw[size:]
            came += everything(inflated)
            inflated.rest()
            rested += inflated._resting  # type: ignore[attr-defined]
        assert came == said
        assert reads.decompress(ours.pack(said)) == said
        if chance.random() < 0.5:
            ours.rest()
    assert rested >= 100


@given(st.lists(st.binary(max_size=200), max_size=8), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_any_octets_are_read_or_broken(chunks: list[bytes], size: int) -> None:
    inflated = Inflated()
    for chunk in chunks:
        inflated.feed(chunk)
        try:
            assert len(everything(inflated)) <= 1032 * 8 * 200
        except Broken:
            return
        inflated.rest()


def test_what_little_becomes_comes_out_in_pieces() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = bomb.compress(bytes(100_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    inflated = Inflated()
    inflated.feed(raw)
    assert len(inflated.next_piece()) == PIECE
    assert inflated.waiting > len(raw) - 1000


def test_a_wire_at_rest_is_small() -> None:
    wire = Wire(Limits())
    wire.compress()
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    said = b"".join(b"a%d UID FETCH %d (FLAGS)\r\n" % (n, n) for n in range(2000))
    wire.feed(stream.compress(said) + stream.flush(zlib.Z_SYNC_FLUSH))
    while wire.next_frame(lambda: False) is not None:
        pass
    wire.pack(said)
    wire.rest()
    inflated, deflated = wire._in, wire._out  # type: ignore[attr-defined]
    assert inflated._stream is None and deflated._stream is None and len(inflated._before) < 8000


def test_a_command_that_came_out_late_does_not_wait_for_the_next_one() -> None:
    wire = Wire(Limits())
    wire.compress()
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    wire.feed(stream.compress(b"a NOOP\r\n") + stream.flush(zlib.Z_SYNC_FLUSH))
    assert wire.next_frame(lambda: True) is None and wire.is_behind
    assert isinstance(wire.next_frame(lambda: not wire.is_behind), Frame)  # late as soon as all has come out


# --- dialogues ---

COMPRESS = [
    ("only after sign-in (RFC 4978 §5, command-auth)", "C: a COMPRESS DEFLATE\nS: a BAD …"),
    (
        "twice, and other mechanisms (RFC 4978 §3)",
        LOGIN
        + """
        C: a COMPRESS LZW
        S: a BAD …
        C: b COMPRESS
        S: b BAD …
        C: c compress deflate
        S: c OK …
        C: d COMPRESS DEFLATE
        S: d NO [COMPRESSIONACTIVE] …
        """,
    ),
]


@pytest.mark.parametrize(("name", "dialogue"), COMPRESS, ids=[name for name, _ in COMPRESS])
def test_compress(name: str, dialogue: str, town: MailTown) -> None:
    client = CoreClient(town.services)
    client.receive(0)
    play(client, dialogue)
    client.close()


def test_compress_is_told_until_it_is_active(town: MailTown) -> None:
    client = CoreClient(town.services)
    assert "COMPRESS=DEFLATE" not in client.receive(1)[0]
    play(client, LOGIN + "C: a CAPABILITY\nS: * CAPABILITY … COMPRESS=DEFLATE …\nS: a OK …")
    play(client, "C: b COMPRESS DEFLATE\nS: b OK …")
    client.send(b"c CAPABILITY\r\n")
    assert "COMPRESS=DEFLATE" not in client.receive(1)[0]
    client.close()


UNAUTHENTICATE = [
    ("only when signed in (RFC 8437 §3)", "C: a UNAUTHENTICATE\nS: a BAD …"),
    ("with an argument", LOGIN + "C: a UNAUTHENTICATE now\nS: a BAD …"),
    (
        "pipelined with the next sign-in (RFC 8437 §3)",
        LOGIN
        + f"""
        C> a SELECT INBOX\\r\\nb UNAUTHENTICATE\\r\\nc LOGIN bob@example.test "{PASSWORD}"\\r\\nd CHECK\\r\\n
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS …
        S: * … EXISTS
        S: * … RECENT
        S: * OK [UNSEEN …
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID …
        S: a OK …
        S: b OK …
        S: c OK [CAPABILITY …
        S: d BAD …
        C: e STATUS INBOX (MESSAGES)
        S: * STATUS "INBOX" (MESSAGES 0)
        S: e OK …
        """,
    ),
    (
        "what was enabled and selected is forgotten (RFC 8437 §4.1)",
        LOGIN
        + f"""
        C: a ENABLE QRESYNC IMAP4rev2
        S: * ENABLED …
        S: a OK …
        C: b EXAMINE INBOX
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS …
        S: * … EXISTS
        S: * LIST () "/" "INBOX"
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID …
        S: b OK …
        C: c SEARCH RETURN (SAVE) ALL
        S: c OK …
        C: d NOTIFY SET (SELECTED (MessageNew MessageExpunge))
        S: d OK …
        C: e UNAUTHENTICATE
        S: e OK …
        C: f FETCH 1 (UID)
        S: f BAD …
        C: g CAPABILITY
        S: * CAPABILITY … AUTH=PLAIN …
        S: g OK …
        C: h LOGIN alice@example.test "{PASSWORD}"
        S: h OK …
        C: i EXAMINE INBOX
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS …
        S: * … EXISTS
        S: * … RECENT
        S: * OK [UNSEEN …
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID …
        S: i OK …
        C: j UID FETCH $ (UID)
        S: j OK …
        C: k EXAMINE INBOX (QRESYNC (1 1))
        S: k BAD …
        """,
    ),
]


@pytest.mark.parametrize(("name", "dialogue"), UNAUTHENTICATE, ids=[name for name, _ in UNAUTHENTICATE])
def test_unauthenticate(name: str, dialogue: str, town: MailTown) -> None:
    client = CoreClient(town.services)
    client.receive(0)
    play(client, dialogue)
    client.close()


def test_unauthenticate_lets_go_of_the_account(town: MailTown) -> None:
    registry = town.services.registry
    before = dict(registry._accounts)  # type: ignore[attr-defined]
    client = CoreClient(town.services)
    client.receive(0)
    play(client, LOGIN + "C: a UNAUTHENTICATE\nS: a OK …")
    session = client.session
    assert session.account is None and session.principal is None and session.selected is None
    assert registry._accounts == before  # type: ignore[attr-defined]


# --- on sockets ---


class PackedClient(SocketClient):
    """Compresses from the moment the server does."""

    def __init__(self, address: tuple[str, int], *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(address, tls=tls)
        self.deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        self.received = 0  # octets, as they came

    def start_compression(self) -> None:
        self.send(b"z COMPRESS DEFLATE\r\n")
        assert self.until("z")[-1].startswith("z OK")
        self._plain, self._socket = self._socket, _Inflating(self._socket, self)  # type: ignore[assignment]

    def end_compression(self) -> None:
        self._socket = self._plain

    def send(self, octets: bytes) -> None:
        if isinstance(self._socket, _Inflating):
            octets = self.deflate.compress(octets) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        self._socket.sendall(octets)

    def reset(self) -> None:
        """Vanishes: the server gets an RST."""
        self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._plain.close()


class _Inflating:
    def __init__(self, plain: socket.socket, client: PackedClient) -> None:
        self._plain = plain
        self._client = client
        self._inflate = zlib.decompressobj(-15)
        self.sendall = plain.sendall

    def recv(self, size: int) -> bytes:
        """Like a socket's: empty at the end only."""
        while True:
            octets = self._plain.recv(size)
            self._client.received += len(octets)
            text = self._inflate.decompress(octets)
            if text or not octets:
                return text

    def close(self) -> None:
        self._plain.close()


def connect(server: RunningServer, *, select: bool = True) -> PackedClient:
    made = PackedClient(server.tls_address, tls=server.client_context)
    play(made, f'S: * OK …\nC: x LOGIN alice@example.test "{PASSWORD}"\nS: x OK …')
    made.start_compression()
    if select:
        made.send(b"y SELECT INBOX\r\n")
        made.until("y")
    return made


def test_commands_literals_and_idle_compressed_over_tls(server: RunningServer) -> None:
    """RFC 4978 §3: first COMPRESS, then TLS."""
    client, other = connect(server), connect(server)
    client.send(b"a FETCH 1:* (UID)\r\n")
    assert len(client.until("a")) >= 4
    play(client, "C: b IDLE\nS: + idling")
    message = mail("Later", body="Very long. " * 5000 + "\r\n")
    other.send(b"c APPEND INBOX (\\Seen) {%d+}\r\n%b\r\n" % (len(message), message))
    other.until("c")
    assert any("EXISTS" in line for line in client.receive(1))
    in_reactor(lambda: [connection.rest() for connection in server.service._connections])  # type: ignore[attr-defined]
    client.send(b"DONE\r\nd NOOP\r\n")
    client.until("d")
    client.send(b"e UID FETCH * (BODY.PEEK[TEXT])\r\n")
    before = client.received
    assert "Very long. Very long." in " ".join(client.until("e"))
    assert client.received - before < 5000
    client.close()
    other.close()


def test_what_is_pipelined_behind_compress_counts_as_compressed(server: RunningServer) -> None:
    client = PackedClient(server.tls_address, tls=server.client_context)
    play(client, f'S: * OK …\nC: x LOGIN alice@example.test "{PASSWORD}"\nS: x OK …')
    client.send(b"z COMPRESS DEFLATE\r\ny NOOP\r\n")
    play(client, "S: z OK …")
    text = zlib.decompressobj(-15).decompress(client.receive_all())
    assert text == b"* BYE [CLIENTBUG] What arrived is not compressed as it has to be.\r\n"


@pytest.mark.parametrize("ends", [zlib.Z_SYNC_FLUSH, zlib.Z_FINISH], ids=["flushed", "finished"])
def test_unauthenticate_ends_compression(ends: int, server: RunningServer) -> None:
    """RFC 8437 §4.1: behind the OK of the server, and behind the client's command; the next may come with it."""
    client = connect(server)
    raw = client.deflate.compress(b"a UNAUTHENTICATE\r\n") + client.deflate.flush(ends)
    client._plain.sendall(raw + f'b LOGIN bob@example.test "{PASSWORD}"\r\n'.encode())
    reads, said = client._socket._inflate, b""  # type: ignore[attr-defined]
    while not reads.eof:
        octets = client._plain.recv(1 << 16)
        assert octets
        said += reads.decompress(octets)
    assert said.startswith(b"a OK") and said.count(b"\n") == 1
    client.end_compression()
    client._buffer, client._at = reads.unused_data, 0
    play(
        client,
        'S: b OK [CAPABILITY … COMPRESS=DEFLATE …\nC: c STATUS INBOX (MESSAGES)\nS: * STATUS "INBOX" (…\nS: c OK …',
    )
    client.close()


def test_a_client_that_vanishes_leaves_nothing(server: RunningServer) -> None:
    clients = [connect(server) for _ in range(3)]
    clients[0].send(b"a UID FETCH 1:* (BODY.PEEK[])\r\n")
    clients[1].send(b"a APPEND INBOX {100000+}\r\nhalf")
    clients[2].send(b"a IDLE\r\n")
    for client in clients:
        client.reset()
    wait_until(lambda: in_reactor(lambda: len(server.service._connections)) == 0)  # type: ignore[attr-defined]
    assert in_reactor(lambda: dict(server.service._registry._accounts)) == {}  # type: ignore[attr-defined]


def test_of_many_compressed_connections_few_keep_their_streams(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hosting.imap.shell.service._AWAKE", 1)
    clients = [connect(server) for _ in range(3)]

    def streams() -> int:
        wires = [each._wire for each in server.service._connections]  # type: ignore[attr-defined]
        return sum(wire is not None and wire.is_compressed and wire._out._stream is not None for wire in wires)

    wait_until(lambda: in_reactor(streams) <= 1)
    for number in range(3):
        for client in clients:
            play(client, f"C: a{number} NOOP\nS: a{number} OK …")
    for client in clients:
        client.close()


def test_a_bomb_ends_its_own_connection_and_holds_up_nobody(server: RunningServer) -> None:
    """100 MB out of 100 KB: a line without an end."""
    client, other = connect(server), connect(server)
    raw = client.deflate.compress(b"a" * 100_000_000) + client.deflate.flush(zlib.Z_SYNC_FLUSH)
    client._plain.sendall(raw)
    play(other, "C: a NOOP\nS: a OK …")
    assert b"* BYE" in client.receive_all()
    other.close()


def test_many_commands_out_of_few_octets_wait_for_their_reader(server: RunningServer, town: MailTown) -> None:
    """Output is pulled, input bounded: who does not read is not read from."""
    with town.account() as account:
        large = account.mailboxes.create("Large")
        body = base64.encodebytes(random.Random(1).randbytes(100_000)).decode().replace("\n", "\r\n")
        account.messages.append(large.id, mail("Large", body=body))
    client, other = connect(server), connect(server)
    lines = b"a SELECT Large\r\n" + b"b FETCH 1 (BODY.PEEK[])\r\n" * 30_000
    client._plain.settimeout(20)
    client._plain.sendall(client.deflate.compress(lines) + client.deflate.flush(zlib.Z_SYNC_FLUSH))
    for number in range(20):
        play(other, f"C: c{number} NOOP\nS: c{number} OK …")

    waiting: list[int] = []

    def stuck() -> bool:
        """Somebody does not read. How much waits is seen in the same look: a turn that ends looks alike, and passes."""
        full = [each for each in server.service._connections if each._full]  # type: ignore[attr-defined]
        waiting[:] = [each._wire.unread for each in full]
        return bool(full)

    wait_until(lambda: in_reactor(stuck))
    assert waiting[0] < 200_000
    client.reset()
    other.close()


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until, "it never came to that"

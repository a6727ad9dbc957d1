"""A small IMAP server in a thread, for tests of moving in: it keeps to the protocol, or lies as it is told.

    with OtherServer({b"INBOX": Box(7, [Kept(1, b"...")])}) as server:
        server.lie = lambda command, answers: answers      # each command's lines, before they are sent
        server.drop_after = 5                              # answers a connection, then it is cut

It speaks plain text on loopback, knows one user (`ada`, `secret`), and counts what it was asked for.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

CAPABILITIES = b"IMAP4rev1 AUTH=PLAIN"
CUT = b""  # in place of an answer: the connection ends
_FETCH = re.compile(rb"UID FETCH (\S+) \((.*?)\)(?: \(CHANGEDSINCE (\d+)\))?$")
_PART = re.compile(rb"BODY\.PEEK\[\](?:<(\d+)\.(\d+)>)?")


@dataclass
class Kept:
    uid: int
    octets: bytes
    flags: list[str] = field(default_factory=list)
    date: str = "01-Jul-2025 12:00:00 +0000"


@dataclass
class Box:
    uidvalidity: int
    messages: list[Kept] = field(default_factory=list)
    attributes: str = "\\HasNoChildren"


Lie = Callable[[bytes, list[bytes]], list[bytes]]


class OtherServer:
    def __init__(self, boxes: dict[bytes, Box], *, delimiter: str = "/", capabilities: bytes = CAPABILITIES) -> None:
        self.boxes = boxes
        self.delimiter = delimiter
        self.capabilities = capabilities
        self.subscribed: set[bytes] = set()
        self.lie: Lie = lambda command, answers: answers
        self.drop_after = 0
        self.commands: list[bytes] = []
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> OtherServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def asked(self, text: bytes) -> int:
        return sum(text in command for command in self.commands)

    def _accept(self) -> None:
        threads = []
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                break
            self.connections += 1
            self._open.add(connection)
            threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(10)

    def _serve(self, connection: socket.socket) -> None:
        session = _Session(self, connection)
        with contextlib.suppress(OSError, ValueError), connection:
            session.run()
        self._open.discard(connection)


class _Session:
    def __init__(self, server: OtherServer, connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        self._file = connection.makefile("rb")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._box: Box | None = None
        self._sent = 0

    def run(self) -> None:
        self._send(b"* OK ready\r\n")
        while line := self._file.readline():
            tag, _, command = line.rstrip(b"\r\n").partition(b" ")
            self._server.commands.append(command)
            answers = [*self._answers(command), tag + b" OK done\r\n"]
            for each in self._server.lie(command, answers):
                if each == CUT:
                    raise OSError("cut")
                self._send(each)
            if command.upper() == b"LOGOUT":
                return

    def _send(self, octets: bytes) -> None:
        if self._server.drop_after and self._sent >= self._server.drop_after:
            raise OSError("cut")
        self._sent += 1
        self._socket.sendall(octets)

    def _answers(self, command: bytes) -> list[bytes]:
        word = command.split(b" ", 1)[0].upper()
        if word == b"CAPABILITY":
            return [b"* CAPABILITY " + self._server.capabilities + b"\r\n"]
        if word == b"AUTHENTICATE":
            self._send(b"+ \r\n")
            said = base64.b64decode(self._file.readline()).split(b"\0")[1:]
            if said != [b"ada", b"secret"]:
                raise OSError("wrong")
            return []
        if word in (b"LIST", b"LSUB"):
            return self._list(word)
        if word == b"EXAMINE":
            return self._examine(command)
        if command.upper().startswith(b"UID SEARCH"):
            box = self._opened()
            return [b"* SEARCH" + b"".join(b" %d" % each.uid for each in box.messages) + b"\r\n"]
        if command.upper().startswith(b"UID FETCH"):
            return self._fetch(command)
        if word == b"LOGOUT":
            return [b"* BYE\r\n"]
        return []

    def _list(self, word: bytes) -> list[bytes]:
        delimiter = self._server.delimiter
        return [
            b'* %s (%s) "%s" "%s"\r\n' % (word, box.attributes.encode(), delimiter.encode(), name)
            for name, box in self._server.boxes.items()
            if word == b"LIST" or name in self._server.subscribed
        ]

    def _examine(self, command: bytes) -> list[bytes]:
        name = command[len(b'EXAMINE "') : -1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
        self._box = self._server.boxes[name]
        return [
            b"* FLAGS (\\Seen)\r\n",
            b"* %d EXISTS\r\n" % len(self._box.messages),
            b"* OK [UIDVALIDITY %d] valid\r\n" % self._box.uidvalidity,
        ]

    def _opened(self) -> Box:
        assert self._box is not None
        return self._box

    def _fetch(self, command: bytes) -> list[bytes]:
        match = _FETCH.match(command)
        assert match is not None, command
        wanted = numbers(match[1])
        answers = []
        for number, each in enumerate(self._opened().messages, start=1):
            if each.uid in wanted:
                answers.append(b"* %d FETCH (%s)\r\n" % (number, self._items(each, match[2])))
        return answers

    def _items(self, message: Kept, asked: bytes) -> bytes:
        items = [b"UID %d" % message.uid]
        if b"RFC822.SIZE" in asked:
            items.append(b"RFC822.SIZE %d" % len(message.octets))
        if b"FLAGS" in asked:
            items.append(b"FLAGS (" + " ".join(message.flags).encode() + b")")
        if b"INTERNALDATE" in asked:
            items.append(b'INTERNALDATE "%s"' % message.date.encode())
        part = _PART.search(asked)
        if part is not None:
            start, octets = (0, message.octets) if part[1] is None else (int(part[1]), message.octets)
            octets = octets[start : start + int(part[2])] if part[2] else octets
            name = b"BODY[]" if part[1] is None else b"BODY[]<%d>" % start
            items.append(name + b" {%d}\r\n" % len(octets) + octets)
        return b" ".join(items)


def numbers(text: bytes) -> set[int]:
    found: set[int] = set()
    for part in text.split(b","):
        first, _, last = part.partition(b":")
        found.update(range(int(first), int(last or first) + 1))
    return found


def letters(count: int, octets: int = 200) -> list[Kept]:
    return [Kept(uid, _letter(uid, octets), ["\\Seen"] if uid % 2 else []) for uid in range(1, count + 1)]


def _letter(number: int, octets: int) -> bytes:
    head = b"From: a@elsewhere.test\r\nSubject: token-%d\r\nMessage-ID: <%d@elsewhere.test>\r\n\r\n" % (number, number)
    return head + b"x" * max(0, octets - len(head)) + b"\r\n"


def held(account: Any, mailbox: str = "INBOX") -> Sequence[bytes]:
    """The octets of a mailbox here, in their order."""
    found = account.mailboxes.find(mailbox)
    rows = account.messages.fetch_rows(found.id, 1, 1 << 32, ("message_id", "uid"))
    return [account.messages.read_message(row[0]) for row in sorted(rows, key=lambda row: row[1])]

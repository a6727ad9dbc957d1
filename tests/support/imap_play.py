"""Dialogues between an IMAP client and our server, played on the core and on a socket.

A dialogue is text: lines "C: …" are sent with CRLF, lines "C> …" as they are (literals; "\\r\\n" written out), lines
"S: …" must be answered, one for one and in order. "…" within an expected line stands for anything.

`CoreClient` drives a session without a socket: effects are carried out on the spot. `SocketClient` talks to a server.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from hosting.imap.decoder import Decoder, Frame, Prompt, Refusal
from hosting.imap.effects import Compress, EndCompression, Handling, News, NextLine, Secure, Work
from hosting.imap.session import Services, Session, State
from storage.errors import CleanmailError


class Client(Protocol):
    def send(self, octets: bytes) -> None: ...
    def receive(self, lines: int) -> list[str]:
        """At least so many lines, if the server sends them; all that were sent otherwise."""
        ...


class CoreClient:
    """One session with its decoder, as a connection would drive it."""

    def __init__(self, services: Services, *, secure: bool = True, address: str = "192.0.2.7") -> None:
        self.session = Session(services, "test", address, secure=secure)
        self.decoder = Decoder(services.limits)
        self.out = self.session.greeting()
        self.closed = False
        self._flow: Handling | None = None
        self._waiting: type[NextLine] | type[News] | None = None

    def send(self, octets: bytes) -> None:
        self.decoder.feed(octets)
        self._go_on()

    def receive(self, lines: int) -> list[str]:
        text, self.out = self.out.decode("utf-8", "surrogateescape"), b""
        return text.split("\r\n")[:-1]

    def look(self) -> None:
        """What the change feed does for a session in IDLE, or between commands after NOTIFY."""
        selected = self.session.selected
        if selected is not None:
            selected.view.refresh()
        if self._waiting is News:
            self._waiting = None
            self._step(None)
        elif self._flow is None and self.decoder.at_rest:
            self._flow = self.session.unsolicited()
            if self._flow is not None:
                self._step(None)

    def close(self) -> None:
        if self._flow is not None:
            self._flow.close()
        self.session.close()

    def _go_on(self) -> None:
        while not self.closed:
            if self._waiting is not None:
                line = self.decoder.next_line()
                if not isinstance(line, bytes):
                    return
                self._waiting = None
                self._step(line)
                continue
            event = self.decoder.next_frame()
            if event is None:
                return
            if isinstance(event, Frame):
                answer = self.session.respond(event)
                if isinstance(answer, bytes):
                    self.out += answer
                else:
                    self._flow = answer
                    self._step(None)
            elif isinstance(event, Prompt):
                self.out += b"+ OK\r\n"
            else:
                self._refuse(event)

    def _refuse(self, refusal: Refusal) -> None:
        self.out += (b"* BYE " if refusal.close else refusal.tag + b" " + refusal.word) + refusal.text + b"\r\n"
        self.closed = refusal.close

    def _step(self, value: Any) -> None:
        flow, error = self._flow, None
        assert flow is not None
        try:
            while True:
                effect = flow.send(value) if error is None else flow.throw(error)
                value, error = None, None
                if isinstance(effect, bytes):
                    self.out += effect
                elif isinstance(effect, Work):
                    try:
                        value = effect.run()
                    except Exception as raised:
                        error = raised
                elif isinstance(effect, Secure):
                    self.decoder.discard()
                elif isinstance(effect, Compress | EndCompression):
                    pass  # tests of the core read what is said, not how it is packed
                else:
                    self._waiting = type(effect)
                    return
        except StopIteration:
            self._flow = None
            self.decoder.signed_in = self.session.state in (State.SIGNED_IN, State.SELECTED)
            self.closed = self.session.state is State.ENDED


def interrupted(client: CoreClient, command: str, deed: Callable[[], object]) -> list[str]:
    """What a command answers when something happens before the first thing that it has a worker do."""
    client.decoder.feed(f"a {command}\r\n".encode())
    frame = client.decoder.next_frame()
    assert isinstance(frame, Frame)
    flow, told = client.session.respond(frame), b""
    go_on: Callable[[], Any] = partial(next, flow)
    with suppress(StopIteration):
        while True:
            effect = go_on()
            if isinstance(effect, bytes):
                told, go_on = told + effect, partial(next, flow)
                continue
            deed()
            deed = int
            try:
                go_on = partial(flow.send, effect.run())
            except CleanmailError as error:
                go_on = partial(flow.throw, error)
    return told.decode("ascii").split("\r\n")[:-1]


class SocketClient:
    """A connection to a server; waits for answers, never for time to pass."""

    def __init__(self, address: tuple[str, int], *, tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection(address, timeout=20)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        self._buffer = b""
        self._at = 0  # what of it was taken

    def start_tls(self, context: ssl.SSLContext) -> None:
        self._socket = context.wrap_socket(self._socket, server_hostname="localhost")

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def receive(self, lines: int) -> list[str]:
        taken: list[str] = []
        while len(taken) < lines:
            end = self._buffer.find(b"\r\n", self._at)
            if end >= 0:
                taken.append(self._buffer[self._at : end].decode("utf-8", "surrogateescape"))
                self._at = end + 2
                continue
            octets = self._socket.recv(1 << 20)
            if not octets:
                break
            self._buffer = self._buffer[self._at :] + octets
            self._at = 0
        return taken

    def until(self, tag: str) -> list[str]:
        """All lines up to the tagged answer."""
        lines: list[str] = []
        while not lines or not lines[-1].startswith(tag + " "):
            more = self.receive(1)
            if not more:
                raise EOFError(lines[-3:])
            lines += more
        return lines

    def literal(self) -> tuple[str, bytes]:
        """The next line, which announces a literal, and the literal."""
        (line,) = self.receive(1)
        size = int(line[line.rindex("{") + 1 : -1])
        self._buffer, self._at = self._buffer[self._at :], 0
        while len(self._buffer) < size:
            self._buffer += self._socket.recv(1 << 20)
        self._at = size
        return line, self._buffer[:size]

    def receive_all(self) -> bytes:
        """Everything until the server disconnects."""
        try:
            while octets := self._socket.recv(65536):
                self._buffer += octets
        except (ConnectionResetError, ssl.SSLError):  # it hung up while we still sent
            pass
        return self._buffer[self._at :]

    def close(self) -> None:
        self._socket.close()


def play(client: Client, dialogue: str) -> None:
    """Sends and compares; the first difference fails with its place."""
    expected: list[str] = []
    for row in [*dialogue.strip().splitlines(), ""]:
        line = row.strip()
        if line.startswith("S:"):
            expected.append(line[3:])
            continue
        if expected:
            compare(client.receive(len(expected)), expected)
            expected = []
        if line.startswith("C:"):
            client.send(line[2:].lstrip(" ").encode() + b"\r\n")
        elif line.startswith("C>"):
            client.send(line[2:].lstrip(" ").replace("\\r", "\r").replace("\\n", "\n").encode())
        elif line and not line.startswith("#"):
            raise ValueError(f"neither C: nor S: in {line!r}")


def compare(received: list[str], expected: list[str]) -> None:
    for got, wanted in zip(received, expected, strict=False):
        pattern = ".*".join(map(re.escape, wanted.split("…")))
        assert re.fullmatch(pattern, got, re.DOTALL), (
            f"\n  server said {got!r}\n  expected    {wanted!r}\n  in {received}"
        )
    assert len(received) == len(expected), f"server said {received}, expected {expected}"


Connect = Callable[[], Client]

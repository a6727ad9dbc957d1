"""IMAP and SMTP by hand, octet for octet, over real sockets; every wait has a deadline."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import time

PATIENCE = 60.0

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


class Closed(Exception):  # noqa: N818
    """The server ended the connection; `said` is what it said last."""

    def __init__(self, said: bytes = b"") -> None:
        super().__init__(said[-200:])
        self.said = said


class Wire:
    """A connection that reads lines."""

    def __init__(
        self,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        source: str = "127.0.0.1",
        patience: float = PATIENCE,
        receive_buffer: int = 0,
        ahead: bytes = b"",
    ) -> None:
        """`ahead` is sent before everything, TLS included."""
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(patience)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        if ahead:
            self.socket.sendall(ahead)
        if tls is not None:
            self.start_tls(tls)
        self._buffer = b""

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def send(self, octets: bytes) -> None:
        try:
            self.socket.sendall(octets)
        except (BrokenPipeError, ConnectionError, ssl.SSLError):
            raise Closed from None

    def line(self) -> bytes:
        """The next line with its CRLF. Raises Closed."""
        while b"\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._receive()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def rest(self) -> bytes:
        """All that comes until the server ends the connection; a silence of the socket's patience is a TimeoutError."""
        while True:
            try:
                self._receive()
            except Closed as closed:
                return closed.said

    def _receive(self) -> None:
        try:
            octets = self.socket.recv(1 << 16)
        except (ConnectionError, ssl.SSLError):
            octets = b""
        if not octets:
            raise Closed(self._buffer)
        self._buffer += octets

    def close(self) -> None:
        self.socket.close()

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Answer:
    """The responses to one IMAP command; `tagged` without its tag."""

    def __init__(self, untagged: list[bytes], tagged: bytes) -> None:
        self.untagged = untagged
        self.tagged = tagged
        self.text = b"".join(untagged) + tagged

    @property
    def ok(self) -> bool:
        return self.tagged.startswith(b"OK")

    def number(self, pattern: bytes) -> int:
        found = re.search(pattern, self.text)
        assert found, self.text[-500:]
        return int(found[1])


class ImapWire(Wire):
    """Commands with tags of their own; the greeting has been read."""

    def __init__(self, port: int, **options: object) -> None:
        super().__init__(port, **options)  # type: ignore[arg-type]
        self._tag = 0
        self.greeting = self.response()

    def response(self) -> bytes:
        """One response with the literals in it."""
        whole = b""
        while True:
            line = self.line()
            whole += line
            literal = _LITERAL.search(line)
            if literal is None:
                return whole
            whole += self.exactly(int(literal[1]))

    def command(self, text: bytes, *literals: bytes) -> Answer:
        """`text` goes out with LITERAL+ for each place that says {}."""
        tag = self.begin(text, *literals)
        return self.end(tag)

    def begin(self, text: bytes, *literals: bytes) -> bytes:
        self._tag += 1
        tag = b"t%d" % self._tag
        pieces = text.split(b"{}")
        assert len(pieces) == len(literals) + 1
        octets = tag + b" " + pieces[0]
        for literal, piece in zip(literals, pieces[1:], strict=True):
            octets += b"{%d+}\r\n" % len(literal) + literal + piece
        self.send(octets + b"\r\n")
        return tag

    def end(self, tag: bytes) -> Answer:
        untagged = []
        while True:
            response = self.response()
            if response.startswith(tag + b" "):
                return Answer(untagged, response[len(tag) + 1 :])
            untagged.append(response)

    def login(self, user: str, password: str) -> Answer:
        return self.command(b"LOGIN {} {}", user.encode(), password.encode())

    def append(self, mailbox: bytes, message: bytes, flags: bytes = b"") -> Answer:
        return self.command(b"APPEND " + mailbox + (b" (" + flags + b")" if flags else b"") + b" {}", message)


class SmtpWire(Wire):
    """Replies as (code, whole text); the greeting has been read."""

    def __init__(self, port: int, **options: object) -> None:
        super().__init__(port, **options)  # type: ignore[arg-type]
        self.greeting = self.reply()

    def reply(self) -> tuple[int, bytes]:
        lines = []
        while True:
            line = self.line()
            lines.append(line)
            if line[3:4] != b"-":
                return int(line[:3]), b"".join(lines)

    def command(self, text: bytes) -> tuple[int, bytes]:
        self.send(text + b"\r\n")
        return self.reply()

    def login(self, user: str, password: str) -> tuple[int, bytes]:
        self.command(b"EHLO client.test")
        return self.command(b"AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()))

    def submit(self, sender: str, recipients: list[str], message: bytes) -> tuple[int, bytes]:
        """The reply to the message, or the first refusal on the way."""
        refusal = self._envelope(f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients), "DATA")
        if refusal is not None:
            return refusal
        return self.command(message.replace(b"\r\n.", b"\r\n..") + (b"." if message.endswith(b"\r\n") else b"\r\n."))

    def submit_in_chunks(self, sender: str, recipients: list[str], message: bytes) -> tuple[int, bytes]:
        """The same with BDAT (RFC 3030), in two chunks."""
        half = len(message) // 2
        refusal = self._envelope(f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients))
        if refusal is not None:
            return refusal
        self.send(b"BDAT %d\r\n" % half + message[:half])
        code, said = self.reply()
        if code >= 400:
            return code, said
        self.send(b"BDAT %d LAST\r\n" % (len(message) - half) + message[half:])
        return self.reply()

    def _envelope(self, *commands: str) -> tuple[int, bytes] | None:
        """The first refusal, if there is one."""
        for text in commands:
            code, said = self.command(text.encode())
            if code >= 400:
                return code, said
        return None


def deadline(seconds: float = PATIENCE) -> float:
    return time.monotonic() + seconds

"""IMAPClient's connection with bounds: octets, lines, literals and time for each command, whoever is on the other side.

Every octet comes through `_Reader`, which counts it against the command's allowance and stops at its deadline: a server
that sends without end, names a huge literal, or drips an octet a minute, ends the connection and nothing else. Plain
text is spoken with loopback alone.

Raises: ServerLost.
"""

from __future__ import annotations

import imaplib
import io
import socket
import ssl
import time
from typing import Any

from imapclient import IMAPClient

from hosting.migration.source import Source

CONNECT_SECONDS = 30.0
SILENCE_SECONDS = 120.0  # between two octets
COMMAND_SECONDS = 300.0
OCTETS_PER_SECOND = 2_000  # what is allowed on top for what a command may bring
LINE_MAX = 64 * 1024 * 1024  # SEARCH names every message on one line
ANSWER_MAX = 1024 * 1024  # of a command without an allowance of its own


class ServerLost(Exception):  # noqa: N818 - a state of the other side, met by connecting again
    """The connection is gone, or what came over it makes no sense. `said` is for people and names nobody."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.left = ANSWER_MAX
        self.deadline = time.monotonic() + COMMAND_SECONDS

    def allow(self, octets: int) -> None:
        """For all commands that are under way."""
        self.left = octets
        self.deadline = time.monotonic() + COMMAND_SECONDS + octets / OCTETS_PER_SECOND

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        rest = self.deadline - time.monotonic()
        if rest <= 0:
            raise ServerLost("It took too long to answer.")
        if self.left <= 0:
            raise ServerLost("It sends more than was asked for.")
        self._socket.settimeout(min(SILENCE_SECONDS, rest))
        count = self._socket.recv_into(buffer)
        self.left -= count
        return count


class _Bounded(imaplib.IMAP4):
    """What is read, and how much of it."""

    sock: socket.socket
    file: Any
    reader: _Reader
    _tls_established: bool
    _simple_command: Any
    _get_capabilities: Any

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        super().open(host, port, timeout)
        self._bound()

    def _bound(self) -> None:
        self.file.close()
        self.reader = _Reader(self.sock)
        self.file = io.BufferedReader(self.reader, 65_536)

    def starttls(self, ssl_context: ssl.SSLContext | None = None) -> Any:
        """What came in plain text after the answer is forgotten with the reader: nobody vouches for it."""
        assert ssl_context is not None
        kind, answer = self._simple_command("STARTTLS")
        if kind != "OK":
            raise ServerLost("It refuses to encrypt the connection.")
        self.sock = ssl_context.wrap_socket(self.sock, server_hostname=self.host)
        self._bound()
        self._tls_established = True
        self._get_capabilities()
        return kind, answer

    def read(self, size: int) -> bytes:
        if size > self.reader.left + 65_536:  # the buffer is counted already
            raise ServerLost("It names a text that is larger than what was asked for.")
        octets: bytes = self.file.read(size)
        if len(octets) < size:
            raise ServerLost("It ended the connection.")
        return octets

    def readline(self) -> bytes:
        line: bytes = self.file.readline(min(LINE_MAX, self.reader.left + 65_536) + 1)
        if line and not line.endswith(b"\n") and len(line) > 65_536:
            raise ServerLost("It sends a line without an end.")
        return line


class _Plain(_Bounded):
    def _create_socket(self, timeout: float | None) -> socket.socket:
        return socket.create_connection((self.host, self.port), CONNECT_SECONDS)


class _Tls(_Bounded):
    def __init__(self, source: Source) -> None:
        self._source = source
        super().__init__(source.host, source.port)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        plain = socket.create_connection((self.host, self.port), CONNECT_SECONDS)
        try:
            return self._source.context().wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


class BoundedClient(IMAPClient):  # type: ignore[misc]
    """Folder names stay as the server writes them, times have their zones."""

    def __init__(self, source: Source) -> None:
        self._source = source
        super().__init__(source.host, source.port, ssl=source.tls)
        self.folder_encode = False
        self.normalise_times = False
        self._imap.debug = 0
        self._imap._mesg = self._imap._log = lambda *_: None  # imaplib would remember what was said, passwords too

    def _create_IMAP4(self) -> _Bounded:  # noqa: N802 - IMAPClient's name
        return _Tls(self._source) if self._source.tls else _Plain(self._source.host, self._source.port)

    def _set_read_timeout(self) -> None:
        """The reader sets it for each read."""

    @property
    def wire(self) -> _Bounded:
        found = self._imap
        assert isinstance(found, _Bounded)
        return found

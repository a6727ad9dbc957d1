"""Asks Rspamd what it thinks of a message (HTTP, POST /checkv2).

Nothing is raised but cancellation: what Rspamd does not say clearly, in time, is unknown. Redirects are not followed.
Its answer is taken for a fact among others, so of the symbols only the names are kept.

Standards: RFC 9112 (HTTP/1.1); https://rspamd.com/doc/architecture/protocol.html
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h11

from gateway.scanners.endpoints import rspamd_endpoint
from gateway.scanners.exchange import Octets, exchange, pieces_of, size_of
from gateway.scanners.guard import Guard, ScannerFailed
from gateway.scanners.results import RspamdResult
from gateway.scanners.settings import SCAN_SIZE, TIMEOUT
from storage.clock import Clock
from storage.errors import InvalidInput

ANSWER_MAX = 1024 * 1024  # octets
HEAD_MAX = 16 * 1024
SYMBOLS_MAX = 1000
RECIPIENTS_MAX = 100  # that it is told

_READ = 16 * 1024
_NAME_MAX = 128
_PASSWORD_MAX = 1024


@dataclass(frozen=True, slots=True)
class Envelope:
    """What Rspamd is told of the transaction."""

    address: str = ""  # the client's
    hello: str = ""
    reverse_path: str = ""  # "" is the null one
    recipients: Sequence[str] = ()
    queue_id: str = ""
    hostname: str = ""  # the client's name, if DNS knows it both ways


class Rspamd:
    """Belongs to one event loop. Raises InvalidInput if `url` is none."""

    def __init__(
        self,
        url: str,
        limit: float = TIMEOUT,
        size: int = SCAN_SIZE,
        password: str = "",
        clock: Clock | None = None,
    ) -> None:
        self._endpoint = rspamd_endpoint(url)
        self._size = size
        self._password = password
        self.guard = Guard("Rspamd", limit, clock)

    async def scan(self, message: Octets, envelope: Envelope) -> RspamdResult:
        size = size_of(message)
        if size > self._size:
            return _unknown("the message is larger than what is shown to Rspamd")
        return await self.guard.run(lambda: self._scan(message, size, envelope), _unknown)

    async def _scan(self, message: Octets, size: int, envelope: Envelope) -> RspamdResult:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX)
        head = connection.send(
            h11.Request(
                method="POST",
                target="/checkv2",
                headers=[
                    (b"Host", self._endpoint.authority.encode()),
                    (b"Connection", b"close"),
                    (b"Content-Type", b"message/rfc822"),
                    (b"Content-Length", b"%d" % size),
                    *self._fields(envelope),
                ],
            )
        )
        assert head is not None

        async def send(writer: asyncio.StreamWriter) -> None:
            writer.write(head)
            for piece in pieces_of(message):
                # The length is given, so octets go as they are; h11 would join each piece to bytes of its own.
                writer.write(piece)
                await writer.drain()

        async def receive(reader: asyncio.StreamReader) -> RspamdResult:
            return _result(await _body(reader, connection))

        return await exchange(self._endpoint, send, receive)

    def _fields(self, envelope: Envelope) -> Iterator[tuple[bytes, bytes]]:
        told = [
            ("IP", envelope.address),
            ("Helo", envelope.hello),
            ("Hostname", envelope.hostname),
            ("From", f"<{envelope.reverse_path}>"),
            *(("Rcpt", f"<{recipient}>") for recipient in envelope.recipients[:RECIPIENTS_MAX]),
            ("Queue-Id", envelope.queue_id),
            ("Password", self._password),
        ]
        for name, value in told:
            octets = value.strip().encode("utf-8", "replace")
            # A stranger's word that no field can hold is not told.
            if octets and not any(octet < 0x20 or octet == 0x7F for octet in octets) and len(octets) <= _PASSWORD_MAX:
                yield name.encode(), octets


def read_password(path: str) -> str:
    """Of `rspamd_password_file`; "" without one. Raises InvalidInput if there is no password in it."""
    if not path:
        return ""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, _PASSWORD_MAX + 1).decode("utf-8").strip()
        finally:
            os.close(descriptor)
    except (OSError, UnicodeDecodeError):
        raise InvalidInput("The file with Rspamd's password cannot be read.") from None
    if not text or len(text) >= _PASSWORD_MAX or not text.isprintable():
        raise InvalidInput("The file with Rspamd's password holds no password of one line.")
    return text


async def _body(reader: asyncio.StreamReader, connection: h11.Connection) -> bytes:
    """Raises ScannerFailed."""
    body = bytearray()
    seen = 0
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(_READ)
                seen += len(data)
                if seen > ANSWER_MAX + HEAD_MAX:
                    raise ScannerFailed("gave an answer that is too large")
                connection.receive_data(data)
            elif isinstance(event, h11.Response):
                if event.status_code != 200:
                    raise ScannerFailed(f"answered with status {event.status_code}")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > ANSWER_MAX:
                    raise ScannerFailed("gave an answer that is too large")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            elif not isinstance(event, h11.InformationalResponse):
                raise ScannerFailed("ended the connection without an answer")
    except h11.RemoteProtocolError:
        raise ScannerFailed("ended the connection, or does not speak HTTP") from None


def _result(body: bytes) -> RspamdResult:
    """Raises ScannerFailed."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise ScannerFailed("gave an answer that is no JSON") from None
    action = answer.get("action") if isinstance(answer, dict) else None
    symbols = answer.get("symbols", {}) if isinstance(answer, dict) else None
    if not isinstance(action, str) or not _is_name(action) or not isinstance(symbols, dict):
        raise ScannerFailed("gave an answer without an action")
    if answer.get("is_skipped") is True and action == "no action":  # a forced action is skipped by its rules too
        return _unknown("Rspamd is configured to skip this message")
    names = sorted(name for name in symbols if _is_name(name))
    return RspamdResult(
        action, _number(answer.get("score")), _number(answer.get("required_score")), tuple(names[:SYMBOLS_MAX])
    )


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _NAME_MAX and text.isascii() and text.isprintable()


def _number(value: Any) -> float:
    """Raises ScannerFailed."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9 or math.isnan(value):
        raise ScannerFailed("gave an answer without a score")
    return float(value)


def _unknown(reason: str) -> RspamdResult:
    return RspamdResult(unknown=reason)

"""The octets of one outgoing connection: aiosmtplib's protocol, with replies that wait until they are asked for.

aiosmtplib gives connecting, flow control, STARTTLS and the check of commands against injection. As it comes it keeps
one reply at a time (so no pipelining), takes almost anything for a reply, and sends the content with a copy per step
and one time limit. Here replies stay in the buffer until `read_response` takes them, so that commands may be sent in
groups; a deadline covers a reply as a whole, and the buffer is bounded: a server that says too much loses the
connection.

Raises: aiosmtplib's SMTPServerDisconnected and SMTPReadTimeoutError, `Garbled`.
Standards: RFC 5321 §4.2, RFC 2920 §3.1 (groups of commands), RFC 3207 §4.2 (nothing sent ahead of the handshake
counts).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from aiosmtplib.errors import SMTPReadTimeoutError, SMTPServerDisconnected
from aiosmtplib.protocol import COMMAND_INJECTION_REGEX, SMTPProtocol
from aiosmtplib.response import SMTPResponse

from gateway.relay.replies import Garbled, read_reply
from gateway.transcript import Transcript

_UNREAD_MAX = 256 * 1024  # octets of replies that nobody has asked for yet
_BLOCK = 128 * 1024  # of content, each with its own time limit


class ClientWire(SMTPProtocol):
    """One connection as `gateway.relay.session` reads and writes it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transcript: Transcript | None = None,
        ended: Callable[[ssl.SSLObject | None], None] | None = None,
    ) -> None:
        """`ended` is told of the TLS that a connection had."""
        super().__init__(loop)
        self.transcript = transcript
        self._ended = ended
        self._arrival: asyncio.Future[None] | None = None
        self._overrun = False

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        self._buffer.extend(data)
        if len(self._buffer) > _UNREAD_MAX and not self._overrun:
            self._overrun = True
            self.abort()
        if b"\n" in data or self._overrun:
            self._wake()

    def eof_received(self) -> bool:
        self._wake()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wake()

    # What a session calls

    @property
    def quiet(self) -> bool:
        """Open, and the server has said nothing that was not asked for."""
        return self.is_connected and not self._buffer

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        return None if self.transport is None else self.transport.get_extra_info("ssl_object")

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """The next reply, whole within `timeout` seconds."""
        found = self._next()
        if found is None:
            try:
                async with asyncio.timeout(timeout):
                    while (found := self._next()) is None:
                        await self._more()
            except TimeoutError:
                raise SMTPReadTimeoutError("no reply in time") from None
        if self.transcript is not None:
            for line in found.message.split("\n"):
                self.transcript.theirs(f"{found.code} {line}".encode())
        return found

    def read_what_came(self) -> SMTPResponse | None:
        """A reply that came without a question: what a server says before it closes."""
        try:
            return self._next(even_if_lost=True)
        except Garbled:
            return None

    def say(self, *lines: bytes) -> None:
        """Command lines, without their CRLF, in one write."""
        for line in lines:
            if COMMAND_INJECTION_REGEX.search(line):
                raise ValueError("a command with a control character")
            if self.transcript is not None:
                self.transcript.ours(line)
        self.write(b"".join([line + b"\r\n" for line in lines]))

    async def send_content(self, content: bytes, timeout: float) -> None:
        """Octets that are no command; returns when the kernel, nearly, has them. `timeout` is for each block."""
        if len(content) <= _BLOCK:
            self.write(content)
            await self._drain(timeout)
            return
        view = memoryview(content)
        for start in range(0, len(content), _BLOCK):
            self.write(cast(bytes, view[start : start + _BLOCK]))
            await self._drain(timeout)

    async def upgrade(self, context: ssl.SSLContext, server_name: str, timeout: float) -> None:
        """The handshake after a positive reply to STARTTLS. Raises ssl.SSLError, OSError, TimeoutError."""
        del self._buffer[:]  # RFC 3207 §4.2
        if self.transport is None:
            raise SMTPServerDisconnected("Connection lost")
        transport = await self._loop.start_tls(
            cast(asyncio.WriteTransport, self.transport),
            self,
            context,
            server_side=False,
            server_hostname=server_name,
            ssl_handshake_timeout=timeout,
        )
        if transport is None or self._connection_lost:
            raise SMTPServerDisconnected("Connection lost")
        del self._buffer[:]
        self.transport = transport
        self._over_ssl = True

    def abort(self) -> None:
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()

    def note(self, text: str) -> None:
        """For the transcript."""
        if self.transcript is not None:
            self.transcript.note(text)

    def finish(self) -> None:
        """The dialogue is over: the connection is closed, and its transcript."""
        if self._ended is not None:
            self._ended(self.ssl_object)
            self._ended = None
        self.abort()
        if self.transcript is not None:
            self.transcript.close()
            self.transcript = None

    # Inside

    def _next(self, *, even_if_lost: bool = False) -> SMTPResponse | None:
        found = read_reply(self._buffer) if self._buffer else None
        if found is not None:
            del self._buffer[: found[1]]
            return found[0]
        if self._overrun:
            raise Garbled("endless replies")
        if not even_if_lost and not self.is_connected:
            raise SMTPServerDisconnected("Connection lost")
        return None

    async def _more(self) -> None:
        self._arrival = self._loop.create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None

    async def _drain(self, timeout: float) -> None:
        if self._connection_lost or not self.is_connected:
            raise SMTPServerDisconnected("Connection lost")
        if not self._paused:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._drain_helper()
        except TimeoutError:
            raise SMTPReadTimeoutError("content not taken in time") from None
        except ConnectionError:
            raise SMTPServerDisconnected("Connection lost") from None
        if self._connection_lost:
            raise SMTPServerDisconnected("Connection lost")

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

"""The octets of one connection: a bounded buffer in, replies out in as few writes as possible, one timer.

Replies wait until the server needs more input, so the answers to commands that came together leave together. A peer
that doesn't read its replies is not read from either. The task that serves the connection is never cancelled: whatever
ends it (loss, silence, a stop) is raised where it next waits for input.

Standards: RFC 2920 §3.1 (replies together), RFC 3207 §4.2 (nothing sent ahead of the handshake counts).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, cast

from gateway.smtp.replies import BAD_LINE, LINE_TOO_LONG, TIMED_OUT, Refused, SmtpReply

_INPUT_MAX = 256 * 1024  # beyond this nothing more is read from the peer
_OUTPUT_MAX = 32 * 1024
_LINGER = 5.0  # for the last octets to a peer that doesn't take them


class Ended(Exception):  # noqa: N818
    """The connection is over. `reply` is what the peer is told first, if anything."""

    def __init__(self, reply: SmtpReply | None = None) -> None:
        super().__init__()
        self.reply = reply


class Wire(asyncio.Protocol):
    """One connection's transport, as `serve` reads and writes it."""

    __slots__ = (
        "_closing",
        "_deadline",
        "_draining",
        "_ended",
        "_input",
        "_loop",
        "_output",
        "_output_size",
        "_position",
        "_reading",
        "_serve",
        "_task",
        "_timer",
        "_waiting",
        "takes_lone_lf",
        "transport",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, serve: Callable[[Wire], Coroutine[Any, Any, None]]) -> None:
        self._loop = loop
        self._serve = serve
        self._task: asyncio.Task[None] | None = None
        self._input = b""
        self._position = 0
        self._output: list[bytes] = []
        self._output_size = 0
        self._waiting: asyncio.Future[None] | None = None  # for input
        self._draining: asyncio.Future[None] | None = None  # for room in the transport
        self._ended: Ended | None = None
        self._reading = True
        self._closing = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.takes_lone_lf = False
        self.transport: asyncio.Transport | None = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._task = self._loop.create_task(self._serve(self))

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._input = self._input[self._position :] + data if self._position < len(self._input) else data
        self._position = 0
        if len(self._input) > _INPUT_MAX and self._reading and self.transport is not None:
            self._reading = False
            self.transport.pause_reading()
        _wake(self._waiting)

    def eof_received(self) -> bool | None:
        self.end(Ended())
        return None  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._closing = True
        self._stop_timer()
        self.end(Ended())
        _wake(self._draining)

    def pause_writing(self) -> None:
        if self._draining is None:
            self._draining = self._loop.create_future()

    def resume_writing(self) -> None:
        draining, self._draining = self._draining, None
        _wake(draining)

    # What the server calls

    @property
    def peer_address(self) -> str:
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(peer[0]) if peer else ""

    @property
    def tls(self) -> str:
        """Protocol version and cipher suite; empty without TLS."""
        cipher = self.transport.get_extra_info("cipher") if self.transport is not None else None
        return f"{cipher[1]} {cipher[0]}" if cipher else ""

    @property
    def pending(self) -> bool:
        """Whether something has come that nobody has read."""
        return self._position < len(self._input)

    @property
    def lost(self) -> bool:
        return self.transport is None

    def end(self, ended: Ended) -> None:
        """`ended` is raised where the server waits for input, now or next time. The first one counts."""
        if self._ended is None:
            self._ended = ended
        _wake(self._waiting)

    def allow(self, seconds: float) -> None:
        """The peer has this long, from now, for what is asked of it."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look_at_clock)
        elif self._deadline < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._look_at_clock)

    def write(self, octets: bytes) -> None:
        """Leaves with the next flush, at the latest when the server waits for input."""
        self._output.append(octets)
        self._output_size += len(octets)

    async def flush(self) -> None:
        self._push()
        if self._draining is not None and not self.lost:
            await self._draining

    @property
    def crowded(self) -> bool:
        """Enough replies have gathered that a flush is due."""
        return self._output_size > _OUTPUT_MAX

    async def line(self, longest: int) -> bytes:
        """The next line without its CRLF. Raises Refused, once it is over, if it is too long or ends otherwise.

        Where lone LFs are taken, one of them ends a line too.
        """
        while (end := self._input.find(b"\n", self._position)) < 0:
            if len(self._input) - self._position > longest:
                await self._skip_line()
                raise Refused(LINE_TOO_LONG)
            await self._more()
        line = self._input[self._position : end]
        self._position = end + 1
        if len(line) > longest:
            raise Refused(LINE_TOO_LONG)
        if line.endswith(b"\r"):
            line = line[:-1]
        elif not self.takes_lone_lf:
            raise Refused(BAD_LINE)
        if b"\r" in line or b"\0" in line:
            raise Refused(BAD_LINE)
        return line

    async def chunk(self, most: int | None = None) -> bytes:
        """All that has come, or its first `most` octets; waits if nothing has."""
        if self._position >= len(self._input):
            await self._more()
        end = len(self._input) if most is None else self._position + most
        octets = self._input[self._position : end]
        if end >= len(self._input):
            self._input, self._position = b"", 0
            self._read_on()
        else:
            self._position = end
        return octets

    def unread(self, octets: bytes) -> None:
        """Gives back the end of the last chunk."""
        self._input = octets + self._input[self._position :]
        self._position = 0

    async def start_tls(self, context: ssl.SSLContext, timeout: float) -> None:
        """The handshake, as server. What came ahead of it is thrown away. Raises Ended if it fails."""
        await self.flush()
        transport = self.transport
        if transport is None:
            raise Ended()
        self._input, self._position = b"", 0
        self._stop_timer()
        try:
            upgraded = await self._loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=timeout
            )
        except (OSError, ssl.SSLError, TimeoutError):
            transport.abort()
            raise Ended() from None
        if upgraded is None or self._closing:
            raise Ended()
        self._input, self._position, self._reading = b"", 0, True
        self.transport = upgraded

    def close(self, *, linger: bool = True) -> None:
        """The last octets leave, then the connection is closed; a peer that doesn't take them is cut off.

        What the peer still sends is read and let go for a moment: closed over unread input, the kernel would send a
        reset, and the peer could lose our last reply with it.
        """
        self._push()
        self._closing = True
        self._stop_timer()
        transport = self.transport
        if transport is None:
            return
        if linger and transport.can_write_eof():
            self._read_on()
            transport.write_eof()
        else:
            transport.close()
        self._timer = self._loop.call_later(_LINGER, transport.abort)

    # Inside

    async def _more(self) -> None:
        """Flushes, and waits until more has come."""
        self._check_ended()
        await self.flush()
        self._read_on()
        self._waiting = self._loop.create_future()
        try:
            if self._ended is None:
                await self._waiting
        finally:
            self._waiting = None
        self._check_ended()

    def _check_ended(self) -> None:
        if self._ended is not None:
            raise Ended(self._ended.reply)  # a new one: the traceback of a kept one would keep the whole connection

    async def _skip_line(self) -> None:
        while (end := self._input.find(b"\n", self._position)) < 0:
            self._input, self._position = b"", 0
            await self._more()
        self._position = end + 1

    def _push(self) -> None:
        if self._output and self.transport is not None:
            self.transport.write(b"".join(self._output))
        self._output.clear()
        self._output_size = 0

    def _read_on(self) -> None:
        if not self._reading and self.transport is not None:
            self._reading = True
            self.transport.resume_reading()

    def _look_at_clock(self) -> None:
        """One timer serves all deadlines: a later one is noticed when the earlier one rings."""
        self._timer = None
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look_at_clock)
        elif self._waiting is not None:
            self.end(Ended(TIMED_OUT))
        elif self._draining is not None and self.transport is not None:
            self.transport.abort()  # it doesn't read its replies
        # otherwise the server itself is at work: `allow` comes with its next question

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)

"""One HTTP connection: uvicorn's protocol over httptools, with limits on what a client may send and how slowly.

- A head (request line and header fields) has to be whole within `head_timeout` and below `head` octets, else 431.
- A body that comes slower than 16 KiB in each `body_timeout` ends the connection; while we do not read, time stands.
- Who does not take what is written to him for `write_timeout` is cut off.
- What a client goes on sending after it was refused is read and thrown away, up to a bound, so that it sees the answer.
- Requests that are sent ahead wait, a few of them; more end the connection.

Standards: RFC 9112 §2.2, §3.2, §9.3, §9.6; RFC 9110 §15.5.9 (408), RFC 6585 §5 (431).
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from typing import Any, Protocol

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from hosting.web.counters import Counters
from hosting.web.limits import Limits

_PIECE = 16 * 1024  # octets that are parsed at once; what a head may be longer than its limit before it is seen
_SLOWEST = 16 * 1024  # octets of a body in each body_timeout
_THROWN_AWAY = 1024 * 1024  # octets of a body that nobody wants
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a reset, and what was not sent is forgotten
_AHEAD = 8  # requests that wait for the answer to the one before


class Host(Protocol):
    """What a connection needs of the listener that accepted it."""

    limits: Limits
    counters: Counters

    def released(self, connection: HttpConnection) -> None: ...


class _Phase(enum.Enum):
    BETWEEN = 0  # no request has begun
    HEAD = 1
    BODY = 2


class HttpConnection(HttpToolsProtocol):
    """`signed_in` is what the last request on it signed in with."""

    def __init__(self, config: Config, state: ServerState, loop: asyncio.AbstractEventLoop, host: Host, address: str):
        super().__init__(config, state, {}, loop)
        self.address = address
        self.signed_in: bytes | None = None
        self.made = self.lost = False
        self.closing_for = 0  # looks of the listener at it since it was told to close
        self._host = host
        self._limits = host.limits
        self._phase = _Phase.BETWEEN
        self._head = self._unparsed = self._fields = 0
        self._refused = self._bad = False
        self._received = 0  # octets of a body in this period
        self._thrown_away = 0
        self._answered: RequestResponseCycle | None = None  # the last whose answer was begun
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    # --- lifetime ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.made = True
        super().connection_made(transport)
        self.client = (self.address, 0)
        self._wait(self._limits.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.give_up()
        super().connection_lost(exc)
        self._stop_waiting()
        self._stop_waiting_for_reader()
        self._host.released(self)

    @property
    def busy(self) -> bool:
        """A request is being answered."""
        cycle = self._current
        return cycle is not None and not cycle.response_complete

    @property
    def _current(self) -> RequestResponseCycle | None:
        return self.cycle

    @property
    def awaits_leave(self) -> bool:
        """The client sent Expect: 100-continue, and has not been told to go on."""
        cycle = self._current
        return cycle is not None and bool(cycle.waiting_for_100_continue)

    @property
    def is_closing(self) -> bool:
        """Nothing that is written reaches the client any more."""
        return self.lost or self.transport.is_closing()

    def give_up(self) -> None:
        """The request that is being answered is left as it is; uvicorn does so for the last one that was sent only."""
        if self._answered is not None:
            self._answered.disconnected = True
            self._answered.message_event.set()

    def abort(self) -> None:
        """Without waiting for the client to read what was written: the kernel keeps nothing of it either."""
        if not self.lost:
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.transport.abort()

    # --- input ---

    def data_received(self, data: bytes) -> None:
        if len(data) <= _PIECE:
            self._feed(data)
        else:
            view = memoryview(data)
            for start in range(0, len(data), _PIECE):
                if self.transport.is_closing():
                    return
                self._feed(view[start : start + _PIECE])
        if not self.lost and not self.transport.is_closing():
            self._watch()

    def _feed(self, piece: bytes | memoryview) -> None:
        super().data_received(piece)  # type: ignore[arg-type]  # httptools takes any buffer
        if self._phase is _Phase.HEAD:
            self._unparsed += len(piece)
            if self._unparsed > self._limits.head + _PIECE:
                self._refused = True
        if self._bad and not self.transport.is_closing():
            self.send_400_response("")
        elif self._refused and not self.transport.is_closing():
            self._refuse(431, "Request Header Fields Too Large", "The head of the request is too large.")

    def _watch(self) -> None:
        """A client has so long for what it has begun."""
        if self._phase is _Phase.BODY:
            if self._timer is None:
                self._received = 0
                self._wait(self._limits.body_timeout)
        elif self._phase is _Phase.HEAD or not self.busy:
            if self._timer is None:
                self._wait(self._limits.head_timeout)
        else:
            self._stop_waiting()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = _Phase.HEAD
        self._head = self._unparsed = self._fields = self._thrown_away = 0
        self.scope["state"]["connection"] = self

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        if b"#" in url:  # RFC 9112 §3.2: a fragment is no part of a target, and what it stood for must not be lost
            self._bad = True
        if not self._refused:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._count(len(name) + len(value) + 4)
        if self._phase is _Phase.HEAD and not self._refused:  # fields behind a chunked body are not ours to heed
            super().on_header(name, value)

    def _count(self, octets: int) -> None:
        self._head += octets
        if self._head > self._limits.head or self._fields > self._limits.fields:
            self._refused = True

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _AHEAD:
            self._refused = True
        self._refused = self._refused or self._bad
        if self._refused:
            return
        self._phase = _Phase.BODY
        self._stop_waiting()
        super().on_headers_complete()
        if self.parser.should_upgrade():  # we don't; what follows such a request cannot be told apart any more
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._received += len(body)
        if self.cycle.response_complete:
            self._thrown_away += len(body)
            if self._thrown_away > _THROWN_AWAY:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused:
            return
        self._phase = _Phase.BETWEEN
        self._stop_waiting()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "Bad Request", "This is no request of HTTP/1.1 that this server understands.")

    def _refuse(self, status: int, reason: str, sentence: str) -> None:
        """For what does not come to the application; the connection ends."""
        if status != 408:
            self._host.counters.malformed += 1
        self._host.counters.answered(status)
        self._refused = True
        if self.transport.is_closing():
            return
        if self.busy:  # an answer is on its way, and this one must not get into it
            self.transport.abort()
            return
        body = sentence.encode() + b"\n"
        fields = b"".join(b"%b: %b\r\n" % field for field in self.server_state.default_headers)
        head = b"HTTP/1.1 %d %b\r\n%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
        self.transport.write(head % (status, reason.encode(), fields, len(body)) + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    # --- time ---

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._waited)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _waited(self) -> None:
        self._timer = None
        if self.lost or self.transport.is_closing():
            return
        if self._phase is _Phase.BODY and (self.flow.read_paused or self._received >= _SLOWEST):
            self._received = 0
            self._wait(self._limits.body_timeout)
            return
        if self._phase is _Phase.BETWEEN and self.busy:
            return
        self._host.counters.too_slow += 1
        cycle = self._current
        if self._phase is _Phase.BETWEEN:
            self.transport.close()  # it never said a word
            return
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.abort()
                return
            cycle.response_started = cycle.response_complete = True  # the application hears that the client is gone
            cycle.message_event.set()
        self._refuse(408, "Request Timeout", "The request did not come in time.")

    # --- output ---

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self._limits.write_timeout, self._not_read)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_waiting_for_reader()

    def _stop_waiting_for_reader(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _not_read(self) -> None:
        self._write_timer = None
        self._host.counters.too_slow += 1
        self.abort()


def connection_of(scope: Any) -> HttpConnection:
    """The connection that an ASGI scope came over."""
    connection: HttpConnection = scope["state"]["connection"]
    return connection

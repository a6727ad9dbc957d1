"""One TCP connection: feeds the decoder, steps the session's generators, and writes what they yield.

Output is pulled: while the transport is full no generator is stepped, and one command holds the event loop for 4 ms at
most before others are served. Input is bounded too: while a command runs, reading stops once a buffer's worth has piled
up, compressed or not. An idle connection keeps no buffer.

Standards: RFC 9051 §2.2 and §5.5 (one command after the other), §6.2.1 (STARTTLS), RFC 4978 (COMPRESS), RFC 5465 §3.1
(news between commands).
"""

# ruff: noqa: N802 - the methods that Twisted calls have Twisted's names

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from hosting.imap.decoder import Frame, Prompt, Refusal
from hosting.imap.effects import Compress, EndCompression, Handling, News, NextLine, Secure, Work
from hosting.imap.faults import where
from hosting.imap.replies import UNEXPECTED
from hosting.imap.session import State
from hosting.imap.shell.arriving import Arriving
from hosting.imap.shell.host import Host

_log = logging.getLogger(__name__)
_CHUNK = 48 * 1024  # octets that are written in one go
_BURST = 0.004  # seconds of one command before others are served
_READ_AHEAD = 64 * 1024  # pipelined octets that wait for the command before them


@implementer(IPushProducer, IHandshakeListener)
class Connection(Arriving):
    """Twisted's protocol around one session."""

    def __init__(self, host: Host, *, implicit_tls: bool, proxied: bool) -> None:
        super().__init__(host, implicit_tls=implicit_tls, proxied=proxied)
        self._flow: Handling | None = None
        self._waiting: type[Work] | type[NextLine] | type[News] | None = None
        self._full = False  # the transport wants no more for now
        self._reading_stopped = False
        self._stepping = False
        self._lost = False
        self.last_activity = time.monotonic()

    # --- lifetime ---

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = self._ending = True
        if self._admitted:
            self._admitted = False
            self._host.release(self, self.address)
        if self._waiting is not Work:  # else the worker's answer ends it: the account stays open until then
            self._let_go()
        if not reason.check(ConnectionDone):
            _log.debug("connection lost: %s", reason.type)

    def _let_go(self) -> None:
        self._host.unwatch(self)
        flow, self._flow = self._flow, None
        if flow is not None and not self._stepping:
            flow.close()
        if self.session is not None:
            self.session.close()

    def end(self, farewell: bytes) -> None:
        """Says BYE and disconnects, after the command in flight if there is one that works."""
        if self._ending:
            return
        if self._waiting is not Work and not self._lost:
            self._send(b"* BYE " + farewell + b"\r\n")
        self._disconnect()

    def abort(self) -> None:
        """Disconnects without waiting for the client to read what was written, or to end TLS."""
        if not self._lost:
            cast(Any, self.transport).abortConnection()

    @property
    def busy(self) -> bool:
        """A command is being worked on; IDLE is not one, nor one whose client does not read."""
        return self._flow is not None and (self._waiting is Work or (self._waiting is None and not self._full))

    @property
    def between(self) -> bool:
        """No command is at work, however slowly its client reads; IDLE is none."""
        return self._flow is None or self._waiting is News

    # --- input ---

    def dataReceived(self, data: bytes) -> None:
        if self._ending:
            return
        if self._header is not None:
            self._read_header(self._header, data)
            return
        wire = self._wire
        assert wire is not None
        self.last_activity = time.monotonic()
        if self._flow is None and not self._full and (frame := wire.whole(data)) is not None:
            self._respond(frame)
            self._tell_unasked()
            return
        wire.feed(data)
        self._go_on()
        if wire.unread > _READ_AHEAD and not (self._reading_stopped or self._ending):
            self._reading_stopped = True
            cast(Any, self.transport).pauseProducing()

    def _go_on(self) -> None:
        """Takes of what arrived whatever can be taken now."""
        if self._flow is None:
            self._next_command()
        elif self._waiting in (NextLine, News) and not self._ending:
            self._offer_line()

    def _next_command(self) -> None:
        wire, session = self._wire, self.session
        assert wire is not None and session is not None
        until = time.perf_counter() + _BURST
        while self._flow is None and not self._ending and not self._full:
            late = time.perf_counter() > until
            event = None if late else wire.next_frame(lambda: time.perf_counter() > until)
            if event is None:
                if late or wire.is_behind:  # much arrived, or much has come out of little: others first
                    self._host.soon(self._go_on)
                break
            if isinstance(event, Frame):
                self._respond(event)
            elif isinstance(event, Prompt):
                self._send(b"+ OK\r\n")
            else:
                self._refuse(event)
        self._tell_unasked()
        self._resume_reading()

    def _respond(self, frame: Frame) -> None:
        session = self.session
        assert session is not None
        try:
            answer = session.respond(frame)
        except Exception as unexpected:  # noqa: BLE001 - the last net
            self._unexpected(unexpected)
            return
        if isinstance(answer, bytes):
            self._send(answer)
            if session.bad_commands:
                self._check_patience()
        else:
            self._flow = answer
            self._step(None)

    def _resume_reading(self) -> None:
        if self._reading_stopped and not self._ending and self._wire is not None and self._wire.unread <= _READ_AHEAD:
            self._reading_stopped = False
            cast(Any, self.transport).resumeProducing()

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.close or self.session is None:
            self.end(refusal.text)
            return
        self.session.bad_commands += 1
        self._send((refusal.tag or b"*") + b" " + refusal.word + refusal.text + b"\r\n")
        self._check_patience()

    def _check_patience(self) -> None:
        session = self.session
        if session is not None and session.bad_commands >= session.services.limits.bad_commands:
            self.end(b"[CLIENTBUG] Too many commands that make no sense.")

    def _offer_line(self) -> None:
        """A line for a command that waits for one."""
        line = self._wire.next_line() if self._wire is not None else None
        if line is None:
            self._resume_reading()
            return
        if isinstance(line, Refusal):
            self.end(line.text)
            return
        if self._waiting is News and self.session is not None and self.session.listening is None:
            self._host.unwatch(self)
        self._waiting = None
        self._step(line)
        if self._flow is None and not self._ending:
            self._next_command()

    def news(self) -> None:
        """There may be news for a session in IDLE, or for one that asked for them by NOTIFY."""
        if self._full or self._ending or self._stepping:
            return
        if self._waiting is News:
            self._waiting = None
            self._step(None)
        elif self._flow is None:
            self._tell_unasked()

    def _tell_unasked(self) -> None:
        """What is to be told between commands: not while one is arriving, whose numbers may mean what was told."""
        session, wire = self.session, self._wire
        if session is None or session.listening is None or wire is None:
            return
        if self._flow is not None or self._full or self._ending:
            return
        if wire.at_rest and (flow := session.unsolicited()) is not None:
            self._flow = flow
            self._step(None)

    def rest(self) -> None:
        """Nothing was heard for a while."""
        if self._wire is not None and self.between:
            self._wire.rest()
            cast(Any, self.transport).rest()

    # --- running a command ---

    def _step(self, value: Any, error: BaseException | None = None) -> None:
        """Runs the command until it ends, waits for something, or the transport is full."""
        flow = self._flow
        if flow is None:
            return
        pieces: list[bytes] = []
        size = 0
        until = time.perf_counter() + _BURST
        self._stepping = True
        try:
            while True:
                if error is None:
                    effect = flow.send(value)
                else:
                    effect, error = flow.throw(error), None
                value = None
                if isinstance(effect, bytes):
                    if effect:
                        pieces.append(effect)
                        size += len(effect)
                        if size < _CHUNK:
                            continue
                    elif time.perf_counter() < until:  # nothing to send: a handler says that others may go first
                        continue
                    self._write(pieces)
                    size = 0
                    if self._full or self._ending:
                        return
                    if time.perf_counter() > until:
                        self._full = True  # as if the transport were: the next turn of the loop goes on
                        self._host.soon(self.resumeProducing)
                        return
                    continue
                self._write(pieces)
                size = 0
                if isinstance(effect, Work):
                    self._waiting = Work
                    self._host.run(effect, self.worked)
                    return
                if isinstance(effect, Secure | Compress | EndCompression):
                    self._change_layer(effect)
                    continue
                self._waiting = type(effect)
                if isinstance(effect, News):
                    self._host.watch(self)
                if self._wire is not None and self._wire.unread:
                    self._host.soon(self._go_on)  # the line came with the command
                return
        except StopIteration:
            self._flow = None
            self._write(pieces)
            self._finished()
        except Exception as unexpected:  # noqa: BLE001 - the session answers all errors of commands; this is the last net
            self._flow = None
            self._write(pieces)
            self._unexpected(unexpected)
        finally:
            self._stepping = False

    def _unexpected(self, error: Exception) -> None:
        _log.error("a command failed outside its session: %s", where(error))
        self.end(UNEXPECTED[3:])

    def _write(self, pieces: list[bytes]) -> None:
        if pieces and not self._lost:
            data = b"".join(pieces)
            pieces.clear()
            self._send(data)

    def _send(self, data: bytes) -> None:
        if self._wire is not None and self._wire.is_compressed:
            self._host.awake(self)
            data = self._wire.pack(data)
        cast(Any, self.transport).write(data)

    def worked(self, result: Any, error: BaseException | None) -> None:
        """A worker is done; the session goes on in the event loop."""
        self._waiting = None
        flow = self._flow
        if self._lost:
            with suppress(Exception, StopIteration):  # the session takes what was opened for it, and gives it back
                if flow is not None:
                    flow.send(result) if error is None else flow.throw(error)
            self._let_go()
            return
        self._step(result, error)
        if self._flow is None and not self._ending:
            self._next_command()

    def _change_layer(self, effect: Secure | Compress | EndCompression) -> None:
        """What was written so far went the old way; what comes and goes from now on takes the new one."""
        wire, transport = self._wire, cast(Any, self.transport)
        assert wire is not None
        last = wire.change(effect)
        if isinstance(effect, Secure):
            transport.startTLS(self._host.tls_context(), True)
        elif last:
            transport.write(last)

    def _finished(self) -> None:
        session, wire = self.session, self._wire
        assert session is not None and wire is not None
        if session.state is State.ENDED:
            self._disconnect()
            return
        wire.signed_in(session.state is not State.GREETED)
        if session.listening is not None:
            session.wake = self.news
            self._host.watch(self)
        self._check_patience()

    # --- IPushProducer: the transport's buffer ---

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        if self._full:
            self.last_activity = time.monotonic()  # it reads
        self._full = False
        if self._ending or self._stepping:
            return
        if self._flow is not None and self._waiting is None:
            self._step(None)
        elif self._waiting is News:
            self.news()
        if self._flow is None and self.session is not None:
            self._next_command()

    def stopProducing(self) -> None:
        self._ending = True

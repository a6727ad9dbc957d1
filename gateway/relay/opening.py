"""Opens a session with one address of one host: connecting, greeting, EHLO, STARTTLS.

`open` returns a session that is ready for MAIL, with the TLS that was demanded, or raises `Broken`: then this
address is of no use now and the next one is to be tried. A greeting or EHLO that is refused for good counts as that
too, since it is said of us or of the host, never of a recipient.

Opportunistic TLS that fails is given up for plain text, on a new connection (RFC 7435 §3). What is demanded and
cannot be had is no session.

Standards: RFC 5321 §3.1, §3.2 and §4.5.3.2, RFC 3207 (STARTTLS).
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Iterable
from ipaddress import ip_address

from aiosmtplib.errors import SMTPException
from aiosmtplib.response import SMTPResponse

from gateway.relay.capabilities import Capabilities
from gateway.relay.contexts import TlsContexts
from gateway.relay.hosts import Place
from gateway.relay.outcome import RecipientOutcome, Result, TlsDemand
from gateway.relay.replies import Garbled, deferred, reply_of
from gateway.relay.session import Broken, Session
from gateway.relay.settings import RelaySettings, Timeouts
from gateway.relay.wire import ClientWire
from gateway.transcript import Transcript, TranscriptSink
from storage.clock import Clock
from storage.logs.transcripts import Direction


class _HandshakeFailed(Exception):  # noqa: N818
    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


class Opener:
    """`hostname` is what we say in EHLO."""

    def __init__(
        self,
        settings: RelaySettings,
        hostname: str,
        clock: Clock,
        transcripts: TranscriptSink | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._settings = settings
        self._hostname = hostname.encode("idna")
        self._clock = clock
        self._transcripts = transcripts
        self._timeouts = timeouts or Timeouts()
        self._contexts = TlsContexts(settings.ca_file)
        self._sources = _by_family(settings.source_addresses)

    async def open(self, place: Place, demand: TlsDemand) -> Session:
        try:
            return await self._open(place, demand, try_tls=True)
        except _HandshakeFailed:
            if demand is not TlsDemand.OPPORTUNISTIC:
                text = "No TLS with a certificate that this server's name can be trusted by, and it is demanded."
                raise Broken(deferred("4.7.5", text, place.host)) from None
        try:
            return await self._open(place, demand, try_tls=False)
        except _HandshakeFailed:  # it was not tried
            raise AssertionError from None

    async def _open(self, place: Place, demand: TlsDemand, *, try_tls: bool) -> Session:
        wire = await self._connect(place)
        try:
            greeting = await self._reply(wire, self._timeouts.greeting, place, "a greeting")
            if greeting.code != 220:
                raise Broken(_unwilling(greeting, place))
            server = await self._hello(wire, place)
            if try_tls and server.starttls and await self._start_tls(wire, place, demand):
                server = await self._hello(wire, place)
            elif demand is not TlsDemand.OPPORTUNISTIC:
                raise Broken(deferred("4.7.4", "TLS is demanded, and the server does not offer it.", place.host))
        except BaseException:
            wire.abort()
            wire.finish()
            raise
        return Session(place, wire, server, self._timeouts)

    async def _connect(self, place: Place) -> ClientWire:
        loop = asyncio.get_running_loop()
        transcript = None
        if self._transcripts is not None:
            peer = f"{place.host} [{place.address}]:{place.port}"
            transcript = Transcript(self._transcripts, self._clock, Direction.OUT, secrets.token_hex(8), peer)
        wire = ClientWire(loop, transcript)
        source = self._sources.get(ip_address(place.address).version)
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await loop.create_connection(
                    lambda: wire, place.address, place.port, local_addr=(source, 0) if source else None
                )
        except (OSError, TimeoutError):
            if transcript is not None:
                transcript.note("no connection")
            wire.finish()
            raise Broken(deferred("4.4.1", "No connection to the server.", place.host)) from None
        except BaseException:
            wire.abort()
            wire.finish()
            raise
        return wire

    async def _hello(self, wire: ClientWire, place: Place) -> Capabilities:
        answer = await self._ask(wire, b"EHLO " + self._hostname, place)
        if 200 <= answer.code <= 299:
            return Capabilities.read(answer.message)
        if 500 <= answer.code <= 599:  # RFC 5321 §3.2: a server from before 1993, or one that pretends to be
            answer = await self._ask(wire, b"HELO " + self._hostname, place)
            if 200 <= answer.code <= 299:
                return Capabilities()
        raise Broken(_unwilling(answer, place))

    async def _start_tls(self, wire: ClientWire, place: Place, demand: TlsDemand) -> bool:
        answer = await self._ask(wire, b"STARTTLS", place)
        if answer.code != 220:
            return False  # RFC 3207 §4: the dialogue goes on without
        context = self._contexts.verified if demand is TlsDemand.VERIFIED else self._contexts.unverified
        try:
            await wire.upgrade(context, place.host, self._timeouts.handshake)
        except (OSError, ValueError, SMTPException) as error:  # ValueError: a name that no certificate can have
            if wire.transcript is not None:
                wire.transcript.note(f"TLS failed: {type(error).__name__}")
            raise _HandshakeFailed(error) from None
        if wire.transcript is not None:
            wire.transcript.note(_described(wire.ssl_object))
        return True

    async def _ask(self, wire: ClientWire, command: bytes, place: Place) -> SMTPResponse:
        try:
            wire.say(command)
        except (SMTPException, OSError):
            raise Broken(deferred("4.4.2", "The connection was lost.", place.host)) from None
        return await self._reply(wire, self._timeouts.hello, place, f"a reply to {command[:8].decode().split()[0]}")

    async def _reply(self, wire: ClientWire, timeout: float, place: Place, what: str) -> SMTPResponse:
        try:
            return await wire.read_response(timeout)
        except Garbled:
            raise Broken(deferred("4.5.0", f"What came for {what} is not SMTP.", place.host)) from None
        except TimeoutError:
            raise Broken(deferred("4.4.2", f"The server did not give {what} in time.", place.host)) from None
        except (SMTPException, OSError):
            raise Broken(deferred("4.4.2", f"The connection was lost before {what}.", place.host)) from None


def _unwilling(answer: SMTPResponse, place: Place) -> RecipientOutcome:
    return RecipientOutcome(Result.DEFERRED, reply_of(answer, place.host))


def _described(tls: ssl.SSLObject | None) -> str:
    cipher = tls.cipher() if tls is not None else None
    return f"{tls.version()} with {cipher[0]}" if tls is not None and cipher is not None else "TLS"


def _by_family(addresses: Iterable[str]) -> dict[int, str]:
    return {ip_address(address).version: address for address in addresses}

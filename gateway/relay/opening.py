"""Opens a session with one address of one host: connecting, greeting, EHLO, STARTTLS.

`open` returns a session that is ready for MAIL, with the TLS that was demanded, or raises `Broken`: then this
address is of no use now and the next one is to be tried. A greeting or EHLO that is refused for good counts as that
too, since it is said of us or of the host, never of a recipient.

TLS that fails is tried with less, on a new connection, down to what is insisted on: opportunistic TLS is given up for
plain text in the end (RFC 7435 §3). What is demanded and cannot be had is no session.

Standards: RFC 5321 §3.1, §3.2 and §4.5.3.2, RFC 3207 (STARTTLS).
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from aiosmtplib.errors import SMTPException
from aiosmtplib.response import SMTPResponse

from gateway.relay.capabilities import Capabilities
from gateway.relay.contexts import TlsContexts, outcome_of
from gateway.relay.hosts import Place
from gateway.relay.outcome import RecipientOutcome, Result, TlsDemand
from gateway.relay.replies import Garbled, deferred, reply_of
from gateway.relay.session import Broken, Session
from gateway.relay.settings import RelaySettings, Timeouts
from gateway.relay.wire import ClientWire
from gateway.tls_policy.policy import TlsPolicy
from gateway.tls_policy.results import TlsOutcome
from gateway.transcript import Transcript, TranscriptSink
from storage.clock import Clock
from storage.logs.transcripts import Direction


@dataclass(frozen=True, slots=True)
class Terms:
    """`aim` is the TLS that is tried; `demand` what is insisted on. `policy`: where the domain's own policy says so."""

    demand: TlsDemand
    aim: TlsDemand
    server_name: str
    policy: TlsPolicy | None = None

    @classmethod
    def of_policy(cls, policy: TlsPolicy) -> Terms:
        return cls(policy.demand, policy.aim, policy.server_name, policy)


class _NoTls(Exception):  # noqa: N818
    """TLS was tried and is not what it was to be."""

    def __init__(self, outcome: TlsOutcome) -> None:
        super().__init__()
        self.outcome = outcome


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

    async def open(self, place: Place, terms: Terms) -> tuple[Session, TlsOutcome]:
        """The session, and how TLS went by what was aimed at. Raises Broken; its `tls` says how TLS went, if it did."""
        first = TlsOutcome.SUCCESS
        for attempt in _attempts(terms):
            try:
                session, found = await self._open(place, terms, attempt)
            except _NoTls as error:
                first = first or error.outcome
            except Broken as broken:
                broken.tls = first or broken.tls
                raise
            else:
                return session, first or found
        text = "TLS with a certificate that can be trusted is demanded, and cannot be had."
        raise Broken(deferred("4.7.5", text, place.host), first)

    async def _open(self, place: Place, terms: Terms, attempt: TlsDemand | None) -> tuple[Session, TlsOutcome]:
        """`attempt`: which TLS to try, None: none. Raises _NoTls if that fails."""
        wire = await self._connect(place)
        try:
            greeting = await self._reply(wire, self._timeouts.greeting, place, "a greeting")
            if greeting.code != 220:
                raise Broken(_unwilling(greeting, place))
            server = await self._hello(wire, place)
            found = TlsOutcome.SUCCESS
            if attempt is not None:
                if server.starttls and await self._start_tls(wire, place, terms, attempt):
                    server = await self._hello(wire, place)
                elif terms.demand is not TlsDemand.OPPORTUNISTIC:
                    reply = deferred("4.7.4", "TLS is demanded, and the server does not offer it.", place.host)
                    raise Broken(reply, TlsOutcome.STARTTLS_NOT_SUPPORTED)
                else:
                    found = TlsOutcome.STARTTLS_NOT_SUPPORTED
        except BaseException:
            wire.finish()
            raise
        return Session(place, wire, server, self._timeouts), found

    async def _connect(self, place: Place) -> ClientWire:
        loop = asyncio.get_running_loop()
        transcript = None
        if self._transcripts is not None:
            peer = f"{place.host} [{place.address}]:{place.port}"
            transcript = Transcript(self._transcripts, self._clock, Direction.OUT, secrets.token_hex(8), peer)
        wire = ClientWire(loop, transcript, self._contexts.remember)
        source = self._sources.get(ip_address(place.address).version)
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await loop.create_connection(
                    lambda: wire, place.address, place.port, local_addr=(source, 0) if source else None
                )
        except (OSError, TimeoutError):
            wire.note("no connection")
            wire.finish()
            raise Broken(deferred("4.4.1", "No connection to the server.", place.host)) from None
        except BaseException:
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

    async def _start_tls(self, wire: ClientWire, place: Place, terms: Terms, attempt: TlsDemand) -> bool:
        """Whether the server began TLS. Raises _NoTls if that ended badly."""
        answer = await self._ask(wire, b"STARTTLS", place)
        if answer.code != 220:
            return False  # RFC 3207 §4: the dialogue goes on without
        try:
            await wire.upgrade(self._context(terms, attempt), terms.server_name, self._timeouts.handshake)
        except (OSError, ValueError, SMTPException) as error:  # ValueError: a name that no certificate can have
            outcome = outcome_of(error)
        else:
            wire.note(_described(wire.ssl_object))
            outcome = self._checked(wire, terms)
        if outcome is not TlsOutcome.SUCCESS:
            wire.note(f"TLS failed: {outcome}")
            raise _NoTls(outcome)
        return True

    def _context(self, terms: Terms, attempt: TlsDemand) -> ssl.SSLContext:
        if attempt is TlsDemand.VERIFIED:
            return self._contexts.verified
        if terms.policy is not None and terms.policy.dane is not None:
            return self._contexts.unverified
        return self._contexts.resuming

    def _checked(self, wire: ClientWire, terms: Terms) -> TlsOutcome:
        """What the domain's policy finds out about the server's certificates beyond the handshake."""
        if terms.policy is None or wire.ssl_object is None:
            return TlsOutcome.SUCCESS
        return terms.policy.check(wire.ssl_object, self._clock.now())

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


def _attempts(terms: Terms) -> list[TlsDemand | None]:
    """What is tried one after the other, each on a new connection, down to what is insisted on."""
    attempts: list[TlsDemand | None] = [terms.aim]
    if terms.aim is TlsDemand.VERIFIED and terms.demand is not TlsDemand.VERIFIED:
        attempts.append(terms.demand)
    if terms.demand is TlsDemand.OPPORTUNISTIC:
        attempts.append(None)
    return attempts


def _unwilling(answer: SMTPResponse, place: Place) -> RecipientOutcome:
    return RecipientOutcome(Result.DEFERRED, reply_of(answer, place.host), host_unwilling=True)


def _described(tls: ssl.SSLObject | None) -> str:
    cipher = tls.cipher() if tls is not None else None
    if tls is None or cipher is None:
        return "TLS"
    return f"{tls.version()} with {cipher[0]}{', resumed' if tls.session_reused else ''}"


def _by_family(addresses: Iterable[str]) -> dict[int, str]:
    return {ip_address(address).version: address for address in addresses}

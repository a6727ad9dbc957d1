"""Fetches a calendar from somewhere else over HTTP: a stranger's server, at an address that a user chose.

A name is asked of DNS once, its addresses are held against `gateway.networks`, and what is connected to is the address
that was checked, never the name; so no answer of DNS, and no redirect, leads into private networks. Each redirect is
looked at as the first URL was, and none leads from https to http. All is bounded: time, head, body, redirects.

Raises: FetchFailed, with a sentence for people that names no address.
Standards: RFC 9110 §13 (conditions), §15.4 (redirects), RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit

import h11

from gateway.dns.answers import Dns
from gateway.networks import Reachable
from storage.collections.urls import feed_url
from storage.errors import InvalidInput

REDIRECTS = 5
ADDRESSES = 4  # that are tried
_READ = 64 * 1024
_HEAD_OCTETS = 32 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_VALIDATOR_MAX = 500  # characters
_DEFAULT_PORTS = {"http": 80, "https": 443}


class FetchFailed(Exception):  # noqa: N818 - it is a result too
    """`str` is a sentence for people."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    octets: int = 10 << 20  # of a body
    seconds: float = 60.0  # for all of it
    connect_seconds: float = 10.0  # for each address


@dataclass(frozen=True, slots=True)
class Fetched:
    """`body` is None where it has not changed since."""

    body: bytes | None = field(repr=False)
    validators: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class Fetcher:
    """`context` verifies certificates and names; `reachable` says which addresses may be connected to."""

    def __init__(
        self, dns: Dns, reachable: Reachable, context: ssl.SSLContext, limits: FetchLimits | None = None
    ) -> None:
        self._dns = dns
        self._reachable = reachable
        self._context = context
        self._limits = limits or FetchLimits()

    async def fetch(self, url: str, validators: Mapping[str, str] | None = None) -> Fetched:
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._follow(url, validators or {})
        except TimeoutError:
            raise FetchFailed("The other server did not answer in time.") from None

    async def _follow(self, url: str, validators: Mapping[str, str]) -> Fetched:
        for _ in range(REDIRECTS + 1):
            answer = await self._get(url, validators)
            if answer.status == 304 and validators:
                return Fetched(None, validators)
            if answer.status == 200:
                return Fetched(answer.body, _validators(answer))
            if answer.status not in _REDIRECTS:
                raise FetchFailed(f"The other server answers with status {answer.status}.")
            url = _redirected(url, answer)
        raise FetchFailed("The other server leads from one place to the next.")

    async def _get(self, url: str, validators: Mapping[str, str]) -> _Answer:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
        tls = self._context if parts.scheme == "https" else None
        for address in (await self._addresses(host))[:ADDRESSES]:
            try:
                async with asyncio.timeout(self._limits.connect_seconds):
                    reader, writer = await asyncio.open_connection(
                        address, port, ssl=tls, server_hostname=host.rstrip(".") if tls else None, limit=_READ
                    )
            except ssl.SSLCertVerificationError:
                raise FetchFailed("The certificate of the other server is not valid.") from None
            except (OSError, TimeoutError, asyncio.IncompleteReadError):  # ssl.SSLError is an OSError
                continue
            try:
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                return await self._ask(reader, writer, parts.netloc, target, validators)
            except (OSError, h11.ProtocolError, asyncio.IncompleteReadError):
                raise FetchFailed("What the other server answers is not HTTP.") from None
            finally:
                writer.transport.abort()
        raise FetchFailed("The other server cannot be connected to.")

    async def _addresses(self, host: str) -> list[str]:
        """Those that may be connected to."""
        try:
            found = [str(ip_address(host))]
        except ValueError:
            answer = await self._dns.addresses(host.rstrip("."))
            if answer.failed:
                raise FetchFailed("DNS does not answer about the other server.") from None
            found = list(answer.records)
        if not found:
            raise FetchFailed("There is no such server.")
        permitted = [each for each in found if self._reachable.permits(each)]
        if not permitted:
            raise FetchFailed("The server is in a network that calendars are not fetched from.")
        return permitted

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        host: str,
        target: str,
        validators: Mapping[str, str],
    ) -> _Answer:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_OCTETS)
        headers = [
            ("Host", host),
            ("Connection", "close"),
            ("Accept", "text/calendar, */*;q=0.5"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "Cleanmail"),
        ]
        if "etag" in validators:
            headers.append(("If-None-Match", validators["etag"]))
        if "last_modified" in validators:
            headers.append(("If-Modified-Since", validators["last_modified"]))
        writer.write(connection.send(h11.Request(method="GET", target=target, headers=headers)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        response: h11.Response | None = None
        body = bytearray()
        informational = 0
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_READ))
            elif isinstance(event, h11.Response):
                response = event
                if event.status_code != 200:
                    break
                _check_encoding(event)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.octets:
                    raise FetchFailed("The calendar is larger than what is fetched.")
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.InformationalResponse) and informational < REDIRECTS:
                informational += 1
            else:
                raise FetchFailed("The other server ended the connection.")
        assert response is not None
        return _Answer(response.status_code, dict(response.headers), bytes(body))


def _check_encoding(response: h11.Response) -> None:
    """A few octets could become any number of them, and nobody asked for that."""
    for name, value in response.headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise FetchFailed("The other server sends the calendar compressed, which was not asked for.")


def _redirected(url: str, answer: _Answer) -> str:
    location = answer.headers.get(b"location", b"").decode("latin-1")
    if not location:
        raise FetchFailed("The other server leads to nowhere.")
    try:
        found = feed_url(urljoin(url, location))
    except (InvalidInput, ValueError):
        raise FetchFailed("The other server leads to a place that calendars are not fetched from.") from None
    if url.startswith("https:") and not found.startswith("https:"):
        raise FetchFailed("The other server leads from https to http.")
    return found


def _validators(answer: _Answer) -> dict[str, str]:
    found = {}
    for name, header in (("etag", b"etag"), ("last_modified", b"last-modified")):
        value = answer.headers.get(header, b"").decode("latin-1").strip()
        if value and len(value) <= _VALIDATOR_MAX and value.isprintable() and value.isascii():
            found[name] = value
    return found

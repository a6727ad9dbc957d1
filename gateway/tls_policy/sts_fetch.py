"""Fetches a domain's MTA-STS policy from its policy host, over HTTPS and nothing less.

The certificate must be valid for mta-sts.<domain>; redirects are not followed; the answer is 200, text/plain, of at
most 64 KiB, and here within a minute. Only addresses that may be connected to are.

Raises: FetchFailed, with the word of TLS reports for it and a reason for people.
Standards: RFC 8461 §3.3, RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import asyncio
import ssl

import h11

from gateway.dns.answers import Dns
from gateway.networks import Reachable
from gateway.tls_policy.results import TlsOutcome
from gateway.tls_policy.sts_text import PolicyInvalid, PolicyText, parse
from storage.values import Domain

LIMIT = 60.0  # seconds, for all of it
OCTETS = 64 * 1024
ADDRESSES = 4  # that are tried
HEAD_OCTETS = 16 * 1024

_READ = 16 * 1024


class FetchFailed(Exception):  # noqa: N818 - it is a result too
    def __init__(self, outcome: TlsOutcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


def host_of(domain: Domain) -> str:
    return f"mta-sts.{domain.name}"


class StsFetcher:
    """`context` verifies certificates and names."""

    def __init__(
        self, dns: Dns, reachable: Reachable, context: ssl.SSLContext, *, port: int = 443, limit: float = LIMIT
    ) -> None:
        self._dns = dns
        self._reachable = reachable
        self._context = context
        self._port = port
        self._limit = limit

    async def fetch(self, domain: Domain) -> PolicyText:
        return parse_policy(await self.fetch_text(domain))

    async def fetch_text(self, domain: Domain) -> str:
        """The policy as it is published, not parsed."""
        try:
            async with asyncio.timeout(self._limit):
                return await self._fetch(host_of(domain))
        except TimeoutError:
            raise _failed("the policy host did not answer in time") from None

    async def _fetch(self, host: str) -> str:
        answer = await self._dns.addresses(host)
        if answer.failed:
            raise _failed("DNS does not answer about the policy host")
        if not answer.records:
            raise _failed(f"there is no policy host {host}")
        addresses = [address for address in answer.records if self._reachable.permits(address)]
        if not addresses:
            raise _failed("the policy host has no address that may be connected to")
        for address in addresses[:ADDRESSES]:
            try:
                reader, writer = await asyncio.open_connection(
                    address, self._port, ssl=self._context, server_hostname=host, limit=_READ
                )
            except ssl.SSLCertVerificationError:
                raise FetchFailed(
                    TlsOutcome.STS_WEBPKI_INVALID, "the certificate of the policy host is not valid"
                ) from None
            except (OSError, asyncio.IncompleteReadError):  # ssl.SSLError is an OSError
                continue
            try:
                return await _get(reader, writer, host)
            finally:
                writer.transport.abort()
        raise _failed("the policy host cannot be connected to")


def parse_policy(text: str) -> PolicyText:
    """As `sts_text.parse`, but raises FetchFailed."""
    try:
        return parse(text)
    except PolicyInvalid as error:
        raise FetchFailed(TlsOutcome.STS_POLICY_INVALID, str(error)) from None


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> str:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_OCTETS)
    request = h11.Request(
        method="GET",
        target="/.well-known/mta-sts.txt",
        headers=[("Host", host), ("Connection", "close"), ("Accept", "text/plain")],
    )
    body = bytearray()
    seen = 0
    try:
        writer.write(connection.send(request) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(_READ)
                seen += len(data)
                if seen > OCTETS + HEAD_OCTETS:
                    raise _failed("the policy is too large")
                connection.receive_data(data)
            elif isinstance(event, h11.Response):
                _check_response(event)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > OCTETS:
                    raise _failed("the policy is too large")
            elif isinstance(event, h11.EndOfMessage):
                break
            elif not isinstance(event, h11.InformationalResponse):
                raise _failed("the policy host ended the connection")
    except (OSError, h11.RemoteProtocolError):
        raise _failed("what the policy host answers is not HTTP") from None
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise FetchFailed(TlsOutcome.STS_POLICY_INVALID, "the policy is not UTF-8") from None


def _check_response(response: h11.Response) -> None:
    if response.status_code != 200:  # §3.3: redirects are not followed either
        raise _failed(f"the policy host answers with status {response.status_code}")
    kinds = [value for name, value in response.headers if name == b"content-type"]
    kind = kinds[0].split(b";")[0].strip().lower() if kinds else b""
    if kind != b"text/plain":
        raise _failed("the policy is not of the media type text/plain")


def _failed(reason: str) -> FetchFailed:
    return FetchFailed(TlsOutcome.STS_POLICY_FETCH_ERROR, reason)

"""Asks recursive name servers, over dnspython's asyncio resolver, and remembers what they said.

Every question ends within `DnsSettings.timeout` with an `Answer`; nothing is raised but cancellation. Who asks what
somebody else is asking already waits for the same answer, and being cancelled does not take it from the other.
When no name server can be reached at all, questions fail at once and one line of the log says so.

An answer is `secure` only if the settings say that the name servers validate and can be trusted on the way
(RFC 7672 §2.1.1): the AD bit is one that anybody between them and us could set.

Standards: RFC 1034 §3.6.2 and §5.2.2 (CNAMEs), RFC 2308 (negative answers), RFC 6840 §5.7 (the AD bit in a question),
RFC 6891 (EDNS), RFC 7766 (TCP after truncation).
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, TypeVar

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.resolver
import dns.reversename
from dns.rdatatype import RdataType

from gateway.dns import records
from gateway.dns.answers import Answer, CaaRecord, DnsStatus, MxRecord, SrvRecord, TlsaRecord
from gateway.dns.backend import ConnectedBackend
from gateway.dns.cache import AnswerCache, Key
from gateway.dns.names import from_dns, normal, to_dns
from gateway.dns.settings import DnsSettings
from storage.clock import Clock, SystemClock

T = TypeVar("T")

RESOLV_CONF = "/etc/resolv.conf"
UDP_PAYLOAD = 1232  # no fragments: DNS flag day 2020
CHAIN = 8  # CNAMEs that we follow where the name server left the chain unfinished
AT_ONCE = 512  # questions under way, each with a socket; more wait their turn, within their time
SILENCES = 3  # questions in a row that nobody answered before the log says so

_log = logging.getLogger(__name__)


class Resolver:
    """Implements `gateway.dns.answers.Dns`. Belongs to one event loop at a time."""

    def __init__(
        self, settings: DnsSettings | None = None, clock: Clock | None = None, *, resolv_conf: str = RESOLV_CONF
    ) -> None:
        self._settings = settings or DnsSettings()
        self._cache = AnswerCache(self._settings.cache, clock or SystemClock())
        self._asking: dict[Key, asyncio.Task[Answer[Any]]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._backend: Any = ConnectedBackend()
        self._resolv_conf = resolv_conf
        self._version = -1  # of resolv.conf
        self._servers: dns.asyncresolver.Resolver | None = None
        self._unanswered = 0
        self._told = False

    async def mx(self, name: str) -> Answer[MxRecord]:
        return await self._ask(name, RdataType.MX, records.mx)

    async def a(self, name: str) -> Answer[str]:
        return await self._ask(name, RdataType.A, records.address)

    async def aaaa(self, name: str) -> Answer[str]:
        return await self._ask(name, RdataType.AAAA, records.address)

    async def addresses(self, name: str) -> Answer[str]:
        six, four = await asyncio.gather(self.aaaa(name), self.a(name))
        answered = [answer for answer in (six, four) if not answer.failed]
        # RFC 7672 §2.2.2: the addresses are secure if all that was said about them is.
        secure = bool(answered) and all(answer.secure for answer in answered)
        if six or four:
            return Answer(DnsStatus.FOUND, six.records + four.records, secure, six.name if six else four.name)
        if six.failed or four.failed:
            return Answer(DnsStatus.FAILED)
        # A name server that says NXDOMAIN to one question and not to the other has such a name.
        no_name = six.status is four.status is DnsStatus.NO_NAME
        return Answer(DnsStatus.NO_NAME if no_name else DnsStatus.NO_DATA, (), secure, four.name)

    async def txt(self, name: str) -> Answer[bytes]:
        return await self._ask(name, RdataType.TXT, records.txt)

    async def tlsa(self, name: str) -> Answer[TlsaRecord]:
        return await self._ask(name, RdataType.TLSA, records.tlsa)

    async def ptr(self, address: str) -> Answer[str]:
        try:
            name = dns.reversename.from_address(address)
        except (dns.exception.DNSException, ValueError):
            return Answer(DnsStatus.NO_NAME)
        return await self._ask(from_dns(name), RdataType.PTR, records.ptr)

    async def srv(self, name: str) -> Answer[SrvRecord]:
        return await self._ask(name, RdataType.SRV, records.srv)

    async def caa(self, name: str) -> Answer[CaaRecord]:
        return await self._ask(name, RdataType.CAA, records.caa)

    def forget(self) -> None:
        """Ask everything anew: for those who wait until a record appears."""
        self._cache.clear()

    async def close(self) -> None:
        """Ends the questions whose askers went away; for when nobody asks any more, and before the event loop ends."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, text: str, rdtype: RdataType, read: records.Reader[T]) -> Answer[T]:
        name = normal(text)
        if name is None:
            return Answer(DnsStatus.NO_NAME)  # no name server could hold it
        key = (name, int(rdtype))
        known = self._cache.get(key)
        if known is not None:
            return known
        task = self._asking.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._find(key, read))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _find(self, key: Key, read: records.Reader[T]) -> Answer[T]:
        name, rdtype = key[0], RdataType(key[1])
        try:
            async with asyncio.timeout(self._settings.timeout), self._turns:
                answer, ttl = await self._follow(to_dns(name), rdtype, read)
            self._heard()
        except (dns.exception.DNSException, OSError, TimeoutError) as error:
            answer, ttl = Answer(DnsStatus.FAILED, name=name), 0
            self._missed(error)
        except Exception as error:  # noqa: BLE001 - what a name server sends must not end what asked it
            answer, ttl = Answer(DnsStatus.FAILED, name=name), 0
            _log.error("an answer of DNS could not be read: %s", type(error).__name__)
        self._cache.put(key, answer, ttl)
        return answer

    async def _follow(self, name: dns.name.Name, rdtype: RdataType, read: records.Reader[T]) -> tuple[Answer[T], int]:
        """The answer and its TTL. Raises whatever dnspython does."""
        secure, ttl = True, dns.ttl.MAX_TTL
        for _ in range(CHAIN):
            status, message, result = await self._query(name, rdtype)
            secure = secure and self._settings.validating and bool(message.flags & dns.flags.AD)
            ttl = min(ttl, result.minimum_ttl)
            if result.answer is not None:
                found = tuple(read(record) for record in result.answer)
                found = tuple(sorted(found)) if rdtype is RdataType.MX else found  # type: ignore[type-var]
                return Answer(status, found, secure, from_dns(result.canonical_name)), ttl
            if status is DnsStatus.NO_NAME or not result.cnames or _ends(message):
                return Answer(status, (), secure, from_dns(result.canonical_name)), ttl
            name = result.canonical_name
        raise dns.message.ChainTooLong

    async def _query(
        self, name: dns.name.Name, rdtype: RdataType
    ) -> tuple[DnsStatus, dns.message.QueryMessage, dns.message.ChainingResult]:
        try:
            answer = await self._nameservers().resolve(
                name, rdtype, search=False, raise_on_no_answer=False, backend=self._backend
            )
        except dns.resolver.NXDOMAIN as nxdomain:
            message = nxdomain.responses()[name]  # type: ignore[no-untyped-call]
            return DnsStatus.NO_NAME, message, message.resolve_chaining()
        status = DnsStatus.NO_DATA if answer.rrset is None else DnsStatus.FOUND
        return status, answer.response, answer.chaining_result

    def _nameservers(self) -> dns.asyncresolver.Resolver:
        """Raises NoResolverConfiguration if there are none."""
        settings = self._settings
        if not settings.nameservers:
            version = _version(self._resolv_conf)
            if version != self._version:  # a network that came up, another one
                self._servers, self._version = None, version
        if self._servers is None:
            if settings.nameservers:
                servers = dns.asyncresolver.Resolver(configure=False)
                servers.nameservers = list(settings.nameservers)
            else:
                servers = dns.asyncresolver.Resolver(self._resolv_conf)
            servers.port = settings.port
            servers.lifetime = settings.timeout
            servers.timeout = min(2.0, settings.timeout / 2)
            servers.use_edns(0, dns.flags.DO if settings.validating else 0, UDP_PAYLOAD)
            servers.flags = dns.flags.RD | (dns.flags.AD if settings.validating else 0)
            self._servers = servers
        return self._servers

    def _heard(self) -> None:
        self._unanswered = 0
        if self._told:
            self._told = False
            _log.warning("the name servers answer again")

    def _missed(self, error: BaseException) -> None:
        if not _nobody_there(error):
            self._unanswered = 0
            return
        silent = isinstance(error, (dns.exception.Timeout, TimeoutError))
        self._unanswered += 1 if silent else SILENCES
        if self._unanswered >= SILENCES and not self._told:
            self._told = True
            _log.warning("no name server answers; what needs DNS waits (see [dns] in the configuration)")


def _ends(message: dns.message.Message) -> bool:
    """A name server that followed the chain to a name without such records shows that zone's SOA (RFC 2308 §2.2)."""
    return any(rrset.rdtype == RdataType.SOA for rrset in message.authority)


def _nobody_there(error: BaseException) -> bool:
    """No name server, or none that serves us; not: one that could not find this name."""
    if isinstance(error, dns.resolver.NoNameservers):
        refusals = (dns.rcode.to_text(dns.rcode.REFUSED), dns.rcode.to_text(dns.rcode.NOTAUTH))
        errors = error.kwargs.get("errors", ())
        return all(isinstance(what, OSError) or what in refusals for _, _, _, what, _ in errors)
    return isinstance(error, (dns.resolver.NoResolverConfiguration, dns.exception.Timeout, TimeoutError, OSError))


def _version(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0

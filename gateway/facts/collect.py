"""Collects the facts about one message, within a time limit from its last octet.

What a small message shows by itself, in a millisecond or two, is read at once: a thread that did it would hold up the
event loop for longer, since they take turns. Larger ones, those that are made to be expensive, and archives are read in
worker threads. Whom the message comes from is asked of DNS, and scanners look at it meanwhile. Each fact that fails or
is late is unknown, with its reason, and takes no other with it. Nothing is raised but cancellation, and nothing goes on
behind the caller's back but what it began itself (the questions about client and sender).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.authentication.authorship import Authors
from gateway.authentication.collection import BROKEN, LATE, PreparedMessage, collect
from gateway.authentication.facts import AuthenticationFacts, Method, Unknown, path_is_authentic
from gateway.classifier.model import Models
from gateway.content_facts import ContentLimits, hello_findings
from gateway.dns.answers import Dns
from gateway.facts.client import ClientInquiry
from gateway.facts.reading import GLANCE, SIP, WHOLE, Reading, is_light, read
from gateway.facts.sender import SenderInquiry
from gateway.facts.values import ClientFacts, Facts
from gateway.scanners import Clamd, Envelope, MalwareResult, Rspamd, RspamdResult
from gateway.smtp.content import Content
from gateway.work import LARGE, Work
from storage.clock import Clock
from storage.errors import InvalidInput
from storage.values import EmailAddress

T = TypeVar("T")

LIMIT = 20.0  # seconds
AT_ONCE = 48 * 1024  # octets; larger messages are read in worker threads
AUTHORS_MAX = 10  # whose acquaintance is asked for
_LARGE_AT_ONCE = 2  # large messages that scanners look at

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Transaction:
    """What was said before the message, and what is being asked about it since."""

    address: str  # the client's
    hello: str
    reverse_path: EmailAddress | None
    recipients: Sequence[EmailAddress]
    smtputf8: bool
    client: ClientInquiry
    sender: SenderInquiry


@dataclass(frozen=True, slots=True)
class Collected:
    """`authentic`: the reverse-path is the sender's own as far as can be known, so a bounce hits no stranger."""

    facts: Facts
    reading: Reading = field(repr=False)
    authentic: bool = False


@dataclass(frozen=True, slots=True)
class Scanners:
    """Those that the operator runs."""

    clamd: Clamd | None = None
    rspamd: Rspamd | None = None


class Collector:
    """For all connections of a process; belongs to one event loop."""

    def __init__(
        self,
        dns: Dns,
        models: Models,
        scanners: Scanners,
        work: Work,
        clock: Clock,
        hostname: str,
        limit: float = LIMIT,
        *,
        heavy_at_once: int = 2,
    ) -> None:
        """`heavy_at_once`: messages whose archives are unpacked to the limits; meanwhile a glance has to do."""
        self._dns = dns
        self._models = models
        self._scanners = scanners
        self._work = work
        self._clock = clock
        self._hostname = hostname
        self._limit = limit
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._heavy = asyncio.Semaphore(heavy_at_once)

    async def message(self, transaction: Transaction, content: Content) -> Collected:
        """`content` is not looked at any more when this returns."""
        end = asyncio.get_running_loop().time() + self._limit
        unknown: dict[str, str] = {}
        scans = await self._begin_scans(transaction, content)
        whole: asyncio.Task[Reading] | None = None
        try:
            reading = await self._reading(content, transaction.smtputf8, end, unknown)
            if reading.was_a_glance:  # whoever waits for its turn is authenticated meanwhile
                whole = asyncio.ensure_future(self._whole_reading(content, transaction.smtputf8))
            authentication = await self._authentication(reading.prepared, transaction, end)
            malware = await _in_time("malware", scans[0], end, unknown)
            rspamd = await _in_time("rspamd", scans[1], end, unknown)
            client = await self._client(transaction, end, unknown)
            guess = await _in_time("guess", transaction.sender.guess, end, {})
            found = await _in_time("content", whole, end, {})
            if found is not None and not found.unknown:
                reading = found
        finally:
            for task in (*scans, whole):
                if task is not None:
                    task.cancel()
        unknown |= {each.method: each.reason for each in authentication.unknown}
        for name, result in (("malware", malware), ("rspamd", rspamd)):
            if result is not None and result.unknown:
                unknown[name] = result.unknown
        facts = Facts(
            client,
            transaction.reverse_path,
            _addresses(authentication.authors),
            authentication,
            reading.content,
            malware or _not_known(MalwareResult, unknown, "malware"),
            rspamd or _not_known(RspamdResult, unknown, "rspamd"),
            content.size,
            unknown,
        )
        return Collected(facts, reading, _is_authentic(facts, guess=bool(guess)))

    # The message itself

    async def _reading(self, content: Content, smtputf8: bool, end: float, unknown: dict[str, str]) -> Reading:
        """What could be read of it in time; of large archives a glance."""
        data = content.read() if content.size <= AT_ONCE and not self._models.due else None
        if data is not None and is_light(data):
            reading = self._read(data, smtputf8, SIP)
        else:
            first = asyncio.ensure_future(self._first_reading(content, smtputf8))
            try:
                found = await _in_time("content", first, end, unknown)
            finally:
                first.cancel()
            if found is None:
                return Reading(unknown=("content", "authentication"))
            reading = found
        unknown |= dict.fromkeys(reading.unknown, BROKEN)
        return reading

    async def _first_reading(self, content: Content, smtputf8: bool) -> Reading:
        return await self._work.run_on(content.size, lambda: self._read(content.read(), smtputf8, GLANCE))

    async def _whole_reading(self, content: Content, smtputf8: bool) -> Reading:
        """Of a message whose archives are large: a few at a time, so that there is room for all the others."""
        async with self._heavy:
            return await self._work.run_on(content.size, lambda: self._read(content.read(), smtputf8, WHOLE))

    def _read(self, data: bytes, smtputf8: bool, limits: ContentLimits) -> Reading:
        return read(data, self._models.current(), self._clock.now(), limits, smtputf8=smtputf8)

    # Whose it is

    async def _authentication(
        self, prepared: PreparedMessage | None, transaction: Transaction, end: float
    ) -> AuthenticationFacts:
        left = max(0.0, end - asyncio.get_running_loop().time())
        if prepared is not None:
            sender, now = transaction.sender, self._clock.now()
            return await collect(prepared, self._dns, sender.spf, now, left, unanswered=sender.unanswered)
        missing: dict[str, str] = {}
        spf = await _in_time("spf", transaction.sender.spf, end, missing)
        methods: tuple[Method, ...] = ("dkim", "arc", "dmarc") if spf is not None else ("spf", "dkim", "arc", "dmarc")
        unknown = tuple(Unknown(method, missing.get(method, LATE)) for method in methods)
        return AuthenticationFacts(Authors(), spf, None, None, None, unknown=unknown)

    async def _client(self, transaction: Transaction, end: float, unknown: dict[str, str]) -> ClientFacts:
        loop, inquiry = asyncio.get_running_loop(), transaction.client
        name = await inquiry.name(max(0.0, end - loop.time()))
        listings = await inquiry.listings(max(0.0, end - loop.time()))
        unknown |= {each: LATE for each, known in (("name", name), ("dns-lists", listings)) if known is None}
        findings = hello_findings(transaction.hello, transaction.address, name, self._hostname)
        return ClientFacts(transaction.address, transaction.hello, name, findings, listings, inquiry.trusted)

    # Scanners

    async def _begin_scans(
        self, transaction: Transaction, content: Content
    ) -> tuple[asyncio.Task[MalwareResult] | None, asyncio.Task[RspamdResult] | None]:
        clamd, rspamd = self._scanners.clamd, self._scanners.rspamd
        loop = asyncio.get_running_loop()
        malware = spam = None
        if clamd is not None:
            malware = loop.create_task(self._scan(content, clamd.scan))
        if rspamd is not None:
            envelope = Envelope(
                transaction.address,
                transaction.hello,
                str(transaction.reverse_path or ""),
                [str(recipient) for recipient in transaction.recipients],
                hostname=await transaction.client.name(0) or "",
            )
            spam = loop.create_task(self._scan(content, lambda data: rspamd.scan(data, envelope)))
        return malware, spam

    async def _scan(self, content: Content, scan: Callable[[bytes], Awaitable[T]]) -> T:
        if content.size <= LARGE:
            return await scan(content.read())
        async with self._large:  # it is in memory as long as the scanner takes
            return await scan(await self._work.run(content.read))


async def _in_time(name: str, task: asyncio.Future[T] | None, end: float, unknown: dict[str, str]) -> T | None:
    """What came of it, None without a task. None too if it came to nothing by `end`, and then `unknown` says why."""
    if task is None:
        return None
    if not task.done():
        await asyncio.wait([task], timeout=max(0.0, end - asyncio.get_running_loop().time()))
    if not task.done() or task.cancelled():
        unknown[name] = LATE
        return None
    error = task.exception()
    if error is not None:
        _log.error("the fact '%s' of a message failed: %s", name, type(error).__name__)
        unknown[name] = BROKEN
        return None
    return task.result()


def _not_known(kind: Callable[..., T], unknown: Mapping[str, str], name: str) -> T | None:
    """The result of a scanner that was asked in vain; None if there is none to ask."""
    return kind(unknown=unknown[name]) if name in unknown else None


def _addresses(found: Authors) -> tuple[EmailAddress, ...]:
    addresses = []
    for text in found.addresses[:AUTHORS_MAX]:
        with suppress(InvalidInput):
            addresses.append(EmailAddress.parse(text))
    return tuple(addresses)


def _is_authentic(facts: Facts, *, guess: bool) -> bool:
    """By SPF, or by a signature of the reverse-path's domain or one above it, or since DMARC says that both are one."""
    path, authentication = facts.reverse_path, facts.authentication
    if path is None:
        return False
    if guess or path_is_authentic(authentication):
        return True
    name, dmarc = path.domain.name, authentication.dmarc
    signers = [each.domain for each in authentication.dkim or () if each.passed and "." in each.domain]
    if any(_is_within(name, signer) for signer in signers):
        return True
    if dmarc is None or not dmarc.passed or not dmarc.organizational_domain:
        return False
    return _is_within(name, dmarc.organizational_domain)


def _is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)

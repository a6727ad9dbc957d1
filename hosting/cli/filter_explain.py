"""cleanmail filter explain: how a message would be judged, from which facts, and what would change the verdict.

The facts are found out as the MX does it, now: what DNS and scanners say may have changed since the message came. A
message that was delivered here is taken as it came: without the fields that this server put before it, which also tell
from where. Nothing is delivered or learned. By whose lists and experience it was judged is an audit record of his.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.acceptance.border import without_border
from gateway.acceptance.targets import Suspended, refusal, targets
from gateway.authentication.authorship import authors
from gateway.classifier.correction import Score
from gateway.classifier.model import FILE, Models
from gateway.dkim.public_keys import NO_KEY_KNOWN
from gateway.dkim.result import Dkim
from gateway.dmarc.result import Dmarc
from gateway.dns.answers import Answer, CaaRecord, Dns, DnsStatus, MxRecord, SrvRecord, TlsaRecord
from gateway.dns.resolver import Resolver
from gateway.dns_lists import parse_lists
from gateway.facts.client import ClientChecks, ClientInquiry
from gateway.facts.collect import Collected, Collector, Scanners, Transaction
from gateway.facts.sender import SenderChecks, SenderInquiry
from gateway.facts.values import ClientFacts, Destination, Experience, Facts, Place
from gateway.judgement.destinations import destination_of, every_target
from gateway.judgement.experience import MessageExperience
from gateway.learning.corrections import Corrections
from gateway.policy.decide import decide
from gateway.policy.lists import ListMatch, list_match
from gateway.policy.rules import merged
from gateway.policy.settings import FilterSettings
from gateway.policy.verdict import Verdict
from gateway.smtp.address import ForwardPath
from gateway.smtp.content import Content
from gateway.spf import Spf, SpfResult
from gateway.work import Work
from hosting import composition
from hosting.administration import Administration
from hosting.cli import filter_words, invocation
from hosting.cli.invocation import Invocation
from hosting.cli.recording import record_all, subject_of
from hosting.mx.filtering import scanners
from hosting.roles import privileges
from storage.clock import SystemClock
from storage.directory.resolve import Outcome
from storage.errors import InvalidInput, NotFound
from storage.mime.fields import read_header, unfold
from storage.values import Domain, EmailAddress, TenantId

_NO_CLIENT = "no client is known"
_NOT_ASKED = "not asked (--offline)"


@dataclass(frozen=True, slots=True)
class Judgement:
    """For one place that the recipient leads to."""

    destination: Destination
    experience: Experience
    listed: ListMatch | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Message:
    """As it came, with what is known of how; `client` is empty if that is not."""

    data: bytes
    sender: EmailAddress | None
    client: str = ""
    hello: str = ""


def explain(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A message as a file; - reads it from standard input.")],
    recipient: Annotated[
        str | None, typer.Option("--to", help="Whose rules count; the installation's if not given.")
    ] = None,
    sender: Annotated[
        str | None,
        typer.Option("--from", help="The envelope's sender, <> for none; what Return-Path says if not given."),
    ] = None,
    client: Annotated[
        str | None, typer.Option(help="The address of the server it came from; what Received says if not given.")
    ] = None,
    hello: Annotated[str | None, typer.Option(help="How that server introduced itself.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask neither DNS nor scanners.")] = False,
) -> None:
    """Show all facts about a message, the verdict, the reason, and what would change it."""
    run = invocation.of(context)
    message = _arrived(_read(file, run.config.mx.limits.message_size), run.config.server.name)
    message = _with_options(message, sender, client, hello)
    if recipient is None:
        composition.check_initialised(run.data)
        privileges.become_owner(run.data)
        collected = asyncio.run(_collect(run, message, [], offline=offline))
        judged = [_by_installation(run, collected)]
    else:
        with run.administration() as administration:
            record_all(run, administration, "filter.explain", [subject_of(administration, recipient)])
            path = ForwardPath(EmailAddress.parse(recipient))
            collected = asyncio.run(_collect(run, message, [path.address], offline=offline))
            judged = _for(run, administration, path, collected, message.data)
    facts = _not_asked(collected.facts, run.config.filter) if offline else collected.facts
    if run.output.as_json:
        run.output.record(filter_words.values(facts, judged))
    else:
        run.output.blocks(filter_words.blocks(facts, judged), [], "")


# The message


def _read(file: str, most: int) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(most + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(most + 1)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}.") from None
    if len(data) > most:
        raise InvalidInput(f"The message is larger than the {most} octets that the MX takes.")
    if not data.strip():
        raise InvalidInput("There is no message.")
    return data


_FROM_LINE = re.compile(rb"(?:\xef\xbb\xbf)?From [^\n]*\n")  # of an mbox
_LINE_END = re.compile(rb"\r?\n")
_BY = re.compile(rb"\bby[ \t]+([^\s;]+)")
_CLIENT = re.compile(rb"from[ \t]+(\S+)[^\[]*\[(?:IPv6:)?([0-9A-Fa-f.:]+)\]", re.I)


def _arrived(data: bytes, hostname: str) -> _Message:
    """As it stood on the wire: with CRLF, without what mail programs and this server put before it."""
    begin = _FROM_LINE.match(data)
    data = _LINE_END.sub(b"\r\n", data[begin.end() :] if begin is not None else data)
    header = read_header(data)
    returns, sender = header.value(b"return-path"), None
    if returns is not None:
        sender = _address(returns.decode("utf-8", "replace").strip("<> "))
    elif (found := authors(header)).addresses:
        sender = _address(found.addresses[0])
    data = without_border(data, header, hostname)
    header = read_header(data)
    first = header.first(b"received")
    if first is None:
        return _Message(data, sender)
    value = unfold(data[first.value : first.end])
    by, came = _BY.search(value), _CLIENT.match(value)
    ours = by is not None and by[1].decode("ascii", "replace").lower() == hostname.lower()
    if came is None or not _is_address(came[2].decode("ascii")):
        return _Message(data, sender)
    if ours:
        data = data[: first.start] + data[first.end :]
    return _Message(data, sender, came[2].decode("ascii"), came[1].decode("utf-8", "replace"))


def _with_options(message: _Message, sender: str | None, client: str | None, hello: str | None) -> _Message:
    if sender is not None:
        message = replace(message, sender=None if sender in {"", "<>"} else EmailAddress.parse(sender.strip("<>")))
    if client is not None:
        if not _is_address(client):
            raise InvalidInput(f"'{client[:80]}' is no IP address.")
        message = replace(message, client=client, hello="")
    return message if hello is None else replace(message, hello=hello)


def _address(text: str) -> EmailAddress | None:
    with suppress(InvalidInput):
        return EmailAddress.parse(text)
    return None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# Facts


class _Silent:
    """DNS that does not answer."""

    async def mx(self, name: str) -> Answer[MxRecord]:
        return Answer(DnsStatus.FAILED)

    async def a(self, name: str) -> Answer[str]:
        return Answer(DnsStatus.FAILED)

    async def aaaa(self, name: str) -> Answer[str]:
        return Answer(DnsStatus.FAILED)

    async def addresses(self, name: str) -> Answer[str]:
        return Answer(DnsStatus.FAILED)

    async def txt(self, name: str) -> Answer[bytes]:
        return Answer(DnsStatus.FAILED)

    async def tlsa(self, name: str) -> Answer[TlsaRecord]:
        return Answer(DnsStatus.FAILED)

    async def ptr(self, address: str) -> Answer[str]:
        return Answer(DnsStatus.FAILED)

    async def srv(self, name: str) -> Answer[SrvRecord]:
        return Answer(DnsStatus.FAILED)

    async def caa(self, name: str) -> Answer[CaaRecord]:
        return Answer(DnsStatus.FAILED)


async def _collect(
    run: Invocation, message: _Message, recipients: Sequence[EmailAddress], *, offline: bool
) -> Collected:
    config, clock = run.config, SystemClock()
    dns: Dns = _Silent() if offline else Resolver(config.dns)
    asked = Scanners() if offline else scanners(config.filter.scanners, clock, config.filter.time_limit)
    content = Content(str(run.data / "run"), len(message.data))
    content.write(message.data)
    with ThreadPoolExecutor(2) as pool:
        collector = Collector(
            dns,
            Models(run.data / FILE, clock),
            asked,
            Work(pool),
            clock,
            config.server.name,
            config.filter.time_limit,
        )
        client, sender = _inquiries(run, dns, message)
        transaction = Transaction(message.client, message.hello, message.sender, recipients, False, client, sender)
        try:
            collected = await collector.message(transaction, content)
        finally:
            client.cancel()
            sender.cancel()
            content.close()
    if message.client:
        return collected
    return replace(collected, facts=replace(collected.facts, client=ClientFacts("", name=None)))


def _not_asked(facts: Facts, configured: FilterSettings) -> Facts:
    """To be shown, after all verdicts: that nobody was asked, instead of what silence looks like."""
    found, client = facts.authentication, facts.client
    missing = {
        "name": bool(client.address) and client.name is None,
        "dns-lists": bool(client.address and configured.dns_lists) and not client.trusted,
        "spf": found.spf is None or (found.spf.result is Spf.TEMPERROR and found.spf.term != _NO_CLIENT),
        "dkim": found.dkim is None or any(each.result is Dkim.TEMPERROR for each in found.dkim),
        "arc": found.arc is None or found.arc.reason.endswith(NO_KEY_KNOWN),
        "dmarc": found.dmarc is None or found.dmarc.result is Dmarc.TEMPERROR,
        "malware": bool(configured.scanners.clamd),
        "rspamd": bool(configured.scanners.rspamd),
    }
    unknown = {name: _NOT_ASKED for name, holds in missing.items() if holds}
    return replace(facts, unknown={**facts.unknown, **unknown})


def _inquiries(run: Invocation, dns: Dns, message: _Message) -> tuple[ClientInquiry, SenderInquiry]:
    """What the MX asks before the message is there."""
    config = run.config
    if not message.client:
        return _nobody(message)
    limit, lists = config.mx.sender_check_timeout, parse_lists(config.filter.dns_lists)
    checks = ClientChecks(dns, lists, config.filter.trusted, limit=limit, lists_limit=config.filter.dns_list_timeout)
    senders = SenderChecks(dns, config.server.name, limit)
    return checks.begin(message.client), senders.begin(message.client, message.hello, message.sender)


def _nobody(message: _Message) -> tuple[ClientInquiry, SenderInquiry]:
    """Nothing is known of a client, so it is not known either for whom it may send."""
    loop = asyncio.get_running_loop()

    async def known(value: Any) -> Any:
        return value

    domain = message.sender.domain.name if message.sender is not None else ""
    spf = SpfResult(Spf.TEMPERROR, domain, term=_NO_CLIENT)
    client = ClientInquiry(False, loop.create_task(known(None)), None)
    return client, SenderInquiry(loop.create_task(known(spf)), loop.create_task(known(False)))


# Judging


def _for(
    run: Invocation, administration: Administration, path: ForwardPath, collected: Collected, data: bytes
) -> list[Judgement]:
    """By the rules of each place that the address leads to."""
    resolution = administration.resolver.resolve(path.address)
    if resolution.outcome is Outcome.ELSEWHERE or refusal(resolution, Suspended.TAKE) is not None:
        raise NotFound(f"Nobody here takes mail for {path.address}.")
    installation, facts = administration.installation, collected.facts
    known = MessageExperience(installation, Corrections(), facts, collected.reading, data)
    judged = []
    for target in every_target(targets([(path, resolution)], Suspended.TAKE)):
        destination = destination_of(target)
        look = installation.tenant(destination.tenant_id).filter_rules.look(destination.domain, destination.account_id)
        rules, listed = merged(run.config.filter.rules, look.layers), list_match(look.matcher, facts)
        experience = known.of(destination)
        verdict = decide(facts, experience, destination, rules, listed)
        judged.append(Judgement(destination, experience, listed, verdict))
    return judged


def _by_installation(run: Invocation, collected: Collected) -> Judgement:
    """For a mailbox of nobody, to whom everybody is a stranger."""
    domain = Domain("mailbox.invalid")
    destination = Destination(TenantId(0), Place.MAILBOX, EmailAddress("any", domain), domain)
    reading = collected.reading
    score = None if reading.shared is None else Score(reading.shared, 0.0, 0.0)
    experience = Experience(score=score, maturity=reading.maturity)
    verdict = decide(collected.facts, experience, destination, run.config.filter.rules)
    return Judgement(destination, experience, None, verdict)

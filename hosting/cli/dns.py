"""cleanmail dns: the records that a mail domain needs, and which of them are there.

`check` is also what lets new DKIM keys sign: it tells the key store what it saw. Nothing else is changed.
Exit status of `check`: 0 all that is required is right; 1 something required is wrong or missing; 3 DNS did not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from gateway.dkim import publication
from gateway.dns.names import normal
from gateway.dns.resolver import Resolver
from gateway.dns_records.facts import Facts, look_up
from gateway.dns_records.findings import Finding, Standing, Verdict, judge, verdict
from gateway.dns_records.policy import PolicyAnswer, ask_policy
from gateway.dns_records.wanted import Importance, Offer, Record, wanted
from gateway.dns_records.zone import data, zone_text
from gateway.networks import is_public
from hosting.administration import Administration
from hosting.cli import REFUSED, UNAVAILABLE, invocation, resolving
from hosting.cli.invocation import Invocation
from hosting.config import Config
from hosting.discovery import pacc
from hosting.discovery.offered import DAV_PATH, Offered
from storage.directory.dkim_keys import DkimKey, DkimKeys, DkimState
from storage.directory.rows import DomainRow, DomainState
from storage.values import Domain, EmailAddress

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="DNS records of mail domains: records, check.")

DomainName = Annotated[str, typer.Argument(help="The mail domain, e.g. example.org.")]

_SHOWN = 60  # octets of a record in the table


@app.command()
def records(context: typer.Context, domain: DomainName) -> None:
    """Print the records that the domain should have, as lines of a zone file."""
    run = invocation.of(context)
    with run.administration() as administration:
        row, store = _domain(administration, domain)
        offer, keys = offer_of(run.config), store.find(row.domain)
        policy = resolving.ask(
            run.config, lambda dns: ask_policy(resolving.policy_fetcher(run.config, dns), row.domain)
        )
    found = _wanted(row, offer, keys, policy)
    notes = []
    if "." not in offer.host:
        notes.append(f"'{offer.host}' is no name that others can find: set [server] hostname.")
    if not keys:
        notes.append(f"Mail leaves without a DKIM signature; make keys with: cleanmail dkim create {row.domain}")
    if not policy.valid:
        notes.append(f"No MTA-STS record, since {policy.reason}.")
    run.output.done(
        zone_text(found, notes).rstrip("\n"),
        {
            "domain": str(row.domain),
            "records": [
                {
                    "kind": record.kind,
                    "name": record.name,
                    "type": record.rdtype,
                    "value": record.value,
                    "zone": data(record),
                    "importance": record.importance,
                    "purpose": record.purpose,
                }
                for record in found
            ],
            "notes": notes,
        },
    )


@app.command()
def check(
    context: typer.Context,
    domain: DomainName,
    wait: Annotated[bool, typer.Option("--wait", help="Look again until all that is required is right.")] = False,
    timeout: Annotated[float, typer.Option(help="With --wait: give up after so many seconds.", min=0)] = 1800.0,
    every: Annotated[float, typer.Option(help="With --wait: seconds between two looks.", min=0.05)] = 15.0,
) -> None:
    """Look for the domain's records in DNS, and say what is right and what is not; new DKIM keys that it sees sign."""
    run = invocation.of(context)
    with run.administration() as administration:
        row, store = _domain(administration, domain)
        survey = _Survey(run, administration, row, store)
        findings = resolving.ask(run.config, lambda dns: survey.until_right(dns, timeout if wait else 0.0, every))
    run.output.rows(
        {
            "state": "state",
            "importance": "needed",
            "type": "type",
            "name": "name",
            "shown": "found",
            "wanted": "expected",
            "note": "note",
        },
        [_values(finding, as_json=run.output.as_json) for finding in findings],
        "",
    )
    status = verdict(findings)
    run.output.note(_SENTENCES[status].format(domain=row.domain))
    if status is not Verdict.RIGHT:
        raise typer.Exit(REFUSED if status is Verdict.WRONG else UNAVAILABLE)


_SENTENCES = {
    Verdict.RIGHT: "All that {domain} needs is right.",
    Verdict.WRONG: "Something that {domain} needs is wrong or missing; see: cleanmail dns records {domain}",
    Verdict.UNKNOWN: "DNS did not answer about all that {domain} needs: what is unknown may be right.",
}


class _Survey:
    """One domain, looked at once or until it is right."""

    def __init__(self, run: Invocation, administration: Administration, row: DomainRow, store: DkimKeys) -> None:
        self._run = run
        self._administration = administration
        self._row = row
        self._store = store
        self._offer = offer_of(run.config)

    async def until_right(self, dns: Resolver, timeout: float, every: float) -> list[Finding]:
        """The findings of the last look: the first that is all right, or the one at the end of `timeout` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        told: list[str] = []
        while True:
            findings = await self._look(dns)
            left = end - loop.time()
            if left <= 0 or verdict(findings) is Verdict.RIGHT:
                return findings
            waiting = [
                f"{finding.rdtype} {finding.name}"
                for finding in findings
                if finding.importance is Importance.REQUIRED and finding.standing is not Standing.RIGHT
            ]
            if waiting != told:
                self._run.output.note(f"Waiting for {', '.join(waiting)} …")
                told = waiting
            await asyncio.sleep(min(every, left))
            dns.forget()

    async def _look(self, dns: Resolver) -> list[Finding]:
        domain, keys = self._row.domain, self._store.find(self._row.domain)
        fetcher = resolving.policy_fetcher(self._run.config, dns)
        facts = await look_up(dns, domain, self._offer, keys, wanted(domain, self._offer), fetcher)
        facts = self._let_sign(facts)
        current = [seen.key for seen in facts.keys]
        return judge(domain, self._offer, _wanted(self._row, self._offer, current, facts.policy), facts)

    def _let_sign(self, facts: Facts) -> Facts:
        """Tell the key store what was seen; the facts with the keys as they are then."""
        moved = publication.progress(self._store, facts.keys)
        for key in moved:
            details = {"domain": str(key.domain), "selector": key.selector, "state": key.state.value}
            audit = self._administration.installation.audit
            audit.append("dkim.progress", self._run.operator, self._row.tenant_id, details=details)
            if key.domain == self._row.domain and key.state is DkimState.SIGNING:
                self._run.output.note(f"The DKIM key {key.selector} was seen and signs from now on.")
        if not moved:
            return facts
        now = {key.selector: key for key in self._store.find(self._row.domain)}
        keys = tuple(replace(seen, key=now.get(seen.key.selector, seen.key)) for seen in facts.keys)
        return replace(facts, keys=keys)


def offer_of(config: Config) -> Offer:
    """What the configuration says that we offer."""
    told, sources = Offered.of(config), config.relay.source_addresses
    return Offer(
        told.host,
        told.exchangers,
        imaps=told.imaps,
        imap=told.imap,
        submissions=told.submissions,
        submission=told.submission,
        https=told.https,
        dav_path=DAV_PATH,
        agent=pacc.record(told) if told.https == 443 else "",  # other ports have no place in what it vouches for
        serves_policy=told.sts is not None,
        spf_include=normal(config.mail.spf_include) or "",
        reports=EmailAddress.parse(config.mail.reports) if config.mail.reports else None,
        authorities=config.mail.certificate_authorities,
        # Behind address translation nobody sees these; then the host's own addresses in DNS are the best we know.
        senders=sources if sources and all(map(is_public, sources)) else (),
    )


def _domain(administration: Administration, domain: str) -> tuple[DomainRow, DkimKeys]:
    row = administration.control.domain(Domain.parse(domain))
    return row, administration.installation.tenant(row.tenant_id).dkim_keys


def _wanted(row: DomainRow, offer: Offer, keys: Sequence[DkimKey], policy: PolicyAnswer) -> list[Record]:
    token = row.token if row.state is DomainState.PENDING else None
    return wanted(row.domain, offer, keys, ownership=token, sts_id=policy.id if policy.valid else None)


def _values(finding: Finding, *, as_json: bool) -> dict[str, Any]:
    found = ", ".join(finding.found)
    values: dict[str, Any] = {
        "kind": finding.kind,
        "state": finding.standing,
        "importance": finding.importance,
        "type": finding.rdtype,
        "name": finding.name,
        "expected": finding.expected,
        "found": list(finding.found),
        "note": finding.note,
    }
    if as_json:
        return values
    right = finding.standing in (Standing.RIGHT, Standing.UNUSED)
    return {**values, "shown": _short(found), "wanted": "" if right else _short(finding.expected)}


def _short(text: str) -> str:
    """Its begin and its end: where long keys differ."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 16]}…{text[-15:]}"

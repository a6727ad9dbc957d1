"""cleanmail dkim: the keys that sign what leaves, each on its way from made to retired.

A key signs only after it was seen in DNS: `create` or `rotate` makes it, whoever holds the zone publishes it, `dns
check` (or the server's own look, every few minutes) sees it. Every change is durable and an audit record.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from gateway.dkim import publication
from gateway.dkim.publication import Sighting, published_text
from gateway.dns_records.wanted import dkim_record
from gateway.dns_records.zone import zone_text
from hosting.administration import Administration
from hosting.cli import invocation, resolving
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment
from storage.directory.dkim_keys import RETIRING_FOR, SEEN_FOR, UNUSED, DkimAlgorithm, DkimKey, DkimKeys, DkimState
from storage.directory.rows import DomainRow, State
from storage.errors import Conflict, Unavailable
from storage.values import Domain

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="DKIM keys of mail domains: create, list, activate, rotate, retire.",
)

DomainName = Annotated[str, typer.Argument(help="The mail domain, e.g. example.org.")]
Selector = Annotated[str, typer.Argument(help="The key's selector, as in the list.")]


class Algorithms(StrEnum):
    RSA = "rsa"
    ED25519 = "ed25519"
    BOTH = "both"


@app.command()
def create(
    context: typer.Context,
    domain: DomainName,
    algorithm: Annotated[
        Algorithms, typer.Option(help="RSA is understood everywhere; Ed25519 signs beside it.")
    ] = Algorithms.BOTH,
) -> None:
    """Make the first keys of a domain, and print the records to publish."""
    run = invocation.of(context)
    chosen = list(DkimAlgorithm) if algorithm is Algorithms.BOTH else [DkimAlgorithm(algorithm)]
    with run.administration() as administration:
        row, keys = _store(administration, domain)
        for key in keys.find(row.domain):
            if key.algorithm in chosen and key.state is DkimState.SIGNING:
                raise Conflict(
                    f"The {key.algorithm} key {key.selector} signs for {row.domain}; "
                    f"to replace it: cleanmail dkim rotate {row.domain}"
                )
        _publish(
            run,
            administration,
            row,
            "create",
            publication.make(keys, row.domain, chosen, administration.installation.clock),
        )


@app.command()
def rotate(context: typer.Context, domain: DomainName) -> None:
    """Make a successor for each key that signs, and print the records to publish; they change over by themselves."""
    run = invocation.of(context)
    with run.administration() as administration:
        row, keys = _store(administration, domain)
        signing = [key.algorithm for key in keys.find(row.domain) if key.state is DkimState.SIGNING]
        if not signing:
            raise Conflict(f"No key signs for {row.domain} yet; make one with: cleanmail dkim create {row.domain}")
        _publish(
            run,
            administration,
            row,
            "rotate",
            publication.make(keys, row.domain, signing, administration.installation.clock),
        )


@app.command("list")
def list_(
    context: typer.Context,
    domain: Annotated[str | None, typer.Argument(help="The mail domain; all domains if not given.")] = None,
) -> None:
    """List keys with their states, and what each waits for."""
    run = invocation.of(context)
    with run.administration() as administration:
        if domain is not None:
            row, keys = _store(administration, domain)
            found = keys.find(row.domain)
        else:
            living = [tenant for tenant in administration.control.tenants() if tenant.state is not State.ENDED]
            found = [
                key
                for tenant in living
                for key in administration.installation.tenant(tenant.tenant_id).dkim_keys.find()
            ]
    columns = {
        "domain": "domain",
        "selector": "selector",
        "algorithm": "algorithm",
        "state": "state",
        "since": "since",
        "next": "next",
    }
    empty = "There is no DKIM key; make some with: cleanmail dkim create DOMAIN."
    run.output.rows(columns, [_values(key) for key in found], empty)


@app.command()
def activate(context: typer.Context, domain: DomainName, selector: Selector) -> None:
    """Let a key sign from now on, if it stands in DNS; the one that signed retires."""
    run = invocation.of(context)
    with run.administration() as administration:
        row, keys = _store(administration, domain)
        key = keys.show(row.domain, selector)
        [seen] = resolving.ask(run.config, lambda dns: publication.look(dns, [key]))
        if seen.sighting is Sighting.UNKNOWN:
            raise Unavailable(f"DNS gave no answer about {key.name}; try again later.")
        if seen.sighting is not Sighting.PUBLISHED:
            raise Conflict(f"{_NOT_SEEN[seen.sighting].format(name=key.name)} Nothing is signed with a key like that.")
        keys.saw(row.domain, selector)
        begun = keys.begin(row.domain, selector)
        _audit(run, administration, row, "activate", begun)
        run.output.done(f"The key {selector} signs for {row.domain} from now on.", _values(begun))


@app.command()
def retire(
    context: typer.Context,
    domain: DomainName,
    selector: Selector,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="It is in wrong hands: revoke it now, with all that it signed.")
    ] = False,
) -> None:
    """Let a key sign no longer; its record has to stay for seven days. A key that never signed is discarded."""
    run = invocation.of(context)
    with run.administration() as administration:
        row, keys = _store(administration, domain)
        before = keys.show(row.domain, selector)
        after = keys.retire(row.domain, selector, at_once=at_once)
        _audit(run, administration, row, "retire", before)
        if after is None:
            sentence = f"The key {selector} of {row.domain} never signed and was discarded; its record can be removed."
            run.output.done(sentence, {**_values(before), "state": None, "next": None})
            return
        run.output.done(f"The key {selector} of {row.domain} is {after.state}: {_next(after)}.", _values(after))
        if not keys.signing(row.domain):
            run.output.note(f"No key signs for {row.domain} now: its mail leaves unsigned.")


_NOT_SEEN = {
    Sighting.ABSENT: "There is no TXT record at {name}.",
    Sighting.REVOKED: "The record at {name} revokes the key (p= is empty).",
    Sighting.OTHER: "The TXT record at {name} is not this key's.",
}


def _store(administration: Administration, domain: str) -> tuple[DomainRow, DkimKeys]:
    row = administration.control.domain(Domain.parse(domain))
    return row, administration.installation.tenant(row.tenant_id).dkim_keys


def _publish(
    run: Invocation, administration: Administration, row: DomainRow, what: str, made: Sequence[DkimKey]
) -> None:
    for key in made:
        _audit(run, administration, row, what, key)
    records = zone_text([dkim_record(key) for key in made])
    sentence = (
        f"Publish in the zone of {row.domain}:\n\n{records}\nand then run: cleanmail dns check {row.domain} --wait\n"
        "A key begins to sign once it was seen in DNS."
    )
    run.output.done(sentence, {"domain": str(row.domain), "keys": [_values(key) for key in made]})


def _audit(run: Invocation, administration: Administration, row: DomainRow, what: str, key: DkimKey) -> None:
    details = {"domain": str(key.domain), "selector": key.selector, "algorithm": key.algorithm.value}
    administration.installation.audit.append(f"dkim.{what}", run.operator, row.tenant_id, details=details)


def _values(key: DkimKey) -> dict[str, Any]:
    return {
        "domain": str(key.domain),
        "selector": key.selector,
        "algorithm": key.algorithm.value,
        "state": key.state.value,
        "since": moment(key.changed),
        "next": _next(key),
        "name": key.name,
        "record": published_text(key),
    }


def _next(key: DkimKey) -> str | None:
    """What the key waits for, for people."""
    if key.state in UNUSED:
        if key.state is DkimState.SEEN:
            return f"signs from {moment(key.changed + SEEN_FOR)} on"
        return f"publish it, then: cleanmail dns check {key.domain}"
    if key.state is DkimState.RETIRING:
        return f"its record stays until {moment(key.changed + RETIRING_FOR)}"
    return "publish its record with an empty p=" if key.state is DkimState.RETIRED else None

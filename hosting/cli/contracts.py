"""cleanmail contract: what was agreed with customers, and when it ends.

Only a person sets the end, and can take it back until it is reached; then everything of the customer is erased. Every
change is an audit record, and counts at once for who is signed in.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from hosting.administration import Administration
from hosting.cli import invocation, quantities
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment, size
from hosting.cli.recording import record_all
from hosting.contracts.reminders import Reminders
from storage.changes import TenantChanged
from storage.directory.approvals import Kind, scope_of
from storage.directory.resolve import Resolver
from storage.directory.rows import State, TenantRow
from storage.directory.terms import Contract, ContractLimits, Feature, Intake, check_end, is_early, parse_features
from storage.errors import Conflict, Gone, InvalidInput, NotPermitted
from storage.values import EmailAddress, TenantId

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Contracts with customers: show, list, set limits and terms, end, remind.",
)

Slug = Annotated[str, typer.Argument(help="Short name of the tenant, or its number.")]
Count = Annotated[int | None, typer.Option(min=0, show_default=False, help="How many; 0: no limit.")]
Days = Annotated[int | None, typer.Option(min=0, max=3650, show_default=False)]

_INTAKES = {
    Intake.OPEN: "taken",
    Intake.FULL: "waits at its senders: above the contract's storage",
    Intake.DEFERRED: "waits at its senders: the contract ends",
    Intake.CLOSED: "refused: the contract ends",
}


@app.command()
def show(context: typer.Context, slug: Slug) -> None:
    """Show what was agreed with a tenant, how much of it is used, and when it ends."""
    run = invocation.of(context)
    with run.administration() as administration:
        row = invocation.find_tenant(administration, slug)
        whose = (row.tenant_id if row.state is not State.ENDED else None, None)  # of an ended one there is no key
        record_all(run, administration, "contract.show", [whose], {"tenant": str(int(row.tenant_id))})
        run.output.record(_values(administration, row))


@app.command("list")
def list_(context: typer.Context) -> None:
    """List contracts about which something was agreed; all others have neither limits nor an end."""
    run = invocation.of(context)
    with run.administration() as administration:
        tenants = {row.tenant_id: row for row in administration.control.tenants()}
        found = [each for each in administration.control.contracts.all() if each.tenant_id in tenants]
    rows = [
        {
            "slug": tenants[each.tenant_id].slug,
            "state": tenants[each.tenant_id].state,
            "started": moment(each.started),
            "ends": moment(each.ends),
            "accounts": each.limits.accounts or None,
            "storage": each.limits.bytes or None,
            "domains": each.limits.domains or None,
        }
        for each in found
    ]
    columns = {
        "slug": "tenant",
        "state": "state",
        "started": "since",
        "ends": "ends",
        "accounts": "accounts",
        "storage": "bytes",
        "domains": "domains",
    }
    run.output.rows(columns, rows, "No contract has limits or an end.")


@app.command("set")
def set_(
    context: typer.Context,
    slug: Slug,
    accounts: Count = None,
    domains: Count = None,
    storage: Annotated[
        str, typer.Option(metavar="SIZE", help="Of all accounts together: 50G, unlimited; see below.")
    ] = "",
    feature: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What is included, several times: " + ", ".join(Feature) + "."),
    ] = None,
    all_features: Annotated[bool, typer.Option("--all-features", help="Everything is included.")] = False,
    started: Annotated[str, typer.Option(metavar="DATE", help="Since when it runs.")] = "",
    notice_days: Annotated[
        int | None, typer.Option(min=0, max=3650, show_default=False, help="Days before its end to give notice.")
    ] = None,
    read_only_days: Annotated[
        int | None,
        typer.Option(min=0, max=3650, show_default=False, help="Days before its end in which mail can only be read."),
    ] = None,
    contact: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Who is told of the end, beside postmaster; 'none': nobody.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Why less notice; another person decides by it.")] = "",
) -> None:
    """Set what a contract includes.

    Less notice than was agreed needs a second person, as an end before it does: the first run asks for the approval.

    What is there already stays; only more of it is refused. The quotas of accounts may not be more together than the
    storage; what accounts without a quota store counts when it is measured, once an hour: above the storage, new mail
    waits at its senders (452), and nothing can be appended until something is deleted or the storage raised.
    """
    run = invocation.of(context)
    now = int(time.time())
    if feature and all_features:
        raise InvalidInput("Say either --feature or --all-features.")
    begins = quantities.moment(started, now) if started else None
    octets = quantities.size(storage) if storage else None
    features = frozenset[Feature]() if all_features else parse_features(feature) if feature else None
    address = EmailAddress.parse(contact) if contact not in ("", "none") else None
    with run.administration() as administration:
        row = _living(administration, slug)
        contracts = administration.control.contracts
        _begin(run, administration, row.tenant_id)
        before = contracts.of(row.tenant_id)
        limits = ContractLimits(
            before.limits.accounts if accounts is None else accounts,
            before.limits.bytes if octets is None else octets,
            before.limits.domains if domains is None else domains,
            before.limits.features if features is None else features,
        )
        details = _changes(before, limits, begins, notice_days, read_only_days)
        if contact:
            details["contact"] = contact
        if not details:
            raise InvalidInput("Nothing was said to be set; see: cleanmail contract set --help.")
        if notice_days is not None and notice_days < before.notice_days:
            shorter = {"notice_days": str(notice_days)}
            if not _approved(run, administration, row, shorter, reason):
                return
        administration.installation.audit.append("contract.set", run.operator, row.tenant_id, None, details)
        contracts.set_limits(row.tenant_id, limits)
        contracts.set_terms(row.tenant_id, started=begins, notice_days=notice_days, read_only_days=read_only_days)
        if contact:
            contracts.set_contact(row.tenant_id, address)
        administration.installation.announce(TenantChanged(row.tenant_id))
        run.output.record(_values(administration, row))


@app.command()
def end(
    context: typer.Context,
    slug: Slug,
    day: Annotated[
        str, typer.Argument(metavar="[DATE]", help="Its last day, to midnight UTC: 2026-12-31; or a moment.")
    ] = "",
    never: Annotated[bool, typer.Option("--never", help="It goes on: take the end back.")] = False,
    early: Annotated[
        bool, typer.Option("--early", help="Before the period of notice is over; another person has to approve it.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why early; the other person decides by it.")] = "",
) -> None:
    """Set when a contract ends, or take that back. At its end everything of the tenant is erased for good.

    With --early the first run asks for a second person's approval; once it is given, the same command sets the end.
    """
    run = invocation.of(context)
    if never == bool(day):
        raise InvalidInput("Say on which day it ends, or --never.")
    ends = None if never else last_moment(day)
    with run.administration() as administration:
        installation, contracts = administration.installation, administration.control.contracts
        row = _living(administration, slug)
        _begin(run, administration, row.tenant_id)
        before, now = contracts.of(row.tenant_id), installation.clock.now()
        check_end(before, ends, now, early=early)
        what = {"ends": str(moment(ends))}
        needs_two = ends is not None and is_early(before, ends, now)
        if needs_two and not _approved(run, administration, row, what, reason):
            return
        details = {"ends": moment(ends) or "never", "before": moment(before.ends) or "never"}
        number = installation.audit.append("contract.end", run.operator, row.tenant_id, None, details)
        found = contracts.set_end(row.tenant_id, ends, run.operator, early=needs_two)
        installation.announce(TenantChanged(row.tenant_id))
        if ends is None:
            sentence = f"The contract of '{row.slug}' goes on; this is audit record {number}."
        else:
            sentence = f"The contract of '{row.slug}' ends on {moment(ends)}, and then everything of it is erased."
            if found.read_only_days:
                sentence += f" From {moment(found.read_only_from)} on mail can only be read and exported."
        run.output.done(sentence, {**_values(administration, row), "audit_record": number})


@app.command()
def remind(context: typer.Context, slug: Slug) -> None:
    """Remind a customer of the end of his contract now; otherwise it happens by itself ([contracts] reminders)."""
    run = invocation.of(context)
    with run.administration() as administration:
        row = _living(administration, slug)
        contract = administration.control.contracts.of(row.tenant_id)
        if contract.ends is None:
            raise Conflict(f"The contract of '{row.slug}' has no end; set one first: cleanmail contract end.")
        installation = administration.installation
        details = {"ends": str(moment(contract.ends))}
        installation.audit.append("contract.remind", run.operator, row.tenant_id, None, details)
        resolver = Resolver(installation, run.config.postmaster)
        count = Reminders(installation, resolver, run.config.contracts.days, run.config.server.name).send_now(contract)
    if not count:
        raise Conflict("Nobody could be told: the contract has no contact, and the tenant no postmaster.")
    run.output.done(f"{count} {'was' if count == 1 else 'were'} reminded.", {"reminded": count})


def last_moment(day: str) -> int:
    """The last second of a day that is named alone; else the moment."""
    try:
        last = date.fromisoformat(day.strip())
    except ValueError:
        return quantities.moment(day, int(time.time()))
    return int(datetime(last.year, last.month, last.day, 23, 59, 59, tzinfo=UTC).timestamp())


def _approved(
    run: Invocation, administration: Administration, row: TenantRow, what: dict[str, str], reason: str
) -> bool:
    """Whether another person has agreed to what lets a contract end early; if nobody was asked so far, that is done."""
    approvals, scope = administration.control.approvals, scope_of(row.tenant_id, None, **what)
    try:
        approvals.use(Kind.EARLY_ERASURE, scope, run.operator)
    except NotPermitted:
        waiting = [each for each in approvals.waiting() if each.kind is Kind.EARLY_ERASURE and each.scope == scope]
        if waiting:
            raise NotPermitted(
                f"Request {waiting[0].approval_id} waits for a second person:"
                f" cleanmail request approve {waiting[0].approval_id}."
            ) from None
        if not reason:
            raise InvalidInput("This needs a --reason, by which a second person decides.") from None
        made = approvals.ask(
            Kind.EARLY_ERASURE,
            scope,
            reason,
            run.operator,
            row.tenant_id,
            unix=run.person.name,
            days=run.config.staff.approval_days,
        )
        run.output.done(
            f"Nothing was changed so far. Another person has to approve it: cleanmail request approve"
            f" {made.approval_id}; then run this command again.",
            {"request": made.approval_id, "waits": True},
        )
        return False
    return True


def _living(administration: Administration, slug: str) -> TenantRow:
    row = invocation.find_tenant(administration, slug)
    if row.state is State.ENDED:
        raise Gone("The tenant's contract has ended.")
    return row


def _begin(run: Invocation, administration: Administration, tenant_id: TenantId) -> None:
    """A contract of which nothing was written down so far begins with the installation's terms."""
    contracts, policy = administration.control.contracts, run.config.contracts
    if contracts.find(tenant_id) is None and (policy.notice_days or policy.read_only_days):
        contracts.set_terms(tenant_id, notice_days=policy.notice_days, read_only_days=policy.read_only_days)


def _changes(
    before: Contract, limits: ContractLimits, started: int | None, notice_days: int | None, read_only_days: int | None
) -> dict[str, str]:
    """What an audit record says."""
    old, features = before.limits, ",".join(sorted(limits.features))
    values = {
        "accounts": (old.accounts, limits.accounts),
        "bytes": (old.bytes, limits.bytes),
        "domains": (old.domains, limits.domains),
        "features": (",".join(sorted(old.features)), features),
        "started": (before.started, before.started if started is None else started),
        "notice_days": (before.notice_days, before.notice_days if notice_days is None else notice_days),
        "read_only_days": (before.read_only_days, before.read_only_days if read_only_days is None else read_only_days),
    }
    return {name: f"{was} -> {now}" for name, (was, now) in values.items() if was != now}


def _values(administration: Administration, row: TenantRow) -> dict[str, Any]:
    contract = administration.control.contracts.of(row.tenant_id)
    limits = contract.limits
    now = administration.installation.clock.now()
    ended = row.state is State.ENDED
    contact = None if ended else administration.control.contracts.contact(row.tenant_id)
    return {
        "tenant": row.slug,
        "number": int(row.tenant_id),
        "started": moment(contract.started),
        "notice_days": contract.notice_days,
        "ends": moment(contract.ends),
        "ended_by": contract.ended_by,
        "read_only_days": contract.read_only_days,
        "read_only_from": moment(contract.read_only_from),
        "last_reminder_days": contract.reminded or None,
        "contact": str(contact) if contact is not None else None,
        "accounts": None if ended else len(administration.installation.tenant(row.tenant_id).accounts()),
        "accounts_limit": limits.accounts or "unlimited",
        "domains": len(administration.control.domains(row.tenant_id)),
        "domains_limit": limits.domains or "unlimited",
        "storage_used": size(contract.used_bytes) if contract.measured is not None else None,
        "storage_measured": moment(contract.measured),
        "storage_limit": size(limits.bytes) if limits.bytes else "unlimited",
        "features": sorted(limits.features) or "all",
        "new_mail": "erased" if ended else _INTAKES[contract.intake(now)],
    }

"""cleanmail quarantine: mail that the filter withheld: header lines only, never a body.

Subjects, authors and header lines are shown to people with a recorded secrecy agreement; others see what the traces
show, too, and can decide all the same. Every list, view and change names who made it in the audit records, before it is
made; what is released or deleted shows in the message's trace.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import islice
from typing import Annotated, Any

import typer

from gateway.policy.verdict import Reason
from hosting import composition
from hosting.cli import invocation, quantities
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment, size
from hosting.composition import Administration
from hosting.quarantine.assembly import make_service
from hosting.quarantine.scope import Scope
from hosting.quarantine.service import QuarantineService
from storage.directory.rows import State, TenantRow
from storage.errors import CleanmailError, Gone, InvalidInput, NotFound
from storage.quarantine.values import HeldRecipient, HeldState, Query, Withheld
from storage.values import AccountId, EmailAddress, TenantId

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Mail that the filter withheld: list, search, show, release, delete, report, summary. Header lines only, for "
    "people with a recorded secrecy agreement.",
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids in the list.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.")]
OfAccount = Annotated[str | None, typer.Option("--account", help="Only what is for this account's mailbox.")]
To = Annotated[str, typer.Option("--to", help="A recipient: an address, or @domain.")]
From = Annotated[str, typer.Option("--from", help="A part of the sender: of the envelope's, or of the From field.")]
Subject = Annotated[str, typer.Option(help="A part of the subject.")]
Why = Annotated[Reason | None, typer.Option("--reason", help="Only what was withheld for this reason.")]
InState = Annotated[HeldState | None, typer.Option("--state", help="Only with a recipient in this state.")]
Reported = Annotated[
    bool | None, typer.Option("--reported/--not-reported", help="Only what was said to be wrongly withheld, or not.")
]
Since = Annotated[str | None, typer.Option(help="Arrived from then on: 2026-05-01, 2026-05-01T12:30, 3h, 2d.")]
Until = Annotated[str | None, typer.Option(help="Arrived until then.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Limit = Annotated[int, typer.Option(help="At most so many.", min=1)]
Before = Annotated[str, typer.Option(metavar="ID", help="Go on with what is older than this one.")]

_COLUMNS = {
    "id": "id",
    "tenant": "tenant",
    "received": "received",
    "reason": "reason",
    "from": "from",
    "to": "to",
    "subject": "subject",
}
_CLOSED_COLUMNS = {(name := key.replace("from", "sender")): name for key in _COLUMNS}  # the envelope's


@dataclass(frozen=True, slots=True)
class _Options:
    """What a command line asks for, before the stores are open."""

    tenant: str | None = None
    account: str | None = None
    query: Query = field(default_factory=Query)

    @property
    def empty(self) -> bool:
        return self == _Options()


@dataclass(frozen=True, slots=True)
class _Desk:
    administration: Administration
    service: QuarantineService
    scope: Scope

    @property
    def closed(self) -> str:
        """Why subjects, authors and header lines are not shown; empty if they are."""
        return self.service.closed(self.scope)

    def asked(self, options: _Options) -> tuple[list[TenantRow], Query]:
        """The tenants that may have such mail, and the query with the account's number in it."""
        query, control = options.query, self.administration.control
        if options.account is not None:
            whose = invocation.find_account(self.administration, options.account)
            query = replace(query, account_id=whose.account.account_id)
            if options.tenant is not None and self.tenant(options.tenant).tenant_id != whose.tenant.tenant_id:
                raise InvalidInput("The account belongs to another tenant.")
            return [whose.tenant], query
        if options.tenant is not None:
            return [self.tenant(options.tenant)], query
        return [row for row in control.tenants() if row.state is not State.ENDED], query

    def tenant(self, name: str) -> TenantRow:
        return invocation.find_tenant(self.administration, name)

    def each(self, options: _Options) -> Iterator[tuple[TenantRow, Withheld]]:
        """All that is held and like that, to decide on; of one tenant after the other."""
        tenants, query = self.asked(options)
        for row in tenants:
            for message in self.service.matching(self.scope, row.tenant_id, query):
                yield row, message

    def find(self, quarantine_id: str, tenant: str | None) -> TenantId:
        return self.tenant(tenant).tenant_id if tenant is not None else self.service.find(self.scope, quarantine_id)


@app.command("list")
def list_(
    context: typer.Context,
    tenant: OfTenant = None,
    account: OfAccount = None,
    to: To = "",
    sender: From = "",
    subject: Subject = "",
    reason: Why = None,
    state: InState = None,
    reported: Reported = None,
    since: Since = None,
    until: Until = None,
    before: Before = "",
    limit: Limit = 100,
) -> None:
    """List withheld messages, the newest first."""
    query = _query(to, sender, subject, reason, state, reported, since, until)
    _list(context, _Options(tenant, account, query), before, limit)


@app.command()
def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="A part of the sender, the subject or a recipient.")],
    tenant: OfTenant = None,
    account: OfAccount = None,
    since: Since = None,
    until: Until = None,
    before: Before = "",
    limit: Limit = 100,
) -> None:
    """Find withheld messages by words in their senders, subjects or recipients; bodies are not looked into.

    Without a recorded secrecy agreement only the addresses of the envelope are.
    """
    if not text.strip():
        raise InvalidInput("Say what to look for.")
    query = replace(_query(since=since, until=until), text=text.strip())
    _list(context, _Options(tenant, account, query), before, limit)


@app.command()
def show(
    context: typer.Context,
    quarantine_id: Annotated[str, typer.Argument(metavar="ID", help="The id in the list.")],
    tenant: OfTenant = None,
) -> None:
    """Show one message: why it was withheld, for whom, and its header lines.

    Header lines are for people with a recorded secrecy agreement; `filter report` counts whose were seen.
    """
    run = invocation.of(context)
    with _desk(run) as desk:
        closed = desk.closed
        tenant_id = desk.find(quarantine_id, tenant)
        message, header = desk.service.show(desk.scope, tenant_id, quarantine_id)
        slug = desk.administration.control.tenant(tenant_id).slug
        logins = {row.account_id: row.login for row in desk.administration.installation.tenant(tenant_id).accounts()}
    recipients = [_recipient(each, logins) for each in message.recipients]
    values = {
        "id": message.quarantine_id,
        "tenant": slug,
        "received": moment(message.received),
        "expires": moment(message.expires),
        "size": message.size,
        "sender": str(message.sender or "<>"),
        "reason": message.reason,
        "score": message.score,
    }
    lines, said = (None, message.facts) if header is None else (header.lines(), header.facts)
    if run.output.as_json:
        fields = None if lines is None else [{"name": name, "value": value} for name, value in lines]
        run.output.record({**values, "facts": dict(said), "recipients": recipients, "header": fields})
        return
    score = None if message.score is None else f"{message.score:.1f}"
    facts = ", ".join(f"{name} {value}" for name, value in said.items() if value)
    run.output.record({**values, "size": size(message.size), "score": score, "facts": facts})
    columns = {"address": "recipient", "goes_to": "goes to", "state": "state", "reported": "reported", "why": "why"}
    run.output.rows(columns, recipients, "It is for nobody any more.")
    otherwise = list(dict.fromkeys(each["counterfactual"] for each in recipients if each["counterfactual"]))
    blocks = [("Otherwise", otherwise)] if otherwise else []
    if lines is not None:
        blocks.append(("Header", [f"{name}: {value}" for name, value in lines]))
    run.output.blocks(blocks, [], "There is nothing more to show.")
    _note_closed(run, closed)


@app.command()
def release(
    context: typer.Context,
    ids: Ids = None,
    tenant: OfTenant = None,
    account: OfAccount = None,
    to: To = "",
    sender: From = "",
    subject: Subject = "",
    reason: Why = None,
    reported: Reported = None,
    since: Since = None,
    until: Until = None,
    allow: Annotated[
        bool, typer.Option("--allow", help="Put the author on the tenant's allow list: let such mail pass from now on.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Let messages go where they would have gone: those that are named, or all that are like that.

    It teaches the filter that such mail is wanted.
    """

    def carry_out(desk: _Desk, tenant_id: TenantId, quarantine_id: str) -> str:
        found = desk.service.release(desk.scope, tenant_id, quarantine_id, allow=allow)
        if found.failed:
            raise next(iter(found.failed.values()))
        if not found.released:
            raise NotFound("It is not held any more.")
        return "released"

    options = _Options(tenant, account, _query(to, sender, subject, reason, None, reported, since, until))
    _decide(context, "Release", ids or [], options, carry_out, yes=yes)


@app.command()
def delete(
    context: typer.Context,
    ids: Ids = None,
    tenant: OfTenant = None,
    account: OfAccount = None,
    to: To = "",
    sender: From = "",
    subject: Subject = "",
    reason: Why = None,
    reported: Reported = None,
    since: Since = None,
    until: Until = None,
    yes: Yes = False,
) -> None:
    """Delete messages for good: those that are named, or all that are like that. It teaches the filter nothing."""

    def carry_out(desk: _Desk, tenant_id: TenantId, quarantine_id: str) -> str:
        if not desk.service.delete(desk.scope, tenant_id, quarantine_id):
            raise NotFound("It is not held any more.")
        return "deleted"

    options = _Options(tenant, account, _query(to, sender, subject, reason, None, reported, since, until))
    _decide(context, "Delete", ids or [], options, carry_out, yes=yes)


@app.command()
def report(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids in the list.")],
    tenant: OfTenant = None,
) -> None:
    """Say that messages were wrongly withheld, and ask a reviewer to look at their header lines.

    They stay held until somebody releases them.
    """

    def carry_out(desk: _Desk, tenant_id: TenantId, quarantine_id: str) -> str:
        new = desk.service.report(desk.scope, tenant_id, quarantine_id)
        return "reported" if new else "reported before"

    _decide(context, "Report", ids, _Options(tenant), carry_out, yes=True)


@app.command()
def summary(context: typer.Context, tenant: OfTenant = None) -> None:
    """Show how much is held, of each tenant."""
    run = invocation.of(context)
    rows: list[dict[str, Any]] = []
    with _desk(run) as desk:
        limits = run.config.filter
        for row in desk.asked(_Options(tenant))[0]:
            try:
                counts = desk.service.counts(desk.scope, row.tenant_id)
            except (NotFound, Gone):
                continue
            rows.append(
                {
                    "tenant": row.slug,
                    "messages": counts.messages,
                    "size": counts.octets,
                    "full": max(
                        100 * counts.messages // limits.quarantine_messages,
                        100 * counts.octets // limits.quarantine_size,
                    ),
                    "oldest": moment(counts.oldest),
                    "reported": counts.reported,
                    "reasons": dict(counts.reasons),
                }
            )
    if not run.output.as_json:
        rows = [
            {
                **each,
                "size": size(each["size"]),
                "full": f"{each['full']} %",
                "reasons": ", ".join(f"{count} {reason}" for reason, count in each["reasons"].items()),
            }
            for each in rows
        ]
    columns = {name: name for name in ("tenant", "messages", "size", "full", "oldest", "reported", "reasons")}
    run.output.rows(columns, rows, "There is no tenant.")


@contextmanager
def _desk(run: Invocation) -> Iterator[_Desk]:
    with run.administration() as administration:
        users = composition.server_users(run.data, run.config)
        service = make_service(administration.installation, run.config, administration.resolver, server_users=users)
        own = run.who.tenant_id
        scope = Scope.operator(run.operator, run.who) if own is None else Scope.administrator(run.operator, own)
        yield _Desk(administration, service, scope)


def _list(context: typer.Context, options: _Options, before: str, limit: int) -> None:
    run = invocation.of(context)
    with _desk(run) as desk:
        closed = desk.closed
        tenants, query = desk.asked(options)
        pages = []
        for row in tenants:
            try:
                page = desk.service.list(desk.scope, row.tenant_id, query, before=before, limit=limit + 1)
            except (NotFound, Gone):  # ended this moment
                continue
            pages.append([(message.quarantine_id, row.slug, message) for message in page.messages])
        found = list(islice(merge(*pages, key=lambda each: each[0], reverse=True), limit + 1))
    rows = [_values(slug, message, shown=not closed) for _, slug, message in found[:limit]]
    if not run.output.as_json:
        rows = [{**row, "to": _first(row["to"])} for row in rows]
    empty = "Nothing is withheld." if options.empty else "Nothing that is withheld is like that."
    run.output.rows(_CLOSED_COLUMNS if closed else _COLUMNS, rows, empty)
    if rows or options.query.looks_at_texts:
        _note_closed(run, closed, options.query)
    if len(found) > limit:
        run.output.note(f"There is more; go on with --before {found[limit - 1][0]}.")


def _decide(
    context: typer.Context,
    what: str,
    ids: list[str],
    options: _Options,
    carry_out: Callable[[_Desk, TenantId, str], str],
    *,
    yes: bool,
) -> None:
    """One decision for each message that is named, or that is like the options; says what could not be done."""
    run = invocation.of(context)
    if not ids and options.empty:
        raise InvalidInput("Say which: give ids, or options that describe the messages.")
    if ids and (options.account is not None or not options.query.empty):
        raise InvalidInput("Ids and options that describe messages exclude each other.")
    outcomes: list[dict[str, Any]] = []
    with _desk(run) as desk:
        if ids:
            chosen = [(desk.find(each, options.tenant), each) for each in dict.fromkeys(ids)]
        else:
            chosen = [(row.tenant_id, message.quarantine_id) for row, message in desk.each(options)]
            if options.query.looks_at_texts:
                _note_closed(run, desk.closed, options.query)
            if chosen and not yes:
                _confirm(f"{what} {_number(len(chosen))}?")
        with run.output.progress() as bar:
            for tenant_id, quarantine_id in bar.track(chosen, description=what) if len(chosen) > 1 else chosen:
                try:
                    outcome, error = carry_out(desk, tenant_id, quarantine_id), None
                except CleanmailError as failure:
                    if len(chosen) == 1:
                        raise
                    outcome, error = "failed", failure.public
                outcomes.append({"id": quarantine_id, "outcome": outcome, "error": error})
    _tell(run, what, outcomes)


def _tell(run: Invocation, what: str, outcomes: list[dict[str, Any]]) -> None:
    failed = [each for each in outcomes if each["error"] is not None]
    for each in failed:
        run.output.note(f"{each['id']}: {each['error']}")
    done = len(outcomes) - len(failed)
    if len(outcomes) == 1 and done:
        sentence = f"{outcomes[0]['id']} is {outcomes[0]['outcome']}."
    else:
        verb = {"Release": "released", "Delete": "deleted", "Report": "reported"}[what]
        sentence = f"{_number(done)} {'was' if done == 1 else 'were'} {verb}."
    run.output.done(sentence, {"messages": outcomes})
    if failed:
        raise typer.Exit(1)


def _note_closed(run: Invocation, closed: str, query: Query = Query()) -> None:  # noqa: B008 - it is immutable
    """Once for a command: why something is not shown, and what a search did without."""
    if closed:
        searched = " Only the addresses of the envelope were searched." if query.looks_at_texts else ""
        run.output.note(f"{closed}{searched}")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise InvalidInput("This needs --yes where there is no terminal to ask on.")
    typer.confirm(question, abort=True, err=True)


def _query(
    to: str = "",
    sender: str = "",
    subject: str = "",
    reason: Reason | None = None,
    state: HeldState | None = None,
    reported: bool | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Query:
    now = int(time.time())
    if to and not to.startswith("@"):
        EmailAddress.parse(to)
    return Query(
        recipient=to,
        sender=sender,
        subject=subject,
        reason="" if reason is None else reason.value,
        state=state,
        reported=reported,
        since=None if since is None else quantities.moment(since, now),
        until=None if until is None else quantities.moment(until, now),
    )


def _values(slug: str, message: Withheld, *, shown: bool) -> dict[str, Any]:
    """`shown`: whether also what header fields say."""
    return {
        "id": message.quarantine_id,
        "tenant": slug,
        "received": moment(message.received),
        "expires": moment(message.expires),
        "size": message.size,
        "sender": str(message.sender or "<>"),
        "from": message.author or str(message.sender or "<>") if shown else None,
        "to": [str(each.address) for each in message.recipients],
        "subject": message.subject if shown else None,
        "reason": message.reason,
        "score": message.score,
        "states": list(dict.fromkeys(each.state.value for each in message.recipients)),
        "reported": message.reported,
    }


def _recipient(recipient: HeldRecipient, logins: Mapping[AccountId, EmailAddress]) -> dict[str, Any]:
    onward = recipient.onward
    account = None if onward.account_id is None else logins.get(onward.account_id)
    return {
        "address": str(recipient.address),
        "goes_to": str(account or onward.to or "-"),
        "account": onward.account_id,
        "state": recipient.state.value,
        "reported": moment(recipient.reported),
        "reason": recipient.reason,
        "why": recipient.sentence,
        "counterfactual": recipient.counterfactual,
    }


def _first(addresses: list[str]) -> str:
    unique = list(dict.fromkeys(addresses))
    return unique[0] if len(unique) == 1 else f"{unique[0]} and {len(unique) - 1} more"


def _number(count: int) -> str:
    return f"{count} message{'' if count == 1 else 's'}"

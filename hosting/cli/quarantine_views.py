"""cleanmail quarantine list, search, show and summary: what is withheld, and why; header lines only, never a body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from heapq import merge
from itertools import islice
from typing import Annotated, Any

import typer

from hosting.cli import invocation
from hosting.cli.output import moment, size
from hosting.cli.quarantine_desk import (
    Before,
    From,
    InState,
    Limit,
    OfAccount,
    OfTenant,
    Options,
    Reported,
    Since,
    Subject,
    To,
    Until,
    Why,
    note_closed,
    open_desk,
    query_of,
)
from storage.errors import Gone, InvalidInput, NotFound
from storage.quarantine.values import HeldRecipient, Withheld
from storage.values import AccountId, EmailAddress

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
    query = query_of(to, sender, subject, reason, state, reported, since, until)
    _list(context, Options(tenant, account, query), before, limit)


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
    query = replace(query_of(since=since, until=until), text=text.strip())
    _list(context, Options(tenant, account, query), before, limit)


def show(
    context: typer.Context,
    quarantine_id: Annotated[str, typer.Argument(metavar="ID", help="The id in the list.")],
    tenant: OfTenant = None,
) -> None:
    """Show one message: why it was withheld, for whom, and its header lines.

    Header lines are for people with a recorded secrecy agreement; `filter report` counts whose were seen.
    """
    run = invocation.of(context)
    with open_desk(run) as desk:
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
    note_closed(run, closed)


def summary(context: typer.Context, tenant: OfTenant = None) -> None:
    """Show how much is held, of each tenant."""
    run = invocation.of(context)
    rows: list[dict[str, Any]] = []
    with open_desk(run) as desk:
        limits = run.config.filter
        for row in desk.asked(Options(tenant))[0]:
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


def _list(context: typer.Context, options: Options, before: str, limit: int) -> None:
    run = invocation.of(context)
    with open_desk(run) as desk:
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
        note_closed(run, closed, options.query)
    if len(found) > limit:
        run.output.note(f"There is more; go on with --before {found[limit - 1][0]}.")


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

"""cleanmail quarantine release, delete and report: one decision for each message that is named, or that is like that.

What was released or deleted shows in the message's trace. What cannot be done for one message is said, and the others
are decided on all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.cli.quarantine_desk import (
    Desk,
    From,
    Ids,
    OfAccount,
    OfTenant,
    Options,
    Reported,
    Since,
    Subject,
    To,
    Until,
    Why,
    Yes,
    note_closed,
    open_desk,
    query_of,
)
from storage.errors import CleanmailError, InvalidInput, NotFound
from storage.values import TenantId


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

    def carry_out(desk: Desk, tenant_id: TenantId, quarantine_id: str) -> str:
        found = desk.service.release(desk.scope, tenant_id, quarantine_id, allow=allow)
        if found.failed:
            raise next(iter(found.failed.values()))
        if not found.released:
            raise NotFound("It is not held any more.")
        return "released"

    options = Options(tenant, account, query_of(to, sender, subject, reason, None, reported, since, until))
    _decide(context, "Release", ids or [], options, carry_out, yes=yes)


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

    def carry_out(desk: Desk, tenant_id: TenantId, quarantine_id: str) -> str:
        if not desk.service.delete(desk.scope, tenant_id, quarantine_id):
            raise NotFound("It is not held any more.")
        return "deleted"

    options = Options(tenant, account, query_of(to, sender, subject, reason, None, reported, since, until))
    _decide(context, "Delete", ids or [], options, carry_out, yes=yes)


def report(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids in the list.")],
    tenant: OfTenant = None,
) -> None:
    """Say that messages were wrongly withheld, and ask a reviewer to look at their header lines.

    They stay held until somebody releases them.
    """

    def carry_out(desk: Desk, tenant_id: TenantId, quarantine_id: str) -> str:
        new = desk.service.report(desk.scope, tenant_id, quarantine_id)
        return "reported" if new else "reported before"

    _decide(context, "Report", ids, Options(tenant), carry_out, yes=True)


def _decide(
    context: typer.Context,
    what: str,
    ids: list[str],
    options: Options,
    carry_out: Callable[[Desk, TenantId, str], str],
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
    with open_desk(run) as desk:
        if ids:
            chosen = [(desk.find(each, options.tenant), each) for each in dict.fromkeys(ids)]
        else:
            chosen = [(row.tenant_id, message.quarantine_id) for row, message in desk.each(options)]
            if options.query.looks_at_texts:
                note_closed(run, desk.closed, options.query)
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


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise InvalidInput("This needs --yes where there is no terminal to ask on.")
    typer.confirm(question, abort=True, err=True)


def _number(count: int) -> str:
    return f"{count} message{'' if count == 1 else 's'}"

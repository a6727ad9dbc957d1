"""cleanmail hold: legal holds, which keep what they cover from being erased by anybody or anything.

Two persons make one: who asks, and who approves (`cleanmail request approve`), and it is in force from then on. It ends
by itself, or two persons lift it before, in the same way. Every step is an audit record.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hosting.administration import Administration
from hosting.cli import invocation
from hosting.cli.contracts import last_moment
from hosting.cli.output import moment
from hosting.contracts.holding import ask_for_hold, ask_to_lift
from storage.directory.holds import Hold
from storage.values import AccountId, TenantId

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Legal holds: what must not be erased, whoever asks and whatever time has passed. Add, list, lift.",
)


@app.command()
def add(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="TENANT|ADDRESS", help="All of a tenant, or one account.")],
    until: Annotated[str, typer.Option(metavar="DATE", help="The last day of the hold: 2027-12-31.")],
    reason: Annotated[str, typer.Option(help="Why, such as the number of the case; sealed, and shown to auditors.")],
) -> None:
    """Ask for a legal hold; it is in force once another person approves it.

    While it is, retention, a deletion, the end of the contract and a person's erasure leave everything in its scope as
    it is, and the owner can still read, write and delete his mail himself.
    """
    run = invocation.of(context)
    with run.administration() as administration:
        tenant_id, account_id = _subject(administration, subject)
        made = ask_for_hold(
            administration.installation,
            tenant_id,
            account_id,
            ends=last_moment(until),
            reason=reason,
            by=run.operator,
            unix=run.person.name,
            days=run.config.staff.approval_days,
        )
    run.output.done(
        f"Nothing is held so far. Another person has to approve it: cleanmail request approve {made.approval_id}.",
        {"request": made.approval_id, "expires": moment(made.expires)},
    )


@app.command("list")
def list_(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
) -> None:
    """List legal holds, with their reasons: this is an audit record."""
    run = invocation.of(context)
    with run.administration() as administration:
        installation, holds = administration.installation, administration.control.holds
        now = installation.clock.now()
        found = [each for each in holds.all() if everything or each.in_force(now)]
        for tenant_id in sorted({each.tenant_id for each in found}):
            installation.audit.append("hold.list", run.operator, None, None, {"tenant": str(int(tenant_id))})
        names = {row.tenant_id: row.slug for row in administration.control.tenants()}
        rows = [
            {**_values(each, now), "tenant": names.get(each.tenant_id, ""), "reason": holds.reason(each)}
            for each in found
        ]
    columns = {
        "hold": "hold",
        "tenant": "tenant",
        "account": "account",
        "in_force": "in force",
        "begun": "since",
        "until": "until",
        "asked_by": "asked",
        "approved_by": "approved",
        "reason": "reason",
    }
    run.output.rows(columns, rows, "There is no legal hold.")


@app.command()
def lift(
    context: typer.Context,
    number: Annotated[str, typer.Argument(metavar="HOLD", help="Its number, from: cleanmail hold list.")],
    reason: Annotated[str, typer.Option(help="Why; the second person decides by it, and audit records keep it.")],
) -> None:
    """Ask for the end of a hold before its day; it is lifted once another person approves that.

    Until then it holds. Afterwards what it kept may be erased.
    """
    run = invocation.of(context)
    with run.administration() as administration:
        found = administration.control.holds.show(number)
        made = ask_to_lift(
            administration.installation,
            found,
            reason=reason,
            by=run.operator,
            unix=run.person.name,
            days=run.config.staff.approval_days,
        )
    run.output.done(
        f"The hold {found.hold_id} is in force. Another person has to approve that it ends:"
        f" cleanmail request approve {made.approval_id}.",
        {"request": made.approval_id, "expires": moment(made.expires)},
    )


def _subject(administration: Administration, text: str) -> tuple[TenantId, AccountId | None]:
    if "@" in text:
        whose = invocation.find_account(administration, text)
        return whose.tenant.tenant_id, whose.account.account_id
    return invocation.find_tenant(administration, text).tenant_id, None


def _values(hold: Hold, now: int) -> dict[str, Any]:
    return {
        "hold": hold.hold_id,
        "tenant_number": int(hold.tenant_id),
        "account": None if hold.account_id is None else int(hold.account_id),
        "in_force": hold.in_force(now),
        "begun": moment(hold.begun),
        "until": moment(hold.ends),
        "asked_by": hold.asked_by,
        "approved_by": hold.approved_by,
        "lifted": moment(hold.lifted),
        "lifted_by": hold.lifted_by,
    }

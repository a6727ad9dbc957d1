"""cleanmail audit: what administrators did and read: list, show, mine; and proofs that nothing of it was changed.

`anchor` writes down, to be kept elsewhere, what the chain looks like; `verify --anchor` finds by it whatever was
changed, taken out, put in another order, cut off or replaced since. Who lists records of others leaves one himself.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer

from hosting import journal_words
from hosting.administration import Administration
from hosting.cli import invocation, output, quantities
from hosting.cli.invocation import Invocation
from hosting.cli.names import Names
from hosting.cli.output import moment
from hosting.cli.recording import NOBODY, record, record_all
from hosting.journal_records import of_accounts
from storage.audit import AuditRecord, Checkpoint, read_anchor, write_anchor
from storage.audit.checkpoints import ANCHOR_MAX
from storage.errors import Corrupt, InvalidInput

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What administrators did and read: list, show, mine, verify, anchor.",
)

BROKEN = 4  # exit status, as of `check`

Since = Annotated[str, typer.Option(help="From when: 2026-05-01, 2026-05-01T12:30, 3h, 2d.")]
Until = Annotated[str | None, typer.Option(help="Until when; now if not given.")]
Limit = Annotated[int, typer.Option(help="The last so many; 0 for all.", min=0)]
Doing = Annotated[str, typer.Option(help="Only this action, or all of a noun: queue.drop, queue.")]
Actor = Annotated[str, typer.Option(help="Only of this member of staff, or Unix user.")]
OfTenant = Annotated[str | None, typer.Option(help="Only of this tenant.")]
Anchors = Annotated[
    list[Path] | None, typer.Option("--anchor", help="A file that `audit anchor` wrote; several times.", dir_okay=False)
]

_COLUMNS = {
    "number": "number",
    "time": "time",
    "action": "action",
    "actor": "by",
    "role": "as",
    "tenant": "tenant",
    "account": "account",
    "text": "details",
}


@app.command("list")
def list_(
    context: typer.Context,
    since: Since = "30d",
    until: Until = None,
    action: Doing = "",
    actor: Actor = "",
    tenant: OfTenant = None,
    account: Annotated[str | None, typer.Option(help="Only of the account of this address.")] = None,
    limit: Limit = 1000,
) -> None:
    """Show what administrators did and read."""
    run = invocation.of(context)
    now = int(time.time())
    first, last = quantities.moment(since, now), quantities.moment(until, now) if until else now + 1
    with run.administration() as administration:
        chain = administration.installation.audit
        before = chain.head().number
        whose = invocation.find_account(administration, account) if account else None
        row = whose.tenant if whose else invocation.find_tenant(administration, tenant) if tenant else None
        times = {"since": str(moment(first)), "until": str(moment(last)), "action": action}
        record(run, administration, "audit.read", whose or row, times)
        found = deque(
            (
                each
                for each in chain.read(
                    first,
                    last,
                    action=action,
                    actor=actor,
                    tenant_id=row.tenant_id if row else None,
                    account_id=whose.account.account_id if whose else None,
                )
                if each.number <= before  # not that it was read now
            ),
            maxlen=limit or None,
        )
        names = Names(administration)
        rows = [_values(each, names) for each in found]
    run.output.rows(_COLUMNS, rows, "There is no audit record in that time.")


@app.command()
def show(context: typer.Context, number: Annotated[int, typer.Argument(help="The record's number.", min=1)]) -> None:
    """Show one record with all that it says."""
    run = invocation.of(context)
    with run.administration() as administration:
        chain = administration.installation.audit
        found = chain.find(number)
        subject = NOBODY if found.details is None else (found.tenant_id, found.account_id)
        record_all(run, administration, "audit.read", [subject], {"number": str(number)}, owner_too=True)
        values = _values(found, Names(administration))
    details = {} if found.details is None else dict(found.details)
    if run.output.as_json:
        run.output.record(values)
        return
    del values["text"], values["details"]
    run.output.record({**values, **details})
    if found.unreadable:
        run.output.note("Its details are damaged, or their key is; see: cleanmail audit verify, cleanmail check.")
    elif found.details is None:
        run.output.note("Its details were erased with whom it is about.")


@app.command()
def mine(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The account's address.")],
    since: Since = "365d",
    until: Until = None,
    limit: Limit = 1000,
) -> None:
    """Show to the owner of an account what others did to it and read of it, in which role, and why."""
    run = invocation.of(context)
    now = int(time.time())
    first, last = quantities.moment(since, now), quantities.moment(until, now) if until else now + 1
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        chain = administration.installation.audit
        before = chain.head().number
        record(run, administration, "journal.read", whose)
        told = deque(
            (
                each
                for found in chain.read(first, last, tenant_id=whose.tenant.tenant_id)
                for each in of_accounts(administration.installation, found)
                if each.account_id == whose.account.account_id
                and each.number <= before
                and journal_words.is_told(each, administration.installation.clock.now())
            ),
            maxlen=limit or None,
        )
    rows = [_told(each, as_json=run.output.as_json) for each in told]
    columns = {"number": "number", "time": "time", "who": "who", "what": "what", "reason": "reason", "more": "more"}
    run.output.rows(columns, rows, "Nobody else did anything to this account, or read of it, in that time.")


@app.command()
def verify(context: typer.Context, anchor: Anchors = None) -> None:
    """Compute the whole chain again, with its signatures, and compare it with anchors; exit status 4: it is broken."""
    verified(invocation.of(context), anchor or [])


@app.command("anchor")
def anchor_(context: typer.Context) -> None:
    """Write an anchor of the chain to standard output: keep it where nobody of this machine can change it."""
    run = invocation.of(context)
    with run.administration() as administration:
        installation = administration.installation
        record(run, administration, "audit.anchor")
        made = installation.audit.checkpoint()
        public_key = installation.keys.verifying_key("audit")
        sys.stdout.write(write_anchor(made, administration.control.installation_id(), public_key))


def log_audit(
    context: typer.Context,
    since: Since = "30d",
    until: Until = None,
    action: Doing = "",
    actor: Actor = "",
    tenant: OfTenant = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute the whole chain again, and show what stands for it.")
    ] = False,
    limit: Limit = 1000,
) -> None:
    """Show what administrators did; with --verify, prove that no record was changed. As `audit list` and `verify`."""
    if verify:
        verified(invocation.of(context), [])
    else:
        list_(context, since, until, action, actor, tenant, None, limit)


def verified(run: Invocation, files: list[Path]) -> None:
    with run.administration() as administration:
        anchors = [_anchor(administration, file) for file in files]
        try:
            found = administration.installation.audit.examine(anchors)
        except Corrupt as error:
            output.fail(error.public, "corrupt", as_json=run.output.as_json)
            raise typer.Exit(BROKEN) from None
    count = found.head.number - found.first + 1
    begins = f" Records before {found.first} had had their time." if found.first > 1 else ""
    signed = f" {found.checkpoints} signatures verify, the last one of record {found.signed}." if found.signed else ""
    compared = f" They are those of {_anchors(len(anchors))}." if anchors else ""
    advice = (
        ""
        if anchors
        else " Keep an anchor elsewhere (cleanmail audit anchor), to prove later that none was cut off; the last "
        f"one's hash is {found.head.hash.hex()}."
    )
    run.output.done(
        f"All {count} records fit together.{begins}{signed}{compared}{advice}",
        {
            "records": found.head.number,
            "first": found.first,
            "hash": found.head.hash.hex(),
            "signatures": found.checkpoints,
            "signed": found.signed,
            "anchors": len(anchors),
        },
    )


def _anchors(count: int) -> str:
    return "the anchor" if count == 1 else f"all {count} anchors"


def _anchor(administration: Administration, file: Path) -> Checkpoint:
    try:
        with file.open("rb") as opened:
            text = opened.read(ANCHOR_MAX + 1)
    except OSError:
        raise InvalidInput(f"{file} cannot be read.") from None
    keys = administration.installation.keys
    return read_anchor(text, administration.control.installation_id(), keys.verifying_key("audit"))


def _values(found: AuditRecord, names: Names) -> dict[str, Any]:
    details, tenant_id, account_id = found.details, found.tenant_id, found.account_id
    return {
        "number": found.number,
        "time": moment(found.time),
        "action": found.action,
        "actor": found.actor,
        "role": found.role or None,
        "tenant": names.slug(tenant_id) if tenant_id is not None else None,
        "account": names.of(tenant_id, account_id) if tenant_id is not None and account_id is not None else None,
        "account_number": account_id,
        "tenant_number": tenant_id,
        "text": _without_details(found)
        if details is None
        else ", ".join(f"{name} {value}" for name, value in details.items() if value),
        "details": None if details is None else dict(details),
    }


def _without_details(found: AuditRecord) -> str:
    if found.unreadable:
        return "damaged: it does not open"
    return f"erased with the {'tenant' if found.account_id is None else 'account'}"


def _told(found: AuditRecord, *, as_json: bool) -> dict[str, Any]:
    facts = dict(journal_words.facts(found))
    reason = facts.pop("reason", "")
    return {
        "number": found.number,
        "time": moment(found.time),
        "who": journal_words.role_of(found),
        "what": journal_words.deed_of(found),
        "action": found.action,
        "reason": reason,
        "more": facts if as_json else ", ".join(f"{name} {value}" for name, value in facts.items()),
    }

"""cleanmail log: records of who had access, of SMTP dialogues (log auditors only), and of what administrators did."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from hosting.cli import audit, invocation, quantities, transcripts
from hosting.cli.names import Names
from hosting.cli.output import moment
from hosting.cli.recording import accounts_of, record_all
from storage.logs.access import AccessEvent, AccessType

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Records: access, transcripts, audit.")
app.command("transcripts")(transcripts.transcripts)

_ORDER = {AccessType.SIGN_IN.value: 0, AccessType.SUBMIT.value: 1, AccessType.SIGN_OUT.value: 2}


@app.callback()
def log() -> None:
    """Records: access, transcripts, audit."""


@app.command()
def access(
    context: typer.Context,
    account: Annotated[str | None, typer.Argument(help="Only of this account.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    since: Annotated[str, typer.Option(help="From when: 2026-05-01, 2026-05-01T12:30, 3h, 2d.")] = "1d",
    until: Annotated[str | None, typer.Option(help="Until when; now if not given.")] = None,
    limit: Annotated[int, typer.Option(help="The last so many; 0 for all.", min=0)] = 1000,
) -> None:
    """Show access events: time, type, result, protocol, account, client address. Kept for at most a year.

    Who opened what somebody shares stands in a column "by", where there is any.
    """
    run = invocation.of(context)
    now = int(time.time())
    first, last = quantities.moment(since, now), quantities.moment(until, now) if until else now + 1
    with run.administration() as administration:
        whose = invocation.find_account(administration, account) if account else None
        owner = invocation.find_tenant(administration, tenant) if tenant else None
        tenant_id = whose.tenant.tenant_id if whose else owner.tenant_id if owner else None
        times = {"since": str(moment(first)), "until": str(moment(last))}
        record_all(run, administration, "log.access", [(tenant_id, whose.account.account_id if whose else None)], times)
        events = list(
            administration.installation.access_log.read(
                first, last, tenant=tenant_id, account=whose.account.account_id if whose else None
            )
        )
        # Times are seconds and every process writes its own; within one second the order is that of a session.
        events.sort(key=lambda event: (event.time, _ORDER.get(event.type, 0)))
        shown = events[-limit:] if limit else events
        if whose is None:  # each of them finds it in his journal
            others = accounts_of(administration, [(event.tenant_id, event.account_id) for event in shown])
            record_all(run, administration, "log.access", others, times)
        names = Names(administration)
        rows = [_values(event, names) for event in shown]
    columns = {
        "time": "time",
        "type": "type",
        "result": "result",
        "protocol": "protocol",
        "account": "account",
        "address": "client address",
    }
    if any(row["by"] for row in rows):
        columns["by"] = "by"
    run.output.rows(columns, rows, "There is no access event in that time.")


app.command("audit")(audit.log_audit)  # as it was called before `cleanmail audit`


def _values(event: AccessEvent, names: Names) -> dict[str, Any]:
    account = by = None
    if event.tenant_id is not None and event.account_id is not None:
        account = names.of(int(event.tenant_id), int(event.account_id))
    elif event.login_hash:
        account = f"unknown ({event.login_hash.hex()[:12]})"
    if event.tenant_id is not None and event.by_account is not None:
        by = names.of(int(event.tenant_id), int(event.by_account))
    return {
        "time": moment(event.time),
        "type": event.type,
        "result": event.result,
        "protocol": event.protocol,
        "account": account,
        "account_number": event.account_id,
        "tenant_number": event.tenant_id,
        "address": event.address,
        "by": by,
        "by_account": event.by_account,
    }

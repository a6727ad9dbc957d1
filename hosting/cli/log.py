"""cleanmail log: records of who had access, of SMTP dialogues (log auditors only), and of what administrators did."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from hosting.cli import invocation, quantities, transcripts
from hosting.cli.output import moment
from hosting.composition import Administration
from storage.audit import AuditRecord
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
    """Show access events: time, type, result, protocol, account, client address. Kept for at most a year."""
    run = invocation.of(context)
    now = int(time.time())
    first, last = quantities.moment(since, now), quantities.moment(until, now) if until else now + 1
    with run.administration() as administration:
        whose = invocation.find_account(administration, account) if account else None
        owner = invocation.find_tenant(administration, tenant) if tenant else None
        tenant_id = whose.tenant.tenant_id if whose else owner.tenant_id if owner else None
        events = list(
            administration.installation.access_log.read(
                first, last, tenant=tenant_id, account=whose.account.account_id if whose else None
            )
        )
        # Times are seconds and every process writes its own; within one second the order is that of a session.
        events.sort(key=lambda event: (event.time, _ORDER.get(event.type, 0)))
        names = _Names(administration)
        rows = [_values(event, names) for event in (events[-limit:] if limit else events)]
    columns = {
        "time": "time",
        "type": "type",
        "result": "result",
        "protocol": "protocol",
        "account": "account",
        "address": "client address",
    }
    run.output.rows(columns, rows, "There is no access event in that time.")


@app.command()
def audit(
    context: typer.Context,
    since: Annotated[str, typer.Option(help="From when: 2026-05-01, 2026-05-01T12:30, 3h, 2d.")] = "30d",
    until: Annotated[str | None, typer.Option(help="Until when; now if not given.")] = None,
    action: Annotated[str, typer.Option(help="Only this action, or all of a noun: queue.drop, queue.")] = "",
    actor: Annotated[str, typer.Option(help="Only of this Unix user.")] = "",
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute the whole chain again, and show what stands for it.")
    ] = False,
    limit: Annotated[int, typer.Option(help="The last so many; 0 for all.", min=0)] = 1000,
) -> None:
    """Show what administrators did; with --verify, prove that no record was changed or taken out."""
    run = invocation.of(context)
    now = int(time.time())
    first, last = quantities.moment(since, now), quantities.moment(until, now) if until else now + 1
    with run.administration() as administration:
        chain = administration.installation.audit
        if verify:
            head = chain.verify()
            run.output.done(
                f"All {head.number} records fit together. Write down the last one's hash to prove later that none was "
                f"cut off: {head.hash.hex()}",
                {"records": head.number, "hash": head.hash.hex()},
            )
            return
        owner = invocation.find_tenant(administration, tenant).tenant_id if tenant else None
        records = list(chain.read(first, last, action=action, actor=actor, tenant_id=owner))
        names = _Names(administration)
        rows = [_audited(record, names) for record in (records[-limit:] if limit else records)]
    columns = {
        "number": "number",
        "time": "time",
        "action": "action",
        "actor": "by",
        "tenant": "tenant",
        "account": "account",
        "text": "details",
    }
    run.output.rows(columns, rows, "There is no audit record in that time.")


class _Names:
    """Accounts' addresses by their numbers, each tenant read once."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration
        self._known: dict[int, dict[int, str]] = {}

    def slug(self, tenant_id: int) -> str:
        slugs = {int(row.tenant_id): row.slug for row in self._administration.control.tenants()}
        return slugs.get(tenant_id, f"number {tenant_id}, gone")

    def of(self, tenant_id: int, account_id: int) -> str:
        if tenant_id not in self._known:
            rows = {row.tenant_id: row for row in self._administration.control.tenants()}
            tenant = rows.get(tenant_id)  # type: ignore[call-overload]
            accounts = self._administration.installation.tenant(tenant.tenant_id).accounts() if tenant else []
            self._known[tenant_id] = {int(row.account_id): str(row.login) for row in accounts}
        return self._known[tenant_id].get(account_id, f"number {account_id}, deleted")


def _values(event: AccessEvent, names: _Names) -> dict[str, Any]:
    known = event.account_id is not None and event.tenant_id is not None
    return {
        "time": moment(event.time),
        "type": event.type,
        "result": event.result,
        "protocol": event.protocol,
        "account": names.of(int(event.tenant_id), int(event.account_id))  # type: ignore[arg-type]
        if known
        else f"unknown ({event.login_hash.hex()[:12]})"
        if event.login_hash
        else None,
        "account_number": event.account_id,
        "tenant_number": event.tenant_id,
        "address": event.address,
    }


def _audited(record: AuditRecord, names: _Names) -> dict[str, Any]:
    details = record.details
    return {
        "number": record.number,
        "time": moment(record.time),
        "action": record.action,
        "actor": record.actor,
        "tenant": names.slug(record.tenant_id) if record.tenant_id is not None else None,
        "account": names.of(record.tenant_id, record.account_id)
        if record.tenant_id is not None and record.account_id is not None
        else None,
        "account_number": record.account_id,
        "tenant_number": record.tenant_id,
        "text": "erased with the tenant"
        if details is None
        else ", ".join(f"{name} {value}" for name, value in details.items() if value),
        "details": details,
    }

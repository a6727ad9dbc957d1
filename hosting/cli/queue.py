"""cleanmail queue: messages that were accepted and wait."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hosting.cli import invocation
from hosting.cli.output import moment, size
from storage.queue.entries import EntrySummary

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Messages that wait to be sent: list, show.")


@app.command("list")
def list_(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 1000,
) -> None:
    """List entries with the states of their recipients; addresses stay sealed (see `queue show`)."""
    run = invocation.of(context)
    with run.administration() as administration:
        slugs = {row.tenant_id: row.slug for row in administration.control.tenants()}
        owner = invocation.find_tenant(administration, tenant) if tenant else None
        found = administration.installation.queue.entries(tenant=owner.tenant_id if owner else None, limit=limit)
        rows = [_values(entry, slugs.get(entry.tenant_id, str(entry.tenant_id))) for entry in found]
    if not run.output.as_json:
        rows = [
            {
                **row,
                "size": size(row["size"]),
                "recipients": ", ".join(f"{count} {state}" for state, count in row["recipients"].items()),
            }
            for row in rows
        ]
    columns = {
        "id": "id",
        "tenant": "tenant",
        "account": "account",
        "size": "size",
        "arrived": "arrived",
        "recipients": "recipients",
    }
    run.output.rows(columns, rows, "The queue is empty.")


@app.command()
def show(context: typer.Context, queue_id: Annotated[str, typer.Argument(help="The id in the list.")]) -> None:
    """Show one entry with its addresses."""
    run = invocation.of(context)
    with run.administration() as administration:
        entry = administration.installation.queue.show(queue_id)
        values = {
            "id": entry.queue_id,
            "tenant": administration.control.tenant(entry.tenant_id).slug,
            "account": entry.account_id,
            "from": str(entry.reverse_path) if entry.reverse_path else "<>",
            "size": entry.size,
            "arrived": moment(entry.arrived),
            "expires": moment(entry.expires),
            "held": entry.held,
        }
        recipients = [
            {
                "address": str(recipient.address),
                "state": recipient.state.value,
                "attempts": recipient.attempts,
                "next_attempt": moment(recipient.next_attempt),
                "reply": recipient.reply,
            }
            for recipient in entry.recipients
        ]
    if run.output.as_json:
        run.output.record({**values, "recipients": recipients})
        return
    run.output.record(values)
    columns = {
        "address": "recipient",
        "state": "state",
        "attempts": "attempts",
        "next_attempt": "next attempt",
        "reply": "reply",
    }
    run.output.rows(columns, recipients, "It has no recipient.")


def _values(entry: EntrySummary, slug: str) -> dict[str, Any]:
    return {
        "id": entry.queue_id,
        "tenant": slug,
        "account": entry.account_id,
        "origin": entry.origin.value,
        "size": entry.size,
        "arrived": moment(entry.arrived),
        "expires": moment(entry.expires),
        "held": entry.held,
        "recipients": {state.value: count for state, count in entry.states.items()},
        "next_attempt": moment(entry.next_attempt),
    }

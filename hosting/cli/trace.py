"""cleanmail trace: what became of a message, from its connection to its final outcome. Shown for 14 days."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from hosting.cli import invocation, quantities
from hosting.cli.output import moment
from hosting.cli.recording import Subject, accounts_of, record_all, subject_of
from storage.logs.trace import SEPARATOR, TO, TraceEvent, TraceKind
from storage.logs.traces import Trace, TraceQuery

_DETAILS_LAST = ("reply", "reason")  # long ones, at the end of a line
_NAMED = 5  # recipients of a message, in a line; JSON has them all


def trace(
    context: typer.Context,
    queue_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A queue id, or the id of a session that was refused.")
    ] = None,
    sender: Annotated[
        str, typer.Option("--from", help="The envelope's sender: an address, @domain, or '<>' for bounces.")
    ] = "",
    recipient: Annotated[str, typer.Option("--to", help="A recipient: an address, or @domain.")] = "",
    since: Annotated[str | None, typer.Option(help="From when: 2026-05-01, 2026-05-01T12:30, 3h, 2d.")] = None,
    until: Annotated[str | None, typer.Option(help="Until when; now if not given.")] = None,
    result: Annotated[TraceKind | None, typer.Option(help="Only messages to which this happened.")] = None,
    verdict: Annotated[str, typer.Option(help="Only messages of this verdict.")] = "",
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    limit: Annotated[int, typer.Option(help="The last so many; 0 for all.", min=0)] = 100,
) -> None:
    """Show what became of messages; of the last day unless an id or a time is given.

    Traces are shown for 14 days; older ones nobody may see.
    """
    run = invocation.of(context)
    now = int(time.time())
    begin = since or (None if queue_id else "1d")
    with run.administration() as administration:
        owner = invocation.find_tenant(administration, tenant).tenant_id if tenant else None
        times = {"since": begin or "", "until": until or ""}
        subjects: dict[Subject, dict[str, str]] = {}
        for name, address in (("sender", sender), ("recipient", recipient)):
            if address not in {"", "<>"}:
                subjects.setdefault(subject_of(administration, address), {})[name] = address
        for subject, asked in (subjects or {(owner, None): {"id": queue_id or ""}}).items():
            record_all(run, administration, "trace.read", [subject], {**asked, **times})
        query = TraceQuery(queue_id or "", sender, recipient, result, verdict, owner)
        traces = administration.installation.traces.find(
            query,
            None if begin is None else quantities.moment(begin, now),
            None if until is None else quantities.moment(until, now),
        )
        shown = traces[-limit:] if limit else traces
        events = [(event.tenant_id, event.account_id) for found in shown for event in found.events]
        others = [each for each in accounts_of(administration, events) if each not in subjects]
        record_all(run, administration, "trace.read", others, times)
        slugs = {row.tenant_id: row.slug for row in administration.control.tenants()}
    if len(shown) < len(traces):
        run.output.note(f"{len(traces) - len(shown)} earlier ones are not shown; see --limit.")
    run.output.blocks(
        [(_heading(found, slugs), list(_lines(found))) for found in shown],
        [_values(found, slugs) for found in shown],
        "There is no trace of such a message.",
    )


def _heading(found: Trace, slugs: dict[Any, str]) -> str:
    tenants = [slugs.get(id_, str(id_)) for id_ in dict.fromkeys(event.tenant_id for event in found.events) if id_]
    sender = next((event.sender for event in found.events if event.sender), "")
    return "  ".join([found.id, str(moment(found.begun)), *tenants, f"from {sender or '<>'}"])


def _lines(found: Trace) -> Iterator[str]:
    width = max(len(event.recipient) for event in found.events)
    for event in found.events:
        after = _after(event.time - found.begun)
        yield f"{after:>7}  {event.kind:<10} {event.recipient:<{width}}  {_said(event)}".rstrip()


def _said(event: TraceEvent) -> str:
    names = sorted(event.details, key=lambda name: name in _DETAILS_LAST)
    said = [f"{name} {event.details[name]}" for name in names if event.details[name]]
    if event.kind is TraceKind.RECEIVED and TO in event.details:
        said.remove(f"{TO} {event.details[TO]}")
        everybody = event.details[TO].split(SEPARATOR)
        more = f" and {len(everybody) - _NAMED} more" if len(everybody) > _NAMED else ""
        said.append(f"{TO} {SEPARATOR.join(everybody[:_NAMED])}{more}")
    return ", ".join(said)


def _after(seconds: int) -> str:
    """A span for people: +0s, +59s, +1m05s, +2h00m, +3d04h."""
    if seconds < 60:
        return f"+{seconds}s"
    if seconds < 3600:
        return f"+{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86_400:
        return f"+{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"+{seconds // 86_400}d{seconds % 86_400 // 3600:02}h"


def _values(found: Trace, slugs: dict[Any, str]) -> dict[str, Any]:
    return {
        "id": found.id,
        "begun": moment(found.begun),
        "events": [
            {
                "time": moment(event.time),
                "after": event.time - found.begun,
                "kind": event.kind.value,
                "tenant": slugs.get(event.tenant_id) if event.tenant_id is not None else None,
                "account_number": event.account_id,
                "sender": event.sender,
                "recipient": event.recipient,
                "details": dict(event.details),
            }
            for event in found.events
        ],
    }

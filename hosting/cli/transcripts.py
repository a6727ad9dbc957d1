"""cleanmail log transcripts: the raw SMTP dialogues of the last 12 months, for log auditors only.

Before anything is read, an audit record says durably who reads, what is sought and why; the key that opens the
transcripts is asked for under that record's number.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Annotated, Any

import typer

from hosting import composition
from hosting.cli import invocation, quantities
from hosting.cli.output import moment
from hosting.cli.recording import NOBODY, subject_of
from hosting.roles import privileges
from storage.errors import InvalidInput
from storage.logs.transcript_log import TranscriptQuery
from storage.logs.transcripts import TranscriptRecord


def transcripts(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why they are read; kept in the audit records.")],
    queue_id: Annotated[str, typer.Option(help="Only connections that carried this message.")] = "",
    address: Annotated[
        str, typer.Option(help="Only where this mail address, @domain, IP address or host is named.")
    ] = "",
    since: Annotated[str, typer.Option(help="From when: 2026-05-01, 2026-05-01T12:30, 3h, 2d.")] = "1d",
    until: Annotated[str | None, typer.Option(help="Until when; now if not given.")] = None,
    limit: Annotated[int, typer.Option(help="The last so many; 0 for all.", min=0)] = 100,
) -> None:
    """Read SMTP transcripts; only for the Unix users that [logs] auditors names. Every reading is recorded."""
    run = invocation.of(context)
    if not reason.strip():
        raise InvalidInput("A reason is needed: it is what the audit records will say.")
    now = int(time.time())
    first, last = quantities.moment(since, now), quantities.moment(until, now) if until else now + 1
    with privileges.acting_as_owner(run.data), run.administration() as administration:
        installation = administration.installation
        sought = {"reason": reason, "queue_id": queue_id, "address": address}
        subject = subject_of(administration, address) if "@" in address else NOBODY
        details = {**sought, "since": str(moment(first)), "until": str(moment(last))}
        number = installation.audit.append("transcripts.read", run.operator, *subject, details)
        key = composition.auditor_key(run.data, run.config, f"audit record {number}", run.who)
        query = TranscriptQuery(queue_id, address)
        found = deque(installation.transcripts.read(key, first, last, query), maxlen=limit or None)
    records = sorted(found, key=lambda record: record.time)
    run.output.note(f"This reading is audit record {number}.")
    run.output.blocks(
        [(_heading(record), record.text.split("\n")) for record in records],
        [_values(record) for record in records],
        "There is no such transcript.",
    )


def _heading(record: TranscriptRecord) -> str:
    way = "from" if record.direction == "in" else "to"
    return "  ".join([record.id, str(moment(record.time)), f"{way} {record.peer}", *record.queue_ids])


def _values(record: TranscriptRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "time": moment(record.time),
        "direction": record.direction.value,
        "peer": record.peer,
        "queue_ids": list(record.queue_ids),
        "tenant_numbers": list(record.tenants),
        "lines": record.text.split("\n"),
    }

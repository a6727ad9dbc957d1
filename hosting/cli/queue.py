"""cleanmail queue: messages that were accepted and wait, and what an operator does with them.

Every change names who made it in the audit records, before it is made, and shows in the message's trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hosting.administration import Administration
from hosting.cli import invocation, recording
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment, size
from storage.errors import Conflict, Corrupt, Gone, InvalidInput
from storage.logs.trace import TraceEvent, TraceKind
from storage.queue.entries import LOCAL, ROUTED, DestinationState, Entry, EntrySummary, Recipient, Reply
from storage.values import Domain, TenantId

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Messages that wait to be sent: list, show, hold, release, retry, drop, destinations.",
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The id in the list.")]
Limit = Annotated[int, typer.Option(help="At most so many.", min=1)]

_PERMANENT = 550
_REFUSED = "5.7.1"  # RFC 3463 §3.8: delivery not authorized


@app.command("list")
def list_(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    destination: Annotated[
        str | None, typer.Option(help="Only what waits for this domain, in the order of the next attempts.")
    ] = None,
    held: Annotated[bool | None, typer.Option("--held/--not-held", help="Only what is held, or is not.")] = None,
    after: Annotated[str, typer.Option(metavar="ID", help="Go on behind this entry.")] = "",
    limit: Limit = 1000,
) -> None:
    """List what waits, with the states of recipients.

    Addresses stay sealed; see `queue show`.
    """
    run = invocation.of(context)
    if tenant and destination:
        raise InvalidInput("--tenant and --destination exclude each other.")
    with run.administration() as administration:
        slugs = _slugs(administration)
        queue = administration.installation.queue
        if destination:
            found = queue.entries_for(_destination(destination), held=bool(held), after=after, limit=limit)
        else:
            owner = invocation.find_tenant(administration, tenant).tenant_id if tenant else None
            found = queue.entries(tenant=owner, held=held, after=after, limit=limit)
        rows = [_values(entry, slugs) for entry in found]
    if not run.output.as_json:
        rows = [{**row, "size": size(row["size"]), "recipients": _counts(row["recipients"])} for row in rows]
    columns = {
        "id": "id",
        "tenant": "tenant",
        "account": "account",
        "size": "size",
        "arrived": "arrived",
        "next_attempt": "next attempt",
        "recipients": "recipients",
    }
    filtered = bool(tenant or destination or held is not None or after)
    run.output.rows(columns, rows, "No entry in the queue is like that." if filtered else "The queue is empty.")
    if len(found) == limit:
        run.output.note(f"There may be more; go on with --after {found[-1].queue_id}.")


@app.command()
def show(context: typer.Context, queue_id: Id) -> None:
    """Show one entry with its addresses.

    With what was said about each recipient last, and when it is tried again.
    """
    run = invocation.of(context)
    with run.administration() as administration:
        queue = administration.installation.queue
        entry = queue.show(queue_id)
        concerned = recording.accounts_of(administration, [(entry.tenant_id, entry.account_id)])
        recording.record_all(
            run, administration, "queue.show", concerned or [(entry.tenant_id, None)], {"id": queue_id}
        )
        failing = {
            name: state
            for name in dict.fromkeys(recipient.destination for recipient in entry.recipients)
            if (state := queue.destination_state(name)) is not None
        }
        values = {
            "id": entry.queue_id,
            "tenant": administration.control.tenant(entry.tenant_id).slug,
            "account": entry.account_id,
            "origin": entry.origin.value,
            "from": str(entry.reverse_path) if entry.reverse_path else "<>",
            "size": entry.size,
            "arrived": moment(entry.arrived),
            "expires": moment(entry.expires),
            "held": entry.held,
        }
    recipients = [_recipient(recipient, failing) for recipient in entry.recipients]
    if run.output.as_json:
        run.output.record({**values, "recipients": recipients})
        return
    run.output.record({**values, "size": size(entry.size)})
    columns = {
        "address": "recipient",
        "destination": "destination",
        "state": "state",
        "attempts": "attempts",
        "next_attempt": "next attempt",
        "reply": "reply",
    }
    run.output.rows(columns, recipients, "It has no recipient.")
    for state in failing.values():
        run.output.note(
            f"{_people(state.name)} does not answer since {moment(state.since)}; the next attempt is at "
            f"{moment(state.retry_at)}."
        )
    if entry.given_up:
        run.output.note("It is not sent any more: it is about to be returned to its sender.")


@app.command()
def hold(context: typer.Context, queue_id: Id) -> None:
    """Keep an entry from being sent.

    It waits for `queue release`, beyond its retry time too; after 30 days it goes back to its sender.
    """
    run = invocation.of(context)
    with run.administration() as administration:
        queue = administration.installation.queue
        entry = queue.show(queue_id)
        _audit(run, administration, "hold", entry.tenant_id, {"id": queue_id})
        held = queue.hold(queue_id)
        if held:
            _trace(administration, entry, TraceKind.HELD)
    sentence = f"{queue_id} is held{'' if held else ' already'}."
    run.output.done(sentence, {"id": queue_id, "held": True, "changed": held})


@app.command()
def release(context: typer.Context, queue_id: Id) -> None:
    """Let an entry be sent that is held."""
    run = invocation.of(context)
    with run.administration() as administration:
        queue = administration.installation.queue
        entry = queue.show(queue_id)
        _audit(run, administration, "release", entry.tenant_id, {"id": queue_id})
        released = queue.release(queue_id)
        if released:
            _trace(administration, entry, TraceKind.RELEASED)
    sentence = f"{queue_id} is released." if released else f"{queue_id} was not held."
    run.output.done(sentence, {"id": queue_id, "held": False, "changed": released})


@app.command()
def retry(
    context: typer.Context,
    queue_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="The id in the list.")] = None,
    destination: Annotated[str | None, typer.Option(help="All that waits for this domain.")] = None,
    tenant: Annotated[str | None, typer.Option(help="All that is this tenant's.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that waits.")] = False,
) -> None:
    """Try to send at once what waits.

    An entry, all for a destination, all of a tenant, or everything. What is held waits on.
    """
    run = invocation.of(context)
    if (queue_id is not None) + (destination is not None) + (tenant is not None) + everything != 1:
        raise InvalidInput("Give one of: an id, --destination, --tenant, --all.")
    with run.administration() as administration:
        queue = administration.installation.queue
        # What is given but empty, a shell's variable that was not set, must not mean everything.
        owner = invocation.find_tenant(administration, tenant).tenant_id if tenant is not None else None
        where = _destination(destination) if destination is not None else None
        details = {"id": queue_id, "destination": where}
        _audit(run, administration, "retry", owner, {key: value for key, value in details.items() if value})
        retried = queue.retry(queue_id, destination=where, tenant=owner)
    run.output.done(f"{_number(retried, 'recipient')} will be tried now.", {"recipients": retried})


@app.command()
def drop(
    context: typer.Context,
    queue_id: Id,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit records and the trace.")],
    bounce: Annotated[
        bool, typer.Option("--bounce", help="Return it to its sender, who is told the reason, instead of silently.")
    ] = False,
) -> None:
    """Take an entry out of the queue for good.

    Nobody is told, unless with --bounce.
    """
    run = invocation.of(context)
    if not reason.strip():
        raise InvalidInput("A reason is needed: it is what the audit records will say.")
    with run.administration() as administration:
        queue = administration.installation.queue
        entry: Entry | None = None
        try:
            entry = queue.show(queue_id)
        except (Corrupt, Gone):  # what nobody can read any more can still go
            if bounce:
                raise
        if bounce and entry is not None and entry.reverse_path is None:
            raise Conflict("The message has no sender to whom it could be returned; drop it without --bounce.")
        owner = entry.tenant_id if entry is not None else None
        _audit(run, administration, "bounce" if bounce else "drop", owner, {"id": queue_id, "reason": reason})
        if bounce:
            queue.bounce(queue_id, Reply(_PERMANENT, _REFUSED, reason))
        else:
            queue.withdraw(queue_id)
            if entry is not None:
                _trace(administration, entry, TraceKind.WITHDRAWN, {"reason": reason})
    sentence = "will be returned to its sender" if bounce else "is gone"
    run.output.done(f"{queue_id} {sentence}.", {"id": queue_id, "bounced": bounce, "reason": reason})


@app.command()
def destinations(
    context: typer.Context,
    after: Annotated[str, typer.Option(metavar="NAME", help="Go on behind this one.")] = "",
    limit: Limit = 1000,
) -> None:
    """List the destinations that do not answer.

    With the reason, and when they are tried again.
    """
    run = invocation.of(context)
    with run.administration() as administration:
        found = administration.installation.queue.destinations(after=after, limit=limit)
    rows = [
        {
            "destination": _people(state.name) if not run.output.as_json else state.name,
            "failures": state.failures,
            "since": moment(state.since),
            "retry_at": moment(state.retry_at),
            "reply": str(state.reply),
        }
        for state in found
    ]
    columns = {
        "destination": "destination",
        "failures": "failures",
        "since": "since",
        "retry_at": "next attempt",
        "reply": "reason",
    }
    run.output.rows(columns, rows, "Every destination that was tried answers.")


def _audit(
    run: Invocation, administration: Administration, what: str, tenant: TenantId | None, details: Mapping[str, str]
) -> None:
    administration.installation.audit.append(f"queue.{what}", run.operator, tenant, details=details)


def _trace(
    administration: Administration, entry: Entry, kind: TraceKind, details: Mapping[str, str] | None = None
) -> None:
    """An event for each recipient that the change concerns."""
    installation = administration.installation
    now = installation.clock.now()
    for recipient in entry.recipients:
        if not recipient.state.settled:
            installation.traces.record(
                TraceEvent(
                    now,
                    entry.queue_id,
                    kind,
                    entry.tenant_id,
                    entry.account_id,
                    str(entry.reverse_path or ""),
                    str(recipient.address),
                    details or {},
                )
            )


def _slugs(administration: Administration) -> dict[TenantId, str]:
    return {row.tenant_id: row.slug for row in administration.control.tenants()}


def _destination(name: str) -> str:
    """As the queue calls it: `local`, `route:` and a domain, or a domain."""
    if name == LOCAL:
        return name
    prefix = ROUTED if name.startswith(ROUTED) else ""
    return prefix + Domain.parse(name.removeprefix(prefix)).name


def _people(destination: str) -> str:
    if destination.startswith(ROUTED):
        return f"The own server for {destination.removeprefix(ROUTED)}"
    return destination


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _values(entry: EntrySummary, slugs: Mapping[TenantId, str]) -> dict[str, Any]:
    return {
        "id": entry.queue_id,
        "tenant": slugs.get(entry.tenant_id, str(entry.tenant_id)),
        "account": entry.account_id,
        "origin": entry.origin.value,
        "size": entry.size,
        "arrived": moment(entry.arrived),
        "expires": moment(entry.expires),
        "held": entry.held,
        "recipients": {state.value: count for state, count in entry.states.items()},
        "next_attempt": moment(entry.next_attempt),
    }


def _recipient(recipient: Recipient, failing: Mapping[str, DestinationState]) -> dict[str, Any]:
    """It is tried when both it and its destination are due."""
    state = failing.get(recipient.destination)
    due = recipient.next_attempt if state is None else max(recipient.next_attempt, state.retry_at)
    return {
        "address": str(recipient.address),
        "destination": recipient.destination,
        "state": recipient.state.value,
        "attempts": recipient.attempts,
        "next_attempt": None if recipient.state.settled else moment(due),
        "reply": None if recipient.reply is None else str(recipient.reply),
    }

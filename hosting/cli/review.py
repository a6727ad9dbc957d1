"""cleanmail review: headers of mail that was reported as wrongly withheld, for technical administrators.

The process of these commands gets keys that open headers only, from a running server's auth role or, where none runs,
through `hosting.review.keys`; who runs it has to be a person whose secrecy agreement is in force. Before a header is
read, an audit record says durably who sees it and why.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer

from hosting import composition
from hosting.cli import agreements, invocation
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment, size
from hosting.review.looking import Seen, look
from hosting.review.values import LISTED_MAX, ReviewCase, Reviewing
from hosting.roles import privileges

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Header-only review of mail that was reported as wrongly withheld, for technical administrators.",
)
app.add_typer(agreements.app, name="agreement")

_WIDTH = 100  # columns after which a field is folded

MessageNumber = Annotated[str, typer.Argument(metavar="ID", help="The message's number, as in the list.")]
Tenant = Annotated[str, typer.Option(help="Its tenant, if messages of several tenants have that number.")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept in the audit records.")]


class Decision(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"


@app.command("list")
def list_(context: typer.Context) -> None:
    """List what waits for a review, the oldest first."""
    run = invocation.of(context)
    with _reviewing(run) as reviews:
        cases = reviews.reviews()
    columns = {
        "id": "id",
        "tenant": "tenant",
        "received": "received",
        "reported": "reported",
        "reason": "withheld for",
        "viewed": "first seen",
    }
    run.output.rows(columns, [_values(case) for case in cases], "Nothing waits for a review.")
    if len(cases) == LISTED_MAX:
        run.output.note(f"These are the oldest {LISTED_MAX}; there may be more.")


@app.command()
def show(context: typer.Context, message: MessageNumber, reason: Why, tenant: Tenant = "") -> None:
    """Show the header of a reported message and why it was withheld. Every look is recorded."""
    run = invocation.of(context)
    with _reviewing(run) as reviews:
        seen = look(
            reviews,
            run.data,
            message,
            tenant=tenant,
            reason=reason,
            recorded=lambda done: run.output.note(f"This look is audit record {done.record}."),
        )
    if run.output.as_json:
        run.output.record(_seen(seen))
    else:
        run.output.blocks(_blocks(seen), [], "")


@app.command()
def decide(
    context: typer.Context,
    message: MessageNumber,
    decision: Annotated[Decision, typer.Argument(help="Whether it was rightly or wrongly withheld.")],
    reason: Why,
    tenant: Tenant = "",
) -> None:
    """Say whether a message was rightly or wrongly withheld; what was wrong is released by the server."""
    run = invocation.of(context)
    with _reviewing(run) as reviews:
        done = reviews.decide_review(message, tenant, reason, wrong=decision is Decision.WRONG)
    sentence = (
        "wrongly withheld; the running server releases it, or the next that runs"
        if decision is Decision.WRONG
        else "rightly withheld; it stays until its time ends"
    )
    run.output.done(
        f"{message}: {sentence}. This decision is audit record {done.record}.",
        {**_values(done.case), "audit_record": done.record},
    )


@contextmanager
def _reviewing(run: Invocation) -> Iterator[Reviewing]:
    """As the owner of the data, and still known as who one is."""
    with privileges.acting_as_owner(run.data), composition.reviewing(run.data, run.config) as reviews:
        yield reviews


def _values(case: ReviewCase) -> dict[str, Any]:
    return {
        "id": case.quarantine_id,
        "tenant": case.tenant,
        "tenant_number": case.tenant_id,
        "received": moment(case.received),
        "reported": moment(case.asked),
        "reason": case.reason,
        "state": case.state,
        "viewed": moment(case.viewed),
        "decided": moment(case.decided),
    }


def _seen(seen: Seen) -> dict[str, Any]:
    header = seen.header
    return {
        **_values(seen.case),
        "audit_record": seen.record,
        "received": moment(header.received),
        "size": header.size,
        "sender": header.sender,
        "recipient_domains": list(header.domains),
        "reason": header.reason,
        "sentence": header.sentence,
        "counterfactual": header.counterfactual,
        "score": header.score,
        "facts": dict(header.facts),
        "header": [list(line) for line in header.lines()],
    }


def _blocks(seen: Seen) -> list[tuple[str, list[str]]]:
    header = seen.header
    verdict = {
        "tenant": seen.case.tenant,
        "received": str(moment(header.received)),
        "size": size(header.size),
        "from": header.sender or "<>",
        "to": ", ".join(f"@{domain}" for domain in header.domains),
        "withheld for": header.reason,
        "because": header.sentence,
        "otherwise": header.counterfactual,
        "score": "" if header.score is None else f"{header.score:.1f}",
        **header.facts,
    }
    lines = [line for name, value in verdict.items() if value for line in _folded(name, value)]
    fields = [line for name, value in header.lines() for line in _folded(name, value)]
    return [(seen.case.quarantine_id, lines), ("Header", fields)]


def _folded(name: str, value: str) -> list[str]:
    """A field on as many lines as it needs, the following ones indented."""
    return textwrap.wrap(f"{name}: {value}", _WIDTH, subsequent_indent="    ", break_on_hyphens=False) or [f"{name}:"]

"""Which withheld messages a command line asks for, and the desk where they are looked at and decided on.

Every list, view and change names who made it in the audit records, before it is made. Subjects, authors and header
lines are shown to people with a recorded secrecy agreement; to others the desk says why not (`Desk.closed`).

Raises: InvalidInput, NotFound, NotPermitted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated

import typer

from gateway.policy.verdict import Reason
from hosting import composition
from hosting.administration import Administration
from hosting.cli import invocation, quantities
from hosting.cli.invocation import Invocation
from hosting.quarantine.assembly import make_service
from hosting.quarantine.scope import Scope
from hosting.quarantine.service import QuarantineService
from storage.directory.rows import State, TenantRow
from storage.errors import InvalidInput
from storage.quarantine.values import HeldState, Query, Withheld
from storage.values import EmailAddress, TenantId

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids in the list.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.")]
OfAccount = Annotated[str | None, typer.Option("--account", help="Only what is for this account's mailbox.")]
To = Annotated[str, typer.Option("--to", help="A recipient: an address, or @domain.")]
From = Annotated[str, typer.Option("--from", help="A part of the sender: of the envelope's, or of the From field.")]
Subject = Annotated[str, typer.Option(help="A part of the subject.")]
Why = Annotated[Reason | None, typer.Option("--reason", help="Only what was withheld for this reason.")]
InState = Annotated[HeldState | None, typer.Option("--state", help="Only with a recipient in this state.")]
Reported = Annotated[
    bool | None, typer.Option("--reported/--not-reported", help="Only what was said to be wrongly withheld, or not.")
]
Since = Annotated[str | None, typer.Option(help="Arrived from then on: 2026-05-01, 2026-05-01T12:30, 3h, 2d.")]
Until = Annotated[str | None, typer.Option(help="Arrived until then.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Limit = Annotated[int, typer.Option(help="At most so many.", min=1)]
Before = Annotated[str, typer.Option(metavar="ID", help="Go on with what is older than this one.")]


@dataclass(frozen=True, slots=True)
class Options:
    """What a command line asks for, before the stores are open."""

    tenant: str | None = None
    account: str | None = None
    query: Query = field(default_factory=Query)

    @property
    def empty(self) -> bool:
        return self == Options()


def query_of(
    to: str = "",
    sender: str = "",
    subject: str = "",
    reason: Reason | None = None,
    state: HeldState | None = None,
    reported: bool | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Query:
    now = int(time.time())
    if to and not to.startswith("@"):
        EmailAddress.parse(to)
    return Query(
        recipient=to,
        sender=sender,
        subject=subject,
        reason="" if reason is None else reason.value,
        state=state,
        reported=reported,
        since=None if since is None else quantities.moment(since, now),
        until=None if until is None else quantities.moment(until, now),
    )


@dataclass(frozen=True, slots=True)
class Desk:
    administration: Administration
    service: QuarantineService
    scope: Scope

    @property
    def closed(self) -> str:
        """Why subjects, authors and header lines are not shown; empty if they are."""
        return self.service.closed(self.scope)

    def asked(self, options: Options) -> tuple[list[TenantRow], Query]:
        """The tenants that may have such mail, and the query with the account's number in it."""
        query, control = options.query, self.administration.control
        if options.account is not None:
            whose = invocation.find_account(self.administration, options.account)
            query = replace(query, account_id=whose.account.account_id)
            if options.tenant is not None and self.tenant(options.tenant).tenant_id != whose.tenant.tenant_id:
                raise InvalidInput("The account belongs to another tenant.")
            return [whose.tenant], query
        if options.tenant is not None:
            return [self.tenant(options.tenant)], query
        return [row for row in control.tenants() if row.state is not State.ENDED], query

    def tenant(self, name: str) -> TenantRow:
        return invocation.find_tenant(self.administration, name)

    def each(self, options: Options) -> Iterator[tuple[TenantRow, Withheld]]:
        """All that is held and like that, to decide on; of one tenant after the other."""
        tenants, query = self.asked(options)
        for row in tenants:
            for message in self.service.matching(self.scope, row.tenant_id, query):
                yield row, message

    def find(self, quarantine_id: str, tenant: str | None) -> TenantId:
        return self.tenant(tenant).tenant_id if tenant is not None else self.service.find(self.scope, quarantine_id)


@contextmanager
def open_desk(run: Invocation) -> Iterator[Desk]:
    with run.administration() as administration:
        users = composition.server_users(run.data, run.config)
        service = make_service(administration.installation, run.config, administration.resolver, server_users=users)
        own = run.who.tenant_id
        scope = Scope.operator(run.operator, run.who) if own is None else Scope.administrator(run.operator, own)
        yield Desk(administration, service, scope)


def note_closed(run: Invocation, closed: str, query: Query = Query()) -> None:  # noqa: B008 - it is immutable
    """Once for a command: why something is not shown, and what a search did without."""
    if closed:
        searched = " Only the addresses of the envelope were searched." if query.looks_at_texts else ""
        run.output.note(f"{closed}{searched}")

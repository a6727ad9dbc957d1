"""cleanmail disclosure: demands of authorities for data, and what became of them.

A demand is recorded with the hash of the notification; a second person approves it (`cleanmail request approve`); then
who recorded it makes the least possible extract. Every step is an audit record, which the owner of the account finds in
his journal: at once, or when the secrecy that was ordered is over.
"""

from __future__ import annotations

import hashlib
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hosting import composition
from hosting.administration import Administration
from hosting.cli import invocation, quantities
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment
from hosting.cli.recording import NOBODY, record_all
from hosting.disclosure.cases import Demand, Person, hand_over, record_case, set_state
from hosting.disclosure.cases import resume as resume_case
from hosting.disclosure.report import report_of
from storage.directory.disclosures import Authority, Case, CaseState, MessageName, Scope, What
from storage.errors import InvalidInput
from storage.values import AccountId, TenantId

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Disclosures to authorities: record, list, show, extract, challenge, resume, refuse, report.",
)

DOCUMENT_MAX = 1 << 30  # octets of a notification

Number = Annotated[str, typer.Argument(metavar="CASE", help="The case's id, as in the list.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit records.")]


@app.command()
def record(
    context: typer.Context,
    authority: Annotated[str, typer.Option(help="Who demands it.")],
    legal_basis: Annotated[str, typer.Option(help="On which ground: the law and the article.")],
    document: Annotated[
        Path, typer.Option(help="The notification; only its SHA-256 is kept.", exists=True, dir_okay=False)
    ],
    scope: Annotated[str, typer.Option(help=f"What, with commas between: {', '.join(What)}.")],
    begin: Annotated[str, typer.Option("--from", help="From when: 2026-05-01, 2026-05-01T12:30.")],
    end: Annotated[str, typer.Option("--to", help="Until when; a day that is named alone is included.")],
    reason: Annotated[str, typer.Option(help="Why it is to be answered: the second person decides by it.")],
    kind: Annotated[Authority, typer.Option(help="Which kind of authority, for the report.")] = Authority.OTHER,
    account: Annotated[str, typer.Option(help="The address of the account that it is about.")] = "",
    tenant: Annotated[str, typer.Option(help="The tenant, if it is about all of its accounts.")] = "",
    message: Annotated[
        list[str] | None, typer.Option(metavar="FOLDER/UID", help="A message, for headers or messages; several times.")
    ] = None,
    secret_until: Annotated[
        str, typer.Option(help="The last day on which an order forbids to tell the owner; he is told then.")
    ] = "",
) -> None:
    """Record a demand, and ask for the approval of a second person."""
    run = invocation.of(context)
    now = int(time.time())
    asked = Scope(
        _classes(scope),
        quantities.moment(begin, now),
        quantities.end(end, now),
        tuple(_message(each) for each in message or []),
    )
    if bool(account) == bool(tenant):
        raise InvalidInput("Name either the --account or the --tenant that it is about.")
    hashed = _hash(document)
    with run.administration() as administration:
        tenant_id, account_id = _subject(administration, tenant, account)
        secret = quantities.end(secret_until, now) if secret_until else None
        demand = Demand(kind, authority, legal_basis, hashed, tenant_id, account_id, asked, secret)
        days = run.config.staff.approval_days
        case, request = record_case(administration.installation, demand, _person(run), reason, days)
    run.output.done(
        f"Case {case.case_id} is recorded. A second person has to approve it: cleanmail request approve "
        f"{request.approval_id}. Then: cleanmail disclosure extract {case.case_id} TO.",
        {**_values(case), "request": request.approval_id},
    )


@app.command("list")
def list_(context: typer.Context) -> None:
    """List all cases."""
    run = invocation.of(context)
    with run.administration() as administration:
        record_all(run, administration, "disclosure-case.list", [NOBODY])
        rows = [_values(case) for case in administration.control.disclosures.all()]
    columns = {
        "case": "case",
        "received": "received",
        "kind": "kind",
        "authority": "authority",
        "state": "state",
        "tenant_number": "tenant",
        "account_number": "account",
        "items": "records",
    }
    run.output.rows(columns, rows, "No authority has demanded anything.")


@app.command()
def show(context: typer.Context, case: Number) -> None:
    """Show one case with what is demanded."""
    run = invocation.of(context)
    with run.administration() as administration:
        found = administration.control.disclosures.find(case)
        subject = (found.tenant_id, found.account_id) if found.scope is not None else (None, None)
        record_all(run, administration, "disclosure-case.show", [subject], {"case": case})
    run.output.record({**_values(found), **_scope(found.scope)})


@app.command()
def challenge(context: typer.Context, case: Number, reason: Reason) -> None:
    """A remedy was lodged: nothing is handed over meanwhile."""
    _step(context, case, CaseState.CHALLENGED, reason)


@app.command()
def resume(context: typer.Context, case: Number, reason: Reason) -> None:
    """Go on after a challenge, and ask for a second person anew: no approval from before it counts any more."""
    run = invocation.of(context)
    with run.administration() as administration:
        days = run.config.staff.approval_days
        done, request = resume_case(administration.installation, case, reason, _person(run), days)
    asked = f" A second person has to approve it: cleanmail request approve {request.approval_id}." if request else ""
    run.output.done(
        f"The case {case} is {done.state}.{asked}",
        {**_values(done), "request": request.approval_id if request else None},
    )


@app.command()
def refuse(context: typer.Context, case: Number, reason: Reason) -> None:
    """Close a case without handing anything over."""
    _step(context, case, CaseState.REFUSED, reason)


@app.command()
def extract(
    context: typer.Context,
    case: Number,
    to: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
) -> None:
    """Make the extract of an approved case: what it names and no more, with a signed manifest."""
    run = invocation.of(context)
    to = to.absolute()
    with run.administration() as administration:

        def auditor_key() -> bytes:
            return composition.auditor_key(run.data, run.config, f"disclosure case {case}", run.who)

        done = hand_over(administration.installation, case, to, _person(run), auditor_key)
    assert done.extract is not None
    run.output.done(
        f"{done.items} records of {done.accounts} accounts are in {to}; SHA-256 of the manifest: {done.extract.hex()}",
        _values(done),
    )


@app.command()
def report(
    context: typer.Context,
    year: Annotated[int, typer.Option(help="Of the demands that came in that year.", min=2000, max=9998)],
) -> None:
    """Print the transparency report of a year, in Markdown (or as JSON): counts, and no names."""
    run = invocation.of(context)
    since, until = (int(datetime(each, 1, 1, tzinfo=UTC).timestamp()) for each in (year, year + 1))
    with run.administration() as administration:
        made = report_of(year, administration.control.disclosures.received(since, until))
    if run.output.as_json:
        run.output.record(made.values())
    else:
        sys.stdout.write(made.markdown())


def _step(context: typer.Context, case: str, state: CaseState, reason: str) -> None:
    run = invocation.of(context)
    with run.administration() as administration:
        done = set_state(administration.installation, case, state, reason, _person(run))
    run.output.done(f"The case {case} is {done.state}.", _values(done))


def _person(run: Invocation) -> Person:
    return Person(run.operator, run.person.name)


def _subject(administration: Administration, tenant: str, account: str) -> tuple[TenantId, AccountId | None]:
    if account:
        whose = invocation.find_account(administration, account)
        return whose.tenant.tenant_id, whose.account.account_id
    return invocation.find_tenant(administration, tenant).tenant_id, None


def _classes(text: str) -> frozenset[What]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in set(What)]
    if unknown:
        raise InvalidInput(f"'{unknown[0][:40]}' is no class of data; there are {', '.join(What)}.")
    return frozenset(What(name) for name in names)


def _message(text: str) -> MessageName:
    folder, _, uid = text.rpartition("/")
    if not folder or not uid.isdecimal() or len(uid) > 10:
        raise InvalidInput(f"'{text[:60]}' names no message; write FOLDER/UID, such as INBOX/17.")
    return MessageName(folder, int(uid))


def _hash(document: Path) -> bytes:
    try:
        if document.stat().st_size > DOCUMENT_MAX:
            raise InvalidInput("The notification is too large.")
        with document.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        raise InvalidInput(f"{document} cannot be read.") from None


def _values(case: Case) -> dict[str, Any]:
    return {
        "case": case.case_id,
        "received": moment(case.received),
        "kind": case.kind.value,
        "authority": case.authority,
        "legal_basis": case.legal_basis,
        "document_sha256": case.document.hex(),
        "tenant_number": case.tenant_id,
        "account_number": case.account_id,
        "state": case.state.value,
        "recorded_by": case.recorded_by,
        "secret_until": moment(case.secret_until),
        "closed": moment(case.closed),
        "items": case.items,
        "accounts": case.accounts,
        "manifest_sha256": case.extract.hex() if case.extract else None,
    }


def _scope(scope: Scope | None) -> dict[str, Any]:
    if scope is None:
        return {"what": "erased with whom it is about"}
    return {
        "what": sorted(scope.what),
        "from": moment(scope.since),
        "to": moment(scope.until),
        "messages": [f"{each.folder}/{each.uid}" for each in scope.messages],
    }

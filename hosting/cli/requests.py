"""cleanmail request: what needs two persons. One asks, another approves, then who asked may do it once.

Every step is an audit record that names the person and the Unix user; with the subject's data, its owner sees them.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hosting.administration import Administration
from hosting.cli import invocation
from hosting.cli.contracts import last_moment
from hosting.cli.invocation import Invocation
from hosting.cli.messages import mark_of
from hosting.cli.output import moment
from hosting.cli.recording import NOBODY, Subject, record_all
from hosting.contracts.holding import ask_for_hold, lift_hold, make_hold
from hosting.disclosure.cases import resumption
from storage.directory.approvals import Approval, ApprovalState, Kind, scope_of
from storage.errors import InvalidInput, NotPermitted
from storage.values import AccountId, TenantId

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What needs a second person: ask, list, show, approve, refuse, withdraw.",
)

# What a scope says by options: a detail of that name would make the request one for something else than it is about.
_NAMED = frozenset({"tenant", "account", "tenant_id", "account_id", "folder", "uid", "case", "resumed", "held_until"})

Number = Annotated[str, typer.Argument(metavar="ID", help="The request's id, as in the list.")]


@app.command()
def ask(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="What for.")],
    reason: Annotated[str, typer.Option(help="Why; the second person decides by it, and audit records keep it.")],
    tenant: Annotated[str, typer.Option(help="The tenant that it is about.")] = "",
    account: Annotated[str, typer.Option(help="The address of the account that it is about.")] = "",
    message: Annotated[str, typer.Option(metavar="FOLDER/UID", help="The message, for body_access.")] = "",
    case: Annotated[str, typer.Option(help="The case, for disclosure.")] = "",
    until: Annotated[str, typer.Option(metavar="DATE", help="The last day, for hold.")] = "",
    detail: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="What else it is for exactly; several times.")
    ] = None,
) -> None:
    """Ask for what a second person has to approve."""
    run = invocation.of(context)
    more = _details(detail or []) | ({"case": case} if case else {}) | (_message(message) if message else {})
    if (kind is Kind.BODY_ACCESS) != bool(message) or (message and not account):
        raise InvalidInput("For body_access, and for it alone, name the --account and the --message.")
    if (kind is Kind.DISCLOSURE) != bool(case):
        raise InvalidInput("For disclosure, and for it alone, name the --case.")
    if (kind is Kind.HOLD) != bool(until):
        raise InvalidInput("For hold, and for it alone, name the last day: --until.")
    if kind is Kind.HOLD and detail:
        raise InvalidInput("A hold is for all of the --tenant or the --account: it has no details.")
    if kind in {Kind.EARLY_ERASURE, Kind.HOLD} and not (tenant or account):
        raise InvalidInput("Name the --tenant or the --account that it is about.")
    with run.administration() as administration:
        tenant_id, account_id = _subject(administration, tenant, account)
        who, days = {"by": run.operator, "unix": run.person.name}, run.config.staff.approval_days
        if kind is Kind.HOLD and tenant_id is not None:
            installation, ends = administration.installation, last_moment(until)
            made = ask_for_hold(installation, tenant_id, account_id, ends=ends, reason=reason, days=days, **who)
        else:
            if case:
                more |= resumption(administration.installation, administration.control.disclosures.find(case))
            if kind is Kind.BODY_ACCESS and tenant_id is not None and account_id is not None:
                more |= {"message": mark_of(administration, tenant_id, account_id, more["folder"], int(more["uid"]))}
            scope = scope_of(tenant_id, account_id, **more)
            approvals = administration.control.approvals
            made = approvals.ask(kind, scope, reason, tenant_id=tenant_id, account_id=account_id, days=days, **who)
    run.output.done(
        f"Request {made.approval_id} waits for a second person until {moment(made.expires)}: "
        f"cleanmail request approve {made.approval_id}.",
        _values(made),
    )


@app.command("list")
def list_(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
) -> None:
    """List requests that wait, or were approved and not used yet."""
    run = invocation.of(context)
    with run.administration() as administration:
        record_all(run, administration, "approval.list", [NOBODY])
        found = administration.control.approvals.all()
    open_states = {ApprovalState.WAITING, ApprovalState.APPROVED}
    rows = [_values(each) for each in found if everything or each.state in open_states]
    columns = {
        "id": "id",
        "kind": "kind",
        "state": "state",
        "asked": "asked",
        "asked_by": "by",
        "expires": "until",
        "decided_by": "decided by",
        "scope": "for",
    }
    if not run.output.as_json:
        rows = [{**row, "scope": _scope(row["scope"])} for row in rows]
    run.output.rows(columns, rows, "Nothing waits for a second person.")


@app.command()
def show(context: typer.Context, request: Number) -> None:
    """Show one request with its reason."""
    run = invocation.of(context)
    with run.administration() as administration:
        found = administration.control.approvals.find(request)
        record_all(run, administration, "approval.show", [_sealed_for(found)], {"request": request})
    values = _values(found)
    run.output.record(values if run.output.as_json else {**values, "scope": _scope(values["scope"])})


@app.command()
def approve(context: typer.Context, request: Number) -> None:
    """Approve what another person asked for."""
    _decide(context, request, approved=True)


@app.command()
def refuse(context: typer.Context, request: Number) -> None:
    """Refuse what another person asked for."""
    _decide(context, request, approved=False)


@app.command()
def withdraw(context: typer.Context, request: Number) -> None:
    """Withdraw what you asked for yourself, approved or not."""
    run = invocation.of(context)
    with run.administration() as administration:
        done = administration.control.approvals.withdraw(request, run.operator, unix=run.person.name)
    run.output.done(f"Request {done.approval_id} is withdrawn.", _values(done))


def _decide(context: typer.Context, request: str, *, approved: bool) -> None:
    run = invocation.of(context)
    _check_known(run)
    with run.administration() as administration:
        done = administration.control.approvals.decide(request, run.operator, approved, unix=run.person.name)
        hold = make_hold(administration.installation, done) if approved else None
        lifted = lift_hold(administration.installation, done) if approved else None
        done = administration.control.approvals.find(request)
    sentence = f"{done.asked_by} may do it, once, until {moment(done.expires)}." if approved else "It was refused."
    if hold is not None:
        sentence = f"The legal hold {hold.hold_id} is in force until {moment(hold.ends)}."
    elif lifted is not None:
        sentence = f"The legal hold {lifted.hold_id} is lifted: what it kept may be erased from now on."
    elif approved and done.kind is Kind.HOLD:
        sentence = "It came too late: nothing is changed."
    run.output.done(sentence, _values(done))


def _sealed_for(found: Approval) -> Subject:
    """Whom it is about, if that is still there: else there is no key to seal its record under."""
    return NOBODY if found.scope is None else (found.tenant_id, found.account_id)


def _check_known(run: Invocation) -> None:
    """The second person is one: not a process of the server's own, of which nobody knows whose it is."""
    if run.who.server and not (run.who.signed_in or run.who.root):
        raise NotPermitted(f"The server runs as '{run.person.name}': the second person is somebody else.")


def _subject(administration: Administration, tenant: str, account: str) -> tuple[TenantId | None, AccountId | None]:
    if account:
        whose = invocation.find_account(administration, account)
        if tenant and invocation.find_tenant(administration, tenant).tenant_id != whose.tenant.tenant_id:
            raise InvalidInput("The account belongs to another tenant.")
        return whose.tenant.tenant_id, whose.account.account_id
    return (invocation.find_tenant(administration, tenant).tenant_id if tenant else None), None


def _message(text: str) -> dict[str, str]:
    folder, _, uid = text.rpartition("/")
    if not folder or not (uid.isascii() and uid.isdecimal()):
        raise InvalidInput("A message is named by its folder and its UID: INBOX/17.")
    return {"folder": folder, "uid": str(int(uid))}


def _details(given: list[str]) -> dict[str, str]:
    found = {}
    for each in given:
        name, between, value = each.partition("=")
        if not between or not name:
            raise InvalidInput("A detail is written NAME=VALUE.")
        if name in _NAMED or name in found:
            raise InvalidInput(f"'{name[:40]}' is no detail: it has an option of its own, or was given twice.")
        found[name] = value
    return found


def _scope(scope: dict[str, str] | None) -> str:
    return "erased" if scope is None else ", ".join(f"{name} {value}" for name, value in scope.items())


def _values(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.approval_id,
        "kind": approval.kind,
        "state": approval.state,
        "scope": None if approval.scope is None else dict(approval.scope),
        "reason": approval.reason,
        "tenant_number": approval.tenant_id,
        "account_number": approval.account_id,
        "asked": moment(approval.asked),
        "asked_by": approval.asked_by,
        "asked_as": approval.asked_as,
        "expires": moment(approval.expires),
        "decided": moment(approval.decided),
        "decided_by": approval.decided_by,
        "used": moment(approval.used),
    }

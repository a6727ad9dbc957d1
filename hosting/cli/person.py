"""cleanmail person: what is stored about a person, and how that is corrected and erased where the law asks for it.

Every run is an audit record before anything is read or changed; an account's owner finds it in his journal. An
administrator of a customer sees and corrects what lies with that customer alone; erasing is the provider's.
"""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from hosting import composition
from hosting.administration import Administration
from hosting.auth.client import AuthClient
from hosting.cli import endings, invocation
from hosting.cli.export import read_key
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment
from hosting.roles import privileges
from storage.ending.orders import order_account
from storage.errors import InvalidInput, NotPermitted
from storage.persons import requests as made
from storage.persons.correct import correct_address, correct_name
from storage.persons.erase import Erased, ask_for_logs, erase_last_logs, may_erase_logs
from storage.persons.erase import erase as erase_person
from storage.persons.report import Report, stream_report, verify_report, write_report
from storage.persons.sought import Sought, seek
from storage.values import EmailAddress

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Rights of persons: what is stored about an address; correct and erase it; what was asked for.",
)

_WRITTEN = 3.0  # seconds in which every process has written its records; it does so each second
INCOMPLETE = 4  # exit status: something could not be read, or erased

_Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The person's address, here or elsewhere.")]
_Tenant = Annotated[str, typer.Option(metavar="SLUG", help="Look at this customer's data only.")]


@app.command()
def report(
    context: typer.Context,
    address: _Address,
    target: Annotated[str, typer.Argument(metavar="TO", help="A new folder, or - for lines of JSON.")],
    tenant: _Tenant = "",
    with_mail: Annotated[bool, typer.Option("--with-mail", help="The mailbox too, as an archive.")] = False,
    staff: Annotated[str, typer.Option(metavar="NAME", help="The name that the person signs in with as staff.")] = "",
    transcripts: Annotated[
        str, typer.Option(metavar="REASON", help="SMTP transcripts too; for log auditors, and the reason is kept.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Why; kept in the audit record.")] = "",
) -> None:
    """Collect what is stored about an address: for the person to read, for programs, and signed.

    Exit status 4: something could not be read; the report says what.
    """
    run = invocation.of(context)
    with ExitStack() as stack:
        if transcripts:  # the auth role asks who that is
            stack.enter_context(privileges.acting_as_owner(run.data))
        administration = stack.enter_context(run.administration())
        if staff and _is_customers(run):
            raise NotPermitted("What the provider's people did is told to themselves, by the provider.")
        sought = _sought(run, administration, address, tenant, staff)
        if target != "-" and _is_customers(run):
            raise NotPermitted("Say - instead of a folder: only the provider's people write files on this machine.")
        if target == "-" and with_mail:
            raise InvalidInput("The mailbox goes into a folder; see: cleanmail export.")
        what = {"reason": reason, "mail": "yes" if with_mail else ""}
        number = made.record(sought, made.REPORT, run.operator, {name: text for name, text in what.items() if text})
        if transcripts:
            details = {"reason": transcripts, "address": address if sought.account_id is not None else sought.mark}
            whose = (sought.tenant_id, sought.account_id)
            reading = administration.installation.audit.append("transcripts.read", run.operator, *whose, details)
            sought.transcripts_key = composition.auditor_key(run.data, run.config, f"audit record {reading}", run.who)
        found = _collected(run, sought, target, with_mail, reason)
    if target != "-":
        items = sum(found.counts.values())
        run.output.done(
            f"{target}: {items} items about {address}; this is audit record {number}.",
            {"report": target, "items": items, "counts": found.counts, "unreadable": found.unreadable}
            | {"audit_record": number},
        )
    for each in found.unreadable:
        run.output.note(f"Could not be read: {each}")
    if found.unreadable:
        raise typer.Exit(INCOMPLETE)


@app.command()
def verify(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The report.")],
    key: Annotated[str, typer.Option(metavar="FILE|HEX", help="The key, from: cleanmail export key.")] = "",
) -> None:
    """Find out whether a report is whole and unchanged; needs no installation."""
    run = invocation.of(context)
    values = verify_report(folder, read_key(key))
    run.output.done(
        f"{folder}: whole and unchanged since {moment(values['made'])}.",
        {"genuine": True, "address": values["address"], "made": moment(values["made"])},
    )


@app.command()
def correct(
    context: typer.Context,
    address: _Address,
    name: Annotated[str | None, typer.Option(help="The name that is shown.")] = None,
    new: Annotated[str, typer.Option("--address", metavar="NEW", help="The address from now on.")] = "",
    keep_alias: Annotated[bool, typer.Option("--keep-alias", help="Mail to the old address still comes.")] = False,
    tenant: _Tenant = "",
) -> None:
    """Correct the name or the address of an account, and the contact of contracts that has this address."""
    run = invocation.of(context)
    if name is None and not new:
        raise InvalidInput("Say what is to be corrected: --name or --address.")
    with run.administration() as administration:
        sought = _sought(run, administration, address, tenant)
        numbers = []
        if name is not None:
            numbers.append(correct_name(sought, name, run.operator))
        if new:
            numbers += correct_address(sought, EmailAddress.parse(new), run.operator, keep_alias=keep_alias)
    run.output.done(
        f"Corrected; see audit record {', '.join(map(str, numbers))}.", {"address": new or address, "records": numbers}
    )


@app.command()
def erase(
    context: typer.Context,
    address: _Address,
    reason: Annotated[str, typer.Option(help="Which request, on which ground; kept in the audit record.")],
    logs: Annotated[
        bool,
        typer.Option("--logs", help="From access events, traces and transcripts too; a second person has to agree."),
    ] = False,
    tenant: _Tenant = "",
    yes: endings.Yes = False,
    wait: endings.Wait = True,
) -> None:
    """Erase a person: an account with its mail, and what customers' data says of the address. There is no way back.

    What the law keeps stays, and is listed with its reason and its end. Exit status 4: something could not be erased.
    """
    run = invocation.of(context)
    if logs and not wait:
        raise InvalidInput("Records are erased when the account's last sessions are over: leave out --no-wait.")
    with run.administration() as administration:
        installation = administration.installation
        sought = _sought(run, administration, address, tenant)
        if logs and not may_erase_logs(sought, run.operator):
            asked = ask_for_logs(
                sought, reason, run.operator, unix=run.person.name, days=run.config.staff.approval_days
            )
            run.output.done(
                "Nothing is erased so far. Another person has to approve it: cleanmail request approve"
                f" {asked.approval_id}; then run this again.",
                {"request": asked.approval_id, "expires": moment(asked.expires)},
            )
            return
        tenant_id, account_id = sought.tenant_id, sought.account_id
        if account_id is not None and tenant_id is not None:
            installation.control.holds.check(tenant_id, account_id)
        endings.confirm(f"{address} will be erased, with an account and its mail if there is one.", address, yes=yes)
        erased = erase_person(sought, run.operator, reason, logs=logs)
        _tell(run, address, erased, with_account=account_id is not None)
        if account_id is not None and tenant_id is not None:
            ending_id = order_account(installation, tenant_id, account_id, run.operator, reason)
            endings.finish(run, administration, ending_id, wait=wait, sentence=f"The account {address} is gone")
            if logs:
                erase_last_logs(sought, account_id, erased, lambda: _written(administration))
    if erased.failed:
        raise typer.Exit(INCOMPLETE)


@app.command()
def requests(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="[ADDRESS]", help="Only about this person.")] = "",
    tenant: _Tenant = "",
) -> None:
    """List what people asked for about themselves and what was done: the audit records of it."""
    run = invocation.of(context)
    with run.administration() as administration:
        audit = administration.installation.audit
        if address:
            sought = _sought(run, administration, address, tenant)
            whose = (sought.tenant_id, sought.account_id) if sought.account_id is not None else (sought.only, None)
            details = {"action": made.NOUN, made.PERSON: sought.mark}
            audit.append("audit.read", run.operator, whose[0], whose[1], details)
            records = list(made.made(sought))
        else:
            only = invocation.find_tenant(administration, tenant).tenant_id if tenant else _own_tenant(run)
            audit.append("audit.read", run.operator, only, None, {"action": made.NOUN})
            records = list(audit.read(action=made.NOUN, tenant_id=only))
    rows = [
        {
            "number": each.number,
            "time": moment(each.time),
            "action": each.action,
            "by": each.actor,
            "person": (each.details or {}).get("address") or (each.details or {}).get(made.PERSON) or "erased",
            "reason": (each.details or {}).get("reason", ""),
            "details": dict(each.details or {}),
        }
        for each in records
    ]
    columns = {"number": "number", "time": "time", "action": "action", "by": "by", "person": "person"}
    run.output.rows(columns | {"reason": "reason"}, rows, "Nobody has asked for anything.")


def _written(administration: Administration) -> None:
    """Returns when every process of a server has written what it had in memory of records."""
    if isinstance(administration.installation.keys, AuthClient):
        threading.Event().wait(_WRITTEN)


def _sought(run: Invocation, administration: Administration, address: str, tenant: str, staff: str = "") -> Sought:
    only = invocation.find_tenant(administration, tenant).tenant_id if tenant else _own_tenant(run)
    return seek(administration.installation, EmailAddress.parse(address), only, staff)


def _own_tenant(run: Invocation) -> Any:
    """The one customer whose administrator runs this; None: the provider's people."""
    return run.known.tenant_id if run.known is not None else None


def _is_customers(run: Invocation) -> bool:
    return _own_tenant(run) is not None


def _collected(run: Invocation, sought: Sought, target: str, with_mail: bool, reason: str) -> Report:
    with run.output.progress() as bar:
        task = bar.add_task("collecting", total=None)

        def tell(title: str, done: int, total: int) -> None:
            bar.update(task, description=title[:40], completed=done, total=total)

        if target == "-":
            return stream_report(sought, lambda text: print(text, end="", file=sys.stdout), tell, reason=reason)
        return write_report(sought, Path(target).absolute(), tell, with_mail=with_mail, reason=reason)


def _tell(run: Invocation, address: str, erased: Erased, *, with_account: bool) -> None:
    """What was erased beside the account, if there is one: that is told when it has ended."""
    found = {name: count for name, count in erased.counts.items() if count}
    said = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in found.items())
    if with_account:
        sentence = f"Erased of {address} beside the account: {said or 'nothing else was found'}."
    else:
        sentence = f"Erased of {address}: {said or 'nothing was found'}."
    stays = [
        {"class": each.of.name, "title": each.of.title, "why": each.why, "until": each.until} for each in erased.stays
    ]
    run.output.done(sentence, {"erased": found, "stays": stays, "failed": erased.failed})
    for each in erased.stays:
        run.output.note(f"Stays: {each.of.title}: {each.why}; {each.until}.")
    for failure in erased.failed:
        run.output.note(f"Could not be erased: {failure}")

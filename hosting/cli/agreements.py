"""cleanmail review agreement: who promised in writing to keep secret what he sees of withheld mail.

An administrator records what another one signed; nobody records an agreement of his own. The document itself is not
kept, only its SHA-256. Every change is durable and an audit record.
"""

from __future__ import annotations

import hashlib
import pwd
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hosting import composition
from hosting.cli import invocation, quantities
from hosting.cli.output import moment
from storage.directory.agreements import Agreement
from storage.errors import InvalidInput, NotFound, NotPermitted

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Secrecy agreements of who reviews withheld mail: record, list, end.",
)

Person = Annotated[str, typer.Argument(help="The Unix user of the person.")]


@app.command()
def record(
    context: typer.Context,
    person: Person,
    document: Annotated[
        Path, typer.Option(help="What was signed, such as a scan; its SHA-256 is kept.", dir_okay=False)
    ],
    signed: Annotated[str, typer.Option(help="When: 2026-05-01, 3d; now if not given.")] = "",
) -> None:
    """Record that a person signed a secrecy agreement: from now on he may see headers of reported mail."""
    run = invocation.of(context)
    now = int(time.time())
    when = quantities.moment(signed, now) if signed else now
    digest = _digest(document)
    with run.administration() as administration:
        installation = administration.installation
        if person in composition.server_users(run.data, run.config):
            raise NotPermitted(f"The server runs as '{person}': who reviews withheld mail is somebody else.")
        store = installation.control.agreements
        store.check(person, signed=when, recorded_by=run.operator)
        details = {"person": person, "signed": str(moment(when)), "document": digest.hex()}
        number = installation.audit.append("agreement.record", run.operator, details=details)
        made = store.record(person, digest, signed=when, recorded_by=run.operator)
    if not _is_user(person):
        run.output.note(f"This machine has no user '{person}' so far.")
    run.output.done(
        f"The secrecy agreement of {person} is in force; audit record {number} has the hash of the document.",
        {**_values(made), "audit_record": number},
    )


@app.command()
def end(context: typer.Context, person: Person) -> None:
    """End a person's secrecy agreement: from now on he sees nothing any more."""
    run = invocation.of(context)
    with run.administration() as administration:
        installation = administration.installation
        store = installation.control.agreements
        if store.in_force(person) is None:
            raise NotFound(f"No secrecy agreement of '{person[:64]}' is in force.")
        number = installation.audit.append("agreement.end", run.operator, details={"person": person})
        ended = store.end(person)
    run.output.done(
        f"{person} may not review any more; this is audit record {number}.", {**_values(ended), "audit_record": number}
    )


@app.command("list")
def list_(context: typer.Context) -> None:
    """List secrecy agreements, also those that have ended."""
    run = invocation.of(context)
    with run.administration() as administration:
        found = administration.control.agreements.all()
    columns = {
        "person": "person",
        "signed": "signed",
        "recorded": "recorded",
        "recorded_by": "by",
        "ended": "ended",
        "document": "SHA-256 of the document",
    }
    run.output.rows(columns, [_values(each) for each in found], "There is no secrecy agreement.")


def _values(agreement: Agreement) -> dict[str, Any]:
    return {
        "number": agreement.agreement_id,
        "person": agreement.person,
        "signed": moment(agreement.signed),
        "recorded": moment(agreement.recorded),
        "recorded_by": agreement.recorded_by,
        "ended": moment(agreement.ended),
        "document": agreement.document.hex(),
    }


def _digest(document: Path) -> bytes:
    try:
        with document.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            if not file.tell():
                raise InvalidInput("The document is empty.")
    except OSError as error:
        raise InvalidInput(f"{document} cannot be read: {error.strerror}.") from None
    return digest.digest()


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True

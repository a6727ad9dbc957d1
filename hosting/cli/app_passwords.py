"""cleanmail app-password: passwords for single devices, generated and shown once."""

from __future__ import annotations

from typing import Annotated

import typer

from hosting.cli import invocation
from hosting.cli.output import moment
from hosting.cli.recording import record

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Passwords of devices: create, revoke, list.")

Address = Annotated[str, typer.Argument(help="The account's address.")]


@app.command()
def create(
    context: typer.Context,
    address: Address,
    name: Annotated[str, typer.Argument(help="Which device it is for.")],
    protocol: Annotated[
        list[str] | None, typer.Option(help="imap, submission or dav, may be repeated; all if not given.")
    ] = None,
) -> None:
    """Make a password for a device and print it once."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "app_password.create", whose)
        row, text = administration.provisioning.create_app_password(
            whose.tenant.tenant_id, whose.account.account_id, name, protocol or ()
        )
        run.output.done(
            f"App password {row.app_password_id} for '{name}', shown this once: {text}",
            {"number": row.app_password_id, "name": name, "protocols": row.protocols, "password": text},
        )


@app.command()
def revoke(
    context: typer.Context, address: Address, number: Annotated[int, typer.Argument(help="Its number in the list.")]
) -> None:
    """Make an app password worthless; sessions that were opened with it end."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "app_password.revoke", whose, {"number": str(number)})
        administration.provisioning.revoke_app_password(whose.tenant.tenant_id, whose.account.account_id, number)
        run.output.done(f"App password {number} of {whose.account.login} was revoked.", {"number": number})


@app.command("list")
def list_(context: typer.Context, address: Address) -> None:
    """List an account's app passwords, the revoked ones too."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "app_password.list", whose)
        tenant = administration.installation.tenant(whose.tenant.tenant_id)
        rows = [
            {
                "number": row.app_password_id,
                "name": row.name,
                "protocols": sorted(row.protocols) or ["all"],
                "created": moment(row.created),
                "revoked": moment(row.revoked),
                "scram": row.scram,
            }
            for row in tenant.app_passwords.list(whose.account.account_id)
        ]
    columns = {"number": "number", "name": "device", "protocols": "for", "created": "created", "revoked": "revoked"}
    columns["scram"] = "SCRAM"
    run.output.rows(columns, rows, "The account has no app password.")
    if any(not row["scram"] and not row["revoked"] for row in rows):
        run.output.note("Those without SCRAM are from before; a program that signs in by SCRAM needs a new one.")

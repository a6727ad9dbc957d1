"""cleanmail staff: who works for the provider, and administrators of customers, with their roles and two factors.

The secret of the second factor is shown once, for an authenticator program; on a terminal nothing is stored before a
first code has shown that it arrived there. Every change ends the person's sessions and is an audit record first.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hosting.access import totp
from hosting.access.roles import StaffRole, parse_roles
from hosting.administration import Administration
from hosting.cli import invocation, secrets_input
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment
from hosting.composition import passwords_of
from storage.clock import SystemClock
from storage.directory.staff import NEVER, StaffMember, check_name
from storage.errors import AlreadyExists, Conflict, InvalidInput
from storage.values import TenantId

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Staff, and administrators of customers: add, list, show, roles, password, reset-totp, end.",
)

_TRIES = 3  # to type the first code

Name = Annotated[str, typer.Argument(help="The person's name: a-z, 0-9, '.', '-' and '_'.")]
Roles = Annotated[
    list[StaffRole],
    typer.Option("--role", help="May be given several times.", case_sensitive=False, show_default=False),
]
OfTenant = Annotated[str, typer.Option("--tenant", help="Of which customer, for a tenant_administrator.")]
PasswordFrom = Annotated[
    Path | None,
    typer.Option(
        "--secrets-from",
        metavar="FILE",
        show_default=False,
        help="A file with the password in its first line; - for standard input, /dev/fd/3 for a descriptor.",
        allow_dash=True,
    ),
]


@app.command()
def add(
    context: typer.Context, name: Name, role: Roles, tenant: OfTenant = "", secrets_from: PasswordFrom = None
) -> None:
    """Make an account for a person. Its second factor counts from the first code on that was right."""
    run = invocation.of(context)
    check_name(name)
    roles = _checked(role, tenant)
    with run.administration() as administration:
        store = administration.control.staff
        if store.look_up(name) is not None:
            raise AlreadyExists(f"There is, or was, somebody called '{name}'; that name is taken.")
        tenant_id = _tenant(administration, tenant)
        verifier = passwords_of(run.config).hash(_password(name, secrets_from))
        secret, step = _enrol(run, name)
        _audit(run, administration, "staff.add", name, tenant_id, roles=" ".join(roles), tenant=tenant)
        member = store.add(name, roles, tenant_id, verifier, secret, step)
        values = _values(administration, member)
    _shown(run, f"{name} may sign in now: cleanmail sign-in {name}.", values, secret, name)


@app.command("list")
def list_(context: typer.Context) -> None:
    """List who is staff, and who has been."""
    run = invocation.of(context)
    with run.administration() as administration:
        rows = [_values(administration, member) for member in administration.control.staff.all()]
    columns = {"name": "name", "roles": "roles", "tenant": "tenant", "confirmed": "second factor", "ended": "ended"}
    run.output.rows(columns, rows, "Nobody is staff yet; whoever can read the keys is an operator.")


@app.command()
def show(context: typer.Context, name: Name) -> None:
    """Show one person."""
    run = invocation.of(context)
    with run.administration() as administration:
        run.output.record(_values(administration, administration.control.staff.find(name)))


@app.command()
def roles(context: typer.Context, name: Name, role: Roles, tenant: OfTenant = "") -> None:
    """Give a person these roles instead of those he has."""
    run = invocation.of(context)
    given = _checked(role, tenant)
    with run.administration() as administration:
        store = administration.control.staff
        member = store.find(name)
        tenant_id = _tenant(administration, tenant)
        _not_himself(run, member)
        about = tenant_id or member.tenant_id
        _audit(run, administration, "staff.roles", name, about, roles=" ".join(given), tenant=tenant)
        changed = store.set_roles(member, given, tenant_id)
        run.output.done(f"{name} has these roles now: {', '.join(given)}.", _values(administration, changed))


@app.command()
def password(context: typer.Context, name: Name, secrets_from: PasswordFrom = None) -> None:
    """Set another password; his own one changes with `sign-in --change-password`."""
    run = invocation.of(context)
    with run.administration() as administration:
        store = administration.control.staff
        member = store.find(name)
        verifier = passwords_of(run.config).hash(_password(name, secrets_from))
        _audit(run, administration, "staff.password", name, member.tenant_id)
        changed = store.set_password(member, verifier)
        run.output.done(f"{name} signs in with the new password.", _values(administration, changed))


@app.command("reset-totp")
def reset_totp(context: typer.Context, name: Name) -> None:
    """Give a person a new second factor; codes of the old one work no more."""
    run = invocation.of(context)
    with run.administration() as administration:
        store = administration.control.staff
        member = store.find(name)
        secret, step = _enrol(run, name)
        _audit(run, administration, "staff.reset_totp", name, member.tenant_id)
        changed = store.set_totp(member, secret, step)
        values = _values(administration, changed)
    _shown(run, f"{name} has a new second factor.", values, secret, name)


@app.command()
def end(context: typer.Context, name: Name) -> None:
    """A person leaves: nothing of him signs in any more, and his session ends."""
    run = invocation.of(context)
    with run.administration() as administration:
        store = administration.control.staff
        member = store.find(name)
        _not_himself(run, member)
        _audit(run, administration, "staff.end", name, member.tenant_id)
        ended = store.end(member)
        run.output.done(f"{name} has left.", _values(administration, ended))


def _checked(given: list[StaffRole], tenant: str) -> tuple[str, ...]:
    found = parse_roles(role.value for role in given)
    if (StaffRole.TENANT_ADMINISTRATOR in found) != bool(tenant):
        raise InvalidInput("A tenant_administrator has a --tenant, and nobody else has one.")
    return tuple(sorted(role.value for role in found))


def _tenant(administration: Administration, name: str) -> TenantId | None:
    return invocation.find_tenant(administration, name).tenant_id if name else None


def _not_himself(run: Invocation, member: StaffMember) -> None:
    if run.who.signed_in and run.who.name == member.name:
        raise Conflict("Another operator has to do this: nobody changes his own roles.")


def _password(name: str, source: Path | None) -> str:
    if source is not None:
        return secrets_input.lines_of(source, 1)[0]
    return secrets_input.ask(f"Password for {name}")


def _enrol(run: Invocation, name: str) -> tuple[str, int]:
    """A new secret, and the time step of the code that confirmed it: NEVER where there is no terminal to ask on."""
    secret = totp.new_secret()
    if run.output.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return secret, NEVER
    address = totp.uri(secret, name, _issuer(run))
    print(totp.picture(address))
    print(f"{address}\nLet an authenticator program read this; it is shown this once.")
    for _ in range(_TRIES):
        step = totp.step_of(secret, typer.prompt("Its code"), SystemClock().now())
        if step is not None:
            return secret, step
        print("That is not its code.")
    raise InvalidInput("The second factor was not confirmed, and nothing was changed.")


def _shown(run: Invocation, sentence: str, values: dict[str, Any], secret: str, name: str) -> None:
    if values["confirmed"]:
        run.output.done(sentence, values)
        return
    address = totp.uri(secret, name, _issuer(run))
    run.output.done(
        f"{sentence}\nSecond factor, shown this once: {address}\nIt counts from its first code on.",
        {**values, "otpauth": address},
    )


def _issuer(run: Invocation) -> str:
    return f"Cleanmail {run.config.server.name}"


def _audit(
    run: Invocation,
    administration: Administration,
    action: str,
    name: str,
    tenant_id: TenantId | None,
    **details: str,
) -> None:
    """About a customer's administrator it ends with the contract, as all that is recorded about the customer."""
    given = {key: value for key, value in details.items() if value}
    administration.installation.audit.append(action, run.operator, tenant_id, details={"name": name, **given})


def _values(administration: Administration, member: StaffMember) -> dict[str, Any]:
    slugs = {row.tenant_id: row.slug for row in administration.control.tenants()} if member.tenant_id else {}
    return {
        "name": member.name,
        "roles": list(member.roles),
        "tenant": slugs.get(member.tenant_id, str(member.tenant_id)) if member.tenant_id is not None else None,
        "confirmed": member.confirmed,
        "failures": member.failures,
        "created": moment(member.created),
        "ended": moment(member.ended),
    }

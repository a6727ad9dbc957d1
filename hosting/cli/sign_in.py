"""cleanmail sign-in, sign-out, whoami: sessions of people at the command line.

Name, password and code are compared where the server decides sign-ins, or here where none runs. The token of a session
lies in a file of the person's own (`hosting.access.session_file`).
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hosting import composition
from hosting.access import session_file
from hosting.access.decide import roles_in_force
from hosting.access.roles import Who
from hosting.cli import invocation, secrets_input
from hosting.cli.output import moment
from hosting.roles import privileges
from storage.errors import InvalidInput

SecretsFrom = Annotated[
    Path | None,
    typer.Option(
        "--secrets-from",
        metavar="FILE",
        show_default=False,
        help="A file with the password in its first line and the code in its second; - for standard input, "
        "/dev/fd/3 for a descriptor.",
        allow_dash=True,
    ),
]


def sign_in(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name that `cleanmail staff add` gave.")],
    secrets_from: SecretsFrom = None,
    change_password: Annotated[
        bool, typer.Option("--change-password", help="Then set another password; it is signed in with afterwards.")
    ] = False,
) -> None:
    """Sign in: commands of this Unix user are run, and recorded, as this person until `sign-out`."""
    run = invocation.of(context)
    composition.check_initialised(run.data)
    previous = session_file.read(run.data, run.person.uid)
    password, code, *more = _secrets(secrets_from, 3 if change_password and secrets_from is not None else 2)
    with (
        privileges.acting_as_owner(run.data),
        composition.staff_signing_in(run.data, run.config, run.person) as entrance,
    ):
        signed = entrance.staff_sign_in(name, password, code)
    with _ended_if_it_fails(run, signed.token):
        if change_password:
            _change_password(run, signed.name, more[0] if more else secrets_input.ask("New password"))
            return
        session_file.write(run.data, run.person.uid, signed.token)
    _end(run, previous)
    if signed.failures:
        run.output.note(f"Since the last time {signed.failures} sign-ins with this name failed.")
    run.output.done(
        f"Signed in as {signed.name} ({', '.join(signed.roles)}) until {moment(signed.expires)}.",
        {
            "name": signed.name,
            "roles": list(signed.roles),
            "expires": moment(signed.expires),
            "failures": signed.failures,
        },
    )


def sign_out(context: typer.Context) -> None:
    """End the session."""
    run = invocation.of(context)
    composition.check_initialised(run.data)
    ended = _end(run, session_file.read(run.data, run.person.uid))
    session_file.remove(run.data, run.person.uid)
    run.output.done("Signed out." if ended else "There was no session.", {"ended": ended})


def whoami(context: typer.Context) -> None:
    """Show as whom commands are run and recorded, and with which roles."""
    run = invocation.of(context)
    composition.check_initialised(run.data)
    who = run.identify()
    tenant = None
    if who.tenant_id is not None:
        with run.administration() as administration:
            tenant = administration.control.tenant(who.tenant_id).slug
    run.output.record(
        {
            "name": who.name,
            "roles": _roles(who),
            "tenant": tenant,
            "unix_user": who.unix,
            "signed_in": who.signed_in,
            "must_sign_in": who.must_sign_in,
        }
    )


def _roles(who: Who) -> list[str]:
    """Those that count now."""
    return [] if who.must_sign_in else sorted(role.value for role in roles_in_force(who))


def _change_password(run: invocation.Invocation, name: str, new: str) -> None:
    verifier = composition.passwords_of(run.config).hash(new)
    with (
        privileges.acting_as_owner(run.data),
        composition.administration(run.data, run.config) as administration,
    ):
        store = administration.control.staff
        administration.installation.audit.append("staff.password", name, details={"name": name})
        store.set_password(store.find(name), verifier)
    run.output.done(f"The password of {name} was changed; sign in with it.", {"name": name})


@contextmanager
def _ended_if_it_fails(run: invocation.Invocation, token: str) -> Iterator[None]:
    """Where only the Unix user counts, a session of which nobody has the token would be believed all the same."""
    try:
        yield
    except BaseException:
        _end(run, token)
        raise


def _end(run: invocation.Invocation, token: str) -> bool:
    if not token:
        return False
    with (
        privileges.acting_as_owner(run.data),
        composition.administration(run.data, run.config) as administration,
    ):
        return administration.control.staff.end_session(token)


def _secrets(source: Path | None, count: int) -> list[str]:
    if source is not None:
        return secrets_input.lines_of(source, count)
    if not sys.stdin.isatty():
        raise InvalidInput("There is no terminal to ask on; use --secrets-from.")
    return [getpass.getpass("Password: "), getpass.getpass("Code: ")]

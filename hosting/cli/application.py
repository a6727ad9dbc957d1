"""The command line `cleanmail`: its commands, put together.

Exit status: 0 done; 1 refused, not found or not valid; 2 wrong usage; 3 not possible for the moment, try again;
4 `check` found damage; 5 `import` or `migrate` left messages out; 70 an unexpected error; 130 interrupted.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info, get_group_from_info
from typer.models import CommandInfo, TyperInfo

from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.cli.output import Output
from hosting.config import FILE_NAME
from storage.errors import InvalidInput

DEFAULT_DATA = Path("/var/lib/cleanmail")

# Where each command is: its module and the function, or the group of commands. Together they need most of the server,
# and take most of the time of a short command: only the one that is asked for is loaded (all of them, to list them).
_COMMANDS = {
    "init": ("server", "init"),
    "serve": ("server", "serve"),
    "tenant": ("tenants", "app"),
    "domain": ("domains", "app"),
    "route": ("routes", "app"),
    "dkim": ("dkim", "app"),
    "dns": ("dns", "app"),
    "account": ("accounts", "app"),
    "alias": ("aliases", "app"),
    "app-password": ("app_passwords", "app"),
    "collection": ("collections", "app"),
    "acl": ("acl", "app"),
    "certificate": ("certificate", "app"),
    "ending": ("endings", "app"),
    "contract": ("contracts", "app"),
    "hold": ("holds", "app"),
    "import": ("archives", "import_"),
    "migrate": ("migrate", "migrate"),
    "export": ("export", "app"),
    "backup": ("backup", "app"),
    "restore": ("restore", "restore"),
    "keys": ("keys", "app"),
    "check": ("maintenance", "check"),
    "upgrade": ("maintenance", "upgrade"),
    "imap": ("imap", "app"),
    "queue": ("queue", "app"),
    "quarantine": ("quarantine", "app"),
    "filter": ("filter", "app"),
    "trace": ("trace", "trace"),
    "log": ("log", "app"),
    "audit": ("audit", "app"),
    "disclosure": ("disclosure", "app"),
    "review": ("review", "app"),
    "privacy": ("privacy", "app"),
    "retention": ("retention", "app"),
    "clock": ("clock", "app"),
    "person": ("person", "app"),
    "message": ("messages", "app"),
    "request": ("requests", "app"),
    "staff": ("staff", "app"),
    "sign-in": ("sign_in", "sign_in"),
    "sign-out": ("sign_in", "sign_out"),
    "whoami": ("sign_in", "whoami"),
}


class Commands(TyperGroup):
    """The commands of the program, each loaded when it is asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.commands = cast(Any, dict.fromkeys(_COMMANDS))  # what is suggested to whoever mistypes one

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperGroup | TyperCommand | None:
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, name = place
        found = getattr(import_module(f"hosting.cli.{module}"), name)
        if isinstance(found, typer.Typer):
            info = TyperInfo(found, name=cmd_name)
            return _guarded(
                get_group_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None, suggest_commands=True),
                cmd_name,
            )
        command = CommandInfo(name=cmd_name, callback=found)
        made = get_command_from_info(command, pretty_exceptions_short=False, rich_markup_mode=None)
        return _guarded(cast(TyperCommand, made), cmd_name)


Made = TypeVar("Made", TyperGroup, TyperCommand)


def _guarded(made: Made, path: str) -> Made:
    """The command, or all those of a group: each asks whether it is allowed before it does anything."""
    if isinstance(made, TyperGroup):
        for name, each in made.commands.items():
            _guarded(cast(TyperCommand, each), f"{path} {name}")
        return made
    run = made.invoke

    def invoke(ctx: typer.Context) -> Any:
        invocation.of(ctx).begin(path)
        return run(ctx)

    cast(Any, made).invoke = invoke
    return made


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Cleanmail: e-mail hosting for providers who promise privacy. Administers an installation, running or not.",
    epilog=(
        "Exit status: 0 done; 1 refused, not found or not valid; 2 wrong usage; 3 not possible for the moment; "
        "4 check found damage; 5 import or migrate left messages out; 70 unexpected error; 130 interrupted."
    ),
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"cleanmail {version('cleanmail')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    data: Annotated[
        Path, typer.Option(help="The data directory.", envvar="CLEANMAIL_DATA", show_default=True)
    ] = DEFAULT_DATA,
    config: Annotated[
        Path | None, typer.Option(help=f"The configuration file; {FILE_NAME} in the data directory if not given.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for scripts; may stand anywhere on the line.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    os.umask(0o077)
    if config is not None and not config.exists():  # with defaults in its place others would have more rights
        raise InvalidInput(f"There is no configuration file {config}.")
    data = data.absolute()
    run = Invocation(data, (config or data / FILE_NAME).absolute(), Output(as_json=as_json))
    context.obj = run
    context.call_on_close(run.close)

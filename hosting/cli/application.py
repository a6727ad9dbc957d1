"""The command line `cleanmail`: its commands, put together.

Exit status: 0 done; 1 refused, not found or not valid; 2 wrong usage; 3 not possible for the moment, try again;
4 `check` found damage; 5 `import` left messages out; 70 an unexpected error; 130 interrupted.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from hosting.cli import (
    accounts,
    aliases,
    app_passwords,
    archives,
    dkim,
    dns,
    domains,
    log,
    maintenance,
    quarantine,
    queue,
    review,
    routes,
    server,
    tenants,
    trace,
)
from hosting.cli import filter as filter_
from hosting.cli.invocation import Invocation
from hosting.cli.output import Output
from hosting.config import FILE_NAME

DEFAULT_DATA = Path("/var/lib/cleanmail")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Cleanmail: e-mail hosting for providers who promise privacy. Administers an installation, running or not.",
    epilog=(
        "Exit status: 0 done; 1 refused, not found or not valid; 2 wrong usage; 3 not possible for the moment; "
        "4 check found damage; 5 import left messages out; 70 unexpected error; 130 interrupted."
    ),
)

app.command("init")(server.init)
app.command("serve")(server.serve)
app.add_typer(tenants.app, name="tenant")
app.add_typer(domains.app, name="domain")
app.add_typer(routes.app, name="route")
app.add_typer(dkim.app, name="dkim")
app.add_typer(dns.app, name="dns")
app.add_typer(accounts.app, name="account")
app.add_typer(aliases.app, name="alias")
app.add_typer(app_passwords.app, name="app-password")
app.command("import")(archives.import_)
app.command("check")(maintenance.check)
app.command("upgrade")(maintenance.upgrade)
app.add_typer(queue.app, name="queue")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(filter_.app, name="filter")
app.command("trace")(trace.trace)
app.add_typer(log.app, name="log")
app.add_typer(review.app, name="review")


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
    data = data.absolute()
    context.obj = Invocation(data, (config or data / FILE_NAME).absolute(), Output(as_json=as_json))

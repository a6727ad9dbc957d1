"""cleanmail init and cleanmail serve."""

from __future__ import annotations

from typing import Annotated

import typer

from hosting import composition, tls
from hosting.cli import invocation
from hosting.config import Config
from hosting.roles import privileges, start


def init(
    context: typer.Context,
    self_signed: Annotated[
        bool, typer.Option("--self-signed", help="Make a certificate to try out, with a CA file for mail programs.")
    ] = False,
) -> None:
    """Make an installation: the data directory, its keys and its databases."""
    run = invocation.of(context)
    config = run.config
    composition.make_data_directory(run.data, config)
    privileges.become(config.server.user)
    privileges.become_owner(run.data)  # a folder made for the server's user stays usable for it, whoever runs this
    composition.create(run.data, config)
    if self_signed:
        tls.make_self_signed(run.data / "tls", [config.server.name])
    run.output.done(
        f"The installation in {run.data} is ready. Its master key is {composition.master_place(run.data, config)}: "
        "keep a copy apart from the backups of the data, and a new one after each key that is destroyed: what a copy "
        "of before opened, it opens no more (the generation stands in cleanmail keys status).",
        {"data": str(run.data), "self_signed": self_signed},
    )


def serve(
    context: typer.Context,
    single: Annotated[
        bool, typer.Option("--single", help="All roles in one process, for tests and very small machines.")
    ] = False,
) -> None:
    """Run the server until it is told to stop (SIGTERM); SIGHUP loads certificate and configuration again."""
    run = invocation.of(context)
    composition.check_initialised(run.data)

    if not single:
        run.close()
        start.replace(run.data, run.config_path, as_json=run.output.as_json)

    def ready(config: Config) -> None:
        print(start.ready_line(config), flush=True)

    start.run(run.data, run.config_path, single=True, on_ready=ready)

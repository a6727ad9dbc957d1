"""cleanmail backup: copies of the running installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hosting.auth.client import AuthClient
from hosting.backup_round import keep_of, secret_places
from hosting.cli import invocation
from hosting.cli.backup_finding import INCOMPLETE, find, source_of
from hosting.cli.output import moment, size
from storage.backup.backup import BackupRun, Progress
from storage.backup.place import Place, Stored, place_and_time
from storage.backup.pruning import prune
from storage.backup.verifying import verify as verify_backup
from storage.clock_guard import ClockGuard
from storage.errors import InvalidInput


class _Backup(TyperGroup):
    """`cleanmail backup TO` is `cleanmail backup to TO`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["to", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Backup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Back up the installation, running or not: cleanmail backup TO. Keys are not in it (cleanmail keys backup).",
)

From = Annotated[
    Path | None,
    typer.Argument(help="A folder of backups, or one backup; [backup] directory of the configuration if not given."),
]


@app.command("to")
def to(
    context: typer.Context,
    to: Annotated[
        Path | None,
        typer.Argument(
            metavar="TO", help="The folder of backups, best on another disk; [backup] directory if not given."
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Copy everything anew, also what has not changed since the last backup.")
    ] = False,
) -> None:
    """Back up everything but the keys; what has not changed is shared with the backup before."""
    run = invocation.of(context)
    folder = source_of(run, to)
    place = Place(folder)
    with run.administration() as administration, run.output.progress() as bar:
        installation = administration.installation
        place.prepare(run.data)
        installation.audit.append("backup.make", run.operator, details={"place": str(folder)})
        task = bar.add_task("backing up customers", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        keys = installation.keys
        backup = BackupRun(
            installation,
            place,
            keep_of(run.config),
            excluded=secret_places(run.data, run.config),
            whole=whole,
            forget=keys.forget if isinstance(keys, AuthClient) else None,
            progress=show,
        )
        made = backup.make()
        removed = prune(installation, place, check=ClockGuard(run.data, installation.clock).check)
    manifest = made.stored.manifest
    run.output.done(
        f"{manifest.files} files ({size(manifest.bytes)}) are in {made.stored.root}, {made.linked} of them shared with "
        f"the backup before; it is kept until {moment(manifest.expires)}.",
        {
            **_values(made.stored),
            "shared": made.linked,
            "new": made.taken,
            "snapshots": made.snapshots,
            "removed": removed,
            "missing": list(manifest.missing),
            "skipped": list(manifest.skipped),
        },
    )
    for name in removed:
        run.output.note(f"The backup {name} has had its time and was removed.")
    for path in manifest.missing:
        run.output.note(f"A row names this file, but it is not there (see cleanmail check): {path}")
    for part in manifest.skipped:
        run.output.note(f"This could not be copied, and is not in the backup: {part}")
    if manifest.missing or manifest.skipped:
        raise typer.Exit(INCOMPLETE)


@app.command("list")
def list_(context: typer.Context, source: From = None) -> None:
    """Which backups there are, and until when they are kept."""
    run = invocation.of(context)
    place, _ = place_and_time(source_of(run, source), None)
    with run.administration() as administration:
        rows = {row.backup_id: row for row in administration.control.backups.all()}
        public = administration.installation.keys.verifying_key("manifest")
        listed = []
        for name in place.names():
            try:
                stored = place.open(name, public)
            except InvalidInput as error:
                run.output.note(error.public)
                continue
            row = rows.get(stored.manifest.id)
            listed.append(_values(stored) | {"verified": moment(row.verified if row else None)})
    for name in place.incomplete():
        run.output.note(f"{name} is incomplete, and no backup; the next one removes it.")
    columns = {
        "name": "backup",
        "made": "made",
        "files": "files",
        "size": "size",
        "expires": "kept until",
        "verified": "verified",
    }
    run.output.rows(columns, listed, "There are no backups.")


@app.command()
def verify(
    context: typer.Context,
    source: From = None,
    every: Annotated[bool, typer.Option("--all", help="Read every file, not a sample.")] = False,
    at: Annotated[str, typer.Option(help="The newest backup of this time or before: 2026-05-01 [12:00].")] = "",
) -> None:
    """Prove that a backup is whole: files are what its manifest says, and a random mailbox is restored and compared."""
    run = invocation.of(context)
    with run.administration() as administration, run.output.progress() as bar:
        installation = administration.installation
        stored = find(run, installation.keys.verifying_key("manifest"), source, at)
        task = bar.add_task("reading", total=stored.manifest.files)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found = verify_backup(installation, stored, every=every, progress=show)
    proof = f"{found.messages} messages of {found.mailbox} came back whole" if found.mailbox else "there was no mail"
    sentence = f"The backup {stored.name} is right: {found.files} files, {found.hashed} of them read; {proof}."
    if not found.is_right:
        sentence = f"{len(found.wrong)} things are wrong with the backup {stored.name}."
    run.output.done(
        sentence,
        {
            "name": stored.name,
            "right": found.is_right,
            "files": found.files,
            "read": found.hashed,
            "octets": found.octets,
            "mailbox": found.mailbox,
            "messages": found.messages,
            "accounts_without_key": found.unreadable,
            "wrong": found.wrong,
        },
    )
    for wrong in found.wrong:
        run.output.note(wrong)
    if not found.is_right:
        raise typer.Exit(INCOMPLETE)


def _values(stored: Stored) -> dict[str, Any]:
    manifest = stored.manifest
    return {
        "name": stored.name,
        "id": manifest.id,
        "made": moment(manifest.made),
        "finished": moment(manifest.finished),
        "files": manifest.files,
        "bytes": manifest.bytes,
        "size": size(manifest.bytes),
        "expires": moment(manifest.expires),
        "path": str(stored.root),
    }

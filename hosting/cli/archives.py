"""cleanmail import: mail from elsewhere into an account. May be interrupted and run again: nothing comes in twice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hosting.cli import invocation
from hosting.cli.output import size
from storage.importing import Progress, import_archive, open_archive

ARCHIVE_INCOMPLETE = 5  # exit status: some messages were not imported

Kind = Literal["auto", "mbox", "maildir", "eml"]


def import_(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The account's address.")],
    source: Annotated[Path, typer.Argument(help="An mbox file, a Maildir, or a folder of .eml files.")],
    mailbox: Annotated[str, typer.Option(help="Where the messages go; folders of the archive stand below.")] = "INBOX",
    kind: Annotated[Kind, typer.Option(help="What the source is.")] = "auto",
) -> None:
    """Import an mbox file, a Maildir or a folder of .eml; run it again to go on after an interruption."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        archive = open_archive(source, kind)
        with (
            administration.installation.account(whose.tenant.tenant_id, whose.account.account_id) as account,
            run.output.progress() as bar,
        ):
            task = bar.add_task("importing", total=None)

            def show(progress: Progress) -> None:
                bar.update(task, completed=progress.done, total=progress.total)

            report = import_archive(account, archive, mailbox, progress=show)
    run.output.done(
        f"{report.imported} messages ({size(report.octets)}) were imported, {report.present} were there already"
        + (f", {len(report.failed)} failed." if report.failed else "."),
        {
            "imported": report.imported,
            "present": report.present,
            "octets": report.octets,
            "failed": [{"origin": failure.origin, "reason": failure.reason} for failure in report.failed],
            "stopped": report.stopped,
        },
    )
    for failure in report.failed:
        run.output.note(f"{failure.origin}: {failure.reason}")
    if report.stopped:
        run.output.note(f"The import stopped: {report.stopped}")
    if report.failed or report.stopped:
        raise typer.Exit(ARCHIVE_INCOMPLETE)

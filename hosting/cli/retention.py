"""cleanmail retention: what is removed by time, what was, and whether anything is older than it may be."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from hosting.cli import invocation, quantities
from hosting.cli.output import moment
from hosting.data_register import REGISTER
from storage.directory.receipts import Receipt
from storage.errors import InvalidInput
from storage.register.periods import BOUNDS
from storage.retention import measure, remove_due

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What is removed by time: run, status, receipts, periods.",
)

OVERDUE = 1  # exit status


@app.command()
def run(context: typer.Context) -> None:
    """Remove now what is due; the jobs role does it every hour."""
    invoked = invocation.of(context)
    with invoked.administration() as administration:
        installation = administration.installation
        installation.audit.append("retention.run", invoked.operator)
        removed = remove_due(installation)
    done = [each for each in removed.receipts if each.removed or each.failed or each.overdue]
    invoked.output.rows(_RECEIPT_COLUMNS, [_values(each) for each in done], "Nothing was due.")
    if removed.failed or any(each.overdue for each in removed.receipts):
        raise typer.Exit(OVERDUE)


@app.command()
def status(context: typer.Context) -> None:
    """Show how old what there is of each class of data is; exit status 1 if something is older than it may be."""
    invoked = invocation.of(context)
    with invoked.administration() as administration:
        installation = administration.installation
        reading = installation.clock_guard.reading()
        standings = measure(installation)
        last = installation.control.receipts.last()
    rows = []
    for standing in sorted(standings, key=lambda each: each.of.name):
        period = invoked.config.retention.periods.of(standing.of.kept)
        receipt = last.get(standing.of.name)
        rows.append(
            {
                "class": standing.of.name,
                "ceiling_days": period.ceiling_days,
                "oldest": moment(standing.oldest),
                "last_run": moment(receipt.time) if receipt else None,
                "removed": receipt.removed if receipt else 0,
                "failed": standing.failed,
                "state": "overdue" if standing.overdue else "unknown" if standing.failed else "kept",
            }
        )
    # One pass removes of all classes: when that was is no column, so that a line has room on a terminal.
    columns = {"class": "class", "ceiling_days": "days at most", "oldest": "oldest", "state": "state"}
    invoked.output.rows(columns, rows, "Nothing is kept by time.")
    newest = max((receipt.time for receipt in last.values()), default=None)
    invoked.output.note(f"The last run was at {moment(newest)}." if newest is not None else "Nothing has run so far.")
    if reading.doubt is not None:
        invoked.output.note(f"{reading.sentence} Nothing is removed by time until: cleanmail clock confirm")
    if reading.doubt is not None or any(row["state"] != "kept" for row in rows):
        raise typer.Exit(OVERDUE)


@app.command()
def receipts(
    context: typer.Context,
    of: Annotated[str, typer.Option("--class", help="Only of this class of data.")] = "",
    since: Annotated[str, typer.Option(help="From when on: 2026-05-01, 7d.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.", min=1, max=100_000)] = 100,
) -> None:
    """List receipts of what retention did, the newest first."""
    invoked = invocation.of(context)
    if of and of not in {each.name for each in REGISTER.classes}:
        raise InvalidInput(f"There is no class of data '{of[:60]}'; see: cleanmail privacy register.")
    begin = quantities.moment(since, int(time.time())) if since else 0
    with invoked.administration() as administration:
        found = administration.control.receipts.newest(limit, data_class=of, since=begin)
    invoked.output.rows(_RECEIPT_COLUMNS, [_values(each) for each in found], "There is no receipt.")


@app.command()
def periods(context: typer.Context) -> None:
    """Show the periods in force, and from and to how many days a provider may choose."""
    invoked = invocation.of(context)
    policy = invoked.config.retention.periods
    rows = []
    for period in policy:
        bounds = BOUNDS.get(period.kept)
        rows.append(
            {
                "period": period.kept.value,
                "floor_days": period.floor_days,
                "ceiling_days": period.ceiling_days,
                "least": bounds.least if bounds else None,
                "most": bounds.most if bounds else None,
                "why": bounds.why if bounds else None,
                "classes": " ".join(each.name for each in REGISTER.classes if each.kept is period.kept),
            }
        )
    columns = {"period": "period", "ceiling_days": "days at most", "least": "from", "most": "to"}
    columns |= {"classes": "classes of data"}
    invoked.output.rows(columns, rows, "There are no periods.")
    invoked.output.note(
        f"The preset is {policy.preset}; [retention] of the configuration chooses, from and to so many days."
    )


_RECEIPT_COLUMNS = {
    "time": "time",
    "class": "class",
    "cut_off": "removed what is older than",
    "removed": "removed",
    "oldest": "oldest left",
    "failed": "failed",
    "overdue": "overdue",
}


def _values(receipt: Receipt) -> dict[str, Any]:
    return {
        "time": moment(receipt.time),
        "class": receipt.data_class,
        "cut_off": moment(receipt.cut_off or None),
        "removed": receipt.removed,
        "oldest": moment(receipt.oldest),
        "failed": receipt.failed,
        "overdue": receipt.overdue,
    }

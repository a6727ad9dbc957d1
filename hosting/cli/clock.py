"""cleanmail clock: whether the wall clock is believed, and a person's word that it is right."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hosting.cli import invocation
from hosting.cli.output import moment
from storage.clock_guard import Reading

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The clock that removal by time goes by: show, confirm.",
)

DOUBTED = 1  # exit status


@app.command()
def show(context: typer.Context) -> None:
    """Show whether the clock is believed; exit status 1 if not: then nothing is removed by time."""
    run = invocation.of(context)
    with run.administration() as administration:
        reading = administration.installation.clock_guard.reading()
    run.output.record(_values(reading))
    if reading.doubt is not None:
        run.output.note(f"{reading.sentence} Nothing is removed by time until: cleanmail clock confirm")
        raise typer.Exit(DOUBTED)


@app.command()
def confirm(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Without being asked: the time was compared elsewhere.")] = False,
) -> None:
    """Say that the clock is right: from now on it is believed, and what is due by it is removed."""
    run = invocation.of(context)
    with run.administration() as administration:
        installation = administration.installation
        reading = installation.clock_guard.reading()
        values = _values(reading)
        run.output.note(reading.sentence)
        run.output.note(f"The last time that was believed: {values['last_believed'] or 'unknown'}.")
        run.output.note(f"The clock shows:                 {values['clock']}.")
        if not yes:
            typer.confirm("Is that the right time (UTC)?", abort=True, err=True)
        details = {"clock": str(values["clock"]), "last": str(values["last_believed"]), "doubt": str(values["doubt"])}
        number = installation.audit.append("clock.confirm", run.operator, details=details)
        installation.clock_guard.confirm()
    run.output.done(f"The clock is believed from now on; this is audit record {number}.", {**values, "audit": number})


def _values(reading: Reading) -> dict[str, Any]:
    return {
        "clock": moment(reading.now),
        "last_believed": moment(reading.last),
        "expected": moment(reading.expected),
        "believed": reading.doubt is None,
        "doubt": reading.doubt.value if reading.doubt else None,
    }

"""cleanmail ending: what is being erased, and was; and what `tenant end` and `account delete` have in common.

Whoever ends something for good types its name. With a server the jobs role carries the ending out, and the command
shows how far it is, until the certificate is there or it is told not to wait; without one the command does it itself.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from hosting.administration import Administration
from hosting.auth.client import AuthClient
from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.cli.keys import replace_saved
from hosting.cli.output import moment
from hosting.ending import ServerProcesses
from storage.certificates.store import FOLDER
from storage.directory.endings import EndingRow
from storage.ending.ending import carry_out
from storage.ending.steps import Step
from storage.errors import InvalidInput, Unavailable

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Erasures under way and done: list, show, resume.")

Number = Annotated[str, typer.Argument(help="The ending's number, from: cleanmail ending list.")]
Wait = Annotated[bool, typer.Option(help="Wait until it is certified; else it goes on by itself.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the ending and in the audit records.")]
Thorough = Annotated[bool, typer.Option("--thorough", help="Search other customers' folders for remains, too.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

_POLL = 0.2  # seconds


@app.command("list")
def list_(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that are done, too.")] = False,
) -> None:
    """List what is being erased."""
    run = invocation.of(context)
    with run.administration() as administration:
        endings = administration.control.endings
        rows = [_values(row) for row in (endings.all() if everything else endings.open())]
    columns = {"ending": "ending", "tenant": "tenant", "account": "account", "step": "step", "begun": "begun"}
    columns |= {"finished": "finished", "failure": "why it waits"}
    run.output.rows(columns, rows, "Nothing is being erased.")


@app.command()
def show(context: typer.Context, number: Number) -> None:
    """Show how far an ending is, and what keeps it from going on."""
    run = invocation.of(context)
    with run.administration() as administration:
        row = administration.control.endings.find(number)
    times = {step: moment(at) for step, at in row.progress.get("steps", {}).items()}
    counts = row.progress.get("counts", {})
    run.output.record({**_values(row), "reason": row.reason, "ordered_by": row.ordered_by, **counts, **times})


@app.command()
def resume(context: typer.Context, number: Number, wait: Wait = True) -> None:
    """Go on with an ending that waits, now; a server does so each minute by itself."""
    run = invocation.of(context)
    with run.administration() as administration:
        row = administration.control.endings.find(number)
        finish(run, administration, row.ending_id, wait=wait, sentence="The ending is certified")


def confirm(what: str, typed: str, *, yes: bool) -> None:
    """Raises InvalidInput unless the name of what goes is typed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput("This needs --yes where there is no terminal to ask on.")
    answer = typer.prompt(f"{what} There is no way back. Type {typed} to go on", err=True)
    if answer.strip() != typed:
        raise InvalidInput("That is not what was to be typed; nothing was done.")


def finish(run: Invocation, administration: Administration, ending_id: str, *, wait: bool, sentence: str) -> None:
    """Carry the ending out, or see it carried out, and say where its certificate lies."""
    served = isinstance(administration.installation.keys, AuthClient)
    if served and not wait:
        run.output.done(
            f"It is out of use, and goes on by itself; see: cleanmail ending show {ending_id}.", {"ending": ending_id}
        )
        if (replace := replace_saved(run)) is not None:
            run.output.note(replace)
        return
    with run.output.progress() as bar:
        shown = _Shown(bar)
        if served:
            _watch(administration, ending_id, shown)
        else:
            people = ServerProcesses(administration.installation.keys)
            carry_out(
                administration.installation,
                ending_id,
                people=people,
                progress=shown.show,
                issuer=run.config.server.name,
            )
    place = run.data / FOLDER / ending_id
    replace = replace_saved(run)
    run.output.done(
        f"{sentence}; its certificate is {ending_id}: {place}.json and {place}.pdf.",
        {
            "ending": ending_id,
            "certificate": ending_id,
            "json": f"{place}.json",
            "pdf": f"{place}.pdf",
            "save_master": replace is not None,
        },
    )
    if replace is not None:
        run.output.note(replace)


def _watch(administration: Administration, ending_id: str, shown: _Shown) -> None:
    """Until another process has certified it. Raises Unavailable when that process says why it cannot go on."""
    endings = administration.control.endings
    before = endings.find(ending_id).progress.get("failure")
    while True:
        row = endings.find(ending_id)
        if row.finished is not None:
            return
        failure = row.progress.get("failure")
        if failure is None:
            before = None
        elif failure != before:
            raise Unavailable(f"{failure} It is tried again each minute; see: cleanmail ending show {ending_id}.")
        step, done, total = row.progress.get("now") or (_following(row.step), 0, 0)
        shown.show(Step(step), int(done), int(total))
        time.sleep(_POLL)


def _following(step: Step) -> str:
    steps = list(Step)
    return steps[min(step.number + 1, len(steps) - 1)].value


class _Shown:
    """A line for each step on the terminal."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None
        self._step: Step | None = None

    def show(self, step: Step, done: int, total: int) -> None:
        if step is not self._step:
            if self._task is not None:
                self._bar.update(self._task, total=1, completed=1)
            self._step, self._task = step, self._bar.add_task(step.sentence, total=total or None)
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total or None)


def _values(row: EndingRow) -> dict[str, Any]:
    return {
        "ending": row.ending_id,
        "tenant": int(row.tenant_id),
        "account": row.account_id,
        "step": row.step.value,
        "begun": moment(row.begun),
        "finished": moment(row.finished),
        "failure": row.progress.get("failure"),
    }

"""cleanmail quarantine: mail that the filter withheld: header lines only, never a body.

Subjects, authors and header lines are shown to people with a recorded secrecy agreement; others see what the traces
show, too, and can decide all the same. Every list, view and change names who made it in the audit records, before it is
made; what is released or deleted shows in the message's trace.
"""

from __future__ import annotations

import typer

from hosting.cli import quarantine_decisions, quarantine_views

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Mail that the filter withheld: list, search, show, release, delete, report, summary. Header lines only, for "
    "people with a recorded secrecy agreement.",
)

app.command("list")(quarantine_views.list_)
app.command("search")(quarantine_views.search)
app.command("show")(quarantine_views.show)
app.command("release")(quarantine_decisions.release)
app.command("delete")(quarantine_decisions.delete)
app.command("report")(quarantine_decisions.report)
app.command("summary")(quarantine_views.summary)

"""cleanmail filter: the commands about judging mail, from the modules that have them."""

from __future__ import annotations

import typer

from hosting.cli import filter_explain, filter_model, filter_report, filter_rules

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The filter: its model, and how it judges.")


@app.callback()
def filter_() -> None:
    """The filter: its model, and how it judges."""


app.command("train")(filter_model.train)
app.command("evaluate")(filter_model.evaluate)
app.command("export")(filter_model.export)
app.command("import")(filter_model.import_)
app.command("status")(filter_model.status)
app.command("report")(filter_report.report)
app.add_typer(filter_rules.policy, name="policy")
app.add_typer(filter_rules.allow, name="allow")
app.add_typer(filter_rules.deny, name="deny")
app.command("explain")(filter_explain.explain)

"""cleanmail privacy: what is stored here, for the public, for authorities and for the next engineer.

Everything is made from the register of the program and the periods in force; no data of anybody is read.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.data_register import REGISTER
from storage.errors import InvalidInput
from storage.register import documents
from storage.register.documents import Controller

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What is stored here: the privacy statement, the records of processing, the register.",
)

LANGUAGES = ("en",)


class Form(StrEnum):
    MD = "md"
    TXT = "txt"
    JSON = "json"


class RecordsForm(StrEnum):
    MD = "md"
    JSON = "json"


@app.command()
def statement(
    context: typer.Context,
    form: Annotated[Form, typer.Option("--format", help="Markdown, plain text or JSON.")] = Form.MD,
    language: Annotated[str, typer.Option(help="The language of the statement.")] = "en",
) -> None:
    """Print the privacy statement for publication, with the periods in force."""
    run = invocation.of(context)
    if language not in LANGUAGES:
        raise InvalidInput(f"There is no statement in '{language[:20]}'; there is {', '.join(LANGUAGES)}.")
    document = documents.statement(REGISTER, run.config.retention.periods, _controller(run))
    if run.output.as_json or form is Form.JSON:
        _print_json(document)
    else:
        sys.stdout.write(documents.markdown(document) if form is Form.MD else documents.plain(document))


@app.command()
def records(
    context: typer.Context,
    form: Annotated[RecordsForm, typer.Option("--format", help="Markdown or JSON.")] = RecordsForm.MD,
) -> None:
    """Print the records of processing activities (GDPR Art. 30, revFADP Art. 12)."""
    run = invocation.of(context)
    document = documents.records(REGISTER, run.config.retention.periods, _controller(run))
    if run.output.as_json or form is RecordsForm.JSON:
        _print_json(document)
    else:
        sys.stdout.write(documents.records_markdown(document))


@app.command()
def register(
    context: typer.Context,
    of: Annotated[str, typer.Option("--class", help="Only this class of data.")] = "",
) -> None:
    """List every class of data with its tables, columns, logs and files."""
    run = invocation.of(context)
    if of and of not in {each.name for each in REGISTER.classes}:
        raise InvalidInput(f"There is no class of data '{of[:60]}'.")
    rows = [row for row in documents.register(REGISTER, run.config.retention.periods) if not of or row["class"] == of]
    columns = {
        "class": "class",
        "kind": "kind",
        "name": "name",
        "whose": "about",
        "kept": "kept",
        "ceiling_days": "days at most",
        "erasure": "erased by",
        "readers": "read by",
        "what": "what",
    }
    run.output.rows(columns, rows, "Nothing is declared.")


def _controller(run: Invocation) -> Controller:
    privacy = run.config.privacy
    if not (privacy.controller and privacy.contact):
        run.output.note("[privacy] of the configuration names no controller or contact so far.")
    return Controller(privacy.controller, privacy.contact, privacy.representative, privacy.officer)


def _print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

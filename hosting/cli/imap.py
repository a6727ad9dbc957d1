"""cleanmail imap: what the IMAP server offers, by its table and this installation's configuration."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hosting.cli import invocation
from hosting.imap.capability_table import TABLE, Row
from hosting.imap.limits import Limits

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The IMAP server: capabilities.")


@app.command()
def capabilities(
    context: typer.Context,
    tests: Annotated[bool, typer.Option("--tests", help="Name the tests that prove each.")] = False,
) -> None:
    """List all capabilities: word, RFC, sections, when each is told; with --tests and --json which tests prove it."""
    run = invocation.of(context)
    limits = run.config.imap
    rows = [_values(row, limits) for row in TABLE]
    if tests:
        blocks = [(f"{row['word']}  {row['rfc']} {row['sections']}  {row['told']}", row["proofs"]) for row in rows]
        run.output.blocks(blocks, rows, "There are no capabilities.")
    else:
        columns = {"word": "word", "rfc": "RFC", "sections": "sections", "told": "told"}
        run.output.rows(columns, rows, "There are no capabilities.")
    for program, words in limits.hidden.items():
        run.output.note(f"Not told to programs that call themselves {program}…: {', '.join(words.split())}.")


def _values(row: Row, limits: Limits) -> dict[str, Any]:
    offered = row.is_offered(limits)
    if offered:
        told = row.when.words
    else:
        told = f"off ([imap] {row.switch})" if row.switch else f"off (in its place: [imap] {row.unless})"
    return {
        "word": row.told(limits),
        "rfc": row.rfc,
        "sections": row.sections,
        "told": told,
        "proofs": [f"tests/hosting/{proof}" for proof in row.proofs],
        "offered": offered,
        "switch": row.switch or row.unless,
        "enable": bool(row.enables),
        "hidden_from": [
            program for program, words in limits.hidden.items() if row.word.upper() in words.upper().split()
        ],
    }

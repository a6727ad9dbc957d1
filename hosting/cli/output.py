"""What commands print: aligned tables and short sentences for people, JSON with --json for scripts.

Results go to standard output, everything else to standard error. Colour and progress bars appear on a terminal only;
into a pipe or a file a table is plain text whose lines are never wrapped. Control characters are shown, never sent to a
terminal: much of what is printed (transcripts, replies, DNS records) are the words of strangers.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from storage.values import Domain, EmailAddress

# All but line ends and tabs, and with them what turns the direction of writing.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_STYLES = {"active": "green", "verified": "green", "suspended": "yellow", "pending": "yellow", "ended": "red"}
_STYLES |= {"right": "green", "wrong": "red", "missing": "red", "unknown": "yellow", "unused": "dim"}
_WRAPPED = 16  # columns that a text has at least that may be wrapped
_BETWEEN = 3  # columns between two of a table on a terminal
_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


class Output:
    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        terminal = sys.stdout.isatty()
        self._console = Console(highlight=False, soft_wrap=not terminal, width=None if terminal else 100_000)
        self._errors = Console(stderr=True, highlight=False)

    def rows(self, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], empty: str) -> None:
        """A table; `columns` gives the headings of the keys that people see, JSON has all keys. `empty` if no row."""
        if self.as_json:
            self._print_json(rows)
            return
        if not rows:
            self.note(empty)
            return
        table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, header_style="bold")
        least = 0
        for key, heading in columns.items():
            cells = [_cell(row[key]) for row in rows]
            number = all(isinstance(row[key], int) and not isinstance(row[key], bool) for row in rows)
            # On a narrow terminal long texts are wrapped; ids and times never are, so that they can be copied.
            whole = not sys.stdout.isatty() or all(len(cell) <= 24 and " " not in cell.plain for cell in cells)
            table.add_column(heading, justify="right" if number else "left", no_wrap=whole, overflow="fold")
            widest = max(cell.cell_len for cell in cells)
            least += max(len(heading), widest if whole else min(widest, _WRAPPED)) + _BETWEEN
        for row in rows:
            table.add_row(*(_cell(row[key]) for key in columns))
        self._print_table(table, least)

    def blocks(self, blocks: Sequence[tuple[str, Sequence[str]]], values: Sequence[Any], empty: str) -> None:
        """For people, a heading with its lines for each thing, never wrapped; for scripts, the values of all."""
        if self.as_json:
            self._print_json(values)
            return
        if not blocks:
            self.note(empty)
        for number, (heading, lines) in enumerate(blocks):
            if number:
                self._console.print()
            self._console.print(Text(shown(heading), style="bold"), soft_wrap=True)
            for line in lines:
                self._console.print(Text(f"  {shown(line)}"), soft_wrap=True)

    def record(self, values: Mapping[str, Any]) -> None:
        """One thing, a line for each of its values."""
        if self.as_json:
            self._print_json(values)
            return
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(no_wrap=not sys.stdout.isatty())
        for key, value in values.items():
            table.add_row(key.replace("_", " "), _cell(value))
        self._print_table(table)

    def done(self, sentence: str, values: Mapping[str, Any]) -> None:
        """A step was taken: the sentence for people, the values for scripts."""
        if self.as_json:
            self._print_json(values)
        else:
            self._console.print(Text(shown(sentence)), soft_wrap=True)

    def note(self, sentence: str) -> None:
        """Something beside the result."""
        if not self.as_json:
            self._errors.print(Text(shown(sentence)), soft_wrap=True)

    def progress(self) -> Progress:
        """A bar on standard error; silent unless that is a terminal."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._errors,
            disable=self.as_json or not sys.stderr.isatty(),
        )

    def _print_table(self, table: Table, least: int = 0) -> None:
        """In a pipe no line ends with blanks; a terminal needs them for its colours.

        A terminal of less than `least` columns wraps the lines itself: nothing is cut off.
        """
        if sys.stdout.isatty():
            console = Console(highlight=False, width=least) if least > self._console.width else self._console
            console.print(table, crop=False)
            return
        with self._console.capture() as captured:
            self._console.print(table)
        sys.stdout.write("\n".join(line.rstrip(" ") for line in captured.get().split("\n")))

    def _print_json(self, value: Any) -> None:
        sys.stdout.write(json.dumps(value, default=_plain, indent=2, ensure_ascii=False) + "\n")


def moment(seconds: int | float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def size(octets: int) -> str:
    """A size for people."""
    for unit, factor in _UNITS:
        if octets >= factor:
            return f"{octets / factor:.1f} {unit}"
    return f"{octets} B"


def fail(sentence: str, code: str, *, as_json: bool) -> None:
    """The one thing that is said about an error."""
    if as_json:
        sys.stderr.write(json.dumps({"error": code, "message": sentence}, ensure_ascii=False) + "\n")
    else:
        Console(stderr=True, highlight=False).print(
            Text.assemble(("cleanmail: ", "bold red"), shown(sentence)), soft_wrap=True
        )


def shown(text: str) -> str:
    """`text` with control characters as escapes; lines and tabs stay."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def _cell(value: Any) -> Text:
    if value is None or value == "":
        return Text("-", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, (list, tuple, frozenset)):
        return Text(shown(", ".join(map(str, value))) or "-")
    text = shown(str(value.value if isinstance(value, Enum) else value))
    return Text(text, style=_STYLES.get(text, ""))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (Domain, EmailAddress)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is not for JSON")

"""Checks of a tenant's quarantine: every row has its two files, every file its row.

Writers may be at work: what looks wrong is looked at again, and files of living writers are theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

from storage.checks.finding import Finding, Kind, Severity
from storage.errors import Corrupt, NotFound, Unavailable
from storage.files.incarnation import Incarnation
from storage.quarantine.rows import QuarantineRows


def check_quarantine(rows: QuarantineRows, incarnation: Incarnation, *, contents: bool) -> Iterator[Finding]:
    """Files against rows; with `contents` every file is decrypted."""
    there = dict(rows.files.names())
    named = rows.named_files()
    for name in sorted(named):
        if not rows.files.has(name):
            if name in rows.named_files():
                text = f"A file of a withheld message is gone: {name}."
                yield Finding(Kind.FILE_MISSING, Severity.ALARM, text, file=name)
        elif contents:
            yield from _check_contents(rows, name)
    for name in sorted(there.keys() - named):
        if not incarnation.is_alive(there[name]) and name not in rows.named_files():
            text = f"A file of the quarantine has no row; the sweep removes it: {name}."
            yield Finding(Kind.FILE_UNFINISHED, Severity.NOTE, text, file=name)


def _check_contents(rows: QuarantineRows, name: str) -> Iterator[Finding]:
    try:
        rows.files.read_header(name, rows.header_key)
        rows.files.read_body(name, rows.body_key)
    except NotFound:  # settled this moment
        return
    except (Corrupt, Unavailable) as error:
        text = f"A file of a withheld message cannot be read ({error.detail}): {name}."
        yield Finding(Kind.FILE_UNREADABLE, Severity.ALARM, text, file=name)

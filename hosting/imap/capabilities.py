"""Which capabilities are told now, and what ENABLE turns on: the table (`capability_table`) under the circumstances.

Standards: RFC 9051 §6.1.1 and §6.3.1, RFC 5161 §3.1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hosting.imap.capability_table import TABLE, Circumstances, Row
from hosting.imap.limits import Limits


def rows(now: Circumstances, limits: Limits, hidden: Collection[str] = ()) -> Iterator[Row]:
    """What is offered, told now, and not among the `hidden` words (in capitals)."""
    return (row for row in TABLE if row.when.holds(now) and row.is_offered(limits) and row.word.upper() not in hidden)


def told(now: Circumstances, limits: Limits, hidden: Collection[str] = ()) -> bytes:
    """What stands behind the word CAPABILITY."""
    return " ".join([row.told(limits) for row in rows(now, limits, hidden)]).encode("ascii")


def enabled_by(word: str, now: Circumstances, limits: Limits, hidden: Collection[str] = ()) -> Row | None:
    """The row that ENABLE means by a word in capitals; None: unknown here, to be ignored (RFC 5161 §3.1)."""
    for row in rows(now, limits, hidden):
        if row.enables and row.word.upper() == word:
            return row
    return None

"""The trigram index of one account on SQLite: which messages contain, or may contain, a piece of text.

Two FTS5 tables (declared in `storage.schema.account.EXTRA_SQL`): of the short header fields positions are kept, so an
answer is exact; of header and body only which trigrams occur, so an answer names candidates, which the caller verifies.
Text and needles come casemapped. Whatever FTS5's tokenizer would read as something else (NUL, where it stops; U+FFFE,
U+FFFF) is replaced by `searchable` in both, so that no match is ever missing.

This module is what PostgreSQL will replace (keyed hashes of trigrams in an array column); it holds no search logic.
Standards: RFC 9051 §6.4.4 (substring search).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Literal

from sqlalchemy import text

from storage.database.database import Transaction
from storage.database.prepared import Connection, prepare

TRIGRAM = 3  # the shortest needle that the index can answer
CONDENSED_FROM = 150_000  # characters; longer texts are indexed as a set of trigrams
TRIGRAMS_MAX = 8  # of one needle; each takes as long as messages have it, and more narrow no further
_COMMON = "QZJX7689543KVBYPGFWMUCLDHRSNIOATE120 "  # characters of English mail, the rarest first

FieldName = Literal["subject", "from_", "to_", "cc", "bcc"]
FIELDS: tuple[FieldName, ...] = ("subject", "from_", "to_", "cc", "bcc")  # columns of search_fields, and of `content`


class Part(IntEnum):
    """The two long texts of a message. The numbers stand in row ids: never change them."""

    HEADER = 0
    BODY = 1


_ODD = re.compile("[\0\ud800-\udfff\ufffe\uffff]")
_REPLACEMENT = "\ufffd"

_insert_fields = prepare(
    text(
        "INSERT INTO search_fields(rowid, subject, from_, to_, cc, bcc)"
        " VALUES (:message_id, :subject, :from_, :to_, :cc, :bcc)"
    )
)
_insert_part = prepare(text("INSERT INTO search_parts(rowid, text) VALUES (:row, :text)"))
_delete_fields = prepare(text("DELETE FROM search_fields WHERE rowid = :row"))
_delete_part = prepare(text("DELETE FROM search_parts WHERE rowid = :row"))
_match_fields = prepare(
    text("SELECT rowid FROM search_fields WHERE search_fields MATCH :expression AND rowid BETWEEN :first AND :last")
)
_match_parts = prepare(
    text("SELECT rowid >> 1 FROM search_parts WHERE search_parts MATCH :expression AND rowid BETWEEN :first AND :last")
)
_match_part = prepare(
    text(
        "SELECT rowid >> 1 FROM search_parts WHERE search_parts MATCH :expression AND rowid BETWEEN :first AND :last"
        " AND rowid & 1 = :part"
    )
)
_changes = prepare(text("SELECT total_changes()"))
_merges = (
    prepare(text("INSERT INTO search_fields(search_fields, rank) VALUES ('merge', :pages)")),
    prepare(text("INSERT INTO search_parts(search_parts, rank) VALUES ('merge', :pages)")),
)
_verifications = (
    prepare(text("INSERT INTO search_fields(search_fields, rank) VALUES ('integrity-check', 0)")),
    prepare(text("INSERT INTO search_parts(search_parts, rank) VALUES ('integrity-check', 0)")),
)


def searchable(casemapped: str) -> str:
    """The text as it is indexed and compared: without characters that FTS5 reads as others."""
    if casemapped.isascii() and "\0" not in casemapped:
        return casemapped
    return _ODD.sub(_REPLACEMENT, casemapped)


def condensed(text: str) -> str:
    """What is indexed of a part: the text, or for a long one each trigram once, as FTS5 needs to know no more.

    It keeps the time that one message holds the write lock bounded. The trigrams that arise between two of them all
    contain U+FFFD, which no needle has.
    """
    if len(text) <= CONDENSED_FROM:
        return text
    return _REPLACEMENT.join({text[start : start + TRIGRAM] for start in range(len(text) - TRIGRAM + 1)})


def can_narrow(needle: str) -> bool:
    """Whether the index can say anything about `needle`."""
    return len(needle) >= TRIGRAM


def is_exact(needle: str) -> bool:
    """Whether candidates for `needle` are matches: a single trigram leaves no doubt."""
    return len(needle) == TRIGRAM


def insert(transaction: Transaction, message_id: int, fields: Sequence[str], parts: Sequence[str]) -> None:
    """Index one message: `fields` in the order of FIELDS, `parts` in that of Part; all of it `searchable`."""
    if any(fields):
        _insert_fields.run(transaction, message_id=message_id, **dict(zip(FIELDS, fields, strict=True)))
    for part in Part:
        if parts[part]:
            _insert_part.run(transaction, row=message_id * 2 + part, text=parts[part])


def forget(transaction: Transaction, message_ids: Iterable[int]) -> None:
    """Mark the rows of messages as deleted. Their trigrams leave the file with the merges that follow."""
    for message_id in message_ids:
        _delete_fields.run(transaction, row=message_id)
        for part in Part:
            _delete_part.run(transaction, row=message_id * 2 + part)


def with_field(connection: Connection, field: FieldName, needle: str, first: int, last: int) -> set[int]:
    """The messages among ids [first, last] whose field contains `needle`: exactly those."""
    rows = _match_fields.rows(connection, expression=f"{field} : {_quoted(needle)}", first=first, last=last)
    return {row[0] for row in rows}


def may_contain(connection: Connection, part: Part | None, needles: Iterable[str], first: int, last: int) -> set[int]:
    """The messages among ids [first, last] with one part (None: either) that has all trigrams of all `needles`."""
    expression = " AND ".join(_quoted(trigram) for needle in needles for trigram in _trigrams(needle))
    bounds = {"expression": expression, "first": first * 2, "last": last * 2 + 1}
    if part is None:
        return {row[0] for row in _match_parts.rows(connection, **bounds)}
    return {row[0] for row in _match_part.rows(connection, part=int(part), **bounds)}


def merge(transaction: Transaction, pages: int, *, whole: bool = False) -> bool:
    """Merge up to about `pages` pages of each table; False when nothing was left to merge.

    `whole` begins to merge everything into one segment, which later calls go on with: what is marked as deleted is
    gone from the file when they return False.
    """
    worked = False
    for statement in _merges:
        before = _total_changes(transaction)
        statement.run(transaction, pages=-pages if whole else pages)
        # Each statement counts as one change by itself; FTS5's documentation says to look for two.
        worked |= _total_changes(transaction) - before >= 2
    return worked


def verify(transaction: Transaction) -> None:
    """Raises Corrupt if FTS5 finds its own structures broken."""
    for statement in _verifications:
        statement.run(transaction)


def _total_changes(transaction: Transaction) -> int:
    row = _changes.one(transaction)
    return int(row[0]) if row else 0


def _trigrams(needle: str) -> list[str]:
    """Trigrams that narrow `needle` down: all of a short one, of a longer one the rarest of each piece, as a guess."""
    every = [needle[start : start + TRIGRAM] for start in range(len(needle) - TRIGRAM + 1)]
    if len(every) > TRIGRAMS_MAX:
        bounds = [len(every) * piece // TRIGRAMS_MAX for piece in range(TRIGRAMS_MAX + 1)]
        every = [min(every[start:end], key=_commonness) for start, end in pairwise(bounds)]
    return list(dict.fromkeys(every))


def _commonness(trigram: str) -> int:
    """The less, the fewer messages have it, as a guess: characters that are rare in mail, letters beside digits."""
    kinds = {character.isalpha() - character.isdigit() for character in trigram if character != " "}
    return sum(_COMMON.find(character) for character in trigram) - 20 * len(kinds)


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'

"""RETURN (…) of SEARCH and SORT, and IN (…) of ESEARCH.

Standards: RFC 4731, RFC 5182, RFC 5267 §5, RFC 5465 §8, RFC 6203 §7, RFC 7377 §4, RFC 9394 §4.
"""

from __future__ import annotations

from typing import Final

from hosting.imap import commands as c
from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.fetching.fetch_grammar import item_list
from hosting.imap.searching import search_commands as sc
from hosting.imap.searching.partial_grammar import partial

_OPTIONS: Final = frozenset({"MIN", "MAX", "ALL", "COUNT", "SAVE", "PARTIAL", "UPDATE", "CONTEXT", "RELEVANCY"})
_ALONE: Final = frozenset({"SELECTED", "INBOXES", "PERSONAL", "SUBSCRIBED"})
_NAMED: Final = frozenset({"SUBTREE", "SUBTREE-ONE", "MAILBOXES"})
_MOST_OPTIONS, _MOST_SOURCES, _MOST_NAMES = 20, 100, 1000


def return_options(cursor: Cursor) -> tuple[frozenset[str], sc.Partial | None, tuple[c.FetchItem, ...]]:
    """The options, the range of PARTIAL, and what UPDATE is to fetch (RFC 5465 §7); no options mean ALL."""
    cursor.expect(b"(")
    found: list[str] = []
    partial_range = None
    items: tuple[c.FetchItem, ...] = ()
    while not cursor.accept(b")"):
        if found:
            cursor.space()
        option = cursor.word()
        if option not in _OPTIONS:
            raise Malformed("Unknown return option.")
        if option == "PARTIAL":
            if partial_range is not None:
                raise Malformed("PARTIAL may be asked for once.")
            cursor.space()
            partial_range = partial(cursor)
        elif option == "UPDATE" and cursor.accept(b" ("):
            items = item_list(cursor)
        found.append(option)
        if len(found) > _MOST_OPTIONS:
            raise Malformed("Too many return options.")
    if partial_range is not None and "ALL" in found:
        raise Malformed("Either ALL or PARTIAL may be asked for.")  # RFC 9394 §3.1
    return frozenset(found or ["ALL"]), partial_range, items


def sources(cursor: Cursor, utf8: bool) -> tuple[sc.Source, ...]:
    """The mailboxes of ESEARCH, in parentheses."""
    cursor.expect(b"(")
    found: list[sc.Source] = []
    names = 0
    while True:
        kind = cursor.word()
        if kind in _ALONE:
            found.append(sc.Source(kind))  # type: ignore[arg-type]
        elif kind in _NAMED:
            cursor.space()
            chosen = _names(cursor, utf8)
            names += len(chosen)
            found.append(sc.Source(kind, chosen))  # type: ignore[arg-type]
        else:
            raise Malformed("Unknown source of ESEARCH.")
        if len(found) > _MOST_SOURCES or names > _MOST_NAMES:
            raise Malformed("Too many sources.")
        if cursor.accept(b")"):
            return tuple(found)
        cursor.space()


def _names(cursor: Cursor, utf8: bool) -> tuple[str, ...]:
    """One mailbox, or several in parentheses."""
    if not cursor.accept(b"("):
        return (cursor.mailbox(utf8),)
    names = [cursor.mailbox(utf8)]
    while not cursor.accept(b")"):
        cursor.space()
        names.append(cursor.mailbox(utf8))
        if len(names) > _MOST_NAMES:
            raise Malformed("Too many mailboxes.")
    return tuple(names)

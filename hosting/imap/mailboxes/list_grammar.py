"""The arguments of LIST, LSUB and STATUS.

Standards: RFC 9051 §6.3.9 and §6.3.11, RFC 5258, RFC 5819 (LIST-STATUS), RFC 6154 (SPECIAL-USE),
RFC 8438, RFC 8440 (LIST-MYRIGHTS), RFC 8474, RFC 7889.
"""

from __future__ import annotations

from typing import Final

from hosting.imap.commands import ListMailboxes, ListSubscribed, Status
from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.mailboxes.metadata_grammar import entries

_SELECTION: Final = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
_RETURN: Final = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "MYRIGHTS"})
_STATUS: Final = frozenset(
    {
        "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE", "HIGHESTMODSEQ", "APPENDLIMIT",
        "MAILBOXID", "DELETED-STORAGE",
    }
)  # fmt: skip
_MOST_PATTERNS = 100


def list_mailboxes(cursor: Cursor, utf8: bool) -> ListMailboxes:
    cursor.space()
    extended = False
    only: frozenset[str] = frozenset()
    if cursor.accept(b"("):
        extended = True
        only = frozenset(_words(cursor, _SELECTION, "selection option"))
        if "RECURSIVEMATCH" in only and not only & {"SUBSCRIBED", "SPECIAL-USE"}:
            raise Malformed("RECURSIVEMATCH needs another selection option.")  # RFC 5258 §3.1
        cursor.space()
    reference = cursor.mailbox(utf8)
    cursor.space()
    if cursor.accept(b"("):
        extended = True
        patterns = [cursor.pattern(utf8)]
        while not cursor.accept(b")"):
            cursor.space()
            patterns.append(cursor.pattern(utf8))
            if len(patterns) > _MOST_PATTERNS:
                raise Malformed("Too many patterns.")
    else:
        patterns = [cursor.pattern(utf8)]
    returned: frozenset[str] = frozenset()
    status_items: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    if cursor.accept(b" "):
        extended = True
        if cursor.word() != "RETURN":
            raise Malformed("Expected RETURN.")
        cursor.expect(b" (")
        returned, status_items, metadata = _return_options(cursor)
    return ListMailboxes(reference, tuple(patterns), only, returned, status_items, extended, metadata)


def _return_options(cursor: Cursor) -> tuple[frozenset[str], tuple[str, ...], tuple[str, ...]]:
    found: list[str] = []
    status_items: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    while not cursor.accept(b")"):
        if found or status_items or metadata:
            cursor.space()
        option = cursor.word()
        if option == "STATUS":
            cursor.expect(b" (")
            status_items = _words(cursor, _STATUS, "status item")
        elif option == "METADATA":  # RFC 9590
            cursor.expect(b" ")
            metadata = entries(cursor)
        elif option in _RETURN:
            found.append(option)
        else:
            raise Malformed("Unknown return option of LIST.")
    return frozenset(found), status_items, metadata


def list_subscribed(cursor: Cursor, utf8: bool) -> ListSubscribed:
    cursor.space()
    reference = cursor.mailbox(utf8)
    cursor.space()
    return ListSubscribed(reference, cursor.pattern(utf8))


def status(cursor: Cursor, utf8: bool) -> Status:
    cursor.space()
    mailbox = cursor.mailbox(utf8)
    cursor.expect(b" (")
    items = _words(cursor, _STATUS, "status item")
    if not items:
        raise Malformed("Expected a status item.")
    return Status(mailbox, items)


def _words(cursor: Cursor, known: frozenset[str], what: str) -> tuple[str, ...]:
    """Words up to the closing parenthesis, each once."""
    words: list[str] = []
    while not cursor.accept(b")"):
        if words:
            cursor.space()
        word = cursor.word()
        if word not in known:
            raise Malformed(f"Unknown {what}.")
        words.append(word)
        if len(words) > 50:
            raise Malformed(f"Too many of: {what}.")
    return tuple(dict.fromkeys(words))

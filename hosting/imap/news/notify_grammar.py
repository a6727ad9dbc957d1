"""NOTIFY: the groups of mailboxes and events that a client names.

What breaks a rule of RFC 5465 is BAD here; an event that is not known comes through, since it has to be refused with
the list of those that are.

Standards: RFC 5465 §3.1, §5, §6.1, §8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast

from hosting.imap.commands import Command, FetchItem
from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.fetching.fetch_grammar import item_list

Scope = Literal["SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED", "SUBTREE", "MAILBOXES"]

OTHER_EVENTS: Final = frozenset({"MAILBOXNAME", "SUBSCRIPTIONCHANGE", "MAILBOXMETADATACHANGE", "SERVERMETADATACHANGE"})
_NAMED: Final = ("SUBTREE", "MAILBOXES")
_SELECTED: Final = ("SELECTED", "SELECTED-DELAYED")
_UNNAMED: Final = (*_SELECTED, "INBOXES", "PERSONAL", "SUBSCRIBED")


@dataclass(frozen=True, slots=True)
class Group:
    """Which events of which mailboxes; `events` in capitals, `items` to be fetched of new messages."""

    scope: Scope
    names: tuple[str, ...] = ()
    events: frozenset[str] = frozenset()
    items: tuple[FetchItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify(Command):
    """Without groups: NONE."""

    groups: tuple[Group, ...] = ()
    status: bool = False


def notify(cursor: Cursor, utf8: bool) -> Notify:
    cursor.space()
    what = cursor.word()
    if what == "NONE":
        return Notify()
    if what != "SET":
        raise Malformed("Expected SET or NONE.")
    cursor.space()
    status = False
    if cursor.peek() != b"(":
        if cursor.word() != "STATUS":
            raise Malformed("Expected STATUS or a group of events.")
        status = True
        cursor.space()
    groups = [_group(cursor, utf8)]
    while cursor.accept(b" "):
        groups.append(_group(cursor, utf8))
    if sum(group.scope in _SELECTED for group in groups) > 1:
        raise Malformed("The selected mailbox is named twice.")  # RFC 5465 §6.1
    return Notify(tuple(groups), status)


def _group(cursor: Cursor, utf8: bool) -> Group:
    cursor.expect(b"(")
    scope = cursor.word()
    names: tuple[str, ...] = ()
    if scope in _NAMED:
        cursor.space()
        names = _names(cursor, utf8)
    elif scope not in _UNNAMED:
        raise Malformed("Unknown kind of mailboxes.")
    cursor.space()
    events, items = _events(cursor)
    cursor.expect(b")")
    _check(scope, events, has_items=bool(items))
    return Group(cast(Scope, scope), names, events, items)


def _names(cursor: Cursor, utf8: bool) -> tuple[str, ...]:
    if not cursor.accept(b"("):
        return (cursor.mailbox(utf8),)
    names = [cursor.mailbox(utf8)]
    while cursor.accept(b" "):
        names.append(cursor.mailbox(utf8))
    cursor.expect(b")")
    return tuple(dict.fromkeys(names))


def _events(cursor: Cursor) -> tuple[frozenset[str], tuple[FetchItem, ...]]:
    """A list in parentheses, or bare as the RFC's own examples have it, or NONE."""
    in_parentheses = cursor.accept(b"(")
    events: list[str] = []
    items: tuple[FetchItem, ...] = ()
    while True:
        events.append(cursor.word())
        if events[-1] == "MESSAGENEW" and cursor.accept(b" ("):
            items = item_list(cursor)
        if not cursor.accept(b" "):
            break
    if in_parentheses:
        cursor.expect(b")")
    elif events == ["NONE"]:
        return frozenset(), ()
    return frozenset(events), items


def _check(scope: str, events: frozenset[str], *, has_items: bool) -> None:
    if len(events & {"MESSAGENEW", "MESSAGEEXPUNGE"}) == 1:
        raise Malformed("MessageNew and MessageExpunge go together.")  # RFC 5465 §5
    if events & {"FLAGCHANGE", "ANNOTATIONCHANGE"} and "MESSAGENEW" not in events:
        raise Malformed("FlagChange needs MessageNew and MessageExpunge.")
    if scope in _SELECTED and events & OTHER_EVENTS:
        raise Malformed("Of the selected mailbox only events of messages can be told.")  # §6.1
    if has_items and scope not in _SELECTED:
        raise Malformed("What to fetch can be said of the selected mailbox only.")  # §8

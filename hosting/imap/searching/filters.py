"""FILTER: searches that are kept under a name, as entries of METADATA, and used as if they were written out.

A filter may name others, three deep; the keys of all of them together are bounded. What cannot be used (no such filter,
a loop, text that is no search) is an undefined filter.

Standards: RFC 5466; RFC 5464 (the entries /private/filters/values/… and /shared/filters/values/…).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hosting.imap.cursor import Malformed
from hosting.imap.effects import Flow, blocking
from hosting.imap.replies import Refused
from hosting.imap.searching import search_commands as sc
from hosting.imap.searching.search_grammar import criteria
from hosting.imap.session import Session
from storage.mail.annotations import SERVER

DEPTH: Final = 3  # substitutions within each other (RFC 5466 §3.1)
KEYS: Final = 5000  # of one search with all its filters
PRIVATE, SHARED = "/private/filters/values/", "/shared/filters/values/"

Read = Callable[[tuple[str, str]], bytes | None]  # the value of the first entry that has one


def expanded(session: Session, key: sc.Key) -> Flow[sc.Key]:
    """The key without any FILTER. Raises Refused with UNDEFINED-FILTER."""
    if not names_filter(key):
        return key
    annotations, owner = session.mail.annotations, session.mail.account_id
    nesting = session.services.limits.nesting

    def read(entries: tuple[str, str]) -> bytes | None:
        values = annotations.values(owner, SERVER, entries)
        return values.get(entries[0], values.get(entries[1]))

    return (yield from blocking(lambda: _Expansion(read, nesting).of(key, ())))


def names_filter(key: sc.Key) -> bool:
    match key:
        case sc.FilterKey():
            return True
        case sc.AllKeys(keys):
            return any(map(names_filter, keys))
        case sc.NotKey(inner) | sc.FuzzyKey(inner):
            return names_filter(inner)
        case sc.EitherKey(left, right):
            return names_filter(left) or names_filter(right)
    return False


class _Expansion:
    """Of one search."""

    def __init__(self, read: Read, nesting: int) -> None:
        self._read = read
        self._nesting = nesting
        self._keys = 0

    def of(self, key: sc.Key, within: tuple[str, ...]) -> sc.Key:
        """`within`: the filters that `key` came from."""
        self._keys += 1
        if self._keys > KEYS:
            raise Refused(b"LIMIT", "The filters have too many search keys.")
        match key:
            case sc.FilterKey(name):
                return self.of(self._named(name, within), (*within, name))
            case sc.AllKeys(keys):
                return sc.AllKeys(tuple([self.of(one, within) for one in keys]))
            case sc.NotKey(inner):
                return sc.NotKey(self.of(inner, within))
            case sc.FuzzyKey(inner):
                return sc.FuzzyKey(self.of(inner, within))
            case sc.EitherKey(left, right):
                return sc.EitherKey(self.of(left, within), self.of(right, within))
        return key

    def _named(self, name: str, within: tuple[str, ...]) -> sc.Key:
        value = None
        if len(within) < DEPTH:
            value = self._read((PRIVATE + name.lower(), SHARED + name.lower()))
        if value is None:
            raise _undefined(name)
        try:
            return criteria(value, self._nesting)
        except Malformed:
            raise _undefined(name) from None


def _undefined(name: str) -> Refused:
    return Refused(b"UNDEFINED-FILTER " + name.encode("ascii"), "This filter is not there, or it is no search.")

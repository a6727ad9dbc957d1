"""UIDONLY: once a client has enabled it there are no message numbers, in neither direction.

FETCH responses become UIDFETCH, EXPUNGE becomes VANISHED (`selected`, `fetching.fetch_items`), and a
command that has numbers of messages in it, or would answer with them, is refused.

Standards: RFC 9586 §3.
"""

from __future__ import annotations

from hosting.imap.commands import Command, Select
from hosting.imap.searching.search_commands import AllKeys, EitherKey, FuzzyKey, Key, MultiSearch, NotKey, NumbersKey

REFUSED = "[UIDREQUIRED] Use UIDs: UIDONLY is enabled."


def has_numbers(command: Command) -> bool:
    """Whether a command speaks of messages by their numbers."""
    if getattr(command, "by_uid", True) is False:
        return True
    if isinstance(command, MultiSearch):
        return _by_number(command.search.key)
    if isinstance(command, Select):
        return command.resync is not None and command.resync.sample is not None
    key = getattr(command, "key", None)
    return isinstance(key, Key) and _by_number(key)


def _by_number(key: Key) -> bool:
    left = [key]
    while left:
        match left.pop():
            case NumbersKey(numbers=numbers, by_uid=False):
                if not numbers.saved:  # "$" holds UIDs (RFC 5182 §2.1)
                    return True
            case AllKeys(keys=keys):
                left += keys
            case EitherKey(left=one, right=other):
                left += (one, other)
            case NotKey(key=inner) | FuzzyKey(key=inner):
                left.append(inner)
    return False

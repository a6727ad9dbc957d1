"""The range of PARTIAL, in searches and in FETCH. Standards: RFC 9394 §4."""

from __future__ import annotations

import re
from typing import Final

from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.searching import search_commands as sc
from storage.values import UID_MAX

_PARTIAL: Final = re.compile(rb"(-?)([1-9]\d{0,9}):(-?)([1-9]\d{0,9})")


def partial(cursor: Cursor) -> sc.Partial:
    """The range of PARTIAL: from the beginning, or with minus signs from the end (RFC 9394 §4)."""
    match = _PARTIAL.match(cursor.text, cursor.at)
    if match is None or match[1] != match[3]:
        raise Malformed("The range of PARTIAL is not valid.")
    cursor.at = match.end()
    first, last = sorted((int(match[2]), int(match[4])))  # "500:400 is the same as 400:500"
    if last > UID_MAX:
        raise Malformed("The range of PARTIAL is not valid.")
    return (-first, -last) if match[1] else (first, last)

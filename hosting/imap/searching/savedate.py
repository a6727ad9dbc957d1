"""SAVEDBEFORE, SAVEDON, SAVEDSINCE: when messages came into the mailbox, by days of UTC.

The time is a column of `membership`, which no view keeps: it is read in slices by a worker.
Standards: RFC 8514 §3 (set by APPEND, COPY and MOVE alike, never changed), §4.3.
"""

from __future__ import annotations

from collections.abc import Sequence

from hosting.imap.effects import Flow, blocking
from hosting.imap.searching.search_commands import SavedKey
from hosting.imap.selected import Selected

_DAY = 86400
_SLICE = 2000  # positions; other connections are served between slices


def find(selected: Selected, key: SavedKey, among: Sequence[int]) -> Flow[Sequence[int]]:
    """Those of `among`, ascending positions, that were saved then."""
    messages, mailbox_id, uids = selected.account.messages, selected.mailbox_id, selected.uids
    first = key.day * _DAY
    found: list[int] = []
    for start in range(0, len(among), _SLICE):
        part = among[start : start + _SLICE]
        low, high = uids[part[0]], uids[part[-1]]

        def work(low: int = low, high: int = high) -> set[int]:
            rows = messages.fetch_rows(mailbox_id, low, high, ("uid", "saved"))
            return {uid for uid, saved in rows if _is_then(key, saved, first)}

        then = yield from blocking(work)
        found += [at for at in part if uids[at] in then]
    return found


def _is_then(key: SavedKey, saved: int, first: int) -> bool:
    if key.kind == "BEFORE":
        return saved < first
    return saved >= first and (key.kind == "SINCE" or saved < first + _DAY)

"""FETCH responses for new messages of the selected mailbox, by NOTIFY and by searches that are updated.

What both ask of a message is one response. It follows the EXISTS and the ESEARCH that tell of the message.
Standards: RFC 5465 §5.2, §7.
"""

from __future__ import annotations

from collections.abc import Sequence

from hosting.imap.commands import FetchItem
from hosting.imap.effects import Flow
from hosting.imap.fetching import fetch
from hosting.imap.session import Session


def tell(session: Session, positions: Sequence[int] = (), items: tuple[FetchItem, ...] = ()) -> Flow[None]:
    """`items` of the messages at `positions`, and what updated searches want of those that joined them."""
    if session.selected is None:
        return
    uids = session.selected.uids
    joined = session.contexts.take_joined() if session.contexts is not None else {}
    wanted: dict[tuple[FetchItem, ...], list[int]] = {}
    for at in positions:
        asked = tuple(dict.fromkeys((*items, *joined.pop(uids[at], ()))))
        wanted.setdefault(asked, []).append(at)
    for uid, asked in joined.items():
        wanted.setdefault(asked, []).extend(session.selected.positions_of((uid,)))
    for asked, places in wanted.items():
        if asked and session.qresync and not any(item.name == "UID" for item in asked):
            asked = (FetchItem("UID"), *asked)  # noqa: PLW2901
        if asked and places:
            yield from fetch.tell(session, asked, places)

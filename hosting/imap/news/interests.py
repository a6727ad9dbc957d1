"""What one NOTIFY asked for, compiled: which events of a mailbox are wanted, by its name.

Events are bits. Groups add up: an event is wanted if any of them names it (RFC 5465 §6). Sessions of the same program
ask for the same, so what was compiled is shared; not what is long, of which anybody could leave much behind.

Standards: RFC 5465 §3.1 (SELECTED overrides all others for the selected mailbox), §6.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from hosting.imap.commands import FetchItem
from hosting.imap.news.notify_grammar import Group
from hosting.imap.sharing.other_users import PREFIX, ROOT

NEW: Final = 1
EXPUNGE: Final = 2
FLAGS: Final = 4
NAME: Final = 8
SUBSCRIPTION: Final = 16
METADATA: Final = 32
SERVER_METADATA: Final = 64
MESSAGES: Final = NEW | EXPUNGE | FLAGS

EVENTS: Final[Mapping[str, int]] = {
    "MessageNew": NEW,
    "MessageExpunge": EXPUNGE,
    "FlagChange": FLAGS,
    "MailboxName": NAME,
    "SubscriptionChange": SUBSCRIPTION,
    "MailboxMetadataChange": METADATA,
    "ServerMetadataChange": SERVER_METADATA,
}
_SHORT: Final = 4000  # characters of groups that are written out
_BITS: Final = {name.upper(): bit for name, bit in EVENTS.items()}


@dataclass(frozen=True, slots=True)
class Interests:
    selected: int = 0  # of the selected mailbox
    at_once: bool = True  # … an expunge too, whenever it happens
    items: tuple[FetchItem, ...] = ()  # of its new messages
    personal: int = 0
    subscribed: int = 0
    names: Mapping[str, int] | None = None
    subtrees: Mapping[str, int] | None = None  # by their roots
    server: bool = False  # metadata of the server

    @classmethod
    def of(cls, groups: tuple[Group, ...]) -> Interests:
        """Raises KeyError for an event that is not known."""
        return _shared(groups) if len(repr(groups)) <= _SHORT else _compiled(groups)

    @property
    def elsewhere(self) -> bool:
        """Whether anything but the selected mailbox is of interest."""
        return bool(self.personal or self.subscribed or self.names or self.subtrees or self.server)

    @property
    def may_mean_others(self) -> bool:
        """Whether mailboxes of others may be meant."""
        named = any(name.startswith(PREFIX) for name in self.names or ())
        below = any(root == ROOT or root.startswith(PREFIX) for root in self.subtrees or ())
        return named or below or bool(self.subscribed)

    def may_mean(self, root: str, subscribed: Collection[str]) -> bool:
        """Whether a mailbox below `root` may be meant, whichever there are."""
        below = root + "/"
        if any(name.startswith(below) for name in self.names or ()):
            return True
        if any(f"{root}/".startswith(f"{top}/") or top.startswith(below) for top in self.subtrees or ()):
            return True
        return bool(self.subscribed) and any(name.startswith(below) for name in subscribed)

    def of_mailbox(self, name: str, *, is_own: bool, is_subscribed: bool) -> int:
        wanted = self.personal if is_own else 0
        if is_subscribed:
            wanted |= self.subscribed
        if self.names:
            wanted |= self.names.get(name, 0)
        if self.subtrees:
            root = name
            while root:  # from the name up, however many roots were named
                wanted |= self.subtrees.get(root, 0)
                root = root.rpartition("/")[0]
        return wanted


NOTHING: Final = Interests()


def _compiled(groups: tuple[Group, ...]) -> Interests:
    selected, at_once, items = 0, True, ()
    personal = subscribed = 0
    names: dict[str, int] = {}
    subtrees: dict[str, int] = {}
    server = False
    for group in groups:
        mask = sum(_BITS[event] for event in group.events)
        server = server or bool(mask & SERVER_METADATA)
        mask &= ~SERVER_METADATA
        match group.scope:
            case "SELECTED" | "SELECTED-DELAYED":
                selected, at_once, items = mask, group.scope == "SELECTED", group.items  # type: ignore[assignment]
            case "INBOXES" | "PERSONAL":  # rules may deliver anywhere, so both mean the same (RFC 5465 §6.3)
                personal |= mask
            case "SUBSCRIBED":
                subscribed |= mask
            case "SUBTREE":
                for name in group.names:
                    subtrees[name] = subtrees.get(name, 0) | mask
            case "MAILBOXES":
                for name in group.names:
                    names[name] = names.get(name, 0) | mask
    return Interests(selected, at_once, items, personal, subscribed, names, subtrees, server)


_shared = lru_cache(maxsize=200)(_compiled)

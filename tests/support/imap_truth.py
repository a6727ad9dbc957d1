"""What mailboxes hold, as plain as it can be said: the reference that IMAP sessions are compared with.

The truth is changed by hand as commands succeed. After each command `seal` looks at the modseqs that storage gave and
holds them to the rules: a change raises the message's modseq above all before it, nothing else touches it, and
HIGHESTMODSEQ rises with every change (RFC 7162 §3.1, §3.1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from storage.mail.account import Account
from storage.values import UID_MAX, MailboxId

Flags = frozenset[str]
Open = Callable[[], Account]


@dataclass
class Message:
    token: str
    flags: Flags
    history: list[tuple[Flags, int]] = field(default_factory=list)  # every state it was in, with its modseq

    @property
    def modseq(self) -> int:
        return self.history[-1][1]


@dataclass(eq=False)
class Box:
    name: str
    mailbox_id: MailboxId
    uidvalidity: int
    uidnext: int
    highest: int
    messages: dict[int, Message] = field(default_factory=dict)  # ascending UIDs
    gone: dict[int, Message] = field(default_factory=dict)
    deleted: bool = False
    _changed: set[int] = field(default_factory=set)
    _shrunk: bool = False

    def add(self, uid: int, token: str, flags: Iterable[str]) -> None:
        assert uid >= self.uidnext, f"UID {uid} was given after UIDNEXT {self.uidnext} was told"
        self.messages[uid] = Message(token, frozenset(flags))
        self._changed.add(uid)
        self.uidnext = uid + 1

    def set_flags(self, uid: int, flags: Flags) -> None:
        message = self.messages[uid]
        if message.flags != flags:
            message.flags = flags
            self._changed.add(uid)

    def remove(self, uid: int) -> Message:
        message = self.gone[uid] = self.messages.pop(uid)
        self._changed.discard(uid)
        self._shrunk = True
        return message

    def seal(self, account: Account) -> None:
        """Takes over the modseqs that storage gave since, and checks them."""
        if not self._changed and not self._shrunk:
            return
        rows = account.messages.fetch_rows(self.mailbox_id, 1, UID_MAX, ("uid", "modseq"))
        assert [row[0] for row in rows] == list(self.messages), f"{self.name} holds other messages"
        highest = account.mailboxes.by_id(self.mailbox_id).highest_modseq
        assert highest > self.highest, f"HIGHESTMODSEQ of {self.name} did not rise"
        for uid, modseq in rows:
            message = self.messages[uid]
            if uid in self._changed:
                assert self.highest < modseq <= highest, f"UID {uid} changed, its modseq {modseq} is not new"
                message.history.append((message.flags, modseq))
            else:
                assert message.modseq == modseq, f"UID {uid} has a new modseq and did not change"
        self.highest = highest
        self._changed.clear()
        self._shrunk = False


class Truth:
    """All mailboxes of the account."""

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.uidvalidities: dict[str, int] = {}
        self.tokens = 0

    def new_token(self) -> str:
        self.tokens += 1
        return f"Number {self.tokens}"

    def take(self, account: Account, name: str) -> Box:
        """A mailbox that was made just now, empty as far as the truth is concerned."""
        found = account.mailboxes.find(name)
        assert found.uidvalidity > self.uidvalidities.get(name, 0), "a name came back with an older UIDVALIDITY"
        self.uidvalidities[name] = found.uidvalidity
        box = Box(name, found.id, found.uidvalidity, 1, 0)
        self.boxes[name] = box
        return box

    def rename(self, old: str, new: str) -> None:
        box = self.boxes.pop(old)
        self.boxes[new] = box
        box.name = new

    def delete(self, name: str) -> None:
        self.boxes.pop(name).deleted = True

    def seal(self, account: Account) -> None:
        for box in self.boxes.values():
            box.seal(account)

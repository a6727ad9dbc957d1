"""A mailbox as a session names it: in which account it lies, and what the session's user may do with it.

Standards: RFC 4314 §2.1 (rights), RFC 2342 (whose names are whose).
"""

from __future__ import annotations

from dataclasses import dataclass

from hosting.imap.commands import Flags
from hosting.imap.sharing import rights as rights_model
from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox


@dataclass(frozen=True, slots=True)
class Place:
    """`name` is what the session calls it; `account` is the owner's, open as long as the session is."""

    account: Account
    mailbox: Mailbox
    name: str
    rights: str = rights_model.ALL
    is_own: bool = True

    def permitted(self, flags: Flags) -> Flags:
        """Those that a message may bring along that is put in (RFC 4314 §4)."""
        return Flags(*rights_model.permitted(self.rights, flags.system, flags.keywords))

"""A mailbox as a session names it: in which account it lies, and what the session's user may do with it.

Standards: RFC 4314 §2.1 (rights), RFC 2342 (whose names are whose).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox

ALL_RIGHTS: Final = "lrswipkxtea"  # what an owner may


@dataclass(frozen=True, slots=True)
class Place:
    """`name` is what the session calls it; `account` is the owner's, open as long as the session is."""

    account: Account
    mailbox: Mailbox
    name: str
    rights: str = ALL_RIGHTS
    is_own: bool = True

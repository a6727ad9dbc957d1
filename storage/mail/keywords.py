"""Keywords of a mailbox: up to 54 names, each a bit of `membership.flags`, defined when a client first uses them.

A keyword is never taken back while its mailbox lives. Names compare caselessly and keep the spelling they were first
used with.

Raises: LimitReached (all bits are used). Standards: RFC 9051 §2.3.2, §7.1 (PERMANENTFLAGS), RFC 5788.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import bindparam, delete, insert, select

from storage.database.database import Connection, Transaction
from storage.database.prepared import prepare
from storage.errors import LimitReached
from storage.schema.account import keyword
from storage.values import FIRST_KEYWORD_BIT, KEYWORDS_PER_MAILBOX, AccountId, MailboxId

_BITS = range(FIRST_KEYWORD_BIT, FIRST_KEYWORD_BIT + KEYWORDS_PER_MAILBOX)
SYSTEM_BITS = (1 << FIRST_KEYWORD_BIT) - 1
KEYWORD_BITS = ((1 << KEYWORDS_PER_MAILBOX) - 1) << FIRST_KEYWORD_BIT

_these = (keyword.c.account_id == bindparam("account"), keyword.c.mailbox_id == bindparam("mailbox"))
_select = prepare(select(keyword.c.bit, keyword.c.name).where(*_these))
_insert = prepare(insert(keyword))
_delete = prepare(delete(keyword).where(*_these))


class Keywords:
    """Of one account."""

    def __init__(self, account_id: AccountId) -> None:
        self._account_id = account_id

    def names(self, connection: Connection, mailbox_id: MailboxId) -> dict[int, str]:
        """Bit to name."""
        return dict(_select.rows(connection, account=self._account_id, mailbox=mailbox_id))

    def known(self, connection: Connection, mailbox_id: MailboxId, names: Iterable[str]) -> int:
        """The bits of those names that are defined."""
        wanted = {name.casefold() for name in names}
        if not wanted:
            return 0
        return sum(1 << bit for bit, name in self.names(connection, mailbox_id).items() if name.casefold() in wanted)

    def defined(self, transaction: Transaction, mailbox_id: MailboxId, names: Iterable[str]) -> int:
        """The bits of all the names; new ones are defined."""
        spelled = {name.casefold(): name for name in names}
        if not spelled:
            return 0
        mask, used = 0, self.names(transaction, mailbox_id)
        for bit, name in used.items():
            if spelled.pop(name.casefold(), None) is not None:
                mask |= 1 << bit
        free = (bit for bit in _BITS if bit not in used)
        for name in spelled.values():
            new = next(free, None)
            if new is None:
                raise LimitReached(f"A mailbox has at most {KEYWORDS_PER_MAILBOX} keywords.")
            _insert.run(transaction, account_id=self._account_id, mailbox_id=mailbox_id, bit=new, name=name)
            mask |= 1 << new
        return mask

    def translated(self, transaction: Transaction, flags: int, source: dict[int, str], target_id: MailboxId) -> int:
        """Flags of a mailbox whose keywords are `source` as flags of another one."""
        names = [name for bit, name in source.items() if flags >> bit & 1]
        return flags & SYSTEM_BITS | self.defined(transaction, target_id, names)

    def forget(self, transaction: Transaction, mailbox_id: MailboxId) -> None:
        """The keywords of a mailbox that is deleted."""
        _delete.run(transaction, account=self._account_id, mailbox=mailbox_id)

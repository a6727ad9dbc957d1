"""What goes on behind what was, after databases of a backup came into place: numbers that are never given out twice.

Raises: Unavailable, StorageFull.
Standards: RFC 9051 §2.3.1.1 (UIDVALIDITY), RFC 6578 §3.2 (sync tokens).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from sqlalchemy import bindparam, func, select, update

from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.directory.control import Control
from storage.mail.account import Account
from storage.schema.account import mailbox as _mailbox
from storage.schema.control import counter as _ids

_MAILBOX_IDS, _MESSAGE_IDS = 10_000, 1_000_000  # that may have been given out since the backup
_OTHER_IDS = 1_000
_NUMBER = re.compile(r"([1-9][0-9]*)(?:\.key|\.destroyed)?\Z")

_MAILBOXES = prepare(select(_mailbox.c.mailbox_id).where(_mailbox.c.account_id == bindparam("account")))
_RENEW = prepare(
    update(_mailbox)
    .where(_mailbox.c.account_id == bindparam("account"), _mailbox.c.mailbox_id == bindparam("mailbox"))
    .values(uidvalidity=bindparam("fresh"))
)
_RAISE = prepare(
    update(_ids)
    .where(_ids.c.name == bindparam("which"))
    .values(value=func.max(_ids.c.value, bindparam("least")) + _OTHER_IDS)
)


def renew_account(account: Account, now: int) -> None:
    """After a database was restored: nothing that a client knows of the account is taken for what it has now."""

    def work(transaction: Transaction) -> None:
        ledger = account.ledger
        ledger.take(transaction, "mailbox_id", _MAILBOX_IDS)
        ledger.take(transaction, "message_id", _MESSAGE_IDS)
        # UIDVALIDITYs began with the time of the account, and rise more slowly than time: those given out since the
        # backup are below now (RFC 9051 §2.3.1.1).
        last = ledger.take(transaction, "uidvalidity", 0) - 1
        if last < now:
            ledger.take(transaction, "uidvalidity", now - last)
        for (mailbox_id,) in _MAILBOXES.rows(transaction, account=account.account_id):
            fresh = ledger.take(transaction, "uidvalidity")
            _RENEW.run(transaction, account=account.account_id, mailbox=mailbox_id, fresh=fresh)
        for name in ("collection_id", "object_id", "note_id", "scheduling_id"):
            ledger.take(transaction, name, _MESSAGE_IDS)
        account.collections.renew_in(transaction, now)

    account.database.write(work)


def raise_ids(control: Control, tenant_id: int, account_id: int) -> None:
    """Ids of tenants and accounts go on behind these, and behind those that the database knows."""
    for which, least in (("tenant_id", tenant_id), ("account_id", account_id)):
        control.database.write(partial(_RAISE.run, which=which, least=least))


def highest_in(keys: Path) -> tuple[int, int]:
    """The highest numbers of tenants and accounts that key files or their markers have: which were given out."""
    tenants = accounts = 0
    for path in keys.rglob("*"):
        parts = path.relative_to(keys).parts
        match = _NUMBER.match(parts[-1])
        if match is None or parts[0] in ("logs", "endings", "groups"):
            continue
        if len(parts) == 1:
            tenants = max(tenants, int(match[1]))
        elif len(parts) == 2:
            accounts = max(accounts, int(match[1]))
    return tenants, accounts

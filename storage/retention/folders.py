"""Messages leave a folder when they have been there for as long as its owner, or the installation, chose.

What counts is when a message came to the folder (SAVEDATE, RFC 8514). It leaves as by EXPUNGE, some messages at a time:
other sessions and clients are told, the quota is given back, tombstones stay. Repeated it goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import bindparam, select

from storage.database.prepared import prepare
from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox
from storage.register.folder_rules import FolderRules
from storage.register.periods import DAY
from storage.schema.account import membership
from storage.values import UidSet

SLICE = 1000  # messages in one commit

_OLD = prepare(
    select(membership.c.uid)
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        membership.c.saved < bindparam("before"),
    )
    .order_by(membership.c.uid)
    .limit(bindparam("most"))
)


def keep_of(mailbox: Mailbox, rules: FolderRules) -> int:
    """Days after which messages leave it; 0: they stay. What the server keeps is not for users' rules."""
    return 0 if mailbox.read_only else rules.of(mailbox.name, mailbox.special_use, mailbox.keep_days)


def remove_from_folders(
    account: Account,
    rules: FolderRules,
    now: int,
    stopping: Callable[[], bool] = lambda: False,
    *,
    most: int = SLICE,
) -> int:
    """How many messages left their folders; `most` of them in one commit."""
    removed = 0
    for mailbox in account.mailboxes.list():
        days = keep_of(mailbox, rules)
        if not (days and mailbox.messages):
            continue
        old = {"account": account.account_id, "mailbox": mailbox.id, "before": now - days * DAY, "most": most}
        while not stopping():
            with account.database.reading() as connection:
                rows = _OLD.rows(connection, **old)
            if not rows:
                break
            uids = UidSet.of(row[0] for row in rows)
            removed += len(account.messages.expunge(mailbox.id, uids, only_deleted=False).uids)
    return removed

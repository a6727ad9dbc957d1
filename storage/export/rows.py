"""Rows of an account's messages for an export: in slices, so that no cursor lives while files are written."""

from __future__ import annotations

import json
from typing import NamedTuple

from sqlalchemy import bindparam, func, select

from storage.database.prepared import prepare
from storage.mail.account import Account
from storage.mail.ledger import LIVE
from storage.schema.account import mailbox, membership, message, with_message
from storage.values import MailboxId

SLICE = 500

_after = prepare(
    select(
        membership.c.uid,
        membership.c.message_id,
        membership.c.flags,
        membership.c.saved,
        message.c.file,
        message.c.size,
        message.c.internal_date,
        message.c.internal_zone,
        message.c.email_id,
        message.c.thread_id,
    )
    .select_from(with_message)
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        membership.c.uid > bindparam("after"),
    )
    .order_by(membership.c.uid)
    .limit(SLICE)
)
_ids = select(func.json_each(bindparam("ids")).table_valued("value").c.value)
_places = prepare(
    select(membership.c.message_id, func.count())
    .select_from(
        membership.join(
            mailbox,
            (mailbox.c.account_id == membership.c.account_id) & (mailbox.c.mailbox_id == membership.c.mailbox_id),
        )
    )
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.message_id.in_(_ids),
        mailbox.c.name >= LIVE,
    )
    .group_by(membership.c.message_id)
    .having(func.count() > 1)
)


class Stored(NamedTuple):
    """A message in a mailbox."""

    uid: int
    message_id: int
    flags: int
    saved: int
    file: str
    size: int
    internal_date: int
    internal_zone: int
    email_id: str
    thread_id: str
    places: int


def slice_after(account: Account, mailbox_id: MailboxId, after: int) -> list[Stored]:
    """The messages with the next UIDs; none: there are no more."""
    account.completion.ensure()  # each has its thread
    with account.database.reading() as connection:
        rows = _after.rows(connection, account=account.account_id, mailbox=mailbox_id, after=after)
        ids = json.dumps([row[1] for row in rows])
        places: dict[int, int] = dict(_places.rows(connection, account=account.account_id, ids=ids)) if rows else {}
    return [Stored._make((*row, places.get(row[1], 1))) for row in rows]

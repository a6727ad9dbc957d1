"""What restoring writes beside appended messages: mailboxes as they were, and messages in further mailboxes.

Each function is one transaction. Raises: LimitReached, NotFound, OverQuota, Unavailable.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.errors import LimitReached
from storage.mail.account import Account
from storage.mail.keywords import Keywords
from storage.mail.ledger import Delta
from storage.mail.mailboxes import MAILBOXES_MAX, Mailbox
from storage.schema.account import mailbox, membership, message, subscription, with_message
from storage.values import DELETED, KEYWORDS_PER_MAILBOX, SEEN, MailboxId, MessageId

_this = (mailbox.c.account_id == bindparam("account"), mailbox.c.mailbox_id == bindparam("which"))
_set_mailbox = prepare(update(mailbox).where(*_this).values(special_use=bindparam("uses"), keep_days=bindparam("days")))
_delete_mailbox = prepare(delete(mailbox).where(*_this, mailbox.c.messages == 0, mailbox.c.uidnext == 1))
_unsubscribe = prepare(
    delete(subscription).where(
        subscription.c.account_id == bindparam("account"), subscription.c.name == bindparam("called")
    )
)
_ids = select(func.json_each(bindparam("ids")).table_valued("value").c.value)
_delivered = prepare(
    select(message.c.delivery_id, message.c.message_id).where(
        message.c.account_id == bindparam("account"), message.c.delivery_id.in_(_ids)
    )
)
_places = prepare(
    select(func.count()).where(
        membership.c.account_id == bindparam("account"),
        membership.c.message_id == bindparam("message"),
        membership.c.mailbox_id == bindparam("mailbox"),
    )
)
_there = prepare(
    select(message.c.size, message.c.internal_date, message.c.message_id)
    .select_from(with_message)
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        or_(
            message.c.delivery_id.is_(None),
            func.substr(message.c.delivery_id, 1, func.length(bindparam("beginning"))) != bindparam("beginning"),
        ),
    )
    .order_by(membership.c.uid)
)
_insert_membership = prepare(insert(membership))


class WantedMailbox(NamedTuple):
    name: str
    special_use: tuple[str, ...]
    keep_days: int
    keywords: tuple[str, ...]


class WantedPlace(NamedTuple):
    """A message that the account has, to stand in a further mailbox."""

    message_id: MessageId
    size: int
    flags: int
    keywords: Sequence[str]
    saved: int


def is_untouched(mailboxes: Collection[Mailbox]) -> bool:
    """Whether no message was ever in the account, but for those that the server writes itself."""
    return all(each.uidnext == 1 or each.read_only for each in mailboxes)


def make_mailboxes(
    account: Account, wanted: Sequence[WantedMailbox], superfluous: Collection[str]
) -> dict[str, MailboxId]:
    """Mailboxes as they were; of an untouched account those that it was made with go, if they are superfluous.

    What an account that is in use says itself of a mailbox (special use, retention) stays as it is.
    """
    keywords = Keywords(account.account_id)
    mailboxes = account.mailboxes.list()
    there = {each.name: each for each in mailboxes}
    untouched = is_untouched(mailboxes)
    missing = [each for each in wanted if each.name not in there]
    if len(there) + len(missing) > MAILBOXES_MAX:
        raise LimitReached(f"An account has at most {MAILBOXES_MAX} mailboxes.")

    def work(transaction: Transaction) -> dict[str, MailboxId]:
        ids: dict[str, MailboxId] = {}
        used = set() if untouched else {use for each in mailboxes for use in each.special_use}
        scope = {"account": account.account_id}
        if untouched:
            for name in superfluous:
                if name in there and _delete_mailbox.run(transaction, **scope, which=there[name].id):
                    _unsubscribe.run(transaction, **scope, called=name)
        for each in wanted:
            known = there.get(each.name)
            if known is None:
                uses = [use for use in each.special_use if use not in used]
                ids[each.name] = account.mailboxes.insert(transaction, each.name, uses)
                _set_mailbox.run(transaction, **scope, which=ids[each.name], uses=" ".join(uses), days=each.keep_days)
            else:
                ids[each.name] = known.id
                if untouched:
                    uses = list(each.special_use)
                    _set_mailbox.run(transaction, **scope, which=known.id, uses=" ".join(uses), days=each.keep_days)
            names = keywords.names(transaction, ids[each.name])
            spelled = {name.casefold() for name in names.values()}
            new = [word for word in each.keywords if word.casefold() not in spelled]
            if len(names) + len(new) <= KEYWORDS_PER_MAILBOX:
                keywords.defined(transaction, ids[each.name], new)
        return ids

    return account.database.write(work)


def subscribe(account: Account, names: Collection[str], superfluous: Collection[str]) -> None:
    def work(transaction: Transaction) -> None:
        for name in superfluous:
            _unsubscribe.run(transaction, account=account.account_id, called=name)
        for name in names:
            account.mailboxes.insert_subscription(transaction, name)

    account.database.write(work)


def delivered(account: Account, delivery_ids: Sequence[str]) -> dict[str, MessageId]:
    """The messages that are stored under these ids."""
    with account.database.reading() as connection:
        rows = _delivered.rows(connection, account=account.account_id, ids=json.dumps(list(delivery_ids)))
    return {delivery_id: MessageId(message_id) for delivery_id, message_id in rows}


def places(account: Account, mailbox_id: MailboxId, message_id: MessageId) -> int:
    """How often a message stands in a mailbox."""
    with account.database.reading() as connection:
        row = _places.one(connection, account=account.account_id, message=message_id, mailbox=mailbox_id)
    return int(row[0]) if row is not None else 0


def others(account: Account, mailbox_id: MailboxId, beginning: str) -> dict[tuple[int, int], list[MessageId]]:
    """By size and INTERNALDATE, the messages of a mailbox whose delivery ids do not begin so."""
    found: dict[tuple[int, int], list[MessageId]] = {}
    with account.database.reading() as connection:
        rows = _there.rows(connection, account=account.account_id, mailbox=mailbox_id, beginning=beginning)
    for size, internal_date, message_id in reversed(rows):  # the first one is taken first, from the end
        found.setdefault((size, internal_date), []).append(MessageId(message_id))
    return found


def place(account: Account, mailbox_id: MailboxId, wanted: Sequence[WantedPlace]) -> None:
    """Put messages that the account has into a further mailbox, with flags of their own; durable on return."""
    keywords = Keywords(account.account_id)

    def work(transaction: Transaction) -> None:
        flags = array("Q", (each.flags | keywords.defined(transaction, mailbox_id, each.keywords) for each in wanted))
        octets = sum(each.size for each in wanted)
        account.ledger.charge(transaction, octets, len(wanted))
        position = account.ledger.advance(
            transaction,
            mailbox_id,
            uids=len(wanted),
            messages=len(wanted),
            unseen=sum(not each & SEEN for each in flags),
            deleted=sum(bool(each & DELETED) for each in flags),
            octets=octets,
        )
        uids = array("I", range(position.first_uid, position.first_uid + len(wanted)))
        _insert_membership.run_many(
            transaction,
            [
                {
                    "account_id": account.account_id,
                    "mailbox_id": mailbox_id,
                    "uid": uid,
                    "message_id": each.message_id,
                    "flags": bits,
                    "modseq": position.modseq,
                    "saved": each.saved,
                }
                for each, uid, bits in zip(wanted, uids, flags, strict=True)
            ],
        )
        account.ledger.changed(transaction, mailbox_id, Delta(position.modseq, uids, flags))

    account.database.write(work)

r"""Which folders and messages of another server have moved into an account, and what their flags were there.

A folder there is a row of `moving`, each of its messages that is here a row of `moved`: under which UIDVALIDITY and
UID, which message it is here, the hash of its octets, and the flags that it had there when that was last looked at. So
a message comes once, whatever interrupts the move; what its owner deleted or moved here does not come again; and of
flags only what *changed there* is carried over (`moving_values`): what its owner set or took away here stays as he
wants it.

`source` names the login and the server. Rows are written after the message is (its delivery id finds it if a crash came
between), so they need no fsync of their own: what a power loss takes of them is found again.

Raises: NotFound, Unavailable. Standards: RFC 9051 §2.3.1.1 (UIDVALIDITY and UID are a message for ever).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.errors import Corrupt, Gone
from storage.mail.account import Account
from storage.mail.keywords import SYSTEM_BITS, Keywords
from storage.mail.moving_values import Arrived, Moved, MovingFolder, Tags, tags_of, words_of
from storage.schema.account import membership, message, moved, moving, with_message
from storage.values import UID_MAX, MailboxId, MessageId

_SLICE = 1000

_of_source = (moving.c.account_id == bindparam("account"), moving.c.source == bindparam("whose"))
_of_folder = (moving.c.account_id == bindparam("account"), moving.c.folder_id == bindparam("id"))
_messages = (moved.c.account_id == bindparam("account"), moved.c.folder_id == bindparam("id"))
_current = (*_messages, moved.c.uidvalidity == bindparam("validity"))
_uid_list = select(func.json_each(bindparam("uids")).table_valued("value").c.value)
_ids = select(func.json_each(bindparam("ids")).table_valued("value").c.value)

_select_folders = prepare(
    select(
        moving.c.folder_id, moving.c.folder, moving.c.uidvalidity, moving.c.highest_modseq, moving.c.mailbox_id
    ).where(*_of_source)
)
_insert_folder = prepare(insert(moving))
_set_folder = prepare(
    update(moving)
    .where(*_of_folder)
    .values(
        folder=bindparam("called"),
        uidvalidity=bindparam("validity"),
        highest_modseq=bindparam("modseq"),
        mailbox_id=bindparam("mailbox"),
    )
)
_uids = prepare(select(moved.c.uid).where(*_current).order_by(moved.c.uid))
_message_ids = prepare(select(moved.c.message_id).where(*_current))
_with_place = moved.outerjoin(
    membership,
    (membership.c.account_id == moved.c.account_id)
    & (membership.c.message_id == moved.c.message_id)
    & (membership.c.mailbox_id == bindparam("mailbox")),
)
_places = prepare(
    select(moved.c.uid, moved.c.message_id, moved.c.flags, moved.c.keywords, func.min(membership.c.uid))
    .select_from(_with_place)
    .where(*_current, moved.c.uid > bindparam("after"))
    .group_by(moved.c.uid)
    .order_by(moved.c.uid)
    .limit(_SLICE)
)
_earlier = prepare(
    select(moved.c.message_id, moved.c.flags, moved.c.keywords)
    .where(*_messages, moved.c.uidvalidity != bindparam("validity"), moved.c.digest == bindparam("octets"))
    .order_by(moved.c.uidvalidity.desc(), moved.c.uid)
)
_has_earlier = prepare(select(moved.c.uid).where(*_messages, moved.c.uidvalidity != bindparam("validity")).limit(1))
_anywhere = prepare(
    select(moved.c.message_id)
    .where(moved.c.account_id == bindparam("account"), moved.c.digest == bindparam("octets"))
    .limit(1)
)
_digest = prepare(select(moved.c.digest).where(*_current, moved.c.uid == bindparam("uid")))
_record = prepare(upsert(moved).on_conflict_do_nothing())
_set_flags = prepare(
    update(moved)
    .where(*_current, moved.c.uid == bindparam("uid"))
    .values(flags=bindparam("bits"), keywords=bindparam("words"))
)
_drop = prepare(delete(moved).where(*_current, moved.c.uid.in_(_uid_list)))
_drop_earlier = prepare(delete(moved).where(*_messages, moved.c.uidvalidity != bindparam("validity")))
_drop_messages = prepare(delete(moved).where(*_messages))
_drop_folder = prepare(delete(moving).where(*_of_folder))
_there = prepare(
    select(message.c.message_id, message.c.size)
    .select_from(with_message)
    .where(membership.c.account_id == bindparam("account"), membership.c.mailbox_id == bindparam("mailbox"))
    .order_by(membership.c.uid.desc())
)
_tags_here = prepare(
    select(membership.c.mailbox_id, membership.c.flags)
    .where(membership.c.account_id == bindparam("account"), membership.c.message_id == bindparam("message"))
    .limit(1)
)
_delivered = prepare(
    select(message.c.delivery_id, message.c.message_id).where(
        message.c.account_id == bindparam("account"), message.c.delivery_id.in_(_ids)
    )
)


class Moving:
    """What has moved from one source into one account."""

    def __init__(self, account: Account, source: str) -> None:
        self._account = account
        self._source = source
        self._keywords = Keywords(account.account_id)

    # Folders

    def folders(self) -> dict[str, MovingFolder]:
        """By their names there."""
        with self._account.database.reading() as connection:
            rows = _select_folders.rows(connection, account=self._account.account_id, whose=self._source)
        return {row[1]: MovingFolder(row[0], row[1], row[2], row[3], MailboxId(row[4])) for row in rows}

    def begin(self, folder: str, uidvalidity: int, mailbox_id: MailboxId) -> MovingFolder:
        """A folder that has not been seen before. Durable on return."""

        def work(transaction: Transaction) -> int:
            # A number of mailboxes, since those are never used again: delivery ids name it.
            folder_id = self._account.ledger.take(transaction, "mailbox_id")
            _insert_folder.run(
                transaction,
                account_id=self._account.account_id,
                folder_id=folder_id,
                source=self._source,
                folder=folder,
                uidvalidity=uidvalidity,
                highest_modseq=0,
                mailbox_id=mailbox_id,
            )
            return folder_id

        return MovingFolder(self._account.database.write(work), folder, uidvalidity, 0, mailbox_id)

    def renumbered(self, folder: MovingFolder, uidvalidity: int) -> MovingFolder:
        """The other server gave it another UIDVALIDITY: what moved before is known by its octets alone."""
        return self._change(replace(folder, uidvalidity=uidvalidity, highest_modseq=0))

    def renamed(self, folder: MovingFolder, name: str) -> MovingFolder:
        return self._change(replace(folder, folder=name))

    def placed(self, folder: MovingFolder, mailbox_id: MailboxId) -> MovingFolder:
        """Another mailbox takes what comes from now on."""
        return self._change(replace(folder, mailbox_id=mailbox_id))

    def compared(self, folder: MovingFolder, highest_modseq: int, *, is_whole: bool) -> MovingFolder:
        """Flags are known up to here. `is_whole`: what earlier UIDVALIDITYs were good for is of no use any more."""
        account = self._account.account_id

        def work(transaction: Transaction) -> None:
            _drop_earlier.run(transaction, account=account, id=folder.id, validity=folder.uidvalidity)

        if is_whole:
            self._account.database.write(work)
        return self._change(replace(folder, highest_modseq=highest_modseq))

    def _change(self, folder: MovingFolder) -> MovingFolder:
        self._account.database.write(
            lambda transaction: _set_folder.run(
                transaction,
                account=self._account.account_id,
                id=folder.id,
                called=folder.folder,
                validity=folder.uidvalidity,
                modseq=folder.highest_modseq,
                mailbox=folder.mailbox_id,
            )
        )
        return folder

    def forget(self) -> None:
        """The move is over: nothing of it is kept. Mail stays."""
        account = self._account.account_id

        def work(transaction: Transaction) -> None:
            for row in _select_folders.rows(transaction, account=account, whose=self._source):
                _drop_messages.run(transaction, account=account, id=row[0])
                _drop_folder.run(transaction, account=account, id=row[0])

        self._account.database.write(work)

    # Messages

    def uids(self, folder: MovingFolder) -> array[int]:
        """Those there that have moved, ascending."""
        with self._account.database.reading() as connection:
            rows = _uids.rows(connection, account=self._account.account_id, id=folder.id, validity=folder.uidvalidity)
        return array("I", (row[0] for row in rows))

    def messages(self, folder: MovingFolder) -> Iterator[list[Moved]]:
        """What has moved, by UID, in slices."""
        after = 0
        while after < UID_MAX:
            with self._account.database.reading() as connection:
                rows = _places.rows(
                    connection,
                    account=self._account.account_id,
                    id=folder.id,
                    validity=folder.uidvalidity,
                    mailbox=folder.mailbox_id,
                    after=after,
                )
            if not rows:
                return
            yield [Moved(row[0], MessageId(row[1]), tags_of(row[2], row[3]), row[4]) for row in rows]
            after = rows[-1][0]

    def record(self, folder: MovingFolder, arrived: Iterable[Arrived]) -> None:
        """They are here."""
        rows = [
            {
                "account_id": self._account.account_id,
                "folder_id": folder.id,
                "uidvalidity": folder.uidvalidity,
                "uid": each.uid,
                "message_id": each.message_id,
                "digest": each.digest,
                "flags": each.tags.flags,
                "keywords": words_of(each.tags),
            }
            for each in arrived
        ]
        self._account.database.write(lambda transaction: _record.run_many(transaction, rows), durable=False)

    def seen(self, folder: MovingFolder, tags: Iterable[tuple[int, Tags]]) -> None:
        """What the flags of these UIDs are there now."""
        rows = [
            {
                "account": self._account.account_id,
                "id": folder.id,
                "validity": folder.uidvalidity,
                "uid": uid,
                "bits": each.flags,
                "words": words_of(each),
            }
            for uid, each in tags
        ]
        self._account.database.write(lambda transaction: _set_flags.run_many(transaction, rows), durable=False)

    def gone(self, folder: MovingFolder, uids: Collection[int]) -> None:
        """They are no longer there, and need not be known any more."""
        self._account.database.write(
            lambda transaction: _drop.run(
                transaction,
                account=self._account.account_id,
                id=folder.id,
                validity=folder.uidvalidity,
                uids=json.dumps(list(uids)),
            )
        )

    # What is here already

    def delivered(self, folder: MovingFolder, uids: Sequence[int]) -> dict[int, MessageId]:
        """Messages that were stored before a crash kept them from being recorded."""
        by_id = {folder.delivery_id(uid): uid for uid in uids}
        with self._account.database.reading() as connection:
            rows = _delivered.rows(connection, account=self._account.account_id, ids=json.dumps(list(by_id)))
        return {by_id[delivery_id]: MessageId(message_id) for delivery_id, message_id in rows}

    def tags_here(self, message_id: MessageId) -> Tags:
        """The flags that a message has here."""
        with self._account.database.reading() as connection:
            row = _tags_here.one(connection, account=self._account.account_id, message=message_id)
            if row is None:
                return Tags()
            names = self._keywords.names(connection, MailboxId(row[0]))
        return Tags(row[1] & SYSTEM_BITS, frozenset(name for bit, name in names.items() if row[1] >> bit & 1))

    def digest_of(self, folder: MovingFolder, uid: int) -> bytes | None:
        with self._account.database.reading() as connection:
            row = _digest.one(
                connection, account=self._account.account_id, id=folder.id, validity=folder.uidvalidity, uid=uid
            )
        return None if row is None else bytes(row[0])

    def is_anywhere(self, octets: bytes) -> MessageId | None:
        """A message of this digest that moved in, from whichever folder."""
        with self._account.database.reading() as connection:
            row = _anywhere.one(connection, account=self._account.account_id, octets=octets)
        return None if row is None else MessageId(row[0])

    def present(self, folder: MovingFolder) -> Present:
        return Present(self._account, folder)


class Present:
    """Messages that may be those of a folder: of its earlier UIDVALIDITYs, or that came here in another way.

    Each is taken once. Memory: of a mailbox that holds others' messages about 100 octets a message.
    """

    def __init__(self, account: Account, folder: MovingFolder) -> None:
        self._account = account
        self._folder = folder
        self._scope = {"account": account.account_id, "id": folder.id, "validity": folder.uidvalidity}
        with account.database.reading() as connection:
            self._has_earlier = _has_earlier.one(connection, **self._scope) is not None
            self._taken = {row[0] for row in _message_ids.rows(connection, **self._scope)}
            rows = _there.rows(connection, account=account.account_id, mailbox=folder.mailbox_id)
        self._others: dict[int, list[int]] = {}
        for message_id, size in rows:
            if message_id not in self._taken:
                self._others.setdefault(size, []).append(message_id)

    def took(self, message_ids: Iterable[MessageId]) -> None:
        """These were recorded."""
        self._taken.update(message_ids)

    def find(self, octets: bytes, hashed: bytes) -> tuple[MessageId, Tags | None] | None:
        """The message with these octets, and its flags there as they are known; None if they are not, or it is new."""
        if self._has_earlier:
            with self._account.database.reading() as connection:
                rows = _earlier.rows(connection, **self._scope, octets=hashed)
            for message_id, flags, words in rows:
                if message_id not in self._taken:
                    self._taken.add(message_id)
                    return MessageId(message_id), tags_of(flags, words)
        candidates = self._others.get(len(octets), [])
        for place in range(len(candidates) - 1, -1, -1):
            message_id = candidates[place]
            if message_id in self._taken:
                del candidates[place]
            elif self._is(message_id, octets):
                del candidates[place]
                self._taken.add(message_id)
                return MessageId(message_id), None
        return None

    def _is(self, message_id: int, octets: bytes) -> bool:
        try:
            return self._account.messages.read_message(MessageId(message_id)) == octets
        except (Gone, Corrupt):
            return False

"""What every change of a mailbox has in common: its modseq, its counters, its quota, and who is told.

A mailbox's modseq rises by one with each transaction that changes it, so whoever knows modseq n and is handed the
change n + 1 knows everything. Arrivals and removals commit FULL. Flags commit NORMAL, which a power loss may undo;
their modseqs come from a block that an earlier FULL commit reserved, and the first open after a restart of the machine
goes on behind the block (`go_on_behind_blocks`), so that no modseq is issued twice. A NORMAL transaction that has used
up the block raises `BlockUsedUp` and is repeated as a FULL one.

Raises: NotFound (no such mailbox), NotPermitted (the server's own), LimitReached (UIDs used up), OverQuota.
Standards: RFC 9051 §2.3.1.1, RFC 7162 §3.1.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import bindparam, func, insert, select, update

from storage.database.database import Connection, Database, Transaction
from storage.database.prepared import prepare
from storage.errors import LimitReached, NotFound, NotPermitted
from storage.mail import flag_changes, quota
from storage.mail.follow import MailFollower
from storage.mail.quota import UNLIMITED, Limits
from storage.schema.account import counter, info, mailbox
from storage.values import UID_MAX, AccountId, MailboxId, ModSeq

T = TypeVar("T")

BLOCK = 1000  # modseqs that a FULL commit reserves for NORMAL ones
LIVE = "\x01"  # names of living mailboxes sort from here; storage.mail.mailboxes renames dying ones below it

READ_ONLY = "The server keeps this mailbox: it can be read and copied from, but not changed."

_BOOT_ID = "boot_id"

_this = (mailbox.c.account_id == bindparam("account"), mailbox.c.mailbox_id == bindparam("mailbox"))
_counted = {
    "highest_modseq": mailbox.c.highest_modseq + 1,
    "messages": mailbox.c.messages + bindparam("count"),
    "unseen": mailbox.c.unseen + bindparam("newly_unseen"),
    "deleted": mailbox.c.deleted + bindparam("newly_deleted"),
    "bytes": mailbox.c.bytes + bindparam("octets"),
}
_returned = (
    mailbox.c.highest_modseq,
    mailbox.c.uidvalidity,
    mailbox.c.uidnext,
    mailbox.c.read_only,
    mailbox.c.name,
)
_advance = prepare(
    update(mailbox)
    .where(*_this, mailbox.c.name >= LIVE)
    .values(
        **_counted,
        uidnext=mailbox.c.uidnext + bindparam("uids"),
        reserved_modseq=mailbox.c.highest_modseq + (1 + BLOCK),
    )
    .returning(*_returned)
)
_flagged = {
    "highest_modseq": mailbox.c.highest_modseq + 1,
    "unseen": mailbox.c.unseen + bindparam("newly_unseen"),
    "deleted": mailbox.c.deleted + bindparam("newly_deleted"),
    "flag_changes": flag_changes.appended,
}
_reserved = {"reserved_modseq": mailbox.c.highest_modseq + (1 + BLOCK)}
_advance_flags = {
    durable: prepare(
        update(mailbox)
        .where(*_this, mailbox.c.name >= LIVE)
        .values(_flagged | (_reserved if durable else {}))
        .returning(
            mailbox.c.highest_modseq,
            mailbox.c.reserved_modseq,
            mailbox.c.read_only,
            func.length(mailbox.c.flag_changes),
        )
    )
    for durable in (False, True)
}

_add_to_counter = prepare(
    update(counter)
    .where(counter.c.account_id == bindparam("account"), counter.c.name == bindparam("which"))
    .values(value=counter.c.value + bindparam("by"))
    .returning(counter.c.value)
)
_insert_counter = prepare(insert(counter))

_this_info = (info.c.account_id == bindparam("account"), info.c.name == bindparam("which"))
_get_info = prepare(select(info.c.value).where(*_this_info))
_set_info = prepare(update(info).where(*_this_info).values(value=bindparam("text")))
_insert_info = prepare(insert(info))
_go_on = prepare(
    update(mailbox)
    .where(mailbox.c.account_id == bindparam("account"))
    .values(highest_modseq=mailbox.c.reserved_modseq, reserved_modseq=mailbox.c.reserved_modseq + BLOCK)
)


class BlockUsedUp(Exception):  # noqa: N818
    """A NORMAL transaction needs a modseq that no FULL commit has reserved."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a mailbox stands after the change that is being made."""

    modseq: ModSeq
    uidvalidity: int
    first_uid: int  # of the UIDs that were asked for
    name: str = field(repr=False)  # of the mailbox, as the transaction sees it


@dataclass(frozen=True, slots=True)
class Delta:
    """What one transaction changed in one mailbox: messages that arrived or got these flags, and messages that went."""

    modseq: int
    uids: array[int] = field(default_factory=lambda: array("I"))
    flags: array[int] = field(default_factory=lambda: array("Q"))
    vanished: array[int] = field(default_factory=lambda: array("I"))


Tell = Callable[[MailboxId, Delta], None]


class Ledger:
    """Of one account. `tell` is called after the commit of each change, on the thread that made it."""

    def __init__(self, database: Database, account_id: AccountId, tell: Tell) -> None:
        self.database = database
        self.account_id = account_id
        self.limits: Limits = UNLIMITED
        self.follower: MailFollower | None = None  # told of what comes and leaves, by whoever writes that
        self._tell = tell

    def write_flags(self, work: Callable[[Transaction, bool], T]) -> T:
        """Run `work(transaction, durable)` in a NORMAL transaction, or a FULL one when the modseqs are used up."""
        try:
            return self.database.write(lambda transaction: work(transaction, False), durable=False)
        except BlockUsedUp:
            return self.database.write(lambda transaction: work(transaction, True))

    def advance(
        self,
        transaction: Transaction,
        mailbox_id: MailboxId,
        *,
        uids: int = 0,
        messages: int = 0,
        unseen: int = 0,
        deleted: int = 0,
        octets: int = 0,
        by_server: bool = False,
    ) -> Position:
        """The mailbox's next modseq and `uids` new UIDs; its counters change by the rest.

        `by_server`: of a mailbox that its owner only reads; nobody else changes one. Raises NotPermitted.
        """
        values = {
            "account": self.account_id,
            "mailbox": mailbox_id,
            "count": messages,
            "newly_unseen": unseen,
            "newly_deleted": deleted,
            "octets": octets,
            "uids": uids,
        }
        row = _advance.one(transaction, **values)
        if row is None:
            raise NotFound("There is no such mailbox.")
        modseq, uidvalidity, uidnext, read_only, name = row
        if read_only and not by_server:
            raise NotPermitted(READ_ONLY)
        if uidnext - 1 > UID_MAX:
            raise LimitReached("The mailbox has used up its numbers; move its messages to a new one.")
        return Position(ModSeq(modseq), uidvalidity, uidnext - uids, name)

    def advance_flags(
        self,
        transaction: Transaction,
        mailbox_id: MailboxId,
        written: str,
        *,
        durable: bool,
        unseen: int,
        deleted: int,
    ) -> tuple[ModSeq, int]:
        """The mailbox's next modseq for other flags, and how long its `flag_changes` are with what is `written` now.

        Raises BlockUsedUp unless it is `durable`.
        """
        row = _advance_flags[durable].one(
            transaction,
            account=self.account_id,
            mailbox=mailbox_id,
            newly_unseen=unseen,
            newly_deleted=deleted,
            written=written,
        )
        if row is None:
            raise NotFound("There is no such mailbox.")
        modseq, reserved, read_only, length = row
        if read_only:
            raise NotPermitted(READ_ONLY)
        if modseq > reserved:
            raise BlockUsedUp
        return ModSeq(modseq), length

    def changed(self, transaction: Transaction, mailbox_id: MailboxId, delta: Delta) -> None:
        """Tell of the change once it is committed: in this process with what changed, elsewhere with its modseq."""
        transaction.changed(mailbox_id, ModSeq(delta.modseq))
        transaction.after_commit(lambda: self._tell(mailbox_id, delta))

    def charge(self, transaction: Transaction, octets: int, messages: int, *, overrun: bool = False) -> None:
        """Raises OverQuota; with `overrun` only if nothing is left."""
        quota.charge(transaction, self.account_id, octets, messages, self.limits, overrun=overrun)

    def require_space(self, octets: int, messages: int) -> None:
        """Raises OverQuota where so much could not be charged now."""
        with self.database.reading() as connection:
            quota.require_space(connection, self.account_id, octets, messages, self.limits)

    def release(self, transaction: Transaction, octets: int, messages: int) -> None:
        quota.release(transaction, self.account_id, octets, messages)

    def take(self, transaction: Transaction, name: str, count: int = 1) -> int:
        """The first of `count` numbers that are never given out again."""
        last: int = _add_to_counter.rows(transaction, account=self.account_id, which=name, by=count)[0][0]
        return last - count + 1


def begin(transaction: Transaction, account_id: AccountId, counters: dict[str, int], boot: str) -> None:
    """The rows of a new account; `counters` are the highest numbers that count as given out."""
    quota.begin(transaction, account_id)
    for name, value in counters.items():
        _insert_counter.run(transaction, account_id=account_id, name=name, value=value)
    _insert_info.run(transaction, account_id=account_id, name=_BOOT_ID, value=boot)


def go_on_behind_blocks(database: Database, account_id: AccountId, boot: str) -> bool:
    """After a restart of the machine, once: modseqs go on behind what may have been issued and lost. True: it did."""

    def is_known(connection: Connection) -> bool:
        row = _get_info.one(connection, account=account_id, which=_BOOT_ID)
        return row is not None and row[0] == boot

    def work(transaction: Transaction) -> bool:
        if is_known(transaction):  # another process was first
            return False
        _go_on.run(transaction, account=account_id)
        if not _set_info.run(transaction, account=account_id, which=_BOOT_ID, text=boot):
            _insert_info.run(transaction, account_id=account_id, name=_BOOT_ID, value=boot)
        return True

    with database.reading() as connection:
        if is_known(connection):
            return False
    return database.write(work)

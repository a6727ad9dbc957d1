r"""The mailboxes of one account, their names and their subscriptions.

Everything but `take_recent` is durable on return. A deleted mailbox is out of sight at once, its quota given back; its
messages are removed in the background, in slices, and that is taken up again when the account is opened. Ids and
UIDVALIDITYs come from counters and are never used again, so a name that is made anew is a new mailbox for every
client.

Raises: NotFound, AlreadyExists, NotPermitted (INBOX, what the server keeps), InvalidInput (names), LimitReached,
Conflict.
Standards: RFC 9051 §6.3.4 to §6.3.8, §2.3.1.1; RFC 6154; RFC 8474 §4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import bindparam, func, insert, select, update

from storage.clock import Clock
from storage.database.database import Connection, Transaction
from storage.database.prepared import Row, prepare
from storage.errors import AlreadyExists, Conflict, LimitReached, NotFound, NotPermitted
from storage.mail.annotations import copy_all as copy_annotations
from storage.mail.dying import DyingMailboxes
from storage.mail.keywords import Keywords
from storage.mail.ledger import BLOCK, LIVE, READ_ONLY, Ledger
from storage.mail.names import INBOX, below, canonical, new_name, parents
from storage.mail.subscriptions import delete_subscription, insert_subscription, subscribed_names
from storage.mail.transfers import Transfers
from storage.schema.account import mailbox
from storage.values import UID_MAX, AccountId, MailboxId, UidSet

MAILBOXES_MAX = 10_000
Result = TypeVar("Result")

FIRST_MAILBOXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (INBOX, ()),
    *((name, ("\\" + name,)) for name in ("Sent", "Drafts", "Junk", "Trash", "Archive")),
)

_UNTOLD = ("reserved_modseq", "flag_changes", "flag_horizon")
_columns = tuple(column for column in mailbox.columns if column.name not in _UNTOLD)
_live = (mailbox.c.account_id == bindparam("account"), mailbox.c.name >= LIVE)
_by_id = (*_live, mailbox.c.mailbox_id == bindparam("mailbox"))
_select_all = prepare(select(*_columns).where(*_live).order_by(mailbox.c.name))
_select_by_name = prepare(select(*_columns).where(*_live, mailbox.c.name == bindparam("called")))
_select_by_id = prepare(select(*_columns).where(*_by_id))
_count_all = prepare(select(func.count()).select_from(mailbox).where(*_live))
_select_names = prepare(select(mailbox.c.name).where(*_live))
_select_inferiors = prepare(
    select(mailbox.c.mailbox_id, mailbox.c.name).where(
        *_live, mailbox.c.name >= bindparam("first"), mailbox.c.name < bindparam("last")
    )
)
_insert = prepare(insert(mailbox))
_set_name = prepare(update(mailbox).where(*_by_id).values(name=bindparam("renamed")))
_select_used = prepare(
    select(*_columns).where(*_live, (mailbox.c.special_use != "") | (mailbox.c.name == bindparam("called")))
)
_set_use = prepare(update(mailbox).where(*_by_id).values(special_use=bindparam("uses")))
_set_keep_days = prepare(update(mailbox).where(*_by_id).values(keep_days=bindparam("days")))
_select_recent = prepare(select(mailbox.c.recent_uid, mailbox.c.uidnext).where(*_by_id))
_take_recent = prepare(update(mailbox).where(*_by_id).values(recent_uid=mailbox.c.uidnext))


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox and its counters at one moment."""

    account_id: AccountId
    id: MailboxId
    name: str
    uidvalidity: int
    uidnext: int
    highest_modseq: int
    expunged_horizon: int  # of what was expunged up to this modseq nobody knows the UIDs any more
    messages: int
    unseen: int
    deleted: int
    bytes: int
    recent_uid: int  # messages from this UID on were never told of to anybody who selected the mailbox
    special_use: tuple[str, ...]
    created: int
    keep_days: int = 0  # when messages leave it; storage.register.folder_rules tells what 0 and -1 mean
    read_only: bool = False  # the server writes, its owner reads

    @property
    def object_id(self) -> str:
        """MAILBOXID (RFC 8474 §4): stays when the mailbox is renamed."""
        return f"F{self.account_id:x}-{self.id:x}"


class Mailboxes:
    def __init__(
        self,
        ledger: Ledger,
        keywords: Keywords,
        transfers: Transfers,
        dying: DyingMailboxes,
        clock: Clock,
        tell: Callable[[], None],
    ) -> None:
        """`tell` is called after each commit that changed names or subscriptions."""
        self._tell = tell
        self._ledger = ledger
        self._database = ledger.database
        self._account_id = ledger.account_id
        self._keywords = keywords
        self._transfers = transfers
        self._dying = dying
        self._clock = clock
        self._last_names: dict[MailboxId, str] = {}
        self._last_found: tuple[int, Mailbox] | None = None  # as of which version of the database

    # Looking

    def list(self) -> list[Mailbox]:
        """All of them, by name."""
        with self._database.reading() as connection:
            rows = _select_all.rows(connection, account=self._account_id)
        return [_mailbox(row) for row in rows]  # others may read meanwhile: of thousands it takes longer than reading

    def count(self) -> int:
        """How many there are: to know beforehand whether listing them takes long."""
        with self._database.reading() as connection:
            row = _count_all.one(connection, account=self._account_id)
        return int(row[0]) if row else 0

    def find(self, name: str) -> Mailbox:
        name, version, last = canonical(name), self._database.data_version(), self._last_found
        if last is not None and last[0] == version and last[1].name == name:
            return last[1]  # nobody has committed since
        with self._database.reading() as connection:
            found = self._named(connection, name)
        self._last_found = version, found
        self._last_names[found.id] = found.name
        return found

    def remembered(self, name: str) -> Mailbox | None:
        """As it was when it was found, if it was found last: it may be another's name by now, or nobody's."""
        last = self._last_found
        return last[1] if last is not None and last[1].name == name else None

    def last_name(self, mailbox_id: MailboxId) -> str:
        """The name under which it was found last: for a file to remember, not to find it by."""
        if mailbox_id not in self._last_names:
            self._last_names[mailbox_id] = self.by_id(mailbox_id).name
        return self._last_names[mailbox_id]

    def above(self, name: str) -> Mailbox | None:
        """The nearest mailbox above a name."""
        with self._database.reading() as connection:
            return self._above(connection, name)

    def by_id(self, mailbox_id: MailboxId) -> Mailbox:
        with self._database.reading() as connection:
            row = _select_by_id.one(connection, account=self._account_id, mailbox=mailbox_id)
        if row is None:
            raise NotFound("There is no such mailbox.")
        return _mailbox(row)

    def keywords(self, mailbox_id: MailboxId) -> dict[int, str]:
        """Names of the bits from 8 on in the flags of its messages."""
        with self._database.reading() as connection:
            return self._keywords.names(connection, mailbox_id)

    # Making and removing

    def create(self, name: str, special_use: Collection[str] = (), *, read_only: bool = False) -> Mailbox:
        """A new mailbox; missing ones above it are made too (RFC 9051 §6.3.4). `read_only`: for its owner."""
        return self.create_below(name, special_use, read_only=read_only)[1][-1]

    def create_below(
        self, name: str, special_use: Collection[str] = (), *, read_only: bool = False
    ) -> tuple[Mailbox | None, Sequence[Mailbox]]:
        """As `create`: the nearest mailbox that was above it before, if any, and all that were made, from the top."""
        name = new_name(name)

        def work(transaction: Transaction) -> tuple[Mailbox | None, Sequence[Mailbox]]:
            if self._has(transaction, name):
                raise AlreadyExists("There is a mailbox of that name already.")
            above = self._above(transaction, name)
            made = self._make_parents(transaction, name, room_for=1)
            self.insert(transaction, name, tuple(special_use), read_only=read_only)
            return above, [self._named(transaction, each) for each in (*made, name)]

        return self._told(self._database.write(work))

    def _told(self, result: Result) -> Result:
        self._tell()
        return result

    def insert(
        self, transaction: Transaction, name: str, special_use: Sequence[str] = (), *, read_only: bool = False
    ) -> MailboxId:
        """The row of a new mailbox."""
        mailbox_id = MailboxId(self._ledger.take(transaction, "mailbox_id"))
        _insert.run(
            transaction,
            account_id=self._account_id,
            mailbox_id=mailbox_id,
            name=name,
            uidvalidity=self._ledger.take(transaction, "uidvalidity"),
            uidnext=1,
            highest_modseq=1,
            reserved_modseq=1 + BLOCK,
            expunged_horizon=0,
            messages=0,
            unseen=0,
            deleted=0,
            bytes=0,
            recent_uid=1,
            special_use=" ".join(special_use),
            created=self._clock.now(),
            keep_days=0,
            read_only=int(read_only),
            flag_changes="",
            flag_horizon=0,
        )
        return mailbox_id

    def delete(self, name: str, only: MailboxId | None = None) -> None:
        """Its inferiors stay, and the name goes on as theirs does: implied (RFC 9051 §6.3.5).

        A special use that it was given goes back to the mailbox that had it first, if that is there and has no other.

        `only`: NotFound if the name is another mailbox's by now.
        """
        name = canonical(name)
        if name == INBOX:
            raise NotPermitted("INBOX cannot be deleted.")

        def work(transaction: Transaction) -> None:
            found = self._writable(transaction, name)
            if only not in (None, found.id):
                raise NotFound("There is no such mailbox.")
            self._check_may_go(transaction, found.id, name)
            self._dying.hide(transaction, found.id)
            for first, uses in FIRST_MAILBOXES:
                if set(uses) & set(found.special_use):
                    self._use(transaction, first, uses[0])

        self._told(self._database.write(work))

    def use(self, name: str, special_use: str) -> None:
        """The mailbox has this special use, unless it has one already, or another mailbox has this one."""
        self._told(self._database.write(lambda transaction: self._use(transaction, canonical(name), special_use)))

    def _use(self, transaction: Transaction, name: str, special_use: str) -> None:
        mailboxes = [_mailbox(row) for row in _select_used.rows(transaction, account=self._account_id, called=name)]
        if any(special_use in each.special_use for each in mailboxes):
            return
        for each in mailboxes:
            if each.name == name and not (each.special_use or each.read_only):
                _set_use.run(transaction, account=self._account_id, mailbox=each.id, uses=special_use)

    def rename(self, old: str, new: str, only: Collection[MailboxId] | None = None) -> None:
        """With its inferiors. Of INBOX the messages move to the new mailbox, and INBOX stays (RFC 9051 §6.3.6).

        `only`: Conflict if others than these would be moved along.
        """
        old, new = canonical(old), new_name(new)
        if old == INBOX:
            target = self.create(new)
            inbox = self.find(INBOX)
            self._database.write(lambda work: copy_annotations(work, self._account_id, inbox.id, target.id))
            self._transfers.move(inbox.id, UidSet(((1, UID_MAX),)), target.id)
            return

        def work(transaction: Transaction) -> None:
            renamed = self._renamed(transaction, old, new)
            for _, before, _ in renamed:
                self._writable(transaction, before)
            if not renamed:
                raise NotFound("There is no such mailbox.")
            if only is not None and any(mailbox_id not in only for mailbox_id, _, _ in renamed):
                raise Conflict
            going = {before for _, before, _ in renamed}
            staying = {row[0] for row in _select_names.rows(transaction, account=self._account_id)} - going
            if new in (old, *staying) or any(name in staying for _, _, name in renamed):
                raise AlreadyExists("There is a mailbox of that name already.")
            if new.startswith(old + "/"):
                raise NotPermitted("A mailbox cannot be moved below itself.")
            for mailbox_id, before, name in renamed:
                self._check_may_go(transaction, MailboxId(mailbox_id), before)
                _set_name.run(transaction, account=self._account_id, mailbox=mailbox_id, renamed=new_name(name))
                if self._ledger.follower is not None:
                    self._ledger.follower.came(transaction, name)
            self._make_parents(transaction, new)

        self._told(self._database.write(work))

    def _renamed(self, transaction: Transaction, old: str, new: str) -> Sequence[tuple[int, str, str]]:
        """Id, name and new name of a mailbox (if it is one, and not only implied) and its inferiors."""
        first, last = below(old)
        rows = _select_inferiors.rows(transaction, account=self._account_id, first=first, last=last)
        rows += _select_inferiors.rows(transaction, account=self._account_id, first=old, last=old + "\0")
        return [(mailbox_id, name, new + name[len(old) :]) for mailbox_id, name in rows]

    def _make_parents(self, transaction: Transaction, name: str, *, room_for: int = 0) -> Sequence[str]:
        """The names that were missing above one; `room_for`: how many more are to be made."""
        missing = [parent for parent in parents(name) if not self._has(transaction, parent)]
        count = _count_all.one(transaction, account=self._account_id)
        if (count[0] if count else 0) + len(missing) + room_for > MAILBOXES_MAX:
            raise LimitReached(f"An account has at most {MAILBOXES_MAX} mailboxes.")
        for parent in missing:
            self.insert(transaction, parent)
        return missing

    def keep(self, name: str, days: int) -> Mailbox:
        """How long its messages stay: days, or what `storage.register.folder_rules` calls NEVER and UNSET."""

        def work(transaction: Transaction) -> Mailbox:
            found = self._writable(transaction, canonical(name))
            _set_keep_days.run(transaction, account=self._account_id, mailbox=found.id, days=days)
            return replace(found, keep_days=days)

        return self._database.write(work)

    # Subscriptions

    def subscriptions(self) -> set[str]:
        with self._database.reading() as connection:
            return subscribed_names(connection, self._account_id)

    def subscribe(self, name: str) -> None:
        """A name may be subscribed before its mailbox exists and after it is gone (RFC 9051 §6.3.7)."""
        name = new_name(name)
        self._told(self._database.write(lambda transaction: self.insert_subscription(transaction, name)))

    def insert_subscription(self, transaction: Transaction, name: str) -> None:
        insert_subscription(transaction, self._account_id, name)

    def unsubscribe(self, name: str) -> None:
        """That it was not subscribed is no error."""
        name = canonical(name)
        self._told(self._database.write(lambda work: delete_subscription(work, self._account_id, name)))

    # Recent messages (RFC 3501 §2.3.2)

    def recent_from(self, mailbox_id: MailboxId) -> int:
        r"""Messages from this UID on are \Recent to whoever selects the mailbox now."""
        with self._database.reading() as connection:
            return self._recent(connection, mailbox_id)[0]

    def take_recent(self, mailbox_id: MailboxId) -> int:
        r"""Like `recent_from`, and they are not \Recent to anybody later. A power loss may undo that."""
        with self._database.reading() as connection:
            recent, uidnext = self._recent(connection, mailbox_id)
        if recent == uidnext:
            return recent

        def work(transaction: Transaction) -> int:
            recent, _ = self._recent(transaction, mailbox_id)
            _take_recent.run(transaction, account=self._account_id, mailbox=mailbox_id)
            return recent

        return self._database.write(work, durable=False)

    def _recent(self, connection: Connection, mailbox_id: MailboxId) -> tuple[int, int]:
        row = _select_recent.one(connection, account=self._account_id, mailbox=mailbox_id)
        if row is None:
            raise NotFound("There is no such mailbox.")
        return row[0], row[1]

    def _writable(self, transaction: Transaction, name: str) -> Mailbox:
        """Raises NotPermitted for one that the server keeps."""
        found = self._named(transaction, name)
        if found.read_only:
            raise NotPermitted(READ_ONLY)
        return found

    def _check_may_go(self, transaction: Transaction, mailbox_id: MailboxId, name: str) -> None:
        if self._ledger.follower is not None:
            self._ledger.follower.may_go(transaction, mailbox_id, name)

    def _named(self, connection: Connection, name: str) -> Mailbox:
        row = _select_by_name.one(connection, account=self._account_id, called=name)
        if row is None:
            raise NotFound("There is no such mailbox.")
        return _mailbox(row)

    def _has(self, connection: Connection, name: str) -> bool:
        return _select_by_name.one(connection, account=self._account_id, called=name) is not None

    def _above(self, connection: Connection, name: str) -> Mailbox | None:
        found = [each for each in parents(name) if self._has(connection, each)]
        return self._named(connection, found[-1]) if found else None


def _mailbox(row: Row) -> Mailbox:
    values: list[Any] = list(row)
    values[-4:] = [tuple(values[-4].split()), values[-3], values[-2], bool(values[-1])]
    return Mailbox(*values)

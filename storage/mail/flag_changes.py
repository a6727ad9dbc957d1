"""Which messages of a mailbox got other flags since a modseq: what a view that is behind reads.

The last changes stand in the mailbox's own row, which is written with every change anyway; when they become long, they
go into a row of their own, some thirty together. So they cost a commit next to nothing, where an index by modseq would
cost it two pages. What arrives is not written down, since its UID is above all that were there before; what goes leaves
a tombstone (`storage.mail.tombstones`).

A mailbox keeps its last `KEPT` such rows, or as many as are `KEPT_TEXT` long, since no quota counts them. Of what
changed up to its `flag_horizon` nobody knows any more: whoever is that far behind compares everything.

Standards: RFC 7162 §3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Text, bindparam, cast, delete, func, insert, select, update

from storage.database.database import Connection, Transaction
from storage.database.prepared import prepare
from storage.schema.account import flag_change, mailbox, membership, snapshot
from storage.values import AccountId, MailboxId, UidSet

KEPT = 1000
KEPT_TEXT = 2_000_000  # characters of them; thirty single changes are 400, and 1,000 messages here and there are 7,000
LONGEST = 400  # characters in a mailbox's row: SQLite moves a row of more than 989 octets elsewhere
_LOOK_AFTER = 50  # rows that were written, whether there are too many
_FEW_ROWS = 8  # that are counted, and …
_FEW_TEXT = 10_000  # characters of them that are read: what is longer says more than some hundred messages
_MIGRATED = 20_000  # messages of a mailbox that the migration writes down; a twentieth of them, as a rule

NOTHING = "=;"  # what a change is written as whose messages stand in a row of their own

_of_mailbox = (mailbox.c.account_id == bindparam("account"), mailbox.c.mailbox_id == bindparam("mailbox"))
_these = (flag_change.c.account_id == bindparam("account"), flag_change.c.mailbox_id == bindparam("mailbox"))

# What UPDATE sets, with what `written` says.
appended = mailbox.c.flag_changes + cast(mailbox.c.highest_modseq + 1, Text) + bindparam("written", type_=Text())

_select = prepare(
    select(flag_change.c.changes)
    .where(*_these, flag_change.c.modseq > bindparam("after"))
    .order_by(flag_change.c.modseq)
)
_first = prepare(
    select(flag_change.c.changes).where(*_these, flag_change.c.modseq > bindparam("after")).limit(_FEW_ROWS + 1)
)
_insert = prepare(insert(flag_change))
_put_aside = prepare(
    insert(flag_change).from_select(
        ["account_id", "mailbox_id", "modseq", "changes"],
        select(
            mailbox.c.account_id,
            mailbox.c.mailbox_id,
            mailbox.c.highest_modseq,
            mailbox.c.flag_changes + bindparam("more", type_=Text()),
        ).where(*_of_mailbox),
    )
)
_clear = prepare(update(mailbox).where(*_of_mailbox).values(flag_changes=""))
_newest = prepare(
    select(flag_change.c.modseq, func.length(flag_change.c.changes))
    .where(*_these)
    .order_by(flag_change.c.modseq.desc())
    .limit(bindparam("most"))
)
_set_horizon = prepare(update(mailbox).where(*_of_mailbox).values(flag_horizon=bindparam("modseq")))
_delete = prepare(delete(flag_change).where(*_these, flag_change.c.modseq <= bindparam("modseq")))
_delete_all = prepare(delete(flag_change).where(*_these))
# A snapshot from before the horizon cannot be brought up to date.
_delete_snapshot = prepare(
    delete(snapshot).where(
        snapshot.c.account_id == bindparam("account"),
        snapshot.c.mailbox_id == bindparam("mailbox"),
        snapshot.c.modseq < bindparam("modseq"),
    )
)

_snapshots = prepare(
    select(mailbox.c.account_id, mailbox.c.mailbox_id, mailbox.c.highest_modseq, snapshot.c.modseq).select_from(
        mailbox.outerjoin(
            snapshot,
            (snapshot.c.account_id == mailbox.c.account_id) & (snapshot.c.mailbox_id == mailbox.c.mailbox_id),
        )
    )
)
_later = prepare(
    select(membership.c.uid, membership.c.modseq)
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        membership.c.modseq > bindparam("after"),
    )
    .order_by(membership.c.modseq)
    .limit(_MIGRATED + 1)
)


class FlagChanges:
    """Of one account."""

    __slots__ = ("_account_id", "_rows")

    def __init__(self, account_id: AccountId) -> None:
        self._account_id = account_id
        self._rows: dict[MailboxId, int] = {}  # written by this process since somebody looked

    def since(self, connection: Connection, mailbox_id: MailboxId, modseq: int, latest: str) -> UidSet:
        """Messages that changed after a modseq, gone ones too; `latest` is what the mailbox's own row says."""
        rows = _select.rows(connection, account=self._account_id, mailbox=mailbox_id, after=modseq)
        sets = {uids for text in (*(row[0] for row in rows), latest) for uids in _read(text, modseq)}
        # Who sets and takes away flags of the same messages all day writes them down each time: they are read once.
        return UidSet.of_ranges(map(_range, {each for uids in sets for each in uids.split(",")}))

    def are_few(self, connection: Connection, mailbox_id: MailboxId, modseq: int, latest: str, most: int) -> bool:
        """Whether `since` would say no more than so many messages; not if they stand in many rows."""
        rows = _first.rows(connection, account=self._account_id, mailbox=mailbox_id, after=modseq)
        texts = (*(row[0] for row in rows), latest)
        if len(rows) > _FEW_ROWS or sum(map(len, texts)) > _FEW_TEXT:
            return False
        ranges = [_range(each) for text in texts for uids in _read(text, modseq) for each in uids.split(",")]
        return sum(last - first + 1 for first, last in ranges) <= most

    def write(self, transaction: Transaction, mailbox_id: MailboxId, modseq: int, entry: str) -> None:
        """A change in a row of its own."""
        scope = {"account_id": self._account_id, "mailbox_id": mailbox_id, "modseq": modseq}
        _insert.run(transaction, **scope, changes=entry)
        self._count(transaction, mailbox_id)

    def put_aside(self, transaction: Transaction, mailbox_id: MailboxId, more: str = "") -> None:
        """Move what stands in the mailbox's own row, and `more`, into one that nobody writes again."""
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        _put_aside.run(transaction, **scope, more=more)
        _clear.run(transaction, **scope)
        self._count(transaction, mailbox_id)

    def _count(self, transaction: Transaction, mailbox_id: MailboxId) -> None:
        count = self._rows.get(mailbox_id, _LOOK_AFTER)
        self._rows[mailbox_id] = 1 if count >= _LOOK_AFTER else count + 1
        if count >= _LOOK_AFTER:
            self.forget_old(transaction, mailbox_id)

    def forget_old(self, transaction: Transaction, mailbox_id: MailboxId, kept: int = KEPT) -> None:
        """Forget those beyond the last `kept` rows, or `KEPT_TEXT`, and move the horizon."""
        scope = {"account": self._account_id, "mailbox": mailbox_id}
        length = 0
        for number, (modseq, more) in enumerate(_newest.rows(transaction, **scope, most=kept + 1)):
            length += more
            if number == kept or length > KEPT_TEXT:
                _set_horizon.run(transaction, **scope, modseq=modseq)
                _delete_snapshot.run(transaction, **scope, modseq=modseq)
                _delete.run(transaction, **scope, modseq=modseq)
                return

    def forget_all(self, transaction: Transaction, mailbox_id: MailboxId) -> None:
        """Of a mailbox that is deleted."""
        _delete_all.run(transaction, account=self._account_id, mailbox=mailbox_id)


def written(uids: Sequence[int], unbroken: bool) -> str:
    """Ascending UIDs as a change of them is written, behind its modseq. `unbroken`: nothing else is between them."""
    if unbroken or len(uids) == 1:
        return f"={uids[0]}:{uids[-1]};" if len(uids) > 1 else f"={uids[0]};"
    return f"={UidSet.of(uids)};"


def migrate(connection: Connection) -> bool:
    """Version 7: what has changed since a mailbox's snapshot is written down, by the index that goes then."""
    for account, mailbox_id, highest, since in _snapshots.rows(connection):
        rows = [] if since is None else _later.rows(connection, account=account, mailbox=mailbox_id, after=since)
        horizon = highest if since is None or len(rows) > _MIGRATED else since
        _set_horizon.run(connection, account=account, mailbox=mailbox_id, modseq=horizon)
        if horizon != since:
            _delete_snapshot.run(connection, account=account, mailbox=mailbox_id, modseq=horizon)
        elif rows:
            changes = "".join(f"{modseq}={uid};" for uid, modseq in rows)
            values = {"account_id": account, "mailbox_id": mailbox_id, "modseq": rows[-1][1], "changes": changes}
            _insert.run(connection, **values)
    connection.driver.execute("DROP INDEX membership_by_modseq")
    return False


def _read(text: str, after: int) -> Iterator[str]:
    """The UIDs of each change after a modseq, as they are written."""
    for entry in text.split(";")[:-1]:
        modseq, _, uids = entry.partition("=")
        if uids and int(modseq) > after:
            yield uids


def _range(written: str) -> tuple[int, int]:
    first, _, last = written.partition(":")
    return int(first), int(last or first)

"""Checks of the packed snapshots: each says what the rows said at its modseq, and later changes of flags are written
down, or a cold view would be wrong."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import bindparam, select

from storage.checks.finding import Finding, Kind, Severity
from storage.database.database import Connection
from storage.database.prepared import prepare
from storage.mail.account import Account
from storage.mail.flag_changes import FlagChanges
from storage.mail.ledger import LIVE
from storage.mail.packing import unpack
from storage.mail.snapshots import ROWS
from storage.schema.account import expunged, mailbox, membership, snapshot
from storage.values import AccountId, MailboxId

_packed = prepare(
    select(snapshot.c.mailbox_id, snapshot.c.modseq, snapshot.c.rows, mailbox.c.flag_changes)
    .join(mailbox, (mailbox.c.account_id == snapshot.c.account_id) & (mailbox.c.mailbox_id == snapshot.c.mailbox_id))
    .where(
        snapshot.c.account_id == bindparam("account_id"),
        mailbox.c.name >= bindparam("live"),
        snapshot.c.modseq >= mailbox.c.expunged_horizon,  # from an earlier one no view is made
        snapshot.c.modseq >= mailbox.c.flag_horizon,
    )
)
_rows = prepare(
    select(membership.c.uid, membership.c.flags, membership.c.modseq).where(
        membership.c.account_id == bindparam("account_id"), membership.c.mailbox_id == bindparam("mailbox_id")
    )
)
_expunged_later = prepare(
    select(expunged.c.uid).where(
        expunged.c.account_id == bindparam("account_id"),
        expunged.c.mailbox_id == bindparam("mailbox_id"),
        expunged.c.modseq > bindparam("modseq"),
    )
)


def check_snapshots(account: Account) -> Iterator[Finding]:
    """All snapshots of an account, each in one state of the database."""
    with account.database.snapshot() as connection:
        pictures = _packed.rows(connection, account_id=account.account_id, live=LIVE)
        findings = [found for row in pictures for found in _check(connection, account.account_id, *row)]
    yield from findings


def _check(
    connection: Connection, account_id: AccountId, mailbox_id: MailboxId, modseq: int, packed: bytes, latest: str
) -> Iterator[Finding]:
    arrays = unpack(packed, ROWS)
    if arrays is None:
        text = f"The snapshot of mailbox {mailbox_id} cannot be unpacked; it will be made anew."
        yield Finding(Kind.SNAPSHOT_WRONG, Severity.NOTE, text, mailbox_id=mailbox_id)
        return
    scope = {"account_id": account_id, "mailbox_id": mailbox_id}
    before = {uid: (flags, changed) for uid, flags, changed in zip(*arrays, strict=True)}
    now = {uid: (flags, changed) for uid, flags, changed in _rows.rows(connection, **scope)}
    gone = {row[0] for row in _expunged_later.rows(connection, **scope, modseq=modseq)}
    changed = FlagChanges(account_id).since(connection, mailbox_id, modseq, latest)
    wrong = [uid for uid, values in now.items() if values[1] <= modseq and before.get(uid) != values]
    wrong += [uid for uid, values in now.items() if values[1] > modseq and uid in before and uid not in changed]
    wrong += [uid for uid in before if uid not in now and uid not in gone]
    if wrong:
        text = (
            f"The snapshot of mailbox {mailbox_id} at modseq {modseq}, with what is written down of later changes,"
            f" differs from the rows in {len(wrong)} messages, the first with UID {min(wrong)}."
        )
        yield Finding(Kind.SNAPSHOT_WRONG, Severity.ERROR, text, mailbox_id=mailbox_id, uid=min(wrong))

"""An account of an earlier version is one of this version once it was opened, with what was in it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from accounts import AccountPlace
from sqlalchemy import MetaData

from storage.clock import FixedClock
from storage.database import leasing
from storage.database.database import Database, Transaction
from storage.database.driver import Driver, connect, database_key
from storage.database.lockfile import LockFile, lock_path
from storage.database.migrations import Schema, migrate, pending
from storage.errors import Unavailable
from storage.mail.messages import NewMessage
from storage.mail.versions import SCHEMA
from storage.schema import account as schema
from storage.values import FLAGGED, SEEN, UidSet

KEY = b"k" * 32
ADDED = {6: {"field_column"}, 7: {"flag_change"}}  # tables, by the version that has them first
UNDONE = {  # what else the version before had, or had not
    7: (
        "ALTER TABLE mailbox DROP COLUMN flag_changes",
        "ALTER TABLE mailbox DROP COLUMN flag_horizon",
        "CREATE INDEX membership_by_modseq ON membership (account_id, mailbox_id, modseq)",
    ),
}


def version_before(version: int) -> Schema:
    metadata = MetaData()
    for table in schema.metadata.sorted_tables:
        if table.name not in set().union(*(names for since, names in ADDED.items() if since >= version)):
            table.to_metadata(metadata)
    undone = [each for since, steps in UNDONE.items() if since >= version for each in steps]
    return Schema("account", version - 1, metadata, [*schema.EXTRA_SQL, *undone])


def test_an_account_of_version_5_gets_what_came_later(tmp_path: Path) -> None:
    path = tmp_path / "account.db"
    with (
        closing(Database.create(path, KEY, version_before(6), FixedClock())) as database,
        database.reading() as connection,
    ):
        before = connection.driver.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    assert pending(path, KEY, SCHEMA)
    with closing(Database.open(path, KEY, SCHEMA, FixedClock())) as database, database.reading() as connection:
        after = connection.driver.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        added = {"field_column", "sqlite_autoindex_field_column_1", "flag_change"}
        assert {name for name, _ in set(after) - set(before)} == added | {"mailbox"}
        assert {name for name, _ in set(before) - set(after)} == {"membership_by_modseq", "mailbox"}
    assert not pending(path, KEY, SCHEMA)


def test_snapshots_of_version_6_are_still_brought_up_to_date(tmp_path: Path) -> None:
    with closing(AccountPlace(tmp_path)) as place:
        account = place.account
        inbox, small = account.mailboxes.find("INBOX").id, account.mailboxes.create("Small").id
        for mailbox_id, count in ((inbox, 600), (small, 3)):
            account.messages.append_many(mailbox_id, [NewMessage(b"Subject: x\r\n\r\n")] * count, many=True)
        account.views.load(inbox)
        place.settle()
        account.messages.store(inbox, UidSet.of(range(7, 600, 50)), "add", FLAGGED)
        account.messages.store(small, UidSet.of([2]), "add", SEEN)
        account.messages.append_many(inbox, [NewMessage(b"Subject: y\r\n\r\n")] * 2)

        def as_it_was(transaction: Transaction) -> None:
            for statement in ("DROP TABLE flag_change", *UNDONE[7], "PRAGMA user_version = 6"):
                transaction.driver.execute(statement)

        account.database.write(as_it_was)
        account.close()
        account = place.open()
        with account.database.reading() as connection:
            [(horizon, modseq)] = connection.driver.execute(
                "SELECT b.flag_horizon, s.modseq FROM mailbox b JOIN snapshot s ON s.mailbox_id = b.mailbox_id"
            ).fetchall()
            assert horizon == modseq
            for mailbox_id in (inbox, small):
                view = account.views.load(mailbox_id)
                rows = connection.driver.execute(
                    "SELECT uid, flags, modseq FROM membership WHERE mailbox_id = ? ORDER BY uid", (mailbox_id,)
                ).fetchall()
                assert list(zip(view.uids, view.flags, view.modseqs, strict=True)) == rows
        account.messages.store(small, UidSet.of([1]), "add", SEEN)
        with account.database.reading() as connection:
            said = connection.driver.execute("SELECT flag_changes FROM mailbox WHERE mailbox_id = ?", (small,))
            assert said.fetchall() == [("4=1;",)]


def test_who_was_not_the_first_to_migrate_shares_the_account_with_who_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has migrated it keeps it open, maybe for days: nobody waits for him to go."""
    monkeypatch.setattr(leasing, "_TURN", 0.0)
    path, old = tmp_path / "account.db", version_before(6)
    Database.create(path, KEY, old, FixedClock()).close()
    first = LockFile(lock_path(path))
    first.share(0)
    looked = 0

    def connected() -> Driver:
        nonlocal looked
        looked += 1
        if looked == 3:
            with closing(connect(path, database_key(KEY, "account"))) as driver:
                migrate(driver, SCHEMA)
        return connect(path, database_key(KEY, "account"))

    driver, lock_file = leasing.open_leased(path, SCHEMA, connected, 30.0)
    assert looked == 3 and not pending(path, KEY, SCHEMA)
    driver.close()
    lock_file.close()
    first.close()


def test_a_migration_that_fails_is_not_tried_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "account.db"
    Database.create(path, KEY, version_before(6), FixedClock()).close()
    tried = 0

    def failing(driver: Driver, schema: Schema) -> None:
        nonlocal tried
        tried += 1
        raise Unavailable(detail="I/O error")

    monkeypatch.setattr(leasing, "migrate", failing)
    with pytest.raises(Unavailable):
        leasing.open_leased(path, SCHEMA, lambda: connect(path, database_key(KEY, "account")), 30.0)
    assert tried == 1

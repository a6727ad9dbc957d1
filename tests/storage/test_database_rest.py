"""Databases that nobody uses close their connections; whoever comes next does not notice."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import AccountPlace
from sqlalchemy import BigInteger, Column, MetaData, Table, bindparam, insert, select, text

from storage import heap
from storage import installation as installations
from storage.clock import FixedClock, SystemClock
from storage.database.database import Database
from storage.database.migrations import Schema
from storage.database.prepared import prepare
from storage.errors import Unavailable
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.mail.messages import NewMessage
from storage.values import AccountId, TenantId, UidSet

metadata = MetaData()
thing = Table("thing", metadata, Column("number", BigInteger, primary_key=True, autoincrement=False))
SCHEMA = Schema("test", 1, metadata)
INSERT = prepare(insert(thing))
NUMBERS = prepare(select(thing.c.number).where(thing.c.number > bindparam("least")).order_by(thing.c.number))
KEY = b"k" * 32


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.create(tmp_path / "test.db", KEY, SCHEMA, SystemClock())
    yield database
    database.close()


def put(database: Database, number: int) -> None:
    database.write(lambda transaction: INSERT.run(transaction, number=number))


def numbers(database: Database) -> list[int]:
    with database.reading() as connection:
        return [row[0] for row in NUMBERS.rows(connection, least=0)]


def open_files(folder: Path) -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
        if folder in path.parents:
            found.append(path.name)
    return sorted(found)


def test_only_the_lease_stays_open_when_nobody_looked_between_two_calls(tmp_path: Path, database: Database) -> None:
    put(database, 1)
    assert numbers(database) == [1]
    assert not database.rest()  # it was used
    assert "test.db" in open_files(tmp_path)
    assert database.rest()
    assert open_files(tmp_path) == ["test.db.lock"]
    assert database.rest()


def test_who_reads_or_writes_later_opens_it_again(tmp_path: Path, database: Database) -> None:
    put(database, 1)
    database.rest()
    assert database.rest()
    assert numbers(database) == [1]
    put(database, 2)
    assert not database.rest()
    assert numbers(database) == [1, 2]


def test_reading_alone_keeps_it_open_and_so_does_writing_alone(database: Database) -> None:
    put(database, 1)
    database.rest()
    numbers(database)
    assert not database.rest()
    put(database, 2)
    assert not database.rest()
    assert database.rest()


def test_a_connection_in_use_is_not_closed_under_the_hands_of_another_thread(database: Database) -> None:
    put(database, 1)
    with database.reading() as connection:
        database.rest()
        other = threading.Thread(target=database.rest)
        other.start()
        other.join()
        assert NUMBERS.rows(connection, least=0) == [(1,)]
    assert database.rest()


def test_a_writer_at_work_keeps_its_connection(database: Database) -> None:
    def write_slowly(transaction: object) -> None:
        for _ in range(3):
            other = threading.Thread(target=database.rest)
            other.start()
            other.join()
        INSERT.run(transaction, number=5)  # type: ignore[arg-type]

    database.write(write_slowly)
    assert numbers(database) == [5]


def test_many_threads_read_and_write_while_it_rests_all_the_time(database: Database) -> None:
    stop = threading.Event()

    def rest() -> None:
        while not stop.is_set():
            database.rest()

    def work(first: int) -> None:
        for number in range(first, first + 30):
            put(database, number)
            assert number in numbers(database)

    resting = threading.Thread(target=rest)
    working = [threading.Thread(target=work, args=(first,)) for first in (100, 200, 300)]
    for thread in (resting, *working):
        thread.start()
    for thread in working:
        thread.join()
    stop.set()
    resting.join()
    assert len(numbers(database)) == 90


def test_a_closed_database_rests_and_stays_closed(database: Database) -> None:
    put(database, 1)
    database.close()
    database.rest()
    assert database.rest()
    with pytest.raises(Unavailable):
        numbers(database)


def test_nothing_is_open_when_it_is_closed_while_it_rests(tmp_path: Path) -> None:
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        database = Database.create(folder / "test.db", KEY, SCHEMA, SystemClock())
        put(database, 1)
        numbers(database)
        database.rest()
        resting = threading.Thread(target=database.rest)
        resting.start()
        database.close()
        assert open_files(folder) == []
        resting.join()


def test_the_number_of_its_state_is_another_after_a_rest(database: Database) -> None:
    numbers(database)
    before = database.data_version()
    assert database.data_version() == before
    database.rest()
    assert database.rest()
    assert database.data_version() != before


def test_a_view_learns_what_others_wrote_while_its_account_rested(place: AccountPlace) -> None:
    account = place.account
    inbox = account.mailboxes.find("INBOX").id
    view = account.views.load(inbox)
    view.refresh()
    account.database.rest()
    assert account.database.rest()
    there = AccountPlace(place.data, new=False)  # as another process would
    there.account.messages.append_many(inbox, [NewMessage(b"Subject: new\r\n\r\n")])
    there.close()
    assert view.refresh()
    assert len(view) == 1
    account.database.rest()
    assert account.database.rest()
    account.messages.expunge(inbox, UidSet(((1, 1),)), only_deleted=False)
    assert view.refresh()
    assert len(view) == 0


def test_an_installation_lets_its_accounts_rest_though_they_are_held(tmp_path: Path) -> None:
    clock = FixedClock()
    keys = LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))
    Installation.create(tmp_path, keys, clock)
    installation = Installation(tmp_path, keys, clock)
    tenant = TenantId(1)
    installation.make_tenant(tenant)
    for number in (1, 2):
        installation.make_account(tenant, AccountId(number))
    with installation.account(tenant, AccountId(1)) as one, installation.account(tenant, AccountId(2)) as two:
        assert installation.rest_accounts() == 0
        assert installation.rest_accounts() == 2
        with two.database.reading() as connection:
            connection.execute(text("SELECT 1"))
        assert installation.rest_accounts() == 1
        assert one.mailboxes.find("INBOX").name == "INBOX"
    installation.close()


def test_memory_of_many_accounts_that_rest_is_given_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installations, "_MANY_RESTED", 2)
    given: list[bool] = []
    give_back = heap.give_back

    def counted() -> None:
        give_back()
        given.append(True)

    monkeypatch.setattr(heap, "give_back", counted)
    clock = FixedClock()
    keys = LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))
    Installation.create(tmp_path, keys, clock)
    installation = Installation(tmp_path, keys, clock)
    tenant = TenantId(1)
    installation.make_tenant(tenant)
    for number in (1, 2):
        installation.make_account(tenant, AccountId(number))
    with installation.account(tenant, AccountId(1)), installation.account(tenant, AccountId(2)):
        installation.rest_accounts()
        assert given == []
        for _ in range(3):
            assert installation.rest_accounts() == 2
            assert given == [True]
    installation.close()

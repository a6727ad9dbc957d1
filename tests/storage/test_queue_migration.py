"""queue.db of version 1 is opened: what waited waits on, also where the migration was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
from queue_place import ACCOUNT, ALICE, ONE, Place
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from storage.database.database import Database, Transaction
from storage.database.driver import connect, database_key
from storage.database.migrations import Schema
from storage.queue import migration
from storage.queue.entries import (
    LOCAL,
    EnvelopeParameters,
    Lane,
    RecipientParameters,
    RecipientState,
    Reply,
    Sealing,
)
from storage.queue.queue import SCHEMA, Queue
from storage.queue.spool import Spool, SpoolFile
from storage.upgrade import outdated, upgrade

OLD = MetaData()
Table("info", OLD, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
_entry = Table(
    "entry",
    OLD,
    Column("queue_id", Text, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("account_id", BigInteger, nullable=True),
    Column("origin", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("reverse_path", LargeBinary, nullable=False),
    Column("parameters", LargeBinary, nullable=False),
    Column("arrived", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("held", Integer, nullable=False),
)
Index("entry_by_tenant", _entry.c.tenant_id)
_recipient = Table(
    "recipient",
    OLD,
    Column("queue_id", Text, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("address", LargeBinary, nullable=False),
    Column("parameters", LargeBinary, nullable=False),
    Column("account_id", BigInteger, nullable=True),
    Column("destination", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", BigInteger, nullable=False),
    Column("reply", LargeBinary, nullable=True),
)
Index("recipient_due", _recipient.c.state, _recipient.c.next_attempt)
Index("recipient_by_destination", _recipient.c.destination, _recipient.c.state)


def written(file: SpoolFile) -> str:
    """The name of a spool file that is durable now."""
    file.make_durable()
    return file.name


def old_queue(place: Place, entries: int) -> list[str]:
    """queue.db as version 1 left it: each entry for bob, who has it already, for carol and for an address elsewhere."""
    place.queue.close()
    for path in place.data.glob("queue.db*"):
        path.unlink()
    key = place.keys.tenant_key(ONE, "test")
    spool = Spool(place.data, place.incarnation.name)
    ids = [f"{number:016d}" for number in range(entries)]

    def fill(transaction: Transaction) -> None:
        driver = transaction.driver
        driver.execute("INSERT INTO info VALUES ('some', 'thing')")
        for queue_id in ids:
            sealing = Sealing(key.secret, queue_id)
            file = written(spool.write(ONE, queue_id, key, b"content " + queue_id.encode(), 7))
            path = sealing.seal(str(ALICE).encode(), "reverse_path")
            old = EnvelopeParameters().encode().replace(b',"authentic":true', b"")
            sealed = sealing.seal(old, "parameters")
            account = ACCOUNT if queue_id != ids[-1] else None
            row = (queue_id, ONE, account, "submission", file, 24, path, sealed, 7, 10**10, 0)
            driver.execute(f"INSERT INTO entry VALUES ({','.join('?' * 11)})", row)
            for position, (address, owner, destination, state, reply) in enumerate(
                (
                    ("bob@one.example", 6, LOCAL, "delivered", b""),
                    ("carol@one.example", 8, LOCAL, "queued", b"The mailbox is full."),
                    ("x@far.example", None, "far.example", "queued", None),
                )
            ):
                values = (
                    queue_id,
                    position,
                    sealing.seal(address.encode(), "address", position),
                    sealing.seal(b'{"notify":[],"orcpt":""}', "parameters", position),
                    owner,
                    destination,
                    state,
                    1 if reply is not None else 0,
                    100 + position,
                    None if reply is None else sealing.seal(reply, "reply", position),
                )
                driver.execute(f"INSERT INTO recipient VALUES ({','.join('?' * 10)})", values)

    schema = Schema("queue", 1, OLD)
    key_ = place.keys.service_key("queue")
    Database.create(place.data / "queue.db", key_, schema, place.clock, fill=fill).close()
    return ids


def definitions(place: Place, path: Path) -> list[tuple[str, str]]:
    driver = connect(path, database_key(place.keys.service_key("queue"), "queue"))
    try:
        found = driver.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    finally:
        driver.close()
    return [(name, "".join(sql.split())) for name, sql in found]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def check(place: Place, queue: Queue, ids: list[str]) -> None:
    assert [summary.queue_id for summary in queue.entries()] == ids
    entry = queue.show(ids[0])
    assert (entry.reverse_path, entry.parameters, entry.held) == (ALICE, EnvelopeParameters(), False)
    assert [recipient.state for recipient in entry.recipients] == [
        RecipientState.DELIVERED,
        RecipientState.QUEUED,
        RecipientState.QUEUED,
    ]
    assert entry.recipients[1].reply == Reply(0, "", "The mailbox is full.")
    assert entry.recipients[2].parameters == RecipientParameters()
    assert queue.content(entry) == b"content " + ids[0].encode()
    lanes = [Lane("far.example", -1, 102), Lane("far.example", ACCOUNT, 102)]
    assert queue.lanes(destination="far.example") == lanes
    assert len(queue.due("far.example", ACCOUNT, 200, 10_000)) == len(ids) - 1
    assert {lane.destination for lane in queue.news(0).lanes} == {LOCAL, "far.example"}
    done = Reply(250, "2.0.0", "")
    assert not queue.settle(entry, {0: (RecipientState.FAILED, done), 1: (RecipientState.DELIVERED, done)})
    assert queue.settle(entry, {2: (RecipientState.RELAYED, done)})
    queue.enqueue([place.entry()])
    assert len(queue.entries()) == len(ids)


def test_what_waited_waits_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "_SLICE", 3)
    fresh = definitions(place, place.data / "queue.db")
    ids = old_queue(place, 8)
    assert [found.name for found in outdated(place.data, place.keys)] == ["queue.db"]
    upgrade(place.data, place.keys, place.clock, done=lambda found: None)
    assert definitions(place, place.data / "queue.db") == fresh
    queue = place.another_queue()
    check(place, queue, ids)
    queue.close()
    place.incarnation.close()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_interrupted(place: Place, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(migration, "_SLICE", 3)
    fresh = definitions(place, place.data / "queue.db")
    ids = old_queue(place, 8)
    [real] = SCHEMA.steps
    left = [step]

    def interrupted(connection: object) -> bool:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real.work(connection)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        broken = Schema("queue", 2, SCHEMA.metadata, (), (type(real)(2, interrupted),))
        Database.open(place.data / "queue.db", place.keys.service_key("queue"), broken, place.clock)
    queue = place.another_queue()
    check(place, queue, ids)
    queue.close()
    assert definitions(place, place.data / "queue.db") == fresh
    place.incarnation.close()


def test_an_empty_one(place: Place) -> None:
    old_queue(place, 0)
    queue = place.another_queue()
    assert queue.entries() == []
    queue.enqueue([place.small()])
    assert len(queue.lanes()) == 1
    queue.close()
    place.incarnation.close()

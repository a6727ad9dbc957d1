"""The audit chain: what is appended verifies, what is changed does not, and details end with their tenant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from storage.audit import SCHEMA, Audit, Entry
from storage.clock import FixedClock
from storage.database.database import Database
from storage.database.migrations import Schema
from storage.errors import Corrupt, Gone, NotFound
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.sealing import derive, seal
from storage.keys.source import LocalKeys
from storage.values import AccountId, TenantId

ACME = TenantId(7)
ANN = AccountId(3)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def keystore(tmp_path: Path, clock: FixedClock) -> KeyStore:
    keystore = KeyStore.create(tmp_path / "keys", Master.generate(), clock)
    keystore.create_tenant(ACME)
    keystore.create_account(ACME, ANN)
    return keystore


@pytest.fixture
def audit(tmp_path: Path, keystore: KeyStore, clock: FixedClock) -> Iterator[Audit]:
    audit = Audit.open(tmp_path, LocalKeys(keystore), clock)
    yield audit
    audit.close()


def change(data: Path, keystore: KeyStore, clock: FixedClock, statement: str, values: Sequence[object] = ()) -> None:
    """What somebody does to the database who has its key."""
    database = Database.open(data / "audit.db", LocalKeys(keystore).service_key("audit"), SCHEMA, clock)
    database.write(lambda transaction: transaction.driver.execute(statement, values))
    database.close()


def test_records_are_numbered_and_read_in_their_order(audit: Audit, clock: FixedClock) -> None:
    audit.append("queue.hold", "ada", ACME, ANN, {"reason": "späm", "id": "q1"})
    clock.advance(60)
    audit.append("transcripts.read", "bob", details={"reason": "complaint"})
    first, second = audit.read()
    assert (first.number, first.action, first.actor, first.tenant_id, first.account_id, first.details) == (
        1,
        "queue.hold",
        "ada",
        ACME,
        3,
        {"reason": "späm", "id": "q1"},
    )
    assert (second.number, second.tenant_id, second.time - first.time) == (2, None, 60)
    assert audit.verify() == audit.head() and audit.head().number == 2


def test_records_are_found(audit: Audit, clock: FixedClock) -> None:
    start = clock.now()
    for action, actor, tenant in (
        ("queue.hold", "ada", ACME),
        ("queue.drop", "bob", ACME),
        ("dkim.rotate", "ada", None),
    ):
        audit.append(action, actor, tenant)
        clock.advance(10)
    assert [record.number for record in audit.read(action="queue")] == [1, 2]
    assert [record.number for record in audit.read(action="queue.drop")] == [2]
    assert [record.number for record in audit.read(actor="ada")] == [1, 3]
    assert [record.number for record in audit.read(tenant_id=ACME)] == [1, 2]
    assert [record.number for record in audit.read(start + 10, start + 20)] == [2]


def test_an_empty_chain_verifies(audit: Audit) -> None:
    assert audit.verify().number == 0 and list(audit.read()) == []


def test_details_end_with_the_tenant_and_the_chain_still_verifies(audit: Audit, keystore: KeyStore) -> None:
    audit.append("queue.hold", "ada", ACME, None, {"id": "q1"})
    audit.append("queue.hold", "ada", None, None, {"id": "q2"})
    keystore.destroy_tenant(ACME)
    assert [record.details for record in audit.read()] == [None, {"id": "q2"}]
    assert audit.verify().number == 2
    with pytest.raises(Gone):
        audit.append("queue.hold", "ada", ACME)


def test_details_of_an_account_end_with_its_key_alone(audit: Audit, keystore: KeyStore) -> None:
    audit.append("account.freeze", "ada", ACME, ANN, {"reason": "a"})
    audit.append("queue.hold", "ada", ACME, None, {"id": "q1"})
    keystore.destroy_account(ACME, ANN)
    assert [record.details for record in audit.read()] == [None, {"id": "q1"}]
    assert audit.verify().number == 2
    with pytest.raises(Gone):
        audit.append("account.freeze", "ada", ACME, ANN)


def test_the_role_is_kept_with_the_details(tmp_path: Path, keystore: KeyStore, clock: FixedClock) -> None:
    role = "support"
    audit = Audit.open(tmp_path, LocalKeys(keystore), clock, role=lambda: role)
    audit.append("account.show", "ada", ACME, ANN, {"a": "b"})
    role = "operator"
    audit.append("account.show", "ada", ACME)
    assert [(record.role, record.details) for record in audit.read()] == [("support", {"a": "b"}), ("operator", {})]
    keystore.destroy_account(ACME, ANN)
    assert audit.find(1).role == "" and audit.find(1).details is None
    audit.close()


def test_records_of_a_program_before_are_opened(
    tmp_path: Path, keystore: KeyStore, clock: FixedClock, audit: Audit
) -> None:
    """They were sealed under the tenant's key, though they are of an account, and end with the tenant."""
    keys = LocalKeys(keystore)
    box = seal(derive(keys.tenant_key(ACME, "audit").secret, "audit"), b'{"reason":"old"}', b"audit 1")
    fields = [1, clock.now(), "account.freeze", "ada", int(ACME), int(ANN), box.hex(), bytes(32).hex()]
    hashed = hashlib.sha256(json.dumps(fields, separators=(",", ":")).encode()).digest()
    row = (1, clock.now(), "account.freeze", "ada", ACME, ANN, box, bytes(32), hashed)
    change(tmp_path, keystore, clock, "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    audit.append("account.freeze", "ada", ACME, ANN, {"reason": "new"})
    assert audit.verify().number == 2
    keystore.destroy_account(ACME, ANN)
    assert [record.details for record in audit.read(account_id=ANN)] == [{"reason": "old"}, None]
    keystore.destroy_tenant(ACME)
    assert [record.details for record in audit.read()] == [None, None] and audit.verify().number == 2


def test_several_records_are_appended_together(audit: Audit) -> None:
    entries = [Entry("log.access", "ada", ACME, ANN if n % 2 else None, {"n": str(n)}) for n in range(5)]
    assert audit.append_all(entries) == [1, 2, 3, 4, 5]
    assert [record.details for record in audit.read(account_id=ANN)] == [{"n": "1"}, {"n": "3"}]
    assert [record.number for record in audit.read(after=3)] == [4, 5]
    with pytest.raises(NotFound):  # one of a tenant that is not there: none of them is kept
        audit.append_all([*entries, Entry("log.access", "ada", TenantId(99))])
    assert audit.verify().number == 5 and audit.append_all([]) == []


def test_whoever_follows_the_chain_has_a_position(audit: Audit) -> None:
    assert audit.positions.of("journal") == 0
    audit.positions.set("journal", 7)
    audit.positions.set("journal", 9)
    assert (audit.positions.of("journal"), audit.positions.of("other")) == (9, 0)


def test_more_records_than_a_page(audit: Audit) -> None:
    with ThreadPoolExecutor(8) as pool:  # many at once: one appends at a time
        numbers = list(pool.map(lambda n: audit.append("queue.hold", "ada", None, None, {"n": str(n)}), range(1100)))
    assert sorted(numbers) == list(range(1, 1101))
    assert audit.verify().number == 1100
    assert {record.details["n"] for record in audit.read() if record.details} == {str(n) for n in range(1100)}


def test_two_processes_append_to_one_chain(tmp_path: Path, keystore: KeyStore, clock: FixedClock, audit: Audit) -> None:
    other = Audit.open(tmp_path, LocalKeys(keystore), clock)
    for writer in (audit, other, audit, other):
        writer.append("queue.hold", "ada")
    other.close()
    assert audit.verify().number == 4


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("UPDATE record SET actor = 'eve' WHERE number = 2", 2),
        ("UPDATE record SET time = time + 1 WHERE number = 3", 3),
        ("UPDATE record SET tenant_id = 8 WHERE number = 1", 1),
        ("UPDATE record SET details = x'00' WHERE number = 4", 4),
        ("UPDATE record SET hash = zeroblob(32) WHERE number = 5", 5),
        ("DELETE FROM record WHERE number = 3", 3),
        ("DELETE FROM record WHERE number = 1", 1),
        ("UPDATE record SET number = number + 10 WHERE number = 5", 5),
    ],
)
def test_what_is_changed_does_not_verify(
    change: str, broken: int, tmp_path: Path, keystore: KeyStore, clock: FixedClock, audit: Audit
) -> None:
    for _ in range(5):
        audit.append("queue.hold", "ada", ACME)
    database = Database.open(tmp_path / "audit.db", LocalKeys(keystore).service_key("audit"), SCHEMA, clock)
    execute: Callable[..., object] = lambda transaction: transaction.driver.execute(change)  # noqa: E731
    database.write(execute)
    database.close()
    with pytest.raises(Corrupt, match=f"record {broken}\\."):
        audit.verify()


def test_what_is_cut_off_at_the_end_is_seen_by_the_head(
    tmp_path: Path, keystore: KeyStore, clock: FixedClock, audit: Audit
) -> None:
    for _ in range(3):
        audit.append("queue.hold", "ada")
    written_down = audit.head()
    database = Database.open(tmp_path / "audit.db", LocalKeys(keystore).service_key("audit"), SCHEMA, clock)
    database.write(lambda transaction: transaction.driver.execute("DELETE FROM record WHERE number = 3"))
    database.close()
    assert audit.verify() != written_down


def test_details_cannot_be_swapped(tmp_path: Path, keystore: KeyStore, clock: FixedClock, audit: Audit) -> None:
    audit.append("queue.hold", "ada", ACME, None, {"id": "q1"})
    audit.append("queue.hold", "ada", ACME, None, {"id": "q2"})
    database = Database.open(tmp_path / "audit.db", LocalKeys(keystore).service_key("audit"), SCHEMA, clock)
    swap = "UPDATE record SET details = (SELECT details FROM record WHERE number = 2) WHERE number = 1"
    database.write(lambda transaction: transaction.driver.execute(swap))
    database.close()
    assert [(record.details, record.unreadable) for record in audit.read()] == [(None, True), ({"id": "q2"}, False)]
    with pytest.raises(Corrupt, match="record 1"):
        audit.verify()


def test_a_chain_of_the_version_before_goes_on(tmp_path: Path, keystore: KeyStore, clock: FixedClock) -> None:
    keys = LocalKeys(keystore)
    old = MetaData()
    for name in ("info", "record"):
        SCHEMA.metadata.tables[name].to_metadata(old)
    Database.create(tmp_path / "audit.db", keys.service_key("audit"), Schema("audit", 1, old), clock).close()
    audit = Audit.open(tmp_path, keys, clock, identity=lambda: "0" * 32)
    audit.append("queue.hold", "ada", ACME)
    assert audit.checkpoint().number == 1 and audit.examine().signed == 1
    audit.close()

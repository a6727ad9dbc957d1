"""The audit chain: what is appended verifies, what is changed does not, and details end with their tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.audit import SCHEMA, Audit
from storage.clock import FixedClock
from storage.database.database import Database
from storage.errors import Corrupt, Gone
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.values import AccountId, TenantId

ACME = TenantId(7)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def keystore(tmp_path: Path, clock: FixedClock) -> KeyStore:
    keystore = KeyStore.create(tmp_path / "keys", Master.generate(), clock)
    keystore.create_tenant(ACME)
    return keystore


@pytest.fixture
def audit(tmp_path: Path, keystore: KeyStore, clock: FixedClock) -> Iterator[Audit]:
    audit = Audit.open(tmp_path, LocalKeys(keystore), clock)
    yield audit
    audit.close()


def test_records_are_numbered_and_read_in_their_order(audit: Audit, clock: FixedClock) -> None:
    audit.append("queue.hold", "ada", ACME, AccountId(3), {"reason": "späm", "id": "q1"})
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
    with pytest.raises(Corrupt):
        list(audit.read())

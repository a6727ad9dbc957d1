"""Signed heads of the audit chain, and anchors kept elsewhere: what they find of who has the database's key."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from storage.audit import SCHEMA, Audit, Checkpoint, read_anchor, write_anchor
from storage.audit.chain import CHECKPOINT_EVERY
from storage.clock import FixedClock
from storage.database.database import Database
from storage.errors import Corrupt, InvalidInput, Unavailable
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.values import AccountId, TenantId

ACME, EVIL = TenantId(7), TenantId(8)
ANN = AccountId(3)
HERE = "0123456789abcdef0123456789abcdef"
DAY = 86_400


@dataclass
class Place:
    data: Path
    clock: FixedClock = field(default_factory=FixedClock)

    def __post_init__(self) -> None:
        master = Master.generate()
        self.keystore_master = master.text()
        self.keystore = KeyStore.create(self.data / "keys", master, self.clock)
        self.keys = LocalKeys(self.keystore)
        for tenant in (ACME, EVIL):
            self.keystore.create_tenant(tenant)
        self.keystore.create_account(ACME, ANN)
        self.audit = Audit.open(self.data, self.keys, self.clock, identity=lambda: HERE)

    def fill(self, count: int, tenant: TenantId | None = ACME) -> None:
        for number in range(count):
            self.audit.append("queue.hold", "ada", tenant, None, {"n": str(number)})

    def change(self, *statements: str) -> None:
        """By somebody who has the database's key, and no other."""
        database = Database.open(self.data / "audit.db", self.keys.service_key("audit"), SCHEMA, self.clock)
        for statement in statements:
            change: Callable[..., object] = lambda t, s=statement: t.driver.execute(s)  # noqa: E731
            database.write(change)
        database.close()

    def rows(self) -> list[tuple[Any, ...]]:
        database = Database.open(self.data / "audit.db", self.keys.service_key("audit"), SCHEMA, self.clock)
        with database.reading() as connection:
            rows = connection.driver.execute("SELECT * FROM record ORDER BY number").fetchall()
        database.close()
        return [tuple(row) for row in rows]

    def forge(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """A consistent chain of these records instead: numbers and hashes anew."""
        database = Database.open(self.data / "audit.db", self.keys.service_key("audit"), SCHEMA, self.clock)

        def work(transaction: Any) -> None:
            transaction.driver.execute("DELETE FROM record")
            previous = bytes(32)
            for number, row in enumerate(rows, 1):
                fields = [number, *row[1:6], row[6].hex(), previous.hex()]
                hashed = hashlib.sha256(json.dumps(fields, separators=(",", ":")).encode()).digest()
                values = (number, *row[1:7], previous, hashed)
                transaction.driver.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
                previous = hashed

        database.write(work)
        database.close()

    def anchor(self) -> Checkpoint:
        """By way of its file."""
        public = self.keys.verifying_key("audit")
        return read_anchor(write_anchor(self.audit.checkpoint(), HERE, public).encode(), HERE, public)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.audit.close()


def test_the_head_is_signed_once(place: Place) -> None:
    place.fill(3)
    first = place.audit.checkpoint()
    assert (first.number, first.hash) == (3, place.audit.head().hash) and place.audit.checkpoint() == first
    place.fill(1)
    place.clock.advance(60)
    second = place.audit.checkpoint()
    assert (second.number, second.time - first.time) == (4, 60)
    assert place.audit.checkpoints() == [first, second]
    found = place.audit.examine()
    assert (found.head.number, found.first, found.checkpoints, found.signed) == (4, 1, 2, 4)


def test_the_head_is_signed_by_itself(place: Place) -> None:
    place.fill(CHECKPOINT_EVERY - 1, None)
    assert place.audit.checkpoints() == []
    place.fill(1, None)
    assert [each.number for each in place.audit.checkpoints()] == [CHECKPOINT_EVERY]


@pytest.mark.parametrize("change", ["details = NULL", "details = 7", "actor = x'ff'", "hash = NULL", "time = 'x'"])
def test_who_makes_the_table_anew_without_its_rules_is_found(place: Place, change: str) -> None:
    place.fill(3)
    place.change(
        "CREATE TABLE other AS SELECT * FROM record",
        "DROP TABLE record",
        "ALTER TABLE other RENAME TO record",
        f"UPDATE record SET {change} WHERE number = 2",
    )
    with pytest.raises(Corrupt, match="broken at record 2"):
        place.audit.verify()


def test_without_an_identity_nothing_is_signed(place: Place) -> None:
    plain = Audit.open(place.data, place.keys, place.clock)
    plain.append("queue.hold", "ada")
    with pytest.raises(Unavailable):
        plain.checkpoint()
    assert plain.examine().checkpoints == 0
    plain.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE checkpoint SET signature = zeroblob(64)", "checkpoint at record 5 was not signed"),
        ("UPDATE checkpoint SET hash = zeroblob(32)", "checkpoint at record 5 was not signed"),
        ("UPDATE checkpoint SET number = 4", "checkpoint at record 4 was not signed"),
        ("UPDATE checkpoint SET time = time + 1", "checkpoint at record 5 was not signed"),
        ("INSERT INTO origin VALUES (2, 0, zeroblob(32), 0, zeroblob(64))", "begin of the chain at record 2 was not"),
        ("DELETE FROM record WHERE number > 3", "cut off: record 4 is missing, and a signed checkpoint"),
        ("DELETE FROM record", "cut off: record 1 is missing"),
    ],
)
def test_checkpoints_find_what_is_changed(place: Place, statement: str, said: str) -> None:
    place.fill(5)
    place.audit.checkpoint()
    place.fill(1)
    place.change(statement)
    with pytest.raises(Corrupt, match=said):
        place.audit.verify()


WITHOUT_CHECKPOINTS = "DELETE FROM checkpoint"


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["UPDATE record SET details = zeroblob(length(details)) WHERE number = 2"], r"broken at record 2\."),
        (["UPDATE record SET details = 'a text' WHERE number = 3"], r"broken at record 3\."),
        (["UPDATE record SET actor = x'616461' WHERE number = 1"], r"broken at record 1\."),
        (["UPDATE record SET actor = 'eve' WHERE number = 4"], r"broken at record 4\."),
        (["DELETE FROM record WHERE number = 6"], "cut off: record 6 is missing, and an anchor says that there were 6"),
        (["DELETE FROM record WHERE number = 3"], r"broken at record 3\."),
        (["DELETE FROM record WHERE number > 2"], "cut off: record 3 is missing"),
        (["DELETE FROM record"], "cut off: record 1 is missing"),
        (
            [
                "UPDATE record SET number = -1 WHERE number = 2",
                "UPDATE record SET number = 2 WHERE number = 3",
                "UPDATE record SET number = 3 WHERE number = -1",
            ],
            r"broken at record 2\.",
        ),
    ],
)
def test_an_anchor_finds_what_is_changed(place: Place, statements: list[str], said: str) -> None:
    place.fill(6)
    anchor = place.anchor()
    assert place.audit.examine([anchor]).head.number == 6
    place.change(WITHOUT_CHECKPOINTS, *statements)
    with pytest.raises(Corrupt, match=said):
        place.audit.verify([anchor])


def test_an_anchor_finds_a_chain_that_was_replaced(place: Place) -> None:
    place.fill(2)
    early = place.anchor()
    place.fill(3)
    late = place.anchor()
    honest = place.rows()
    place.change(WITHOUT_CHECKPOINTS)
    place.forge([(*row[:3], "eve", *row[4:]) for row in honest])
    assert place.audit.verify().number == 5  # it is consistent: without an anchor nobody can tell
    with pytest.raises(Corrupt, match="broken at record 5: it is not the one that was anchored; it, or one before"):
        place.audit.verify([late])
    with pytest.raises(Corrupt, match="broken at record 2: it is not the one"):
        place.audit.verify([late, early])
    place.forge([*honest[:2], *((*row[:3], "eve", *row[4:]) for row in honest[2:])])
    with pytest.raises(Corrupt, match=r"broken at record 5: .* the last that fits before it is record 2"):
        place.audit.verify([early, late])
    place.forge([honest[0], *honest[2:], honest[1]])  # in another order
    with pytest.raises(Corrupt, match="broken at record 2: it is not the one"):
        place.audit.verify([early, late])
    place.forge(honest[:4])  # one less, consistently
    with pytest.raises(Corrupt, match="cut off: record 5 is missing"):
        place.audit.verify([early, late])
    place.forge(honest)
    assert place.audit.verify([early, late]).number == 5


def test_a_replaced_chain_cannot_be_signed_without_the_key(place: Place) -> None:
    place.fill(4)
    place.audit.checkpoint()
    place.forge([(*row[:3], "eve", *row[4:]) for row in place.rows()])
    with pytest.raises(Corrupt, match="broken at record 4: a signed checkpoint says another hash"):
        place.audit.verify()


def test_an_anchor_of_an_empty_chain(place: Place) -> None:
    empty = place.anchor()
    assert empty.number == 0 and place.audit.checkpoints() == []
    place.fill(1)
    assert place.audit.verify([empty]).number == 1


def test_anchors_that_are_none(place: Place, tmp_path: Path) -> None:
    place.fill(2)
    public = place.keys.verifying_key("audit")
    good = json.loads(write_anchor(place.audit.checkpoint(), HERE, public))

    def read(**changed: object) -> Checkpoint:
        return read_anchor(json.dumps({**good, **changed}).encode(), HERE, public)

    assert read().number == 2
    for changed, said in (
        ({"installation": "f" * 32}, "another installation"),
        ({"number": 1}, "not genuine"),
        ({"hash": "00" * 32}, "not genuine"),
        ({"hash": "0"}, "damaged"),
        ({"hash": "00"}, "damaged"),
        ({"time": "now"}, "damaged"),
        ({"number": True}, "damaged"),
        ({"signature": good["signature"][:-2]}, "not genuine"),
        ({"format": "something else"}, "no anchor"),
    ):
        with pytest.raises(InvalidInput, match=said):
            read(**changed)
    for text in (b"", b"[]", b"\xff", b"[" * 5000, b"x" * 20_000):
        with pytest.raises(InvalidInput, match="no anchor"):
            read_anchor(text, HERE, public)
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    with pytest.raises(InvalidInput, match="not genuine"):
        read_anchor(json.dumps(good).encode(), HERE, other.keys.verifying_key("audit"))
    other.audit.close()


class TestTheBeginning:
    """What had its time goes; the chain still verifies, and says where it begins."""

    def test_it_is_cut(self, place: Place) -> None:
        place.fill(3)
        old = place.anchor()
        place.clock.advance(10 * DAY)
        place.fill(2)
        assert place.audit.cut(place.clock.now() - 5 * DAY) == 3
        assert [(record.number, record.action) for record in place.audit.read()] == [
            (4, "queue.hold"),
            (5, "queue.hold"),
            (6, "audit.cut"),
        ]
        origin = place.audit.origin()
        assert origin is not None and (origin.number, origin.hash) == (3, old.hash)
        assert place.audit.find(6).details == {
            "through": "3",
            "hash": old.hash.hex(),
            "before": str(place.clock.now() - 5 * DAY),
        }
        found = place.audit.examine([old])
        assert (found.first, found.head.number) == (4, 6)
        assert place.audit.cut(place.clock.now() - 5 * DAY) == 0  # again
        assert place.audit.head().number == 6

    def test_all_of_it_and_again(self, place: Place) -> None:
        place.fill(3)
        place.clock.advance(DAY)
        assert place.audit.cut(place.clock.now()) == 3
        place.clock.advance(DAY)
        assert place.audit.cut(place.clock.now()) == 1
        assert [record.action for record in place.audit.read()] == ["audit.cut"]
        assert (place.audit.examine().first, place.audit.verify().number) == (5, 5)

    def test_what_a_hold_covers_stays_and_all_behind_it(self, place: Place) -> None:
        place.fill(2, ACME)
        place.fill(1, EVIL)
        place.fill(1, ACME)
        place.clock.advance(DAY)
        now = place.clock.now()
        assert place.audit.oldest([EVIL]) == now - DAY
        assert place.audit.cut(now, [EVIL]) == 2
        assert place.audit.cut(now, [EVIL]) == 0
        assert (place.audit.oldest([EVIL]), place.audit.oldest()) == (None, now - DAY)
        assert place.audit.cut(now) == 2 and place.audit.verify().number == 6

    def test_a_broken_chain_is_not_cut(self, place: Place) -> None:
        place.fill(3)
        place.clock.advance(DAY)
        place.change("UPDATE record SET actor = 'eve' WHERE number = 2")
        with pytest.raises(Corrupt, match="record 2"):
            place.audit.cut(place.clock.now())
        assert len(place.rows()) == 3

    def test_who_cannot_sign_cannot_cut(self, place: Place) -> None:
        place.fill(4)
        hashed = place.rows()[1][8].hex()
        place.change(
            "DELETE FROM record WHERE number <= 2", f"INSERT INTO origin VALUES (2, 0, x'{hashed}', 0, zeroblob(64))"
        )
        with pytest.raises(Corrupt, match="begin of the chain at record 2 was not signed"):
            place.audit.verify()

    def test_an_anchor_from_before_that_nothing_confirms(self, place: Place) -> None:
        place.fill(3)
        anchor = place.anchor()
        place.fill(1)
        place.clock.advance(DAY)
        place.audit.cut(place.clock.now())
        assert place.audit.verify([anchor]).number == 5
        place.change(WITHOUT_CHECKPOINTS)
        with pytest.raises(Corrupt, match="anchor of record 3 does not fit"):
            place.audit.verify([anchor])
        with pytest.raises(Corrupt, match="anchor of record 4 does not fit"):
            place.audit.verify([replace(anchor, number=4)])


APPENDER = """
import sys
from pathlib import Path
from storage.audit import Audit
from storage.clock import SystemClock
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.values import AccountId, TenantId

data, name = Path(sys.argv[1]), sys.argv[2]
clock = SystemClock()
keys = LocalKeys(KeyStore(data / "keys", Master.parse(sys.stdin.readline().strip()), clock))
audit = Audit.open(data, keys, clock, identity=lambda: "0123456789abcdef0123456789abcdef")
for number in range(150):
    audit.append("queue.hold", name, TenantId(7), AccountId(3) if number % 2 else None, {"n": str(number)})
audit.close()
"""


def test_four_processes_append_to_one_chain(place: Place) -> None:
    master = place.keystore_master
    running = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(place.data), name], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        for name in ("ada", "bob", "cid", "dan")
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write(master.encode() + b"\n")
        process.stdin.close()
    assert [process.wait(60) for process in running] == [0] * 4
    anchor = place.anchor()
    found = place.audit.examine([anchor])
    assert found.head.number == 600
    # What is signed is the head: another process may have appended since the record that was due.
    signed = [each.number for each in place.audit.checkpoints()]
    for due in range(CHECKPOINT_EVERY, 600, CHECKPOINT_EVERY):
        assert any(due <= number < due + CHECKPOINT_EVERY for number in signed), due
    seen: dict[str, list[str]] = {}
    for record in place.audit.read():
        assert record.details is not None
        seen.setdefault(record.actor, []).append(record.details["n"])
    assert seen == {name: [str(n) for n in range(150)] for name in ("ada", "bob", "cid", "dan")}

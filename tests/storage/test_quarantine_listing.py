"""Lists and searches of the quarantine: what is found, in which order, and by which index."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from quarantine_place import ALICE, BOB, MALLORY, PREFIX, TWO, Place, forwarded, mail, to_mailbox

from storage.database.prepared import Prepared
from storage.errors import InvalidInput, NotFound
from storage.quarantine import listing
from storage.quarantine.values import Counts, HeldState, Query, ReleasedBy, id_at
from storage.values import AccountId, EmailAddress


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def ids(place: Place, query: Query = Query(), **page: object) -> list[str]:  # noqa: B008 - a frozen value
    return [message.quarantine_id for message in place.rows().find(query, **page)]  # type: ignore[arg-type]


def test_the_newest_first_in_pages(place: Place) -> None:
    held = []
    for number in range(5):
        place.clock.advance(1)
        held.append(place.held(str(number)))
    held.reverse()
    assert ids(place) == held
    assert ids(place, limit=2) == held[:2]
    assert ids(place, before=held[1], limit=2) == held[2:4]
    assert ids(place, before=held[-1]) == []
    assert place.rows(TWO).find(Query()) == []


def test_each_condition(place: Place) -> None:
    begin = place.clock.now()
    first = place.held("Überraschung", to_mailbox())
    place.clock.advance(100)
    second = place.held("two", to_mailbox(BOB), forwarded("away@one.test"), reverse_path=None)
    place.clock.advance(100)
    third = place.held("three", to_mailbox(), to_mailbox(BOB, "list@one.test"))
    place.rows().report(third, [1])
    place.rows().delete(third, [0])
    queries: list[tuple[Query, list[str]]] = [
        (Query(), [third, second, first]),
        (Query(account_id=ALICE), [third, first]),
        (Query(account_id=BOB), [third, second]),
        (Query(account_id=AccountId(99)), []),
        (Query(recipient="ALICE@one.test"), [third, first]),
        (Query(recipient="list@one.test"), [third]),
        (Query(recipient="alice@two.test"), []),
        (Query(recipient="@one.test"), [third, second, first]),
        (Query(recipient="@ONE.test", account_id=BOB), [third, second]),
        (Query(recipient="list@one.test", account_id=ALICE), []),
        (Query(sender="stranger@FAR"), [third, second, first]),
        (Query(sender="<>"), [second]),
        (Query(sender="nobody"), []),
        (Query(subject="überraSCHUNG"), [first]),
        (Query(subject="subject t"), [third, second]),
        (Query(text="away@"), [second]),
        (Query(text="TWO"), [second]),
        (Query(text="a stranger"), [third, second, first]),
        (Query(text="a stranger", envelope_only=True), []),
        (Query(sender="a stranger", envelope_only=True), []),
        (Query(text="subject t", envelope_only=True), []),
        (Query(subject="subject t", envelope_only=True), []),
        (Query(text="away@", envelope_only=True), [second]),
        (Query(sender="stranger@far", envelope_only=True), [third, first]),
        (Query(reason="spam"), [third, second, first]),
        (Query(reason="malware"), []),
        (Query(state=HeldState.HELD), [third, second, first]),
        (Query(state=HeldState.DELETED), [third]),
        (Query(state=HeldState.DELETED, account_id=BOB), []),
        (Query(state=HeldState.RELEASING), []),
        (Query(reported=True), [third]),
        (Query(reported=True, account_id=ALICE), []),
        (Query(reported=False, state=HeldState.HELD), [second, first]),
        (Query(since=begin + 100), [third, second]),
        (Query(until=begin + 100), [first]),
        (Query(since=begin + 1, until=begin + 101), [second]),
        (Query(since=begin + 500), []),
    ]
    for query, expected in queries:
        assert ids(place, query) == expected, query
    assert ids(place, Query(until=begin + 150), before=second) == [first]
    with pytest.raises(InvalidInput):
        ids(place, Query(recipient="nobody"))


def test_an_account_sees_no_other_recipients(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), to_mailbox(BOB), forwarded())
    [message] = place.rows().find(Query(account_id=BOB))
    assert [str(each.address) for each in message.recipients] == ["bob@one.test"]
    assert place.rows().show(quarantine_id, BOB) == message
    assert place.rows().find(Query(account_id=BOB, text="alice")) == []
    with pytest.raises(NotFound):
        place.rows().show(quarantine_id, MALLORY)


def test_an_account_that_has_a_message_several_times_finds_it_once(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), to_mailbox(ALICE, "also@one.test"))
    assert ids(place, Query(account_id=ALICE)) == [quarantine_id]


def test_counts(place: Place) -> None:
    assert place.rows().counts() == Counts()
    oldest = place.clock.now()
    place.held("one")
    place.clock.advance(5)
    place.held("two", to_mailbox(BOB))
    octets = sum(len(PREFIX) + len(mail(token)) for token in ("one", "two"))
    assert place.rows().counts() == Counts(2, octets, oldest, 0, {"spam": 2})


def statements() -> Iterator[tuple[str, Prepared]]:
    for name in ("rows", "listing", "removal"):
        module = importlib.import_module(f"storage.quarantine.{name}")
        for key, value in vars(module).items():
            if isinstance(value, Prepared):
                yield f"{name}.{key}", value


# For a command that an operator gives, or once an hour: an index is read from end to end, no row of a message.
WHOLE = {"listing._COUNTS", "rows._TOTAL", "rows._FILES"}
SORTED = {"listing._MESSAGES", "listing._RECIPIENTS"}  # one page


@pytest.mark.parametrize(("name", "statement"), list(statements()))
def test_no_statement_reads_a_whole_table_or_sorts(place: Place, name: str, statement: Prepared) -> None:
    nothing = (None,) * statement.sql.count("?")
    with place.rows()._database.reading() as connection:
        plan = [row[3] for row in connection.driver.execute(f"EXPLAIN QUERY PLAN {statement.sql}", nothing)]
    if name in WHOLE:
        assert all("COVERING INDEX" in step for step in plan), plan
        return
    if name != "listing._OLDEST":  # the first row of an index
        assert not [step for step in plan if step.startswith("SCAN quarantine")], plan
    if name not in SORTED:
        assert not [step for step in plan if "TEMP B-TREE" in step], plan


def test_pages_of_ten_thousand_go_by_their_indexes(place: Place) -> None:
    """The rows are there, so that what SQLite plans is for a large table."""
    place.held("model")
    database = place.rows()._database

    def fill(transaction: object) -> None:
        driver = transaction.driver  # type: ignore[attr-defined]
        columns = [row[1] for row in driver.execute("PRAGMA table_info(quarantine)")]
        model = dict(zip(columns, driver.execute("SELECT * FROM quarantine").fetchone(), strict=True))
        other = [row[1] for row in driver.execute("PRAGMA table_info(quarantine_recipient)")]
        whom = dict(zip(other, driver.execute("SELECT * FROM quarantine_recipient").fetchone(), strict=True))
        start = place.clock.now() - 20_000
        for number in range(10_000):
            id_ = id_at(start + number)
            row = {**model, "quarantine_id": id_, "fingerprint": id_.encode(), "file": id_, "subject": f"S {number}"}
            driver.execute(f"INSERT INTO quarantine VALUES ({','.join('?' * len(row))})", tuple(row.values()))
            row = {**whom, "quarantine_id": id_, "account_id": ALICE if number % 10 == 0 else BOB}
            driver.execute(f"INSERT INTO quarantine_recipient VALUES ({','.join('?' * len(row))})", tuple(row.values()))
        driver.execute("ANALYZE")

    database.write(fill)
    expected = {
        listing._ALL: "SEARCH quarantine USING COVERING INDEX sqlite_autoindex_quarantine",
        listing._OF_ACCOUNT: "SEARCH quarantine_recipient USING COVERING INDEX quarantine_by_account",
        listing._OF_ADDRESS: "SEARCH quarantine_recipient USING COVERING INDEX quarantine_by_address",
        listing._IN_STATE: "SEARCH quarantine_recipient USING COVERING INDEX quarantine_by_state",
    }
    with database.reading() as connection:
        for statement, step in expected.items():
            nothing = (None,) * statement.sql.count("?")
            plan = [row[3] for row in connection.driver.execute(f"EXPLAIN QUERY PLAN {statement.sql}", nothing)]
            assert len(plan) == 1 and plan[0].startswith(step), plan
    newest = ids(place, Query(account_id=ALICE), limit=3)
    assert newest[1:] == [id_at(place.clock.now() - 20_000 + number) for number in (9990, 9980)]
    assert len(ids(place, Query(account_id=ALICE), limit=5000)) == 1001
    assert ids(place, Query(subject="s 4321")) == [id_at(place.clock.now() - 20_000 + 4321)]
    assert place.rows().counts().messages == 10_001
    place.rows().begin_release(newest[1], [0], release_id="x", by=ReleasedBy.RECIPIENT, incarnation="dead")
    assert len(place.rows().interrupted(lambda _: False)) == 1
    assert place.rows().show(newest[1]).recipients[0].address == EmailAddress.parse("alice@one.test")

"""What the runner asks: which lanes there are, what is due in them, what is new, what has expired; and by which way.

How the statements find their rows is proven by SQLite's own plans, not by timing.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from queue_place import ACCOUNT, LATER, OK, ONE, TWO, Place

import storage.queue
from storage.changes import QueueChanged, Subscriber
from storage.database.prepared import Prepared
from storage.installation import Installation
from storage.queue.entries import LOCAL, Lane, NewRecipient, Origin, RecipientState
from storage.values import AccountId, Domain, EmailAddress


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def test_lanes_are_what_a_sender_has_for_a_destination(place: Place) -> None:
    now = place.clock.now()
    place.queue.enqueue([place.entry()])  # alice's, to a mailbox here and to bücher.example
    place.queue.enqueue([place.small("a@far.example", "b@far.example", "c@near.example", account_id=AccountId(9))])
    place.queue.enqueue([place.small("a@far.example", account_id=None, origin=Origin.MX)])
    place.queue.enqueue([place.small("a@far.example", account_id=None, origin=Origin.MX, tenant_id=TWO)])
    assert place.queue.lanes() == [
        Lane("far.example", -2, now),
        Lane("far.example", -1, now),
        Lane("far.example", 9, now),
        Lane(LOCAL, 5, now + 30),
        Lane("near.example", 9, now),
        Lane("xn--bcher-kva.example", 5, now),
    ]
    assert [lane.destination for lane in place.queue.lanes(now)].count(LOCAL) == 0
    assert place.queue.lanes(destination="near.example") == [Lane("near.example", 9, now)]
    assert place.queue.lanes(destination="nowhere.example") == []


def test_mail_for_a_tenants_own_server_has_lanes_of_its_own(place: Place) -> None:
    routed = NewRecipient(EmailAddress.parse("x@two.example"), routed=Domain("two.example"))
    place.queue.enqueue([place.small(recipients=(routed,), account_id=None, origin=Origin.MX, tenant_id=TWO)])
    assert place.queue.lanes() == [Lane("route:two.example", -2, place.clock.now())]


def test_a_lane_ends_with_its_last_recipient(place: Place) -> None:
    entry = place.enqueued(place.small("a@far.example", "b@far.example"))
    assert place.queue.lane("far.example", ACCOUNT) == place.clock.now()
    place.queue.settle(entry, {0: (RecipientState.RELAYED, OK)})
    place.queue.postpone(entry, {1: (place.clock.now() + 60, LATER)})
    assert place.queue.lane("far.example", ACCOUNT) == place.clock.now() + 60
    place.queue.settle(entry, {1: (RecipientState.RELAYED, OK)})
    assert place.queue.lane("far.example", ACCOUNT) is None
    assert place.queue.lanes() == []


def test_what_is_due_the_longest_comes_first(place: Place) -> None:
    ids = []
    for _ in range(6):
        ids.append(place.enqueued(place.small()).queue_id)
        place.clock.advance(10)
    place.queue.postpone(place.queue.show(ids[0]), {0: (place.clock.now() + 5, LATER)})
    place.queue.postpone(place.queue.show(ids[1]), {0: (place.clock.now() - 1, LATER)})
    assert place.queue.due("far.example", ACCOUNT, place.clock.now(), 10) == [*ids[2:], ids[1]]
    assert place.queue.due("far.example", ACCOUNT, place.clock.now(), 2) == ids[2:4]
    assert place.queue.due("far.example", ACCOUNT, place.clock.now() - 40, 10) == [ids[2]]
    assert place.queue.due("far.example", AccountId(8), place.clock.now(), 10) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_an_entry_with_very_many_recipients_is_due_once(place: Place, limit: int) -> None:
    crowd = place.small(*(f"user{number}@far.example" for number in range(500)))
    place.queue.enqueue([crowd])
    place.clock.advance(1)
    single = place.enqueued(place.small())
    due = place.queue.due("far.example", ACCOUNT, place.clock.now(), limit)
    assert due == [crowd.queue_id, single.queue_id][:limit]
    entry = place.queue.show(crowd.queue_id)
    place.queue.postpone(
        entry, {position: (place.clock.now() + 1 + position % 7, LATER) for position in range(len(entry.recipients))}
    )
    place.clock.advance(10)
    due = place.queue.due("far.example", ACCOUNT, place.clock.now(), limit)
    assert due == [single.queue_id, crowd.queue_id][:limit]


def test_only_recipients_of_one_destination(place: Place) -> None:
    entry = place.enqueued(place.small("a@far.example", "b@near.example", "c@far.example"))
    assert [r.position for r in place.queue.show(entry.queue_id, destination="far.example").recipients] == [0, 2]
    assert place.queue.show(entry.queue_id, destination="elsewhere.example").recipients == ()


def test_news(place: Place) -> None:
    start = place.queue.news(0)
    assert (start.lanes, start.upto) == ((), 0)
    place.queue.enqueue([place.small("a@far.example", "b@near.example"), place.small("a@far.example")])
    first = place.queue.news(start.upto)
    assert {lane.destination for lane in first.lanes} == {"far.example", "near.example"}
    assert place.queue.news(first.upto).lanes == ()
    entry = place.enqueued(place.small("c@third.example"))
    second = place.queue.news(first.upto)
    assert second.lanes == (Lane("third.example", ACCOUNT, place.clock.now()),)
    place.queue.settle(entry, {0: (RecipientState.RELAYED, OK)})
    assert place.queue.news(first.upto).lanes == ()  # nothing is left to be told
    assert place.queue.news(0).upto == second.upto
    place.enqueued(place.small("d@fourth.example"))  # takes the place of what is gone, not its number
    assert [lane.destination for lane in place.queue.news(second.upto).lanes] == ["fourth.example"]


def test_very_much_news_is_all_lanes(place: Place) -> None:
    since = place.queue.news(0).upto
    place.queue.enqueue([place.small("a@old.example")])
    old = place.queue.news(since).upto
    place.queue.enqueue([place.small(*(f"user{number}@d{number % 3}.example" for number in range(1200)))])
    lanes = place.queue.news(old).lanes
    assert [lane.destination for lane in lanes] == ["d0.example", "d1.example", "d2.example", "old.example"]


def test_whoever_accepts_tells_that_there_is_news(place: Place) -> None:
    place.queue.enqueue([place.entry()])
    assert len(place.announced) == 1
    entry = place.queue.show(place.queue.entries()[0].queue_id)
    place.queue.postpone(entry, {1: (place.clock.now() + 60, LATER)})
    place.queue.settle(entry, {0: (RecipientState.DELIVERED, OK)})
    assert len(place.announced) == 1  # who settles knows what he did


def test_other_processes_hear_of_it(place: Place) -> None:
    """As the queue's runner does: subscribe, then look, then listen."""
    place.close()
    Installation.create(place.data, place.keys, place.clock)
    accepting, working = (Installation(place.data, place.keys, place.clock) for _ in range(2))
    subscriber = Subscriber(place.data, place.clock, mailboxes=False, queue=True)
    try:
        since = working.queue.news(0).upto
        accepting.queue.enqueue([place.small()])
        assert QueueChanged() in subscriber.drain()
        assert [lane.destination for lane in working.queue.news(since).lanes] == ["far.example"]
    finally:
        accepting.close()
        working.close()
        subscriber.close()


def test_what_has_expired(place: Place) -> None:
    now = place.clock.now()
    late, later, other = (place.enqueued(place.small(expires=now + after)) for after in (20, 30, 10))
    assert place.queue.expired(now + 9, 10) == []
    assert place.queue.expired(now + 30, 10) == [other.queue_id, late.queue_id, later.queue_id]
    assert place.queue.expired(now + 30, 1) == [other.queue_id]
    place.queue.hold(other.queue_id)
    assert place.queue.expired(now + 30, 10) == [late.queue_id, later.queue_id]
    place.queue.settle(late, {0: (RecipientState.FAILED, LATER)})
    assert place.queue.expired(now + 30, 10) == [later.queue_id]


def test_listing_by_destination(place: Place) -> None:
    rng = random.Random(7)
    expected: list[tuple[int, int, str]] = []
    for number in range(40):
        to = [f"u{n}@{'far' if rng.random() < 0.6 else 'near'}.example" for n in range(rng.randint(1, 4))]
        entry = place.enqueued(place.small(*to, account_id=AccountId(1 + number % 3)))
        times = {r.position: (place.clock.now() + rng.randint(0, 50), LATER) for r in entry.recipients}
        place.queue.postpone(entry, times)
        far = [times[r.position][0] for r in entry.recipients if r.destination == "far.example"]
        if far:
            expected.append((1 + number % 3, min(far), entry.queue_id))
    ids = [queue_id for _, _, queue_id in sorted(expected)]
    assert [entry.queue_id for entry in place.queue.entries_for("far.example")] == ids
    pages: list[str] = []
    while page := place.queue.entries_for("far.example", after=pages[-1] if pages else "", limit=7):
        pages += [entry.queue_id for entry in page]
    assert pages == ids
    assert place.queue.entries_for("far.example", held=True) == []
    place.queue.hold(ids[3])
    assert [entry.queue_id for entry in place.queue.entries_for("far.example", held=True)] == [ids[3]]
    assert [entry.queue_id for entry in place.queue.entries_for("far.example")] == ids[:3] + ids[4:]


def test_listing_by_tenant_and_hold(place: Place) -> None:
    ids = []
    for number in range(12):
        ids.append(place.enqueued(place.small(tenant_id=(ONE, TWO)[number % 2])).queue_id)
        place.clock.advance(0.01)
    for queue_id in ids[::3]:
        place.queue.hold(queue_id)

    def listed(**filters: object) -> list[str]:
        found: list[str] = []
        while page := place.queue.entries(after=found[-1] if found else "", limit=2, **filters):  # type: ignore[arg-type]
            found += [entry.queue_id for entry in page]
        return found

    assert listed() == ids
    assert listed(held=True) == ids[::3]
    assert listed(tenant=TWO) == ids[1::2]
    assert listed(tenant=ONE, held=True) == ids[::6]
    assert listed(tenant=ONE, held=False) == [queue_id for queue_id in ids[::2] if queue_id not in ids[::3]]
    totals = place.queue.totals()
    assert (totals.queued, totals.held, totals.failing) == (8, 4, 0)
    assert totals.oldest == place.queue.show(ids[0]).arrived


def statements() -> list[tuple[str, Prepared]]:
    """All that the queue's modules prepare."""
    return [
        (f"{module.name}.{name}", value)
        for module in pkgutil.iter_modules(storage.queue.__path__)
        for name, value in vars(importlib.import_module(f"storage.queue.{module.name}")).items()
        if isinstance(value, Prepared)
    ]


# They look at all rows, and say so: counts for the metrics, forgetting every destination's failures, and once an hour
# what is known of other domains. The oldest entry is the first that there is.
WHOLE = {"listing._COUNTS", "listing._FAILING", "listing._OLDEST", "destinations._FORGET_ALL", "sts._FORGET"}


# Recipients are found by their entry, by their lane, or by their news: "all that are queued" is never a way to them.
NARROW = (
    "queue_id=?",
    "state=? AND destination=? AND lane=?",
    "state=? AND destination=? AND (lane,",
    "state=? AND (destination,lane)>",
    "news>?",
)


@pytest.mark.parametrize(("name", "statement"), statements())
def test_no_statement_reads_a_whole_table_or_sorts(place: Place, name: str, statement: Prepared) -> None:
    with place.queue._database.reading() as connection:
        nothing = (None,) * statement.sql.count("?")
        plan = [row[3] for row in connection.driver.execute(f"EXPLAIN QUERY PLAN {statement.sql}", nothing)]
    if name in WHOLE:
        return
    if plan and " recipient " in plan[0]:
        assert plan[0].partition("(")[2].startswith(NARROW), plan
    # A list that the statement was given is no table: json_each.
    harmless = ("SCAN CONSTANT ROW", "SCAN anon_1 VIRTUAL TABLE INDEX 1:")
    assert not [step for step in plan if step.startswith("SCAN") and step not in harmless], plan
    if not name.endswith(("_DESTINATIONS", "_STATES")):  # these sort the recipients of one entry
        assert not [step for step in plan if "TEMP B-TREE" in step], plan


def test_the_statements_of_the_runner_go_by_their_indexes(place: Place) -> None:
    found = dict(statements())
    by_lane = "SEARCH recipient USING COVERING INDEX recipient_by_lane"
    expected = {
        "lanes._NEXT_LANE": f"{by_lane} (state=? AND (destination,lane)>(?,?))",
        "lanes._EARLIEST": f"{by_lane} (state=? AND destination=? AND lane=?)",
        "lanes._DUE": f"{by_lane} (state=? AND destination=? AND lane=? AND (next_attempt,queue_id)>(?,?) AND next_",
        "lanes._NEWS": "SEARCH recipient USING INDEX recipient_by_news (news>?)",
        "lanes._EXPIRED": "SEARCH entry USING COVERING INDEX entry_by_end (held=? AND expires<?)",
        "listing._PAGE": "SEARCH entry USING PRIMARY KEY (queue_id>?)",
        "listing._PAGE_HELD": "SEARCH entry USING INDEX entry_by_hold (held=? AND queue_id>?)",
        "listing._PAGE_OF_TENANT": "SEARCH entry USING INDEX entry_by_tenant (tenant_id=? AND held=? AND queue_id>?)",
        "listing._PLACES": f"{by_lane} (state=? AND destination=? AND (lane,next_attempt,queue_id)>(?,?,?))",
        "queue._SETTLE": "SEARCH recipient USING PRIMARY KEY (queue_id=? AND position=?)",
    }
    with place.queue._database.reading() as connection:
        for name, step in expected.items():
            sql = found[name].sql
            plan = connection.driver.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?")).fetchall()
            assert plan[0][3].startswith(step), (name, plan)

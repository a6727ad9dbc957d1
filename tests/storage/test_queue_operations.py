"""What operators do with queued mail, also while the runner works on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from queue_place import ACCOUNT, LATER, NO, OK, ONE, TWO, Place

from storage.errors import NotFound, Unavailable
from storage.queue import bulk
from storage.queue.entries import LOCAL, NewRecipient, Origin, RecipientState, Reply
from storage.queue.withdrawal import Withdrawn
from storage.values import AccountId, EmailAddress

QUEUED, HELD = RecipientState.QUEUED, RecipientState.HELD
OTHER = AccountId(77)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def states(place: Place, queue_id: str) -> list[RecipientState]:
    return [recipient.state for recipient in place.queue.show(queue_id).recipients]


def told(place: Place) -> int:
    count = len(place.announced)
    place.announced.clear()
    return count


def test_hold_and_release(place: Place) -> None:
    entry = place.enqueued()
    told(place)
    assert place.queue.hold(entry.queue_id)
    assert not place.queue.hold(entry.queue_id)
    assert states(place, entry.queue_id) == [HELD, HELD]
    assert place.queue.show(entry.queue_id).held
    assert place.queue.lanes() == []
    [summary] = place.queue.entries()
    assert (summary.held, summary.states, summary.next_attempt) == (True, {HELD: 2}, None)
    since = place.queue.news(0).upto
    assert told(place) == 0
    assert place.queue.release(entry.queue_id)
    assert not place.queue.release(entry.queue_id)
    assert told(place) == 1
    assert states(place, entry.queue_id) == [QUEUED, QUEUED]
    assert {lane.destination for lane in place.queue.news(since).lanes} == {LOCAL, "xn--bcher-kva.example"}
    for operation in (place.queue.hold, place.queue.release, place.queue.retry, place.queue.withdraw):
        with pytest.raises(NotFound):
            operation("nothing")
    with pytest.raises(NotFound):
        place.queue.bounce("nothing", NO)


def test_what_is_settled_stays_so(place: Place) -> None:
    entry = place.enqueued()
    place.queue.settle(entry, {0: (RecipientState.DELIVERED, OK)})
    place.queue.hold(entry.queue_id)
    place.queue.release(entry.queue_id)
    place.queue.retry()
    place.queue.bounce(entry.queue_id, NO)
    assert states(place, entry.queue_id) == [RecipientState.DELIVERED, QUEUED]
    assert place.queue.show(entry.queue_id).recipients[0].reply == OK


def test_retry_of_an_entry(place: Place) -> None:
    entry, other = place.enqueued(), place.enqueued()
    later = place.clock.now() + 5000
    for each in (entry, other):
        place.queue.postpone(each, {0: (later, LATER), 1: (later, LATER)})
    place.queue.destination_failed("xn--bcher-kva.example", later, LATER)
    place.queue.destination_failed("far.example", later, LATER)
    told(place)
    assert place.queue.retry(entry.queue_id) == 2
    assert told(place) == 1
    assert [r.next_attempt for r in place.queue.show(entry.queue_id).recipients] == [place.clock.now()] * 2
    assert [r.next_attempt for r in place.queue.show(other.queue_id).recipients] == [later] * 2
    assert [state.name for state in place.queue.destinations()] == ["far.example"]


def test_retry_keeps_the_order_of_what_is_due(place: Place) -> None:
    first = place.enqueued(place.small())
    place.clock.advance(60)
    second = place.enqueued(place.small())
    place.clock.advance(60)
    place.queue.retry()
    assert place.queue.due("far.example", ACCOUNT, place.clock.now(), 9) == [first.queue_id, second.queue_id]


def test_retry_of_a_destination(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "SLICE", 3)
    later = place.clock.now() + 5000
    for account in (1, 2, 3):
        entry = place.enqueued(
            place.small(*(f"u{n}@far.example" for n in range(5)), "x@near.example", account_id=AccountId(account))
        )
        until = later if account != 3 else place.clock.now() - 9  # that one is due, but its destination is not
        place.queue.postpone(entry, dict.fromkeys(range(6), (until, LATER)))
    place.queue.destination_failed("far.example", later, LATER)
    place.queue.destination_failed("near.example", later, LATER)
    since = place.queue.news(0).upto
    told(place)
    assert place.queue.retry(destination="far.example") == 15
    assert told(place) == 1
    news = {(lane.destination, lane.lane): lane.earliest for lane in place.queue.news(since).lanes}
    now = place.clock.now()
    assert news == {("far.example", 1): now, ("far.example", 2): now, ("far.example", 3): now - 9}
    assert [state.name for state in place.queue.destinations()] == ["near.example"]
    assert place.queue.lane("near.example", 1) == later
    assert place.queue.retry(destination="nowhere.example") == 0
    assert told(place) == 0


def test_retry_of_a_tenant_and_of_everything(place: Place) -> None:
    later = place.clock.now() + 5000
    for tenant in (ONE, TWO):
        entry = place.enqueued(place.small("a@far.example", "b@near.example", tenant_id=tenant))
        place.queue.postpone(entry, {0: (later, LATER), 1: (later, LATER)})
    held = place.enqueued(place.small())
    place.queue.hold(held.queue_id)
    place.queue.destination_failed("idle.example", later, LATER)
    assert place.queue.retry(tenant=TWO) == 2
    assert [summary.next_attempt for summary in place.queue.entries(tenant=ONE, held=False)] == [later]
    assert [summary.next_attempt for summary in place.queue.entries(tenant=TWO)] == [place.clock.now()]
    assert [state.name for state in place.queue.destinations()] == ["idle.example"]
    assert place.queue.retry() == 4
    assert place.queue.destinations() == []
    assert states(place, held.queue_id) == [HELD]


def test_an_entry_is_given_up(place: Place) -> None:
    reason = Reply(0, "5.7.1", "Removed by the postmaster")
    entry = place.enqueued()
    place.queue.postpone(entry, {0: (place.clock.now() + 900, LATER)})
    place.queue.hold(entry.queue_id)
    since = place.queue.news(0).upto
    told(place)
    place.queue.bounce(entry.queue_id, reason)
    shown = place.queue.show(entry.queue_id)
    assert (shown.given_up, shown.held, shown.expires) == (True, False, place.clock.now())
    assert {(r.state, r.reply, r.next_attempt) for r in shown.recipients} == {(QUEUED, reason, place.clock.now())}
    assert place.queue.expired(place.clock.now(), 9) == [entry.queue_id]
    assert len(place.queue.news(since).lanes) == 2
    assert told(place) == 1
    assert not entry.given_up


def test_holds_end(place: Place) -> None:
    other = place.enqueued(place.entry(TWO))
    ours = [place.enqueued().queue_id for _ in range(3)]
    place.queue.hold_account(ONE, ACCOUNT)
    place.queue.release(ours[2])
    for queue_id in (ours[0], other.queue_id):
        place.queue.hold(queue_id)
    place.clock.advance(10)
    young = place.enqueued().queue_id  # its account is held
    now, since = place.clock.now(), place.queue.news(0).upto
    told(place)
    assert place.queue.end_holds(now - 10) == 0 and told(place) == 0
    assert place.queue.end_holds(now, {TWO}) == 2 and told(place) == 1
    assert sorted(place.queue.expired(now, 9)) == sorted(ours[:2])  # what was not held has the time that it had
    assert [states(place, queue_id) for queue_id in ours] == [[QUEUED, QUEUED]] * 3
    assert states(place, young) == states(place, other.queue_id) == [HELD, HELD]
    assert place.queue.news(since).lanes != ()
    assert place.queue.end_holds(now, {TWO}) == 0
    assert place.queue.end_holds(now) == 1


def test_withdrawn(place: Place) -> None:
    entry, other = place.enqueued(), place.enqueued()
    place.queue.withdraw(entry.queue_id)
    assert [path.name for path in place.spooled()] == [other.file]
    with pytest.raises(NotFound):
        place.queue.show(entry.queue_id)


def test_an_account_is_held(place: Place) -> None:
    own = [place.enqueued().queue_id for _ in range(3)]
    others = [
        place.enqueued(place.small(account_id=OTHER)).queue_id,
        place.enqueued(place.small(account_id=None, origin=Origin.MX)).queue_id,
        place.enqueued(place.small(tenant_id=TWO, account_id=AccountId(9))).queue_id,
    ]
    place.queue.hold(own[0])
    assert place.queue.hold_account(ONE, ACCOUNT) == 2
    assert place.queue.hold_account(ONE, ACCOUNT) == 0
    late = place.enqueued()  # accepted before, queued after
    assert late.held
    assert states(place, late.queue_id) == [HELD, HELD]
    assert [entry.queue_id for entry in place.queue.entries(held=False)] == sorted(others)
    other_process = place.another_queue("other")
    assert other_process.release_account(ONE, ACCOUNT) == 3
    other_process.close()
    assert [entry.queue_id for entry in place.queue.entries(held=True)] == [own[0]]  # an operator's
    assert not place.enqueued().held
    assert place.queue.release_account(ONE, ACCOUNT) == 0


def test_one_entry_of_a_held_account_is_released(place: Place) -> None:
    entry, other = place.enqueued(), place.enqueued()
    place.queue.hold_account(ONE, ACCOUNT)
    assert place.queue.release(entry.queue_id)
    assert [each.queue_id for each in place.queue.entries(held=True)] == [other.queue_id]
    place.queue.hold(other.queue_id)  # an operator looks at it
    place.queue.release_account(ONE, ACCOUNT)
    assert place.queue.show(other.queue_id).held


def test_a_tenant_is_withdrawn(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "SLICE", 3)
    for number in range(10):
        entry = place.enqueued()
        if number % 3 == 0:
            place.queue.hold(entry.queue_id)
    place.queue.hold_account(ONE, ACCOUNT)
    kept = place.enqueued(place.small(tenant_id=TWO, account_id=AccountId(9)))
    place.queue.forget(ONE)
    place.queue._keys = None  # type: ignore[assignment]  # it is done without the tenant's key
    waiting = place.queue.what_waits(ONE)
    assert (waiting.entries, waiting.recipients, waiting.bytes > 0) == (10, 20, True)
    assert place.queue.withdraw_tenant(ONE) == waiting
    assert place.queue.withdraw_tenant(ONE) == Withdrawn()
    assert place.spooled() == []
    assert [entry.queue_id for entry in place.queue.entries()] == [kept.queue_id]
    assert place.queue.sent_by_account(ONE, ACCOUNT, 0) == {}
    assert place.queue.sent_by_tenant(ONE, 0) == {}
    assert place.queue.sent_by_tenant(TWO, 0) != {}
    with place.queue._database.reading() as connection:
        for table in ("held_account", "unlink"):
            assert connection.driver.execute(f"SELECT count(*) FROM {table} WHERE tenant_id = 1").fetchone() == (0,)


def test_a_large_change_goes_in_slices(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who accepts a message meanwhile waits for one slice at most."""
    monkeypatch.setattr(bulk, "SLICE", 10)
    for _ in range(8):
        place.queue.enqueue([place.small(*(f"u{n}@far.example" for n in range(4)))])
    writes: list[int] = []
    write = place.queue._database.write

    def counting(action: object, **named: object) -> object:
        writes.append(1)
        return write(action, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(place.queue._database, "write", counting)
    assert place.queue.hold_account(ONE, ACCOUNT) == 8
    assert len(writes) == 1 + 3  # the mark, and slices of three entries: 12 recipients


def test_interrupted_and_repeated(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "SLICE", 2)
    for _ in range(6):
        place.enqueued()
    write, left = place.queue._database.write, [3]

    def failing(action: object, **named: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise Unavailable
        return write(action, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(place.queue._database, "write", failing)
        with pytest.raises(Unavailable):
            place.queue.hold_account(ONE, ACCOUNT)
    assert len(place.queue.entries(held=True)) == 2
    assert place.enqueued().held  # the mark came first
    assert place.queue.hold_account(ONE, ACCOUNT) == 4
    assert place.queue.entries(held=False) == []


def test_operators_and_the_runner_at_once(place: Place) -> None:
    """Whatever is held, released and retried meanwhile, every recipient is settled once, and nothing is left."""
    entries = [place.enqueued(place.small("a@far.example", "b@near.example")) for _ in range(30)]
    done = threading.Event()
    errors: list[BaseException] = []

    def operate() -> None:
        queue = place.another_queue("operator")
        try:
            while not done.is_set():
                queue.hold_account(ONE, ACCOUNT)
                queue.release_account(ONE, ACCOUNT)
                queue.retry()
                queue.retry(destination="far.example")
        except BaseException as error:
            errors.append(error)
        finally:
            queue.close()

    def run() -> int:
        gone = 0
        for position in (0, 1):
            for entry in entries:
                place.queue.postpone(entry, {position: (place.clock.now() + 1, LATER)})
                gone += place.queue.settle(entry, {position: (RecipientState.RELAYED, OK)})
        return gone

    operator = threading.Thread(target=operate)
    operator.start()
    try:
        gone = run()
    finally:
        done.set()
        operator.join()
    assert errors == []
    assert gone == 30
    assert place.queue.entries() == []
    assert place.spooled() == []
    assert place.queue.lanes() == []


def test_content_goes_to_nobody_after_a_withdrawal(place: Place) -> None:
    to = (NewRecipient(EmailAddress.parse("bob@one.example"), AccountId(6)),)
    entry = place.enqueued(place.small(recipients=to))
    place.queue.withdraw(entry.queue_id)
    with pytest.raises(NotFound):
        place.queue.content(entry)

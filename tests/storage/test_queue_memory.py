"""What sending remembers: destinations, what was sent, MTA-STS policies, outcomes of TLS; and for how long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from queue_place import ACCOUNT, LATER, NO, ONE, TWO, Place

from storage.errors import Unavailable
from storage.queue import sent
from storage.queue.entries import DestinationState, NewRecipient, Origin, Reply
from storage.queue.retention import SENT_DAYS, TLS_DAYS
from storage.queue.sts import StsMode, StsPolicy
from storage.queue.tls_results import DAY, SUCCESS, TlsResult
from storage.values import AccountId, Domain, EmailAddress

FAR, NEAR = Domain("far.example"), Domain("near.example")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def test_destinations(place: Place) -> None:
    start = place.clock.now()
    silent = Reply(0, "4.4.1", "No answer from the host")
    assert place.queue.destination_state("far.example") is None
    first = place.queue.destination_failed("far.example", start + 300, silent)
    assert first == DestinationState("far.example", 1, start, start + 300, silent)
    place.clock.advance(300)
    place.queue.destination_failed("far.example", start + 900, silent)
    place.queue.destination_failed("near.example", start + 901, silent)
    other = place.another_queue("other")
    assert other.destination_state("far.example") == DestinationState("far.example", 2, start, start + 900, silent)
    other.close()
    assert [state.name for state in place.queue.destinations()] == ["far.example", "near.example"]
    assert [state.name for state in place.queue.destinations(after="far.example", limit=1)] == ["near.example"]
    assert place.queue.totals().failing == 2
    place.queue.destination_answered("far.example")
    place.queue.destination_answered("far.example")
    assert [state.name for state in place.queue.destinations()] == ["near.example"]


def test_why_a_destination_fails_is_kept_in_our_words(place: Place) -> None:
    """Which are about one of its hosts, as a rule."""
    state = place.queue.destination_failed("far.example", 1, Reply(0, "4.4.1", "No connection.", "mx.far.example"))
    assert str(state.reply) == "4.4.1 No connection."


@pytest.mark.parametrize("reply", [NO, Reply(421, "4.7.0", "bob@one.example sends too much")])
def test_of_a_destination_nothing_is_kept_that_a_peer_said(place: Place, reply: Reply) -> None:
    """The row is not sealed, and peers quote addresses."""
    state = place.queue.destination_failed("far.example", 1, reply)
    assert state.reply == Reply(reply.code, reply.status, "")


def outside(count: int) -> tuple[NewRecipient, ...]:
    return tuple(NewRecipient(EmailAddress.parse(f"u{n}@far.example")) for n in range(count))


def test_what_was_sent(place: Place) -> None:
    here = NewRecipient(EmailAddress.parse("bob@one.example"), AccountId(6))
    routed = NewRecipient(EmailAddress.parse("x@two.example"), routed=Domain("two.example"))
    hour = place.clock.now() // 3600
    place.queue.enqueue([place.small(recipients=(*outside(3), here, routed))])
    place.queue.enqueue([place.small(recipients=outside(2), account_id=AccountId(8))])
    place.queue.enqueue([place.small(recipients=outside(50), account_id=None, origin=Origin.MX)])
    place.queue.enqueue([place.small(recipients=outside(50), account_id=None, origin=Origin.NOTICE)])
    place.queue.enqueue([place.small(recipients=outside(4), account_id=AccountId(9), tenant_id=TWO)])
    place.queue.enqueue([place.small(recipients=(here,))])
    place.clock.advance(3600)
    place.queue.enqueue([place.small(recipients=outside(1))])
    assert place.queue.sent_by_account(ONE, ACCOUNT, hour) == {hour: 3, hour + 1: 1}
    assert place.queue.sent_by_account(ONE, ACCOUNT, hour + 1) == {hour + 1: 1}
    assert place.queue.sent_by_account(ONE, AccountId(99), hour) == {}
    assert place.queue.sent_by_tenant(ONE, hour) == {hour: 5, hour + 1: 1}
    assert place.queue.sent_by_tenant(TWO, hour) == {hour: 4}


def test_what_was_not_accepted_was_not_sent(place: Place) -> None:
    new = place.small()
    place.queue.enqueue([new])
    with pytest.raises(Exception):  # noqa: B017  the id is taken
        place.queue.enqueue([new])
    assert sum(place.queue.sent_by_account(ONE, ACCOUNT, 0).values()) == 1


def test_counts_are_exact_over_several_processes(place: Place) -> None:
    queues = [place.another_queue(f"worker{number}") for number in range(3)]
    news = [[place.small(recipients=outside(2)) for _ in range(10)] for _ in queues]

    def work(number: int) -> None:
        for new in news[number]:
            queues[number].enqueue([new])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for queue in queues:
        queue.close()
    assert sum(place.queue.sent_by_account(ONE, ACCOUNT, 0).values()) == 60


def test_counts_are_forgotten(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "_SLICE", 2)
    first = place.clock.now() // 3600
    for _ in range(5):
        place.queue.enqueue([place.small()])
        place.clock.advance(3600)
    assert place.queue.forget_sent(first + 3) == 6  # of the account, and of the tenant
    assert list(place.queue.sent_by_account(ONE, ACCOUNT, 0)) == [first + 3, first + 4]
    assert list(place.queue.sent_by_tenant(ONE, 0)) == [first + 3, first + 4]


def policy(domain: Domain, now: int, **changes: object) -> StsPolicy:
    values = {"policy_id": "1", "mode": StsMode.ENFORCE, "max_age": 100, "mx": ("mx.far.example", "*.far.example")}
    return StsPolicy(domain, **{**values, "fetched": now, "expires": now + 100, **changes})  # type: ignore[arg-type]


def test_policies(place: Place) -> None:
    now, sts = place.clock.now(), place.queue.sts
    assert sts.get(FAR) is None
    sts.put(policy(FAR, now))
    assert sts.get(FAR) == policy(FAR, now)
    newer = policy(FAR, now, policy_id="2", mode=StsMode.TESTING, mx=(), expires=now + 200)
    sts.put(newer)
    sts.put(policy(NEAR, now))
    other = place.another_queue("other")
    assert other.sts.get(FAR) == newer
    other.close()
    assert sts.forget_expired(now + 100) == 1
    assert (sts.get(FAR), sts.get(NEAR)) == (newer, None)


def test_results_of_tls(place: Place) -> None:
    results, day = place.queue.tls_results, place.clock.now() // DAY
    for _ in range(3):
        results.count(day, FAR, "sts", "mx.far.example", SUCCESS)
    results.count(day, FAR, "sts", "mx.far.example", "certificate-expired")
    results.count(day + 1, NEAR, "no-policy-found", "mx.near.example", SUCCESS)
    results.flush()
    other = place.another_queue("other")
    other.tls_results.count(day, FAR, "sts", "mx.far.example", SUCCESS)
    other.close()  # what it has counted is not lost
    assert results.report(day) == [
        TlsResult(day, FAR, "sts", "mx.far.example", SUCCESS, 4),
        TlsResult(day, FAR, "sts", "mx.far.example", "certificate-expired", 1),
    ]
    assert results.forget(day + 1) == 2
    assert results.report(day) == []
    assert len(results.report(day + 1)) == 1


def test_results_that_could_not_be_written_are_written_later(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    results, day = place.queue.tls_results, 20_000
    results.count(day, FAR, "tlsa", "mx.far.example", SUCCESS)

    def full(*_: object, **__: object) -> None:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(place.queue._database, "write", full)
        with pytest.raises(Unavailable):
            results.flush()
    results.count(day, FAR, "tlsa", "mx.far.example", SUCCESS)
    assert [result.sessions for result in results.report(day)] == [2]


def test_nothing_is_remembered_for_longer_than_it_is_needed(place: Place) -> None:
    day = place.clock.now() // DAY
    place.queue.enqueue([place.small()])
    place.queue.sts.put(policy(FAR, place.clock.now()))
    place.queue.tls_results.count(day, FAR, "sts", "mx.far.example", SUCCESS)
    place.queue.destination_failed("far.example", place.clock.now() + 60, LATER)
    assert place.queue.expire() == 0
    place.clock.advance(DAY + 120)
    assert place.queue.expire() == 2  # the policy, and the destination that nobody tried again
    place.clock.advance(TLS_DAYS * DAY)
    assert place.queue.expire() == 1
    place.clock.advance((SENT_DAYS - TLS_DAYS) * DAY)
    assert place.queue.expire() == 2
    assert place.queue.expire() == 0
    assert len(place.queue.entries()) == 1  # messages are the runner's

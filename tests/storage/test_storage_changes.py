"""The change feed: what arrives, and that whoever misses something is told to look again."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.changes import (
    SILENCE,
    AccountChanged,
    AccountEnded,
    Change,
    CollectionChanged,
    Gap,
    MailboxesChanged,
    Published,
    Publisher,
    QueueChanged,
    RightsChanged,
    Subscriber,
    TenantChanged,
    TenantEnded,
)
from storage.clock import FixedClock
from storage.collections.values import CollectionId
from storage.feed_files import SLOTS, WatchedAccounts
from storage.values import AccountId, MailboxId, ModSeq, TenantId


def change(modseq: int) -> Change:
    return Change(AccountId(1), MailboxId(2), ModSeq(modseq))


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / ("deep" * 10) / ("deeper" * 10)  # longer than a socket's address may be


@pytest.fixture
def subscriber(data: Path, clock: FixedClock) -> Iterator[Subscriber]:
    subscriber = Subscriber(data, clock)
    yield subscriber
    subscriber.close()


@pytest.fixture
def publisher(data: Path, clock: FixedClock, subscriber: Subscriber) -> Iterator[Publisher]:
    publisher = Publisher(data, clock)
    assert subscriber.drain() == []  # nothing was missed of a publisher that has just begun
    yield publisher
    publisher.close()


def test_changes_arrive_in_order(publisher: Publisher, subscriber: Subscriber) -> None:
    published = (change(5), AccountChanged(TenantId(3), AccountId(4)), TenantChanged(TenantId(9)), change(2**63))
    assert subscriber.drain() == []
    publisher.publish(*published[:2])
    publisher.publish(*published[2:])
    assert select.select([subscriber], [], [], 0)[0]
    assert subscriber.drain() == list(published)
    assert not select.select([subscriber], [], [], 0)[0]


EVERY_KIND: tuple[Published, ...] = (
    Change(AccountId(1), MailboxId(2), ModSeq(2**63)),
    MailboxesChanged(AccountId(3)),
    CollectionChanged(AccountId(4), CollectionId(5), ModSeq(6)),
    AccountChanged(TenantId(7), AccountId(8)),
    RightsChanged(TenantId(9), AccountId(10)),
    TenantChanged(TenantId(11)),
    TenantEnded(TenantId(12)),
    AccountEnded(TenantId(13), AccountId(14)),
    QueueChanged(),
)


def test_every_kind_arrives_as_it_was_sent(publisher: Publisher, data: Path) -> None:
    everything = Subscriber(data, FixedClock(), queue=True, collections=True)
    publisher.publish(*EVERY_KIND)
    assert everything.drain() == [*EVERY_KIND]
    everything.close()


def test_a_heartbeat_says_nothing(publisher: Publisher, subscriber: Subscriber) -> None:
    publisher.beat()
    assert subscriber.drain() == []


def test_everyone_hears_it_those_who_come_late_too(
    publisher: Publisher, subscriber: Subscriber, data: Path, clock: FixedClock
) -> None:
    late = Subscriber(data, clock)
    publisher.publish(change(1))
    assert subscriber.drain() == [change(1)] and late.drain() == [change(1)]
    publisher.publish(change(2))
    assert late.drain() == [change(2)]
    late.close()


def test_many_changes_are_split_over_datagrams(publisher: Publisher, subscriber: Subscriber) -> None:
    many = [Change(AccountId(n), MailboxId(2), ModSeq(1)) for n in range(3000)]
    publisher.publish(*many)
    assert subscriber.drain() == many


def drained(subscriber: Subscriber) -> list[object]:
    """What comes until the publisher, whose thread sends again what was kept, has nothing left for a while."""
    news: list[object] = []
    while select.select([subscriber], [], [], 0.3)[0]:
        news += subscriber.drain()
    return news


def test_a_full_receiver_misses_nothing_and_nobody_waits(publisher: Publisher, subscriber: Subscriber) -> None:
    for number in range(1, 20_001):
        publisher.publish(change(number))
    news = drained(subscriber)
    assert Gap() not in news and news[-1] == change(20_000)
    publisher.publish(change(1))
    assert drained(subscriber) == [change(1)]


def test_one_that_takes_nothing_for_too_long_looks_again(publisher: Publisher, subscriber: Subscriber) -> None:
    for number in range(25_000):
        publisher.publish(Change(AccountId(number), MailboxId(1), ModSeq(1)))
    assert Gap() in drained(subscriber)
    publisher.publish(change(1))
    assert drained(subscriber) == [change(1)]


def test_a_publisher_that_said_farewell_is_not_missed(
    publisher: Publisher, subscriber: Subscriber, clock: FixedClock
) -> None:
    publisher.publish(change(1))
    publisher.close()
    assert subscriber.drain() == [change(1)]
    clock.advance(SILENCE + 1)
    assert subscriber.drain() == []


def test_a_silent_publisher_may_have_died_with_news(
    publisher: Publisher, subscriber: Subscriber, clock: FixedClock
) -> None:
    clock.advance(SILENCE - 1)
    publisher.beat()
    clock.advance(SILENCE - 1)
    assert subscriber.drain() == []
    clock.advance(2)
    assert subscriber.drain() == []  # the beat was read only now
    clock.advance(SILENCE + 1)
    assert subscriber.drain() == [Gap()]
    assert subscriber.drain() == []


@pytest.mark.parametrize("datagram", [b"", b"short", b"x" * 16 + b"\xff" + b"\x00" * 24, b"x" * 20])
def test_what_cannot_be_read_is_a_gap(subscriber: Subscriber, data: Path, datagram: bytes) -> None:
    (path,) = (data / "run" / "feed").iterdir()
    descriptor = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(datagram, f"/proc/self/fd/{descriptor}/{path.name}")
    os.close(descriptor)
    assert subscriber.drain() == [Gap()]


def test_the_socket_of_a_dead_receiver_is_removed(publisher: Publisher, data: Path, subscriber: Subscriber) -> None:
    feed = data / "run" / "feed"
    descriptor = os.open(feed, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(f"/proc/self/fd/{descriptor}/dead.mail.sock")
    os.close(descriptor)
    publisher.publish(change(1))
    assert len(list(feed.iterdir())) == 1 and subscriber.drain() == [change(1)]


def test_a_closed_subscriber_leaves_nothing(data: Path, clock: FixedClock) -> None:
    Subscriber(data, clock).close()
    assert list((data / "run" / "feed").iterdir()) == []


def test_a_subscriber_to_accounts_hears_nothing_of_mailboxes_and_misses_nothing(data: Path) -> None:
    clock = FixedClock()
    subscriber = Subscriber(data, clock, mailboxes=False)
    publisher = Publisher(data, clock)
    publisher.publish(Change(AccountId(1), MailboxId(2), ModSeq(3)))
    publisher.publish(Change(AccountId(1), MailboxId(2), ModSeq(4)), AccountChanged(TenantId(1), AccountId(1)))
    publisher.publish(MailboxesChanged(AccountId(1)), TenantChanged(TenantId(1)))
    assert subscriber.drain() == [AccountChanged(TenantId(1), AccountId(1)), TenantChanged(TenantId(1))]
    publisher.close()
    subscriber.close()


@pytest.mark.parametrize("mailboxes", [False, True])
@pytest.mark.parametrize("queue", [False, True])
def test_news_of_the_queue_wake_only_whoever_asked(data: Path, mailboxes: bool, queue: bool) -> None:
    clock = FixedClock()
    subscriber = Subscriber(data, clock, mailboxes=mailboxes, queue=queue)
    publisher = Publisher(data, clock)
    assert subscriber.drain() == []
    publisher.publish(QueueChanged())
    assert bool(select.select([subscriber], [], [], 0)[0]) == queue
    publisher.publish(change(1), TenantChanged(TenantId(1)), QueueChanged())
    expected = [QueueChanged()] * queue + [change(1)] * mailboxes + [TenantChanged(TenantId(1))]
    heard = subscriber.drain()
    assert set(heard) == set(expected) and len(heard) == len(expected)
    publisher.close()
    subscriber.close()


def test_news_of_the_queue_that_a_full_socket_cannot_take_are_told_once_later(data: Path) -> None:
    clock = FixedClock()
    subscriber = Subscriber(data, clock, mailboxes=False, queue=True)
    publisher = Publisher(data, clock)
    for _ in range(5000):
        publisher.publish(QueueChanged())
    assert subscriber.drain() == [QueueChanged()]
    publisher.beat()
    assert set(subscriber.drain()) <= {QueueChanged()}
    publisher.close()
    subscriber.close()


def test_changes_of_accounts_that_nobody_watches_are_not_told(data: Path, clock: FixedClock) -> None:
    watching, everything = Subscriber(data, clock, only_watched=True), Subscriber(data, clock)
    publisher = Publisher(data, clock)
    other, alike = Change(AccountId(2), MailboxId(2), ModSeq(1)), Change(AccountId(1 + SLOTS), MailboxId(2), ModSeq(1))
    publisher.publish(change(1))
    assert watching.drain() == [] and everything.drain() == [change(1)]
    watching.watch(AccountId(1))
    watching.watch(AccountId(1))
    publisher.publish(change(2), other, alike)
    assert watching.drain() == [change(2), alike] and everything.drain() == [change(2), other, alike]
    watching.unwatch(AccountId(1))
    publisher.publish(other, change(3))
    assert watching.drain() == [change(3)]
    watching.unwatch(AccountId(1))
    publisher.publish(change(4), MailboxesChanged(AccountId(1)))  # of the account itself everybody is told
    assert watching.drain() == [MailboxesChanged(AccountId(1))]
    for each in (publisher, watching, everything):
        each.close()
    assert list((data / "run" / "feed").iterdir()) == []


def test_what_a_dead_receiver_watched_is_removed_with_its_socket(
    publisher: Publisher, data: Path, subscriber: Subscriber
) -> None:
    dead = Subscriber(data, FixedClock(), only_watched=True)
    dead._socket.close()
    publisher.beat()
    assert len(list((data / "run" / "feed").iterdir())) == 1 and subscriber.drain() == []


def test_tables_of_those_who_were_killed_before_they_had_a_socket_are_swept(data: Path, clock: FixedClock) -> None:
    (data / "run" / "feed").mkdir(parents=True)
    for name, age in (("old", 100), ("new", 10)):
        WatchedAccounts(data / "run" / "feed" / f"{name}.mail.sock")
        os.utime(data / "run" / "feed" / f"{name}.mail.watched", (clock.precise() - age,) * 2)
    first, second = (Subscriber(data, clock, only_watched=True) for _ in range(2))
    names = {path.name for path in (data / "run" / "feed").glob("*.watched")}
    assert len(names) == 3 and "new.mail.watched" in names and "old.mail.watched" not in names
    for each in (first, second):
        each.close()


def test_a_full_disk_ends_nobody_who_watches(data: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has its room on the disk from the start; a subscriber for which there is none is told of everything."""
    watching = Subscriber(data, clock, only_watched=True)
    [table] = (data / "run" / "feed").glob("*.watched")
    assert table.stat().st_blocks * 512 >= SLOTS
    watching.close()

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    subscriber, publisher = Subscriber(data, clock, only_watched=True), Publisher(data, clock)
    subscriber.watch(AccountId(2))
    publisher.publish(change(1))
    assert subscriber.drain() == [change(1)]
    publisher.close()
    subscriber.close()
    assert list((data / "run" / "feed").iterdir()) == []

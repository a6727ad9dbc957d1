"""Which accounts a worker is told of by the change feed, and that whoever begins to be told looks at the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from accounts import ACCOUNT as WATCHED
from accounts import AccountPlace

from hosting.imap.news.watches import Watch, Watches
from hosting.imap.shell.attention import Attention
from storage.changes import Change, MailboxesChanged, Published, Publisher, Subscriber
from storage.clock import FixedClock
from storage.values import AccountId, MailboxId, ModSeq

ACCOUNT, OTHER = AccountId(1), AccountId(2)


def change(account_id: AccountId, modseq: int) -> Change:
    return Change(account_id, MailboxId(3), ModSeq(modseq))


def test_attention_ends_with_the_last_who_pays_it(tmp_path: Path) -> None:
    clock = FixedClock()
    subscriber = Subscriber(tmp_path, clock, only_watched=True)
    publisher = Publisher(tmp_path, clock)
    attention = Attention(subscriber, list[Published]().append)
    publisher.publish(change(ACCOUNT, 1))
    attention.pay(ACCOUNT)
    attention.pay(ACCOUNT)
    assert subscriber.drain() == []
    publisher.publish(change(ACCOUNT, 2), change(OTHER, 2))
    assert subscriber.drain() == [change(ACCOUNT, 2)]
    attention.withdraw(ACCOUNT)
    publisher.publish(change(ACCOUNT, 3))
    assert subscriber.drain() == [change(ACCOUNT, 3)]
    attention.withdraw(ACCOUNT)
    publisher.publish(change(ACCOUNT, 4))
    assert subscriber.drain() == []
    publisher.close()
    subscriber.close()


def test_a_listing_is_looked_at_again_where_sessions_in_idle_paid_attention_before(tmp_path: Path) -> None:
    """What was told between the listing and `add` was told to them alone."""
    place, looks = AccountPlace(tmp_path), list[Published]()
    attention = Attention(None, looks.append)
    attention.pay(WATCHED)
    watches, first, second = Watches(attention), cast(Any, object()), cast(Any, object())
    watch = watches.add(first, place.account, Watch.read(place.account))
    assert looks == [MailboxesChanged(WATCHED)]
    assert watches.add(second, place.account, watch.listing) is watch
    assert looks == [MailboxesChanged(WATCHED)], "who shares a listing shares what comes of it"
    place.close()

"""What a worker is told of by the change feed: accounts that somebody pays attention to, and first what was missed."""

from __future__ import annotations

from pathlib import Path

from hosting.imap.shell.attention import Attention
from storage.changes import Change, Published, Publisher, Subscriber
from storage.clock import FixedClock
from storage.values import AccountId, MailboxId, ModSeq

ACCOUNT, OTHER = AccountId(1), AccountId(2)


def change(account_id: AccountId, modseq: int) -> Change:
    return Change(account_id, MailboxId(3), ModSeq(modseq))


def test_attention_begins_with_a_look_and_ends_with_the_last_who_pays_it(tmp_path: Path) -> None:
    clock, started = FixedClock(), list[Published]()
    subscriber = Subscriber(tmp_path, clock, only_watched=True)
    publisher = Publisher(tmp_path, clock)
    attention = Attention(subscriber, started.append)
    publisher.publish(change(ACCOUNT, 1))
    attention.pay(ACCOUNT, change(ACCOUNT, 0))
    attention.pay(ACCOUNT, change(ACCOUNT, 0))
    assert started == [change(ACCOUNT, 0)] and subscriber.drain() == []
    publisher.publish(change(ACCOUNT, 2), change(OTHER, 2))
    assert subscriber.drain() == [change(ACCOUNT, 2)]
    attention.withdraw(ACCOUNT)
    publisher.publish(change(ACCOUNT, 3))
    assert subscriber.drain() == [change(ACCOUNT, 3)]
    attention.withdraw(ACCOUNT)
    publisher.publish(change(ACCOUNT, 4))
    assert subscriber.drain() == []
    attention.pay(ACCOUNT, change(ACCOUNT, 0))
    assert started == [change(ACCOUNT, 0)] * 2
    publisher.close()
    subscriber.close()

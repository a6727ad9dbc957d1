"""What goes from one account into another, and flags of which only some may be changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import TENANT, AccountPlace

from storage.errors import OverQuota
from storage.keys.sealing import Key
from storage.mail.account import Account
from storage.mail.messages import How, NewMessage
from storage.mail.quota import Limits
from storage.values import ANSWERED, DELETED, FLAGGED, SEEN, AccountId, MailboxId, UidSet

ALL = UidSet(((1, 1 << 31),))
KEYWORD = 1 << 8


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path)
    yield place
    place.close()


@pytest.fixture
def inbox(place: AccountPlace) -> MailboxId:
    messages = [
        NewMessage(b"Subject: %d\r\n\r\nText.\r\n" % n, flags=SEEN | FLAGGED | DELETED, keywords=["k"])
        for n in range(70)
    ]
    mailbox_id = place.account.mailboxes.find("INBOX").id
    place.account.messages.append_many(mailbox_id, messages)
    return mailbox_id


@pytest.fixture
def other(place: AccountPlace) -> Iterator[Account]:
    account = Account.create(place.data / "other", TENANT, AccountId(8), Key("b" * 32, b"o" * 32), place.surroundings)
    yield account
    account.close()


def flags_of(account: Account, mailbox_id: MailboxId, uid: int = 1) -> int:
    return int(account.messages.fetch_rows(mailbox_id, uid, uid, ("flags",))[0][0])


def test_a_copy_that_fails_midway_leaves_nothing(place: AccountPlace, inbox: MailboxId, other: Account) -> None:
    target = other.mailboxes.find("Sent")
    other.limits = Limits(messages=60)  # the second batch is one too many
    with pytest.raises(OverQuota):
        place.account.messages.copy_to(other.messages, inbox, ALL, target.id)
    with pytest.raises(OverQuota):
        place.account.messages.move_to(other.messages, inbox, ALL, target.id)
    assert other.usage().messages == other.mailboxes.find("Sent").messages == 0
    assert place.account.usage().messages == 70


def test_a_move_takes_out_what_it_has_put_in(place: AccountPlace, inbox: MailboxId, other: Account) -> None:
    target = other.mailboxes.find("Sent").id
    moved = place.account.messages.move_to(other.messages, inbox, UidSet(((3, 60),)), target)
    assert moved.pairs == [(uid, uid - 2) for uid in range(3, 61)]
    assert (place.account.usage().messages, other.usage().messages) == (12, 58)
    assert place.account.messages.move_to(other.messages, inbox, UidSet(((3, 60),)), target).pairs == []


@pytest.mark.parametrize(
    ("only", "left"),
    [(-1, SEEN | FLAGGED | DELETED | KEYWORD), (SEEN, SEEN), (~(SEEN | DELETED), FLAGGED | KEYWORD), (0, 0)],
)
def test_only_some_flags_go_along(place: AccountPlace, inbox: MailboxId, other: Account, only: int, left: int) -> None:
    target = other.mailboxes.find("Sent").id
    place.account.messages.copy_to(other.messages, inbox, UidSet(((1, 1),)), target, only=only)
    assert flags_of(other, target) == left


@pytest.mark.parametrize(
    ("how", "asked", "only", "left"),
    [
        ("replace", ANSWERED, SEEN, FLAGGED | DELETED | KEYWORD),
        ("replace", SEEN | ANSWERED, SEEN, SEEN | FLAGGED | DELETED | KEYWORD),
        ("replace", 0, ~(SEEN | DELETED), SEEN | DELETED),
        ("add", ANSWERED, SEEN, SEEN | FLAGGED | DELETED | KEYWORD),
        ("remove", SEEN | DELETED, SEEN, FLAGGED | DELETED | KEYWORD),
        ("remove", SEEN, 0, SEEN | FLAGGED | DELETED | KEYWORD),
    ],
)
def test_only_some_flags_are_changed(
    place: AccountPlace, inbox: MailboxId, how: How, asked: int, only: int, left: int
) -> None:
    messages, one = place.account.messages, UidSet(((1, 1),))
    stored = messages.store(inbox, one, how, asked, only=only)
    assert flags_of(place.account, inbox) == left
    assert bool(stored.changed) is (left != SEEN | FLAGGED | DELETED | KEYWORD)
    assert messages.store_now(inbox, one, how, asked, only=only).changed == []
    mailbox = place.account.mailboxes.by_id(inbox)
    assert mailbox.unseen == (0 if left & SEEN else 1)
    assert mailbox.deleted == (70 if left & DELETED else 69)

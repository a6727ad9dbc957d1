"""What goes from one account into another, and flags of which only some may be changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accounts import TENANT, AccountPlace

from storage.errors import Gone, LimitReached, OverQuota
from storage.keys.sealing import Key
from storage.mail import exchange
from storage.mail.account import Account
from storage.mail.messages import Copied, How, NewMessage
from storage.mail.quota import Limits
from storage.sweep import sweep_account
from storage.values import ANSWERED, DELETED, FLAGGED, SEEN, AccountId, MailboxId, UidSet

ALL = UidSet(((1, 1 << 31),))
KEYWORD = 1 << 8


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


def cross(
    place: AccountPlace, other: Account, source: MailboxId, uids: UidSet, target: MailboxId, *,
    only: int = -1, move: bool = False,
) -> Copied:  # fmt: skip
    crossing = place.account.messages.crossing(other.messages, source, uids, target, only=only, move=move)
    try:
        while crossing.go_on():
            pass
        return crossing.commit()
    except BaseException:
        crossing.abandon()
        raise


def files(account: Account) -> int:
    account.background.settle()
    return sum(len(list(account.maildir.names(folder))) for folder in ("tmp", "new", "cur"))


def test_a_copy_that_fails_midway_leaves_nothing(place: AccountPlace, inbox: MailboxId, other: Account) -> None:
    target = other.mailboxes.find("Sent")
    other.limits = Limits(messages=60)  # the second batch is one too many
    with pytest.raises(OverQuota):
        cross(place, other, inbox, ALL, target.id)
    with pytest.raises(OverQuota):
        cross(place, other, inbox, ALL, target.id, move=True)
    assert other.usage().messages == other.mailboxes.find("Sent").messages == 0
    assert place.account.usage().messages == 70
    assert files(other) == 0


def test_nothing_is_seen_of_a_copy_before_its_end(place: AccountPlace, inbox: MailboxId, other: Account) -> None:
    """Files are written in slices, rows in one commit: who leaves in between has copied nothing."""
    target = other.mailboxes.find("Sent").id
    crossing = place.account.messages.crossing(other.messages, inbox, ALL, target, only=-1, move=True)
    assert crossing.go_on()
    assert (crossing.done, files(other), other.usage().messages) == (50, 50, 0)
    assert not crossing.go_on()
    assert (crossing.done, files(other), other.usage().messages) == (70, 70, 0)
    crossing.abandon()
    assert (files(other), other.usage().messages, place.account.usage().messages) == (0, 0, 70)


def test_what_a_process_left_that_died_in_a_copy_is_swept(
    place: AccountPlace, inbox: MailboxId, other: Account
) -> None:
    target = other.mailboxes.find("Sent").id
    assert place.account.messages.crossing(other.messages, inbox, ALL, target, only=-1, move=False).go_on()
    assert files(other) == 50
    folder = other.maildir.path / "new"
    for name in [*other.maildir.names("new")]:  # as if their writer had been another that lives no more
        (folder / name).rename(folder / f"{name.partition('.')[0]}.dead")
    assert sweep_account(other, place.incarnation).new == 50
    assert (files(other), other.usage().messages) == (0, 0)


def test_a_message_that_goes_meanwhile_ends_a_copy(place: AccountPlace, inbox: MailboxId, other: Account) -> None:
    target = other.mailboxes.find("Sent").id
    crossing = place.account.messages.crossing(other.messages, inbox, ALL, target, only=-1, move=False)
    assert crossing.go_on()
    place.account.messages.expunge(inbox, UidSet(((60, 60),)), only_deleted=False)
    with pytest.raises(Gone):
        crossing.go_on()
    crossing.abandon()
    assert (files(other), other.usage().messages) == (0, 0)


def test_what_a_copy_keeps_in_memory_has_a_limit(
    place: AccountPlace, inbox: MailboxId, other: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = other.mailboxes.find("Sent").id
    monkeypatch.setattr(exchange, "MOST_KEPT", 69 * exchange._EACH)
    with pytest.raises(LimitReached):
        cross(place, other, inbox, ALL, target)
    assert (files(other), other.usage().messages) == (0, 0)
    assert len(cross(place, other, inbox, UidSet(((1, 69),)), target).pairs) == 69


def test_a_move_takes_out_what_it_has_put_in(place: AccountPlace, inbox: MailboxId, other: Account) -> None:
    target = other.mailboxes.find("Sent").id
    moved = cross(place, other, inbox, UidSet(((3, 60),)), target, move=True)
    assert moved.pairs == [(uid, uid - 2) for uid in range(3, 61)]
    assert (place.account.usage().messages, other.usage().messages) == (12, 58)
    assert cross(place, other, inbox, UidSet(((3, 60),)), target, move=True).pairs == []


@pytest.mark.parametrize(
    ("only", "left"),
    [(-1, SEEN | FLAGGED | DELETED | KEYWORD), (SEEN, SEEN), (~(SEEN | DELETED), FLAGGED | KEYWORD), (0, 0)],
)
def test_only_some_flags_go_along(place: AccountPlace, inbox: MailboxId, other: Account, only: int, left: int) -> None:
    target = other.mailboxes.find("Sent").id
    cross(place, other, inbox, UidSet(((1, 1),)), target, only=only)
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

"""Annotations of mailboxes and of accounts: all or nothing, within limits, with their mailbox.

Standards: RFC 5464 §4.1, RFC 6154 §4.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import ACCOUNT, AccountPlace

from storage.errors import NotFound
from storage.mail.account import Account
from storage.mail.annotations import SERVER, SPECIAL_USE, AnnotationLimits, TooMany
from storage.values import AccountId, MailboxId

LIMITS = AnnotationLimits(entries=3, octets=4 * 1024)
OTHER = AccountId(8)


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    place = AccountPlace(tmp_path)
    yield place.account
    place.close()


def everything(account: Account, mailbox_id: MailboxId) -> dict[str, bytes]:
    names = account.annotations.sizes(ACCOUNT, mailbox_id)
    return account.annotations.values(ACCOUNT, mailbox_id, names)


def test_values_are_set_replaced_and_removed(account: Account) -> None:
    inbox, annotations = account.mailboxes.find("INBOX").id, account.annotations
    annotations.change(ACCOUNT, inbox, {"/private/comment": b"a\0b", "/shared/comment": b""}, LIMITS)
    annotations.change(ACCOUNT, SERVER, {"/private/comment": b"mine"}, LIMITS)
    assert everything(account, inbox) == {"/private/comment": b"a\0b", "/shared/comment": b""}
    assert annotations.sizes(ACCOUNT, inbox) == {"/private/comment": 3, "/shared/comment": 0}
    annotations.change(ACCOUNT, inbox, {"/private/comment": b"new", "/shared/comment": None, "/x/y": None}, LIMITS)
    assert everything(account, inbox) == {"/private/comment": b"new"}
    assert everything(account, SERVER) == {"/private/comment": b"mine"}
    annotations.change(OTHER, inbox, {"/private/comment": b"of another's"}, LIMITS)
    assert annotations.all() == [
        (ACCOUNT, SERVER, "/private/comment", b"mine"),
        (ACCOUNT, inbox, "/private/comment", b"new"),
        (OTHER, inbox, "/private/comment", b"of another's"),
    ]


def test_one_too_many_changes_nothing(account: Account) -> None:
    inbox, annotations = account.mailboxes.find("INBOX").id, account.annotations
    annotations.change(ACCOUNT, inbox, {"/private/a": b"1", "/private/b": b"2"}, LIMITS)
    for values in (
        {"/private/a": b"new", "/private/c": b"3", "/private/d": b"4"},  # too many
        {"/private/a": b"new", "/private/c": b"3" * 1024},  # too large together
    ):
        with pytest.raises(TooMany):
            annotations.change(ACCOUNT, inbox, values, LIMITS)
        assert everything(account, inbox) == {"/private/a": b"1", "/private/b": b"2"}
    annotations.change(ACCOUNT, inbox, {"/private/a": None, "/private/c": b"3", "/private/d": b"4"}, LIMITS)
    assert set(everything(account, inbox)) == {"/private/b", "/private/c", "/private/d"}
    # What is there already may be changed after the limits were lowered, and become smaller.
    annotations.change(ACCOUNT, inbox, {"/private/c": b""}, AnnotationLimits(1, 1))


def test_they_follow_a_mailbox_and_go_with_it(account: Account) -> None:
    made, annotations = account.mailboxes.create("Work"), account.annotations
    annotations.change(ACCOUNT, made.id, {"/shared/comment": b"x"}, LIMITS)
    account.mailboxes.rename("Work", "Work2")
    assert everything(account, account.mailboxes.find("Work2").id) == {"/shared/comment": b"x"}
    account.mailboxes.delete("Work2")
    assert annotations.all() == []
    assert everything(account, account.mailboxes.create("Work2").id) == {}


def test_those_of_inbox_stay_and_are_copied_when_it_is_renamed(account: Account) -> None:
    """RFC 5464 §4.1."""
    inbox = account.mailboxes.find("INBOX").id
    account.annotations.change(ACCOUNT, inbox, {"/shared/comment": b"x"}, LIMITS)
    account.mailboxes.rename("INBOX", "Old")
    assert everything(account, inbox) == everything(account, account.mailboxes.find("Old").id) != {}


def test_what_was_written_beside_anothers_mailbox_goes_some_time_after_it(account: Account) -> None:
    annotations = account.annotations
    for mailbox_id in (5, 6):
        annotations.change(OTHER, MailboxId(mailbox_id), {"/private/a": b"1"}, LIMITS)
    annotations.change(ACCOUNT, SERVER, {"/private/a": b"1"}, LIMITS)
    annotations.forget_others(OTHER, {MailboxId(5), MailboxId(7)})
    assert [(owner, mailbox_id) for owner, mailbox_id, *_ in annotations.all()] == [(ACCOUNT, SERVER), (OTHER, 5)]


def test_every_change_has_a_serial(account: Account) -> None:
    made, annotations = account.mailboxes.create("Work").id, account.annotations
    seen = [annotations.serial()]
    for values in ({"/private/a": b"1"}, {"/private/b": b"2"}, {"/private/a": None}, {"/private/b": b"2"}):
        annotations.change(ACCOUNT, made, values, LIMITS)
        seen.append(annotations.serial())
    account.mailboxes.delete("Work")
    seen.append(annotations.serial())
    assert seen == sorted(set(seen))
    assert {entry for _, _, entry in annotations.serials()} == {SPECIAL_USE}


def test_a_special_use_moves(account: Account) -> None:
    """RFC 6154 §4: no two mailboxes with the same, and all of it in one commit."""
    made, annotations = account.mailboxes.create("Verschickt"), account.annotations
    sent = account.mailboxes.find("Sent").id
    assert annotations.change(ACCOUNT, made.id, {}, LIMITS, ("\\Sent", "\\Archive")) == sorted(
        [sent, account.mailboxes.find("Archive").id]
    )
    assert account.mailboxes.find("Verschickt").special_use == ("\\Sent", "\\Archive")
    assert account.mailboxes.find("Sent").special_use == ()
    assert annotations.change(ACCOUNT, made.id, {}, LIMITS, ()) == []
    assert account.mailboxes.find("Verschickt").special_use == ()
    with pytest.raises(NotFound):
        annotations.change(ACCOUNT, MailboxId(999), {"/private/a": b"1"}, LIMITS, ("\\Sent",))
    assert annotations.sizes(ACCOUNT, MailboxId(999)) == {}

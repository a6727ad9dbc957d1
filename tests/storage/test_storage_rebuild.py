"""An account is made anew from its files alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import ACCOUNT, KEY, TENANT, AccountPlace

from storage.check import check_account
from storage.errors import Unavailable
from storage.mail.account import DATABASE
from storage.mail.annotations import SERVER, AnnotationLimits
from storage.mail.messages import NewMessage
from storage.rebuild import Rebuilt, rebuild_account
from storage.values import FLAGGED, SEEN, UID_MAX, AccountId, MailboxId

Found = dict[str, list[tuple[bytes, int, tuple[int, int], tuple[str, ...]]]]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path / "data")
    yield place
    place.close()


def fill(place: AccountPlace) -> None:
    account = place.account
    account.mailboxes.create("Work/2024")
    for number in range(12):
        mailbox = account.mailboxes.find("INBOX" if number % 3 else "Work/2024")
        new = NewMessage(
            b"Subject: %d\r\n\r\nbody %d\r\n" % (number, number),
            flags=SEEN if number % 2 else FLAGGED,
            keywords=("Travail",) if number == 4 else (),
            internal_date=1000 + number,
            prefix=b"Delivered-To: x\r\n" if number == 5 else b"",
            delivery_id=f"queue:{number}",
            internal_zone=number * 60 - 300,
        )
        account.messages.append_many(mailbox.id, [new])


def contents(place: AccountPlace) -> Found:
    """Everything that a file knows, by mailbox."""
    found: Found = {}
    account = place.account
    for mailbox in account.mailboxes.list():
        names = account.mailboxes.keywords(mailbox.id)
        columns = ("message_id", "file", "flags", "internal_date", "internal_zone")
        for message_id, file, flags, *date in account.messages.fetch_rows(mailbox.id, 1, UID_MAX, columns):
            words = tuple(name for bit, name in names.items() if flags >> bit & 1)
            octets = account.messages.read(message_id, file)
            found.setdefault(mailbox.name, []).append((octets, flags & 0xFF, (date[0], date[1]), words))
    return found


def rebuild(place: AccountPlace) -> Rebuilt:
    place.account.close()
    rebuilt = rebuild_account(place.root, TENANT, ACCOUNT, KEY, place.surroundings)
    place.open()
    return rebuilt


@pytest.mark.parametrize("damage", ["lost", "damaged", "whole"])
def test_an_account_comes_back_from_its_files(place: AccountPlace, damage: str) -> None:
    fill(place)
    before = contents(place)
    uidvalidities = {mailbox.uidvalidity for mailbox in place.account.mailboxes.list()}
    ids = {mailbox.id for mailbox in place.account.mailboxes.list()}
    place.account.close()
    database = place.root / DATABASE
    if damage == "lost":
        for path in place.root.glob(DATABASE + "*"):
            path.unlink()
    elif damage == "damaged":
        octets = bytearray(database.read_bytes())
        octets[:100] = bytes(100)
        database.write_bytes(octets)
    place.clock.advance(3600)
    assert rebuild(place) == Rebuilt(messages=12, mailboxes=8, annotations_read=damage == "whole")
    assert contents(place) == before
    assert list(check_account(place.account, place.incarnation, contents=True)) == []
    # RFC 9051 §2.3.1.1: UIDs are new, so no UIDVALIDITY may be an old one.
    assert not uidvalidities & {mailbox.uidvalidity for mailbox in place.account.mailboxes.list()}
    # Annotations of others name a mailbox by its id; they must not stand beside another one now.
    assert not ids & {mailbox.id for mailbox in place.account.mailboxes.list()}
    assert (database.with_name(DATABASE + ".replaced").exists()) == (damage != "lost")


@pytest.mark.parametrize("damage", ["whole", "lost", "torn"])
def test_annotations_follow_their_mailboxes_by_name(place: AccountPlace, damage: str) -> None:
    """RFC 5464 §3: rows only, so they come from the old database, if that can be read."""
    fill(place)
    account, limits = place.account, AnnotationLimits(100, 1 << 20)
    work, empty = account.mailboxes.find("Work/2024").id, account.mailboxes.create("Empty").id
    others = (AccountId(ACCOUNT + 1), MailboxId(77))
    for owner, mailbox, value in ((ACCOUNT, SERVER, b"all"), (ACCOUNT, work, b"red"), (*others, b"theirs")):
        account.annotations.change(owner, mailbox, {"/private/color": value, "/private/gone": None}, limits)
    account.annotations.change(ACCOUNT, empty, {"/shared/comment": b"\0\xff"}, limits)
    account.mailboxes.create("Before")  # so that ids differ afterwards
    account.close()
    if damage == "lost":
        for path in place.root.glob(DATABASE + "*"):
            path.unlink()
    elif damage == "torn":
        (place.root / DATABASE).write_bytes((place.root / DATABASE).read_bytes()[:8192])
    rebuilt = rebuild_account(place.root, TENANT, ACCOUNT, KEY, place.surroundings)
    place.open()
    account = place.account
    assert rebuilt.annotations_read == (damage == "whole")
    if damage == "whole":
        assert (rebuilt.annotations, rebuilt.annotations_left_out) == (3, 1)
        work = account.mailboxes.find("Work/2024").id
        assert account.annotations.all() == [
            (ACCOUNT, SERVER, "/private/color", b"all"),
            (ACCOUNT, work, "/private/color", b"red"),
            (*others, "/private/color", b"theirs"),
        ]
    assert not list(check_account(account, place.incarnation))


def test_a_rebuilt_account_goes_on(place: AccountPlace) -> None:
    fill(place)
    rebuild(place)
    account = place.account
    inbox = account.mailboxes.find("INBOX")
    appended = account.messages.append(inbox.id, b"Subject: new\r\n\r\n")
    assert appended.message_id > 12
    assert account.messages.delivered(["queue:3", "queue:none"]) == {"queue:3"}
    while account.index.work():
        pass
    assert list(check_account(account, place.incarnation, contents=True)) == []
    assert rebuild(place).messages == 13


def test_a_file_that_does_not_verify_is_named_and_left(place: AccountPlace) -> None:
    fill(place)
    name = min(place.account.maildir.names("cur"))
    path = place.account.maildir.path / "cur" / name
    path.write_bytes(path.read_bytes()[:-1])
    rebuilt = rebuild(place)
    assert (rebuilt.messages, rebuilt.unreadable) == (11, [name])
    assert path.exists()


def test_an_account_that_is_open_is_not_rebuilt(place: AccountPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.rebuild._PATIENCE", 0.05)
    fill(place)
    with pytest.raises(Unavailable):
        rebuild_account(place.root, TENANT, ACCOUNT, KEY, place.surroundings)
    assert len(contents(place)["INBOX"]) == 8


def test_a_rebuild_that_was_interrupted_begins_again(place: AccountPlace) -> None:
    fill(place)
    place.account.close()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild_account(place.root, TENANT, ACCOUNT, KEY, place.surroundings, progress=interrupt)
    place.open()
    assert len(contents(place)["INBOX"]) == 8  # nothing has changed
    assert rebuild(place).messages == 12
    assert not (place.root / "rebuilding").exists()

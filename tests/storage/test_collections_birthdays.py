"""The calendar of birthdays says what the cards say, whatever becomes of them, and is its owner's to have or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import AccountPlace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.collections.birthdays import NAMES, SOURCE
from storage.collections.values import Collection, CollectionId, Kind, NewCollection
from storage.errors import NotPermitted
from storage.icalendar.content import calendar_content
from storage.mail.account import Account
from storage.vcard.content import card_content


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    place = AccountPlace(tmp_path)
    yield place.account
    place.close()


def card(uid: str, *lines: str, name: str = "Ada") -> bytes:
    return "\r\n".join(
        ["BEGIN:VCARD", "VERSION:3.0", f"UID:{uid}", f"FN:{name}", f"N:{name};;;;", *lines, "END:VCARD", ""]
    ).encode()


def book(account: Account) -> CollectionId:
    return account.collections.find(Kind.ADDRESS_BOOK, "contacts").id


def put(account: Account, uid: str, *lines: str, where: CollectionId | None = None, name: str = "Ada") -> None:
    account.objects.put(where or book(account), f"{uid}.vcf", card_content(card(uid, *lines, name=name)))


def calendar(account: Account) -> Collection | None:
    found = [each for each in account.collections.list(Kind.CALENDAR) if each.source == SOURCE]
    assert len(found) < 2
    return found[0] if found else None


def shown(account: Account) -> dict[str, str]:
    """SUMMARY and ETag of what is in it."""
    found = calendar(account)
    if found is None:
        return {}
    objects = account.objects.read_many(account.objects.list(found.id))
    return {data.decode().split("SUMMARY:")[1].split("\r\n")[0]: stored.etag for stored, data in objects}


def test_it_is_made_with_the_first_and_follows_the_cards(account: Account) -> None:
    put(account, "a")
    assert calendar(account) is None
    before = account.usage().bytes
    put(account, "a", "BDAY:1990-05-17", "NOTE:x")
    found = calendar(account)
    assert found is not None and found.is_read_only and found.transparent and found.name == NAMES[0]
    first = shown(account)
    assert list(first) == ["Birthday: Ada (1990)"]
    assert account.usage().bytes < before + 100  # the calendar is not charged
    put(account, "a", "BDAY:1990-05-17", "NOTE:another")
    assert shown(account) == first
    put(account, "a", "BDAY:1990-05-18", "ANNIVERSARY:2015-06-20", name="Eve")
    assert set(shown(account)) == {"Birthday: Eve (1990)", "Anniversary: Eve (2015)"}
    put(account, "a", "ANNIVERSARY:2015-06-20", name="Eve")
    assert set(shown(account)) == {"Anniversary: Eve (2015)"}
    account.objects.delete(book(account), "a.vcf")
    assert shown(account) == {}
    with pytest.raises(NotPermitted):
        account.objects.put(found.id, "x.ics", calendar_content(event("x")))


def event(uid: str) -> bytes:
    return (
        f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//x//EN\r\nBEGIN:VEVENT\r\nUID:{uid}\r\n"
        "DTSTAMP:20260101T000000Z\r\nDTSTART:20260101T000000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    ).encode()


@pytest.mark.parametrize(
    "said", ["19990229", "--0229", "1990-02-30", "yesterday", "00000000", "1604-05-17", "9999-12-31", "\x7f", "5-5"]
)
def test_no_card_is_refused_because_of_its_birthday(account: Account, said: str) -> None:
    put(account, "a", f"BDAY:{said}")
    assert len(shown(account)) <= 1


def test_cards_that_move_and_books_that_go(account: Account) -> None:
    other = account.collections.create(NewCollection(Kind.ADDRESS_BOOK, "other"))
    put(account, "a", "BDAY:1990-05-17")
    stored = account.objects.find(book(account), "a.vcf")
    before = shown(account)
    account.transfers.move(stored, other.id, "moved.vcf")
    assert shown(account) == before
    put(account, "a", "BDAY:1990-05-17")  # the same person in both
    account.collections.delete(other.id)
    account.background.settle(account.account_id)
    assert shown(account) == before
    account.objects.delete(book(account), "a.vcf")
    assert shown(account) == {}


def test_whoever_deletes_it_does_not_want_it(account: Account) -> None:
    put(account, "a", "BDAY:1990-05-17")
    found = calendar(account)
    assert found is not None and account.birthdays.are_shown
    account.collections.delete(found.id)
    put(account, "b", "BDAY:1991-05-17", name="Bea")
    assert calendar(account) is None and account.birthdays.mend() == 0 and not account.birthdays.are_shown
    account.birthdays.show()
    assert set(shown(account)) == {"Birthday: Ada (1990)", "Birthday: Bea (1991)"}
    account.birthdays.hide()
    assert calendar(account) is None


def test_a_name_that_is_taken(account: Account) -> None:
    account.collections.create(NewCollection(Kind.CALENDAR, NAMES[0]))
    put(account, "a", "BDAY:1990-05-17")
    found = calendar(account)
    assert found is not None and found.name == NAMES[1]


def test_mending(account: Account) -> None:
    put(account, "a", "BDAY:1990-05-17")
    put(account, "b", "BDAY:1991-05-17", name="Bea")
    right = shown(account)
    found = calendar(account)
    assert found is not None and account.birthdays.mend() == 0
    names = [each.name for each in account.objects.list(found.id)]
    account.objects.delete(found.id, names[0], by_server=True)
    account.objects.put(
        found.id,
        "stray.ics",
        calendar_content(event("stray").replace(b"END:VEVENT", b"SUMMARY:x\r\nEND:VEVENT")),
        by_server=True,
    )
    assert account.birthdays.mend() == 2
    assert shown(account) == right and account.birthdays.mend() == 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["", "1990-05-17", "--06-20"]), st.booleans()), max_size=12
    )
)
def test_after_any_changes_there_is_nothing_to_mend(account: Account, changes: list[tuple[str, str, bool]]) -> None:
    for uid, day, goes in changes:
        there = account.objects.find_many(book(account), [f"{uid}.vcf"])
        if goes and there:
            account.objects.delete(book(account), f"{uid}.vcf")
        else:
            put(account, uid, *([f"BDAY:{day}"] if day else []), name=uid)
    assert account.birthdays.mend() == 0
    days = sum(b"BDAY" in data for _, data in account.objects.read_many(account.objects.list(book(account))))
    assert len(shown(account)) == days

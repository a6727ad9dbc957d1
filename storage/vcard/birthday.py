"""Birthdays and anniversaries of a card, and the events that a calendar shows of them.

An event depends on its card alone: the same card gives the same octets, so that a calendar made anew has the same
ETags. Facts come from BDAY, ANNIVERSARY and what Apple, Evolution and others write for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum

from storage.icalendar.contentlines import Component, Property, escaped, write
from storage.vcard.card import Card
from storage.vcard.dates import read_date
from storage.vcard.labels import Labels

_NAMESPACE = uuid.UUID("7d2f4c0e-8f0a-5a51-9d0b-6b0f6a1f3c52")  # of the UIDs of these events
_WITHOUT_YEAR = 1972  # when events of days without a year begin: a leap year
_YEARS = range(1800, 3000)  # what a year of birth may be
_ANNIVERSARIES = ("ANNIVERSARY", "X-ANNIVERSARY", "X-EVOLUTION-ANNIVERSARY")


class Occasion(StrEnum):
    BIRTHDAY = "birthday"
    ANNIVERSARY = "anniversary"


@dataclass(frozen=True, slots=True)
class Anniversary:
    """A day that comes back every year."""

    card_uid: str = field(repr=False)
    name: str = field(repr=False)
    occasion: Occasion
    month: int
    day: int
    year: int | None  # None: nobody said

    @property
    def uid(self) -> str:
        """The UID of its event: the same for the same card and occasion."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.occasion}\0{self.card_uid}"))


def anniversaries(card: Card) -> list[Anniversary]:
    """The days of a card that come back every year, at most one of each occasion; none of one without name or UID."""
    uid, name = card.uid, card.display_name
    if not uid or not name:
        return []
    found: dict[Occasion, Anniversary] = {}
    for occasion, one in _candidates(card):
        if occasion in found or (one.parameter("VALUE") or "").lower() == "text":
            continue
        said = read_date(one.value, one.parameter("X-APPLE-OMIT-YEAR") or "")
        if said is not None and said.month is not None and said.day is not None:
            found[occasion] = Anniversary(uid, name, occasion, said.month, said.day, said.year)
    return list(found.values())


def _candidates(card: Card) -> Iterator[tuple[Occasion, Property]]:
    labels: Labels | None = None
    for one in card.properties:
        if one.name == "BDAY":
            yield Occasion.BIRTHDAY, one
        elif one.name in _ANNIVERSARIES:
            yield Occasion.ANNIVERSARY, one
        elif one.name == "X-ABDATE":
            labels = labels or Labels(card)
            if labels.of(one).lower() == "anniversary":
                yield Occasion.ANNIVERSARY, one


def anniversary_event(one: Anniversary, stamp: str = "19700101T000000Z") -> bytes:
    """An all-day event that comes back every year. `stamp` is its DTSTAMP."""
    year = one.year if one.year in _YEARS else _WITHOUT_YEAR
    assert year is not None
    rule = "FREQ=YEARLY"
    if (one.month, one.day) == (2, 29):  # in other years on the last day of February
        rule = "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=-1"
    first = date(year, one.month, one.day)
    what = "Birthday" if one.occasion is Occasion.BIRTHDAY else "Anniversary"
    summary = f"{what}: {one.name}" + (f" ({year})" if year == one.year else "")
    event = Component(
        "VEVENT",
        [
            Property("UID", one.uid),
            Property("DTSTAMP", stamp),
            Property("DTSTART", f"{first:%Y%m%d}", [("VALUE", ("DATE",))]),
            Property("DTEND", f"{first + timedelta(days=1):%Y%m%d}", [("VALUE", ("DATE",))]),
            Property("RRULE", rule),
            Property("SUMMARY", escaped(summary)),
            Property("CATEGORIES", what),
            Property("TRANSP", "TRANSPARENT"),
        ],
    )
    return write(
        Component("VCALENDAR", [Property("VERSION", "2.0"), Property("PRODID", "-//Cleanmail//Birthdays//EN")], [event])
    )

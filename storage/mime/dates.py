"""Dates of mail: what the Date field says, as Unix seconds and as the day that was written.

Tolerant: the day of the week is ignored, two-digit years, missing seconds, named zones and missing zones are taken,
ISO 8601 too. A date that does not exist (30 February) or that no clock can have meant (year above 9999) is no date.

For order (SORT, THREAD, SENTON) only a date counts that follows the grammar of RFC 5322, obsolete forms included: of
all others RFC 5256 §2.2 takes the time of arrival, and so do other servers.

Never fails; looks at the first `OCTETS_MAX` octets only.
Standards: RFC 5322 §3.3 and §4.3, RFC 9051 §6.4.4 (SENTON disregards time and zone), RFC 5256 §2.2 (sent date in
UTC).
"""

from __future__ import annotations

import re
from datetime import date
from typing import NamedTuple

OCTETS_MAX = 200

_EPOCH = date(1970, 1, 1).toordinal()
_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"), start=1
    )
}
# RFC 5322 §4.3; the military letters were defined wrongly and mean nothing.
_ZONES = {
    **{b"ut": 0, b"gmt": 0, b"utc": 0},
    **{b"est": -5, b"edt": -4, b"cst": -6, b"cdt": -5, b"mst": -7, b"mdt": -6, b"pst": -8, b"pdt": -7},
    **{b"cet": 1, b"cest": 2, b"met": 1, b"mest": 2, b"bst": 1, b"jst": 9, b"msk": 3},  # not there, and frequent
}

_CLOCK = rb"(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2})(?:[.,]\d+)?)?\s*"
_ZONE = rb"(?:(?:GMT|UTC?)(?=[+-]))?([+-]\d{1,2}:?\d{2}|[A-Za-z]{1,5})?"  # "GMT+0200" occurs
_MAIL = re.compile(
    rb"\s*(?:[A-Za-z]{2,9}[,.]?\s*)?(\d{1,2})[\s-]+([A-Za-z]{3})[a-z]*\.?,?[\s-]+(\d{2,4}),?(?:\s+"
    + _CLOCK
    + _ZONE
    + rb")?"
)
_C_LIBRARY = re.compile(  # ctime(): Thu Jan  1 00:00:00 1970, with or without a zone before the year
    rb"\s*[A-Za-z]{3,9},?\s+([A-Za-z]{3})[a-z]*\s+(\d{1,2}),?\s+" + _CLOCK + rb"([A-Za-z]{1,5}|[+-]\d{4})?\s*(\d{4})"
)
_ISO = re.compile(rb"\s*(\d{4})-(\d{2})-(\d{2})(?:[T ]" + _CLOCK + _ZONE + rb")?")
_GRAMMAR = re.compile(  # of a date in mail, as far as its numbers go; years before 1900 are none (RFC 5322 §3.3)
    rb"\s*(?:[A-Za-z]{3}\s*,\s*)?\d{1,2}\s+[A-Za-z]{3,9}\s+(?:\d{2}|19\d{2}|[2-9]\d{3})\s+\d{1,2}\s*[:.]\s*\d{2}"
    rb"(?:\s*[:.]\s*\d{2}(?!\d)|(?!\s*[:.]|\d))"
)
_COMMENT = re.compile(rb"\([^()]*\)")


class SentDate(NamedTuple):
    """`seconds` since 1970 in UTC; `local_day` since 1970-01-01, the calendar day as the sender wrote it."""

    seconds: int
    local_day: int


def parse_date(value: bytes) -> SentDate | None:
    """What a Date field's value says, or None when it is no date."""
    value = value[:OCTETS_MAX]
    if b"(" in value:
        value = _COMMENT.sub(b" ", value)
    if match := _MAIL.match(value):
        day, month, year, hour, minute, second, zone = match.groups()
    elif match := _C_LIBRARY.match(value):
        month, day, hour, minute, second, zone, year = match.groups()
    elif match := _ISO.match(value):
        year, month, day, hour, minute, second, zone = match.groups()
    else:
        return None
    month_number = int(month) if month.isdigit() else _MONTHS.get(month.lower(), 0)
    try:
        local_day = date(_full_year(year), month_number, int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if hours > 24 or minutes > 59 or seconds > 60:  # 60 is a leap second
        return None
    return SentDate(local_day * 86400 + hours * 3600 + minutes * 60 + seconds - _offset(zone), local_day)


def sent_date(value: bytes) -> SentDate | None:
    """The date by which messages are ordered; None where the time of arrival counts instead (RFC 5256 §2.2)."""
    value = _COMMENT.sub(b" ", value[:OCTETS_MAX])
    return parse_date(value) if _GRAMMAR.match(value) else None


def _full_year(year: bytes) -> int:
    """RFC 5322 §4.3: 0 to 49 are 2000 to 2049, 50 to 999 count from 1900 (also where zeros stand before: "0102")."""
    number = int(year)
    if number < 1000:
        return number + (2000 if number < 50 else 1900)
    return number


def _offset(zone: bytes | None) -> int:
    """Seconds east of Greenwich; 0 for a zone that says nothing."""
    if not zone:
        return 0
    if zone[0] in b"+-":
        digits = zone[1:].replace(b":", b"").rjust(4, b"0")
        hours, minutes = int(digits[:2]), int(digits[2:])
        if hours > 23 or minutes > 59:
            return 0
        seconds = hours * 3600 + minutes * 60
        return seconds if zone[0] == 0x2B else -seconds
    return _ZONES.get(zone.lower(), 0) * 3600

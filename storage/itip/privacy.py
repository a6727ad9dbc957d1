"""What others see of a calendar object that its owner calls private: that he is busy, and when. Pure.

Standards: RFC 5545 §3.8.1.3 (CLASS).
"""

from __future__ import annotations

from storage.itip.draft import Line, Part, read

_PRIVATE = frozenset({"PRIVATE", "CONFIDENTIAL"})
_KINDS = frozenset({"VEVENT", "VTODO", "VJOURNAL"})
_SEEN = frozenset(
    {
        *("UID", "DTSTAMP", "CREATED", "LAST-MODIFIED", "SEQUENCE", "CLASS", "STATUS", "TRANSP"),
        *("DTSTART", "DTEND", "DUE", "DURATION", "RECURRENCE-ID", "RRULE", "RDATE", "EXDATE", "EXRULE"),
    }
)


def as_seen_by_others(data: bytes) -> bytes:
    """`data` with nothing but the times of its private components; the same octets if it has none.

    A CLASS that nobody knows counts as private, as RFC 5545 has it. Raises Violated for what is no calendar object.
    """
    calendar = read(data)
    series = any(_is_private(part) for part in calendar.parts(*_KINDS) if part.line("RECURRENCE-ID") is None)
    changed = False
    for part in calendar.parts(*_KINDS):
        # An instance that says nothing is as private as its series.
        if _is_private(part) or (series and part.line("CLASS") is None):
            _hide(part)
            changed = True
    if changed:
        calendar.items = [item for item in calendar.items if item.name in _KEPT]
    return bytes(calendar) if changed else data


def as_seen_by_anybody(data: bytes) -> bytes:
    """Beside, nobody is told who else takes part, nor when its owner is reminded: for what is public."""
    calendar = read(as_seen_by_others(data))
    for part in calendar.parts(*_KINDS):
        part.items = [item for item in part.items if item.name not in _OF_OTHERS and not _is_extension(item)]
    calendar.items = [item for item in calendar.items if item.name in _KEPT]
    return bytes(calendar)


_OF_OTHERS = frozenset(
    {
        "ATTENDEE",
        "ORGANIZER",
        "CONTACT",
        "COMMENT",
        "REQUEST-STATUS",
        "VALARM",
        "PARTICIPANT",
        "VLOCATION",
        "CONFERENCE",
    }
)


def _is_extension(item: Line | Part) -> bool:
    return item.name.startswith("X-")


_KEPT = frozenset({"VERSION", "PRODID", "CALSCALE", "METHOD", "VTIMEZONE", *_KINDS})


def _is_private(part: Part) -> bool:
    value = part.value("CLASS", "PUBLIC").strip().upper()
    return value in _PRIVATE or value != "PUBLIC"


def _hide(part: Part) -> None:
    kept: list[Line | Part] = [item for item in part.items if isinstance(item, Line) and item.name in _SEEN]
    part.items = [*kept, Line.of("SUMMARY", "Busy")]

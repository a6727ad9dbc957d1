"""A calendar object's octets as what may be stored: checked, with what its row and the index of times keep.

Raises: Violated with the name of the precondition (RFC 4791 §5.3.2.1).
"""

from __future__ import annotations

from storage.collections.conditions import Violated
from storage.collections.values import Content
from storage.icalendar.checked import CalendarObject, checked
from storage.icalendar.instances import times_of
from storage.icalendar.limits import CALENDAR_LIMITS, CalendarLimits
from storage.icalendar.recurrence import count_instances
from storage.icalendar.rules import TooMuch

CONTENT_TYPE = "text/calendar; charset=utf-8"


def calendar_content(data: bytes, limits: CalendarLimits = CALENDAR_LIMITS) -> Content:
    """The body of a PUT into a calendar."""
    return content_of(checked(data, limits))


def content_of(found: CalendarObject) -> Content:
    """Of an object that is read already."""
    try:
        count_instances(found)
        times = times_of(found)
    except TooMuch as error:
        raise Violated("max-instances", error.public) from error
    return Content(found.data, CONTENT_TYPE, found.uid, found.component, times, found.is_scheduling)

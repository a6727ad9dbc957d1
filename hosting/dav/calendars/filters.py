"""CALDAV:filter as it stands in a request, read into the values of storage.icalendar.filter (RFC 4791 §9.7, §9.9).

What the grammar does not allow is refused rather than guessed at: a client that means one thing and gets another
deletes events. A name that nobody knows is allowed and matches nothing.

Raises: Violated (valid-filter, supported-collation).
"""

from __future__ import annotations

from datetime import UTC, datetime

from hosting.dav.names import caldav
from hosting.dav.xml import Element
from storage.collections.conditions import Namespace, Violated
from storage.icalendar.filter import Filter, ParamFilter, PropFilter, TimeRange
from storage.icalendar.textmatch import Collation, MatchType, TextMatch

_COMP, _PROP, _PARAM = caldav("comp-filter"), caldav("prop-filter"), caldav("param-filter")
_RANGE, _TEXT, _UNDEFINED = caldav("time-range"), caldav("text-match"), caldav("is-not-defined")
_DEFINED = caldav("is-defined")  # of drafts; old clients still say it, and it adds nothing

_CONDITIONS_MAX = 100  # of one filter, each of which may be asked of every object
_TEXT_MAX = 4096  # characters that are looked for
_LEVELS = 4  # VCALENDAR, VEVENT, VALARM; one more for what others may invent

# Where a component may stand: a filter that looks for it elsewhere is a mistake (RFC 5545 §3.6).
_INSIDE = {
    "VALARM": frozenset({"VEVENT", "VTODO"}),
    "STANDARD": frozenset({"VTIMEZONE"}),
    "DAYLIGHT": frozenset({"VTIMEZONE"}),
    "AVAILABLE": frozenset({"VAVAILABILITY"}),
    "VEVENT": frozenset({"VCALENDAR"}),
    "VTODO": frozenset({"VCALENDAR"}),
    "VJOURNAL": frozenset({"VCALENDAR"}),
    "VFREEBUSY": frozenset({"VCALENDAR"}),
    "VAVAILABILITY": frozenset({"VCALENDAR"}),
    "VTIMEZONE": frozenset({"VCALENDAR"}),
    "VCALENDAR": frozenset({""}),
}
_TIMELESS = frozenset({"VCALENDAR", "VTIMEZONE", "STANDARD", "DAYLIGHT"})  # take no time-range (RFC 4791 §9.9)


def refused(why: str) -> Violated:
    return Violated("valid-filter", why)


def read_filter(element: Element) -> Filter:
    """The filter of a calendar-query: exactly one comp-filter, of VCALENDAR."""
    if len(element.children) != 1 or element.children[0].name != _COMP:
        raise refused("A filter holds exactly one comp-filter.")
    return _Filters().component(element.children[0], within="", level=1)


def read_time_range(element: Element) -> TimeRange:
    """`start` and `end` in UTC; one of them may be missing (RFC 4791 §9.9)."""
    start, end = _instant(element, "start"), _instant(element, "end")
    if start is None and end is None:
        raise refused("A time-range needs a start or an end.")
    if start is not None and end is not None and end <= start:
        raise refused("A time-range ends after it begins.")
    return TimeRange(start, end)


def _instant(element: Element, name: str) -> int | None:
    value = element.attributes.get(name)
    if value is None:
        return None
    try:
        moment = datetime.strptime(value, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise refused("A time-range is given in UTC, as in 20260101T000000Z.") from None
    return int(moment.timestamp())


def read_text_match(element: Element, namespace: Namespace, *, default: MatchType = MatchType.CONTAINS) -> TextMatch:
    """A text-match of either protocol. Raises Violated of that protocol's namespace."""
    collation = Collation.named(element.attributes.get("collation", ""), namespace)
    try:
        match_type = MatchType(element.attributes.get("match-type", default))
    except ValueError:
        raise _text_refused("A match-type is unknown.", namespace) from None
    negate = element.attributes.get("negate-condition", "no")
    if negate not in ("yes", "no") or element.children or len(element.text) > _TEXT_MAX:
        raise _text_refused("A text-match is not valid.", namespace)
    return TextMatch(element.text, collation, match_type, negate == "yes")


def _is_any_of(element: Element) -> bool:
    """Apple's `test`, as RFC 6352 §10.5 has it; without it all conditions hold."""
    test = element.attributes.get("test", "allof")
    if test not in ("anyof", "allof"):
        raise refused("A test is anyof or allof.")
    return test == "anyof"


def _text_refused(why: str, namespace: Namespace) -> Violated:
    # CardDAV's is supported-filter (RFC 6352 §8.6): there is no other there.
    return Violated("valid-filter" if namespace is Namespace.CALDAV else "supported-filter", why, namespace)


class _Filters:
    """Counts conditions while it reads. Recursion ends at `_LEVELS`."""

    def __init__(self) -> None:
        self._conditions = 0

    def component(self, element: Element, within: str, level: int) -> Filter:
        name = self._name(element)
        allowed = _INSIDE.get(name)
        if level > _LEVELS or (allowed is not None and within not in allowed) or (level == 1 and name != "VCALENDAR"):
            raise refused("A component is looked for where it cannot be.")
        if self._is_undefined(element):
            if level == 1:
                raise refused("Every object has a VCALENDAR.")
            return Filter(name, is_not_defined=True)
        ranges: list[TimeRange] = []
        properties: list[PropFilter] = []
        components: list[Filter] = []
        for child in element:
            if child.name == _RANGE and name not in _TIMELESS and not ranges:
                ranges.append(read_time_range(child))
            elif child.name == _PROP:
                properties.append(self._property(child))
            elif child.name == _COMP:
                components.append(self.component(child, name, level + 1))
            elif child.name != _DEFINED:
                raise refused("A comp-filter holds what it may not.")
        return Filter(
            name, False, ranges[0] if ranges else None, tuple(properties), tuple(components), _is_any_of(element)
        )

    def _property(self, element: Element) -> PropFilter:
        name = self._name(element)
        if self._is_undefined(element):
            return PropFilter(name, is_not_defined=True)
        ranges: list[TimeRange] = []
        texts: list[TextMatch] = []
        parameters: list[ParamFilter] = []
        for child in element:
            if child.name == _RANGE and not ranges and not texts:
                ranges.append(read_time_range(child))
            elif child.name == _TEXT and not ranges and not texts:
                texts.append(read_text_match(child, Namespace.CALDAV))
            elif child.name == _PARAM:
                parameters.append(self._parameter(child))
            elif child.name != _DEFINED:
                raise refused("A prop-filter holds what it may not.")
        return PropFilter(
            name,
            False,
            ranges[0] if ranges else None,
            texts[0] if texts else None,
            tuple(parameters),
            _is_any_of(element),
        )

    def _parameter(self, element: Element) -> ParamFilter:
        name = self._name(element)
        if self._is_undefined(element):
            return ParamFilter(name, is_not_defined=True)
        if not element.children:
            return ParamFilter(name)
        if len(element.children) != 1 or element.children[0].name != _TEXT:
            raise refused("A param-filter holds what it may not.")
        return ParamFilter(name, read_text_match(element.children[0], Namespace.CALDAV))

    def _name(self, element: Element) -> str:
        self._conditions += 1
        if self._conditions > _CONDITIONS_MAX:
            raise refused("The filter has more conditions than this server takes.")
        name = element.attributes.get("name", "")
        if not name:
            raise refused("A filter does not say a name.")
        return name.upper()

    @staticmethod
    def _is_undefined(element: Element) -> bool:
        if element.find(_UNDEFINED) is None:
            return False
        if len(element.children) != 1:
            raise refused("is-not-defined stands alone.")
        return True

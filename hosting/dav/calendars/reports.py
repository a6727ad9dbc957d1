"""calendar-query, calendar-multiget and free-busy-query (RFC 4791 §7.8 to §7.10).

A query with a time-range is answered by the index of times; octets are read where the index cannot decide, where
something else is asked of an object, or where its data are wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hosting.dav.calendars.data import part_asked
from hosting.dav.calendars.filters import read_filter, read_time_range
from hosting.dav.calendars.principals import addresses_of
from hosting.dav.calendars.zones import zone_asked, zone_of_calendar
from hosting.dav.contents import Contents, Part, cut, hrefs_of, scope
from hosting.dav.context import Context
from hosting.dav.errors import Refused
from hosting.dav.multistatus import Multistatus, Wanted, answer, wanted_in
from hosting.dav.names import caldav
from hosting.dav.private import shown
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry, Report
from hosting.dav.request import DavResponse
from hosting.dav.resources import Resource, ResourceType
from hosting.dav.xml import Element
from storage.collections.conditions import Violated
from storage.collections.values import ENDLESS, Stored, Times
from storage.errors import InvalidInput
from storage.icalendar.checked import CalendarObject, parsed
from storage.icalendar.filter import Candidates, Filter, certain, matches, may_match, prefilter, validated
from storage.icalendar.freebusy import Busy, freebusy, together, written_freebusy
from storage.icalendar.instances import BEGINNING, overlapping
from storage.icalendar.textmatch import Collation, TextMatch
from storage.icalendar.values import Zone

CALENDAR_DATA = caldav("calendar-data")

_TYPES = frozenset(
    {
        ResourceType.CALENDAR,
        ResourceType.EVENT,
        ResourceType.CALENDAR_HOME,
        ResourceType.INBOX,
        ResourceType.INBOX_ITEM,
        ResourceType.OUTBOX,
    }
)
_EVERYTHING = Filter("VCALENDAR")
_WITH_FREE_BUSY = frozenset({ResourceType.CALENDAR, ResourceType.CALENDAR_HOME})


class CalendarReports:
    def __init__(self, registry: Registry) -> None:
        self._contents = Contents(Multistatus(registry), CALENDAR_DATA)

    def register(self, registry: Registry) -> None:
        registry.report(
            Report(caldav("calendar-query"), _TYPES, self._query),
            Report(caldav("calendar-multiget"), _TYPES, self._multiget),
            Report(caldav("free-busy-query"), _WITH_FREE_BUSY, self._free_busy),
        )

    def _multiget(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        context.require(resource, Reach.READ)
        wanted = wanted_in(context, body)
        part = part_asked(context, wanted.elements.get(CALENDAR_DATA), zone_of_calendar(resource))
        return answer(context, self._contents.multiget(context, resource, hrefs_of(body), wanted, part))

    def _query(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        context.require(resource, Reach.READ)
        wanted = wanted_in(context, body)
        element = body.find(caldav("filter"))
        if element is None:
            raise Violated("valid-filter", "A calendar-query has a filter.")
        filter_, zone = validated(read_filter(element)), zone_asked(body, resource)
        part = part_asked(context, wanted.elements.get(CALENDAR_DATA), zone)
        return answer(context, self._found(context, resource, wanted, part, filter_, zone))

    def _found(
        self, context: Context, resource: Resource, wanted: Wanted, part: Part | None, filter_: Filter, zone: Zone
    ) -> Iterator[bytes]:
        left = context.services.limits.report_results
        for calendar, only in scope(context, resource):
            for response in self._matching(context, calendar, only, wanted, part, filter_, zone):
                if left == 0:
                    yield cut(resource)
                    return
                left -= 1
                yield response

    def _matching(
        self,
        context: Context,
        calendar: Resource,
        only: Stored | None,
        wanted: Wanted,
        part: Part | None,
        filter_: Filter,
        zone: Zone,
    ) -> Iterator[bytes]:
        if filter_ == _EVERYTHING:
            yield from self._contents.told(context, calendar, _listed(calendar, only, []), wanted, part)
            return
        uids = list(_uids(filter_))
        sure, unsure = _sorted_out(calendar, only, prefilter(filter_), zone, uids)
        if uids:  # the row knows it
            unsure = [each for each in unsure if all(text.matches(each.uid or "") for text in uids)]
        if sure:
            yield from self._contents.told(context, calendar, sure, wanted, part)
        if unsure:
            read = _read_matching(calendar, unsure, filter_, zone)
            yield from self._contents.told_read(context, calendar, read, wanted, part)

    # Free-busy

    def _free_busy(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        """One VFREEBUSY of all that counts as busy (RFC 4791 §7.10)."""
        context.require(resource, Reach.FREE_BUSY)
        element = body.find(caldav("time-range"))
        try:
            within = read_time_range(element) if element is not None else None
        except Violated as violated:
            raise Refused(400, why=violated.public) from None
        if within is None or within.start is None or within.end is None:
            raise Refused(400, why="A free-busy-query has a time-range with both ends.")
        periods: list[Busy] = []
        for calendar, _ in scope(context, resource):
            if calendar.type is ResourceType.CALENDAR and not (calendar.row.transparent and calendar is not resource):
                objects = _objects_in(calendar, within.start, within.end)
                periods += freebusy(
                    objects, within.start, within.end, zone_of_calendar(calendar), _user_addresses(context, calendar)
                )
        data = written_freebusy(together(periods), within.start, within.end, stamp=context.now)
        headers = [("Content-Type", "text/calendar; charset=utf-8"), ("Content-Length", str(len(data)))]
        return DavResponse(200, headers, data)


def _sorted_out(
    calendar: Resource, only: Stored | None, candidates: Candidates | None, zone: Zone, uids: list[TextMatch]
) -> tuple[list[Stored], list[Stored]]:
    """Objects that match for certain, and those that have to be read; of others than `uids`, not all."""
    if candidates is None:
        return [], _listed(calendar, only, uids)
    start, end = candidates.start, candidates.end
    if start is None and end is None:
        chosen = [each for each in _listed(calendar, only, uids) if each.component == candidates.component]
        return (chosen, []) if candidates.alone else ([], chosen)
    sure, unsure = [], []
    for each, times in _timed(calendar, only, start, end, candidates.component):
        decided = certain(times, candidates, zone)
        if decided is None:
            unsure.append(each)
        elif decided:
            sure.append(each)
    return sure, unsure


def _listed(calendar: Resource, only: Stored | None, uids: list[TextMatch]) -> list[Stored]:
    """All objects; where a UID is looked for, those that may have it."""
    if only is not None:
        return [only]
    objects, collection_id = calendar.data.objects, calendar.row.id
    for uid in uids:
        if uid.text.isascii() and uid.collation is not Collation.UNICODE and not uid.negate:
            return list(objects.with_uid(collection_id, uid.text))
    return list(objects.list(collection_id))


def _timed(
    calendar: Resource, only: Stored | None, start: int | None, end: int | None, component: str
) -> Iterable[tuple[Stored, Times]]:
    objects = calendar.data.objects
    if only is not None:
        times = objects.times(only) if only.component == component else None
        return [] if times is None else [(only, times)]
    low = BEGINNING if start is None else start
    return objects.in_time(calendar.row.id, low, ENDLESS if end is None else end, component)


def _read_matching(
    calendar: Resource, stored: Iterable[Stored], filter_: Filter, zone: Zone
) -> Iterator[tuple[Stored, bytes]]:
    for each, data in calendar.data.objects.read_many(stored):
        found = _shown(calendar, data, filter_)
        if found is not None and matches(found, filter_, zone):
            yield each, data


def _shown(calendar: Resource, data: bytes, filter_: Filter) -> CalendarObject | None:
    """What the one who asks may see of it: in what is hidden from him nothing is found."""
    try:
        seen = shown(calendar, data)
    except InvalidInput:
        return None
    return _parsed(seen) if may_match(seen, filter_) else None


def _uids(filter_: Filter) -> Iterator[TextMatch]:
    """What an object's UID has to match, the same in all its components."""
    if _is_choice(filter_):
        return
    for component in filter_.components:
        if not component.is_not_defined and not _is_choice(component):
            yield from (
                prop.text
                for prop in component.props
                if prop.name == "UID" and prop.text is not None and not (prop.any_of and prop.params)
            )


def _is_choice(filter_: Filter) -> bool:
    """Whether one of several conditions is enough."""
    return filter_.any_of and len(filter_.props) + len(filter_.components) > 1


def _objects_in(calendar: Resource, start: int, end: int) -> Iterator[CalendarObject]:
    """What may take place in that time: what surely does not is not read."""
    zone = zone_of_calendar(calendar)
    stored = [
        each
        for each, times in calendar.data.objects.in_time(calendar.row.id, start, end)
        if overlapping(times, start, end, zone, each.component) is not False
    ]
    for _, data in calendar.data.objects.read_many(stored):
        found = _parsed(data)
        if found is not None:
            yield found


def _user_addresses(context: Context, calendar: Resource) -> list[str]:
    """How invitations name the owner of a calendar."""
    assert calendar.owner is not None
    return [f"mailto:{address}" for address in addresses_of(context, calendar.owner)]


def _parsed(data: bytes) -> CalendarObject | None:
    """None: kept by an older version of this server, and not to be read by this one."""
    try:
        return parsed(data, allow_method=True)  # in an inbox
    except InvalidInput:
        return None

"""POST to an outbox: who is free when, of accounts of the tenant; of others it is said that nobody knows.

An answer holds times alone, of calendars that count and of events that block time, private or not. Whether an address
of another tenant exists here cannot be told from it: everybody outside of the tenant is answered alike.

Raises: Refused.
Standards: RFC 6638 §5 (outbox), §5.2.1 (preconditions), §10 (schedule-response); RFC 5546 §3.3, §3.6 (status codes).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from hosting.dav.calendars.inbox import availability
from hosting.dav.calendars.principals import addresses_of
from hosting.dav.contents import octets_as_xml
from hosting.dav.context import Context
from hosting.dav.errors import XML_HEAD, precondition
from hosting.dav.multistatus import XML_TYPE
from hosting.dav.names import DECLARATIONS, caldav, dav, element, text, text_element
from hosting.dav.reach import Reach
from hosting.dav.registry import Post, Registry
from hosting.dav.request import DavResponse
from hosting.dav.resources import Resource, ResourceType
from hosting.scheduling.people import ByMail, Here, People
from storage.collections.conditions import Violated
from storage.collections.values import Kind
from storage.errors import CleanmailError, InvalidInput, LimitReached
from storage.icalendar.checked import CalendarObject, Timed, parsed
from storage.icalendar.contentlines import Property
from storage.icalendar.freebusy import FreeBusy, written_freebusy
from storage.icalendar.values import UTC, Zone
from storage.icalendar.zones import zone_of
from storage.itip.statuses import Status
from storage.itip.users import calendar_user
from storage.mail.account import Account
from storage.values import AccountId

ATTENDEES_MAX = 200
LONGEST = 400 * 86_400  # seconds that may be asked for
OBJECTS_MAX = 20_000  # that are read for one question, some seconds' work; who is left then cannot be told of

_SUCCESS = "2.0;Success"
_INVALID_USER = f"{Status.NO_SUCH_USER};Invalid calendar user"
_NO_SUPPORT = f"{Status.NO_SUPPORT};No scheduling support for user"
_UNAVAILABLE = f"{Status.FAILED};Could not complete delivery"


@dataclass(frozen=True, slots=True)
class _Question:
    uid: str = field(repr=False)
    organizer: Property = field(repr=False)
    attendees: list[Property] = field(repr=False)
    start: int
    end: int
    masked: str = field(repr=False)  # the UID of a meeting that does not count, since it is being moved


class _Work:
    """What is left of it for one question."""

    def __init__(self) -> None:
        self._left = OBJECTS_MAX

    def take(self, objects: int) -> None:
        """Raises LimitReached."""
        self._left -= objects
        if self._left < 0:
            raise LimitReached


class Outbox:
    def __init__(self, people: People) -> None:
        self._people = people

    def register(self, registry: Registry) -> None:
        registry.post(Post(frozenset({ResourceType.OUTBOX}), frozenset({"*"}), self.answer))
        registry.method_types["POST"] |= {ResourceType.OUTBOX}
        registry.dav_class("calendar-schedule", "calendar-auto-schedule")

    def answer(self, context: Context, outbox: Resource) -> DavResponse:
        context.require(outbox, Reach.SEND)
        if context.request.header("content-type").partition(";")[0].strip().lower() != "text/calendar":
            raise precondition(403, caldav("supported-calendar-data"), why="An outbox takes text/calendar.")
        question = _read(context.request.body)
        own = self._people.own(context.me.tenant_id, context.me.account_id)
        if not own(calendar_user(question.organizer.value)):
            raise precondition(403, caldav("valid-organizer"), why="The organizer is whose outbox it is.")
        work = _Work()
        answers = b"".join(self._of_attendee(context, question, each, work) for each in question.attendees)
        body = XML_HEAD + b"<C:schedule-response " + DECLARATIONS + b">" + answers + b"</C:schedule-response>"
        return DavResponse(200, [XML_TYPE, ("Content-Length", str(len(body)))], body)

    def _of_attendee(self, context: Context, question: _Question, attendee: Property, work: _Work) -> bytes:
        status, data = self._asked(context, question, attendee, work)
        told = element(caldav("recipient"), element(dav("href"), text(attendee.value.strip())))
        told += text_element(caldav("request-status"), status)
        if data is not None:
            told += element(caldav("calendar-data"), octets_as_xml(data))
        return element(caldav("response"), told)

    def _asked(
        self, context: Context, question: _Question, attendee: Property, work: _Work
    ) -> tuple[str, bytes | None]:
        place = self._people.place(context.me.tenant_id, calendar_user(attendee.value))
        if isinstance(place, ByMail):
            return _NO_SUPPORT, None
        if not isinstance(place, Here):
            return _INVALID_USER, None
        try:
            return _SUCCESS, _busy(context, question, attendee, place.account_id, work)
        except CleanmailError:
            return _UNAVAILABLE, None


def _busy(context: Context, question: _Question, attendee: Property, account_id: AccountId, work: _Work) -> bytes:
    account = context.account(account_id)
    addresses = [f"mailto:{each}" for each in addresses_of(context, context.person(account_id))]
    busy = FreeBusy(question.start, question.end, _zone(account), addresses)
    for found in _objects(account, question, work):
        busy.add(found)
    return written_freebusy(
        busy.periods(),
        question.start,
        question.end,
        stamp=context.now,
        uid=question.uid,
        method="REPLY",
        organizer=question.organizer,
        attendee=attendee,
    )


def _objects(account: Account, question: _Question, work: _Work) -> Iterable[CalendarObject]:
    """Of all calendars that count, and when their owner is there at all. Raises LimitReached."""
    when = availability(account)
    if when is not None:
        with suppress(InvalidInput):
            yield parsed(when)
    for calendar in account.collections.list(Kind.CALENDAR):
        if calendar.transparent:
            continue
        stored = [each for each, _ in account.objects.in_time(calendar.id, question.start, question.end)]
        work.take(len(stored))
        for each, data in account.objects.read_many(stored):
            if each.uid != question.masked:
                with suppress(InvalidInput):  # kept by an older version of this server
                    yield parsed(data)


def _zone(account: Account) -> Zone:
    """In which days of a calendar without times lie."""
    for calendar in account.collections.list(Kind.CALENDAR):
        if calendar.timezone and not calendar.transparent:
            with suppress(InvalidInput):
                return zone_of(calendar.timezone.strip().encode())
    return UTC


def _read(body: bytes) -> _Question:
    """Raises Refused."""
    try:
        found = parsed(body, allow_method=True)
    except Violated as violated:
        name = "valid-calendar-data" if violated.condition == "valid-calendar-data" else "valid-scheduling-message"
        raise precondition(403, caldav(name), why=violated.public) from None
    timed = found.timed[0]
    if found.method != "REQUEST" or found.component != "VFREEBUSY" or len(found.timed) != 1:
        raise _invalid("Only REQUESTs with one VFREEBUSY are taken here.")
    organizer, attendees = found.organizer, found.attendees
    if organizer is None or not attendees:
        raise _invalid("It has an ORGANIZER, and ATTENDEEs who are asked for.")
    if len(attendees) > ATTENDEES_MAX:
        raise _invalid(f"At most {ATTENDEES_MAX} may be asked for at once.")
    start, end = _span(timed)
    if start >= end or end - start > LONGEST:
        raise _invalid("The time that is asked for is empty, or too long.")
    masked = timed.component.value("X-CALENDARSERVER-MASK-UID") or ""
    return _Question(found.uid, organizer, attendees, start, end, masked)


def _span(timed: Timed) -> tuple[int, int]:
    if timed.start is None:
        raise _invalid("It has a DTSTART and a DTEND.")
    start = timed.start.seconds(UTC)
    if timed.end is not None:
        return start, timed.end.seconds(UTC)
    return start, start if timed.duration is None else timed.duration.after(timed.start, UTC)


def _invalid(why: str) -> Exception:
    return precondition(403, caldav("valid-scheduling-message"), why=why)

"""Implicit scheduling: what storing or removing an object of a calendar says to others, without its client's doing.

`consequence` decides, from the object before and after, whether the owner of the calendar is its organizer or an
attendee, refuses what he may not do, and makes the messages; statuses are written into the octets that are stored.
`within` writes the messages down in the transaction of the change; `committed` brings them where they belong. What it
does not come to is done by the jobs role.

Raises: Violated, PreconditionFailed, Conflict.
Standards: RFC 6638 §3.2 (implicit scheduling), §3.2.4 (preconditions), §3.2.10 (Schedule-Tag), §8 (headers).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from hosting.dav.scheduling import Change
from hosting.scheduling.carrying import AT_ONCE, Carrying
from hosting.scheduling.people import ByMail, Here, Nowhere, People, Place
from storage.clock import Clock
from storage.collections.conditions import PreconditionFailed, Violated
from storage.collections.values import Content, Kind, ObjectId, Stored
from storage.database.database import Transaction
from storage.errors import CleanmailError, Conflict
from storage.icalendar.content import calendar_content
from storage.itip import answering, outgoing
from storage.itip.blocking import blocking
from storage.itip.meeting import Meeting, Own
from storage.itip.messages import CANCEL, REPLY, Outgoing
from storage.itip.statuses import Status, with_answers, with_statuses
from storage.itip.store import Scheduling, Waiting
from storage.mail.account import Account

log = logging.getLogger(__name__)

HISTORY = 7 * 86_400  # seconds after which nobody is told by mail of what is over

_KINDS = frozenset({"VEVENT", "VTODO", "VJOURNAL"})


class ImplicitScheduler:
    """A `hosting.dav.scheduling.Scheduler`."""

    def __init__(self, people: People, carrying: Carrying, clock: Clock) -> None:
        self._people = people
        self._carrying = carrying
        self._clock = clock

    def consequence(self, change: Change) -> Following | None:
        _check_tag(change)
        components = {each.component for each in (change.before, change.content) if each is not None}
        if change.collection.kind is not Kind.CALENDAR or not components <= _KINDS:
            return None
        before, after = _meeting(change.before_data), _meeting(change.content.data if change.content else None)
        if after is not None:
            outgoing.same_organizer(after)
        if not any(each is not None and each.organizer for each in (before, after)):
            return None
        own = self._people.own(change.owner.tenant_id, change.owner.account_id)
        if after is not None and after.organizer and change.before is None:
            _check_unique(change, after)
        if after is None and before is not None and _elsewhere(change, before.uid):
            return None  # a calendar was copied, and one of the two goes: the meeting stays
        content = change.content
        if content is not None and before is not None and change.if_schedule_tag_match and change.before_data:
            content, after = self._merged(change, content, before, after, own)
        if content is not None and before is not None and {_role(before, own), _role(after, own)} == {_ORGANIZER}:
            content, after = _read_anew(content, outgoing.with_sequence(content.data, before), after)
        rows = Scheduling(change.account, self._clock)
        if content is not None and after is not None and before is None and _role(after, own) == _ORGANIZER:
            ended = rows.cancelled(after.uid)
            if ended is not None:
                content, after = _read_anew(content, outgoing.after_cancellation(content.data, ended), after)
        messages = self._messages(change, before, after, own)
        places = {each.recipient: self._people.place(change.owner.tenant_id, each.recipient) for each in messages}
        messages = [each for each in messages if not (each.beside and isinstance(places[each.recipient], ByMail))]
        if any(isinstance(each, ByMail) for each in places.values()) and _is_history(change, self._clock.now()):
            messages = [each for each in messages if not isinstance(places[each.recipient], ByMail)]
        if content is not None:
            told, statuses, reply = content.data, _statuses(messages, places), _is_reply(messages)
            if before is not None and _role(before, own) == _ATTENDEE:
                told, statuses, reply = blocking(told, before, own), _of_reply(before) | statuses, True
            told = with_statuses(told, statuses, reply=reply)
            content = content if told == content.data else calendar_content(told)
        return Following(change, content, messages, self._carrying, rows, _called_off(before, after, messages))

    def _merged(
        self, change: Change, content: Content, before: Meeting, after: Meeting | None, own: Own
    ) -> tuple[Content, Meeting | None]:
        """With answers that came since the client read it."""
        if after is None or not before.is_organized_by(own):
            return content, after
        assert change.before_data is not None
        return _read_anew(content, with_answers(content.data, change.before_data, before.organizer), after)

    def _messages(self, change: Change, before: Meeting | None, after: Meeting | None, own: Own) -> list[Outgoing]:
        now = self._clock.now()
        was, now_is = _role(before, own), _role(after, own)
        if was == _ORGANIZER or (now_is == _ORGANIZER and was == _NOBODY):
            if now_is not in {_ORGANIZER, _NOBODY}:
                raise Violated(
                    "allowed-organizer-scheduling-object-change", "A meeting is not handed over to another organizer."
                )
            return outgoing.of_organizer(
                before if was == _ORGANIZER else None, after if now_is == _ORGANIZER else None, own, now
            )
        if was == _ATTENDEE:
            if after is not None and now_is != _ATTENDEE:
                raise Violated(
                    "allowed-attendee-scheduling-object-change", "An attendee changes nothing of who organizes it."
                )
            if after is None and not change.reply:
                return []
            reply = answering.of_attendee(before, after, own, now)
            return [] if reply is None else [reply]
        if now_is == _ATTENDEE:
            reply = answering.of_attendee(None, after, own, now)
            return [] if reply is None else [reply]
        return []


def _read_anew(content: Content, data: bytes, meeting: Meeting | None) -> tuple[Content, Meeting | None]:
    """With the octets that the server made of it."""
    return (content, meeting) if data == content.data else (calendar_content(data), Meeting.read(data))


class Following:
    """A `hosting.dav.scheduling.Consequence`."""

    def __init__(
        self,
        change: Change,
        content: Content | None,
        messages: list[Outgoing],
        carrying: Carrying,
        rows: Scheduling,
        called_off: tuple[str, int] | None,
    ) -> None:
        """`called_off`: UID and SEQUENCE of a meeting whose end the messages tell."""
        self.content = content
        self.messages = messages
        self._change = change
        self._account: Account = change.account
        self._carrying = carrying
        self._rows = rows
        self._called_off = called_off
        self._written: list[Waiting] = []

    def within(self, transaction: Transaction, before: Stored | None, after: Stored | None) -> None:
        expected = self._change.before
        if (None if before is None else before.etag) != (None if expected is None else expected.etag):
            raise Conflict
        place = self._change.collection.id
        object_id = ObjectId(0) if after is None else after.object_id
        self._written = self._rows.add(transaction, place, object_id, self.messages, AT_ONCE)
        if self._called_off is not None:
            self._rows.note_cancelled(transaction, *self._called_off)

    def committed(self) -> None:
        try:
            self._carrying.carry(self._account, self._written)
            if len(self.messages) > len(self._written):
                self._carrying.carry_later(self._account)
        except CleanmailError as error:  # the change stands, and the jobs role finds the messages
            log.warning("account %d: scheduling waits: %s", self._account.account_id, type(error).__name__)


_ORGANIZER, _ATTENDEE, _NOBODY = "organizer", "attendee", "nobody"


def _role(meeting: Meeting | None, own: Own) -> str:
    """Whose object it is. One in which its owner does not take part concerns nobody."""
    if meeting is None or not meeting.organizer:
        return _NOBODY
    if own(meeting.organizer):
        return _ORGANIZER
    return _ATTENDEE if any(own(user) for user in meeting.attendees()) else _NOBODY


def _called_off(before: Meeting | None, after: Meeting | None, messages: Sequence[Outgoing]) -> tuple[str, int] | None:
    """Who puts it back, as clients do that undo, says the SEQUENCE of before."""
    told = [Meeting.read(each.data).sequence for each in messages if each.method == CANCEL]
    return (before.uid, max(told)) if after is None and before is not None and told else None


def _statuses(messages: Sequence[Outgoing], places: Mapping[str, Place]) -> dict[str, str]:
    said: dict[type[Place], Status] = {Here: Status.DELIVERED, ByMail: Status.SENT, Nowhere: Status.NO_SUCH_USER}
    return {each.recipient: said[type(places[each.recipient])] for each in messages}


def _of_reply(before: Meeting) -> dict[str, str]:
    """What became of the last reply: it stays so while no other is sent, also where clients leave it out."""
    line = before.organizer_line
    status = "" if line is None else line.parameter("SCHEDULE-STATUS")
    return {before.organizer: status} if status else {}


def _is_history(change: Change, now: int) -> bool:
    """Whether it was over long ago, before and after the change: then nobody gets mail about it.

    Else a calendar that is moved in, and whoever tidies up last year's, would write to everybody he ever met. What
    says SCHEDULE-FORCE-SEND is no history.
    """
    times = []
    if change.before_data is not None:
        times.append(calendar_content(change.before_data).times)
    if change.content is not None:
        if b"SCHEDULE-FORCE-SEND" in change.content.data:
            return False
        times.append(change.content.times)
    return all(each is not None and each.last < now - HISTORY for each in times)


def _meeting(data: bytes | None) -> Meeting | None:
    return None if data is None else Meeting.read(data)


def _is_reply(messages: Sequence[Outgoing]) -> bool:
    return any(each.method == REPLY for each in messages)


def _check_tag(change: Change) -> None:
    """RFC 6638 §8.3."""
    wanted = change.if_schedule_tag_match
    if wanted and (change.before is None or change.before.schedule_tag != wanted):
        raise PreconditionFailed("It was changed meanwhile: the schedule tag does not match.")


def _check_unique(change: Change, after: Meeting) -> None:
    """RFC 6638 §3.2.4.1: one scheduling object with a UID, in all calendars of its owner."""
    other = _elsewhere(change, after.uid)
    if other is not None:
        raise Violated(
            "unique-scheduling-object-resource",
            "This meeting is in one of the calendars already.",
            name=other.name if other.collection_id == change.collection.id else None,
        )


def _elsewhere(change: Change, uid: str) -> Stored | None:
    """Another scheduling object with this UID in the calendars of its owner."""
    for other in change.account.objects.by_uid(uid, (Kind.CALENDAR,)):
        is_itself = other.collection_id == change.collection.id and other.name == change.name
        if not is_itself and other.schedule_tag is not None:
            return other
    return None

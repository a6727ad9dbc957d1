"""Puts a scheduling message into an account: into its inbox, and into the calendar where its object is or belongs.

Blocking. One transaction writes that the message was worked on, the calendar object, and the item of the inbox.
Repeated it changes nothing. What a message may do is decided by who sent it: REQUEST and CANCEL only change objects of
that organizer, REPLY only what the sender is invited to.

Raises: OverQuota, StorageFull, Unavailable and others of the account; then nothing was kept.
Standards: RFC 6638 §4 (processing), §4.2 (inbox), RFC 5546 §3.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum

from hosting.dav.calendars.inbox import DEFAULT_CALENDAR, DEFAULT_TASKS, default_calendar
from storage.clock import Clock
from storage.collections.conditions import PreconditionFailed, Violated, conditions_of
from storage.collections.values import Collection, Content, Kind, Stored
from storage.database.database import Transaction
from storage.errors import Conflict, NotFound, OverQuota
from storage.icalendar.content import calendar_content
from storage.itip import received
from storage.itip.meeting import Meeting, Own
from storage.itip.messages import CANCEL, REPLY, REQUEST, status_of
from storage.itip.received import NOTHING, Applied
from storage.itip.store import About, Scheduling
from storage.itip.users import calendar_user
from storage.mail.account import Account

CONTENT_TYPE = "text/calendar; charset=utf-8"
_TRIES = 20  # while others change the same object: many attendees may answer at once


class Outcome(Enum):
    APPLIED = "applied"
    OLD = "old"  # it, or a newer one, was worked on
    NOT_FOR_HIM = "not for him"  # it is about nothing of his, or its sender has nothing to say there


@dataclass(frozen=True, slots=True)
class Message:
    """A scheduling message for one account. `sender` is authentic, as `calendar_user` has him."""

    meeting: Meeting = field(repr=False)
    data: bytes = field(repr=False)
    sender: str = field(repr=False)
    once: tuple[str | int, ...]  # names this message, so that it counts once however often it comes
    again: bool = False  # it counts though it is not newer than the last one
    gate: Callable[[Transaction], bool] | None = None  # asked in the transaction whether it may count at all


class _Old(Exception):  # noqa: N818 - leaves the transaction without a trace
    pass


class Inviting:
    """For one account that is open; `own` says which calendar users are its owner."""

    def __init__(self, account: Account, own: Own, clock: Clock) -> None:
        self._account = account
        self._own = own
        self._scheduling = Scheduling(account, clock)

    def take(self, message: Message) -> Outcome:
        for _ in range(_TRIES):
            try:
                return self._take(message)
            except (PreconditionFailed, NotFound):  # its owner was faster
                continue
        raise Conflict

    def known(self, message: Message) -> bool:
        """Whether it is about something that is in a calendar already, and its sender may change it there."""
        stored = self._stored(message.meeting)
        return stored is not None and self._may(message, Meeting.read(self._account.objects.read(stored)))

    def _take(self, message: Message) -> Outcome:
        meeting = message.meeting
        stored = self._stored(meeting)
        data = None if stored is None else self._account.objects.read(stored)
        try:
            applied = self._applied(message, data)
            if applied is None:
                return Outcome.NOT_FOR_HIM
            content = None if applied.data is None else calendar_content(applied.data)
            place = self._place(meeting, stored)
        except Violated:  # what nobody could store as a calendar object
            return Outcome.NOT_FOR_HIM
        if place is None:
            return Outcome.NOT_FOR_HIM
        item = None if content is None else _item(message)
        try:
            return self._write(message, place, stored, content, item, rescheduled=applied.rescheduled)
        except OverQuota:
            if item is None:
                raise
            return self._write(message, place, stored, content, None, rescheduled=applied.rescheduled)

    def _applied(self, message: Message, data: bytes | None) -> Applied | None:
        """None: it is not for him."""
        meeting = message.meeting
        if data is not None and not self._may(message, Meeting.read(data)):
            return None
        if meeting.method == REPLY:
            return None if data is None else received.reply(data, meeting)
        if meeting.organizer != message.sender or self._own(meeting.organizer):
            return None
        if meeting.method == CANCEL:
            invited = meeting.attendees()
            # Who is taken out of a meeting is named in its CANCEL, which some organizers send to all (RFC 5546 §3.2.5).
            if data is None or (invited and not any(self._own(user) for user in invited)):
                return None
            return received.cancel(data, meeting)
        if meeting.method != REQUEST:
            return None
        mine = [line for line in (meeting.attendee(part, self._own) for part in meeting.parts) if line]
        if not mine:
            return None
        if data is None and all(status_of(line) == "DECLINED" for line in mine):
            return NOTHING  # he said no, and removed it
        return received.request(data, meeting, self._own)

    def _may(self, message: Message, stored: Meeting) -> bool:
        if message.meeting.method == REPLY:
            return self._own(stored.organizer) and message.sender in stored.attendees()
        return stored.organizer == message.sender and message.meeting.organizer == message.sender

    def _stored(self, meeting: Meeting) -> Stored | None:
        """The scheduling object with its UID, in whichever calendar of his."""
        found = self._account.objects.by_uid(meeting.uid, (Kind.CALENDAR,))
        return next((each for each in found if each.schedule_tag is not None), None)

    def _place(self, meeting: Meeting, stored: Stored | None) -> Collection | None:
        if stored is not None:
            return self._account.collections.by_id(stored.collection_id)
        if meeting.kind not in {"VEVENT", "VTODO"}:
            return None
        return default_calendar(self._account, DEFAULT_TASKS if meeting.kind == "VTODO" else DEFAULT_CALENDAR)

    def _write(
        self,
        message: Message,
        place: Collection,
        stored: Stored | None,
        content: Content | None,
        item: Content | None,
        *,
        rescheduled: bool,
    ) -> Outcome:
        objects = self._account.objects
        inbox = next(iter(self._account.collections.list(Kind.INBOX)), None)
        name = _name(message.meeting.uid) if stored is None else stored.name
        conditions = conditions_of(None, True, None) if stored is None else conditions_of((stored.etag,), False, None)
        with ExitStack() as ready:
            body = None if content is None else ready.enter_context(objects.packed(content, place.id, name))
            notice = (
                None
                if item is None or inbox is None
                else ready.enter_context(objects.packed(item, inbox.id, _item_name(message)))
            )

            def work(transaction: Transaction) -> None:
                self._count(transaction, message)
                if body is not None:
                    objects.put_in(transaction, place.id, name, body, conditions, keep_schedule_tag=not rescheduled)
                if notice is not None and inbox is not None:
                    objects.put_in(transaction, inbox.id, _item_name(message), notice)

            try:
                self._account.database.write(work)
            except _Old:
                return Outcome.OLD
        return Outcome.APPLIED

    def _count(self, transaction: Transaction, message: Message) -> None:
        """That it was worked on. Raises _Old if it does not count."""
        meeting = message.meeting
        if not self._scheduling.once(transaction, *message.once):
            raise _Old
        if message.gate is not None and not message.gate(transaction):
            raise _Old
        if not self._scheduling.accept(
            transaction, about(message), meeting.sequence, meeting.stamp, again=message.again
        ):
            raise _Old


def about(message: Message) -> About:
    meeting = message.meeting
    role = "attendee" if meeting.method == REPLY else "organizer"
    instances = "" if meeting.master is not None else " ".join(str(at) for at in sorted(meeting.overrides))
    return About(role, meeting.uid, instances, message.sender)


def _item(message: Message) -> Content:
    meeting = message.meeting
    return Content(message.data, CONTENT_TYPE, meeting.uid, meeting.kind)


def _item_name(message: Message) -> str:
    """What is said again of the same, takes the place of what was said before."""
    what = about(message)
    text = "\0".join((message.meeting.method, what.uid, what.instances, calendar_user(what.sender)))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest() + ".ics"


def _name(uid: str) -> str:
    return hashlib.blake2b(uid.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest() + ".ics"

"""Brings scheduling messages from their rows to those whom they concern. Blocking.

Accounts of the tenant get them into their calendars, all others by mail. A message whose way is barred for now stays,
and is taken up by the jobs role; one that cannot be brought gets a status in the object that it comes from, and goes.
What fails for one message keeps no other from its way.

Standards: RFC 6638 §3.2.9 (SCHEDULE-STATUS).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from gateway.smtp.replies import Refused
from hosting.metrics import Metrics
from hosting.scheduling.inviting import Inviting, Message
from hosting.scheduling.mailing import Account, Mailing
from hosting.scheduling.people import ByMail, Here, People
from storage.collections.conditions import PreconditionFailed, Violated
from storage.collections.values import CollectionId, ObjectId
from storage.errors import CleanmailError, Gone, NotFound
from storage.icalendar.content import calendar_content
from storage.installation import Installation
from storage.itip.meeting import Meeting
from storage.itip.messages import REPLY
from storage.itip.statuses import Status, with_statuses
from storage.itip.store import Scheduling, Waiting
from storage.itip.users import calendar_user
from storage.mail.account import Account as OpenAccount
from storage.mail.quota import Limits

log = logging.getLogger(__name__)

AT_ONCE = 20  # messages that whoever changes a meeting waits for; the rest follows in the background
GIVEN_UP_AFTER = 5 * 86_400  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 60, 4 * 3600
_NOT_BROUGHT = frozenset({Status.FAILED, Status.NO_SUCH_USER, Status.NOT_ALLOWED})
_TRIES = 3  # to write a status while the object is changed by its owner


class Carrying:
    def __init__(
        self, installation: Installation, people: People, mailing: Mailing, metrics: Metrics | None = None
    ) -> None:
        self._installation = installation
        self._people = people
        self._mailing = mailing
        self._metrics = metrics
        self._clock = installation.clock

    def carry(self, account: OpenAccount, messages: Iterable[Waiting]) -> None:
        """`account` has them, and who calls has claimed them. Never raises for what becomes of them."""
        rows = Scheduling(account, self._clock)
        row = self._installation.tenant(account.tenant_id).account(account.account_id)
        sender = Account(account.tenant_id, account.account_id, str(row.login), row.name)
        done: list[Waiting] = []
        for waiting in messages:
            status = self._guarded(account, sender, rows, waiting)
            self._count(status)
            if status is None:
                continue
            done.append(waiting)
            if status in _NOT_BROUGHT:
                self.tell(account, waiting.collection_id, waiting.object_id, [waiting.recipient], status)
        rows.done(done)

    def carry_due(self, account: OpenAccount) -> bool:
        """Some of what nobody has claimed; whether there may be more."""
        rows = Scheduling(account, self._clock)
        due = rows.due(AT_ONCE)
        self.carry(account, [each for each in due if rows.claim(each)])
        return len(due) == AT_ONCE

    def carry_later(self, account: OpenAccount) -> None:
        """What nobody has claimed, in the background of this process."""
        tenant_id, account_id = account.tenant_id, account.account_id

        def step() -> bool:
            with self._installation.account(tenant_id, account_id) as opened:
                return self.carry_due(opened)

        # Not under the account's own number: who closes it waits for its jobs, and this one opens it.
        self._installation.background.submit(("scheduling", account_id), step)

    def _count(self, status: Status | None) -> None:
        if self._metrics is not None:
            result = "put_off" if status is None else "failed" if status in _NOT_BROUGHT else status.name.lower()
            self._metrics.scheduling_messages.labels(result).inc()

    def _guarded(self, account: OpenAccount, sender: Account, rows: Scheduling, waiting: Waiting) -> Status | None:
        """What became of it; None: it waits."""
        try:
            return self._carry(account, sender, rows, waiting)
        except Refused as refused:
            temporary, why = refused.reply.temporary, str(refused.reply.status)
        except (NotFound, Gone, Violated) as error:
            temporary, why = False, type(error).__name__
        except CleanmailError as error:
            temporary, why = True, type(error).__name__
        except Exception as error:  # noqa: BLE001 - it may be this message's alone
            temporary, why = True, type(error).__name__
        log.warning("account %d: scheduling message %d: %s", account.account_id, waiting.id, why)
        if not temporary or self._clock.now() - waiting.created > GIVEN_UP_AFTER:
            return Status.FAILED
        pause = min(_FIRST_PAUSE * 2 ** min(waiting.attempts, 12), _LONGEST_PAUSE)
        rows.postpone(waiting, self._clock.now() + pause)
        return None

    def _carry(self, account: OpenAccount, sender: Account, rows: Scheduling, waiting: Waiting) -> Status:
        place = self._people.place(account.tenant_id, waiting.recipient)
        match place:
            case Here(account_id):
                self._here(account, sender, waiting, account_id)
                return Status.DELIVERED
            case ByMail():
                self._mailing.send(sender, rows, waiting, place)
                return Status.SENT
        return Status.NO_SUCH_USER

    def _here(self, account: OpenAccount, sender: Account, waiting: Waiting, account_id: int) -> None:
        tenant_id = account.tenant_id
        row = self._installation.tenant(tenant_id).account(type(account.account_id)(account_id))
        limits = Limits(row.quota_bytes, row.quota_messages)
        meeting = Meeting.read(waiting.data)
        message = Message(
            meeting,
            waiting.data,
            _sender(meeting),
            ("row", sender.account_id, waiting.id, waiting.created),
            again=True,
        )
        own = self._people.own(tenant_id, row.account_id)
        with self._installation.account(tenant_id, row.account_id, limits=limits) as theirs:
            Inviting(theirs, own, self._clock).take(message)

    @staticmethod
    def tell(
        account: OpenAccount, collection_id: CollectionId, object_id: ObjectId, users: Iterable[str], status: Status
    ) -> None:
        """Write of whom the message did not reach into the object that it comes from, if that is still there."""
        statuses = dict.fromkeys(users, status.value)
        for _ in range(_TRIES):
            try:
                stored = account.objects.by_id(collection_id, object_id)
                data = account.objects.read(stored)
                told = with_statuses(with_statuses(data, statuses), statuses, reply=True)
                if told != data:
                    account.objects.put(
                        stored.collection_id,
                        stored.name,
                        calendar_content(told),
                        if_match=(stored.etag,),
                        keep_schedule_tag=True,
                    )
            except PreconditionFailed:  # its owner was faster
                continue
            except CleanmailError:
                return
            return


def _sender(meeting: Meeting) -> str:
    """Who says it: the organizer, or the one attendee of a reply. His account wrote it down."""
    if meeting.method != REPLY:
        return meeting.organizer
    line = next(iter(meeting.attendees().values()), None)
    return "" if line is None else calendar_user(line.value)

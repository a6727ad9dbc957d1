"""Accounts with calendars and scheduling between them: two of a tenant, one of another, and the mail queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from imap_town import MailTown
from prometheus_client import CollectorRegistry

from hosting.dav.assembly import make_handler
from hosting.dav.calendars.bodies import CalendarBodies
from hosting.dav.registry import Registry
from hosting.dav.request import DavRequest, DavResponse
from hosting.dav.services import DavServices
from hosting.metrics import Metrics
from hosting.scheduling.assembly import scheduling_of
from hosting.scheduling.incoming import Incoming
from hosting.scheduling.mailing import MailSettings
from hosting.scheduling.outbox import Outbox
from hosting.submission.sending import SendingGate
from storage.collections.values import Kind, NewCollection
from storage.directory.resolve import Resolver
from storage.queue.entries import Entry
from storage.sending import Sending
from storage.sending_limits import SendingLimits
from storage.values import EmailAddress

HOST = "mail.here.test"
ALICE, BOB, MALLORY = "alice@example.test", "bob@example.test", "mallory@other.test"


class SchedulingTown(MailTown):
    """Also carl@example.test, and sales@example.test, an alias of alice's."""

    def __init__(self, data: Path, sending: SendingLimits | None = None) -> None:
        super().__init__(data)
        self.tenant_id = self.accounts[ALICE][0]
        self.new_account(self.tenant_id, "carl@example.test")
        self.provisioning.add_alias(
            self.tenant_id, EmailAddress.parse("sales@example.test"), [EmailAddress.parse(ALICE)]
        )
        self.resolver = Resolver(self.installation)
        limits = Sending(self.installation, sending or SendingLimits())
        gate = SendingGate(self.installation, self.resolver, limits, HOST)
        self.metrics = Metrics(CollectorRegistry())
        settings = MailSettings(HOST, 86_400)
        self.scheduling = scheduling_of(self.installation, self.resolver, gate, settings, self.metrics)
        self.incoming = Incoming(self.installation, self.scheduling.people, HOST)
        services = DavServices(self.installation, self.clock, scheduler=self.scheduling.scheduler)
        self.handler = make_handler(services, [_calendars, Outbox(self.scheduling.people).register])

    def ask(self, method: str, path: str, body: bytes = b"", login: str = ALICE, **headers: str) -> DavResponse:
        """`headers` with "_" for "-"."""
        given = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        given.setdefault("content-type", "text/calendar; charset=utf-8")
        request = DavRequest(method, path, given, body, self.principal(login), "192.0.2.1")
        return self.handler.handle(request)

    def put(
        self, name: str, data: bytes, login: str = ALICE, calendar: str = "calendar", **headers: str
    ) -> DavResponse:
        return self.ask("PUT", f"/dav/calendars/{login}/{calendar}/{name}", data, login, **headers)

    def delete(self, name: str, login: str = ALICE, calendar: str = "calendar", **headers: str) -> DavResponse:
        return self.ask("DELETE", f"/dav/calendars/{login}/{calendar}/{name}", b"", login, **headers)

    def new_calendar(self, name: str, login: str = ALICE) -> None:
        with self.account(login) as account:
            account.collections.create(NewCollection(Kind.CALENDAR, name))

    def objects(self, login: str, kind: Kind = Kind.CALENDAR, name: str = "calendar") -> dict[str, bytes]:
        """What stands in a collection, by name."""
        with self.account(login) as account:
            place = account.collections.find(kind, name)
            return {each.name: data for each, data in account.objects.read_many(account.objects.list(place.id))}

    def only(self, login: str) -> bytes:
        """The one object of somebody's calendar, unfolded."""
        [data] = self.objects(login).values()
        return data.replace(b"\r\n ", b"")

    def inbox(self, login: str) -> list[bytes]:
        return list(self.objects(login, Kind.INBOX, "inbox").values())

    def queued(self) -> list[tuple[Entry, EmailMessage]]:
        queue = self.installation.queue
        entries = [queue.show(each.queue_id) for each in queue.entries()]
        return [(each, self.parsed(queue.content(each))) for each in entries]

    def mail_of(self, login: str) -> list[bytes]:
        """What lies in somebody's INBOX."""
        with self.account(login) as account:
            inbox = account.mailboxes.find("INBOX")
            rows = account.messages.fetch_rows(inbox.id, 1, 2**32 - 1, ("message_id",))
            return [account.messages.read_message(row[0]) for row in rows]

    @staticmethod
    def parsed(data: bytes) -> EmailMessage:
        message = message_from_bytes(data, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message


def _calendars(registry: Registry) -> None:
    registry.bodies[Kind.CALENDAR] = CalendarBodies()


@contextmanager
def new_scheduling_town(data: Path, sending: SendingLimits | None = None) -> Iterator[SchedulingTown]:
    town = SchedulingTown(data, sending)
    try:
        yield town
    finally:
        town.close()


def meeting(
    *lines: str,
    attendees: tuple[str, ...] = (BOB,),
    organizer: str = ALICE,
    uid: str = "meeting-1",
    start: str = "20261201T100000Z",
    sequence: int = 0,
    method: str = "",
    stamp: str = "20261101T000000Z",
) -> bytes:
    """A meeting of an hour; attendees are addresses, or whole lines."""
    people = [each if each.startswith("ATTENDEE") else f"ATTENDEE;RSVP=TRUE:mailto:{each}" for each in attendees]
    text = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//x//y//EN",
        *([f"METHOD:{method}"] if method else []),
        "BEGIN:VEVENT",
        f"UID:{uid}",
        f"DTSTAMP:{stamp}",
        f"SEQUENCE:{sequence}",
        f"DTSTART:{start}",
        "DURATION:PT1H",
        "SUMMARY:Talk",
        *lines,
        f"ORGANIZER:mailto:{organizer}",
        *people,
        "END:VEVENT",
        "END:VCALENDAR",
    ]
    return ("\r\n".join(text) + "\r\n").encode()

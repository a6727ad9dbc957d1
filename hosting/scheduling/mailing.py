"""Scheduling messages that leave as mail, under the rules and limits of submission. Blocking.

Each is in the mail queue exactly once, whatever dies in between: it is queued under an id that comes from its row, and
held there until the row says so; then it is released, and the row goes. A crash before that finds the id taken, or the
row marked. A message that is for mailboxes here alone is delivered under that id, which a mailbox takes once.

Raises: Refused (rules and limits; its reply says whether for now), OverQuota, StorageFull, Unavailable and others.
Standards: RFC 6047; RFC 6409 §6.1.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.acceptance.keep import Keeping, Message, Sender
from gateway.acceptance.targets import refusal, targets
from gateway.smtp.address import ForwardPath
from gateway.smtp.replies import Refused
from hosting.auth.signin import Principal
from hosting.scheduling.bounces import envelope_id
from hosting.scheduling.imip import Written, message_of
from hosting.scheduling.people import ByMail
from hosting.submission.rules import CONTRACT_ENDS, NOT_YOURS, Stamp, read_submitted_header, submitted
from hosting.submission.sending import SendingGate
from storage.directory.resolve import Resolver
from storage.errors import AlreadyExists, NotFound
from storage.installation import Installation
from storage.itip.meeting import Meeting
from storage.itip.messages import REPLY
from storage.itip.store import Scheduling, Waiting
from storage.itip.users import address_of
from storage.queue.entries import EnvelopeParameters, Origin
from storage.values import AccountId, EmailAddress, TenantId

PROTOCOL = "HTTPS"  # as Received says how it came


@dataclass(frozen=True, slots=True)
class MailSettings:
    hostname: str
    retry_time: int


@dataclass(frozen=True, slots=True)
class Account:
    """Whose message it is."""

    tenant_id: TenantId
    account_id: AccountId
    login: str = field(repr=False)
    name: str = field(repr=False)


class Mailing:
    def __init__(
        self, installation: Installation, resolver: Resolver, gate: SendingGate, settings: MailSettings
    ) -> None:
        self._installation = installation
        self._resolver = resolver
        self._gate = gate
        self._settings = settings
        self._clock = installation.clock
        self._keeping = Keeping(installation, installation.traces)

    def send(self, account: Account, rows: Scheduling, waiting: Waiting, place: ByMail) -> None:
        """When it returns, the message is in the queue or the mailbox, and may leave."""
        if waiting.queue_id is None:
            held = self._queue(account, waiting, place)
            if not held:
                return
            rows.queued(waiting, self._id(account, waiting))
        with suppress(NotFound):  # it has left already
            self._installation.queue.release(self._id(account, waiting))

    def _queue(self, account: Account, waiting: Waiting, place: ByMail) -> bool:
        """Whether it waits in the queue to be released."""
        meeting = Meeting.read(waiting.data)
        sender = self._sender(account, meeting)
        refused = refusal(place.resolution)
        if refused is not None:
            raise Refused(refused)
        to = targets([(ForwardPath(place.address), place.resolution)])
        self._check(account, len(to.remote))
        queue_id = self._id(account, waiting)
        written = Written(sender, account.name, place.address, queue_id, self._clock.now())
        mail = message_of(meeting, waiting.data, written)
        stamp = Stamp(self._settings.hostname, PROTOCOL, queue_id, self._clock.now())
        made = submitted(mail, read_submitted_header(mail), stamp, (sender,))
        only_remote = not to.mailboxes and len(to.remote) + len(to.routed) == 1
        ascii_only = sender.is_ascii and place.address.is_ascii
        message = Message(
            queue_id,
            Origin.SUBMISSION,
            Sender(account.tenant_id, account.account_id),
            sender,
            EnvelopeParameters(
                envid=envelope_id(waiting.collection_id, waiting.object_id),
                smtputf8=not ascii_only,
                body="7BIT" if ascii_only else "8BITMIME",
            ),
            made.data,
            lambda _: made.prefix,
            self._settings.retry_time,
            {"protocol": PROTOCOL},
            held=only_remote,
        )
        with suppress(AlreadyExists):  # before a crash
            if not self._is_queued(queue_id):
                self._keeping.keep(message, to)
        return only_remote

    def _is_queued(self, queue_id: str) -> bool:
        try:
            self._installation.queue.show(queue_id)
        except NotFound:
            return False
        return True

    def _sender(self, account: Account, meeting: Meeting) -> EmailAddress:
        """The account's address under which it takes part. Raises Refused if that is not its own."""
        line = next(iter(meeting.attendees().values()), None) if meeting.method == REPLY else meeting.organizer_line
        address = None if line is None else address_of(line.value)
        if address is None or not self._resolver.may_send_as(account.tenant_id, account.account_id, address):
            raise Refused(NOT_YOURS)
        return address

    def _check(self, account: Account, recipients: int) -> None:
        """Raises Refused unless the account may send now."""
        contract = self._installation.control.contracts.find(account.tenant_id)
        if contract is not None and contract.is_read_only(self._clock.now()):
            raise Refused(CONTRACT_ENDS)
        principal = Principal(account.tenant_id, account.account_id, account.login, "scheduling", 0, 0, 0, 0)
        self._gate.check(principal, 0)
        self._gate.check(principal, recipients)

    @staticmethod
    def _id(account: Account, waiting: Waiting) -> str:
        """In the form of queue ids: 48 bits of its time, 32 that only this message has."""
        what = f"{account.tenant_id}/{account.account_id}/{waiting.id}/{waiting.created}"
        octets = (waiting.created * 1000).to_bytes(6, "big") + hashlib.blake2b(what.encode(), digest_size=4).digest()
        return base64.b32hexencode(octets).decode().lower()

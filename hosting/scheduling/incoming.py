"""Invitations, changes, cancellations and answers that come by mail: read after delivery, put where they belong.

Invitations are a way to put something before people's eyes, so a message counts only if we know who sent it: it was
delivered here, the results in our name (which the border takes out of what comes from elsewhere) say that DMARC passed,
or it was submitted here; and its author is the ORGANIZER, of a reply the ATTENDEE. New things come into the calendar
from those only whom the account trusts (`Trust`); what is there already its organizer may change. Mail in other
mailboxes, in Junk above all, and mail that was put there by IMAP or imported is never read. The mail stays where it is.
Reports of ours that an invitation could not be delivered leave that with the meeting.

Raises: NotFound, Gone, Unavailable and others of the account; what was not read is read the next time.
Standards: RFC 6047 §2, §3 (security), RFC 5546 §3, RFC 8601.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator

from gateway.arc.results import read_results
from hosting.scheduling.bounces import bounced
from hosting.scheduling.carrying import Carrying
from hosting.scheduling.inviting import Inviting, Message, Outcome
from hosting.scheduling.people import Here, People
from storage.collections.conditions import Violated
from storage.database.database import Transaction
from storage.errors import CleanmailError, Corrupt, Gone, InvalidInput
from storage.filter.correspondents import Acquaintance
from storage.installation import Installation
from storage.itip.meeting import Meeting
from storage.itip.messages import CANCEL, REPLY, REQUEST
from storage.itip.statuses import Status
from storage.itip.store import Scheduling, Trust
from storage.itip.users import calendar_user
from storage.mail.account import Account
from storage.mail.names import INBOX
from storage.mail.opinions import SPAM_KEYWORDS
from storage.mail.quota import Limits
from storage.mime.addresses import parse_addresses
from storage.mime.decode import decode_charset
from storage.mime.fields import read_header
from storage.mime.message import Part, read_message
from storage.mime.text import walk
from storage.mime.transfer import decode_transfer
from storage.values import AccountId, EmailAddress, MessageId, TenantId

log = logging.getLogger(__name__)

OF_SENDER_AND_DAY = 50  # messages that count
_AT_ONCE = 500  # UIDs
_LOOKED_AT = 8 << 20  # octets of a message
_CALENDAR_MAX = 1 << 20  # octets of a text/calendar part
_PARTS_MAX = 3  # of one message
_DELIVERED = re.compile(r"[0-9a-v]{16}\Z")  # delivery ids that are queue ids: what is imported has others
_METHODS = frozenset({REQUEST, CANCEL, REPLY})  # COUNTER, REFRESH and others are for people


class Incoming:
    def __init__(self, installation: Installation, people: People, hostname: str) -> None:
        self._installation = installation
        self._people = people
        self._hostname = hostname.lower()
        self._clock = installation.clock

    def look(
        self, tenant_id: TenantId, account_id: AccountId, stopping: Callable[[], bool] = lambda: False
    ) -> dict[Outcome, int]:
        """All new mail of one account, until `stopping`: how many messages had which outcome."""
        outcomes: dict[Outcome, int] = {}
        row = self._installation.tenant(tenant_id).account(account_id)
        limits = Limits(row.quota_bytes, row.quota_messages)
        with self._installation.account(tenant_id, account_id, limits=limits) as account:
            rows = Scheduling(account, self._clock)
            while not stopping():
                mailbox = account.mailboxes.find(INBOX)
                found, following = rows.arrived(mailbox, _AT_ONCE)
                if following is None:
                    break
                for message_id in found:
                    for outcome in self._guarded(account, rows, message_id):
                        outcomes[outcome] = outcomes.get(outcome, 0) + 1
                rows.look_from(mailbox, following)
        if outcomes:
            counted = ", ".join(f"{count} {outcome.value}" for outcome, count in outcomes.items())
            log.info("account %d of tenant %d: scheduling messages by mail: %s", account_id, tenant_id, counted)
        return outcomes

    def _guarded(self, account: Account, rows: Scheduling, message_id: MessageId) -> list[Outcome]:
        """What a stranger writes keeps neither the mail behind it nor other accounts from being looked at."""
        try:
            return self._read(account, rows, message_id)
        except CleanmailError:
            raise
        except Exception as error:  # noqa: BLE001 - it may be this message's alone
            log.error("account %d: message %d: %s", account.account_id, message_id, type(error).__name__)
            return []

    def _read(self, account: Account, rows: Scheduling, message_id: MessageId) -> list[Outcome]:
        try:
            meta, data = account.messages.read_original(message_id, _LOOKED_AT)
        except (Gone, Corrupt):  # which others find and tell
            return []
        if any(name.casefold() in SPAM_KEYWORDS for name in meta.keywords) or not _DELIVERED.match(
            meta.delivery_id or ""
        ):
            return []
        report = bounced(meta.prefix + data)
        if report is not None:
            Carrying.tell(account, report.collection_id, report.object_id, report.users, Status.FAILED)
            return []
        sender = authentic_sender(meta.prefix + data, self._hostname)
        if sender is None:
            return []
        outcomes = []
        for number, (method, octets) in enumerate(_calendars(data)):
            try:
                outcomes.append(self._take(account, rows, sender, method, octets, (message_id, number)))
            except Violated:  # what it holds is no calendar object
                continue
            except CleanmailError as error:
                if error.temporary:
                    raise
                log.info("account %d: message %d: %s", account.account_id, message_id, type(error).__name__)
        return outcomes

    def _take(
        self,
        account: Account,
        rows: Scheduling,
        sender: EmailAddress,
        method: str,
        octets: bytes,
        number: tuple[MessageId, int],
    ) -> Outcome:
        meeting = Meeting.read(octets)
        user = calendar_user(f"mailto:{sender}")
        if (
            meeting.method not in _METHODS
            or method not in {"", meeting.method}
            or not _speaks_for_itself(meeting, user)
        ):
            return Outcome.NOT_FOR_HIM

        def within_limits(transaction: Transaction) -> bool:
            return rows.count_of_day(transaction, user) <= OF_SENDER_AND_DAY

        message = Message(meeting, octets, user, ("mail", *number), gate=within_limits)
        own = self._people.own(account.tenant_id, account.account_id)
        inviting = Inviting(account, own, self._clock)
        if not inviting.known(message) and not self._trusts(account, rows.trust, sender):
            return Outcome.NOT_FOR_HIM
        return inviting.take(message)

    def _trusts(self, account: Account, trust: Trust, sender: EmailAddress) -> bool:
        if trust is not Trust.KNOWN:
            return trust is Trust.EVERYBODY
        if isinstance(self._people.place(account.tenant_id, calendar_user(f"mailto:{sender}")), Here):
            return True
        correspondents = self._installation.tenant(account.tenant_id).correspondents
        return correspondents.standing(sender, account.account_id) is Acquaintance.ACCOUNT


def authentic_sender(message: bytes, hostname: str) -> EmailAddress | None:
    """The one author of a message that was delivered here, if what we wrote in front of it says that he is."""
    header = read_header(message)
    fields = list(header.values(b"from"))
    found = [each for each in parse_addresses(fields[0]) if each.mailbox or each.host] if len(fields) == 1 else []
    if header.is_cut or len(found) != 1 or not found[0].mailbox or not found[0].host:
        return None
    try:
        mailbox, host = found[0].mailbox.decode(), found[0].host.decode()
        quoted = mailbox.replace("\\", "\\\\").replace('"', '\\"')
        author = EmailAddress.parse(f'"{quoted}"@{host}')
    except (InvalidInput, UnicodeDecodeError):
        return None
    for value in header.values(b"authentication-results"):
        results = value.decode("ascii", "replace")
        if results.partition(";")[0].strip().lower() == hostname:
            return author if _dmarc_passed(results, author) else None
    return author if _was_submitted(header.value(b"received") or b"", hostname) else None


def _dmarc_passed(results: str, author: EmailAddress) -> bool:
    return any(
        each.method == "dmarc" and each.result == "pass" and each.property("header.from") == author.domain.name
        for each in read_results(results)
    )


def _was_submitted(received: bytes, hostname: str) -> bool:
    """Whether it was handed over by who signed in here: then submission's rules have looked at its author."""
    words = received.decode("ascii", "replace").split()
    if len(words) < 4 or words[0] != "by" or words[1].lower() != hostname or words[2] != "with":
        return False
    return words[3] in {"ESMTPA", "ESMTPSA", "UTF8SMTPA", "UTF8SMTPSA", "HTTPS"}


def _speaks_for_itself(meeting: Meeting, user: str) -> bool:
    """Whether its author may say it: the organizer, or of a reply the one attendee in it."""
    if meeting.method == REPLY:
        return list(meeting.attendees()) == [user]
    return meeting.organizers == {user}


def _calendars(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Scheduling messages in a mail: the method that its Content-Type says, and the message in UTF-8."""
    read = 0
    for part in walk(read_message(data).root):
        if part.media_type != b"text" or part.subtype != b"calendar" or part.end - part.body_start > 2 * _CALENDAR_MAX:
            continue
        read += 1
        if read > _PARTS_MAX:
            return
        try:
            octets = decode_transfer(data[part.body_start : part.end], part.encoding)
        except (InvalidInput, ValueError):
            continue
        if len(octets) <= _CALENDAR_MAX:
            yield (part.param(b"method") or b"").decode("ascii", "replace").strip().upper(), _in_utf8(part, octets)


def _in_utf8(part: Part, octets: bytes) -> bytes:
    charset = (part.param(b"charset") or b"utf-8").lower()
    return octets if charset in {b"utf-8", b"us-ascii"} else decode_charset(octets, charset).encode("utf-8", "replace")

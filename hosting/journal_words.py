"""How the owner of a mailbox is told of an audit record: in a sentence, with everything that is his to know. Pure.

The member of staff is named to no owner: the role tells what he needs to know, and the number of the record leads
whoever may see more (`cleanmail audit show`) to the person. Requests for a second person and legal holds are no
accesses: what is done on their ground has a record of its own. What a secrecy order covers is told when that is over.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from types import MappingProxyType

from hosting.access.roles import StaffRole
from storage.audit import AuditRecord
from storage.mail.journal import JournalEntry

SECRET_UNTIL = "secret_until"  # noqa: S105 - of a record's details: Unix seconds until which its owner is not told

# Nouns of actions; of a case that is shown to staff the owner is told by the case itself.
_NO_ACCESS = frozenset({"approval", "hold", "ending", "audit", "disclosure-case"})

_ROLES: Mapping[str, str] = MappingProxyType(
    {
        StaffRole.OPERATOR: "An operator",
        StaffRole.SUPPORT: "Somebody of support",
        StaffRole.REVIEWER: "A technical reviewer",
        StaffRole.AUDITOR: "A log auditor",
        StaffRole.BILLING: "Somebody of billing",
        StaffRole.TENANT_ADMINISTRATOR: "An administrator of your organisation",
    }
)
_SOMEBODY = "The provider"

# What is said after the role, by action; by noun where the verb adds nothing to know.
_DEEDS: Mapping[str, str] = MappingProxyType(
    {
        "log.access": "read your access events",
        "trace.read": "read traces of your messages",
        "transcripts.read": "read SMTP transcripts about you",
        "account.created": "made your account",
        "account.passwd": "set a new password of your account",
        "account.quota": "changed how much you may store",
        "account.catch-all-sender": "changed as which addresses you may send",
        "app_password.create": "made an app password of your account",
        "app_password.revoke": "revoked an app password of yours",
        "filter.explain": "tried how a message to you would be judged, by your lists and your experience",
        "journal.read": "looked at what others did to your account",
        "account.show": "looked at your account",
        "account.list": "listed your account",
        "account.export": "exported your mailbox",
        "account.import": "imported mail into your mailbox",
        "account.freeze": "stopped your sending",
        "account.unfreeze": "let you send again",
        "account.suspend": "suspended your account",
        "account.resume": "let your account go on",
        "account.delete": "ordered that your account is deleted",
        "account.folders": "looked at your folders and how long mail stays in them",
        "account.calendar": "looked at whose invitations go into your calendar, or chose it",
        "acl.list": "looked at who may use your mailboxes",
        "acl.set": "let somebody use a mailbox of yours, or you one of another's",
        "acl.remove": "stopped that somebody uses a mailbox of yours, or you one of another's",
        "collection.list": "listed your calendars and address books",
        "collection.share": "shared a calendar or an address book of yours, or shared one with you",
        "collection.unshare": "stopped that a calendar or an address book of yours, or one for you, is shared",
        "collection.shares": "looked at what you share and what is shared with you",
        "collection.link": "made a public link to a calendar of yours",
        "collection.links": "looked at the public links to your calendars",
        "collection.unlink": "revoked a public link to a calendar of yours",
        "collection.subscribe": "subscribed to a calendar elsewhere for you",
        "collection.unsubscribe": "ended a subscription of yours to a calendar elsewhere",
        "collection.birthdays": "looked at whether you have a calendar of birthdays, or chose it",
        "account.migrate": "fetched mail from another provider into your mailbox",
        "app_password.list": "listed your app passwords",
        "backup.restore": "restored mail of yours from a backup",
        "disclosure.record": "recorded an authority's demand for data about you",
        "disclosure.challenge": "challenged an authority's demand for data about you",
        "disclosure.resume": "went on with an authority's demand for data about you",
        "disclosure.refuse": "refused an authority's demand for data about you",
        "disclosure.extract": "handed data about you to an authority",
        "disclosure.finish": "finished handing data about you to an authority",
        "senders.list": "read your lists of senders",
        "message.read": "read a message of yours",
        "person.report": "collected what is stored about you",
        "person.correct": "corrected what is stored about you",
        "person.erase": "erased what is stored about you",
        "person.erased": "finished erasing what is stored about you",
        "quarantine.list": "listed mail that was withheld from you",
        "quarantine.view": "looked at the header of a message that was withheld from you",
        "quarantine.release": "released a message that was withheld from you",
        "quarantine.report": "reported that a message was wrongly withheld from you",
        "quarantine.delete": "deleted a message that was withheld from you",
        "queue.show": "looked at a message of yours in the queue",
        "queue.drop": "dropped a message of yours from the queue",
        "queue.hold": "held a message of yours in the queue",
        "queue.release": "released a message of yours in the queue",
        "review.view": "looked at the header of a message that was withheld from you",
    }
)

_NAMES: Mapping[str, str] = MappingProxyType(
    {"id": "message", "queue_id": "message", "since": "from", "until": "to", "case": "disclosure case"}
)


def is_told(record: AuditRecord, now: int) -> bool:
    """Whether the owner of the record's account is told of it now."""
    if record.account_id is None or record.details is None or record.action.partition(".")[0] in _NO_ACCESS:
        return False
    return told_from(record) <= now or not record.details.get(SECRET_UNTIL)


def told_from(record: AuditRecord) -> int:
    """When its owner may be told of it at the earliest; his journal keeps it from then on."""
    until = (record.details or {}).get(SECRET_UNTIL, "")
    return max(record.time, int(until)) if until.isdecimal() else record.time


def role_of(record: AuditRecord) -> str:
    return _ROLES.get(record.role, _SOMEBODY)


def deed_of(record: AuditRecord) -> str:
    """What he did, as it goes on after the role."""
    known = _DEEDS.get(record.action)
    if known is not None:
        return known
    noun, _, verb = record.action.partition(".")
    return f"acted on your account: {noun.replace('_', ' ')}, {verb.replace('_', ' ').replace('-', ' ')}"


def sentence(record: AuditRecord) -> str:
    return f"{role_of(record)} {deed_of(record)}"


def facts(record: AuditRecord) -> Iterator[tuple[str, str]]:
    """What the record says beside that; the reason first."""
    details = record.details or {}
    for name in sorted(details, key=lambda name: name != "reason"):
        if details[name] and name not in {SECRET_UNTIL, "unix"}:
            yield _NAMES.get(name, name.replace("_", " ")), details[name]


def entry_of(record: AuditRecord, address: str, hostname: str) -> JournalEntry:
    """The message in the owner's journal."""
    when = datetime.fromtimestamp(record.time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = [
        f"{sentence(record)}.",
        "",
        f"When: {when}",
        f"Who: {role_of(record)}",
        f"What: {record.action}",
        *(f"{name.capitalize()}: {_in_one_line(value)}" for name, value in facts(record)),
        f"Record: {record.number}",
        "",
        "The server keeps this journal of everybody else's access to your account. Ask your provider, with the",
        "number of the record, if you want to know more.",
    ]
    body = base64.encodebytes("\r\n".join([*lines, ""]).encode("utf-8", "replace")).replace(b"\n", b"\r\n")
    header = [
        f"From: Access journal <access-journal@{hostname}>",
        f"To: <{address}>",
        f"Subject: {sentence(record)}",
        f"Date: {formatdate(record.time)}",
        f"Message-ID: <access-journal-{record.number}@{hostname}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: base64",
        "",
        "",
    ]
    octets = "\r\n".join(header).encode("utf-8", "replace") + body
    return JournalEntry(record.number, record.time, octets, told_from(record))


def _in_one_line(text: str) -> str:
    return " ".join(text.split())

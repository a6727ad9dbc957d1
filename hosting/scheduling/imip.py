"""A scheduling message as mail: for people a text of its facts, for programs the message itself and as a file. Pure.

Standards: RFC 6047 §2.4 (Content-Type with method), §4 (multipart/alternative); RFC 3834 §5 (Auto-Submitted).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from storage.icalendar.contentlines import text
from storage.itip.draft import Line, Part
from storage.itip.meeting import Meeting
from storage.itip.messages import CANCEL, REPLY, status_of
from storage.itip.users import address_of
from storage.values import EmailAddress

_SUBJECT_MAX = 200
_TEXT_MAX = 10_000
_PEOPLE_MAX = 50

_ANSWERS = {"ACCEPTED": "Accepted", "DECLINED": "Declined", "TENTATIVE": "Tentative", "DELEGATED": "Delegated"}


@dataclass(frozen=True, slots=True)
class Written:
    sender: EmailAddress
    sender_name: str = field(repr=False)
    recipient: EmailAddress
    message_id: str
    time: int  # Unix seconds


def message_of(meeting: Meeting, data: bytes, written: Written) -> bytes:
    """The mail, with CRLF line ends."""
    plain = written.sender.is_ascii and written.recipient.is_ascii
    mail = EmailMessage(SMTP.clone(cte_type="7bit", utf8=not plain))
    mail["Date"] = format_datetime(datetime.fromtimestamp(written.time, UTC))
    mail["From"] = _address(written.sender, written.sender_name)
    mail["To"] = _address(written.recipient, "")
    mail["Subject"] = _one_line(f"{_what(meeting)}: {_title(meeting)}")[:_SUBJECT_MAX]
    mail["Message-ID"] = f"<{written.message_id}@{written.sender.domain.name}>"
    if meeting.method == REPLY:
        mail["Auto-Submitted"] = "auto-replied"
    said = data.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
    mail.set_content(_told(meeting))
    mail.add_alternative(
        said, subtype="calendar", cte="base64", params={"method": meeting.method, "component": meeting.kind}
    )
    mail.add_attachment(data, maintype="application", subtype="ics", filename="invite.ics")
    return mail.as_bytes()


def _address(address: EmailAddress, name: str) -> Address:
    return Address(_one_line(name)[:100], address.local, address.domain.name)


def _what(meeting: Meeting) -> str:
    if meeting.method == CANCEL:
        return "Cancelled"
    if meeting.method == REPLY:
        line = next(iter(meeting.attendees().values()), None)
        return _ANSWERS.get("" if line is None else status_of(line), "Answer")
    return "Invitation" if meeting.sequence == 0 else "Updated invitation"


def _title(meeting: Meeting) -> str:
    return text(meeting.any_part.value("SUMMARY")) or "(no title)"


def _told(meeting: Meeting) -> str:
    lines = [f"{_what(meeting)}: {_one_line(_title(meeting))}", ""]
    for part in meeting.parts[:10]:
        lines += _facts(meeting, part)
    description = text(meeting.any_part.value("DESCRIPTION")).strip()
    if description and meeting.method != REPLY:
        lines += [description[:_TEXT_MAX], ""]
    lines += ["The attached invite.ics holds this for calendars."]
    return "\n".join("".join(c for c in line if c >= " " or c in "\n\t") for line in lines) + "\n"


def _facts(meeting: Meeting, part: Part) -> list[str]:
    facts = [("When", _when(part)), ("Where", text(part.value("LOCATION")))]
    if part.line("RRULE") is not None:
        facts.append(("Repeats", part.value("RRULE")))
    facts.append(("Organizer", _person(part.line("ORGANIZER"))))
    people = part.lines("ATTENDEE")
    if meeting.method == REPLY:
        facts += [("Answer of", _person(line)) for line in people[:1]]
        facts.append(("Answer", _ANSWERS.get(status_of(people[0]), "") if people else ""))
        facts.append(("Comment", text(part.value("COMMENT"))))
    else:
        more = f" and {len(people) - _PEOPLE_MAX} more" if len(people) > _PEOPLE_MAX else ""
        facts.append(("Attendees", ", ".join(_person(line) for line in people[:_PEOPLE_MAX]) + more))
    return [f"{name}: {_one_line(value)}" for name, value in facts if value] + [""]


def _when(part: Part) -> str:
    start, end = part.line("DTSTART"), part.line("DTEND") or part.line("DUE")
    said = [_moment(line) for line in (start, end) if line is not None]
    zone = next((line.parameter("TZID") for line in (start, end) if line is not None and line.parameter("TZID")), "")
    return " to ".join(said) + (f" ({zone})" if zone else "")


def _moment(line: Line) -> str:
    value = line.value.strip()
    for form, shown in (("%Y%m%dT%H%M%SZ", "%Y-%m-%d %H:%M UTC"), ("%Y%m%dT%H%M%S", "%Y-%m-%d %H:%M")):
        try:
            return datetime.strptime(value, form).strftime(shown)
        except ValueError:
            continue
    try:
        return datetime.strptime(value, "%Y%m%d").strftime("%Y-%m-%d")
    except ValueError:
        return value[:40]


def _person(line: Line | None) -> str:
    if line is None:
        return ""
    address = address_of(line.value)
    name = line.parameter("CN")
    shown = str(address) if address is not None else ""
    return f"{name} <{shown}>" if name and name != shown and shown else name or shown


def _one_line(value: str) -> str:
    return " ".join("".join(c if c >= " " and c != "\x7f" else " " for c in value).split())

"""A scheduling message as mail: whatever stands in it, the mail has one header and says what it says.

Standards: RFC 6047, RFC 6532.
"""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from scheduling_town import ALICE, BOB, meeting

from hosting.scheduling.imip import Written, message_of
from storage.itip.meeting import Meeting
from storage.values import EmailAddress


def written(data: bytes, sender: str = ALICE, recipient: str = BOB, name: str = "Alice") -> EmailMessage:
    facts = Written(EmailAddress.parse(sender), name, EmailAddress.parse(recipient), "m1", 1_796_000_000)
    mail = message_of(Meeting.read(data), data, facts)
    assert b"\n" not in mail.replace(b"\r\n", b"")
    assert mail.isascii() or not facts.recipient.is_ascii, "7BIT, as its envelope says"
    found = message_from_bytes(mail, policy=policy.SMTPUTF8)
    assert isinstance(found, EmailMessage)
    return found


@pytest.mark.parametrize(
    ("summary", "subject"),
    [
        ("Talk", "Invitation: Talk"),
        ("Besprechung über Käse", "Invitation: Besprechung über Käse"),
        ("One\\nBcc: zoe@far.example\\n\\nbody", "Invitation: One Bcc: zoe@far.example body"),
        ("会議" * 30, "Invitation: " + "会議" * 30),
        ("", "Invitation: (no title)"),
    ],
)
def test_subjects(summary: str, subject: str) -> None:
    data = meeting("LOCATION:Café", method="REQUEST").replace(b"SUMMARY:Talk", f"SUMMARY:{summary}".encode())
    mail = written(data)
    assert mail["Subject"] == subject and mail["Bcc"] is None
    [calendar] = [part for part in mail.walk() if part.get_content_type() == "text/calendar"]
    assert calendar.get_payload(decode=True) == data


@pytest.mark.parametrize("name", ["", "Alice", 'A "B" <c>', "Zoë\r\nBcc: x@y.z", "名前"])
def test_names(name: str) -> None:
    [sender] = written(meeting(method="REQUEST"), name=name)["From"].addresses
    assert sender.addr_spec == ALICE and sender.display_name == " ".join(name.split())


@pytest.mark.parametrize("address", ["zoë@far.example", '"a b"@far.example', "x@xn--bcher-kva.example"])
def test_addresses(address: str) -> None:
    parsed = EmailAddress.parse(address)
    [recipient] = written(meeting(method="REQUEST"), recipient=address)["To"].addresses
    local = recipient.username.encode("utf-8", "surrogateescape").decode()  # the parser has octets there
    assert (local, recipient.domain) == (parsed.local, parsed.domain.name)

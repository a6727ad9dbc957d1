"""Digests as texts: what they say, and that no word of a stranger can say more than a word."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.dsn.report import Sending
from gateway.quarantine.digest import ITEMS_MAX, NOTICE, Item, digest, is_digest
from storage.values import EmailAddress

SENDING = Sending("06h18sfqh3agm3iq", "mail.test", 1_750_000_000, EmailAddress.parse("ada@acme.test"))
ITEM = Item(
    "06h18sfqgr61p4qv",
    1_749_990_000,
    1_752_000_000,
    "Jörg <joerg@far.example>",
    "Ein Angebot",
    "Its content is that of spam.",
)


def read(octets: bytes) -> tuple[email.message.EmailMessage, str]:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage) and not message.defects
    return message, message.get_content().replace("\r\n", "\n")


def test_for_a_recipient() -> None:
    message, text = read(digest(SENDING, [ITEM], 1))
    assert message["Subject"] == "Withheld mail: 1 message" and message["To"] == "ada@acme.test"
    assert message["Auto-Submitted"] == "auto-generated" and message["X-Cleanmail-Notice"] == "digest"
    assert "  2025-06-15 12:20  Jörg <joerg@far.example>\n    Subject: Ein Angebot\n" in text
    assert "    Why:     Its content is that of spam.\n" in text
    assert "    Number:  06h18sfqgr61p4qv, kept until 2025-07-08\n" in text
    assert "tell your administrator its number" in " ".join(text.split())
    assert "cleanmail" not in text and "For:" not in text


def test_a_digest_is_known_by_its_field_alone() -> None:
    assert is_digest(digest(SENDING, [ITEM], 1))
    assert not is_digest(f"Subject: x\r\n\r\n{NOTICE}".encode()) and not is_digest(b"")


def test_for_administrators() -> None:
    items = [replace(ITEM, recipients=("ada@acme.test", "bob@acme.test")), replace(ITEM, author="", subject="")]
    message, text = read(digest(SENDING, items, 2, administrators=True))
    assert message["Subject"] == "Withheld mail: 2 messages"
    assert "    For:     ada@acme.test and 1 more\n" in text and "(no sender)" in text and "Subject: (none)" in text
    assert "  cleanmail quarantine release 06h18sfqgr61p4qv\n" in text
    assert digest(SENDING, items, 2, administrators=True).isascii(), "any server takes it"


def test_no_more_than_people_read() -> None:
    _, text = read(digest(SENDING, [ITEM] * (ITEMS_MAX + 5), 1000))
    assert text.count("Number:") == ITEMS_MAX and f"… and {1000 - ITEMS_MAX} more." in text


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=100))
def test_strangers_words_stay_words(author: str, subject: str, address: str) -> None:
    hostile = replace(ITEM, author=author, subject=subject, recipients=(address,))
    octets = digest(SENDING, [hostile], 1, administrators=True)
    message, text = read(octets)
    assert list(message.keys()) == list(read(digest(SENDING, [ITEM], 1))[0].keys())
    harmless = digest(SENDING, [replace(ITEM, recipients=("x",))], 1, administrators=True)
    assert text.count("\n") == read(harmless)[1].count("\n")
    assert max(len(line) for line in octets.split(b"\r\n")) <= 998 and b"\n" not in octets.replace(b"\r\n", b"")


def test_hostile_words() -> None:
    subject = "\x1b[2J\u202egpj.exe\u2028.\n--"
    hostile = replace(ITEM, author="x\r\nBcc: y@z\r\n\r\n", subject=subject, recipients=("a\nb",))
    message, text = read(digest(SENDING, [hostile], 1, administrators=True))
    assert message["Bcc"] is None
    assert "  x Bcc: y@z\n" in text and "Subject: [2J gpj.exe . --\n" in text

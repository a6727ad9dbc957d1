"""What is remarkable about headers: a table of small ones, each with what should be found in it."""

from __future__ import annotations

import pytest

from gateway.content_facts import ContentFacts, Finding, content_facts
from gateway.content_facts.findings import sentences
from gateway.content_facts.header_checks import organisation
from storage.mime.fields import read_header

NOW = 1_750_000_000  # 15 June 2025
GOOD = {
    "From": "Ann Example <ann@example.org>",
    "To": "joe@example.com",
    "Subject": "Lunch",
    "Date": "Sun, 15 Jun 2025 15:00:00 +0000",
    "Message-ID": "<1@example.org>",
}


def facts(fields: dict[str, str] | bytes, body: str = "Hello\r\n", *, smtputf8: bool = False) -> ContentFacts:
    if isinstance(fields, bytes):
        data = fields + b"\r\n" + body.encode()
    else:
        data = ("".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n" + body).encode()
    return content_facts(data, read_header(data), NOW, smtputf8=smtputf8)


def without(*names: str, **changes: str) -> dict[str, str]:
    return {**{name: value for name, value in GOOD.items() if name not in names}, **changes}


def raw(lines: str, *names: str) -> bytes:
    """The good header without the fields `names`, and `lines` before it."""
    return (lines + "".join(f"{name}: {value}\r\n" for name, value in without(*names).items())).encode("latin-1")


def test_an_ordinary_message_has_nothing_remarkable() -> None:
    assert facts(GOOD) == ContentFacts()


@pytest.mark.parametrize(
    ("fields", "finding"),
    [
        (without("From"), Finding.NO_FROM),
        (raw("From: <a@b.example>\r\n"), Finding.SEVERAL_FROM),
        (without(From="somebody"), Finding.FROM_UNREADABLE),
        (without(From="undisclosed: ;"), Finding.FROM_UNREADABLE),
        (without(From="a@example.org, b@example.org"), Finding.SEVERAL_AUTHORS),
        (without(From='"ceo@bank.example" <x@evil.example>'), Finding.FROM_NAME_IS_OTHER_ADDRESS),
        (without(From="=?utf-8?q?ceo=EF=BC=A0bank.example?= <x@evil.example>"), Finding.FROM_NAME_IS_OTHER_ADDRESS),
        (without(From="=?utf-8?b?Y2VvQGJhbmsuZXhhbXBsZQ==?= <x@evil.example>"), Finding.FROM_NAME_IS_OTHER_ADDRESS),
        (without(From="=?utf-8?q?Pay=E2=80=8BPal?= <x@evil.example>"), Finding.FROM_NAME_HIDDEN),
        (without(**{"Reply-To": "x@evil.example"}), Finding.REPLY_TO_OTHER_DOMAIN),
        (without("Date"), Finding.NO_DATE),
        (without(Date="yesterday"), Finding.DATE_UNREADABLE),
        (without(Date="Tue, 17 Jun 2025 15:00:00 +0000"), Finding.DATE_IN_FUTURE),
        (without(Date="Sat, 31 May 2025 15:00:00 +0000"), Finding.DATE_IN_PAST),
        (without("Message-ID"), Finding.NO_MESSAGE_ID),
        (without(**{"Message-ID": "1@example.org"}), Finding.MESSAGE_ID_MALFORMED),
        (without("To"), Finding.NO_RECIPIENTS),
        (without("Subject"), Finding.NO_SUBJECT),
        (without(Subject="WIN A MILLION NOW"), Finding.SUBJECT_SHOUTS),
        (without(Subject="=?utf-8?b?SGVsbG8=?="), Finding.SUBJECT_ENCODED_NEEDLESSLY),
        (without(Subject="=?utf-8?q?Hel=E2=80=8Blo?="), Finding.SUBJECT_HIDDEN),
        (without(Subject="Re: Lunch"), Finding.REPLY_WITHOUT_REFERENCE),
        (without(Subject="AW: Lunch"), Finding.REPLY_WITHOUT_REFERENCE),
        (raw("To: <a@b.example>\r\n"), Finding.DUPLICATE_FIELD),
        (raw("X-Name: J\xfcrgen\r\n"), Finding.EIGHT_BIT_HEADER),
        (raw("X-Name: a\0b\r\n"), Finding.CONTROLS_IN_HEADER),
        (raw("X-Name: a\x1bb\r\n"), Finding.CONTROLS_IN_HEADER),
        (raw("no field at all\r\n"), Finding.MALFORMED_FIELD),
        (raw("a name: value\r\n"), Finding.MALFORMED_FIELD),
        (raw(f"X-Long: {'a' * 1000}\r\n"), Finding.LONG_LINE_IN_HEADER),
        (without(**{"Content-Type": "text/plain"}), Finding.NO_MIME_VERSION),
    ],
)
def test_one_thing_is_remarkable(fields: dict[str, str] | bytes, finding: Finding) -> None:
    assert facts(fields).findings == {finding}
    assert finding.sentence.endswith((".", ")."))


@pytest.mark.parametrize(
    "fields",
    [
        without(Sender="a@example.org", From="a@example.org, b@example.org"),
        without(From='"ann@mail.example.org" <ann@example.org>'),
        without(From='"Ann @ Work" <ann@example.org>'),
        without(**{"Reply-To": "answers@lists.example.org"}),
        without(**{"Reply-To": "no address"}),
        without(Subject="Re: Lunch", References="<0@example.org>"),
        without(Subject="USA 2025"),
        without(Subject="=?utf-8?b?R3LDvMOfZQ==?="),
        without("To", Cc="joe@example.com"),
        without(**{"Message-ID": "<1@example.org> (made by a program)"}),
        without(Date="Mon, 2 Jun 2025 15:00:00 +0000"),
        raw("From ann@example.org Sun Jun 15 15:00:00 2025\r\n"),
        raw("X-Folded: " + "\r\n ".join(["a" * 900] * 3) + "\r\n"),
    ],
)
def test_nothing_is_remarkable(fields: dict[str, str] | bytes) -> None:
    assert facts(fields).findings == set()


def test_internationalised_headers_are_what_the_envelope_announced() -> None:
    assert facts(without(Subject="Grüße"), smtputf8=True).findings == set()
    assert facts(without(Subject="Grüße")).findings == {Finding.EIGHT_BIT_HEADER}


def test_without_a_clock_no_date_is_judged() -> None:
    data = b"Date: Fri, 1 Jan 1999 00:00:00 +0000\r\n\r\nHello"
    found = content_facts(data, read_header(data)).findings
    assert not found & {Finding.DATE_IN_PAST, Finding.DATE_IN_FUTURE}


@pytest.mark.parametrize(
    ("name", "value", "signs"),
    [  # is_list, is_bulk, is_automatic
        ("List-Id", "<l.example.org>", (True, True, False)),
        ("List-Post", "<mailto:l@example.org>", (True, True, False)),
        ("X-BeenThere", "l@example.org", (True, True, False)),
        ("Precedence", "list", (True, True, False)),
        ("Precedence", "Bulk", (False, True, False)),
        ("Precedence", "junk", (False, True, False)),
        ("List-Unsubscribe", "<https://example.org/u>", (False, True, False)),
        ("Auto-Submitted", "auto-replied (vacation)", (False, False, True)),
        ("Auto-Submitted", "auto-generated", (False, False, True)),
        ("Auto-Submitted", "no", (False, False, False)),
        ("Precedence", "auto_reply", (False, False, True)),
        ("X-Autoreply", "yes", (False, False, True)),
        ("X-Priority", "1", (False, False, False)),
    ],
)
def test_who_a_message_is_from(name: str, value: str, signs: tuple[bool, bool, bool]) -> None:
    found = facts(without(**{name: value}))
    assert (found.is_list, found.is_bulk, found.is_automatic) == signs


@pytest.mark.parametrize(
    ("domain", "registered"),
    [
        ("mail.example.org", "example.org"),
        ("example.org", "example.org"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("example.co.uk", "example.co.uk"),
        ("org", "org"),
        ("", ""),
    ],
)
def test_organisations(domain: str, registered: str) -> None:
    assert organisation(domain) == registered


def test_sentences_stand_in_one_order() -> None:
    assert sentences(frozenset({Finding.NO_DATE, Finding.NO_FROM})) == [
        "It names no author.",
        "It has no date.",
    ]

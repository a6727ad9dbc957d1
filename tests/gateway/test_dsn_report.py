"""Delivery status notifications as octets: what people read, what programs read, and that nothing breaks them."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from email.message import Message as AnyMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dsn import parts
from gateway.dsn.advice import advice
from gateway.dsn.notice import notice
from gateway.dsn.report import About, Sending, Told, report
from gateway.dsn.rules import Action
from storage.queue.entries import Reply
from storage.values import EmailAddress

HEADER = (
    b"From: Alice <alice@example.test>\r\nTo: bob@far.example\r\nSubject: Hello\r\nMessage-ID: <m1@example.test>\r\n"
)
ALICE = EmailAddress.parse("alice@example.test")
SENDING = Sending("dsnid", "mail.example.test", 1_750_000_300, ALICE)
ABOUT = About("entryid", 1_750_000_000, "env+2Bid", False, HEADER)
NO_SUCH_USER = Reply(550, "5.1.1", "No such user here", "mx.far.example")
BOB = Told(Action.FAILED, "bob@far.example", "rfc822;bob@far.example", "5.1.1", NO_SUCH_USER, 1_750_000_200)

FAILURE = """\
From: Mail Delivery System <postmaster@mail.example.test>
To: <alice@example.test>
Subject: Undelivered: your message could not be delivered
Date: Sun, 15 Jun 2025 15:11:40 +0000
Message-ID: <dsnid@mail.example.test>
Auto-Submitted: auto-replied
In-Reply-To: <m1@example.test>
References: <m1@example.test>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="=_dsnid"

--=_dsnid
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 7bit
Content-Description: Notification

This is the mail system at mail.example.test.

Your message could not be delivered to:

  bob@far.example
    The server mx.far.example said: 550 No such user here
    There is no such address. Please check it for typing mistakes, above all
    the part before the @.

The header of your message is attached; its text is not kept here.

--=_dsnid
Content-Type: message/delivery-status
Content-Transfer-Encoding: 7bit
Content-Description: Delivery report

Original-Envelope-Id: env+id
Reporting-MTA: dns; mail.example.test
Arrival-Date: Sun, 15 Jun 2025 15:06:40 +0000

Original-Recipient: rfc822; bob@far.example
Final-Recipient: rfc822; bob@far.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.far.example
Diagnostic-Code: smtp; 550 5.1.1 No such user here
Last-Attempt-Date: Sun, 15 Jun 2025 15:10:00 +0000
Final-Log-ID: entryid

--=_dsnid
Content-Type: text/rfc822-headers
Content-Transfer-Encoding: 7bit
Content-Description: Header of your message

From: Alice <alice@example.test>
To: bob@far.example
Subject: Hello
Message-ID: <m1@example.test>

--=_dsnid--
"""


def parsed(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)
    assert isinstance(message, EmailMessage)
    assert not message.defects and all(not each.defects for each in message.walk())
    return message


def three_parts(octets: bytes) -> tuple[str, list[AnyMessage], bytes]:
    """The text, the groups of fields and the returned header, as a mail program reads them."""
    message = parsed(octets)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    first, second, third = message.iter_parts()
    groups = second.get_payload()
    if second.get_content_type() == "message/global-delivery-status":
        [nested] = groups
        raw = nested.as_bytes()
        if second["Content-Transfer-Encoding"] == "quoted-printable":
            import quopri

            raw = quopri.decodestring(raw)
        groups = [
            email.message_from_bytes(block.encode(), policy=email.policy.SMTPUTF8)
            for block in raw.decode().replace("\r\n", "\n").split("\n\n")
            if block.strip()
        ]
    returned = third.get_payload(decode=True)
    if returned is None:  # message/global-headers is read as a message
        returned = third.get_payload(0).as_bytes()
    return first.get_content(), list(groups), returned


def test_a_failure_in_full() -> None:
    assert report(SENDING, ABOUT, [BOB]) == FAILURE.replace("\n", "\r\n").encode()


def test_programs_can_read_it() -> None:
    text, (message, bob), returned = three_parts(report(SENDING, ABOUT, [BOB]))
    assert "No such user here" in text
    assert message["Reporting-MTA"] == "dns; mail.example.test"
    assert (bob["Action"], bob["Status"], bob["Remote-MTA"]) == ("failed", "5.1.1", "dns; mx.far.example")
    assert returned.replace(b"\r\n", b"\n").strip() == HEADER.replace(b"\r\n", b"\n").strip()


def test_a_delay_says_until_when() -> None:
    delayed = Told(
        Action.DELAYED,
        "bob@far.example",
        "",
        "4.4.1",
        Reply(0, "4.4.1", "No answer from mx.far.example"),
        retry_until=1_750_400_000,
    )
    text, (_, bob), _ = three_parts(report(SENDING, ABOUT, [delayed]))
    assert "you need not send it again" in " ".join(text.split())
    assert "It is tried until Fri, 20 Jun 2025 06:13:20 +0000." in text
    assert bob["Will-Retry-Until"] == "Fri, 20 Jun 2025 06:13:20 +0000"
    assert bob["Diagnostic-Code"] == "x-cleanmail; No answer from mx.far.example"
    assert bob["Remote-MTA"] is None and bob["Original-Recipient"] is None


@pytest.mark.parametrize("action", [Action.DELIVERED, Action.RELAYED, Action.EXPANDED])
def test_a_success_has_no_advice(action: Action) -> None:
    text, (_, bob), _ = three_parts(
        report(SENDING, ABOUT, [Told(action, "bob@far.example", "", "2.0.0", Reply(0, "", ""))])
    )
    assert bob["Action"] == action.value and bob["Diagnostic-Code"] is None
    assert "mistakes" not in text
    assert parsed(report(SENDING, ABOUT, [Told(action, "b@far.example", "", "2.0.0", Reply(0, "", ""))]))[
        "Subject"
    ] == ("Delivered: your message has arrived")


def test_there_is_no_envelope_id_where_none_was_given() -> None:
    about = About("entryid", 1_750_000_000, "", False, HEADER)
    _, (message, _), _ = three_parts(report(SENDING, about, [BOB]))
    assert message["Original-Envelope-Id"] is None


@pytest.mark.parametrize(
    ("orcpt", "shown"),
    [
        ("rfc822;bob+2Btag@far.example", "rfc822; bob+tag@far.example"),
        ("rfc822;bob+0D+0AAction:+20delivered", "rfc822; bob Action: delivered"),
        ("utf-8;j\\x{F6}rg@far.example", "utf-8; j\\x{F6}rg@far.example"),
        ("utf-8;jörg@far.example", "utf-8; j\\x{F6}rg@far.example"),
        ("utf-8;x\\x{110000}y", "utf-8; x?y"),
        ("x400;+41", "x400; A"),
    ],
)
def test_the_original_recipient_is_decoded(orcpt: str, shown: str) -> None:
    told = Told(Action.FAILED, "bob@far.example", orcpt, "5.0.0", NO_SUCH_USER)
    _, (_, bob), _ = three_parts(report(SENDING, ABOUT, [told]))
    assert bob["Original-Recipient"] == shown


def test_a_long_reply_with_line_ends_and_other_characters_stays_one_field() -> None:
    reply = Reply(550, "5.7.1", "Nein, für Sie nicht\r\nAction: delivered\r\n" + "word " * 400, "mx.far.example")
    text, (_, bob), _ = three_parts(report(SENDING, ABOUT, [Told(Action.FAILED, "b@far.example", "", "5.7.1", reply)]))
    assert bob["Action"] == "failed"
    assert bob["Diagnostic-Code"].startswith("smtp; 550 5.7.1 Nein, f?r Sie nicht Action: delivered")
    assert "Nein, für Sie nicht Action: delivered" in " ".join(text.split())


def test_internationalised_to_an_ascii_sender_is_seven_bit() -> None:
    """RFC 6533 §4.5: nothing tells that the way back supports SMTPUTF8."""
    header = "From: Jörg <alice@example.test>\r\nSubject: Grüße\r\n".encode()
    about = About("entryid", 1_750_000_000, "", True, header)
    octets = report(SENDING, about, [Told(Action.FAILED, "jörg@far.example", "", "5.1.1", NO_SUCH_USER)])
    assert octets.isascii()
    assert b"message/global-delivery-status" in octets and b"message/global-headers" in octets
    text, (_, joerg), _ = three_parts(octets)
    assert "jörg@far.example" in text
    assert joerg["Final-Recipient"] == "utf-8; jörg@far.example"


def test_internationalised_to_such_a_sender_is_eight_bit() -> None:
    header = "From: Jörg <jörg@example.test>\r\nSubject: Grüße\r\n".encode()
    about = About("entryid", 1_750_000_000, "", True, header)
    sending = Sending("dsnid", "mail.example.test", 1_750_000_300, EmailAddress.parse("jörg@example.test"))
    octets = report(sending, about, [Told(Action.FAILED, "bob@far.example", "", "5.1.1", NO_SUCH_USER)])
    assert "To: <jörg@example.test>\r\n".encode() in octets
    assert b"Content-Type: message/delivery-status\r\nContent-Transfer-Encoding: 7bit" in octets
    assert b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit" in octets
    assert header in octets


def test_raw_octets_in_the_header_of_an_ordinary_message_are_encoded() -> None:
    about = About("entryid", 1_750_000_000, "", False, b"Subject: Gr\xfc\xdfe\r\nX: " + b"x" * 2000 + b"\r\n")
    octets = report(SENDING, about, [BOB])
    assert octets.isascii() and max(map(len, octets.split(b"\r\n"))) <= 998
    _, _, returned = three_parts(octets)
    assert b"Subject: Gr\xfc\xdfe" in returned


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nbody\r\n", b"A: 1\r\nB: 2\r\n"),
        (b"A: 1\r\n\r\n", b"A: 1\r\n"),
        (b"A: 1", b"A: 1\r\n"),
        (b"\r\nbody", b"\r\n"),
        (b"A: 1\nB: 2\n\nbody", b"A: 1\r\nB: 2\r\n"),
    ],
)
def test_only_the_header_is_returned(content: bytes, header: bytes) -> None:
    assert parts.header_of(content) == header


def test_an_enormous_header_is_cut_between_two_fields() -> None:
    field = b"X: " + b"y" * 70 + b"\r\n " + b"z" * 70 + b"\r\n"
    header = parts.header_of(field * 10_000 + b"\r\nbody")
    assert len(header) <= parts.HEADER_MAX and header == field * (len(header) // len(field))
    assert parts.header_of(b"X: " + b"y" * 100_000 + b"\r\n\r\n") == b""


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("5.1.1", "typing"),
        ("5.1.2", "domain"),
        ("5.1.99", "does not accept this address"),
        ("5.2.2", "full"),
        ("5.4.7", "given up"),
        ("5.4.99", "cannot be reached"),
        ("5.7.26", "rules"),
        ("5.0.0", "refused"),
        ("", "refused"),
    ],
)
def test_advice(status: str, word: str) -> None:
    assert word in advice(status)


def test_a_notice_to_administrators() -> None:
    stranger = EmailAddress.parse("stranger@spoofed.example")
    sending = Sending("noticeid", "mail.example.test", 1_750_000_300, EmailAddress.parse("postmaster@example.test"))
    message = parsed(notice(sending, ABOUT, stranger, [BOB]))
    text, header = message.iter_parts()
    assert message["Auto-Submitted"] == "auto-generated"
    words = " ".join(text.get_content().split())
    assert "could not be delivered to: bob@far.example The server mx.far.example said: 550 No such user here" in words
    assert "stranger@spoofed.example" in words and "SPF did not pass" in words
    assert header.get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(550, "5.1.1", "No such user", "mx.far.example"), "The server mx.far.example said: 550 No such user"),
        (Reply(0, "4.4.1", "No connection.", "mx.far.example"), "The server mx.far.example: No connection."),
        (Reply(0, "5.1.2", "There is no such domain."), "There is no such domain."),
        (Reply(550, "5.7.1", "An operator's reason"), "550 An operator's reason"),
        (Reply(550, "5.7.1", "", "mx.far.example"), ""),
    ],
)
def test_nobody_is_said_to_have_said_what_we_say_about_him(reply: Reply, expected: str) -> None:
    assert parts.words(reply) == expected


_text = st.text(st.characters(codec="utf-8"), max_size=200)


@given(_text, _text, st.binary(max_size=300), st.booleans(), st.sampled_from(Action))
def test_whatever_others_say_a_report_is_whole(
    said: str, orcpt: str, header: bytes, utf8: bool, action: Action
) -> None:
    told = Told(action, "bob@far.example", orcpt, "5.0.0", Reply(550, "5.0.0", said, said))
    about = About("entryid", 1, "env", utf8, parts.header_of(header))
    octets = report(SENDING, about, [told])
    assert octets.isascii()
    lines = octets.split(b"\r\n")
    assert all(len(line) <= 998 and b"\r" not in line and b"\n" not in line for line in lines)
    assert sum(line.startswith(b"Action:") for line in lines) == 1
    assert [line for line in lines if line.startswith(b"--=_dsnid")] == [b"--=_dsnid"] * 3 + [b"--=_dsnid--"]

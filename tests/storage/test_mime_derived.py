"""storage.mime.dates, subjects, threads, text, content: what SORT, THREAD, SEARCH and PREVIEW go by."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.mime.content import derive
from storage.mime.dates import SentDate, parse_date, sent_date
from storage.mime.fields import read_header
from storage.mime.message import read_message
from storage.mime.subjects import base_subject
from storage.mime.text import PREVIEW_MAX, preview, search_text
from storage.mime.threads import REFERENCES_MAX, message_ids, thread_ids

TYPICAL = (Path(__file__).parents[1] / "data" / "mime" / "typical.eml").read_bytes().replace(b"\n", b"\r\n")

DAY = 11921  # 22 August 2002
NOON = DAY * 86400 + 12 * 3600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"Thu, 22 Aug 2002 12:00:00 +0000", NOON),
        (b"Thu, 22 Aug 2002 12:00:00 -0330 (a (b) c)", NOON + 12600),
        (b"22 Aug 2002 12:00 GMT", NOON),
        (b" thu ,22 august 02 12:00:00 EST", None),
        (b"Thu, 22-Aug-02 12:00:00 EST", NOON + 5 * 3600),
        (b"22 Aug 102 12:00:00 +0200", NOON - 7200),
        (b"22 Aug 0102 12:00:00 +0200", NOON - 7200),
        (b"Thu, 22 Aug 2002 12:00:00", NOON),
        (b"Thu, 22 Aug 2002 12:00:00 +02:00", NOON - 7200),
        (b"Thu, 22 Aug 2002 12:00:00 GMT+0200", NOON - 7200),
        (b"Thu, 22 Aug 2002 12.00.00 XYZ", NOON),
        (b"Thu, 22 Aug 2002", DAY * 86400),
        (b"Thu Aug 22 12:00:00 2002", NOON),
        (b"Thu Aug 22 12:00:00 PDT 2002", NOON + 7 * 3600),
        (b"2002-08-22T12:00:00Z", NOON),
        (b"2002-08-22 12:00:00.5 +0100", NOON - 3600),
        (b"Thu, 22 Aug 2002 23:59:60 +0000", (DAY + 1) * 86400),
    ],
)
def test_dates(value: bytes, seconds: int | None) -> None:
    """RFC 5322 §3.3, §4.3; the day is the one that was written (RFC 9051 §6.4.4)."""
    assert parse_date(value) == (None if seconds is None else SentDate(seconds, DAY))


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (b"Thu, 22 Aug 2002 12:00:00 +0000", True),
        (b" (c) Thu,22 Aug 02 1:00 (a) +-0500", True),
        (b"22 Aug 2002 12.00.00 Eastern Daylight Time", True),
        (b"Thu, 22 Aug 2002 01:00:00 AM", True),
        (b"Thu, 22 Aug 2002 01:00:00 0530", True),
        (b"22 Aug 0102 12:00:00 +0200", False),
        (b"22 Aug 102 12:00:00 +0200", False),
        (b"22 Aug 2002 12:00:3 +0200", False),
        (b"22 Aug 2002 12:0:30 +0200", False),
        (b"Thu, 22-Aug-02 12:00:00 EST", False),
        (b"Thu Aug 22 12:00:00 2002", False),
        (b"2002-08-22T12:00:00Z", False),
        (b"22 Aug 2002", False),
    ],
)
def test_dates_of_order(value: bytes, counts: bool) -> None:
    """RFC 5256 §2.2: what cannot be parsed is ordered by its arrival."""
    assert sent_date(value) == (parse_date(value) if counts else None)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"Thu",
        b"30 Feb 2002 1:00:00 +0000",
        b"1 Foo 2002",
        b"1 Jan 2002 25:00:00",
        b"1 Jan 2002 10:60:00",
        b"99999",
        b"\xff" * 300,
    ],
)
def test_what_is_no_date(value: bytes) -> None:
    assert parse_date(value) is None


@pytest.mark.parametrize(
    ("subject", "base", "changed"),
    [
        ("Hello", "HELLO", False),
        ("  Hello \t World ", "HELLO WORLD", False),
        ("Re: Hello", "HELLO", True),
        ("re : fw: FWD: Hello", "HELLO", True),
        ("Re[2]: Hello", "HELLO", True),
        ("Re [x] : Hello", "HELLO", True),
        ("[list] Re: [list] Hello", "HELLO", True),
        ("[list] Hello", "HELLO", False),
        ("[one] [two]", "[TWO]", False),
        ("Re: [two]", "[TWO]", True),
        ("Hello (fwd) (FWD)", "HELLO", True),
        ("[Fwd: Re: [x] Hello (fwd)]", "HELLO", True),
        ("[fwd: Hello", "[FWD: HELLO", False),
        ("Re:", "", True),
        ("", "", False),
        ("Regarding: x", "REGARDING: X", False),
        ("Re: é", "E\u0301", True),
    ],
)
def test_base_subjects(subject: str, base: str, changed: bool) -> None:
    """RFC 5256 §2.1."""
    assert base_subject(subject) == (base, changed)


def test_message_ids() -> None:
    assert message_ids(b'<a@b> x <"c"@d> (y) <e\r\n @f> <no> <> <g@h') == ["a@b", "c@d", "e@f"]


@pytest.mark.parametrize(
    ("header", "own", "references"),
    [
        (b"", "", ()),
        (b"Message-ID: <a@b> <c@d>\r\n", "a@b", ()),
        (b"Message-ID: none\r\nReferences: <a@b>\r\n <c@d>\r\nIn-Reply-To: <e@f>\r\n", "", ("a@b", "c@d")),
        (b"References: none\r\nIn-Reply-To: Your mail <e@f> <g@h>\r\n", "", ("e@f",)),
    ],
)
def test_thread_ids(header: bytes, own: str, references: tuple[str, ...]) -> None:
    """RFC 5256 §3: In-Reply-To counts only without References."""
    assert thread_ids(read_header(header)) == (own, references)


def test_of_many_references_the_first_and_the_last_stay() -> None:
    value = b"References:" + b"".join(b" <%d@x>" % n for n in range(5000))
    references = thread_ids(read_header(value)).references
    assert len(references) == REFERENCES_MAX
    assert (references[0], references[1], references[-1]) == ("0@x", "4001@x", "4999@x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\r\n Hello\r\n\r\n  world \t!\r\n", "Hello world !"),
        (b"\r\n> quoted\r\nmine\r\n", "mine"),
        (b"\r\n> quoted\r\n> only\r\n", "> quoted > only"),
        (b"Content-Type: text/html\r\n\r\n<style>p {}</style><!-- x --><p>a&amp;b</p><br>c", "a&b c"),
        (b"Content-Type: text/html\r\n\r\n<title>never closed <b>x", ""),
        (b"Content-Type: image/png\r\n\r\nx", ""),
        (b"Content-Disposition: attachment\r\n\r\nx", ""),
        (b"Content-Transfer-Encoding: base64\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nw6nDqQ==", "éé"),
    ],
)
def test_previews(text: bytes, expected: str) -> None:
    """RFC 8970 §3.2: text of the message, white space compressed."""
    assert preview(read_message(text)) == expected


def test_a_preview_is_short_and_looks_past_what_shows_nothing() -> None:
    assert len(preview(read_message(b"\r\n" + b"word " * 1000))) <= PREVIEW_MAX
    newsletter = b"Content-Type: text/html\r\n\r\n<style>" + b"p { color: red }\n" * 3000 + b"</style><p>News"
    assert preview(read_message(newsletter)) == "News"


def test_text_for_searching() -> None:
    text = search_text(read_message(TYPICAL))
    assert text.subject == "RE: [TEAM] CAFE\u0301 AU LAIT"
    assert text.from_ == "RENE\u0301 DUPONT <RENE@EXAMPLE.TEST>"
    assert "FRIENDS: ANN@EXAMPLE.TEST" in text.to_
    assert text.cc == "BARE@EXAMPLE.TEST (BARE PERSON)"
    assert text.bcc == ""
    assert "\nSUBJECT: RE: [TEAM] CAFE\u0301 AU LAIT\nDATE:" in text.headers
    assert "CAFE\u0301 AT NOON?" in text.body
    assert "CAF&EACUTE;" in text.body  # HTML as its source
    own, _, inner = text.headers.partition("\n\n")
    assert "U\u0308BERSICHT 2024.PDF" in inner and "PLAN.PDF" in inner  # header fields of MIME: TEXT, not BODY
    assert "INNER SUBJECT" in inner and "INNER SUBJECT" not in text.body and "INNER SUBJECT" not in own
    assert "SECOND" in text.body and "\nCONTENT-TYPE: TEXT/X-NOTES" in inner
    assert "QUJD" not in text.body


def test_text_for_searching_is_bounded() -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n0123456789\r\n" * 10
    assert search_text(read_message(data), limit=25).body.replace("\n", "") == "0123456789" * 2 + "01234"


def test_everything_that_is_kept() -> None:
    derived = derive(read_message(TYPICAL))
    assert derived.listed.startswith(b"From: =?utf-8?q?") and derived.listed.endswith(b'boundary="outer"\r\n')
    assert derived.received.count(b"Received: from") == 2
    assert derived.received_first
    assert TYPICAL[: derived.header_end].endswith(b"\r\n\r\n")
    assert (derived.base_subject, derived.reply_or_forward) == ("CAFE\u0301 AU LAIT", True)
    assert (derived.sort_from, derived.sort_to, derived.sort_cc) == ("RENE", "TEAM", "BARE")
    assert (derived.message_id_field, derived.references) == (
        "third@example.test",
        "first@example.test second@example.test",
    )
    assert derived.preview == "Café at noon?"
    assert derived.sent == SentDate(1709542800, 19786)

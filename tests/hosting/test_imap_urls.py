"""URLs of messages, as CATENATE names them: what is one of this session, and what they mean.

Standards: RFC 5092 §5, §7, §11; RFC 4469 §3, §4.1, §5.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosting.imap.commands import Section
from hosting.imap.storing.urls import BadUrl, MessageUrl, parse, shown

REST = 1 << 63

GOOD: list[tuple[str, str | None, MessageUrl]] = [
    ("/INBOX/;UID=1", None, MessageUrl("INBOX", 1, Section())),
    ("/inbox;uidvalidity=3/;uid=20/;section=header", None, MessageUrl("INBOX", 20, Section(text="HEADER"), 3)),
    ("/Drafts/;UID=20/;SECTION=1.MIME", "x", MessageUrl("Drafts", 20, Section((1,), "MIME"))),
    ("/a/b/;UID=4294967295/;PARTIAL=5.10", None, MessageUrl("a/b", 4294967295, Section(partial=(5, 10)))),
    ("/a/;UID=1/;SECTION=2.TEXT/;PARTIAL=7", None, MessageUrl("a", 1, Section((2,), "TEXT", (), (7, REST)))),
    (
        "/a/;UID=1/;SECTION=HEADER.FIELDS%20(To%20%22Cc%22)",
        None,
        MessageUrl("a", 1, Section((), "HEADER.FIELDS", (b"To", b"Cc"))),
    ),
    ("/f%C3%BCr%20mich%3B/;UID=1", None, MessageUrl("für mich;", 1, Section())),
    ("/fu%CC%88r/;UID=1", None, MessageUrl("für", 1, Section())),
    ("/&APw-/;UID=1", None, MessageUrl("&APw-", 1, Section())),
    (";UID=20", "Drafts", MessageUrl("Drafts", 20, Section())),
    (";UID=20/;SECTION=TEXT", "a;b/c", MessageUrl("a;b/c", 20, Section(text="TEXT"))),
    ("b/;UID=20", None, MessageUrl("b", 20, Section())),
    ("b/;UID=20", "a/x", MessageUrl("a/b", 20, Section())),
    ("b;UIDVALIDITY=1/;UID=20", "x", MessageUrl("b", 20, Section(), 1)),
]


@pytest.mark.parametrize(("url", "selected", "expected"), GOOD, ids=[row[0] for row in GOOD])
def test_urls_of_messages(url: str, selected: str | None, expected: MessageUrl) -> None:
    assert parse(url.encode(), selected) == expected


BAD = (
    "", "/", "INBOX", "/INBOX", "/INBOX/", "/INBOX;UID=1", ";UID=1", "/;UID=1", "//;UID=1", "//host/a/;UID=1",
    "imap://host/a/;UID=1", "imap:a/;UID=1", "x-y:/a/;UID=1", "/a/;UID=", "/a/;UID=0", "/a/;UID=x", "/a/;UID=1,2",
    "/a/;UID=4294967296", "/a;UIDVALIDITY=0/;UID=1", "/a;UIDVALIDITY=/;UID=1", "/a;X=1/;UID=1", "/a/;UID=1/",
    "/a/;UID=1/;SECTION=", "/a/;UID=1/;SECTION=0", "/a/;UID=1/;SECTION=HEADER.FIELDS", "/a/;UID=1/;SECTION=1]",
    "/a/;UID=1/;SECTION=1%5D%3C0.1%3E", "/a/;UID=1/;SECTION=%7B3%7D", "/a/;UID=1/;SECTION=1.2.", "/a/;UID=1/;PARTIAL=",
    "/a/;UID=1/;PARTIAL=1.0", "/a/;UID=1/;PARTIAL=x", "/a/;UID=1/;PARTIAL=1.2.3", "/a/;PARTIAL=1/;UID=1",
    "/a/;UID=1;URLAUTH=submit+x:internal:00", "/a/;UID=1;EXPIRE=2030-01-01T00:00:00Z", "/a/;UID=1?SUBJECT%20x",
    "/a/;UID=1#x", "/a b/;UID=1", "/ü/;UID=1", "/%FF/;UID=1", "/%/;UID=1", "/%0/;UID=1", "/a/;UID=1\n", '/"a"/;UID=1',
)  # fmt: skip


@pytest.mark.parametrize("url", BAD)
def test_what_is_none(url: str) -> None:
    with pytest.raises(BadUrl):
        parse(url.encode(), None)


@given(octets=st.binary(max_size=60) | st.text("/;%UIDSECTON=0123.(ab", max_size=60).map(str.encode))
def test_whatever_comes_is_a_message_or_bad(octets: bytes) -> None:
    """Never anything else; and what is told of it fits into a response code (RFC 4469 §5)."""
    with suppress(BadUrl):
        assert parse(octets, "a").uid > 0
    text = shown(octets)
    assert text.isascii() and not set(text) & set(b'[]"\\ \r\n\0{}') and shown(text) == text


def test_long_urls_are_read_in_one_pass() -> None:
    for url in ("/" + "a" * 60_000, "/a/" + ";UID=1" * 10_000, "/a/;UID=1/;SECTION=" + "1." * 30_000, "/" * 60_000):
        with pytest.raises(BadUrl):
            parse(url.encode(), "a")
    assert len(shown(b"]" * 60_000)) == 3000

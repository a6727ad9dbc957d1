"""What is remarkable about the texts and the structure of messages."""

from __future__ import annotations

import pytest

from gateway.content_facts import Finding, Incomplete, content_facts
from storage.mime.fields import read_header

HEAD = (
    b"From: ann@example.org\r\nTo: joe@example.com\r\nSubject: Lunch\r\nMessage-ID: <1@example.org>\r\n"
    b"Date: Sun, 15 Jun 2025 15:00:00 +0000\r\nMIME-Version: 1.0\r\n"
)
WORDS = "Dear reader, this is a text that is long enough to be one, with words and all that belongs to a text. "


def found(rest: str | bytes) -> frozenset[Finding]:
    data = HEAD + (rest.encode("utf-8") if isinstance(rest, str) else rest)
    return content_facts(data, read_header(data)).findings


def page(body: str) -> str:
    return f"Content-Type: text/html; charset=utf-8\r\n\r\n<html><body>{body}</body></html>\r\n"


def both(plain: str, html: str) -> str:
    return (
        "Content-Type: multipart/alternative; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/plain\r\n\r\n{plain}\r\n--b\r\nContent-Type: text/html\r\n\r\n{html}\r\n--b--\r\n"
    )


@pytest.mark.parametrize(
    ("rest", "findings"),
    [
        ("\r\nHello\r\n", set()),
        ("\r\n \r\n\u200b\r\n", {Finding.EMPTY_BODY}),
        ("Content-Type: text/plain\r\n\r\n", {Finding.EMPTY_BODY}),
        (both("Hello", f"<p>{WORDS}</p>"), set()),
        (both(" \r\n", f"<p>{WORDS}</p>"), {Finding.TEXT_DIFFERS_FROM_HTML}),
        (page(WORDS), {Finding.HTML_ONLY}),
        (page("<img src='https://e.example/a.png'>"), {Finding.HTML_ONLY, Finding.HTML_ONLY_IMAGES}),
        (page("<IMG width=1 SRC=//e.example/a.png>&nbsp;"), {Finding.HTML_ONLY, Finding.HTML_ONLY_IMAGES}),
        (page(f"<img src='https://e.example/a.png'>{WORDS}"), {Finding.HTML_ONLY}),
        (page("<img src='cid:1'>"), {Finding.HTML_ONLY}),
        (page(f"<style>{WORDS}</style><img src=http://e.example/>"), {Finding.HTML_ONLY, Finding.HTML_ONLY_IMAGES}),
        (page(f"{WORDS}<form action=x>"), {Finding.HTML_ONLY, Finding.HTML_FORM}),
        (page(f"{WORDS}<script>x</script>"), {Finding.HTML_ONLY, Finding.HTML_SCRIPT}),
        (page(f"{WORDS}<img src=x ONERROR = 'x()'>"), {Finding.HTML_ONLY, Finding.HTML_SCRIPT}),
        (page(f"{WORDS}<a href='javascript:x()'>here</a>"), {Finding.HTML_ONLY, Finding.HTML_SCRIPT}),
        (page(f"{WORDS} depends on load = high; once=1"), {Finding.HTML_ONLY}),
        (
            page(f"{WORDS}<a href='https://evil.example/x'>https://bank.example/login</a>"),
            {Finding.HTML_ONLY, Finding.LINK_SHOWS_OTHER_HOST},
        ),
        (page(f"{WORDS}<a href='https://www.bank.example/x'>bank.example</a>"), {Finding.HTML_ONLY}),
        (page(f"{WORDS}<a href='https://e.example/x'>report.pdf</a>"), {Finding.HTML_ONLY}),
        (page(f"{WORDS}<a href='https://e.example/x'>Version 2.0 is here</a>"), {Finding.HTML_ONLY}),
        ("\r\nSee http://192.0.2.1/x\r\n", {Finding.LINK_TO_ADDRESS}),
        ("\r\nSee http://3221225985/x\r\n", {Finding.LINK_TO_ADDRESS}),
        ("\r\nSee http://0xc0.0.2.1/x\r\n", {Finding.LINK_TO_ADDRESS}),
        ("\r\nSee https://[2001:db8::1]/x\r\n", {Finding.LINK_TO_ADDRESS}),
        ("\r\nSee https://bank.example@evil.example/\r\n", {Finding.LINK_WITH_CREDENTIALS}),
        ("\r\nSee https://e.example/a@b\r\n", set()),
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\nHello\r\n", {Finding.BOUNDARY_MISSING, Finding.EMPTY_BODY}),
        ("Content-Type: message/partial; id=1; number=1\r\n\r\nHello\r\n", {Finding.PARTIAL}),
        ("Content-Type: message/external-body; access-type=URL\r\n\r\nHello\r\n", {Finding.EXTERNAL_BODY}),
        ("Content-Transfer-Encoding: rot13\r\n\r\nHello\r\n", {Finding.UNKNOWN_ENCODING}),
        ("Content-Type: text/plain\r\n\r\nHel\0lo\r\n", {Finding.BINARY_TEXT}),
    ],
)
def test_texts(rest: str, findings: set[Finding]) -> None:
    assert found(rest) == findings


def test_a_text_beside_an_attachment_may_be_empty() -> None:
    assert Finding.EMPTY_BODY not in found(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\r\n"
        "--b\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--b--\r\n"
    )


def nested(levels: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(levels))


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (nested(200), Incomplete.TOO_DEEP),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 12_000, Incomplete.TOO_MANY),
    ],
)
def test_structures_that_no_program_makes(rest: bytes, reason: Incomplete) -> None:
    data = HEAD + rest
    facts = content_facts(data, read_header(data))
    assert Finding.TOO_MANY_PARTS in facts.findings
    assert facts.incomplete is reason

"""The rules of submission, by table (RFC 6409 §6.1, §8; RFC 5322 §3.6)."""

from __future__ import annotations

import pytest

from gateway.smtp.replies import Refused, SmtpReply
from hosting.submission.rules import (
    BAD_FROM,
    BAD_HEADER,
    MANY_FROM,
    NO_FROM,
    Stamp,
    claimed_senders,
    read_submitted_header,
    submitted,
)
from storage.values import EmailAddress

STAMP = Stamp("mail.example.test", "ESMTPSA", "0q1w2e3r", 1_000_000_000)
FROM = b"From: alice@example.test\r\n"


def claimed(header: bytes) -> list[str]:
    return [str(address) for address in claimed_senders(read_submitted_header(header + b"\r\nbody\r\n"))]


@pytest.mark.parametrize(
    ("header", "addresses"),
    [
        (b"From: alice@example.test\r\n", ["alice@example.test"]),
        (b'From: "Alice" <Alice+x@Example.Test>\r\n', ["Alice+x@example.test"]),
        (b"From: alice@example.test <alice@example.test>\r\n", ["alice@example.test"]),
        (b"From: ceo@bank.example <alice@example.test>\r\n", ["alice@example.test", "ceo@bank.example"]),
        (b'From: "ceo@bank.example" <alice@example.test>\r\n', ["alice@example.test"]),  # a name, in quotes
        (b"From: alice@example.test (ceo@bank.example)\r\n", ["alice@example.test"]),
        (b"From: a@b.example, c@d.example\r\nSender: e@f.example\r\n", ["a@b.example", "c@d.example", "e@f.example"]),
        (b"From: team: a@b.example, c@d.example;\r\n", ["a@b.example", "c@d.example"]),
        (b"From :\r\n alice@example.test\r\n", ["alice@example.test"]),
        ("From: <jörg@bücher.example>\r\n".encode(), ["jörg@xn--bcher-kva.example"]),
        (b"From: =?utf-8?q?J=C3=B6rg?= <a@b.example>\r\n", ["a@b.example"]),
        (b'From: "a b"@c.example\r\n', ['"a b"@c.example']),
        (b"Resent-From: x@y.example\r\n" + FROM, ["alice@example.test"]),
    ],
)
def test_claimed_senders(header: bytes, addresses: list[str]) -> None:
    assert sorted(claimed(header)) == sorted(addresses)


@pytest.mark.parametrize(
    ("header", "reply"),
    [
        (b"Subject: x\r\n", NO_FROM),
        (b"", NO_FROM),
        (b"From:\r\n", NO_FROM),
        (b"From: undisclosed:;\r\n", NO_FROM),
        (b"Subject: x\r\n\r\nFrom: alice@example.test\r\n", NO_FROM),  # in the body
        (FROM + FROM, MANY_FROM),
        (FROM + b"Sender: a@b.example\r\nSender: c@d.example\r\n", MANY_FROM),
        (b"From: Alice\r\n", BAD_FROM),
        (b"From: alice@localhost\r\n", BAD_FROM),
        (b'From: alice@example.test, "open <ceo@bank.example>\r\n', BAD_FROM),
        (b"From: alice@example.test (open <ceo@bank.example>\r\n", BAD_FROM),
        (b"From: alice@example.test) <ceo@bank.example>\r\n", BAD_FROM),
        (b"From: \xff@example.test\r\n", BAD_FROM),
        (FROM + b"X: y\r\n" * 100_001, BAD_HEADER),
    ],
)
def test_refused(header: bytes, reply: SmtpReply) -> None:
    with pytest.raises(Refused) as refused:
        claimed(header)
    assert refused.value.reply == reply


def kept(header: bytes) -> tuple[bytes, bytes]:
    data = header + b"\r\nBcc: not a field\r\n"
    senders = (EmailAddress.parse("alice@example.test"),)
    message = submitted(data, read_submitted_header(data), STAMP, senders)
    return message.prefix, message.data


def test_what_is_added() -> None:
    prefix, data = kept(FROM)
    assert prefix == (
        b"Received: by mail.example.test with ESMTPSA id 0q1w2e3r;\r\n\tSun, 09 Sep 2001 01:46:40 +0000\r\n"
        b"Date: Sun, 09 Sep 2001 01:46:40 +0000\r\n"
        b"Message-ID: <0q1w2e3r@example.test>\r\n"
    )
    assert data == FROM + b"\r\nBcc: not a field\r\n"


def test_what_is_there_stays() -> None:
    prefix, _ = kept(FROM + b"date: today\r\nMESSAGE-ID: <x@y>\r\n")
    assert prefix.count(b"\r\n") == 2
    assert prefix.startswith(b"Received:")


def test_border() -> None:
    _, data = kept(
        b"Return-Path: <a@b.example>\r\nBcc: secret@example.org,\r\n more@example.org\r\n"
        + FROM
        + b"Resent-Bcc: x@y.example\r\nAuthentication-Results: MAIL.example.test; spf=pass\r\n"
        b"Authentication-Results: other.example; spf=pass\r\nX-Cleanmail-Score: 0\r\nSubject: bcc: x\r\nbcc:\r\n"
    )
    assert data == (
        FROM + b"Authentication-Results: other.example; spf=pass\r\nSubject: bcc: x\r\n\r\nBcc: not a field\r\n"
    )

"""The header of what arrives: limits, loops, and the fields that we put in front."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.acceptance.border import without_border
from gateway.mx import header as mx
from gateway.mx.header import (
    Client,
    authentication_results,
    check_loops,
    read_arriving_header,
    received,
    verdict_field,
)
from gateway.policy.verdict import Action, Reason, Verdict
from gateway.smtp.replies import Refused
from storage.mime.fields import read_header
from storage.values import EmailAddress

ADA = EmailAddress.parse("ada@here.test")
CLIENT = Client("192.0.2.1", "mx.far.test", "out.far.test", "ESMTPS", "TLSv1.3 with TLS_AES_256_GCM_SHA384")


def refused(data: bytes, *recipients: EmailAddress) -> str:
    try:
        check_loops(read_arriving_header(data), recipients)
    except Refused as error:
        return f"{error.reply.code} {error.reply.status}"
    return ""


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"", ""),
        (b"Subject: x\r\n\r\nbody", ""),
        (b"no header at all", ""),
        (b"X: " + b"y" * (mx.HEADER_MAX - 7) + b"\r\n\r\n", ""),
        (b"X: " + b"y" * mx.HEADER_MAX + b"\r\n\r\n", "554 5.6.0"),
        (b"X: " + b"\r\n y" * (mx.HEADER_MAX // 4) + b"\r\n\r\n", "554 5.6.0"),
        (b"y" * (2 * mx.HEADER_MAX), "554 5.6.0"),  # one line, no end of the header
        (b"X: y\r\n" * mx.FIELDS_MAX + b"\r\n" + b"Z: z\r\n" * 10, ""),
        (b"X: y\r\n" * (mx.FIELDS_MAX + 1) + b"\r\n", "554 5.6.0"),
        (b"\r\n" + b"X: y\r\n" * (mx.FIELDS_MAX + 1), ""),  # all of it is body
        (b"Received: x\r\n" * 100 + b"\r\n" + b"Received: x\r\n" * 100, ""),
        (b"Received: x\r\n" * 50 + b"RECEIVED : x\r\n" * 51 + b"\r\n", "554 5.4.6"),
        (b"Delivered-To: ada@here.test\r\n\r\n", "554 5.4.6"),
        (b"Delivered-To: bob@here.test\r\ndelivered-to:\r\n <ADA@Here.Test>\r\n\r\n", "554 5.4.6"),
        (b"Delivered-To: bob@here.test\r\nDelivered-To: not an address \xff\r\n\r\n", ""),
        (b"X: y\r\n\r\nDelivered-To: ada@here.test\r\n", ""),
    ],
)
def test_limits_and_loops(data: bytes, reply: str) -> None:
    """RFC 5321 §6.3."""
    assert refused(data, ADA) == reply


def test_received() -> None:
    """RFC 5321 §4.4."""
    assert received(CLIENT, "mx.here.test", "abc123", 0, ADA).decode().split("\r\n") == [
        "Received: from mx.far.test (out.far.test [192.0.2.1])",
        "\t(using TLSv1.3 with TLS_AES_256_GCM_SHA384)",
        "\tby mx.here.test with ESMTPS id abc123",
        "\tfor <ada@here.test>;",
        "\tThu, 01 Jan 1970 00:00:00 +0000",
        "",
    ]
    lines = received(Client("2001:db8::1", "[IPv6:2001:db8::1]", "", "SMTP"), "mx.here.test", "abc123", 0, None)
    assert lines.decode().split("\r\n")[:2] == [
        "Received: from [IPv6:2001:db8::1] (unknown [IPv6:2001:db8::1])",
        "\tby mx.here.test with SMTP id abc123;",
    ]


@pytest.mark.parametrize(
    "hello", ["", "a b", "x)", "x\tBcc: y", "evil (friend.test [1.2.3.4])", "\u202eexample", "x" * 300, "-x", "(", "[["]
)
def test_what_a_client_says_of_itself_is_a_name_or_nothing(hello: str) -> None:
    field = received(Client("192.0.2.1", hello, "", "ESMTP"), "mx.here.test", "abc123", 0, None)
    assert field.startswith(b"Received: from unknown (unknown [192.0.2.1])\r\n")


def test_authentication_results() -> None:
    """RFC 8601 §2.2."""
    assert authentication_results("mx.here.test") == b"Authentication-Results: mx.here.test;\r\n\tnone\r\n"
    assert authentication_results("mx.here.test", "spf=pass smtp.mailfrom=far.test", "dkim=none") == (
        b"Authentication-Results: mx.here.test;\r\n\tspf=pass smtp.mailfrom=far.test;\r\n\tdkim=none\r\n"
    )


def verdict(sentence: str, score: float | None = None) -> bytes:
    return verdict_field(Verdict(Action.JUNK, Reason.SPAM, sentence, "", score))


def test_the_verdict_for_whoever_reads_the_message() -> None:
    sentence = "The content of the message is like that of spam: its score is 7.4, and from 4 on it is spam."
    assert verdict(sentence, 7.44) == (
        b"X-Cleanmail-Verdict: junk; reason=spam; score=7.4;\r\n"
        b'\t"The content of the message is like that of spam: its score is 7.4, and from\r\n'
        b'\t4 on it is spam."\r\n'
    )
    assert verdict("") == b"X-Cleanmail-Verdict: junk; reason=spam\r\n"


@given(st.text(max_size=2000), st.none() | st.floats(-1e6, 1e6))
def test_no_word_of_a_stranger_gets_out_of_the_sentence(sentence: str, score: float | None) -> None:
    field = verdict(sentence, score)
    head = read_header(field + b"\r\n")
    assert [each.name for each in head.fields] == [b"x-cleanmail-verdict"]
    assert field.isascii() and field.endswith(b"\r\n") and field.count(b'"') in (0, 2) and b"\\" not in field
    assert all(0 < len(line) < 998 and line.strip() for line in field.split(b"\r\n")[:-1])


def test_the_border_removes_what_only_we_may_say() -> None:
    data = (
        b"Return-Path: <x@y>\r\nAuthentication-Results: MX.here.test ; spf=pass\r\nX-Cleanmail-Verdict: fine\r\n"
        b"Authentication-Results: other.test; spf=fail\r\nSubject: x\r\n folded\r\nx-cleanmail-:\r\n more\r\n"
        b"Authentication-Results: mx.here.test.evil; spf=pass\r\n\r\nReturn-Path: <in the body>\r\n"
    )
    assert without_border(data, read_header(data), "mx.here.test") == (
        b"Authentication-Results: other.test; spf=fail\r\nSubject: x\r\n folded\r\n"
        b"Authentication-Results: mx.here.test.evil; spf=pass\r\n\r\nReturn-Path: <in the body>\r\n"
    )
    again = b"Authentication-Results: mx.here.test; spf=pass\r\n"
    other = b"authentication-results : MX.HERE.TEST; dkim=pass\r\n"
    data = again + b"A: b\r\n" + other + again + b"\r\n" + again
    assert without_border(data, read_header(data), "mx.here.test") == b"A: b\r\n\r\n" + again
    plain = b"Subject: x\r\n\r\nbody"
    assert without_border(plain, read_header(plain), "mx.here.test") is plain


@pytest.mark.parametrize(
    "beginning", [b" spf=pass", b"\tdkim=pass header.d=x.test", b" ", b"X-Cleanmail-A: b\r\n spf=pass"]
)
def test_no_first_line_continues_a_field_of_ours(beginning: bytes) -> None:
    """RFC 5322 §2.2.3: a line that begins with white space belongs to the field before it."""
    data = beginning + b"\r\nSubject: x\r\n\r\nbody"
    ours = authentication_results("mx.here.test", "spf=fail")
    stored = ours + without_border(data, read_header(data), "mx.here.test")
    assert read_header(stored).value(b"authentication-results") == b"mx.here.test;\tspf=fail"
    assert stored.endswith(b"Subject: x\r\n\r\nbody")


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        (b" mx.here.test; spf=pass", True),
        (b"\r\n mx.here.test\r\n 1; spf=pass", True),
        (b" (a comment) mx.here.test; spf=pass", True),
        (b' (nested ("\\)); more)\r\n (two) MX.Here.Test(x); spf=pass', True),
        (b' "mx.here.test"; spf=pass', True),
        (b' "mx\\.here.test" 1; spf=pass', True),
        (b" mx.here.test", True),
        (b" mx.here.test.; spf=pass", True),
        (b" mx.here.test/1; spf=pass", True),
        (b"mx.here.test;spf=pass", True),
        (b"\t\r\n\t\r\n\tmx.here.test 1 (x);spf=pass", True),
        (b" mx.here.test=1; spf=pass", False),
        (b" xmx.here.test; spf=pass", False),
        (b" here.test; spf=pass", False),
        (b" m\xc3\xa9.here.test; spf=pass", False),
        (b" other.test (mx.here.test); spf=pass", False),
        (b' "other.test mx.here.test"; spf=pass', False),
        (b" (mx.here.test", False),
        (b" ; mx.here.test", False),
        (b"", False),
        (b" " + b"(" * 100_000 + b"\\" * 100_000, False),
    ],
)
def test_results_in_our_name_however_they_are_written(value: bytes, ours: bool) -> None:
    """RFC 8601 §2.2 (comments and quotes), §5 (a reader would believe them)."""
    data = b"Authentication-Results:" + value + b"\r\nSubject: x\r\n\r\nbody"
    assert without_border(data, read_header(data), "mx.here.test") == (b"Subject: x\r\n\r\nbody" if ours else data)

"""Features of messages: the same however a message comes, decoded text, and bounds for whatever a stranger sends."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.classifier.content import BODY_MAX, HEADER_MAX, OCTETS_MAX, content_of
from gateway.classifier.features import FEATURES_MAX, features_of, folded, views

MESSAGE = b"From: a@example.test\nSubject: Offer\n\nBuy now, pay later.\nSecond line.\n"


def same(one: bytes, other: bytes) -> bool:
    return np.array_equal(features_of(one), features_of(other))


@pytest.mark.parametrize(
    "other",
    [
        MESSAGE.replace(b"\n", b"\r\n"),
        b"From a@example.test Thu Aug 22 12:36:23 2002\n" + MESSAGE,
        b"Return-Path: <a@example.test>\n" + MESSAGE,
        b"Status: RO\nX-Status: A\nX-UID: 17\nLines: 2\nContent-Length: 33\n" + MESSAGE,
        b"X-Cleanmail-Filter: spam,\n\tscore 9\nX-Cleanmail-Anything: 1\n" + MESSAGE,
        b"Authentication-Results: mx.example.test;\n spf=pass\n" + MESSAGE,
        MESSAGE.replace(b"\n\nBuy", b"\nSTATUS : O\n\nBuy"),
        MESSAGE.upper(),
    ],
    ids=["crlf", "mbox", "return-path", "mail store", "our fields", "results", "at the end", "case"],
)
def test_what_a_gateway_does_not_see_does_not_count(other: bytes) -> None:
    assert same(MESSAGE, other)


@pytest.mark.parametrize(
    "other",
    [
        MESSAGE.replace(b"Offer", b"Other"),
        MESSAGE.replace(b"now", b"new"),
        b"X-Mailer: Status\n" + MESSAGE,
        MESSAGE.replace(b"\n\nBuy", b"\n\nStatus: RO\nBuy"),
    ],
)
def test_what_it_sees_does(other: bytes) -> None:
    assert not same(MESSAGE, other)


def test_the_same_words_are_other_features_in_the_header() -> None:
    header, body = features_of(b"A: money back today\n\n"), features_of(b"\n\nA: money back today\n\n")
    assert len(np.intersect1d(header, body)) < len(header) / 10


def test_repeating_gains_nothing() -> None:
    assert len(features_of(b"\n\n" + b"pills " * 1000)) == len(features_of(b"\n\n" + b"pills " * 10))


TEXT = b"Cheap pills, delivered tomorrow to your door.\nNo questions asked.\n"


@pytest.mark.parametrize(
    "encoded",
    [
        b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(TEXT),
        b"content-transfer-encoding:\n BASE64\n\n" + base64.encodebytes(TEXT.replace(b"\n", b"\r\n")),
        b"Content-Transfer-Encoding: quoted-printable\n\n"
        + TEXT.replace(b"pills", b"=70ills").replace(b"to ", b"=\nto "),
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(TEXT)
        + b"\n--b--\n",
        b"Content-Type: message/rfc822\n\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(TEXT),
    ],
    ids=["base64", "folded field", "quoted-printable", "part", "message in message"],
)
def test_text_is_read_as_people_read_it(encoded: bytes) -> None:
    assert TEXT.strip() in content_of(b"From: a@example.test\n" + encoded)[1]


def test_attachments_count_little() -> None:
    attached = base64.encodebytes(bytes(range(256)) * 40)
    part = b"--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n"
    message = b"Content-Type: multipart/mixed; boundary=b\n\n" + part + attached + b"--b\n\nthe text\n--b--\n"
    body = content_of(message)[1]
    assert b"the text" in body
    assert len(body) < 1000


def test_encoded_words_are_decoded() -> None:
    word = b"=?utf-8?b?" + base64.b64encode("Günstig, für Sie".encode()) + b"?="
    assert "Günstig, für Sie".encode() in content_of(b"Subject: " + word + b"\n\n")[0]


def test_a_long_header_does_not_hide_the_body() -> None:
    header = b"".join(b"X-Padding-%d: %s\n" % (number, b"x" * 60) for number in range(1000))
    long_header, body = content_of(header + b"\nthe body")
    assert len(long_header) == HEADER_MAX
    assert body == b"the body"


@pytest.mark.parametrize("message", [b"", b"\n", b"\r\n\r\n", b"From ", b"From x\n", b"abc", b"a:\n\nb", b"\n\nab"])
def test_there_may_be_nearly_nothing(message: bytes) -> None:
    assert len(features_of(message)) <= len(message)


HOSTILE = {
    "one octet": b"a" * 1_000_000,
    "line ends": b"\r\n" * 500_000,
    "fields": b"A:\n" * 300_000,
    "folds": b"A: b\n" + b" \n" * 300_000,
    "boundaries": b"Content-Type: multipart/x; boundary=x\nContent-Transfer-Encoding: base64\n\n"
    + b"--x\n\n" * 100_000,
    "messages": b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" * 5_000,
    "words": b"Subject: " + b"=?utf-8?q?a?= " * 50_000,
    "half words": b"=?\n" * 100_000,
    "encodings": b"\n\n" + b"content-transfer-encoding:" + b"\n" * 300_000,
    "parameters": b"Content-Transfer-Encoding: base64\nContent-Type: text/plain; " + b"a*0=b; " * 50_000 + b"\n\nx",
    "zeros": bytes(1_000_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_features_are_bounded(name: str) -> None:
    assert len(features_of(HOSTILE[name])) <= FEATURES_MAX
    header, body = content_of(HOSTILE[name])
    assert len(header) <= HEADER_MAX
    assert len(body) <= BODY_MAX


def test_nothing_behind_the_bound_is_read() -> None:
    message = b"From x\n" + b"A: " + b"b" * 100_000 + b"\n\n" + b"word " * 100_000
    assert same(message, message[:OCTETS_MAX])


LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b"Status: RO", b"Subject: =?utf-8?q?a_b?=", b" folded", b"From: a@b", b"--b", b"--b--"]),
        st.sampled_from([b"Content-Transfer-Encoding: base64", b"Content-Type: multipart/mixed; boundary=b", b"UUJD"]),
        st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")),
    ),
    max_size=40,
)


@given(LINES)
def test_line_ends_make_no_difference(lines: list[bytes]) -> None:
    message = b"\n".join(lines)
    assert same(message, message.replace(b"\n", b"\r\n"))


@given(st.binary(max_size=3000))
def test_features_ascend_and_views_are_apart(message: bytes) -> None:
    features = features_of(message)
    assert features.dtype == np.uint32
    assert np.all(features[1:] > features[:-1])
    octets, words = views(features)
    assert len(octets) + len(words) == len(features)
    assert len(octets) <= max(0, len(message) * 3)
    places = folded(features, 12)
    assert np.all(places[1:] > places[:-1])
    assert np.array_equal(np.concatenate(views(places, 1 << 12)), places)
    assert set(views(places, 1 << 12)[1]) == {int(word) >> 20 for word in words}

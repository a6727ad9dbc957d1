"""Conversion for servers without 8BITMIME and for long lines: what a reader decodes is the same before and after."""

from __future__ import annotations

import email
import email.policy
import random
import re
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.relay.convert import NotConvertible, convert, has_internationalised_header
from gateway.relay.lines import LINE_MAX, fold, has_long_line, quoted, requoted
from gateway.relay.outgoing import stuffed, with_line_ends
from storage.mime.message import Kind, Part, read_message
from storage.mime.transfer import decode_transfer, is_known


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def longest(content: bytes) -> int:
    return max(len(line) for line in content.split(b"\r\n"))


def leaves(content: bytes) -> list[tuple[bytes, bytes]]:
    """Type and decoded content of every leaf."""
    found: list[tuple[bytes, bytes]] = []

    def walk(part: Part) -> None:
        if part.embedded is not None and part.encoding not in (b"base64", b"quoted-printable"):
            walk(part.embedded)
        elif part.kind is Kind.MULTIPART and part.children:
            for child in part.children:
                walk(child)
        else:
            body = part.body.of(content)
            decoded = decode_transfer(body, part.encoding) if is_known(part.encoding) else body
            found.append((part.media_type + b"/" + part.subtype, decoded))

    walk(read_message(content).root)
    return found


def check(content: bytes, *, seven_bit: bool = True) -> bytes:
    converted = convert(content, seven_bit=seven_bit)
    assert leaves(converted) == leaves(content)
    assert longest(converted) <= LINE_MAX
    if seven_bit:
        assert converted.isascii()
    assert converted.count(b"\n") == converted.count(b"\r\n") == converted.count(b"\r")
    assert convert(converted, seven_bit=seven_bit) == converted
    return converted


LATIN = "Viele Grüße und schöne Ferien. " * 5


def test_text_becomes_quoted_printable() -> None:
    content = crlf(
        "From: a@x.test\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        f"Content-Transfer-Encoding: 8bit\nSubject: hello\n\n{LATIN}\n.\nFrom here  \n--\n"
    )
    converted = check(content)
    head, _, body = converted.partition(b"\r\n\r\n")
    assert head.endswith(b"Subject: hello\r\nContent-Transfer-Encoding: quoted-printable")
    assert b"8bit" not in head
    assert longest(body) <= 76


def test_text_that_is_hardly_ascii_becomes_base64() -> None:
    content = crlf(
        "From: a@x.test\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n" + "Привет мир\n" * 20
    )
    assert b"Content-Transfer-Encoding: base64\r\n" in check(content)


def test_a_message_from_before_mime_says_what_it_is_now() -> None:
    """RFC 1428 §3."""
    converted = check(crlf(f"From: a@x.test\nSubject: x\n\n{LATIN}\n"))
    assert b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n" in converted
    converted = check(crlf("From: a@x.test\n\n" + "long " * 400 + "\n"))
    assert b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n" in converted
    assert b"Content-Type" not in converted  # the default is right


NESTED = crlf(
    f"""From: a@x.test
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=outer
Content-Transfer-Encoding: 8bit

Vorwort für Leser
--outer

{LATIN}
--outer
Content-Type: multipart/alternative; boundary=outer-2
Content-Transfer-Encoding: 8bit

--outer-2
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 8bit

<p>{LATIN}</p>
--outer-2
Content-Type: text/plain

only ascii
--outer-2--
--outer
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

From: b@x.test
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

{LATIN}

--outer
Content-Type: application/octet-stream
Content-Transfer-Encoding: binary

binäre Daten
--outer
Content-Type: image/png
Content-Transfer-Encoding: base64

iVBORw0KGgo=
--outer--
Nachwort für Leser
"""
)


def test_parts_of_parts() -> None:
    converted = check(NESTED)
    assert converted.count(b"Content-Transfer-Encoding: 7bit\r\n") == 3  # both multiparts and the message
    assert b"only ascii\r\n" in converted
    assert b"iVBORw0KGgo=\r\n" in converted
    parsed = email.message_from_bytes(converted, policy=email.policy.default)
    texts = [part.get_content() for part in parsed.walk() if part.get_content_type() == "text/html"]
    assert texts == [f"<p>{LATIN}</p>"]


def test_what_fits_is_not_touched() -> None:
    content = NESTED
    assert convert(content, seven_bit=False) == content
    ascii_only = content.decode().encode("ascii", "replace")
    assert convert(ascii_only, seven_bit=True) == ascii_only


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ("Content-Type: multipart/signed; boundary=b\n\n--b\n\nGrüße\n--b--\n", "5.6.3"),
        ("Content-Type: multipart/encrypted; boundary=b\n\n--b\n\nGrüße\n--b--\n", "5.6.3"),
        ("Content-Type: multipart/mixed\n\nGrüße\n", "5.6.3"),
        ("Content-Type: message/partial; id=x\n\nGrüße\n", "5.6.3"),
        ("Content-Type: message/delivery-status\n\nGrüße\n", "5.6.3"),
        ("Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\nGrüße\n", "5.6.3"),
        ("Subject: Grüße\n\nhello\n", "5.6.7"),
        (
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; name=Grüße\n\nx\n--b--\n",
            "5.6.7",
        ),
        ("Content-Type: message/rfc822\n\nSubject: Grüße\n\nhello\n", "5.6.7"),
    ],
)
def test_what_cannot_be_converted(content: str, status: str) -> None:
    with pytest.raises(NotConvertible) as caught:
        convert(crlf(f"From: a@x.test\nMIME-Version: 1.0\n{content}"), seven_bit=True)
    assert caught.value.status == status


def test_a_signed_part_keeps_every_octet() -> None:
    signed = crlf(
        "Content-Type: multipart/signed; boundary=b\n\n--b\n\n" + "signed " * 300 + "\n--b\n"
        "Content-Type: application/pgp-signature\n\nsignature\n--b--\n"
    )
    content = crlf("From: a@x.test\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n\n--o\n") + signed
    content += crlf("\n--o\n\n" + "footer " * 300 + "\n--o--\n")
    converted = convert(content, seven_bit=False)
    assert signed in converted
    assert b"footer footer footer" in converted
    assert leaves(converted) == leaves(content)


def test_a_message_with_internationalised_headers_inside_is_encoded_whole() -> None:
    """RFC 6532 §3.7: message/global may be; it stays a message."""
    inner = "From: jürgen@x.test\nSubject: Grüße\n\nText für alle\n"
    content = crlf(
        "From: a@x.test\nMIME-Version: 1.0\nContent-Type: multipart/report; boundary=b\n\n"
        f"--b\n\nhello\n--b\nContent-Type: message/global\nContent-Transfer-Encoding: 8bit\n\n{inner}\n--b--\n"
    )
    converted = convert(content, seven_bit=True)
    assert converted.isascii()
    part = read_message(converted).root.children[1]
    assert (part.subtype, part.encoding) == (b"global", b"base64")
    assert decode_transfer(part.body.of(converted), part.encoding) == crlf(inner)


def test_long_lines_in_each_encoding() -> None:
    long = "0123456789 " * 200
    parts = {
        "7bit": long,
        "8bit": long + "ü",
        "quoted-printable": long.replace("9", "=39") + "=C3=BC",
        "base64": "QUJD" * 1000,
        "x-other": long,
    }
    for encoding, body in parts.items():
        content = crlf(
            "From: a@x.test\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
            f"Content-Transfer-Encoding: {encoding}\n\n{body}\n"
        )
        if encoding == "x-other":
            assert longest(convert(content, seven_bit=False)) <= LINE_MAX
        else:
            converted = check(content, seven_bit=False)
            assert longest(converted) <= 76 or encoding == "7bit"


def test_long_header_lines_are_folded_where_they_have_space() -> None:
    references = " ".join(f"<{number}.abcdefghijklmnop@mail.example.test>" for number in range(60))
    content = crlf(f"References: {references}\nSubject: {'x' * 2500}\nFrom: a@x.test\n\nhello\n")
    converted = check(content, seven_bit=False)
    header = read_message(converted).header
    assert header.value(b"references") == references.encode()
    assert (header.value(b"subject") or b"").replace(b" ", b"") == b"x" * 2500
    assert header.value(b"from") == b"a@x.test"
    assert converted.endswith(b"\r\n\r\nhello\r\n")


def test_boundaries_are_not_made_by_accident() -> None:
    """A soft break may fall before two hyphens, and an encoded line may look like a boundary."""
    for pad in range(60, 80):
        body = "ü" + "x" * pad + "--b\n--b=\n" + "-" * 200 + "\n"
        check(
            crlf(
                'From: a@x.test\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b=3D"\n\n--b=3D\n'
                f"Content-Type: text/plain; charset=utf-8\n\n{body}\n--b=3D\n\nother\n--b=3D--\n"
            )
        )


def test_internationalised_headers_are_found_in_parts_too() -> None:
    assert not has_internationalised_header(crlf("Subject: x\n\nGrüße\n"))
    assert has_internationalised_header(crlf("Subject: Grüße\n\nx\n"))
    assert has_internationalised_header(
        crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; name=ü\n\nx\n--b--\n")
    )
    assert has_internationalised_header(crlf("Content-Type: message/global\n\nSubject: ü\n\nx\n"))


# Properties

LINES = st.binary(max_size=200).map(lambda octets: re.sub(rb"[\r\n]", b"", octets))
LONG_LINES = st.builds(lambda line, times: line * times, LINES, st.integers(1, 60))
TEXTS = st.lists(
    st.one_of(
        LINES, LONG_LINES, st.sampled_from([b"--", b"--b", b".", b"..", b"From ", b" ", b"=", b"=3D", b"-" * 300])
    ),
    max_size=12,
).map(b"\r\n".join)
FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FAST
@given(TEXTS)
@example(b"-" * 77)
@example(b"x" * 75 + b"--b")
@example(b"--" + b"=" * 40)
def test_quoted_text_is_the_same_text(text: bytes) -> None:
    encoded = quoted(text)
    assert decode_transfer(encoded, b"quoted-printable") == text
    assert encoded.isascii()
    assert longest(encoded) <= 76
    assert not re.search(rb"(?m)^--", encoded)


@FAST
@given(TEXTS)
def test_requoted_text_is_the_same_text(encoded: bytes) -> None:
    again = requoted(encoded)
    assert decode_transfer(again, b"quoted-printable") == decode_transfer(encoded, b"quoted-printable")
    assert again.isascii()
    assert longest(again) <= LINE_MAX


@FAST
@given(TEXTS)
def test_folding_only_adds_line_ends_and_spaces(text: bytes) -> None:
    folded = fold(text)
    assert longest(folded) <= LINE_MAX
    assert has_long_line(text) == (longest(text) > LINE_MAX)
    assert re.sub(rb"[\r\n ]", b"", folded) == re.sub(rb"[\r\n ]", b"", text)
    if longest(text) <= LINE_MAX:
        assert folded == text


ENCODINGS = st.sampled_from(["", "7bit", "8bit", "binary", "base64", "quoted-printable"])
TYPES = st.sampled_from(["", "text/plain", "text/html; charset=utf-8", "application/pdf", "image/png"])


@st.composite
def entities(draw: st.DrawFn, depth: int = 3) -> bytes:
    kind = draw(st.sampled_from(["leaf", "leaf", "multipart", "message"])) if depth else "leaf"
    fields = []
    if kind == "multipart":
        boundary = draw(st.sampled_from([b"b", b"b-2", b"=3D", b"--"])) + str(depth).encode()
        fields.append(b'Content-Type: multipart/mixed; boundary="%s"' % boundary)
        children = draw(st.lists(entities(depth=depth - 1), min_size=1, max_size=3))
        preamble = draw(LINES)
        body = preamble + b"".join(b"\r\n--%s\r\n%s" % (boundary, child) for child in children)
        body += b"\r\n--%s--\r\n" % boundary + draw(LINES)
    elif kind == "message":
        fields.append(b"Content-Type: message/rfc822")
        body = b"Subject: x\r\n" + draw(entities(depth=depth - 1))
    else:
        if media_type := draw(TYPES):
            fields.append(b"Content-Type: " + media_type.encode())
        if encoding := draw(ENCODINGS):
            fields.append(b"Content-Transfer-Encoding: " + encoding.encode())
        body = draw(TEXTS)
    fields += draw(
        st.lists(st.integers(1, 1500).map(lambda length: b"X-Long: " + b"word " * (length // 5)), max_size=1)
    )
    return b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(entities(), st.booleans())
def test_what_is_decoded_is_the_same_before_and_after(entity: bytes, seven_bit: bool) -> None:
    content = with_line_ends(b"From: a@x.test\r\nMIME-Version: 1.0\r\n" + entity)
    try:
        check(content, seven_bit=seven_bit)
    except NotConvertible as error:
        assert seven_bit
        assert error.status in ("5.6.3", "5.6.7")


def test_fuzz() -> None:
    """Anything at all is converted or refused, never worse."""
    chance = random.Random(6152)
    seeds = [NESTED, crlf(f"From: a@x.test\n\n{LATIN}\n")]
    for _ in range(400):
        octets = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 12)):
            at = chance.randrange(len(octets))
            octets[at : at + chance.randrange(4)] = chance.choice(
                [b"", b"\r\n", b"--outer", b"\xff", b"\0", b":", b"x" * 1200]
            )
        content = with_line_ends(bytes(octets))
        try:
            converted = convert(content, seven_bit=True)
        except NotConvertible:
            continue
        assert converted.isascii()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b".\r\n"),
        (b"x\r\n", b"x\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n..b\r\n", b"a\r\n..\r\n...b\r\n.\r\n"),
    ],
)
def test_dots_are_doubled(content: bytes, expected: bytes) -> None:
    """RFC 5321 §4.5.2."""
    assert stuffed(content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b""),
        (b"a", b"a\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b"a\nb\rc\r\n", b"a\r\nb\r\nc\r\n"),
        (b"a\n.\nb\r.\rc\r\n", b"a\r\n.\r\nb\r\n.\r\nc\r\n"),
        (b"a\r", b"a\r\n"),
        (b"a\r\r\nb", b"a\r\n\r\nb\r\n"),
    ],
)
def test_no_bare_line_end_leaves(content: bytes, expected: bytes) -> None:
    """RFC 5321 §2.3.8; what looks like an end of the message in the middle is text and gets its dot doubled."""
    assert with_line_ends(content) == expected


def test_speed_is_linear() -> None:
    """A message of 1 MB with a long line in it, and one with many parts."""
    check(
        crlf("From: a@x.test\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n")
        + b"\xc3\xbc x " * 200_000
        + b"\r\n"
    )
    part = b"\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xbc and text"
    check(
        crlf("From: a@x.test\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n")
        + part * 1000
        + b"\r\n--b--\r\n"
    )


@pytest.mark.parametrize("line", [b" " * 8_000_000 + b"a", b"a" * 8_000_000, b"\xc3\xbc" * 4_000_000])
def test_a_line_of_megabytes_is_folded_in_no_time(line: bytes) -> None:
    """Text around the parts of a multipart is folded, and nothing bounds it but the size of a message."""
    began = time.process_time()
    assert longest(fold(line)) <= LINE_MAX
    assert time.process_time() - began < 5  # half a second; minutes where each piece copies the rest

"""storage.mime.render: ENVELOPE, BODYSTRUCTURE and BODY (RFC 9051 §7.5.2), on whole messages and on strings."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.mime.message import read_message
from storage.mime.render import body, body_of, body_structure, envelope, quoted

DATA = Path(__file__).parents[1] / "data" / "mime"
TYPICAL = (DATA / "typical.eml").read_bytes().replace(b"\n", b"\r\n")

FROM = b'(("=?utf-8?q?Ren=C3=A9_Dupont?=" NIL "rene" "example.test"))'


def test_envelope_of_ordinary_mail() -> None:
    assert envelope(read_message(TYPICAL)) == b" ".join(
        (
            b'("Mon, 4 Mar 2024 10:00:00 +0100"',
            b'"Re: [team] =?iso-8859-1?q?Caf=E9?= =?iso-8859-1?q?_au_lait?="',
            FROM,
            FROM,  # sender and reply-to: from, when absent
            FROM,
            b'(("Team, All" NIL "team" "example.test")("Jo" NIL "jo" "example.test")(NIL NIL "friends" NIL)'
            b'(NIL NIL "ann" "example.test")(NIL NIL "bob" "example.test")(NIL NIL NIL NIL))',
            b'(("Bare Person" NIL "bare" "example.test"))',
            b"NIL",
            b'"<second@example.test>"',
            b'"<third@example.test>")',
        )
    )


PLAIN = b'("text" "plain" ("charset" "utf-8" "format" "flowed") NIL NIL "quoted-printable" 37 2'
HTML = b'("text" "html" ("charset" "utf-8") NIL NIL "7bit" 81 0'
PDF = b'("application" "pdf" ("name*" "utf-8\'de\'%C3%9Cbersicht 2024.pdf") "<pdf@example.test>" "The plan" "base64" 4'
INNER_ENVELOPE = (
    b'(NIL "inner subject" ((NIL NIL "inner" "example.test")) ((NIL NIL "inner" "example.test")) '
    b'((NIL NIL "inner" "example.test")) NIL NIL NIL NIL NIL)'
)
FIRST = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 16 0'
SECOND = b'("text" "x-notes" ("charset" "us-ascii") NIL NIL "7bit" 6 0'
NONE = b" NIL NIL NIL NIL)"


def test_body_structure_of_ordinary_mail() -> None:
    assert body_structure(read_message(TYPICAL).root) == b"".join(
        (
            b"((" + PLAIN + NONE + HTML + NONE + b' "alternative" ("boundary" "outer-inner") NIL NIL NIL)',
            PDF + b' "Q2hlY2sgSW50ZWdyaXR5IQ==" ("attachment" ("filename" "plan.pdf" "size" "3")) ("de" "en")',
            b' "http://example.test/plan.pdf")',
            b'("message" "rfc822" NIL NIL NIL "7bit" 172 ' + INNER_ENVELOPE,
            b" (" + FIRST + NONE + SECOND + NONE + b' "mixed" ("boundary" "in") NIL NIL NIL) 11' + NONE,
            b' "mixed" ("boundary" "outer") NIL NIL NIL)',
        )
    )


def test_body_is_body_structure_without_extension_data() -> None:
    root = read_message(TYPICAL).root
    inner = b'("message" "rfc822" NIL NIL NIL "7bit" 172 %b (%b)%b) "mixed") 11)' % (INNER_ENVELOPE, FIRST, SECOND)
    assert body(root) == b'((%b)%b) "alternative")%b)%b "mixed")' % (PLAIN, HTML, PDF, inner)
    assert body_of(body_structure(root)) == body(root)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, b"NIL"),
        (b"", b'""'),
        (b"NIL", b'"NIL"'),
        (b'a "b" \\', b'"a \\"b\\" \\\\"'),
        (b"a\rb", b"{3}\r\na\rb"),
        (b"a\nb", b"{3}\r\na\nb"),
        (b"caf\xc3\xa9", b"{5}\r\ncaf\xc3\xa9"),
        (b"a\0b", b"{3}\r\na\x80b"),
        (b"\t\x7f", b'"\t\x7f"'),
    ],
)
def test_strings(value: bytes | None, written: bytes) -> None:
    """RFC 9051 §4.3: CR, LF and 8-bit octets never in quotes, NUL never at all."""
    assert quoted(value) == written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"),
        (b"Subject: \r\nTo: \r\nTo: , ;\r\n", b'(NIL "" NIL NIL NIL NIL NIL NIL NIL NIL)'),
        (b"Subject:  a\r\n\t b \t c \r\n", b'(NIL "a b c" NIL NIL NIL NIL NIL NIL NIL NIL)'),
        (b"Date: 1\r\nDate: 2\r\n", b'("1" NIL NIL NIL NIL NIL NIL NIL NIL NIL)'),
        (
            b"Bcc: a@b\r\nBcc: c\r\n",
            b'(NIL NIL NIL NIL NIL NIL NIL ((NIL NIL "a" "b")(NIL NIL "c" "MISSING_DOMAIN")) NIL NIL)',
        ),
        (
            b'Sender: "x  y" <@r:"a\\"b"@[1.2]>\r\n',
            b'(NIL NIL NIL (("x y" "@r" "a\\"b" "[1.2]")) NIL NIL NIL NIL NIL NIL)',
        ),
    ],
)
def test_envelopes(text: bytes, expected: bytes) -> None:
    assert envelope(read_message(text + b"\r\n")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 1 NIL NIL NIL NIL)'),
        (b"Content-Type: image/png\r\n", b'("image" "png" NIL NIL NIL "7bit" 5 NIL NIL NIL NIL)'),
        (
            b"Content-Disposition: inline\r\n",
            b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 1 NIL ("inline" NIL) NIL NIL)',
        ),
        (
            b"Content-Type: multipart/x\r\n",
            b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "x" NIL NIL NIL NIL)',
        ),
        (
            b'Content-Type: text/x; a="\xe9("\r\n',
            b'("text" "x" ("a" {2}\r\n\xe9( "charset" "us-ascii") NIL NIL "7bit" 5 1 NIL NIL NIL NIL)',
        ),
    ],
)
def test_structures(text: bytes, expected: bytes) -> None:
    root = read_message(text + b"\r\nabc\r\n").root
    assert body_structure(root) == expected
    assert body_of(expected) == body(root)

r"""What FETCH says of a message's parts, and what it gives when they are asked for, against expectations made by hand.

Every case is a message with its BODYSTRUCTURE and its sections; sizes and lines in the structure are those of the
sections as they are expected: "<2>" stands for the octets of section 2, "<2#>" for its lines. A property holds for any
message: what BODYSTRUCTURE names is there, with exactly its octets and lines.

Standards: RFC 9051 §6.4.5, §6.4.5.1, §7.5.2; RFC 3516 §4; RFC 2045, RFC 2046 §5.1, RFC 2231.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imap_play import CoreClient
from imap_town import PASSWORD, new_mail_town

Node = Union[bytes, None, "list[Node]"]

_ASCII = '("charset" "us-ascii")'
_NONE = "NIL NIL NIL NIL"
_MIXED = "Content-Type: multipart/mixed; boundary=b\n\n"
_FROM_NONE = "NIL {} NIL NIL NIL NIL NIL NIL NIL NIL"


def text(part: str, *, subtype: str = "plain", params: str = _ASCII, encoding: str = "7bit") -> str:
    """The BODYSTRUCTURE of a text without anything besides."""
    return f'("text" "{subtype}" {params} NIL NIL "{encoding}" <{part}> <{part}#> {_NONE})'


def multipart(*parts: str, subtype: str = "mixed", boundary: str = "b") -> str:
    return f'({"".join(parts)} "{subtype}" ("boundary" "{boundary}") NIL NIL NIL)'


def message(part: str, inner: str, subject: str = "NIL") -> str:
    return f'("message" "rfc822" NIL NIL NIL "7bit" <{part}> ({_FROM_NONE.format(subject)}) {inner} <{part}#> {_NONE})'


_NO_PARTS = f'("text" "plain" {_ASCII} NIL NIL "7bit" 0 0 {_NONE})'


@dataclass(frozen=True, slots=True)
class Case:
    """LF stands for CRLF. A section is the octets of BODY[…] or None for NIL; `binary` of BINARY[…], str for a NO."""

    octets: str
    structure: str
    sections: dict[str, str | None]
    binary: dict[str, bytes | str] = field(default_factory=dict)


def coded(encoding: str, body: str, binary: bytes | str) -> Case:
    return Case(
        f"Content-Transfer-Encoding: {encoding}\n\n{body}",
        text("1", encoding=encoding.lower()),
        {"1": body},
        {"1": binary},
    )


def typed(fields: str, params: str, *, after: str = _NONE, subtype: str = "plain") -> Case:
    return Case(f"{fields}\n\nx\n", f'("text" "{subtype}" {params} NIL NIL "7bit" <1> <1#> {after})', {"1": "x\n"})


CASES: dict[str, Case] = {
    "part 1 of a message that is no multipart is its body (RFC 9051 §6.4.5.1)": Case(
        "Subject: x\n\none\ntwo\n",
        text("1"),
        {"": "Subject: x\n\none\ntwo\n", "HEADER": "Subject: x\n\n", "TEXT": "one\ntwo\n", "1": "one\ntwo\n",
         "1.MIME": "Subject: x\n\n", "2": None, "1.1": None, "1.HEADER": None, "1.TEXT": None},
        {"1": b"one\r\ntwo\r\n"},
    ),
    "a message in a message in a part (RFC 2046 §5.2.1)": Case(
        _MIXED + "--b\n\nfirst\n--b\nContent-Type: message/rfc822\n\nSubject: in\nContent-Type: message/rfc822\n\n"
        "Subject: deep\n\nbody\nend\n\n--b--\n",
        multipart(text("1"), message("2", message("2.1", text("2.1.1"), '"deep"'), '"in"')),
        {
            "1": "first",
            "2": "Subject: in\nContent-Type: message/rfc822\n\nSubject: deep\n\nbody\nend\n",
            "2.MIME": "Content-Type: message/rfc822\n\n",
            "2.HEADER": "Subject: in\nContent-Type: message/rfc822\n\n",
            "2.TEXT": "Subject: deep\n\nbody\nend\n",
            "2.1": "Subject: deep\n\nbody\nend\n",
            "2.1.MIME": "Subject: in\nContent-Type: message/rfc822\n\n",
            "2.1.HEADER": "Subject: deep\n\n",
            "2.1.TEXT": "body\nend\n",
            "2.1.1": "body\nend\n",
            "2.1.1.MIME": "Subject: deep\n\n",
            "2.HEADER.FIELDS (SUBJECT)": "Subject: in\n\n",
            "2.1.HEADER.FIELDS.NOT (X)": "Subject: deep\n\n",
            "2.2": None, "2.1.2": None, "2.1.1.1": None, "3": None, "1.HEADER": None,
        },
        {"1": b"first", "2.1.1": b"body\r\nend\r\n"},
    ),
    "a message whose text is a multipart (RFC 9051 §6.4.5.1, the example)": Case(
        _MIXED + "--b\nContent-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=c\n\n"
        "--c\n\none\n--c\n\ntwo\n--c--\n--b--\n",
        multipart(message("1", multipart(text("1.1"), text("1.2"), boundary="c"))),
        {
            "1": "Content-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--c\n\ntwo\n--c--",
            "1.TEXT": "--c\n\none\n--c\n\ntwo\n--c--",
            "1.1": "one", "1.2": "two", "1.1.MIME": "\n", "1.3": None, "1.1.1": None,
        },
    ),
    "parts of a digest are messages unless they say otherwise (RFC 2046 §5.1.5)": Case(
        "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: one\n\n1\n--b\nContent-Type: text/plain\n\n2\n"
        "--b\nX-Y: z\n\nSubject: three\n\n3\n--b--\n",
        multipart(message("1", text("1.1"), '"one"'), f'("text" "plain" {_ASCII} NIL NIL "7bit" <2> <2#> {_NONE})',
                  message("3", text("3.1"), '"three"'), subtype="digest"),
        {"1": "Subject: one\n\n1", "1.1": "1", "1.MIME": "\n", "1.HEADER": "Subject: one\n\n", "2": "2", "2.TEXT": None,
         "3": "Subject: three\n\n3", "3.MIME": "X-Y: z\n\n", "3.1": "3"},
    ),
    "no boundary, so one empty text stands for the parts (RFC 9051 §9, body-type-mpart)": Case(
        "Content-Type: multipart/mixed\n\n--b\n\nlost\n--b--\n",
        f'({_NO_PARTS} "mixed" NIL NIL NIL NIL)',
        {"TEXT": "--b\n\nlost\n--b--\n", "1": "", "1.MIME": "", "2": None, "1.1": None},
        {"1": b""},
    ),
    "a boundary that is never used": Case(
        _MIXED + "nothing of it\n", multipart(_NO_PARTS), {"TEXT": "nothing of it\n", "1": "", "2": None}, {"1": b""}
    ),
    "a boundary that is never closed": Case(
        _MIXED + "--b\n\none\n--b\nContent-Type: text/html\n\ntwo\nthree\n",
        multipart(text("1"), text("2", subtype="html")),
        {"1": "one", "2": "two\nthree\n", "3": None},
    ),
    "an outer boundary ends what an inner one left open (RFC 2046 §5.1.2)": Case(
        _MIXED + "--b\nContent-Type: multipart/x; boundary=c\n\n--c\n\nin\n--b\n\nout\n--b--\n",
        multipart(multipart(text("1.1"), subtype="x", boundary="c"), text("2")),
        {"1": "--c\n\nin", "1.1": "in", "2": "out"},
    ),
    "an inner boundary that begins with the outer one (RFC 2046 §5.1.2)": Case(
        _MIXED + "--b\nContent-Type: multipart/x; boundary=bb\n\n--bb\n\nin\n--bb--\n\n--b\n\nout\n--b--\n",
        multipart(multipart(text("1.1"), subtype="x", boundary="bb"), text("2")),
        {"1": "--bb\n\nin\n--bb--\n", "1.1": "in", "2": "out"},
    ),
    "an outer boundary that begins with the inner one": Case(
        "Content-Type: multipart/mixed; boundary=bb\n\n--bb\nContent-Type: multipart/x; boundary=b\n\n--b\n\nin\n"
        "--b--\n\n--bb\n\nout\n--bb--\n",
        multipart(multipart(text("1.1"), subtype="x"), text("2"), boundary="bb"),
        {"1": "--b\n\nin\n--b--\n", "1.1": "in", "2": "out"},
    ),
    "empty parts: no line, one line, no header (RFC 2046 §5.1.1)": Case(
        _MIXED + "--b\n--b\n\n--b\n\n\n--b\nContent-Type: image/png\n\n--b--\n",
        multipart(text("1"), text("2"), text("3"), f'("image" "png" NIL NIL NIL "7bit" <4> {_NONE})'),
        {"1": "", "1.MIME": "", "2": "", "2.MIME": "", "3": "", "3.MIME": "\n", "4": "",
         "4.MIME": "Content-Type: image/png\n"},
        {"1": b"", "3": b"", "4": b""},
    ),
    "preamble and epilogue are in no part": Case(
        _MIXED + "before\n--b\n\none\n--b--\nafter\n--b\n\nno part\n",
        multipart(text("1")),
        {"1": "one", "2": None, "TEXT": "before\n--b\n\none\n--b--\nafter\n--b\n\nno part\n"},
    ),
    "a carriage return alone ends no line": Case(
        _MIXED + "--b\n\none\r--b\rtwo\r\r\nthree\n--b--\n",
        multipart(text("1")),
        {"1": "one\r--b\rtwo\r\r\nthree"},
        {"1": b"one\r--b\rtwo\r\r\r\nthree"},
    ),
    "base64 with what is none of it (RFC 2045 §6.8)": coded("BASE64", "QU!JD\nRA==*\nRQ==\n", b"ABCDE"),
    "base64 that is cut": coded("base64", "QUJDR", b"ABC"),
    "base64 without padding": coded("base64", "QUJDRA", b"ABCD"),
    "quoted-printable with blanks and soft breaks at ends of lines (RFC 2045 §6.7)": coded(
        "quoted-printable", "a=3Db =\nc \t\n=20\n=", b"a=b c\r\n \r\n"
    ),
    "quoted-printable with what begins no escape": coded(
        "quoted-printable", "=zz =4\n=C3=a4\n", b"=zz =4\r\n\xc3\xa4\r\n"
    ),
    "an encoding that nobody knows (RFC 3516 §4.3)": coded("x-uuencode", "begin\n", "UNKNOWN-CTE"),
    "binary data has a literal of its own (RFC 3516 §4.2)": coded("base64", "AAEA\n", b"\0\1\0"),
    "continued parameters are joined (RFC 2231 §3)": typed(
        'Content-Type: text/plain; charset=utf-8;\n name*1=" b.txt"; name*0="a"', '("charset" "utf-8" "name" "a b.txt")'
    ),
    "parameters keep charset and language (RFC 2231 §4)": typed(
        "Content-Type: text/plain; charset=utf-8; name*=utf-8'de'%C3%9C.txt",
        "(\"charset\" \"utf-8\" \"name*\" \"utf-8'de'%C3%9C.txt\")",
    ),
    "continued and encoded in part (RFC 2231 §4.1)": typed(
        "Content-Type: text/plain; charset=utf-8; name*0*=utf-8''%C3%9C; name*1=\"100%\"; name*2*=%20x",
        '("charset" "utf-8" "name*" "utf-8\'\'%C3%9C100%25%20x")',
    ),
    "a piece of a parameter that is missing leaves the others as they are": typed(
        "Content-Type: text/plain; charset=utf-8; name*0=a; name*2=c", '("charset" "utf-8" "name*0" "a" "name*2" "c")'
    ),
    "comments, blanks and quotes (RFC 2045 §5.1)": typed(
        'Content-Type: TEXT (why)/ Html ; Charset = "utf-8" (so; x=y); n="a\\"b"; open="c',
        '("charset" "utf-8" "n" "a\\"b" "open" "c")',
        subtype="html",
    ),
    "what is no type is a text (RFC 2045 §5.2)": typed("Content-Type: nonsense", _ASCII),
    "disposition, language and location (RFC 9051 §7.5.2)": typed(
        "Content-MD5: Q2hl\nContent-Disposition: Attachment; filename=\"a b\"; size=3\nContent-Language: de, en-GB\n"
        "Content-Location: x:y",
        _ASCII,
        after='"Q2hl" ("attachment" ("filename" "a b" "size" "3")) ("de" "en-GB") "x:y"',
    ),
    "8-bit octets in a header are a literal (RFC 9051 §4.3)": typed(
        "Content-Type: text/plain; charset=utf-8; name=\"\u00dc.txt\"",
        '("charset" "utf-8" "name" {6}\n\u00dc.txt)',
    ),
    "8-bit octets in the header of a message inside": Case(
        "Content-Type: message/rfc822\n\nSubject: \u00dc\n\nx\n",
        message("1", text("1.1"), "{2}\n\u00dc"),
        {"1": "Subject: \u00dc\n\nx\n", "1.HEADER": "Subject: \u00dc\n\n", "1.1": "x\n", "HEADER.FIELDS (X)": "\n"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreClient]:
    with new_mail_town(tmp_path_factory.mktemp("mime")) as town:
        client = CoreClient(town.services)
        client.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\ny SELECT INBOX\r\n'.encode())
        yield client
        client.close()


def ask(one: CoreClient, command: bytes) -> bytes:
    """The octets of the answer, without the tagged line if that is OK."""
    one.out = b""
    one.send(b"a " + command + b"\r\n")
    head, tagged, _ = one.out.rpartition(b"a OK ")
    return head if tagged else one.out


def keep(one: CoreClient, octets: bytes) -> None:
    assert b"EXISTS" in ask(one, b"APPEND INBOX {%d+}\r\n%b" % (len(octets), octets))


_TOKEN = re.compile(rb'([()])|"((?:[^"\\]|\\.)*)"|~?\{(\d+)\}\r\n|([^\s()"{\[]+(?:\[[^\]]*\])?(?:<\d+>)?)', re.DOTALL)


def fetched(one: CoreClient, items: str) -> list[Node]:
    """The values of these items of the newest message, in the order in which they were asked for."""
    answer = ask(one, f"FETCH * ({items})".encode())
    lists: list[list[Node]] = [[]]
    at = 0
    while (token := _TOKEN.search(answer, at)) is not None:
        at = token.end()
        if token[1] == b"(":
            lists.append([])
        elif token[1] == b")":
            closed = lists.pop()
            lists[-1].append(closed)
        elif token[3]:
            lists[-1].append(answer[at : at + int(token[3])])
            at += int(token[3])
        elif token[2] is not None:
            lists[-1].append(re.sub(rb"\\(.)", rb"\1", token[2]))
        else:
            lists[-1].append(None if token[4] == b"NIL" else token[4])
    assert len(lists) == 1 and lists[0][:1] == [b"*"], answer
    values = lists[0][3]
    assert isinstance(values, list)
    return values[1::2]


def crlf(octets: str) -> bytes:
    return octets.replace("\n", "\r\n").encode()


@pytest.mark.parametrize("name", CASES)
def test_parts_and_what_is_said_of_them(one: CoreClient, name: str) -> None:
    case = CASES[name]
    keep(one, crlf(case.octets))

    def size(match: re.Match[str]) -> str:
        part = crlf(case.sections[match[1]] or "")
        return str(part.count(b"\n") if match[2] else len(part))

    structure = crlf(re.sub(r"<([\d.]+)(#?)>", size, case.structure))
    assert ask(one, b"FETCH * BODYSTRUCTURE").partition(b" FETCH (BODYSTRUCTURE ")[2] == structure + b")\r\n"
    values = fetched(one, " ".join(f"BODY.PEEK[{section}]" for section in case.sections))
    expected = {each: None if octets is None else crlf(octets) for each, octets in case.sections.items()}
    assert dict(zip(case.sections, values, strict=True)) == expected
    for section, octets in case.binary.items():
        if isinstance(octets, str):
            assert f"NO [{octets}]".encode() in ask(one, f"FETCH * BINARY.PEEK[{section}]".encode())
            assert f"NO [{octets}]".encode() in ask(one, f"FETCH * BINARY.SIZE[{section}]".encode())
        else:
            found = fetched(one, f"BINARY.PEEK[{section}] BINARY.SIZE[{section}] BINARY.PEEK[{section}]<1.2>")
            assert found == [octets, str(len(octets)).encode(), octets[1:3]]
    agrees(one)


def parts_of(structure: Node, numbers: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], list[Node], bool]]:
    """The single parts that a BODYSTRUCTURE names, and whether each is a message."""
    assert isinstance(structure, list)
    if isinstance(structure[0], list):
        for number, part in enumerate(structure, 1):
            if not isinstance(part, list):
                return
            yield from parts_of(part, (*numbers, number))
        return
    numbers = numbers or (1,)
    is_message = structure[:2] == [b"message", b"rfc822"] and isinstance(structure[7], list)
    yield numbers, structure, is_message
    if is_message:
        inner = structure[8]
        assert isinstance(inner, list)
        yield from parts_of(inner, numbers if isinstance(inner[0], list) else (*numbers, 1))


def agrees(one: CoreClient) -> None:
    """Whatever the newest message is: sizes, lines, sections and decoded parts fit its octets."""
    whole, header, body, total, structure = fetched(
        one, "BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] RFC822.SIZE BODYSTRUCTURE"
    )
    assert isinstance(whole, bytes) and isinstance(header, bytes) and isinstance(body, bytes)
    assert whole == header + body and total == str(len(whole)).encode()
    for numbers, said, is_message in parts_of(structure):
        name = ".".join(map(str, numbers))
        octets, mime, middle = fetched(one, f"BODY.PEEK[{name}] BODY.PEEK[{name}.MIME] BODY.PEEK[{name}]<3.5>")
        assert isinstance(octets, bytes) and isinstance(mime, bytes), name
        assert said[6] == str(len(octets)).encode(), name
        assert mime + octets in whole and middle == octets[3:8], name
        if is_message or said[0] == b"text":
            assert said[9 if is_message else 7] == str(octets.count(b"\n")).encode(), name
        if is_message:
            inner_header, inner_body = fetched(one, f"BODY.PEEK[{name}.HEADER] BODY.PEEK[{name}.TEXT]")
            assert isinstance(inner_header, bytes) and isinstance(inner_body, bytes)
            assert inner_header + inner_body == octets, name
        elif said[5] in (b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable"):
            decoded, size = fetched(one, f"BINARY.PEEK[{name}] BINARY.SIZE[{name}]")
            assert isinstance(decoded, bytes) and size == str(len(decoded)).encode(), name
            assert said[5] in (b"base64", b"quoted-printable") or decoded == octets, name


_LEAVES = st.sampled_from(
    [
        "",
        "\n",
        "\nonly a body\n",
        "Content-Type: text/html; charset=utf-8\n\n<p>\u00e4\n",
        "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\nQUJD\nRA==\n",
        "Content-Transfer-Encoding: quoted-printable\n\na=3Db =\nc=ZZ \n",
        "Content-Transfer-Encoding: x-odd\n\nx\n",
        "Content-Type: text/plain; name*0=a; name*1*=%20b\n\nx\ry\n",
        "Content-Type: multipart/mixed\n\n--\n-- \n--b\n",
    ]
)  # fmt: skip


@st.composite
def multiparts(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    boundary = draw(st.sampled_from(["b", "bb", "c", "=_1", "=_1_2"]))
    octets = f'Content-Type: multipart/{draw(st.sampled_from(["mixed", "digest"]))}; boundary="{boundary}"\n\n'
    for part in draw(st.lists(inner, max_size=3)):
        octets += f"{draw(st.sampled_from(['', chr(10)]))}--{boundary}{draw(st.sampled_from(['', ' ', 'x']))}\n{part}"
    return octets + draw(st.sampled_from(["", f"\n--{boundary}--", f"\n--{boundary}--\nepilogue\n", f"--{boundary}"]))


_MESSAGES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda part: f"Content-Type: message/rfc822\n\nSubject: in\n{part}"), multiparts(inner)
    ),
    max_leaves=8,
)


@given(_MESSAGES.map(crlf))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_bodystructure_names_is_there(one: CoreClient, octets: bytes) -> None:
    keep(one, octets or b"\r\n")
    agrees(one)


@pytest.mark.parametrize(
    ("level", "numbers"),
    [("Content-Type: message/rfc822\n\n", 100), ("Content-Type: multipart/x; boundary=b{}\n\n--b{}\n", 99)],
)
def test_very_deep_nesting(one: CoreClient, level: str, numbers: int) -> None:
    """What lies below a hundred levels is one part without structure; every level can be fetched."""
    keep(one, crlf("".join(level.format(depth, depth) for depth in range(300)) + "\nend\n"))
    agrees(one)
    (structure,) = fetched(one, "BODYSTRUCTURE")
    deepest = list(parts_of(structure))[-1]
    assert len(deepest[0]) == numbers and deepest[1][:2] == [b"application", b"octet-stream"]


def test_line_ends_are_made_crlf_at_the_border(one: CoreClient) -> None:
    """RFC 9051 §6.3.12 wants RFC 5322 lines: what came with LF alone is kept with CRLF, and sections fit that."""
    keep(one, b"Content-Type: multipart/mixed; boundary=b\n\n--b\r\n\none\r\ntwo\n--b--\r\n")
    assert fetched(one, "BODY.PEEK[1]") == [b"one\r\ntwo"]
    agrees(one)


def test_a_message_in_pieces(one: CoreClient) -> None:
    """A large message is sent in pieces; sections and their parts are the same octets."""
    data = bytes(range(256)) * 3000
    coded_data = base64.encodebytes(data).replace(b"\n", b"\r\n")
    keep(
        one,
        crlf(_MIXED + "--b\n\nfirst\n--b\nContent-Type: x/y\nContent-Transfer-Encoding: base64\n\n")
        + coded_data
        + b"\r\n--b--\r\n",
    )
    assert fetched(one, "BODY.PEEK[2]") == [coded_data]
    assert fetched(one, "BODY.PEEK[2]<300000.300000>") == [coded_data[300000:600000]]
    assert fetched(one, "BODY.PEEK[2]<9999999.5> BODY.PEEK[3] BODY.PEEK[1.MIME]") == [b"", None, b"\r\n"]
    assert fetched(one, "BINARY.PEEK[2]<70000.10> BINARY.SIZE[2]") == [data[70000:70010], b"768000"]
    agrees(one)

"""storage.mime.message: where parts begin and end."""

from __future__ import annotations

import pytest

from storage.mime.message import DEPTH_MAX, Kind, Part, read_message


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("latin-1")


def outline(part: Part, data: bytes) -> object:
    """A part as (type, body) or (type, [parts])."""
    name = f"{part.media_type.decode()}/{part.subtype.decode()}"
    if part.kind is Kind.MULTIPART:
        return (name, [outline(child, data) for child in part.children])
    if part.embedded is not None:
        return (name, outline(part.embedded, data))
    return (name, part.body.of(data).decode("latin-1"))


def read(text: str) -> object:
    data = crlf(text)
    return outline(read_message(data).root, data)


MIXED = "Content-Type: multipart/mixed; boundary=b\n\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", ("text/plain", ""), id="nothing"),
        pytest.param("Subject: x", ("text/plain", ""), id="header without line end"),
        pytest.param("Subject: x\n", ("text/plain", ""), id="header without empty line"),
        pytest.param("\nbody\n", ("text/plain", "body\r\n"), id="no header"),
        pytest.param("A: b\n\nbody", ("text/plain", "body"), id="body without line end"),
        pytest.param(
            MIXED + "--b\n\none\n--b\n\ntwo\n--b--\n",
            ("multipart/mixed", [("text/plain", "one"), ("text/plain", "two")]),
            id="RFC 2046 §5.1.1",
        ),
        pytest.param(
            MIXED + "pre\n--b\n\none\n--b--\nepilogue\n--b\n\nno part\n",
            ("multipart/mixed", [("text/plain", "one")]),
            id="preamble and epilogue",
        ),
        pytest.param(
            MIXED + "--b \t\n\none\n--b-- \n", ("multipart/mixed", [("text/plain", "one")]), id="transport padding"
        ),
        pytest.param(
            MIXED + "--bcd\n\none\n--b--x\n",
            ("multipart/mixed", [("text/plain", "one")]),
            id="the beginning of a line is enough",
        ),
        pytest.param(MIXED + "--b\n\none\n", ("multipart/mixed", [("text/plain", "one\r\n")]), id="never closed"),
        pytest.param(MIXED + "none\n", ("multipart/mixed", []), id="boundary never used"),
        pytest.param(MIXED + "--b", ("multipart/mixed", []), id="boundary line without line end"),
        pytest.param(MIXED + "--b\n", ("multipart/mixed", [("text/plain", "")]), id="nothing after the boundary line"),
        pytest.param(
            MIXED + "--b\n\n--b\n\n\n--b--\n",
            ("multipart/mixed", [("text/plain", ""), ("text/plain", "")]),
            id="empty bodies",
        ),
        pytest.param(
            MIXED + "--b\nContent-Type: text/html\n--b\n\ntwo\n--b--\n",
            ("multipart/mixed", [("text/html", ""), ("text/plain", "two")]),
            id="boundary ends a header",
        ),
        pytest.param(
            "Content-Type: multipart/mixed\n\n--b\n\nx\n", ("multipart/mixed", []), id="no boundary parameter"
        ),
        pytest.param(
            "Content-Type: multipart; boundary=b\n\n--b\n\nx\n--b--\n",
            ("multipart/mixed", [("text/plain", "x")]),
            id="no subtype",
        ),
        pytest.param("Content-Type: nonsense\n\nx", ("text/plain", "x"), id="RFC 2045 §5.2: no type is text/plain"),
        pytest.param(
            "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: i\n\nx\n--b--\n",
            ("multipart/digest", [("message/rfc822", ("text/plain", "x"))]),
            id="RFC 2046 §5.1.5",
        ),
        pytest.param(
            "Content-Type: message/global\n\nSubject: i\n\nx\n",
            ("message/global", ("text/plain", "x\r\n")),
            id="RFC 6532 §3.7",
        ),
        pytest.param(
            "Content-Type: message/rfc822\n\n", ("message/rfc822", ("text/plain", "")), id="no message inside"
        ),
    ],
)
def test_structure(text: str, expected: object) -> None:
    assert read(text) == expected


NESTED = (
    "Content-Type: multipart/mixed; boundary={0}\n\n--{0}\nContent-Type: multipart/mixed; boundary={1}\n\n--{1}\n\nx\n"
)


def test_a_part_ends_at_any_boundary_around_it() -> None:
    """RFC 2046 §5.1.2: an outer boundary ends what inner ones left open."""
    assert read(NESTED.format("o", "i") + "--o\n\ny\n--i\nstays\n--o--\n") == (
        "multipart/mixed",
        [("multipart/mixed", [("text/plain", "x")]), ("text/plain", "y\r\n--i\r\nstays")],
    )


@pytest.mark.parametrize(("outer", "inner"), [("b", "bb"), ("bb", "b"), ("b", "b"), ("=_1", "=_1_2")])
def test_boundaries_that_begin_alike(outer: str, inner: str) -> None:
    """The longest boundary that a line begins with is meant; of equal ones the innermost."""
    assert read(NESTED.format(outer, inner) + f"--{inner}--\n--{outer}--\n") == (
        "multipart/mixed",
        [("multipart/mixed", [("text/plain", "x")])],
    )


def test_the_line_end_before_a_boundary_is_the_boundary_s() -> None:
    data = crlf(MIXED + "--b\nA: b\n\n--b\n\n\nx\n\n--b--")
    first, second = read_message(data).root.children
    assert (first.header.of(data), first.body.of(data)) == (b"A: b\r\n", b"")
    assert (second.header.of(data), second.body.of(data)) == (b"\r\n", b"\r\nx\r\n")


def test_a_part_without_a_line_lies_inside_its_multipart() -> None:
    """Between two boundary lines is one line end: the part after the first is empty and ends where it begins."""
    data = crlf(NESTED.format("o", "i").removesuffix("\nx\n") + "--o--\n")
    (inner,) = read_message(data).root.children
    (part,) = inner.children
    assert part.start == part.end == inner.end == data.index(b"--o--")


def test_bare_line_feeds_end_lines_and_bare_carriage_returns_do_not() -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\rtwo\r--b\n--b--\n"
    assert outline(read_message(data).root, data) == ("multipart/mixed", [("text/plain", "one\rtwo\r--b")])


def test_lines_are_counted_in_text_and_messages() -> None:
    root = read_message(crlf(MIXED + "--b\nContent-Type: message/rfc822\n\nA: b\n\n1\n2\n3\n--b--\n")).root
    (message,) = root.children
    assert message.embedded is not None
    assert (root.lines, message.lines, message.embedded.lines) == (0, 4, 2)


def test_content_fields() -> None:
    part = read_message(
        crlf(
            'Content-Type: TEXT/Html; Charset="U \\"x" ; name=a b; x=\n'
            "Content-Type: image/png\n"
            "Content-Transfer-Encoding: (why not) Base64\n"
            'Content-Disposition: Attachment;\n filename="a;\n b"\n'
            "Content-Language: de, en-GB (both)\n"
            "Content-ID: <i@d>\n"
            "\n"
        )
    ).root
    assert (part.media_type, part.subtype) == (b"text", b"html")
    assert part.params == ((b"charset", b'U "x'), (b"name", b"a"), (b"x", b""))
    assert part.param(b"charset") == b'U "x'
    assert (part.encoding, part.content_id) == (b"base64", b"<i@d>")
    assert (part.disposition, part.disposition_params) == (b"attachment", ((b"filename", b"a; b"),))
    assert part.language == (b"de", b"en-GB")
    assert (part.description, part.md5, part.location) == (None, None, None)


@pytest.mark.parametrize(
    "level", ["Content-Type: message/rfc822\n\n", "Content-Type: multipart/mixed; boundary=x{n}\n\n--x{n}\n"]
)
def test_what_is_too_deep_is_one_opaque_part(level: str) -> None:
    data = crlf("".join(level.format(n=n) for n in range(10_000)))
    part: Part | None = read_message(data).root
    depth = 0
    while part is not None:
        depth += 1
        last = part
        part = part.embedded or (part.children[0] if part.children else None)
    assert depth == DEPTH_MAX
    assert (last.media_type, last.subtype, last.kind) == (b"application", b"octet-stream", Kind.LEAF)


def test_what_is_too_much_is_in_the_last_part() -> None:
    root = read_message(crlf(MIXED + "--b\n\nx\n" * 20_000)).root
    assert len(root.children) == 9_999
    assert root.children[-1].end == root.end

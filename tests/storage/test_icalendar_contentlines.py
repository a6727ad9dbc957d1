"""storage.icalendar.contentlines: lines as clients write them, their octets, and the way back (RFC 5545 §3.1)."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.fuzz.icalendar import check_lines
from storage.icalendar.contentlines import (
    BOM,
    Component,
    LineLimits,
    Malformed,
    Property,
    escaped,
    folded,
    read,
    read_all,
    split,
    text,
    write,
    write_property,
)


def one(line: str) -> Property:
    return read(f"BEGIN:X\r\n{line}\r\nEND:X\r\n".encode()).properties[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("SUMMARY:a:b;c,d", Property("SUMMARY", "a:b;c,d")),
        ("summary:", Property("SUMMARY", "")),
        ("X-MOZ_NAME:1", Property("X-MOZ_NAME", "1")),
        ("item1.X-ABLabel:_$!<Home>!$_", Property("X-ABLABEL", "_$!<Home>!$_", group="item1")),
        ("DTSTART;tzid=Europe/Berlin:2026", Property("DTSTART", "2026", [("TZID", ("Europe/Berlin",))])),
        ('A;B="x;y:z,w":v', Property("A", "v", [("B", ("x;y:z,w",))])),
        ('A;B="x,y",z,"":v', Property("A", "v", [("B", ("x,y", "z", ""))])),
        ("A;B=:v", Property("A", "v", [("B", ("",))])),
        ("A;B;C=1:v", Property("A", "v", [("B", ()), ("C", ("1",))])),  # vCard 2.1
        ("A;B=George Herman ^'Babe^' Ruth:v", Property("A", "v", [("B", ('George Herman "Babe" Ruth',))])),
        ("A;B=1^n2^^n^x:v", Property("A", "v", [("B", ("1\n2^n^x",))])),  # RFC 6868 §3.2
        ('A;CN="a \\"b\\" c":v', Property("A", "v", [("CN", ('a \\"b\\" c',))])),
        ('A;CN=John "J" Doe:v', Property("A", "v", [("CN", ('John "J" Doe',))])),
        ("A;B=1;B=2:v", Property("A", "v", [("B", ("1",)), ("B", ("2",))])),
    ],
)
def test_lines(line: str, expected: Property) -> None:
    assert one(line) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"BEGIN:X\nSUMMARY:ab\nEND:X",
        b"BEGIN:X\r\nSUMM\r\n ARY:a\r\n\tb\r\nEND:X\r\n\r\n\r\n",
        b"begin:x\r\r\nSUMMARY:a\r\r\n b\r\r\nend:x\r\r\n",
        BOM + b"BEGIN:X\r\n\r\nSUMMARY:\r\n ab\r\nEN\r\n D:X",
    ],
)
def test_line_ends_and_folds(data: bytes) -> None:
    root = read(data)
    assert root == Component("X", [Property("SUMMARY", "ab")])
    check_lines(data, root)


def test_a_fold_in_the_middle_of_a_character() -> None:
    data = b"BEGIN:X\r\nSUMMARY:Gr\xc3\r\n \xbc\xc3\x9fe \xf0\x9f\r\n \x98\x80\r\nEND:X\r\n"
    assert read(data).value("SUMMARY") == "Grüße 😀"
    assert folded("SUMMARY:" + "ü" * 40) == ("SUMMARY:" + "ü" * 33 + "\r\n " + "ü" * 7 + "\r\n").encode()


def test_octets_of_a_line() -> None:
    data = b"BEGIN:A\r\nX:1\r\nBEGIN:B\r\nY;P=1:a\r\n b\r\nEND:B\r\nEND:A\r\n"
    root = read(data)
    inner = root.components[0]
    line = inner.properties[0]
    assert data[line.start : line.end] == b"Y;P=1:a\r\n b\r\n"
    assert data[inner.start : inner.end] == b"BEGIN:B\r\nY;P=1:a\r\n b\r\nEND:B\r\n"
    assert data[: inner.inner_end] + b"Z:2\r\n" + data[inner.inner_end :] == data.replace(b"END:B", b"Z:2\r\nEND:B")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"SUMMARY:x\r\n",
        b"BEGIN:A\r\n",
        b"END:A\r\n",
        b"BEGIN:A\r\nEND:B\r\n",
        b"BEGIN:A\r\nEND:A\r\nBEGIN:A\r\nEND:A\r\n",
        b"BEGIN:A\r\nEND:A\r\nX:1\r\n",
        b"BEGIN:A\r\nno colon\r\nEND:A\r\n",
        b"BEGIN:A\r\n:x\r\nEND:A\r\n",
        b"BEGIN:A\r\nX Y:x\r\nEND:A\r\n",
        b'BEGIN:A\r\nX;P="a:x\r\nEND:A\r\n',
        b"BEGIN:A\r\nX;=a:x\r\nEND:A\r\n",
        b"BEGIN:A\r\nX:\xff\r\nEND:A\r\n",
        b"BEGIN:A\r\nX:\0\r\nEND:A\r\n",
        b"BEGIN:A\r\nX:\x0b\r\nEND:A\r\n",
        b"BEGIN:A\r\nX:\xef\xbf\xbf\r\nEND:A\r\n",
        b"BEGIN:A\r\nX:\xef\r\n \xbf\xbe\r\nEND:A\r\n",
        b"BEGIN:A\r\nX:a\rb\r\nEND:A\r\n",
        b"BEGIN:A\r\n" * 20 + b"END:A\r\n" * 20,
    ],
)
def test_what_are_no_content_lines(data: bytes) -> None:
    with pytest.raises(Malformed) as raised:
        read(data)
    assert raised.value.public.endswith(".")


def test_the_line_is_named() -> None:
    with pytest.raises(Malformed, match="Line 3 "):
        read(b"BEGIN:A\r\nX:1\r\nY\r\nEND:A\r\n")


def test_several_in_one_file() -> None:
    assert [each.value("FN") for each in read_all(b"BEGIN:VCARD\nFN:a\nEND:VCARD\nBEGIN:VCARD\nFN:b\nEND:VCARD\n")] == [
        "a",
        "b",
    ]


NAMES = st.text("ABCXYZ-019", min_size=1, max_size=8).filter(lambda name: name not in ("BEGIN", "END"))
SAID = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=100
)  # what may stand in a line
PROPERTIES = st.builds(
    Property,
    NAMES,
    SAID,
    st.lists(st.tuples(NAMES, st.lists(SAID | st.just("a\nb"), max_size=3).map(tuple)), max_size=3),
    st.sampled_from(["", "item1"]),
)
COMPONENTS = st.recursive(
    st.builds(Component, NAMES, st.lists(PROPERTIES, max_size=4)),
    lambda below: st.builds(Component, NAMES, st.lists(PROPERTIES, max_size=2), st.lists(below, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(COMPONENTS)
def test_what_is_written_is_read_as_the_same(component: Component) -> None:
    data = write(component)
    assert all(len(line) <= 75 for line in data.split(b"\r\n"))
    again = read(data)
    # empty lists of values are the parameter alone
    assert again == component
    check_lines(data, again)


@given(SAID)
def test_texts(said: str) -> None:
    assert text(escaped(said)) == said
    joined = ",".join(escaped(each) for each in (said, "x"))
    assert [text(each) for each in split(joined)] == [said, "x"]


def test_a_property_is_written_alone() -> None:
    line = Property("ATTENDEE", "mailto:a@example.com", [("CN", ("Doe; Jane",)), ("X", ("1", "2"))])
    assert write_property(line) == b'ATTENDEE;CN="Doe; Jane";X=1,2:mailto:a@example.com\r\n'


MEGABYTE = 1 << 20
BEGIN, END = b"BEGIN:A\r\n", b"END:A\r\n"


@pytest.mark.parametrize(
    "data",
    [
        BEGIN + b"X:a" + b"\r\n b" * (MEGABYTE // 4) + b"\r\n" + END,
        BEGIN + b"X:" + b"\r" * MEGABYTE + b"\n" + END,
        BEGIN + b"X:" + b"\r" * MEGABYTE + b"x\n" + END,
        BEGIN + b"\n " * (MEGABYTE // 2) + END,
        b"\n" * MEGABYTE,
        BEGIN + b"A:\n" * (MEGABYTE // 3) + END,
        BEGIN + b"A" + b";a=b" * (MEGABYTE // 4) + b":\n" + END,
        BEGIN + b"A;a=" + b"b," * (MEGABYTE // 2) + b":\n" + END,
        BEGIN + b"A;a=" + b'"b",' * (MEGABYTE // 4) + b":\n" + END,
        BEGIN + b'A;a="' + b'x"' * (MEGABYTE // 2) + b":\n" + END,
        BEGIN + b'A;a="' + b'";' * (MEGABYTE // 2) + b"\n" + END,
        BEGIN + b'A;a="' + b'",' * (MEGABYTE // 2) + b"\n" + END,
        BEGIN + b"A;a=" + b"^" * MEGABYTE + b":\n" + END,
        BEGIN * (MEGABYTE // 9),
        b"A" * MEGABYTE,
        b"A" * MEGABYTE + b".",
    ],
    ids=range(16),
)
def test_masses_are_read_or_refused_in_little_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        read(data, LineLimits(lines=20_000, parameters=20_000))
    except Malformed as error:
        assert error.public
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 24 * MEGABYTE

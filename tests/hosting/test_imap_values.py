"""Small pure parts: modified UTF-7, LIST patterns, octets of responses, the translation of errors, threads."""

from __future__ import annotations

import re
from itertools import accumulate, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosting.imap import encode, utf7
from hosting.imap.mailboxes.patterns import Pattern
from hosting.imap.replies import UNEXPECTED, Bad, Refused, refusal
from hosting.imap.searching.thread import Threadable, ordered_subject, references
from storage import errors
from storage.collections.conditions import Violated
from storage.values import DRAFT, SEEN

NAMES = [
    ("INBOX", "INBOX"),
    ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 §5.1.3
    ("Entwürfe & mehr", "Entw&APw-rfe &- mehr"),
    ("😀", "&2D3eAA-"),
]


@pytest.mark.parametrize(("name", "encoded"), NAMES)
def test_utf7(name: str, encoded: str) -> None:
    assert utf7.encode(name) == encoded
    assert utf7.decode(encoded) == name


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_utf7_round_trip(name: str) -> None:
    assert utf7.encode(name).isascii()
    assert utf7.decode(utf7.encode(name)) == name


@pytest.mark.parametrize("text", ["&", "a&b", "&ZeVnLIqe", "&Z-", "&Jjo!-", "&2D0-"])
def test_utf7_never_guesses(text: str) -> None:
    with pytest.raises(errors.InvalidInput):
        utf7.decode(text)


def test_patterns_agree_with_regular_expressions() -> None:
    names = ["".join(letters) for length in range(5) for letters in product("ab/", repeat=length)]
    for pattern in ("".join(letters) for length in range(5) for letters in product("a/%*", repeat=length)):
        expression = re.compile("".join({"*": ".*", "%": "[^/]*"}.get(x, re.escape(x)) for x in pattern))
        matcher = Pattern(pattern)
        for name in names:
            assert matcher.matches(name) == bool(expression.fullmatch(name)), (pattern, name)


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not Pattern("*a" * 1000 + "b").matches("a" * 1000)


def test_inbox_is_caseless() -> None:
    assert Pattern("inbox/%").matches("INBOX/x")


def test_flag_texts() -> None:
    texts = encode.FlagTexts({8: "$Junk", 61: "last"})
    assert texts[0] == b""
    assert texts[SEEN | DRAFT | 1 << 8 | 1 << 61] == b"\\Seen \\Draft $Junk last"


def test_dates() -> None:
    assert encode.internal_date(837596665) == b'"17-Jul-1996 09:44:25 +0000"'
    assert encode.internal_date(837596665, -420) == b'"17-Jul-1996 02:44:25 -0700"'
    assert encode.internal_date(837596665, 345) == b'"17-Jul-1996 15:29:25 +0545"'
    assert encode.internal_date(10**15, 60) == b'" 1-Jan-1970 00:00:00 +0000"'
    assert encode.internal_date(-1) == b'"31-Dec-1969 23:59:59 +0000"'
    assert encode.internal_date(10**15) == b'" 1-Jan-1970 00:00:00 +0000"'


def test_sets() -> None:
    assert encode.uid_set([5, 1, 2, 3]) == b"1:3,5"
    assert encode.ordered_set([5, 6, 1, 2, 9]) == b"5:6,1:2,9"


def test_strings() -> None:
    assert encode.quoted(b'a"b\\') == b'"a\\"b\\\\"'
    assert encode.quoted(b"a\r\nb") == b"{4}\r\na\r\nb"


REFUSALS = [
    (errors.NotFound("No."), b"NO [NONEXISTENT] No."),
    (errors.StorageFull(), b"NO [UNAVAILABLE] The server has no space left; try again later."),
    (errors.Gone(), b"NO [EXPUNGEISSUED] It is no longer there."),
    (errors.NotFound("für\r\n* OK"), b"NO [NONEXISTENT] f?r??* OK"),
    (Violated("max-resource-size", "Too long."), b"NO [CANNOT] Too long."),
    (Refused(b"TRYCREATE", "x"), b"NO [TRYCREATE] x"),
    (Bad("x"), b"BAD x"),
    (RuntimeError("/secret/path"), UNEXPECTED),
]


@pytest.mark.parametrize(("error", "answer"), REFUSALS)
def test_refusals(error: Exception, answer: bytes) -> None:
    assert refusal(error) == answer


def every_subclass(kind: type[errors.CleanmailError]) -> list[type[errors.CleanmailError]]:
    return [kind, *(deeper for sub in kind.__subclasses__() for deeper in every_subclass(sub))]


@pytest.mark.parametrize("kind", every_subclass(errors.CleanmailError)[1:])
def test_every_error_has_a_code(kind: type[errors.CleanmailError]) -> None:
    error = Violated("valid-calendar-data", "No.") if kind is Violated else kind()
    assert refusal(error).startswith(b"NO [")
    assert refusal(error) != UNEXPECTED


# --- threads (RFC 5256) ---


def threadable(*rows: tuple[str, str, str]) -> Threadable:
    """Rows of (id, references, subject); a subject that begins with "Re: " is a reply's."""
    known = {"": 0}
    chains = [[known.setdefault(each, len(known)) for each in row[1].split()] for row in rows]
    ends = list(accumulate(map(len, chains)))
    return Threadable(
        ids=[known.setdefault(row[0], len(known)) for row in rows],
        references=[each for chain in chains for each in chain],
        starts=[0, *ends[:-1]],
        ends=ends,
        subjects=[known.setdefault(row[2].removeprefix("Re: "), len(known)) for row in rows],
        replies=[row[2].startswith("Re: ") for row in rows],
        order=range(len(rows)),
        texts=len(known),
    )


THREADS = [
    ("alone", [("a", "", "x"), ("b", "", "y")], b"(1)(2)"),
    ("a chain", [("a", "", "x"), ("b", "a", "Re: x"), ("c", "a b", "Re: x")], b"(1 2 3)"),
    ("two replies", [("a", "", "x"), ("b", "a", "Re: x"), ("c", "a", "Re: x")], b"(1 (2)(3))"),
    ("the parent is not here", [("b", "a", "Re: x"), ("c", "a", "Re: x")], b"((1)(2))"),
    ("one child of a missing parent", [("b", "a", "q"), ("c", "", "y")], b"(1)(2)"),
    ("a missing one in between", [("a", "", "x"), ("c", "a b", "Re: x")], b"(1 2)"),
    ("replies come first", [("c", "a b", "x"), ("b", "a", "x"), ("a", "", "x")], b"(3 2 1)"),
    ("the same id twice", [("a", "", "x"), ("a", "", "y"), ("b", "a", "x")], b"(1 3)(2)"),
    ("a loop", [("a", "b", "x"), ("b", "a", "x")], b"(2 1)"),
    ("itself", [("a", "a", "x")], b"(1)"),
    ("subjects: a reply without references", [("a", "", "x"), ("b", "", "Re: x")], b"(1 2)"),
    ("subjects: the reply first", [("b", "", "Re: x"), ("a", "", "x")], b"(2 1)"),
    ("subjects: two that are no replies", [("a", "", "x"), ("b", "", "x")], b"((1)(2))"),
    ("subjects: three that are no replies", [("a", "", "x"), ("b", "", "x"), ("c", "", "x")], b"((1)(2)(3))"),
    ("empty subjects stay apart", [("a", "", ""), ("b", "", "")], b"(1)(2)"),
    ("no ids", [("", "", "x"), ("", "", "y")], b"(1)(2)"),
]


@pytest.mark.parametrize(("rows", "expected"), [row[1:] for row in THREADS], ids=[row[0] for row in THREADS])
def test_references(rows: list[tuple[str, str, str]], expected: bytes) -> None:
    assert references(threadable(*rows), range(1, len(rows) + 1)) == expected


def test_ordered_subject() -> None:
    rows = threadable(("a", "", "x"), ("b", "", "y"), ("c", "", "Re: x"), ("d", "", "Re: x"), ("e", "", "Re: y"))
    assert ordered_subject(rows, [10, 20, 30, 40, 50]) == b"(10 (30)(40))(20 50)"


def test_a_deep_thread_needs_no_recursion() -> None:
    rows = [(f"i{n}", f"i{n - 1}" if n else "", "Re: x") for n in range(20_000)]
    text = references(threadable(*rows), range(1, len(rows) + 1))
    assert text.startswith(b"(1 2 3 ")
    assert text.count(b"(") == 1

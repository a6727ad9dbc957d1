"""The grammar: commands as values, and a sentence for whatever is not one (RFC 9051 §9)."""

from __future__ import annotations

import pytest

from hosting.imap import commands as c
from hosting.imap.decoder import Frame
from hosting.imap.grammar import BadCommand, Grammar
from hosting.imap.limits import Limits
from hosting.imap.searching import search_commands as sc
from hosting.imap.storing.append_commands import Append, Text, Upload
from storage.values import DELETED, FLAGGED, SEEN


def parse(text: bytes, *literals: bytes, utf8: bool = False) -> c.Command:
    grammar = Grammar(Limits(nesting=10, ranges=100))
    grammar.utf8 = utf8
    tag, command = grammar.parse(Frame(b"t " + text, literals))
    assert tag == b"t"
    return command


def items(text: bytes) -> tuple[c.FetchItem, ...]:
    command = parse(b"FETCH 1 " + text)
    assert isinstance(command, c.Fetch)
    return command.items


def key(text: bytes) -> sc.Key:
    command = parse(b"SEARCH " + text)
    assert isinstance(command, sc.Search)
    return command.key


def names(*them: str) -> tuple[c.FetchItem, ...]:
    return tuple(c.FetchItem(name) for name in them)  # type: ignore[arg-type]


GOOD: list[tuple[bytes, c.Command]] = [
    (b"noop", c.Noop()),
    (b'LOGIN bob "se\\"cret"', c.Login("bob", 'se"cret')),
    (b"AUTHENTICATE plain =", c.Authenticate("PLAIN", b"=")),
    (b"ENABLE condstore X-FOO", c.Enable(("CONDSTORE", "X-FOO"))),
    (b"ID NIL", c.Identify()),
    (b'ID ("version" "name" "Name" "x" "name" "y")', c.Identify("x")),
    (b'ID ("name" NIL)', c.Identify()),
    (b"SELECT inbox", c.Select("INBOX")),
    (b'SELECT "inbox/Sub"', c.Select("INBOX/Sub")),
    (b"EXAMINE x (CONDSTORE)", c.Select("x", read_only=True, condstore=True)),
    (
        b"SELECT x (QRESYNC (7 90 1:5 (1,3 2,9)))",
        c.Select(
            "x",
            resync=c.Resync(
                7, 90, c.SequenceSet(((1, 5),)), (c.SequenceSet(((1, 1), (3, 3))), c.SequenceSet(((2, 2), (9, 9))))
            ),
        ),
    ),
    (b"SELECT x (QRESYNC (7 90))", c.Select("x", resync=c.Resync(7, 90))),
    (b'CREATE "Projekte f&APw-r"', c.Create("Projekte für")),
    (b"CREATE x (USE (\\Sent \\Trash))", c.Create("x", ("\\Sent", "\\Trash"))),
    (b"RENAME a b", c.Rename("a", "b")),
    (b'LIST "" *', c.ListMailboxes("", ("*",))),
    (
        b'LIST (SUBSCRIBED) "" ("a*" %) RETURN (SPECIAL-USE STATUS (MESSAGES UNSEEN))',
        c.ListMailboxes(
            "", ("a*", "%"), frozenset({"SUBSCRIBED"}), frozenset({"SPECIAL-USE"}), ("MESSAGES", "UNSEEN"), True
        ),
    ),
    (b'LSUB "" "*"', c.ListSubscribed("", "*")),
    (b"STATUS x (MESSAGES MESSAGES SIZE)", c.Status("x", ("MESSAGES", "SIZE"))),
    (b"EXPUNGE", c.Expunge()),
    (b"UID EXPUNGE 3:5", c.Expunge(c.SequenceSet(((3, 5),)))),
    (
        b"STORE 1,3:* +FLAGS.SILENT (\\Deleted $Junk)",
        c.Store(c.SequenceSet(((1, 1), (3, c.STAR))), "add", c.Flags(DELETED, ("$Junk",)), True, False),
    ),
    (
        b"UID STORE $ (UNCHANGEDSINCE 12) -FLAGS \\Seen \\Flagged",
        c.Store(c.SequenceSet(saved=True), "remove", c.Flags(SEEN | FLAGGED), False, True, 12),
    ),
    (b"STORE 1 FLAGS ()", c.Store(c.SequenceSet(((1, 1),)), "replace", c.Flags(), False, False)),
    (b"UID MOVE 1:2 Trash", c.Copy(c.SequenceSet(((1, 2),)), "Trash", True, True)),
    (b"GETQUOTAROOT inbox", c.GetQuotaRoot("INBOX")),
    (b"SEARCH RETURN () ALL", sc.Search(sc.AllKeys(), False, frozenset({"ALL"}))),
    (b"SEARCH CHARSET X-UNKNOWN ALL", sc.Search(sc.AllKeys(), False, None, charset_known=False)),
    (b"SORT (REVERSE DATE SUBJECT) UTF-8 ALL", sc.Sort((("DATE", True), ("SUBJECT", False)), sc.AllKeys(), False)),
    (b"UID THREAD REFERENCES UTF-8 SEEN", sc.Thread("REFERENCES", sc.FlagKey(SEEN, True), True)),
]


@pytest.mark.parametrize(("text", "command"), GOOD, ids=[text.decode() for text, _ in GOOD])
def test_commands(text: bytes, command: c.Command) -> None:
    assert parse(text) == command


FETCHES: list[tuple[bytes, tuple[c.FetchItem, ...]]] = [
    (b"FAST", names("FLAGS", "INTERNALDATE", "RFC822.SIZE")),
    (b"ALL", names("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE")),
    (b"FULL", names("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY")),
    (b"(UID BODYSTRUCTURE)", names("UID", "BODYSTRUCTURE")),
    (b"BODY", names("BODY")),
    (b"BODY[]", (c.FetchItem("SECTION", c.Section(), peek=False),)),
    (b"BODY.PEEK[]<0.100>", (c.FetchItem("SECTION", c.Section(partial=(0, 100))),)),
    (b"BODY.PEEK[1.2.MIME]", (c.FetchItem("SECTION", c.Section((1, 2), "MIME")),)),
    (b"BODY.PEEK[TEXT]", (c.FetchItem("SECTION", c.Section((), "TEXT")),)),
    (
        b'BODY.PEEK[2.HEADER.FIELDS.NOT (From "To")]',
        (c.FetchItem("SECTION", c.Section((2,), "HEADER.FIELDS.NOT", (b"From", b"To"))),),
    ),
    (b"BINARY[1]", (c.FetchItem("BINARY", c.Section((1,)), peek=False),)),
    (b"BINARY.SIZE[1.3]", (c.FetchItem("BINARY.SIZE", c.Section((1, 3))),)),
    (b"RFC822", (c.FetchItem("RFC822", c.Section(), peek=False),)),
    (b"RFC822.HEADER", (c.FetchItem("RFC822.HEADER", c.Section(text="HEADER")),)),
]


@pytest.mark.parametrize(("text", "expected"), FETCHES, ids=[text.decode() for text, _ in FETCHES])
def test_fetch_items(text: bytes, expected: tuple[c.FetchItem, ...]) -> None:
    assert items(text) == expected


UID_4 = sc.NumbersKey(c.SequenceSet(((4, 4),)), True)
KEYS: list[tuple[bytes, sc.Key]] = [
    (b"UNSEEN", sc.FlagKey(SEEN, False)),
    (b"SINCE 1-Feb-1994", sc.DateKey("SINCE", 8797, False)),
    (b'SENTON "01-Jan-1970"', sc.DateKey("ON", 0, True)),
    (b"HEADER Message-ID <a@b>", sc.TextKey("message-id", "<a@b>", header=True)),
    (
        b"OR SEEN NOT 1:3",
        sc.EitherKey(sc.FlagKey(SEEN, True), sc.NotKey(sc.NumbersKey(c.SequenceSet(((1, 3),)), False))),
    ),
    (b"(SEEN LARGER 5) UID 4", sc.AllKeys((sc.AllKeys((sc.FlagKey(SEEN, True), sc.SizeKey(True, 5))), UID_4))),
    (b"YOUNGER 60", sc.WithinKey(True, 60)),
    (b'MODSEQ "/flags/\\\\draft" all 620162338', sc.ModSeqKey(620162338)),
    (b"KEYWORD $Junk", sc.KeywordKey("$Junk", True)),
    (b"EMAILID M1", sc.ObjectKey(False, "M1")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), KEYS, ids=[text.decode() for text, _ in KEYS])
def test_search_keys(text: bytes, expected: sc.Key) -> None:
    assert key(text) == expected


def test_append() -> None:
    command = parse(b'APPEND Sent (\\Seen) "17-Jul-1996 02:44:25 -0700" {5}\r\n', b"a\0b\r\n")
    assert command == Append("Sent", (Upload((Text(b"a\0b\r\n"),), c.Flags(SEEN), 837596665, -420),))


def test_utf8_names_after_enable() -> None:
    assert parse('SELECT "für&-"'.encode(), utf8=True) == c.Select("für&-")
    assert parse(b'SELECT "f&APw-r"') == c.Select("für")


BAD = [
    b"", b"UID", b"XYZZY", b"NOOP x", b"LOGIN a", b"SELECT", b"SELECT a b", b"FETCH 0 FLAGS", b"FETCH 1 (FLAGS",
    b"FETCH 1 BODY[1.HEADER.FIELDS]", b"FETCH 1 BODY[MIME]", b"FETCH 1 BODY[]<0.0>", b"FETCH 4294967296 FLAGS",
    b"FETCH 1 FLAGS (VANISHED)", b"UID FETCH 1 FLAGS (VANISHED)", b"STORE 1 FLAGS (\\Nonsense)", b"SEARCH",
    b"SEARCH FROM", b"SEARCH YOUNGER 0", b"SEARCH SINCE 31-Feb-2020", b"SORT () UTF-8 ALL", b"SORT (REVERSE) UTF-8 ALL",
    b"THREAD NONSENSE UTF-8 ALL", b"LIST (RECURSIVEMATCH) \"\" *", b"LIST (NONSENSE) \"\" *", b"STATUS x ()",
    b"SELECT &zz-", b"SELECT {3}\r\n", b"APPEND x abc", b"SEARCH " + b"NOT " * 20 + b"ALL",
    b"SEARCH " + b"(" * 20 + b"ALL" + b")" * 20, b"FETCH " + b",".join(b"%d" % n for n in range(1, 200)) + b" UID",
    b"SELECT x (QRESYNC (1 2 1:*))", b'CREATE "a\x80b"', b"UID NOOP",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=[text[:30].decode("latin-1") for text in BAD])
def test_what_is_no_command(text: bytes) -> None:
    with pytest.raises(BadCommand) as bad:
        parse(text)
    assert bad.value.tag == b"t"
    assert bad.value.text.isascii()


def test_no_tag() -> None:
    with pytest.raises(BadCommand) as bad:
        Grammar(Limits()).parse(Frame(b"+ NOOP"))
    assert bad.value.tag == b"*"


def test_a_password_is_not_in_the_repr() -> None:
    assert "secret" not in repr(parse(b"LOGIN bob secret"))

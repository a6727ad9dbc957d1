"""METADATA, METADATA-SERVER, LIST-METADATA, and special use as an annotation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient, SocketClient, play
from imap_server import running_server
from imap_town import PASSWORD, MailTown, new_mail_town

from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.decoder import Frame
from hosting.imap.limits import Limits
from hosting.imap.mailboxes.metadata_grammar import INFINITY, GetMetadata, SetMetadata, get_metadata, set_metadata

LIMITS = Limits(
    annotation=2000, annotations=10, annotation_octets=30_000, comment="Grüße", admin="mailto:postmaster@example.test"
)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path, LIMITS) as made:
        yield made


def client(town: MailTown, address: str = "alice@example.test", *commands: str) -> CoreClient:
    one = CoreClient(town.services)
    one.send(f'x LOGIN {address} "{PASSWORD}"\r\n'.encode())
    for command in commands:
        one.send(f"y {command}\r\n".encode())
    assert one.receive(0)[-1].split()[1] == "OK"
    return one


DIALOGUES = {
    "set, get, remove (RFC 5464 §4.2, §4.3)": r"""
    C: a SETMETADATA INBOX (/private/comment {7+}
    C> two\r\nli /Shared/Comment "his")\r\n
    S: a OK …
    C: b GETMETADATA "INBOX" (/shared/comment /PRIVATE/comment /private/other)
    S: * METADATA "INBOX" ("/shared/comment" "his" "/PRIVATE/comment" {7}
    S: two
    S: li "/private/other" NIL)
    S: b OK …
    C: c SETMETADATA INBOX (/private/comment NIL /private/never NIL)
    S: c OK …
    C: d GETMETADATA INBOX /private/comment /shared/comment
    S: * METADATA "INBOX" ("/private/comment" NIL "/shared/comment" "his")
    S: d OK …
    C: e SETMETADATA Nowhere (/private/comment "x")
    S: e NO [NONEXISTENT] …
    C: f GETMETADATA Nowhere /private/comment
    S: f NO [NONEXISTENT] …
    """,
    "any octets (RFC 5464 §5: value)": r"""
    C: a SETMETADATA INBOX (/private/vendor/x/a ~{3+}
    C> \r\0\n /private/vendor/x/b "" /private/vendor/x/c {2+}\r\n
    C> ü)\r\n
    S: a OK …
    C: b GETMETADATA INBOX (/private/vendor/x/a /private/vendor/x/b /private/vendor/x/c)
    S: * METADATA "INBOX" ("/private/vendor/x/a" ~{3}
    S: … "/private/vendor/x/b" "" "/private/vendor/x/c" {2}
    S: ü)
    S: b OK …
    """,
    "MAXSIZE (RFC 5464 §4.2.1)": r"""
    C: a SETMETADATA INBOX (/private/comment "12345" /private/vendor/a/b "123456789" /private/vendor/a/c "1234567")
    S: a OK …
    C: b GETMETADATA "INBOX" (MAXSIZE 5) (/private/comment /private/vendor/a/b /private/vendor/a/c)
    S: * METADATA "INBOX" ("/private/comment" "12345")
    S: b OK [METADATA LONGENTRIES 9] …
    C: c GETMETADATA (MAXSIZE 4) INBOX /private/comment
    S: c OK [METADATA LONGENTRIES 5] …
    C: d GETMETADATA (MAXSIZE 9) INBOX (/private/vendor/a/b)
    S: * METADATA "INBOX" ("/private/vendor/a/b" "123456789")
    S: d OK That is all.
    """,
    "DEPTH (RFC 5464 §4.2.2)": r"""
    C: a SETMETADATA "" (/private/filters/values/small "SMALLER 5000" /private/filters/values/a/b "x")
    S: a OK …
    C: a SETMETADATA "" (/private/filter "y")
    S: a OK …
    C: b GETMETADATA "" (DEPTH 1) (/private/filters/values)
    S: * METADATA "" ("/private/filters/values/small" "SMALLER 5000")
    S: b OK …
    C: c GETMETADATA (DEPTH infinity MAXSIZE 100) "" (/private/FILTERS)
    S: * METADATA "" ("/private/FILTERS/values/a/b" "x" "/private/FILTERS/values/small" "SMALLER 5000")
    S: c OK …
    C: d GETMETADATA (DEPTH 0) "" /private/filters
    S: * METADATA "" ("/private/filters" NIL)
    S: d OK …
    C: e GETMETADATA (DEPTH 1) "" /private
    S: * METADATA "" ("/private/filter" "y")
    S: e OK …
    C: f GETMETADATA (DEPTH infinity) INBOX /private/filters
    S: * METADATA "INBOX" ("/private/filters" NIL)
    S: f OK …
    """,
    "too large, too many: nothing is changed (RFC 5464 §4.3)": r"""
    C: a SETMETADATA INBOX (/private/comment "x" /private/other {2001+}
    C> LARGE)\r\n
    S: a NO [METADATA MAXSIZE 2000] …
    C: b GETMETADATA INBOX /private/comment
    S: * METADATA "INBOX" ("/private/comment" NIL)
    S: b OK …
    C: c SETMETADATA INBOX (/private/1 "" /private/2 "" /private/3 "" /private/4 "" /private/5 "" /private/6 "")
    S: c OK …
    C: d SETMETADATA INBOX (/private/1 "x" /private/7 "" /private/8 "" /private/9 "" /private/10 "" /shared/11 "")
    S: d NO [METADATA TOOMANY] …
    C: e GETMETADATA INBOX /private/1
    S: * METADATA "INBOX" ("/private/1" "")
    S: e OK …
    """,
    "renamed, deleted (RFC 5464 §4.1)": r"""
    C: a CREATE Work
    S: a OK …
    C: b SETMETADATA Work (/shared/comment "w")
    S: b OK …
    C: c RENAME Work Play
    S: c OK …
    C: d GETMETADATA Play /shared/comment
    S: * METADATA "Play" ("/shared/comment" "w")
    S: d OK …
    C: e DELETE Play
    S: e OK …
    C: f CREATE Play
    S: f OK …
    C: g GETMETADATA Play /shared/comment
    S: * METADATA "Play" ("/shared/comment" NIL)
    S: g OK …
    """,
    "special use (RFC 6154 §4, §5.4)": r"""
    C: a GETMETADATA Drafts /private/specialuse
    S: * METADATA "Drafts" ("/private/specialuse" "\\Drafts")
    S: a OK …
    C: b SETMETADATA Archive (/private/specialuse "\\drafts")
    S: * METADATA "Drafts" ("/private/specialuse" NIL)
    S: b OK …
    C: c LIST (SPECIAL-USE) "" (Drafts Archive)
    S: * LIST (\HasNoChildren \Drafts) "/" "Archive"
    S: c OK …
    C: d SETMETADATA Archive (/private/specialuse NIL /private/comment "plain")
    S: d OK …
    C: e LIST (SPECIAL-USE) "" (Drafts Archive)
    S: e OK …
    C: f SETMETADATA Archive (/private/comment "lost" /private/specialuse "\\Nonsense")
    S: f NO [USEATTR] …
    C: g GETMETADATA Archive /private/comment
    S: * METADATA "Archive" ("/private/comment" "plain")
    S: g OK …
    C: h SETMETADATA INBOX (/private/specialuse "\\Sent")
    S: h NO [USEATTR] …
    C: i SETMETADATA "" (/private/specialuse "\\Sent")
    S: i NO [USEATTR] …
    """,
    "a special use goes back when the mailbox is deleted that was given it (RFC 6154 §4)": r"""
    C: a CREATE Bin
    S: a OK …
    C: b SETMETADATA Bin (/private/specialuse "\\Trash \\Sent")
    S: * METADATA "Sent" ("/private/specialuse" NIL)
    S: * METADATA "Trash" ("/private/specialuse" NIL)
    S: b OK …
    C: c SETMETADATA Sent (/private/specialuse "\\Archive")
    S: * METADATA "Archive" ("/private/specialuse" NIL)
    S: c OK …
    C: d DELETE Bin
    S: d OK …
    C: e LIST (SPECIAL-USE) "" (Bin Sent Trash)
    S: * LIST (\HasNoChildren \Archive) "/" "Sent"
    S: * LIST (\HasNoChildren \Trash) "/" "Trash"
    S: e OK …
    """,
    "what is no command (RFC 5464 §3.2, §5)": r"""
    C: a SETMETADATA INBOX (/private/vendor/x "y")
    S: a BAD …
    C: b SETMETADATA INBOX (/private "y")
    S: b BAD …
    C: c GETMETADATA INBOX (DEPTH 2) /private/x
    S: c BAD …
    C: d GETMETADATA INBOX "/private/a*"
    S: d BAD …
    C: e GETMETADATA INBOX /private//a
    S: e BAD …
    C: f GETMETADATA INBOX /private/a/
    S: f BAD …
    C: g GETMETADATA INBOX /other/a
    S: g BAD …
    C: h GETMETADATA INBOX
    S: h BAD …
    C: i SETMETADATA INBOX (/private/a b)
    S: i BAD …
    C: j SETMETADATA INBOX ()
    S: j BAD …
    """,
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogues(town: MailTown, name: str) -> None:
    play(client(town), DIALOGUES[name].replace("LARGE", "x" * 2001).replace("\\0", "\0"))


def test_of_the_server(town: MailTown) -> None:
    """RFC 5464 §3.2.1.1: the operator's comment and address; private entries are the reader's own."""
    play(
        client(town, "alice@example.test", "ENABLE IMAP4rev2"),
        """
        C: a GETMETADATA (DEPTH infinity) "" (/shared /private)
        S: * METADATA "" ("/shared/admin" "mailto:postmaster@example.test" "/shared/comment" {7}
        S: Grüße)
        S: a OK …
        C: b SETMETADATA "" (/private/vendor/v/x "1" /shared/comment "mine")
        S: b NO [NOPERM] …
        C: c SETMETADATA "" (/private/vendor/v/x "2")
        S: c OK …
        C: d GETMETADATA "" /private/vendor/v/x
        S: * METADATA "" ("/private/vendor/v/x" "2")
        S: d OK …
        """,
    )
    play(
        client(town, "bob@example.test"),
        """
        C: a GETMETADATA "" (/private/vendor/v/x /shared/admin)
        S: * METADATA "" ("/private/vendor/v/x" NIL "/shared/admin" "mailto:postmaster@example.test")
        S: a OK …
        """,
    )


def test_not_before_sign_in(town: MailTown) -> None:
    one = CoreClient(town.services)
    one.receive(0)
    one.send(b'a GETMETADATA "" /shared/comment\r\nb SETMETADATA "" (/private/x "y")\r\n')
    assert [line.split()[:2] for line in one.receive(0)] == [["a", "BAD"], ["b", "BAD"]]


def test_changes_by_another_session(town: MailTown) -> None:
    """RFC 5464 §4.4.2: names only, after ENABLE, never of one's own changes; in UTF-8 names with IMAP4rev2."""
    one, other = client(town), client(town, "alice@example.test", 'CREATE "B&APw-ro"')
    play(
        one,
        """
        C: a ENABLE METADATA
        S: * ENABLED METADATA
        S: a OK …
        C: b SETMETADATA INBOX (/private/own "x")
        S: b OK …
        """,
    )
    silent = client(town)
    play(
        other,
        """
        C: a SETMETADATA INBOX (/private/a "x" /shared/b "y")
        S: a OK …
        C: b SETMETADATA "B&APw-ro" (/shared/c "z")
        S: b OK …
        C: c SETMETADATA "" (/private/d "z")
        S: c OK …
        C: d SETMETADATA Archive (/private/specialuse "\\\\Sent")
        S: * METADATA "Sent" ("/private/specialuse" NIL)
        S: d OK …
        """,
    )
    play(silent, "C: a NOOP\nS: a OK …")
    play(
        one,
        """
        C: c NOOP
        S: * METADATA "" "/private/d"
        S: * METADATA "INBOX" "/private/a" "/shared/b"
        S: * METADATA "Sent" "/private/specialuse"
        S: * METADATA "Archive" "/private/specialuse"
        S: * METADATA "B&APw-ro" "/shared/c"
        S: c OK …
        C: d NOOP
        S: d OK …
        C: e ENABLE IMAP4rev2
        S: * ENABLED IMAP4rev2
        S: e OK …
        """,
    )
    play(other, 'C: e SETMETADATA "B&APw-ro" (/shared/c NIL)\nS: e OK …')
    play(one, 'C: f NOOP\nS: * METADATA "Büro" "/shared/c"\nS: f OK …')
    play(other, 'C: f SETMETADATA "B&APw-ro" (/shared/c "1")\nS: f OK …\nC: g DELETE "B&APw-ro"\nS: g OK …')
    play(one, "C: g NOOP\nS: g OK …")


def test_in_idle_it_is_told_at_once(town: MailTown) -> None:
    """RFC 5464 §4.4.2: the change feed wakes the session."""
    with running_server(town) as server:
        one = SocketClient(server.tls_address, tls=server.client_context)
        sign_in = f'x LOGIN alice@example.test "{PASSWORD}"\r\n'.encode()
        one.send(sign_in + b"a ENABLE METADATA\r\nb SELECT INBOX\r\nc IDLE\r\n")
        one.until("b")
        assert one.receive(1) == ["+ idling"]
        other = client(town)
        play(other, 'C: a SETMETADATA Archive (/private/comment "x")\nS: a OK …')
        assert one.receive(1) == ['* METADATA "Archive" "/private/comment"']
        one.send(b"DONE\r\n")
        one.until("c")
        one.close()


def test_of_a_shared_mailbox(town: MailTown) -> None:
    """RFC 5464 §3.3: shared values lie with the mailbox, private ones with each reader; who may see and set them."""
    owner = client(
        town, "alice@example.test", "CREATE Work", "SETACL Work bob@example.test lrw", "CREATE Look", "CREATE Read"
    )
    play(owner, 'C: a SETMETADATA Work (/shared/comment "ours" /private/comment "mine")\nS: a OK …')
    play(owner, "C: b SETACL Look bob@example.test l\nS: b OK …")
    play(owner, "C: c SETACL Read bob@example.test lr\nS: c OK …")
    play(
        client(town, "bob@example.test"),
        r"""
        C: a GETMETADATA "Other Users/alice@example.test/Work" (/shared/comment /private/comment /private/specialuse)
        S: * METADATA "Other Users/alice@example.test/Work" ("/shared/comment" "ours" "/private/comment" NIL …)
        S: a OK …
        C: b SETMETADATA "Other Users/alice@example.test/Work" (/private/comment "bob's" /shared/comment "changed")
        S: b OK …
        C: c GETMETADATA "Other Users/alice@example.test/Work" (/shared/comment /private/comment)
        S: * METADATA "Other Users/alice@example.test/Work" ("/shared/comment" "changed" "/private/comment" "bob's")
        S: c OK …
        C: d SETMETADATA "Other Users/alice@example.test/Work" (/private/specialuse "\\Sent")
        S: d NO [USEATTR] …
        C: e GETMETADATA "Other Users/alice@example.test/Look" /shared/comment
        S: e NO [NOPERM] …
        C: f GETMETADATA "Other Users/alice@example.test/INBOX" /shared/comment
        S: f NO [NONEXISTENT] …
        C: g SETMETADATA "Other Users/alice@example.test/Read" (/private/comment "x" /shared/comment "not mine to set")
        S: g NO [NOPERM] …
        C: g LIST "" "Other Users/alice@example.test/*" RETURN (METADATA (/shared/comment))
        S: * LIST (…) "/" "Other Users/alice@example.test/Look"
        S: * LIST (…) "/" "Other Users/alice@example.test/Read"
        S: * METADATA "Other Users/alice@example.test/Read" ("/shared/comment" NIL)
        S: * LIST (…) "/" "Other Users/alice@example.test/Work"
        S: * METADATA "Other Users/alice@example.test/Work" ("/shared/comment" "changed")
        S: g OK …
        """,
    )
    play(
        owner,
        """
        C: c GETMETADATA Work (/shared/comment /private/comment)
        S: * METADATA "Work" ("/shared/comment" "changed" "/private/comment" "mine")
        S: c OK …
        """,
    )
    with town.account("bob@example.test") as account:
        assert [value for *_, value in account.annotations.all()] == [b"bob's"]  # it ends with him


def test_list_metadata(town: MailTown) -> None:
    """RFC 9590 §3: beside each mailbox that is listed, NIL where there is nothing."""
    play(
        client(town),
        r"""
        C: a SETMETADATA INBOX (/shared/vendor/v/color "#b71c1c")
        S: a OK …
        C: b CREATE A/B
        S: b OK …
        C: c LIST "" (INBOX A) RETURN (METADATA ("/shared/vendor/v/color" /private/x) CHILDREN)
        S: * LIST (\HasNoChildren) "/" "INBOX"
        S: * METADATA "INBOX" ("/shared/vendor/v/color" "#b71c1c" "/private/x" NIL)
        S: * LIST (\HasChildren) "/" "A"
        S: * METADATA "A" ("/shared/vendor/v/color" NIL "/private/x" NIL)
        S: c OK …
        C: d LIST "" INBOX RETURN (STATUS (MESSAGES) METADATA (/private/specialuse))
        S: * LIST (\HasNoChildren) "/" "INBOX"
        S: * STATUS "INBOX" (MESSAGES 0)
        S: * METADATA "INBOX" ("/private/specialuse" NIL)
        S: d OK …
        C: e LIST "" INBOX RETURN (METADATA ("/nothing"))
        S: e BAD …
        C: f LIST "" INBOX RETURN (METADATA)
        S: f BAD …
        """,
    )


def parsed(text: bytes, *literals: bytes) -> GetMetadata | SetMetadata:
    cursor = Cursor(Frame(text, literals), 100)
    command = (set_metadata if b"NIL" in text or b"~" in text else get_metadata)(cursor, False)
    cursor.end()
    return command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b" INBOX /private/a", GetMetadata("INBOX", ("/private/a",))),
        (b' "" ("/private/a b" /PRIVATE/a /private/A)', GetMetadata("", ("/private/a b", "/PRIVATE/a"))),
        (b" (depth INFINITY maxsize 0) inbox /shared", GetMetadata("INBOX", ("/shared",), INFINITY, 0)),
        (b" x (MAXSIZE 7) (/shared/a)", GetMetadata("x", ("/shared/a",), 0, 7)),
        (b" x (/private/a NIL /PRIVATE/B nil)", SetMetadata("x", {"/private/a": None, "/private/b": None})),
    ],
)
def test_commands(text: bytes, command: GetMetadata | SetMetadata) -> None:
    assert parsed(text) == command


@pytest.mark.parametrize(
    "text",
    [
        b" x (MAXSIZE 1 MAXSIZE 2) /private/a",
        b" x (NONSENSE 1) /private/a",
        b" x (/private/a",
        b" x /private/" + b"a" * 300,
        b" x (" + b" ".join(b"/private/%d" % n for n in range(200)) + b")",
        b" x (" + b" ".join(b"/private/%d NIL" % n for n in range(200)) + b")",
        b' x "/private/\xc3\xbc"',
        b' x "/private/\x01"',
        b" x (/private/a ~{3}\r\n)",
    ],
)
def test_hostile(text: bytes) -> None:
    with pytest.raises(Malformed):
        parsed(text)


def test_a_name_takes_no_time() -> None:
    """Whatever its slashes: it is read once."""
    for name in (b"/private" + b"/a" * 100 + b"/", b"/private" + b"/" * 200, b"/" * 255):
        with pytest.raises(Malformed):
            parsed(b" x " + name)

r"""Every command in every state, with arguments that are well-formed and others that are not: the kind of the answer.

The states that a command belongs to are written down here as the RFCs have them and compared with the server's own
table, and a command without rows fails. Where a command is not allowed the answer is BAD, whatever its arguments are
(RFC 9051 §3); after LOGOUT there is none.

Standards: RFC 9051 §3, §6, §7.1; RFC 3501 §6; for the others the one that `hosting.imap.capability_table` names.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pytest
from imap_play import CoreClient
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap import grammar
from hosting.imap.decoder import Decoder, Frame
from hosting.imap.limits import Limits
from hosting.imap.rules import RULES
from hosting.imap.session import State
from storage.mail.messages import NewMessage

PLAIN, GREETED, SIGNED_IN, SELECTED, EXAMINED = "plain", "greeted", "signed_in", "selected", "examined"
MODERN = "modern"  # selected, after ENABLE of IMAP4rev2, QRESYNC and METADATA
STATES: Final = (PLAIN, GREETED, SIGNED_IN, SELECTED, EXAMINED, MODERN)

ANY = frozenset(STATES)
BEFORE = frozenset({PLAIN, GREETED})
AFTER = frozenset({SIGNED_IN, SELECTED, EXAMINED, MODERN})
WITHIN = frozenset({SELECTED, EXAMINED, MODERN})


@dataclass(frozen=True, slots=True)
class Row:
    """`answer` is the kind with its code, if there is one; `others` where a state gets another one.

    In a command "#" is the number of the state, so that no state sees what was done in another.
    """

    command: str
    answer: str
    others: dict[str, str] = field(default_factory=dict)


def ok(command: str, code: str = "", **others: str) -> Row:
    return Row(command, f"OK {code}".rstrip(), others)


def no(command: str, code: str, **others: str) -> Row:
    return Row(command, f"NO {code}", others)


def bad(*commands: str) -> tuple[Row, ...]:
    return tuple(Row(command, "BAD") for command in commands)


_TOKEN = base64.b64encode(f"\0alice@example.test\0{PASSWORD}".encode()).decode()
_WRONG = base64.b64encode(b"\0alice@example.test\0wrong").decode()
_OTHER = base64.b64encode(f"bob@example.test\0alice@example.test\0{PASSWORD}".encode()).decode()
_PRIVATE = {PLAIN: "NO PRIVACYREQUIRED"}  # RFC 9051 §6.2.3
_WRITES = {EXAMINED: "NO READ-ONLY"}
_EXPUNGES = {EXAMINED: "NO READ-ONLY", MODERN: "OK HIGHESTMODSEQ"}  # RFC 7162 §3.2.7

# A group of states and the commands that belong to them, in the order in which they are sent.
GROUPS: Final[tuple[tuple[frozenset[str], tuple[Row, ...]], ...]] = (
    (
        ANY,
        (
            ok("CAPABILITY"),
            ok("NOOP"),
            ok("ID NIL"),
            ok('ID ("name" "x" "version" NIL)'),
            ok("ID"),
            *bad("CAPABILITY x", "NOOP x", "ID (", 'ID ("name" "x"', "ID () x", "LOGOUT now", 'ID ("a\rb" NIL)'),
            *bad("", "XYZZY", "UID", "UID NOOP", "NOOP\0", "UID  FETCH 1 UID"),
            ok("LOGOUT"),
        ),
    ),
    (
        BEFORE,
        (
            *bad("STARTTLS x"),
            Row("STARTTLS", "BAD", {PLAIN: "OK"}),
            no(f"AUTHENTICATE PLAIN {_WRONG}", "AUTHENTICATIONFAILED", **_PRIVATE),
            no(f"AUTHENTICATE PLAIN {_OTHER}", "AUTHORIZATIONFAILED", **_PRIVATE),
            no("LOGIN alice@example.test wrong", "AUTHENTICATIONFAILED", **_PRIVATE),
            no("LOGIN nobody@example.test wrong", "AUTHENTICATIONFAILED", **_PRIVATE),
            no("AUTHENTICATE X-OTHER", "CANNOT", **_PRIVATE),
            no("LOGIN {5000+}\r\n" + "x" * 5000, "TOOBIG"),
            *bad("LOGIN", "LOGIN alice", "LOGIN a b c", "LOGIN (a) b", "AUTHENTICATE"),
            Row("AUTHENTICATE PLAIN\r\n*", "BAD", _PRIVATE),
            Row("AUTHENTICATE PLAIN !", "BAD", _PRIVATE),
            Row("AUTHENTICATE PLAIN QQ==", "BAD", _PRIVATE),
            ok(f'LOGIN alice@example.test "{PASSWORD}"', "CAPABILITY", **_PRIVATE),
            ok(f"AUTHENTICATE PLAIN {_TOKEN}", "CAPABILITY", **_PRIVATE),
            ok(f"AUTHENTICATE PLAIN\r\n{_TOKEN}", "CAPABILITY", **_PRIVATE),
        ),
    ),
    (
        AFTER,
        (
            ok("ENABLE CONDSTORE"),
            ok("ENABLE X-UNKNOWN"),
            *bad("ENABLE", "ENABLE (QRESYNC)"),
            ok("NAMESPACE"),
            *bad("NAMESPACE x"),
            ok("CREATE made#", "MAILBOXID"),
            ok("CREATE sent# (USE (\\Sent))", "MAILBOXID"),
            no("CREATE made#", "ALREADYEXISTS"),
            no("CREATE inbox", "ALREADYEXISTS"),
            no('CREATE "Other Users"', "NOPERM"),
            no("CREATE odd# (USE (\\Odd))", "USEATTR"),
            no("CREATE {4+}\r\na\tb#", "CANNOT"),
            *bad("CREATE", "CREATE a b", "CREATE a (USE \\Sent)", "CREATE a (SIZE)"),
            Row("CREATE &&&", "BAD", {MODERN: "OK MAILBOXID"}),  # RFC 9051 §5.1: no UTF-7
            ok("RENAME made# renamed#"),
            no("RENAME made# again#", "NONEXISTENT"),
            no("RENAME renamed# INBOX", "ALREADYEXISTS"),
            *bad("RENAME", "RENAME a", "RENAME a b c"),
            ok("SUBSCRIBE renamed#"),
            ok("UNSUBSCRIBE renamed#"),
            ok("UNSUBSCRIBE never#"),
            *bad("SUBSCRIBE", "SUBSCRIBE a b", "UNSUBSCRIBE", "UNSUBSCRIBE a b"),
            ok("STATUS renamed# (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE DELETED HIGHESTMODSEQ MAILBOXID)"),
            no("STATUS missing (MESSAGES)", "NONEXISTENT"),
            *bad("STATUS", "STATUS a", "STATUS a MESSAGES", "STATUS a ()", "STATUS a (SIZES)", "STATUS a (MESSAGES"),
            ok('LIST "" *'),
            ok('LIST (SUBSCRIBED) "" (a b) RETURN (CHILDREN STATUS (MESSAGES) SPECIAL-USE MYRIGHTS)'),
            ok('LIST "" ""'),
            *bad("LIST", 'LIST ""', 'LIST "" () x', 'LIST (ODD) "" *', 'LIST "" * RETURN (ODD)', 'LIST "" * RETURN ('),
            *bad('LIST (RECURSIVEMATCH) "" *'),
            ok('LSUB "" *'),
            *bad("LSUB", 'LSUB ""', 'LSUB "" (a b)'),
            ok("APPEND renamed# {3+}\r\nabc", "APPENDUID"),
            ok('APPEND renamed# (\\Seen x) " 1-Feb-2026 00:00:00 +0000" {3+}\r\nabc {3+}\r\ndef', "APPENDUID"),
            ok("APPEND renamed# CATENATE (TEXT {3+}\r\nabc)", "APPENDUID"),
            ok("APPEND renamed# UTF8 (~{3+}\r\nabc)", "APPENDUID"),
            no("APPEND missing {3+}\r\nabc", "TRYCREATE"),
            no("APPEND renamed# {0+}\r\n", "CANNOT"),
            no('APPEND renamed# CATENATE (URL "/INBOX/;UID=99")', "BADURL"),
            no("APPEND renamed# {2000+}\r\n" + "x" * 2000, "TOOBIG"),
            *bad("APPEND", "APPEND a", "APPEND a b", 'APPEND a "1-Feb-2026" {1+}\r\nx', "APPEND a (\\Odd) {1+}\r\nx"),
            *bad('APPEND a "31-Feb-2026 00:00:00 +0000" {1+}\r\nx', "APPEND a CATENATE () ", "APPEND a (x) "),
            ok("IDLE\r\nDONE"),
            *bad("IDLE x", "IDLE\r\nNOOP"),
            ok("GETACL renamed#"),
            ok("MYRIGHTS renamed#"),
            ok("SETACL renamed# bob@example.test lr"),
            ok("SETACL renamed# anyone +s"),
            ok("LISTRIGHTS renamed# bob@example.test"),
            ok("DELETEACL renamed# bob@example.test"),
            no("SETACL renamed# -anyone l", "CANNOT"),
            no("SETACL renamed# alice@example.test l", "CANNOT"),
            no("SETACL missing anyone l", "NONEXISTENT"),
            no("GETACL missing", "NONEXISTENT"),
            no("MYRIGHTS missing", "NONEXISTENT"),
            no("DELETEACL missing anyone", "NONEXISTENT"),
            no("LISTRIGHTS missing anyone", "NONEXISTENT"),
            *bad("SETACL", "SETACL a", "SETACL a b", "SETACL a anyone lq", "SETACL a anyone l x", "DELETEACL a"),
            *bad("GETACL", "GETACL a b", "MYRIGHTS", "LISTRIGHTS a", "LISTRIGHTS a b c"),
            ok("SETMETADATA renamed# (/private/comment {1+}\r\nx)"),
            ok('SETMETADATA "" (/private/comment NIL)'),
            no('SETMETADATA "" (/shared/comment NIL)', "NOPERM"),
            ok("GETMETADATA renamed# (/private/comment)"),
            ok("GETMETADATA (MAXSIZE 0 DEPTH infinity) renamed# /private", "METADATA"),
            no("SETMETADATA missing (/private/comment NIL)", "NONEXISTENT"),
            no("SETMETADATA renamed# (/private/comment {2000+}\r\n" + "x" * 2000 + ")", "METADATA"),
            no("GETMETADATA missing /private/comment", "NONEXISTENT"),
            *bad("SETMETADATA", "SETMETADATA a", "SETMETADATA a ()", "SETMETADATA a (/private/comment)"),
            *bad("SETMETADATA a (/other/x NIL)", "SETMETADATA a (/private NIL)", "SETMETADATA a (/private/* NIL)"),
            *bad("GETMETADATA", "GETMETADATA a", "GETMETADATA a x", "GETMETADATA (DEPTH 2) a /private"),
            ok('GETQUOTA ""'),
            ok("GETQUOTAROOT renamed#"),
            no("GETQUOTA other", "NONEXISTENT"),
            ok("GETQUOTAROOT missing"),  # RFC 9208 §4.2: it need not exist
            no('SETQUOTA "" (STORAGE 1)', "NOPERM"),
            *bad("GETQUOTA", "GETQUOTA a b", "GETQUOTAROOT", "SETQUOTA", 'SETQUOTA ""'),
            ok("NOTIFY NONE"),
            ok("NOTIFY SET (personal (MailboxName SubscriptionChange))"),
            no("NOTIFY SET (personal (MessageNew MessageExpunge AnnotationChange))", "BADEVENT"),
            *bad(
                "NOTIFY", "NOTIFY SET", "NOTIFY SET (odd NONE)", "NOTIFY SET (personal (MessageNew))", "NOTIFY NONE x"
            ),
            ok("NOTIFY NONE"),
            ok("ESEARCH IN (mailboxes INBOX) ALL"),
            ok("ESEARCH IN (personal) RETURN (COUNT) UNSEEN"),
            no("ESEARCH IN (personal) CHARSET X-ODD ALL", "BADCHARSET"),
            Row("ESEARCH ALL", "OK", {SIGNED_IN: "BAD"}),
            *bad("ESEARCH", "ESEARCH IN (odd) ALL", "ESEARCH IN () ALL", "ESEARCH IN (personal)"),
            no("DELETE INBOX", "CANNOT"),
            no("DELETE missing", "NONEXISTENT"),
            ok("DELETE renamed#"),
            *bad("DELETE", "DELETE a b"),
            no("SELECT missing", "NONEXISTENT"),
            no("EXAMINE missing", "NONEXISTENT"),
            *bad("SELECT", "SELECT a b", "SELECT a (ODD)", "SELECT a ()", "EXAMINE", "EXAMINE a (CONDSTORE"),
            Row("SELECT box# (QRESYNC (1 1))", "BAD", {MODERN: "OK READ-WRITE"}),  # RFC 7162 §3.2.5
            *bad("SELECT box# (QRESYNC (1 1 *))", "SELECT box# (QRESYNC 1)"),
            ok("SELECT box#", "READ-WRITE"),
            ok("SELECT box# (CONDSTORE)", "READ-WRITE"),
            ok("EXAMINE box#", "READ-ONLY"),
            ok("COMPRESS DEFLATE"),
            no("COMPRESS DEFLATE", "COMPRESSIONACTIVE"),
            *bad("COMPRESS", "COMPRESS GZIP", "COMPRESS DEFLATE x", "UNAUTHENTICATE x"),
            ok("UNAUTHENTICATE"),
        ),
    ),
    (
        WITHIN,
        (
            ok("CHECK"),
            *bad("CHECK x", "CLOSE x", "UNSELECT x", "EXPUNGE 1", "EXPUNGE x"),
            ok("FETCH 1 FLAGS"),
            ok("FETCH 1:* ALL"),
            ok("FETCH 1,2:1 (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)] BINARY.SIZE[1] PREVIEW (LAZY) SAVEDATE)"),
            ok("FETCH 1 BODY[]<0.5>"),
            ok("FETCH 1:2 FLAGS (CHANGEDSINCE 1)"),
            no("FETCH 3 BINARY[1]", "UNKNOWN-CTE"),
            ok("UID FETCH 1:* (UID)"),
            ok("UID FETCH 99 FLAGS"),
            ok("UID FETCH 1:* FLAGS (PARTIAL -1:-2)"),
            *bad("FETCH", "FETCH 1", "FETCH 1 ()", "FETCH 1 ODD", "FETCH 1 (FLAGS", "FETCH 0 FLAGS", "FETCH 9 FLAGS"),
            *bad("FETCH 1 BODY[", "FETCH 1 BODY[0]", "FETCH 1 BODY[MIME]", "FETCH 1 BODY[HEADER.FIELDS ()]"),
            *bad("FETCH 1 BODY[]<0.0>", "FETCH 1 BODY.PEEK", "FETCH 1 (ALL)", "FETCH a FLAGS", "FETCH 1:2: FLAGS"),
            *bad("FETCH 1 FLAGS (CHANGEDSINCE)", "FETCH 1 FLAGS (ODD)", "FETCH 1 FLAGS (PARTIAL 1:2)", "UID FETCH"),
            *bad("UID FETCH 1 FLAGS (VANISHED)", "FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "FETCH 4294967296 UID"),
            Row("UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "BAD", {MODERN: "OK"}),  # RFC 7162 §3.2.6
            ok("STORE 1 +FLAGS (\\Flagged)", **_WRITES),
            ok("STORE 1:2 FLAGS.SILENT \\Seen keyword", **_WRITES),
            ok("STORE 1 (UNCHANGEDSINCE 1) FLAGS ()", "MODIFIED", **_WRITES),
            ok("UID STORE 1 -FLAGS (\\Flagged)", **_WRITES),
            ok("UID STORE 99 FLAGS ()", **_WRITES),
            *bad("STORE", "STORE 1", "STORE 1 FLAGS", "STORE 1 ODD ()", "STORE 1 +-FLAGS ()", "STORE 1 FLAGS (\\Odd)"),
            *bad("STORE 1 (UNCHANGEDSINCE) FLAGS ()", "STORE 1 (ODD 1) FLAGS ()", "STORE 1 FLAGS (", "UID STORE 1"),
            Row("STORE 9 FLAGS ()", "BAD", _WRITES),
            ok("SEARCH ALL"),
            ok("SEARCH RETURN (MIN MAX COUNT SAVE) CHARSET UTF-8 OR SEEN NOT (SUBJECT x 1:2)"),
            ok("UID SEARCH UID 1:* SINCE 1-Feb-2026 LARGER 1"),
            no("SEARCH CHARSET X-ODD ALL", "BADCHARSET"),
            no("SORT (DATE) X-ODD ALL", "BADCHARSET"),
            no("UID THREAD REFERENCES X-ODD ALL", "BADCHARSET"),
            no("SEARCH FILTER missing", "UNDEFINED-FILTER"),
            *bad(
                "SEARCH",
                "SEARCH ODD",
                "SEARCH (ALL",
                "SEARCH NOT",
                "SEARCH OR ALL",
                "SEARCH RETURN ALL",
                "SEARCH SINCE x",
            ),
            *bad("SEARCH RETURN (ODD) ALL", "SEARCH LARGER", "SEARCH LARGER x", "SEARCH 31-Feb-2026", "UID SEARCH"),
            *bad("SEARCH BEFORE 31-Feb-2026", "SEARCH RETURN (RELEVANCY) ALL", "SEARCH RETURN (ALL PARTIAL 1:2) ALL"),
            *bad("SEARCH " + "(" * 60 + "ALL" + ")" * 60, "SEARCH " + "NOT " * 60 + "ALL"),
            ok("SEARCH 9"),
            ok("SORT (REVERSE DATE SUBJECT) UTF-8 ALL"),
            ok("UID SORT RETURN (COUNT) (DISPLAYFROM) US-ASCII ALL"),
            *bad(
                "SORT", "SORT DATE UTF-8 ALL", "SORT () UTF-8 ALL", "SORT (ODD) UTF-8 ALL", "SORT (REVERSE) UTF-8 ALL"
            ),
            *bad("SORT (DATE) UTF-8", "UID SORT (DATE)", "SORT (REVERSE REVERSE DATE) UTF-8 ALL"),
            ok("THREAD REFERENCES UTF-8 ALL"),
            ok("UID THREAD REFS UTF-8 ALL"),
            *bad("THREAD", "THREAD ODD UTF-8 ALL", "THREAD REFERENCES UTF-8", "UID THREAD REFERENCES ALL"),
            ok("SEARCH RETURN (UPDATE) ALL"),
            ok('CANCELUPDATE "a"'),
            *bad("CANCELUPDATE", "CANCELUPDATE a", 'CANCELUPDATE "none"'),
            ok("COPY 1 INBOX", "COPYUID"),
            ok("UID COPY 1:* INBOX", "COPYUID"),
            ok("UID COPY 99 INBOX"),
            no("COPY 1 missing", "TRYCREATE"),
            *bad("COPY", "COPY 1", "COPY 1 a b", "COPY a b", "UID COPY 1", "COPY 9 INBOX"),
            ok("MOVE 1 INBOX", **_EXPUNGES),
            ok("UID MOVE 2 INBOX", **_EXPUNGES),
            ok("UID MOVE 99 INBOX", **_WRITES),
            no("MOVE 1 missing", "TRYCREATE", **_WRITES),
            *bad("MOVE", "MOVE 1", "MOVE 1 a b", "UID MOVE 1"),
            Row("MOVE 9 INBOX", "BAD", _WRITES),
            ok("REPLACE 1 box# {3+}\r\nabc", **_EXPUNGES),
            ok("UID REPLACE 4 box# {3+}\r\nabc", **_EXPUNGES),
            no("REPLACE 1 missing {3+}\r\nabc", "TRYCREATE", **_WRITES),
            *bad(
                "REPLACE",
                "REPLACE 1",
                "REPLACE 1 a",
                "REPLACE 1:2 a {1+}\r\nx",
                "REPLACE 0 a {1+}\r\nx",
                "UID REPLACE 1 a",
            ),
            Row("REPLACE 9 box# {1+}\r\nx", "BAD", _WRITES),
            ok("UID EXPUNGE 99", **_WRITES),
            ok("EXPUNGE", **_EXPUNGES),
            *bad("UID EXPUNGE", "UID EXPUNGE a", "UID EXPUNGE 1 2"),
            ok("UIDBATCHES 500"),
            *bad("UIDBATCHES", "UIDBATCHES 0", "UIDBATCHES x", "UIDBATCHES 500 2:"),
            ok("CLOSE", modern="OK HIGHESTMODSEQ"),
            ok("UNSELECT"),
        ),
    ),
)
ROWS: Final = [(states, row) for states, rows in GROUPS for row in rows]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    limits = Limits(message=1000, annotation=1024)
    with new_mail_town(tmp_path_factory.mktemp("states"), limits) as made:
        odd = b"Content-Transfer-Encoding: x-odd\r\n\r\nx"
        with made.account() as account:
            for number in range(len(STATES)):
                box = account.mailboxes.create(f"box{number}").id
                account.messages.append_many(box, [NewMessage(each) for each in (mail("1"), mail("2"), odd, mail("4"))])
        yield made


class Sessions:
    """Clients in one state; one that left it, or changed what the state is, is let go."""

    def __init__(self, town: MailTown, state: str) -> None:
        self._town = town
        self._state = state
        self._client: CoreClient | None = None
        self.number = STATES.index(state)

    def answer(self, command: str) -> str:
        """The kind of the tagged answer, with its code."""
        client = self._client or self._fresh()
        client.send(b"a " + command.replace("#", str(self.number)).encode() + b"\r\n")
        lines = client.receive(0)
        tagged = [line for line in lines if re.match(r"(?:a|\*) (?:OK|NO|BAD)\b", line)]
        kept = bool(tagged) and not client.closed and self._is_here(client)
        if not kept:
            client.close()
        self._client = client if kept else None
        own = [line for line in tagged if line.startswith("a ")] or tagged  # "*": the tag could not be read
        match = re.match(r"(?:a|\*) (OK|NO|BAD)(?: \[([A-Z-]+))?", own[-1]) if own else None
        return " ".join(filter(None, match.groups())) if match else f"none: {lines}"

    def _fresh(self) -> CoreClient:
        client = CoreClient(self._town.services, secure=self._state != PLAIN)
        if self._state in AFTER:
            client.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\n'.encode())
        if self._state in WITHIN:
            verb = "EXAMINE" if self._state == EXAMINED else "SELECT"
            if self._state == MODERN:
                client.send(b"z ENABLE IMAP4rev2 QRESYNC METADATA\r\n")
            client.send(f"y {verb} box{self.number}\r\n".encode())
        client.receive(0)
        return client

    def _is_here(self, client: CoreClient) -> bool:
        session = client.session
        if self._state in BEFORE:
            return session.state is State.GREETED and session.secure == (self._state != PLAIN)
        if self._state == SIGNED_IN:
            return session.state is State.SIGNED_IN
        selected = session.selected
        return (
            selected is not None
            and selected.name == f"box{self.number}"
            and selected.read_only == (self._state == EXAMINED)
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def test_every_command_has_rows_and_belongs_to_the_states_that_its_rfc_says() -> None:
    parser = grammar.Grammar(Limits())
    names, malformed, states_of = set(), set(), {}
    for states, row in ROWS:
        name = re.match(r"(?:UID )?\S*", row.command)
        assert name
        if row.answer == "BAD" and not row.others:
            malformed.add(name[0])
            continue
        names.add(name[0])
        command = _parsed(parser, row.command)
        if command is not None:
            states_of.setdefault(command, set()).update(states)
    assert names == set(grammar._PARSERS)
    assert not set(grammar._PARSERS) - malformed
    told = {
        kind: {
            *(BEFORE if State.GREETED in rule.states else ()),
            *((SIGNED_IN,) if State.SIGNED_IN in rule.states else ()),
            *(WITHIN if State.SELECTED in rule.states else ()),
        }
        for kind, rule in RULES.items()
    }
    assert states_of == told
    assert not any(State.ENDED in rule.states for rule in RULES.values())


def _parsed(parser: grammar.Grammar, command: str) -> type | None:
    """What the command is, where that can be seen from its first line."""
    decoder = Decoder(Limits())
    decoder.feed(b"a " + command.encode() + b"\r\n")
    event = decoder.next_frame()
    try:
        return type(parser.parse(event)[1]) if isinstance(event, Frame) else None
    except grammar.BadCommand:
        return None


@pytest.mark.parametrize("state", STATES)
def test_every_command(town: MailTown, state: str) -> None:
    sessions = Sessions(town, state)
    differences = []
    for states, row in ROWS:
        expected = row.others.get(state, row.answer) if state in states else "BAD"
        answer = sessions.answer(row.command)
        if answer != expected:
            differences.append(f"{row.command[:80]!r}: {answer}, expected {expected}")
    sessions.close()
    assert not differences, "\n".join(differences)


def test_nothing_is_answered_after_logout(town: MailTown) -> None:
    """RFC 9051 §3.4: the logout state is final, also for what was pipelined behind LOGOUT."""
    client = CoreClient(town.services)
    client.receive(0)
    client.send(f'a LOGIN alice@example.test "{PASSWORD}"\r\nb LOGOUT\r\nc NOOP\r\nd LIST "" *\r\n'.encode())
    assert [line[:6] for line in client.receive(0)] == ["a OK [", "* BYE ", "b OK L"]
    client.send(b"e NOOP\r\n")
    assert client.closed and client.receive(0) == []

"""APPEND and REPLACE: dialogues for MULTIAPPEND, CATENATE, BINARY, UTF8, REPLACE, and what others see of them.

Standards: RFC 9051 §6.3.12, RFC 3502, RFC 3516 §4.4, RFC 4469, RFC 6855 §4, RFC 7888 §5, RFC 8508.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from imap_play import CoreClient, SocketClient, play
from imap_server import running_server
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.decoder import Frame
from hosting.imap.effects import Work
from hosting.imap.limits import Limits
from storage.background import Background
from storage.errors import NotFound
from storage.logs.access import AccessType
from storage.mail.account import Account, Surroundings
from storage.mail.quota import Limits as Quota
from storage.values import KEYWORDS_PER_MAILBOX

NESTED = (
    b"From: a@example.test\r\nSubject: Whole\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nOne\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: Inner\r\nTo: x@example.test\r\n\r\nTwo\r\n--b--\r\n"
)
HEADER = NESTED[: NESTED.index(b"--b")]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("append"), Limits(message=6000)) as made:
        yield made


class Place:
    """An account of its own for each test: two messages in INBOX, its sessions, what is stored."""

    numbers = count(1)

    def __init__(self, town: MailTown) -> None:
        self.town = town
        self.address = f"user{next(self.numbers)}@example.test"
        town.new_account(town.accounts["alice@example.test"][0], self.address)
        self.clients: list[CoreClient] = []
        with town.account(self.address) as account:
            inbox = account.mailboxes.find("INBOX").id
            for data in (mail("First"), NESTED):
                account.messages.append(inbox, data)
            account.mailboxes.take_recent(inbox)

    def client(self, *commands: str, select: str = "INBOX") -> CoreClient:
        made = CoreClient(self.town.services)
        self.clients.append(made)
        lines = [f'x LOGIN {self.address} "{PASSWORD}"', *commands, *([f"y SELECT {select}"] if select else [])]
        made.send("".join(line + "\r\n" for line in lines).encode())
        assert made.receive(0)[-1][1:5] == " OK "
        return made

    def stored(self, name: str = "INBOX", *, uid: int | None = None) -> list[bytes]:
        """The octets of all messages of a mailbox, or of one."""
        with self.town.account(self.address) as account:
            found = account.mailboxes.find(name)
            first, last = (1, found.uidnext) if uid is None else (uid, uid)
            rows = account.messages.fetch_rows(found.id, first, last, ("message_id", "file"))
            return [account.messages.read(*row) for row in rows]

    def files(self) -> int:
        with self.town.account(self.address) as account:
            account.background.settle()
            return sum(len(list(account.maildir.names(folder))) for folder in ("tmp", "new", "cur"))

    def close(self) -> None:
        for each in self.clients:
            each.close()


@pytest.fixture
def place(town: MailTown) -> Iterator[Place]:
    made = Place(town)
    yield made
    made.close()


def send(one: CoreClient, octets: bytes) -> list[str]:
    """What is answered to a command; literals without a go-ahead are written as b"{%d+}"."""
    one.send(octets + b"\r\n")
    return one.receive(0)


def literal(data: bytes, *, binary: bool = False) -> bytes:
    return b"%b{%d+}\r\n%b" % (b"~" if binary else b"", len(data), data)


DIALOGUES: dict[str, str] = {}


def dialogue(name: str, text: str) -> None:
    DIALOGUES[name] = text


dialogue(
    "several messages in one command (RFC 3502 §6.3.11): flags and date of each, UIDs, EXISTS",
    """
    C: a APPEND INBOX (\\Seen $Forwarded) {3}
    S: + OK
    C> abc "17-Jul-1996 02:44:25 -0700" {3+}\\r\\ndef {3}\\r\\n
    S: + OK
    C> ghi\\r\\n
    S: * 5 EXISTS
    S: * 3 RECENT
    S: * FLAGS (… $Forwarded)
    S: * OK [PERMANENTFLAGS …
    S: a OK [APPENDUID … 3:5] Appended.
    C: b FETCH 3:5 (FLAGS INTERNALDATE BODY.PEEK[])
    S: * 3 FETCH (FLAGS (\\Seen $Forwarded \\Recent) INTERNALDATE … BODY[] {3}
    S: abc)
    S: * 4 FETCH (FLAGS (\\Recent) INTERNALDATE "17-Jul-1996 02:44:25 -0700" BODY[] {3}
    S: def)
    S: * 5 FETCH (FLAGS (\\Recent) INTERNALDATE … BODY[] {3}
    S: ghi)
    S: b OK …
    """,
)

dialogue(
    "an empty literal cancels all of them (RFC 3502 §6.3.11)",
    """
    C: a APPEND INBOX {3+}
    C> abc {0+}\\r\\n\\r\\n
    S: a NO [CANNOT] …
    C> b APPEND INBOX {0+}\\r\\n {3+}\\r\\nabc\\r\\n
    S: b NO [CANNOT] …
    C: c STATUS INBOX (MESSAGES UIDNEXT)
    S: * STATUS "INBOX" (MESSAGES 2 UIDNEXT 3)
    S: c OK …
    """,
)

dialogue(
    "a mailbox that is not there: TRYCREATE comes before everything else (RFC 3502 §6.3.11, RFC 4469 §3)",
    """
    C: a APPEND Nowhere {3+}
    C> abc {0+}\\r\\n\\r\\n
    S: a NO [TRYCREATE] …
    C: b APPEND Nowhere CATENATE (URL "/INBOX/;UID=99")
    S: b NO [TRYCREATE] …
    C: c REPLACE 1 Nowhere {0+}
    C> \\r\\n
    S: c NO [TRYCREATE] …
    """,
)

dialogue(
    "what is not the grammar of APPEND (RFC 4466 §2.3, RFC 4469 §5, RFC 6855 §4, RFC 8508 §5)",
    """
    C: a APPEND INBOX
    S: a BAD …
    C: b APPEND INBOX "quoted"
    S: b BAD …
    C: c APPEND INBOX CATENATE ()
    S: c BAD …
    C: d APPEND INBOX CATENATE (URL)
    S: d BAD …
    C: e APPEND INBOX CATENATE (TEXT "quoted")
    S: e BAD …
    C: f APPEND INBOX CATENATE (URL "/INBOX/;UID=1"
    S: f BAD …
    C: g APPEND INBOX UTF8 {1+}
    C> x\\r\\n
    S: g BAD …
    C: h APPEND INBOX ANNOTATION (/comment (value.priv "x")) {1+}
    C> x\\r\\n
    S: h BAD …
    C: i REPLACE 0 INBOX {1+}
    C> x\\r\\n
    S: i BAD …
    C: j REPLACE 1:2 INBOX {1+}
    C> x\\r\\n
    S: j BAD …
    C: k REPLACE 1 INBOX {1+}
    C> x {1+}\\r\\ny\\r\\n
    S: k BAD …
    C: l APPEND INBOX (\\Nonsense) {1+}
    C> x\\r\\n
    S: l BAD …
    C: m STATUS INBOX (MESSAGES)
    S: * STATUS "INBOX" (MESSAGES 2)
    S: m OK …
    """,
)

dialogue(
    "CATENATE (RFC 4469 §3): parts of stored messages between texts, whole and in pieces",
    """
    C: a APPEND INBOX (\\Draft) CATENATE (URL "/INBOX/;UID=2/;SECTION=HEADER" TEXT {7+}
    C> --b\\r\\n\\r\\n URL ;uid=2/;section=1 TEXT {9+}\\r\\n\\r\\n--b--\\r\\n)\\r\\n
    S: * 3 EXISTS
    S: * 1 RECENT
    S: a OK [APPENDUID … 3] Appended.
    C: b FETCH 3 (FLAGS BODY.PEEK[1] BODY.PEEK[HEADER.FIELDS (Subject)])
    S: * 3 FETCH (FLAGS (\\Draft \\Recent) BODY[1] {3}
    S: One BODY[HEADER.FIELDS (Subject)] {18}
    S: Subject: Whole
    S:
    S: )
    S: b OK …
    C: c APPEND INBOX CATENATE (URL "/INBOX/;UID=2/;SECTION=2.HEADER.FIELDS%20(To)" URL INBOX/;UID=1/;PARTIAL=0.4)
    S: * 4 EXISTS
    S: * 2 RECENT
    S: c OK [APPENDUID … 4] Appended.
    C: d FETCH 4 BODY.PEEK[]
    S: * 4 FETCH (BODY[] {26}
    S: To: x@example.test
    S:
    S: From)
    S: d OK …
    C: e UID FETCH 2 (FLAGS)
    S: * 2 FETCH (UID 2 FLAGS ())
    S: e OK …
    """,
)

dialogue(
    "CATENATE with MULTIAPPEND (RFC 4469 §3): each message its own way",
    """
    C: a APPEND INBOX CATENATE (URL "/INBOX/;UID=1/;SECTION=HEADER") (\\Seen) {3+}
    C> abc CATENATE (TEXT {1+}\\r\\nx TEXT {1+}\\r\\ny)\\r\\n
    S: * 5 EXISTS
    S: * 3 RECENT
    S: a OK [APPENDUID … 3:5] Appended.
    C: b FETCH 4:5 (FLAGS BODY.PEEK[])
    S: * 4 FETCH (FLAGS (\\Seen \\Recent) BODY[] {3}
    S: abc)
    S: * 5 FETCH (FLAGS (\\Recent) BODY[] {2}
    S: xy)
    S: b OK …
    C: c APPEND INBOX {3+}
    C> abc CATENATE (TEXT {1+}\\r\\nx URL "/INBOX/;UID=77")\\r\\n
    S: c NO [BADURL /INBOX/;UID=77] …
    C: d STATUS INBOX (MESSAGES)
    S: * STATUS "INBOX" (MESSAGES 5)
    S: d OK …
    """,
)

dialogue(
    "the first URL that is none is told (RFC 4469 §4.1)",
    "\n".join(
        row
        for number, url in enumerate(
            (
                "/INBOX/;UID=3",
                "/INBOX;UIDVALIDITY=12345/;UID=1",
                "/Nowhere/;UID=1",
                "/INBOX/;UID=2/;SECTION=3",
                "/INBOX/;UID=2/;SECTION=1.HEADER",
                "/INBOX/;UID=2/;SECTION=HEADER.FIELDS",
                "/INBOX/;UID=2/;SECTION=MIME",
                "/INBOX/;UID=0",
                "/INBOX/;UID=4294967296",
                "/INBOX/;UID=1/;PARTIAL=0.0",
                "/INBOX",
                "/INBOX/;UID=1;URLAUTH=anonymous",
                "/INBOX/;UID=1?SUBJECT",
                "imap://example.test/INBOX/;UID=1",
                "//example.test/INBOX/;UID=1",
                "/IN%zzBOX/;UID=1",
                "/INB%FFOX/;UID=1",
                "/Other%20Users/alice/INBOX/;UID=1",
            )
        )
        for row in (
            f'C: a{number} APPEND INBOX CATENATE (URL "/INBOX/;UID=1" URL "{url}" URL "/INBOX/;UID=99")',
            f"S: a{number} NO [BADURL {url}] There is no such message or part.",
        )
    )
    + """
    C: z APPEND INBOX CATENATE (URL "x] y")
    S: z NO [BADURL x%5D%20y] …
    """,
)

dialogue(
    "REPLACE (RFC 8508 §3.2, §4.3): APPENDUID first, then the old message goes, whatever its flags",
    """
    C: a REPLACE 1 INBOX (\\Seen \\Draft) {3}
    S: + OK
    C> new\\r\\n
    S: * OK [APPENDUID … 3] …
    S: * 1 EXPUNGE
    S: * 2 EXISTS
    S: * 1 RECENT
    S: a OK Replaced.
    C: b UID REPLACE 3 INBOX CATENATE (TEXT {5+}
    C> more  URL ";UID=3")\\r\\n
    S: * OK [APPENDUID … 4] …
    S: * 2 EXPUNGE
    S: * 2 EXISTS
    S: * 1 RECENT
    S: b OK Replaced.
    C: c FETCH 1:* (UID FLAGS BODY.PEEK[]<0.8>)
    S: * 1 FETCH (UID 2 FLAGS () BODY[]<0> {8}
    S: From: a@)
    S: * 2 FETCH (UID 4 FLAGS (\\Recent) BODY[]<0> {8}
    S: more new)
    S: c OK …
    """,
)

dialogue(
    "REPLACE into another mailbox (RFC 8508 §3.4)",
    """
    C: a UID REPLACE 1 Sent (\\Seen) {4+}
    C> sent\\r\\n
    S: * OK [APPENDUID … 1] …
    S: * 1 EXPUNGE
    S: a OK Replaced.
    C: b STATUS Sent (MESSAGES UNSEEN)
    S: * STATUS "Sent" (MESSAGES 1 UNSEEN 0)
    S: b OK …
    C: c STATUS INBOX (MESSAGES)
    S: * STATUS "INBOX" (MESSAGES 1)
    S: c OK …
    """,
)

dialogue(
    "REPLACE of what is not there, and where nothing may be changed (RFC 8508 §3.2, §3.5)",
    """
    C: a REPLACE 7 INBOX {1+}
    C> x\\r\\n
    S: a BAD …
    C: b UID REPLACE 7 INBOX {1+}
    C> x\\r\\n
    S: b NO [EXPUNGEISSUED] …
    C: c REPLACE 1 INBOX CATENATE (URL "/INBOX/;UID=9")
    S: c NO [BADURL /INBOX/;UID=9] …
    C: d REPLACE 1 INBOX {0+}
    C> \\r\\n
    S: d NO [CANNOT] …
    C: e EXAMINE INBOX
    S: * OK [CLOSED] …
    S: * FLAGS …
    S: * OK [PERMANENTFLAGS …
    S: * 2 EXISTS
    S: * 0 RECENT
    S: * OK [UNSEEN 1] …
    S: * OK [UIDVALIDITY …
    S: * OK [UIDNEXT 3] …
    S: * OK [HIGHESTMODSEQ …
    S: * OK [MAILBOXID …
    S: e OK [READ-ONLY] …
    C: f REPLACE 1 INBOX {1+}
    C> x\\r\\n
    S: f NO [READ-ONLY] …
    C: g UNSELECT
    S: g OK …
    C: h UID REPLACE 1 INBOX {1+}
    C> x\\r\\n
    S: h BAD …
    """,
)

dialogue(
    "8-bit header fields are taken in any mode, as a literal and as UTF8 (RFC 6855 §4, RFC 9755), and stay as they are",
    """
    C: a APPEND INBOX {18+}
    C> Subject: für\\r\\n\\r\\nx\\r\\n
    S: * 3 EXISTS
    S: * 1 RECENT
    S: a OK [APPENDUID … 3] …
    C: b APPEND INBOX UTF8 (~{18+}
    C> Subject: für\\r\\n\\r\\nx) CATENATE (UTF8 (~{11+}\\r\\nSubject: ü) TEXT {5+}\\r\\n\\r\\n\\r\\nx)\\r\\n
    S: * 5 EXISTS
    S: * 3 RECENT
    S: b OK [APPENDUID … 4:5] …
    C: c UID FETCH 3:4 BODY.PEEK[HEADER]
    S: * 3 FETCH (UID 3 BODY[HEADER] {17}
    S: Subject: für
    S:
    S: )
    S: * 4 FETCH (UID 4 BODY[HEADER] {17}
    S: Subject: für
    S:
    S: )
    S: c OK …
    """,
)


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogues(place: Place, name: str) -> None:
    play(place.client(), DIALOGUES[name])


def test_on_a_socket(town: MailTown) -> None:
    """Where octets come in pieces, and large messages in a thread's time."""
    with running_server(town) as server:
        for name in [name for name in DIALOGUES if name.startswith(("several", "CATENATE (", "REPLACE (", "8-bit"))]:
            place = Place(town)
            one = SocketClient(server.tls_address, tls=server.client_context)
            one.send(f'x LOGIN {place.address} "{PASSWORD}"\r\ny SELECT INBOX\r\n'.encode())
            one.until("y")
            play(one, DIALOGUES[name])
            one.send(b"z APPEND INBOX" + b"".join(b" " + literal(b"x" * 6000) for _ in range(2)) + b" {9999+}\r\n")
            for _ in range(9):
                one.send(b"y" * 1111)
            one.send(b"\r\nzz NOOP\r\n")
            assert one.until("z")[-1].startswith("z NO [TOOBIG] ")
            assert one.until("zz")[-1].startswith("zz OK ")
            one.close()


# --- what others see ---


def test_other_sessions_hear_of_several_messages_and_of_a_replacement(place: Place) -> None:
    """RFC 3502, RFC 8508 §4.5, RFC 7162 §3.2.10: in NOOP; VANISHED with the last modseq for who enabled QRESYNC."""
    one, two = place.client(), place.client("z ENABLE QRESYNC IMAP4rev2")
    send(one, b"a APPEND INBOX " + literal(b"a") + b" " + literal(b"b"))
    play(two, "C: a NOOP\nS: * 4 EXISTS\nS: a OK …")
    send(one, b"b UID REPLACE 2 INBOX " + literal(b"c"))
    play(two, "C: b NOOP\nS: * VANISHED 2\nS: * 4 EXISTS\nS: b OK …")
    play(
        two,
        """
        C: c UID REPLACE 3 INBOX (\\Seen) {1+}
        C> d\\r\\n
        S: * OK [APPENDUID … 6] …
        S: * VANISHED 3
        S: * 4 EXISTS
        S: c OK [HIGHESTMODSEQ …] Replaced.
        C: d FETCH 4 (UID FLAGS MODSEQ)
        S: * 4 FETCH (UID 6 FLAGS (\\Seen) MODSEQ (…))
        S: d OK …
        """,
    )
    play(one, "C: c FETCH 2 (UID FLAGS)\nS: c NO [EXPUNGEISSUED] …")
    play(one, "C: d NOOP\nS: * 2 EXPUNGE\nS: * 4 EXISTS\nS: * … RECENT\nS: d OK …")


def test_numbers_of_a_session_that_was_not_told_yet(place: Place) -> None:
    """RFC 8508 §3.2 with RFC 2180 §4.1: the number means the message that the client knows by it, or none."""
    one, two = place.client(), place.client()
    send(two, b"a STORE 1 +FLAGS.SILENT (\\Deleted)")
    send(two, b"b EXPUNGE")
    gone, answer = send(one, b"a REPLACE 1 INBOX " + literal(b"new"))
    assert gone == "* 1 EXPUNGE" and answer.startswith("a NO [EXPUNGEISSUED] ")
    assert send(one, b"b REPLACE 1 INBOX " + literal(b"new"))[-1] == "b OK Replaced."
    assert place.stored() == [b"new"]
    assert place.files() == 1


def test_object_ids_and_save_dates_are_of_the_new_message(place: Place) -> None:
    """RFC 8508 §4.6, §1: nothing is inherited; RFC 8514 §3."""
    one = place.client()
    [before] = send(one, b"a FETCH 1 (EMAILID SAVEDATE)")[:1]
    place.town.clock.advance(3600)
    send(one, b"b STORE 1 +FLAGS (\\Flagged $Label1)")
    send(one, b"c REPLACE 1 INBOX " + literal(mail("First")))
    [after] = send(one, b"d FETCH 2 (EMAILID SAVEDATE)")[:1]
    assert before.partition("EMAILID")[2] != after.partition("EMAILID")[2]
    assert before.partition("SAVEDATE")[2] != after.partition("SAVEDATE")[2]
    assert "FLAGS (\\Recent)" in send(one, b"e FETCH 2 (FLAGS)")[0]


# --- all or nothing ---


def test_a_message_too_many_keeps_none_of_them(place: Place) -> None:
    """RFC 3502 §6.3.11: the mailbox is as it was; RFC 9208 OVERQUOTA. Their files are gone as well."""
    one, before = place.client(), place.files()
    with place.town.account(place.address) as account:
        account.ledger.limits = Quota(messages=3)
    assert send(one, b"a APPEND INBOX " + literal(b"a") + b" " + literal(b"b"))[-1].startswith("a NO [OVERQUOTA] ")
    assert send(one, b"b APPEND INBOX " + literal(b"a"))[-1].startswith("b OK ")
    assert place.stored()[2:] == [b"a"]
    assert place.files() == before + 1


def test_a_replacement_needs_only_what_it_has_more(place: Place) -> None:
    """RFC 8508 §3.4: the quota is looked at as if the old message were gone; what is refused changes nothing."""
    one = place.client()
    size = len(mail("First"))
    with place.town.account(place.address) as account:
        account.ledger.limits = Quota(bytes=size + len(NESTED), messages=2)
    assert send(one, b"a APPEND INBOX " + literal(b"a"))[-1].startswith("a NO [OVERQUOTA] ")
    assert send(one, b"b REPLACE 1 INBOX " + literal(b"x" * (size + 1)))[-1].startswith("b NO [OVERQUOTA] ")
    assert place.stored() == [mail("First"), NESTED]
    assert send(one, b"c REPLACE 1 INBOX " + literal(b"x" * size))[-1] == "c OK Replaced."
    assert place.stored() == [NESTED, b"x" * size]


def test_a_full_contract_takes_replacements_that_are_no_larger(place: Place) -> None:
    one = place.client()
    one.session.principal = replace(one.session.user, full=True)
    assert send(one, b"a APPEND INBOX " + literal(b"a"))[-1].startswith("a NO [OVERQUOTA] ")
    assert send(one, b"b REPLACE 1 INBOX " + literal(mail("Longer than before")))[-1].startswith("b NO [OVERQUOTA] ")
    assert send(one, b"c REPLACE 1 INBOX " + literal(b"short"))[-1] == "c OK Replaced."


def test_in_the_window_before_a_contract_ends_nothing_is_stored(place: Place) -> None:
    one = place.client()
    one.session.principal = replace(one.session.user, read_only_from=1)
    assert send(one, b"a APPEND INBOX " + literal(b"a"))[-1].startswith("a NO [NOPERM] ")
    assert send(one, b"b UID REPLACE 1 INBOX " + literal(b"a"))[-1].startswith("b NO [NOPERM] ")
    assert len(place.stored()) == 2


def test_a_keyword_too_many_keeps_none_of_them(place: Place) -> None:
    """RFC 3502 §6.3.11; RFC 9051 §7.1 (LIMIT): what the second message lacks undoes the first."""
    one = place.client()
    words = " ".join(f"word{n}" for n in range(KEYWORDS_PER_MAILBOX + 1)).encode()
    answer = send(one, b"a APPEND INBOX " + literal(b"a") + b" (%b) " % words + literal(b"b"))[-1]
    assert answer.startswith("a NO [LIMIT] ")
    assert len(place.stored()) == 2


# --- octets ---


def test_binary_parts_become_base64(place: Place) -> None:
    """RFC 3516 §4.4, §6: what is decoded are the octets that came, and no part is told to be binary."""
    octets = bytes(range(256)) + b"\n\r\n\r" * 5
    data = (
        b"Subject: Binary\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
        b"Content-Transfer-Encoding: binary\r\n\r\n--b\r\n\r\nText\nof lines\r\n--b\r\n"
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: BINARY\r\n\r\n"
        + octets
        + b"\r\n--b--\r\n"
    )
    one = place.client(select="Drafts")
    one.send(b"a APPEND Drafts ~{%d}\r\n" % len(data))
    assert one.receive(0) == ["+ OK"]
    assert send(one, data)[-1].startswith("a OK [APPENDUID ")
    one.send(b"b FETCH 1 (BINARY.PEEK[2])\r\n")
    assert b"BINARY[2] ~{%d}\r\n%b)\r\n" % (len(octets), octets) in one.out
    one.receive(0)
    [structure, _] = send(one, b"c FETCH 1 (BODYSTRUCTURE)")
    assert '"base64"' in structure.lower() and "binary" not in structure.lower()
    [stored] = place.stored("Drafts")
    assert b"\0" not in stored and b"Text\r\nof lines\r\n" in stored and b"Content-Transfer-Encoding: 8bit" in stored
    assert max(map(len, stored.split(b"\r\n"))) <= 78


def test_line_ends_are_made_once_and_other_octets_stay(place: Place) -> None:
    one = place.client()
    send(
        one,
        b"a APPEND INBOX " + literal(b"A: b\nC: \xff\n\n\r\n\xfe\n") + b" CATENATE (TEXT {2+}\r\na\r TEXT {2+}\r\n\nb)",
    )
    assert place.stored()[2:] == [b"A: b\r\nC: \xff\r\n\r\n\r\n\xfe\r\n", b"a\r\nb"]


# --- limits ---


def test_each_message_may_be_as_large_as_the_limit_and_no_larger(place: Place) -> None:
    """RFC 7889 §4, RFC 4469 §4.2 (TOOBIG): for a literal, for several, for what CATENATE makes."""
    one = place.client()
    large = b"x" * 6000
    assert send(one, b"a APPEND INBOX " + literal(large) + b" " + literal(large[:-12]))[-1].startswith("a OK ")
    assert send(one, b"b APPEND INBOX {6001}")[-1].startswith("b NO [TOOBIG] ")
    third = send(one, b"c APPEND INBOX " + literal(large) + b" " + literal(large) + b" {1}")
    assert third[-1].startswith("c NO [TOOBIG] "), "two messages' worth of literals is what one command may bring"
    url = b'URL "/INBOX/;UID=3"'
    assert send(one, b"d APPEND INBOX CATENATE (%b)" % url)[-1].startswith("d OK ")
    assert send(one, b"e APPEND INBOX CATENATE (%b TEXT {1+}\r\nx)" % url)[-1].startswith("e NO [TOOBIG] ")
    many = b" ".join([url] * 900)
    assert send(one, b"f APPEND INBOX CATENATE (%b)" % many)[-1].startswith("f NO [TOOBIG] ")
    assert send(one, b"g UID REPLACE 1 INBOX {6001}")[-1].startswith("g NO [TOOBIG] ")
    assert send(one, b"h APPEND INBOX " + literal(b"\n" * 3001))[-1].startswith("h NO [TOOBIG] ")
    assert send(one, b"i NOOP")[-1].startswith("i OK ")


def test_messages_and_parts_of_one_command_are_counted(place: Place) -> None:
    one = place.client()
    assert send(one, b"a APPEND INBOX" + b" {1+}\r\nx" * 1001)[-1].startswith("a NO [LIMIT] ")
    many = b"TEXT {0+}\r\n " * 1001
    assert send(one, b"b APPEND INBOX CATENATE (" + many + b"TEXT {1+}\r\nx)")[-1].startswith("b BAD ")
    halves = b" CATENATE (" + b" ".join([b'URL ";UID=1/;PARTIAL=0.1"'] * 501) + b")"
    assert send(one, b"bb APPEND INBOX" + halves * 2)[-1].startswith("bb NO [LIMIT] ")
    assert send(one, b"c APPEND INBOX CATENATE (TEXT {0+}\r\n TEXT {0+}\r\n)")[-1].startswith("c NO [CANNOT] ")
    assert len(place.stored()) == 2


def test_many_messages_at_once(place: Place) -> None:
    one = place.client(select="Archive")
    answer = send(one, b"a APPEND Archive" + b"".join(b" " + literal(b"Subject: %d\r\n\r\n" % n) for n in range(60)))
    assert answer[0] == "* 60 EXISTS" and answer[-1].endswith(" 1:60] Appended.")
    assert [data[9:-4] for data in place.stored("Archive")] == [b"%d" % n for n in range(60)]


def test_literals_wait_for_a_go_ahead_with_literal_minus(tmp_path: Path) -> None:
    """RFC 7888 §5: more than 4,096 octets by themselves are BAD with TOOBIG, or end the connection."""
    with new_mail_town(tmp_path, Limits(literal_minus=True)) as town:
        one = CoreClient(town.services)
        send(one, f'x LOGIN alice@example.test "{PASSWORD}"'.encode())
        assert send(one, b"a APPEND INBOX " + literal(b"x" * 4096))[-1].startswith("a OK ")
        assert send(one, b"b APPEND INBOX " + literal(b"x" * 4097))[-1].startswith("b BAD [TOOBIG] ")
        one.send(b"c APPEND INBOX {4097}\r\n")
        assert one.receive(0) == ["+ OK"]
        assert send(one, b"x" * 4097)[-1].startswith("c OK ")
        assert send(one, b"d APPEND INBOX {5000000+}")[-1].startswith("* BYE [TOOBIG] ")
        one.close()


def test_with_uidonly_there_are_no_numbers(tmp_path: Path) -> None:
    """RFC 9586 §3: REPLACE by number is refused, UID REPLACE tells VANISHED."""
    with new_mail_town(tmp_path, Limits(uid_only=True)) as town:
        one = CoreClient(town.services)
        send(one, f'x LOGIN alice@example.test "{PASSWORD}"\r\ny ENABLE UIDONLY\r\nz SELECT INBOX'.encode())
        play(
            one,
            """
            C> a APPEND INBOX {3+}\\r\\nabc {3+}\\r\\ndef\\r\\n
            S: * 2 EXISTS
            S: * 2 RECENT
            S: a OK [APPENDUID … 1:2] Appended.
            C> b REPLACE 1 INBOX {1+}\\r\\nx\\r\\n
            S: b BAD [UIDREQUIRED] …
            C> c UID REPLACE 1 INBOX CATENATE (URL ";UID=2")\\r\\n
            S: * OK [APPENDUID … 3] …
            S: * VANISHED 1
            S: * 2 EXISTS
            S: * 2 RECENT
            S: c OK Replaced.
            C: d UID FETCH 3 (SAVEDATE PREVIEW)
            S: * 3 UIDFETCH (SAVEDATE "… +0000" PREVIEW "")
            S: d OK …
            """,
        )
        one.close()


# --- by chance ---


class Picture:
    """What a client believes the mailbox to hold, by EXISTS, EXPUNGE and VANISHED alone."""

    def __init__(self, one: CoreClient) -> None:
        self.one = one
        self.uids = [1, 2]

    def do(self, command: bytes) -> str:
        *told, answer = send(self.one, b"t " + command)
        for line in told:
            _, first, *rest = line.split()
            if rest == ["EXPUNGE"]:
                del self.uids[int(first) - 1]
            elif rest == ["EXISTS"]:
                assert int(first) >= len(self.uids)
                self.uids += [0] * (int(first) - len(self.uids))
            elif first == "VANISHED":
                spans = [[int(end) for end in span.split(":")] for span in rest[0].split(",")]
                gone = {uid for span in spans for uid in range(span[0], span[-1] + 1)}
                self.uids = [uid for uid in self.uids if uid not in gone]
        for number in [number for number, uid in enumerate(self.uids, 1) if not uid]:  # before it may go again
            self.uids[number - 1] = int(send(self.one, b"l FETCH %d (UID)" % number)[0].split()[-1].rstrip(")"))
        return answer


@pytest.mark.parametrize("seed", range(2))
def test_sessions_agree_whatever_is_appended_and_replaced(place: Place, seed: int) -> None:
    """RFC 3502, RFC 4469, RFC 8508, RFC 9051 §7.5.1: two sessions, one with QRESYNC, and what there must be."""
    rng = random.Random(seed)
    sessions = [Picture(place.client()), Picture(place.client("z ENABLE QRESYNC"))]
    there, uidnext = {1: mail("First"), 2: NESTED}, 3
    for step in range(60):
        one = rng.choice(sessions)
        data = [b"Subject: %d.%d\r\n\r\n" % (step, n) for n in range(rng.randrange(1, 4))]
        match rng.choice(["append", "catenate", "replace", "replace", "expunge", "look"]):
            case "append":
                assert " OK " in one.do(b"APPEND INBOX " + b" ".join(map(literal, data)))
                there.update(enumerate(data, uidnext))
                uidnext += len(data)
            case "catenate" if there:
                uid = rng.choice(list(there))
                url = b'(TEXT {3+}\r\nA:  URL "/INBOX/;UID=%d/;PARTIAL=3.9")' % uid
                assert " OK " in one.do(b"APPEND INBOX CATENATE " + url + b" " + literal(data[0]))
                there |= {uidnext: b"A: " + there[uid][3:12], uidnext + 1: data[0]}
                uidnext += 2
            case "replace" if one.uids:
                number = rng.randrange(len(one.uids))
                uid = one.uids[number]
                by_uid = rng.random() < 0.5
                name = b"UID REPLACE %d" % uid if by_uid else b"REPLACE %d" % (number + 1)
                answer = one.do(name + b" INBOX " + literal(data[0]))
                assert answer.startswith("t OK " if uid in there else "t NO [EXPUNGEISSUED] "), answer
                if uid in there:
                    del there[uid]
                    there[uidnext] = data[0]
                    uidnext += 1
            case "expunge" if there:
                uid = rng.choice(list(there))
                one.do(b"NOOP")
                one.do(b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % uid)
                one.do(b"UID EXPUNGE %d" % uid)
                del there[uid]
            case _:
                one.do(b"NOOP")
                assert one.uids == list(there)
    for one in sessions:
        one.do(b"NOOP")
        assert one.uids == list(there)
    assert place.stored() == list(there.values())
    assert place.files() == len(there)


# --- shared mailboxes ---


@pytest.fixture
def shared(place: Place) -> Iterator[tuple[Place, Place]]:
    """A second account, and the first one's folder Team with no right for it yet."""
    guest = Place(place.town)
    send(place.client(), b"a CREATE Team")
    yield place, guest
    guest.close()


def grant(owner: Place, guest: Place, rights: str) -> None:
    assert send(owner.client(), f"a SETACL Team {guest.address} {rights}".encode())[-1].startswith("a OK ")


def test_who_may_only_insert(shared: tuple[Place, Place]) -> None:
    """RFC 4314 §4, RFC 9051 §6.3.12: no UIDs are told, flags without a right are passed over; the owner pays."""
    owner, guest = shared
    team = f'"Other Users/{owner.address}/Team"'.encode()
    one = guest.client()
    assert send(one, b"a APPEND %b " % team + literal(b"x"))[-1].startswith("a NO [TRYCREATE] ")
    grant(owner, guest, "i")
    assert send(one, b"b APPEND %b (\\Seen \\Flagged word) " % team + literal(b"x"))[-1] == "b OK Appended."
    grant(owner, guest, "lrsi")
    assert " 2:3] " in send(one, b"c APPEND %b (\\Seen \\Deleted) " % team + literal(b"y") + b" " + literal(b"z"))[-1]
    with owner.town.account(owner.address) as account:
        found = account.mailboxes.find("Team")
        assert [row[0] for row in account.messages.fetch_rows(found.id, 1, 3, ("flags",))] == [0, 1, 0]
        assert account.usage().messages == 5
    assert owner.stored("Team") == [b"x", b"y", b"z"]
    two = guest.client(select=team.decode())
    assert send(two, b"d APPEND %b " % team + literal(b"w"))[0] == "* 4 EXISTS"
    assert send(two, b"e REPLACE 4 %b " % team + literal(b"v"))[-1].startswith("e NO [NOPERM] ")
    assert send(two, b'f APPEND %b CATENATE (URL ";UID=4" URL "/INBOX/;UID=1/;PARTIAL=0.5")' % team)[0] == "* 5 EXISTS"
    assert owner.stored("Team")[3:] == [b"w", b"wFrom:"]


def test_catenating_from_a_shared_mailbox_needs_the_right_to_read(shared: tuple[Place, Place]) -> None:
    """RFC 4469 §3, RFC 4314 §4: a URL tells no more than FETCH would."""
    owner, guest = shared
    send(owner.client(), b"a APPEND Team " + literal(b"secret"))
    path = f"/Other%20Users/{owner.address}/Team/;UID=1"
    one = guest.client()
    command = f'a APPEND INBOX CATENATE (URL "{path}")'.encode()
    assert send(one, command)[-1].startswith(f"a NO [BADURL {path}] ")
    grant(owner, guest, "li")
    assert send(one, command)[-1].startswith(f"a NO [BADURL {path}] ")
    grant(owner, guest, "r")
    log, now = owner.town.installation.access_log, owner.town.clock.now()
    tenant_id, account_id = owner.town.accounts[owner.address]

    def openings() -> int:
        read = log.read(now - 60, now + 60, tenant=tenant_id, account=account_id)
        return sum(event.type == AccessType.MAILBOX_OPEN for event in read)

    before = openings()
    assert send(one, command)[-1].startswith("a OK [APPENDUID ")
    assert guest.stored()[-1] == b"secret"
    assert openings() == before + 1, "the owner sees that somebody read there"


def test_replacing_between_two_accounts(shared: tuple[Place, Place]) -> None:
    """RFC 8508 §4.1: rights t and e where the old message is, i where the new one goes; the new one comes first."""
    owner, guest = shared
    owner.town.provisioning.set_quota(*owner.town.accounts[owner.address], quota_bytes=0, quota_messages=3)
    send(owner.client(), b"a APPEND Team " + literal(b"old"))
    grant(owner, guest, "lrswi")
    one = guest.client(select=f'"Other Users/{owner.address}/Team"')
    assert send(one, b"a REPLACE 1 INBOX " + literal(b"new"))[-1].startswith("a NO [NOPERM] ")
    grant(owner, guest, "lrswite")
    answer = send(one, b"b REPLACE 1 INBOX " + literal(b"new"))
    assert answer[-3].startswith("* OK [APPENDUID ") and answer[-2:] == ["* 1 EXPUNGE", "b OK Replaced."]
    assert owner.stored("Team") == [] and guest.stored()[-1] == b"new"
    two = guest.client()
    team = f'"Other Users/{owner.address}/Team"'.encode()
    assert send(two, b"c REPLACE 1 %b " % team + literal(b"x"))[-1] == "c OK Replaced."
    assert send(two, b"d REPLACE 1 %b " % team + literal(b"y"))[-1].startswith("d NO [OVERQUOTA] ")
    assert owner.stored("Team") == [b"x"] and len(guest.stored()) == 2


def test_binary_takes_the_sections_that_body_takes(place: Place) -> None:
    """As other servers have it, beyond RFC 3516 §4.2: headers and what follows them, as they are."""
    one = place.client()
    text = b"From: a@example.test\r\nSubject: S\r\nContent-Type: message/rfc822\r\n\r\nSubject: In\r\n\r\nText\r\n"
    one.send(b"a APPEND INBOX {%d+}\r\n%b\r\nb SELECT INBOX\r\n" % (len(text), text))
    one.receive(0)
    one.send(b"c FETCH * (BINARY.SIZE[TEXT] BINARY.PEEK[1.HEADER] BINARY.PEEK[HEADER.FIELDS (Subject)]<0.9>)\r\n")
    assert "\r\n".join(one.receive(0)).endswith(
        "BINARY.SIZE[TEXT] 21 BINARY[1.HEADER] {15}\r\nSubject: In\r\n\r\n"
        " BINARY[HEADER.FIELDS (Subject)]<0> {9}\r\nSubject: )\r\nc OK Fetched."
    )


def test_a_mailbox_that_another_process_renamed_takes_nothing_under_its_old_name(place: Place) -> None:
    """RFC 9051 §6.3.12: where a mailbox was found before says nothing of where it is now."""
    one = place.client("b CREATE A")
    with place.town.account(place.address) as own:
        surroundings = Surroundings(place.town.clock, "elsewhere", Background())
        other = Account.open(own.root, own.tenant_id, own.account_id, own.key, surroundings)
    assert send(one, b"c APPEND A " + literal(b"x"))[-1].startswith("c OK [APPENDUID ")
    other.mailboxes.rename("A", "B")
    assert send(one, b"d APPEND A " + literal(b"y"))[-1].startswith("d NO [TRYCREATE] ")
    assert send(one, b"e APPEND A CATENATE (URL nowhere)")[-1].startswith("e NO [TRYCREATE] ")
    other.mailboxes.create("A")
    assert send(one, b"f APPEND A " + literal(b"z"))[-1].startswith("f OK [APPENDUID ")
    assert send(one, b"g APPEND A CATENATE (URL nowhere)")[-1].startswith("g NO [BADURL nowhere] ")
    assert other.mailboxes.find("A").messages == other.mailboxes.find("B").messages == 1
    other.mailboxes.delete("A")
    assert send(one, b"h APPEND A " + literal(b"y"))[-1].startswith("h NO [TRYCREATE] ")
    other.background.settle()
    assert place.files() == 3, "what was not stored left no file"
    other.close()


def test_a_mailbox_that_is_renamed_and_back_while_it_is_written_to_takes_the_message(place: Place) -> None:
    one = place.client("b CREATE A")
    assert send(one, b"c APPEND A " + literal(b"x"))[-1].startswith("c OK [APPENDUID ")
    one.decoder.feed(b"d APPEND A " + literal(b"y") + b"\r\n")
    frame = one.decoder.next_frame()
    assert isinstance(frame, Frame)
    flow = one.session.respond(frame)
    work = next(flow)
    assert isinstance(work, Work)
    with place.town.account(place.address) as account:
        account.mailboxes.rename("A", "B")
        with pytest.raises(NotFound) as refused:
            work.run()
        account.mailboxes.rename("B", "A")
    again = flow.throw(refused.value)
    assert isinstance(again, Work)
    answer = flow.send(again.run())
    assert isinstance(answer, bytes) and answer.startswith(b"d OK [APPENDUID ")


def test_one_that_cannot_be_read_for_now(place: Place) -> None:
    """Who asks for others has them; of a SEARCH only what it would have to be read for fails."""
    client = place.client()
    data = b"Date: Sun, 15 Nov 2026 23:46:34 +0000\r\nSubject: Third\r\n\r\n"
    client.send(b"p APPEND INBOX {%d+}\r\n%b\r\n" % (len(data), data))
    assert client.receive(0)[-1].startswith("p OK")
    with place.town.account(place.address) as account:
        [name] = account.maildir.names("new")
        file, aside = account.maildir.path / "new" / name, account.maildir.path / "aside"
    file.rename(aside)
    file.mkdir()  # which cannot be read
    commands = ("FETCH 3 ENVELOPE", "FETCH 1:3 ENVELOPE", "SEARCH SENTON 15-Nov-2026", "SEARCH TEXT third")
    for command in commands:
        client.send(f"a {command}\r\n".encode())
        assert client.receive(0)[-1].startswith("a NO [UNAVAILABLE]")
    for command in (
        "FETCH 1:2 ENVELOPE",
        "FETCH 1:3 (UID FLAGS RFC822.SIZE)",
        "SEARCH SINCE 1-Jan-2020",
        "COPY 3 Trash",
    ):
        client.send(f"b {command}\r\n".encode())
        assert client.receive(0)[-1].startswith("b OK")
    file.rmdir()
    aside.rename(file)
    for command in commands:
        client.send(f"c {command}\r\n".encode())
        *_, told, answer = client.receive(0)
        assert "3" in told
        assert answer.startswith("c OK")

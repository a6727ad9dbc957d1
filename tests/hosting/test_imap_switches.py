"""What is offered only where the operator turned it on: LITERAL-, UIDONLY, UTF8=ACCEPT."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.limits import Limits
from storage.mail.messages import NewMessage

LARGE = mail("Large", body="x" * 1_200_000 + "\r\n")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path, Limits(uid_only=True, utf8_accept=True)) as made:
        with made.account() as account:
            inbox = account.mailboxes.find("INBOX").id
            account.messages.append_many(inbox, [NewMessage(mail(f"Message {n}")) for n in range(1, 6)])
            account.mailboxes.create("B\xfcro")
        yield made


def client(town: MailTown, *commands: str) -> CoreClient:
    one = CoreClient(town.services)
    one.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\n'.encode())
    for command in commands:
        one.send(f"y {command}\r\n".encode())
        assert "y OK" in one.receive(0)[-1]
    one.receive(0)
    return one


def test_literal_minus(tmp_path: Path) -> None:
    """RFC 7888 §5: LITERAL- is told in the place of LITERAL+."""
    with new_mail_town(tmp_path, Limits(literal_minus=True)) as town:
        one = CoreClient(town.services)
        told = one.receive(0)[0].split()
        assert "LITERAL-" in told and "LITERAL+" not in told
        one.send(f"a LOGIN {{18+}}\r\nalice@example.test {{{len(PASSWORD)}+}}\r\n{PASSWORD}\r\n".encode())
        assert one.receive(0)[-1].startswith("a OK ")


def test_off_by_default(tmp_path: Path) -> None:
    with new_mail_town(tmp_path) as town:
        play(client(town), "C: a ENABLE UIDONLY UTF8=ACCEPT LITERAL-\nS: * ENABLED\nS: a OK …")


# --- UIDONLY ---

UID_ONLY = {
    "responses (RFC 9586 §3.3)": r"""
    C: a UID FETCH 2:3 FLAGS
    S: * 2 UIDFETCH (FLAGS (\Recent))
    S: * 3 UIDFETCH (FLAGS (\Recent))
    S: a OK …
    C: b UID FETCH 2 (UID RFC822.SIZE)
    S: * 2 UIDFETCH (UID 2 RFC822.SIZE …)
    S: b OK …
    C: c UID STORE 2 +FLAGS (\Flagged)
    S: * 2 UIDFETCH (FLAGS (\Flagged \Recent))
    S: c OK …
    C: d UID STORE 3 +FLAGS.SILENT (\Seen)
    S: d OK …
    C: e UID FETCH 3 (BODY[HEADER.FIELDS (SUBJECT)])
    S: * 3 UIDFETCH (BODY[HEADER.FIELDS (SUBJECT)] {22}
    S: Subject: Message 3
    S:
    S: )
    S: e OK …
    C: f UID FETCH 2 MODSEQ
    S: * OK [HIGHESTMODSEQ …
    S: * 2 UIDFETCH (MODSEQ (…))
    S: f OK …
    C: g UID STORE 2 -FLAGS.SILENT (\Flagged)
    S: * 2 UIDFETCH (MODSEQ (…))
    S: g OK …
    C: h UID FETCH 1:5 (FLAGS) (CHANGEDSINCE 4)
    S: * 2 UIDFETCH (FLAGS (\Recent) MODSEQ (…))
    S: h OK …
    """,
    "numbers are refused (RFC 9586 §3, §3.2)": r"""
    C: a FETCH 1 FLAGS
    S: a BAD [UIDREQUIRED] …
    C: b STORE 1 +FLAGS (\Seen)
    S: b BAD [UIDREQUIRED] …
    C: c SEARCH ALL
    S: c BAD [UIDREQUIRED] …
    C: d COPY 1 Archive
    S: d BAD [UIDREQUIRED] …
    C: e MOVE 1 Archive
    S: e BAD [UIDREQUIRED] …
    C: f SORT (DATE) UTF-8 ALL
    S: f BAD [UIDREQUIRED] …
    C: g THREAD REFERENCES UTF-8 ALL
    S: g BAD [UIDREQUIRED] …
    C: h UID SEARCH OR NOT (SEEN 1:2) ALL
    S: h BAD [UIDREQUIRED] …
    C: i UID SEARCH RETURN (SAVE COUNT) UID 2:3
    S: * ESEARCH (TAG "i") UID COUNT 2
    S: i OK …
    C: j UID FETCH $ UID
    S: * 2 UIDFETCH (UID 2)
    S: * 3 UIDFETCH (UID 3)
    S: j OK …
    C: k UID SEARCH $
    S: * SEARCH 2 3
    S: k OK …
    C: l REPLACE 1 Drafts {3+}
    C> abc\r\n
    S: l BAD [UIDREQUIRED] …
    C: m ENABLE QRESYNC
    S: * ENABLED QRESYNC
    S: m OK …
    C: n SELECT INBOX (QRESYNC (1 1 1:3 (1 1)))
    S: n BAD [UIDREQUIRED] …
    """,
    "expunges (RFC 9586 §3.4)": r"""
    C: a UID STORE 1,4 +FLAGS.SILENT (\Deleted)
    S: a OK …
    C: b UID EXPUNGE 4
    S: * VANISHED 4
    S: b OK …
    C: c EXPUNGE
    S: * VANISHED 1
    S: c OK …
    C: d UID MOVE 2 Archive
    S: * OK [COPYUID …] …
    S: * VANISHED 2
    S: d OK …
    C: e NOOP
    S: e OK …
    """,
}


@pytest.mark.parametrize("name", UID_ONLY)
def test_uid_only(town: MailTown, name: str) -> None:
    """Whether it is enabled before the mailbox is selected or after."""
    play(client(town, "ENABLE UIDONLY", "SELECT INBOX"), UID_ONLY[name])


def test_uid_only_after_select(town: MailTown) -> None:
    one = client(town, "SELECT INBOX")
    play(
        one,
        r"""
        C: a FETCH 5 UID
        S: * 5 FETCH (UID 5)
        S: a OK …
        C: b ENABLE UIDONLY
        S: * ENABLED UIDONLY
        S: b OK …
        C: c FETCH 5 UID
        S: c BAD [UIDREQUIRED] …
        C: d UID FETCH * UID
        S: * 5 UIDFETCH (UID 5)
        S: d OK …
        """,
    )


def test_uid_only_hears_of_others(town: MailTown) -> None:
    """RFC 9586 §3.6, §3.7: in news, in IDLE, and when resynchronising; no [UNSEEN n] at SELECT."""
    one, other = client(town, "ENABLE UIDONLY", "SELECT INBOX"), client(town, "SELECT INBOX")
    other.send(b"a STORE 1 +FLAGS.SILENT (\\Deleted)\r\nb STORE 3 +FLAGS.SILENT (\\Seen)\r\nc EXPUNGE\r\n")
    play(
        one,
        r"""
        C: a NOOP
        S: * VANISHED 1
        S: * 3 UIDFETCH (FLAGS (\Seen \Recent))
        S: a OK …
        C: b IDLE
        S: + idling
        """,
    )
    other.send(b"d STORE 1 +FLAGS (\\Flagged)\r\n")
    one.look()
    assert one.receive(0) == ["* 2 UIDFETCH (FLAGS (\\Flagged \\Recent))"]
    one.send(b"DONE\r\nc ENABLE QRESYNC\r\n")
    one.receive(0)
    one.send(b"d SELECT INBOX (QRESYNC (%d 1))\r\n" % one.session.mailbox.view.uidvalidity)
    lines = one.receive(0)
    assert "* VANISHED (EARLIER) 1" in lines and not any("UNSEEN" in line for line in lines)
    assert any(line.startswith("* 3 UIDFETCH (FLAGS (\\Seen) MODSEQ (") for line in lines)


class UidPicture:
    """What a client with UIDONLY concludes from what it is told: flags by UID, and how many messages there are."""

    def __init__(self, town: MailTown) -> None:
        self.client = client(town, "ENABLE UIDONLY")
        self.exists = 0
        self.flags: dict[int, set[str]] = {}
        self.ask("SELECT INBOX")

    def ask(self, command: str) -> None:
        self.client.send(f"a {command}\r\n".encode())
        for line in self.client.receive(0):
            words = line.replace("(", " ").replace(")", " ").split()
            assert words[2] not in ("FETCH", "EXPUNGE"), line
            if words[2] == "UIDFETCH":
                self.flags[int(words[1])] = set(words[4:]) - {"\\Recent"}
            elif words[2] == "EXISTS":
                self.exists = int(words[1])
            elif words[1] == "VANISHED":
                ranges = [[int(uid) for uid in each.split(":")] for each in words[2].split(",")]
                gone = [uid for each in ranges for uid in range(each[0], each[-1] + 1)]
                self.exists -= len(gone)
                for uid in gone:
                    self.flags.pop(uid, None)


@pytest.mark.parametrize("seed", range(3))
def test_uid_only_picture_is_exact(town: MailTown, seed: int) -> None:
    """RFC 9586 §3: without a number a client knows what is there, whatever others do with it."""
    rng = random.Random(seed)
    picture, other = UidPicture(town), client(town, "SELECT INBOX")
    mine = ("NOOP", "UID STORE %d +FLAGS (\\Seen)", "UID STORE %d FLAGS (x%d)", "UID EXPUNGE %d", "UID COPY %d INBOX")
    theirs = ("STORE 1 +FLAGS.SILENT (\\Deleted)", "EXPUNGE", "NOOP", "STORE * -FLAGS (\\Seen)", "COPY 1:2 INBOX")
    for _ in range(120):
        if rng.random() < 0.5:
            command = rng.choice(mine)
            uid = rng.choice([*picture.flags, 1])
            picture.ask(command % ((uid, uid % 3) if command.count("%") > 1 else (uid,) if "%" in command else ()))
        else:
            other.send(f"b {rng.choice(theirs)}\r\n".encode())
        if picture.exists != len(picture.flags) and rng.random() < 0.5:
            picture.ask("UID FETCH 1:* FLAGS")
    picture.ask("NOOP")
    picture.ask("UID FETCH 1:* FLAGS")
    now = UidPicture(town)
    now.ask("UID FETCH 1:* FLAGS")
    assert picture.flags == now.flags
    assert picture.exists == now.exists == len(now.flags)


def test_uid_only_streams(town: MailTown) -> None:
    with town.account() as account:
        account.messages.append(account.mailboxes.find("INBOX").id, LARGE)
    one = client(town, "ENABLE UIDONLY", "EXAMINE INBOX")
    one.send(b"a UID FETCH 6 BODY.PEEK[]\r\n")
    assert one.receive(0)[0] == f"* 6 UIDFETCH (BODY[] {{{len(LARGE)}}}"


# --- UTF8=ACCEPT ---


def test_utf8_accept(town: MailTown) -> None:
    """RFC 9755 §3: names in UTF-8 in both directions; it is not IMAP4rev2."""
    play(
        client(town, "ENABLE UTF8=ACCEPT"),
        r"""
        C: a LIST "" B%
        S: * LIST (\HasNoChildren) "/" "Büro"
        S: a OK …
        C: b STATUS "Büro" (MESSAGES)
        S: * STATUS "Büro" (MESSAGES 0)
        S: b OK …
        C: c CREATE "&AOQ-"
        S: c OK …
        C: d LIST "" "&AOQ-"
        S: * LIST (\HasNoChildren) "/" "&AOQ-"
        S: d OK …
        C: e RENAME "&AOQ-" "Grüße"
        S: e OK …
        C: f SELECT "Grüße"
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS …
        S: * 0 EXISTS
        S: * 0 RECENT
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID …
        S: f OK …
        C: g GETQUOTAROOT "Grüße"
        S: * QUOTAROOT "Grüße" ""
        S: * QUOTA "" …
        S: g OK …
        C: h GETMETADATA "Grüße" /private/comment
        S: * METADATA "Grüße" ("/private/comment" NIL)
        S: h OK …
        """,
    )
    play(
        client(town),
        r"""
        C: a LIST "" (B% Gr%)
        S: * LIST (\HasNoChildren) "/" "B&APw-ro"
        S: * LIST (\HasNoChildren) "/" "Gr&APwA3w-e"
        S: a OK …
        """,
    )

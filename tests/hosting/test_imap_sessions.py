r"""What a session is told, and what it gets, of messages that another session took away: every command, one by one.

The mailbox had five messages, of which the other expunged the second and the fourth; this session does not know yet.

Standards: RFC 9051 §6.4.9, §7.5.1; RFC 2180 §4; RFC 7162 §3.1.3, §3.2.10 (VANISHED stands where EXPUNGE would).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from imap_play import CoreClient, interrupted, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from storage.database.lockfile import LockFile, lock_path
from storage.installation import Installation
from storage.mail import views
from storage.mail.messages import NewMessage
from storage.mail.view import MailboxView
from storage.values import FLAGGED, SEEN, UidSet


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("sessions")) as made:
        yield made


class Pair:
    """Two sessions in a new mailbox of five messages, where the first has looked and the second has not."""

    _made = 0

    def __init__(self, town: MailTown, enable: str = "", *, gone: str = "2,4") -> None:
        Pair._made += 1
        self.box = f"box{Pair._made}"
        with town.account() as account:
            box = account.mailboxes.create(self.box).id
            account.messages.append_many(box, [NewMessage(mail(str(number))) for number in range(1, 6)])
        self.other, self.one = self._client(town, ""), self._client(town, enable)
        self.said(self.other, f"UID STORE {gone} +FLAGS.SILENT (\\Deleted)")
        self.said(self.one, "NOOP")
        self.said(self.other, "EXPUNGE")

    def _client(self, town: MailTown, enable: str) -> CoreClient:
        client = CoreClient(town.services)
        client.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\n'.encode())
        if enable:
            client.send(f"y ENABLE {enable}\r\n".encode())
        client.send(f"z SELECT {self.box}\r\n".encode())
        assert client.receive(0)[-1].startswith("z OK ")
        return client

    def said(self, client: CoreClient, command: str) -> list[str]:
        client.send(b"a " + command.replace("BOX", self.box).encode() + b"\r\n")
        return client.receive(0)

    def close(self) -> None:
        self.one.close()
        self.other.close()


@dataclass(frozen=True, slots=True)
class Row:
    """`told`: the answer tells of the expunges. `data`: how its other responses begin, if they matter."""

    command: str
    answer: str
    told: bool
    data: tuple[str, ...] | None = None


def by_number(command: str, answer: str, *data: str) -> Row:
    """Numbers have to hold until another command: nothing may be told."""
    return Row(command, answer, False, data)


def otherwise(command: str, answer: str, *data: str) -> Row:
    return Row(command, answer, True, data or None)


ROWS = [
    # RFC 9051 §7.5.1: never in the answer to FETCH, STORE and SEARCH by number; SORT and THREAD are searches
    by_number("FETCH 1:5 (RFC822.SIZE)", "NO [EXPUNGEISSUED]", "* 1 FETCH (", "* 3 FETCH (", "* 5 FETCH ("),
    by_number("FETCH 2 BODY.PEEK[]", "NO [EXPUNGEISSUED]"),
    by_number("FETCH 3 (UID)", "OK", "* 3 FETCH (UID 3)"),
    by_number("FETCH 2:3 (UID)", "OK", "* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)"),
    by_number("STORE 1:5 +FLAGS (\\Seen)", "NO [EXPUNGEISSUED]", "* 1 FETCH (", "* 3 FETCH (", "* 5 FETCH ("),
    by_number("STORE 2,4 +FLAGS (\\Seen)", "NO [EXPUNGEISSUED]"),  # RFC 2180 §4.2.2
    by_number("STORE 2,4 +FLAGS.SILENT (\\Seen)", "NO [EXPUNGEISSUED]"),
    Row("STORE 1:5 +FLAGS.SILENT (\\Seen)", "OK", False),  # RFC 2180 §4.2.1
    Row("STORE 1:5 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)", "OK [MODIFIED 1,3,5]", False),
    by_number("SEARCH ALL", "OK", "* SEARCH 1 3 5"),  # RFC 2180 §4.3
    by_number("SEARCH 2:4", "OK", "* SEARCH 3"),
    by_number("SEARCH RETURN (COUNT MAX) ALL", "OK", '* ESEARCH (TAG "a") MAX 5 COUNT 3'),
    by_number("SORT (REVERSE SUBJECT) UTF-8 ALL", "OK", "* SORT 5 3 1"),
    by_number("THREAD REFERENCES UTF-8 ALL", "OK", "* THREAD (1)(3)(5)"),
    by_number("SEARCH ODD", "BAD"),
    by_number("FETCH 6 FLAGS", "BAD"),
    # by UID they may be told, and what is not there is no error (RFC 9051 §6.4.9)
    otherwise("UID FETCH 1:* (UID)", "OK", "* 1 FETCH (UID 1)", "* 3 FETCH (UID 3)", "* 5 FETCH (UID 5)"),
    otherwise("UID FETCH 2 (FLAGS)", "OK"),
    otherwise("UID STORE 2,4 +FLAGS (\\Seen)", "OK"),
    otherwise("UID SEARCH ALL", "OK", "* SEARCH 1 3 5"),
    otherwise("UID SORT (REVERSE SUBJECT) UTF-8 ALL", "OK", "* SORT 5 3 1"),
    otherwise("UID THREAD REFERENCES UTF-8 ALL", "OK", "* THREAD (1)(3)(5)"),
    otherwise("UID COPY 2,4 Archive", "OK No"),
    otherwise("UID COPY 1:3 Archive", "OK [COPYUID"),
    otherwise("UID MOVE 2,4 Archive", "OK No"),
    otherwise("UID EXPUNGE 2", "OK"),
    otherwise("UID REPLACE 2 Archive {1+}\r\nx", "NO [EXPUNGEISSUED]"),
    # RFC 2180 §4.4: COPY by number may tell, and has to
    otherwise("COPY 2 Archive", "NO [EXPUNGEISSUED]"),
    otherwise("COPY 1:2 Archive", "OK [COPYUID"),
    otherwise("MOVE 4 Archive", "NO [EXPUNGEISSUED]"),
    otherwise("REPLACE 2 Archive {1+}\r\nx", "NO [EXPUNGEISSUED]"),
    # every other one
    otherwise("NOOP", "OK"),
    otherwise("CHECK", "OK"),
    otherwise("EXPUNGE", "OK"),
    otherwise("IDLE\r\nDONE", "OK", "+ idling"),
    otherwise("CAPABILITY", "OK"),
    otherwise("NAMESPACE", "OK"),
    otherwise("ENABLE CONDSTORE", "OK"),
    otherwise('LIST "" Archive', "OK"),
    otherwise("STATUS Archive (MESSAGES)", "OK"),
    otherwise("APPEND Archive {1+}\r\nx", "OK [APPENDUID"),
    otherwise("SUBSCRIBE Archive", "OK"),
    otherwise("GETQUOTAROOT Archive", "OK"),
    otherwise("MYRIGHTS Archive", "OK"),
    otherwise('GETMETADATA "" /private/comment', "OK"),
    otherwise("ESEARCH IN (mailboxes Archive) ALL", "OK"),
    otherwise("NOTIFY SET (selected (MessageNew MessageExpunge))", "OK"),  # RFC 5465 §3.1: as NOOP does
    # the mailbox is left: nothing of it is told
    by_number("CLOSE", "OK"),
    by_number("UNSELECT", "OK"),
    Row("SELECT Archive", "OK [READ-WRITE]", False),
    by_number("UNAUTHENTICATE", "OK"),
]
GONE = {"": ["* 2 EXPUNGE", "* 3 EXPUNGE"], "QRESYNC": ["* VANISHED 2,4"]}


@pytest.mark.parametrize("enable", GONE)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.command)
def test_what_is_told_and_given(town: MailTown, row: Row, enable: str) -> None:
    pair = Pair(town, enable)
    *lines, tagged = pair.said(pair.one, row.command)
    kind = row.answer if not enable else row.answer.replace("OK No", "OK ")
    assert tagged.startswith(f"a {kind}") or (enable and tagged.startswith("a OK [HIGHESTMODSEQ ")), tagged
    told = [line for line in lines if re.match(r"\* \d+ EXPUNGE|\* VANISHED", line)]
    assert told == (GONE[enable] if row.told else [])
    if row.data is not None:
        data = [line for line in lines if line not in told and "[HIGHESTMODSEQ" not in line]
        assert len(data) == len(row.data), data
        assert all(map(str.startswith, data, row.data)), data
    if pair.one.session.selected is not None and pair.one.session.selected.name == pair.box:
        *later, _ = pair.said(pair.one, "NOOP")
        assert [line for line in later if "FETCH" not in line] == ([] if row.told else GONE[enable])
        assert pair.said(pair.one, "SEARCH RETURN (COUNT) ALL")[0].endswith("COUNT 3")
    pair.close()


@pytest.mark.parametrize("enable", ["", "QRESYNC", "IMAP4rev2"])
def test_both_expunge_what_both_marked(town: MailTown, enable: str) -> None:
    """Each message goes once for each session, whoever was first (RFC 9051 §6.4.3)."""
    pair = Pair(town, enable, gone="9")
    pair.said(pair.other, "STORE 1:4 +FLAGS.SILENT (\\Deleted)")
    pair.said(pair.one, "NOOP")
    pair.said(pair.other, "UID EXPUNGE 1:2")
    *first, _ = pair.said(pair.one, "UID EXPUNGE 2:3")
    *second, _ = pair.said(pair.other, "EXPUNGE")
    *third, _ = pair.said(pair.one, "NOOP")
    if enable == "QRESYNC":
        assert (first, third) == (["* VANISHED 1:3"], ["* VANISHED 4"])
    else:
        assert (first, third) == (["* 1 EXPUNGE"] * 3, ["* 1 EXPUNGE"])
    assert second == ["* 1 EXPUNGE"] * 2
    pair.close()


def test_close_and_move_of_another_are_expunges(town: MailTown) -> None:
    """RFC 6851 §3.3, RFC 9051 §6.4.1; what went by MOVE is in its new place with the flags it had."""
    pair = Pair(town, "QRESYNC", gone="9")
    pair.said(pair.other, "STORE 5 +FLAGS (\\Deleted \\Flagged)")
    pair.said(pair.one, "NOOP")
    moved = pair.said(pair.other, "MOVE 2:3 Archive")
    assert moved[0].startswith("* OK [COPYUID ") and moved[1:3] == ["* 2 EXPUNGE", "* 2 EXPUNGE"]
    assert pair.said(pair.one, "UID FETCH 3 (FLAGS)")[:-1] == ["* VANISHED 2:3"]
    pair.said(pair.other, "CLOSE")
    assert pair.said(pair.one, "FETCH 1:3 (UID)")[:3] == [
        f"* {n} FETCH (UID {uid})" for n, uid in ((1, 1), (2, 4), (3, 5))
    ]
    assert pair.said(pair.one, "NOOP")[0] == "* VANISHED 5"
    pair.close()


def test_nothing_is_told_between_commands(town: MailTown) -> None:
    """RFC 9051 §7.5.1: no EXPUNGE while no command is in progress, but in IDLE at once."""
    pair = Pair(town)
    pair.one.look()
    assert pair.one.receive(0) == []
    play(pair.one, "C: b IDLE\nS: + idling\nS: * 2 EXPUNGE\nS: * 3 EXPUNGE")
    pair.said(pair.other, "STORE 1 +FLAGS.SILENT (\\Deleted)")
    pair.said(pair.other, "EXPUNGE")
    pair.one.look()
    assert pair.one.receive(0)[-1] == "* 1 EXPUNGE"
    play(pair.one, "C: DONE\nS: b OK …")
    pair.close()


def test_setting_again_what_is_set_waits_for_no_writer(town: MailTown) -> None:
    """It is answered while another process writes, and keeps its modseq; but not by a view that is behind."""
    pair = Pair(town, gone="9")
    one, elsewhere = pair.one, Installation(town.data, town.keys, town.clock)
    told = pair.said(one, "UID STORE 1,3 +FLAGS (\\Seen)")
    before = one.session.mailbox.view.highest_modseq
    with elsewhere.account(*town.accounts["alice@example.test"]) as account:
        lock = LockFile(lock_path(account.database.path))
        lock.write(0)
        try:
            for change in ("+FLAGS (\\Seen)", "-FLAGS (\\Flagged)", "FLAGS (\\Seen)"):
                assert pair.said(one, f"UID STORE 1,3 {change}") == told  # RFC 9051 §6.4.6: it is told all the same
        finally:
            lock.close()
        box = one.session.mailbox.mailbox_id
        account.messages.store(box, UidSet.of([3]), "remove", SEEN)
        assert pair.said(one, "UID STORE 1,3 +FLAGS (\\Seen)") == told
        modseqs = [row[0] for row in account.messages.fetch_rows(box, 1, 3, ("modseq",))]
        assert (modseqs[0], modseqs[2]) == (before, before + 2)
    elsewhere.close()
    pair.close()


def test_each_message_is_recent_in_one_session_only(town: MailTown) -> None:
    r"""RFC 3501 §2.3.2: \Recent of all messages at once is what it is of each."""
    pair = Pair(town, gone="9")
    for looks in (pair.one, pair.one, pair.other, pair.one, pair.other, pair.other, pair.one):
        with town.account() as account:
            account.messages.append(pair.one.session.mailbox.mailbox_id, mail())
        pair.said(looks, "NOOP")
    told = {}
    for client in (pair.one, pair.other):
        pair.said(client, "NOOP")
        assert len(client.session.mailbox.taken.ranges) > 1
        alone = [pair.said(client, f"FETCH {number} (FLAGS)")[0] for number in range(1, 13)]
        for numbers in ("1:*", "*:5", "1,6:9,11", "7:8"):
            several = pair.said(client, f"FETCH {numbers} (FLAGS)")[:-1]
            assert set(several) <= set(alone)
        told[client] = {number for number, line in enumerate(alone, 1) if "\\Recent" in line}
    assert not told[pair.one] & told[pair.other]
    assert told[pair.one] | told[pair.other] >= set(range(6, 13))
    pair.close()


def test_each_message_is_recent_in_one_process_only(town: MailTown) -> None:
    r"""RFC 3501 §2.3.2: who is told first has it, before any row says so; who only looks takes nothing."""
    pair, elsewhere = Pair(town, gone="5"), Installation(town.data, town.keys, town.clock)
    there = replace(town.services, installation=elsewhere)
    looking, other, later = CoreClient(there), CoreClient(there), CoreClient(there)
    for client in (looking, other, later):
        pair.said(client, f'LOGIN alice@example.test "{PASSWORD}"')
    pair.said(looking, "EXAMINE BOX")
    pair.said(other, "SELECT BOX")
    told = []
    for first in (pair.one, other):
        with town.account() as account:
            account.messages.append(pair.one.session.mailbox.mailbox_id, mail())
        for client in (looking, first, pair.one, other, looking):
            pair.said(client, "NOOP")
        told.append([pair.said(client, "SEARCH RECENT")[0] for client in (pair.one, other)])
    assert told == [["* SEARCH 5", "* SEARCH"], ["* SEARCH 5", "* SEARCH 6"]]
    assert "* 0 RECENT" in pair.said(later, "SELECT BOX")
    for client in (looking, other, later):
        client.close()
    pair.close()
    elsewhere.close()


def test_pipelined_commands_by_number_mean_what_the_client_saw(town: MailTown) -> None:
    """RFC 9051 §5.5: numbers of commands that were sent together are those of the same picture."""
    pair = Pair(town)
    pair.one.send(
        b"b FETCH 5 (UID)\r\nc STORE 5 +FLAGS.SILENT (\\Flagged)\r\nd SEARCH FLAGGED\r\ne NOOP\r\nf FETCH 3 (UID)\r\n"
    )
    lines = [line for line in pair.one.receive(0) if "FLAGS" not in line and " OK " not in line]
    assert lines == ["* 5 FETCH (UID 5)", "* SEARCH 5", "* 2 EXPUNGE", "* 3 EXPUNGE", "* 3 FETCH (UID 5)"]
    pair.close()


def test_highestmodseq_waits_for_what_was_not_told(town: MailTown) -> None:
    """RFC 7162 §3.2.7: a client that resynchronises from what it was told misses no expunge."""
    pair = Pair(town, "QRESYNC")
    status = f"STATUS {pair.box} (HIGHESTMODSEQ UIDVALIDITY)"
    pair.said(pair.one, "SEARCH ALL")
    closed = re.search(r"HIGHESTMODSEQ (\d+)", pair.said(pair.one, "CLOSE")[-1])
    now = re.search(r"HIGHESTMODSEQ (\d+)", pair.said(pair.one, status)[0])
    validity = re.search(r"UIDVALIDITY (\d+)", pair.said(pair.one, status)[0])
    assert closed and now and validity and int(closed[1]) < int(now[1])
    lines = pair.said(pair.one, f"SELECT BOX (QRESYNC ({validity[1]} {closed[1]} 1:5))")
    assert "* VANISHED (EARLIER) 2,4" in lines
    pair.close()


def test_a_store_that_changes_nothing_has_many_changes_of_others_read_by_a_worker(
    town: MailTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[MailboxView] = []
    prepare = MailboxView.prepare_changes
    monkeypatch.setattr(MailboxView, "prepare_changes", lambda view: (read.append(view), prepare(view)))
    pair = Pair(town, gone="5")
    pair.said(pair.one, "STORE 1 +FLAGS (\\Seen)")
    mailbox_id = pair.one.session.mailbox.mailbox_id
    other = Installation(town.data, town.keys, town.clock)
    with other.account(*town.accounts["alice@example.test"]) as theirs:
        for how in ("add", "remove") * 12:
            theirs.messages.store(mailbox_id, UidSet.of([2]), how, FLAGGED, (), None)
    assert pair.said(pair.one, "STORE 1 +FLAGS.SILENT (\\Seen)") == ["* 2 FETCH (UID 2 FLAGS ())", "a OK Stored."]
    assert read == [pair.one.session.mailbox.view]
    other.close()
    pair.close()


def test_a_session_that_ends_after_its_mailbox_was_deleted_warns_nobody(
    town: MailTown, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair(town, gone="5")
    with town.account() as account:
        account.messages.append(pair.one.session.mailbox.mailbox_id, mail())
        assert "* 5 EXISTS" in pair.said(pair.one, "NOOP") + pair.said(pair.other, "NOOP")
        account.mailboxes.delete(pair.box)
        pair.close()
        account.background.settle(account.account_id)
    assert not caplog.records


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("COPY 1 {}", "NO [TRYCREATE] There is no such mailbox."),
        ("MOVE 1 {}", "NO [TRYCREATE] There is no such mailbox."),
        ("REPLACE 1 {} {{8+}}\r\nA: b\r\n\r\n", "NO [TRYCREATE] There is no such mailbox."),
        ("SELECT {}", "NO [NONEXISTENT] There is no such mailbox."),
    ],
)
def test_a_mailbox_that_was_deleted_after_it_had_been_found(
    town: MailTown, monkeypatch: pytest.MonkeyPatch, command: str, told: str
) -> None:
    """RFC 9051 §6.4.7, RFC 8508 §3: it is not there, and could be made; it is no message that is gone."""
    monkeypatch.setattr(views, "_WORTH_IT", 0)  # an empty mailbox, too, is opened by a worker
    pair = Pair(town, gone="5")
    with town.account() as account:
        target = account.mailboxes.create(f"{pair.box}/target").name
        frame = command.format(target)
        assert interrupted(pair.other, frame, lambda: account.mailboxes.delete(target))[-1] == f"a {told}"
        assert account.usage().messages == sum(box.messages for box in account.mailboxes.list())
    if not command.startswith("SELECT"):
        assert pair.said(pair.other, "SEARCH ALL")[0] == "* SEARCH 1 2 3 4"
    pair.close()

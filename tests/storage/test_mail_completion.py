"""Messages that came by APPEND are read later, and nobody can tell: readers get what they get of a delivered one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from accounts import ACCOUNT, AccountPlace
from hypothesis import given
from hypothesis import strategies as st

from storage.checks.rows import check_rows
from storage.clock import FixedClock
from storage.database.prepared import Connection, Row
from storage.errors import Busy, Corrupt, Unavailable
from storage.export.rows import slice_after
from storage.files.maildir import Maildir
from storage.files.metadata import FileMeta
from storage.itip.store import Scheduling
from storage.keys.sealing import Key
from storage.mail import completion
from storage.mail.account import Account
from storage.mail.completion import BATCH
from storage.mail.content import TABLES
from storage.mail.messages import NewMessage
from storage.mail.reading import _slice
from storage.mail.sought import Sought
from storage.mime.content import derive, sent_in
from storage.mime.message import read_message
from storage.values import MailboxId, MessageId, UidSet

FIRST = (
    b"From: Ann <ann@example.test>\r\nTo: bob@example.test\r\nCc: cy@example.test\r\nBcc: dee@example.test\r\n"
    b"Subject: Re: Gr=?utf-8?q?=C3=BC?=n\r\nDate: Sun, 15 Nov 2026 10:46:34 +0000\r\nMessage-ID: <1@example.test>\r\n"
    b"Received: from a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/calendar\r\n\r\n"
    b"BEGIN:VCALENDAR\r\n--b\r\n\r\nThe quick brown fox\r\n--b--\r\n"
)
ANSWER = (
    b"From: bob@example.test\r\nSubject: Re: green\r\nMessage-ID: <2@example.test>\r\nReferences: <1@example.test>\r\n"
    b"\r\nNo.\r\n"
)
OTHER = b"Subject: else\r\n\r\n"
MAIL = (FIRST, ANSWER, OTHER)

Reader = Callable[[Account, MailboxId], Any]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    with closing(AccountPlace(tmp_path / "data")) as place:
        yield place


@pytest.fixture
def account(place: AccountPlace) -> Account:
    return place.account


def inbox(account: Account) -> MailboxId:
    return account.mailboxes.find("INBOX").id


def bring(account: Account, *messages: bytes, into: MailboxId | None = None, read_later: bool) -> None:
    account.messages.append_many(into or inbox(account), [NewMessage(each) for each in messages], read_later=read_later)


def found(key: str, needle: str, name: str = "") -> Reader:
    def search(account: Account, mailbox: MailboxId) -> object:
        sought = Sought(account.views.load(mailbox).columns().message_ids)
        lookup = account.index.lookup(key, needle, sought, name)
        while not lookup.step():
            pass
        return lookup.matches

    return search


def rows(*columns: str) -> Reader:
    return lambda account, mailbox: account.messages.fetch_rows(mailbox, 1, 9, columns)


def indexed(account: Account, mailbox: MailboxId) -> object:
    while account.index.work():
        pass
    return found("body", "quick")(account, mailbox), found("subject", "grün")(account, mailbox), check(account)


def check(account: Account) -> list[str]:
    with account.database.reading() as connection:
        return [finding.text for finding in check_rows(connection, ACCOUNT)]


def alike(names: Iterable[str]) -> list[int]:
    """Which are the same, whatever they are."""
    return [*map([*(listed := [*names])].index, listed)]


def threads(account: Account, mailbox: MailboxId) -> list[int]:
    return alike(row[0] for row in account.messages.fetch_rows(mailbox, 1, 9, ("thread_id",)))


def sizes_and_dates(account: Account, mailbox: MailboxId) -> object:
    return [*map(list, account.views.load(mailbox).columns().arrays)]


READERS: tuple[Reader, ...] = (
    *(rows("uid", *(column.name for column in table.c if not column.primary_key)) for table in TABLES),
    rows("uid", "size", "envelope", "thread_id", "preview"),
    lambda account, mailbox: account.messages.fetch_rows(mailbox, 2, 2, ("body_structure",)),
    threads,
    found("subject", "grün"),
    found("to", "bob"),
    found("body", "brown"),
    found("header", "example", "message-id"),
    indexed,
    lambda account, mailbox: account.index.columns.thread_rows([account.views.load(mailbox).columns().message_ids[0]]),
    lambda account, mailbox: alike(row.thread_id for row in slice_after(account, mailbox, 0)),
    lambda account, mailbox: Scheduling(account, FixedClock()).arrived(account.mailboxes.by_id(mailbox), 10),
)


def test_every_reader_gets_the_same(tmp_path: Path) -> None:
    with closing(AccountPlace(tmp_path / "a")) as one, closing(AccountPlace(tmp_path / "b")) as other:
        for number, reader in enumerate(READERS):
            told: list[object] = []
            for account, read_later in ((one.account, True), (other.account, False)):
                mailbox = account.mailboxes.create(f"m{number}").id
                bring(account, *MAIL, into=mailbox, read_later=read_later)
                assert account.completion.is_due() is read_later
                assert not check(account)
                told += [sizes_and_dates(account, mailbox), reader(account, mailbox)]
                assert not account.completion.is_due()
            assert told[:2] == told[2:], number
            assert told[1], number


def test_nobody_else_reads_the_rows() -> None:
    """Whoever does has to ask for completion first, and to stand among the readers above."""
    known = {"content", "rows", "search_text", "field_columns", "store", "reading"}
    tables = r"^from storage\.schema\.account import .*\b(content|rendered|listing|trace_fields)\b"
    reading = {
        path.stem
        for package in ("storage", "hosting", "gateway")
        for path in (Path(__file__).parents[2] / package).rglob("*.py")
        if re.search(tables, path.read_text(), re.MULTILINE)
    }
    assert reading <= known


def test_what_is_read_is_durable_and_read_once(place: AccountPlace, account: Account) -> None:
    """In many commits; the files are moved; whoever has the account open elsewhere finds it done."""
    bring(account, *[b"Subject: %d\r\n\r\n" % number for number in range(BATCH + 2)], read_later=True)
    assert len([*account.maildir.names("new")]) == BATCH + 2
    assert account.completion.is_due()
    other = AccountPlace(place.data, new=False)
    with closing(other):
        assert other.account.completion.step()
        account.completion.ensure()
    assert not account.completion.is_due()
    place.settle()
    other.settle()
    assert not [*account.maildir.names("new")]
    assert [row[0] for row in account.messages.fetch_rows(inbox(account), 1, 99, ("base_subject",))] == [
        str(number) for number in range(BATCH + 2)
    ]
    assert not check(account)


def test_of_very_many_the_process_that_takes_them_reads_them(
    place: AccountPlace, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "MOST", 3)
    for _ in range(2):
        bring(account, OTHER, read_later=True)
    place.settle()
    assert account.completion.is_due()
    bring(account, OTHER, read_later=True)
    place.settle()
    assert not account.completion.is_due()


def test_a_thread_is_the_same_if_a_power_loss_undoes_it(place: AccountPlace, account: Account) -> None:
    bring(account, *MAIL, read_later=True)
    before = account.database.path.read_bytes(), Path(f"{account.database.path}-wal").read_bytes()
    told = account.messages.fetch_rows(inbox(account), 1, 9, ("thread_id",))
    place.account.close()
    account.database.path.write_bytes(before[0])
    Path(f"{account.database.path}-wal").write_bytes(before[1])
    account = place.open()
    assert account.completion.is_due()
    assert account.messages.fetch_rows(inbox(account), 1, 9, ("thread_id",)) == told


def test_an_answer_that_is_delivered_finds_its_thread(account: Account) -> None:
    bring(account, FIRST, read_later=True)
    bring(account, ANSWER, read_later=False)
    assert threads(account, inbox(account)) == [0, 0]


def test_what_goes_before_it_is_read_leaves_nothing(place: AccountPlace, account: Account) -> None:
    bring(account, *MAIL, read_later=True)
    account.messages.expunge(inbox(account), UidSet.of([2]), only_deleted=False)
    trash = account.mailboxes.find("Trash").id
    account.messages.move(inbox(account), UidSet.of([3]), trash)
    assert [row[0] for row in account.messages.fetch_rows(trash, 1, 9, ("base_subject",))] == ["ELSE"]
    place.settle()
    assert not check(account)
    assert len([*account.maildir.names("cur")]) == 2


def test_one_that_cannot_be_read_is_shown_empty(account: Account) -> None:
    """The others do not wait for it."""
    bring(account, FIRST, OTHER, read_later=True)
    [name] = [row[0] for row in account.messages.fetch_rows(inbox(account), 1, 1, ("file",))]
    (account.maildir.path / "new" / name).write_bytes(b"damaged")
    assert [row[0] for row in account.messages.fetch_rows(inbox(account), 1, 9, ("base_subject",))] == ["", "ELSE"]
    assert not account.completion.is_due()


LINES = st.sampled_from(
    [b"Date", b"date:", b"DATE :", b" Date: 1 Jan 2020 00:00 +0000", b"Date: Sun, 15 Nov 2026 10:46:34 +0000",
     b"Date:\t", b"\t15 Nov 2026 10:46 +0100", b"", b"x", b":", b"\r", b"Dates: 1 Jan 2020 00:00 +0000", b"To: Date: b"]
)  # fmt: skip


@given(st.lists(LINES, max_size=6), st.sampled_from([b"\r\n", b"\n"]), st.booleans())
def test_the_date_is_that_of_the_whole_message(lines: list[bytes], end: bytes, ends: bool) -> None:
    data = end.join(lines) + end * ends
    assert sent_in(data) == derive(read_message(data)).sent


def test_the_date_of_a_long_header() -> None:
    data = b"X: y\r\n" * 20_000 + b"Date: Sun, 15 Nov 2026 10:46:34 +0000\r\n\r\n"
    assert sent_in(data) == derive(read_message(data)).sent != None  # noqa: E711


class Unreadable(Maildir):
    """Files that the disk does not give, or that come to be too much for the memory."""

    def __init__(self, path: Path, error: Exception, *names: str) -> None:
        super().__init__(path)
        self.error, self.names_of, self.reads = error, names, 0

    def read(self, name: str, key: Key) -> tuple[FileMeta, bytes]:
        self.reads += 1
        if name in self.names_of:
            raise self.error
        return super().read(name, key)


def files(account: Account) -> list[str]:
    return [row[0] for row in account.messages.fetch_rows(inbox(account), 1, 99, ("file",))]


@pytest.mark.parametrize("error", [Unavailable(), MemoryError()])
def test_one_that_cannot_be_read_for_now_keeps_nobody_else_waiting(
    account: Account, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(completion, "BATCH", 2)
    bring(account, ANSWER, OTHER, OTHER, OTHER, read_later=True)
    maildir = account.maildir
    account.completion._maildir = Unreadable(maildir.path, error, files(account)[0])
    bring(account, OTHER, read_later=False)  # what is delivered is taken
    assert account.completion.is_due()
    subjects = ("uid", "base_subject")
    assert len(account.messages.fetch_rows(inbox(account), 2, 9, subjects)) == 4
    with pytest.raises(Unavailable):
        account.messages.fetch_rows(inbox(account), 1, 9, subjects)
    with pytest.raises(Busy):  # in the event loop nobody tries
        account.messages.fetch_rows(inbox(account), 1, 9, subjects, at_once=True)
    account.completion._maildir = maildir
    assert account.messages.fetch_rows(inbox(account), 1, 1, subjects) == [(1, "GREEN")]
    assert not account.completion.is_due()
    assert not check(account)


def test_what_the_disk_has_lost_is_shown_empty_once_that_is_certain(
    account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bring(account, FIRST, OTHER, read_later=True)
    path = account.maildir.path / "new" / files(account)[0]
    path.unlink()
    path.symlink_to("/proc/self/mem")  # whose first page gives EIO
    subjects = ("base_subject",)
    with pytest.raises(Unavailable):
        account.messages.fetch_rows(inbox(account), 1, 9, subjects)
    assert not caplog.records
    monkeypatch.setattr("storage.files.maildir._BELIEVED", -3600.0)  # an hour later
    assert [row[0] for row in account.messages.fetch_rows(inbox(account), 1, 9, subjects)] == ["", "ELSE"]
    assert "message 1 cannot be read: message file: EIO, the disk cannot read it any more" in caplog.text
    with pytest.raises(Corrupt):
        account.messages.read(MessageId(1), path.name)


def test_a_delivery_waits_for_some_at_most(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(account, *MAIL, into=account.mailboxes.find("Trash").id, read_later=True)
    monkeypatch.setattr(completion, "BATCH", 1)
    monkeypatch.setattr(completion, "MOST", 2)
    bring(account, OTHER, read_later=False)
    assert account.completion.is_due()
    assert not check(account)


def test_one_that_our_parser_stumbles_over_is_shown_empty(account: Account) -> None:
    bring(account, FIRST, OTHER, read_later=True)
    account.completion._maildir = Unreadable(account.maildir.path, RecursionError("From: Ann"), files(account)[0])
    assert [row[0] for row in account.messages.fetch_rows(inbox(account), 1, 9, ("base_subject",))] == ["", "ELSE"]
    assert not account.completion.is_due()


def test_large_messages_are_read_in_several_commits_and_sooner(
    place: AccountPlace, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "BATCH_OCTETS", 1)
    bring(account, *MAIL, read_later=True)
    account.completion._maildir = counting = Unreadable(account.maildir.path, Unavailable())
    assert account.completion.step()
    assert counting.reads == 1
    account.completion.ensure()
    assert threads(account, inbox(account)) == [0, 0, 2]
    monkeypatch.setattr(completion, "MOST_OCTETS", len(FIRST))
    bring(account, FIRST, read_later=True)
    place.settle()
    assert not account.completion.is_due()


def test_those_of_a_low_id_are_found_without_going_through_all_messages(account: Account) -> None:
    """Several processes bring messages, each under ids of its own."""
    sql = completion._next.sql
    with account.database.reading() as connection:
        plan = connection.driver.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * sql.count("?")).fetchall()
    assert [step[-1] for step in plan] == [
        "SEARCH message_1 USING COVERING INDEX message_by_indexed (account_id=? AND indexed=? AND message_id>?)",
        "SEARCH message USING PRIMARY KEY (account_id=? AND message_id=?)",
    ]


def test_without_room_rows_are_read_and_nothing_is_kept(account: Account) -> None:
    count = 23
    bring(account, *(b"Subject: %d\r\n\r\n" % number for number in range(count)), read_later=True)
    bring(account, OTHER, read_later=False)
    bring(account, *MAIL, read_later=True)
    columns = ("uid", "subject", "thread_id")

    def ask(connection: Connection, first: int, last: int) -> list[Row]:
        return _slice(columns)[0].rows(connection, account=ACCOUNT, mailbox=inbox(account), first=first, last=last)

    told = account.completion.without_room(inbox(account), 2, 99, ask)
    assert account.completion.is_due()
    kept = account.messages.fetch_rows(inbox(account), 2, 99, columns)
    assert [row[0] for row in told] == [*range(2, count + 5)]
    assert list(map(tuple, told)) == list(map(tuple, kept)) and not account.completion.is_due()
    assert list(map(tuple, account.completion.without_room(inbox(account), 2, 99, ask))) == list(map(tuple, kept))

"""The check finds every kind of damage, says it in one sentence, and finds nothing where nothing is wrong."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accounts import ACCOUNT, KEY, AccountPlace
from sqlalchemy import text

from storage.check import check_account
from storage.checks.finding import Finding, Kind, Severity
from storage.files.incarnation import Incarnation
from storage.files.metadata import FileMeta
from storage.mail.account import DATABASE
from storage.mail.snapshots import Picture, Snapshots
from storage.values import DELETED, MailboxId, MessageId, UidSet

MAIL = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    """An account in which everything has happened: arrivals, flags, keywords, copies, deletions, index, snapshot."""
    place = AccountPlace(tmp_path / "data")
    account = place.account
    inbox, archive = account.mailboxes.find("INBOX").id, account.mailboxes.find("Archive").id
    for number in range(8):
        account.messages.append(inbox, MAIL + b"%d\r\n" % number, keywords=("tag",) if number == 2 else ())
    account.messages.copy(inbox, UidSet(((1, 3),)), archive)
    account.messages.store(inbox, UidSet(((4, 5),)), "add", DELETED)
    account.messages.expunge(inbox, UidSet(((4, 4),)))
    account.mailboxes.create("Gone")
    account.messages.copy(inbox, UidSet(((1, 2),)), account.mailboxes.find("Gone").id)
    account.mailboxes.delete("Gone")
    save_snapshot(place, inbox)
    place.settle()
    while account.index.work():
        pass
    yield place
    place.close()


def save_snapshot(place: AccountPlace, mailbox_id: MailboxId) -> None:
    database = place.account.database
    with database.snapshot() as connection:
        modseq = place.account.mailboxes.by_id(mailbox_id).highest_modseq
        rows = connection.execute(
            text(f"SELECT uid, flags, modseq FROM membership WHERE mailbox_id = {mailbox_id} ORDER BY uid")
        )
    arrays = [array(code, column) for code, column in zip("IQQ", zip(*rows, strict=True), strict=True)]
    Snapshots(database, ACCOUNT).save(mailbox_id, Picture(modseq, arrays))


def findings(place: AccountPlace, *, contents: bool = False) -> list[Finding]:
    return list(check_account(place.account, place.incarnation, contents=contents))


def change(place: AccountPlace, sql: str) -> None:
    place.account.database.write(lambda transaction: transaction.execute(text(sql)))


def test_nothing_is_wrong(place: AccountPlace) -> None:
    assert findings(place, contents=True) == []


DAMAGE = [
    ("UPDATE mailbox SET messages = messages + 1 WHERE name = 'INBOX'", Kind.COUNTER_WRONG),
    ("UPDATE mailbox SET unseen = 0 WHERE name = 'INBOX'", Kind.COUNTER_WRONG),
    ("UPDATE mailbox SET deleted = 0 WHERE name = 'INBOX'", Kind.COUNTER_WRONG),
    ("UPDATE mailbox SET bytes = 1 WHERE name = 'Sent'", Kind.COUNTER_WRONG),
    ("UPDATE usage SET bytes = bytes - 1", Kind.USAGE_WRONG),
    ("UPDATE usage SET messages = messages + 1", Kind.USAGE_WRONG),
    ("UPDATE mailbox SET uidnext = 3 WHERE name = 'INBOX'", Kind.UID_BEYOND_NEXT),
    ("UPDATE mailbox SET highest_modseq = 2 WHERE name = 'INBOX'", Kind.MODSEQ_BEYOND_HIGHEST),
    ("UPDATE counter SET value = 1 WHERE name = 'message_id'", Kind.ID_BEYOND_COUNTER),
    ("UPDATE counter SET value = 1 WHERE name = 'mailbox_id'", Kind.ID_BEYOND_COUNTER),
    ("UPDATE counter SET value = 1 WHERE name = 'uidvalidity'", Kind.ID_BEYOND_COUNTER),
    ("DELETE FROM keyword", Kind.KEYWORD_UNNAMED),
    ("INSERT INTO expunged (account_id, mailbox_id, modseq, uid) VALUES (7, 1, 3, 1)", Kind.TOMBSTONE_WRONG),
    ("DELETE FROM content WHERE message_id = 1", Kind.CONTENT_MISSING),
    ("DELETE FROM listing WHERE message_id = 1", Kind.CONTENT_MISSING),
    ("DELETE FROM search_text WHERE message_id = 1", Kind.INDEX_WRONG),
    ("INSERT INTO search_text (account_id, message_id, part, text) VALUES (7, 99, 0, x'')", Kind.INDEX_WRONG),
    ("UPDATE search_parts_data SET block = x'00' WHERE id > 10", Kind.INDEX_WRONG),
    ("UPDATE message SET file = 'none.0' WHERE message_id = 1", Kind.FILE_MISSING),
    ("DELETE FROM membership WHERE mailbox_id = 6 AND uid = 1; ", Kind.COUNTER_WRONG),
    ("DELETE FROM membership WHERE message_id = 8", Kind.MESSAGE_LOOSE),
    ("DELETE FROM message WHERE message_id = 8", Kind.MEMBERSHIP_LOOSE),
    ("DELETE FROM message WHERE message_id = 8", Kind.CONTENT_LOOSE),
    ("DELETE FROM message WHERE message_id = 8", Kind.FILE_WITHOUT_ROW),
    ("DELETE FROM mailbox WHERE name = 'Archive'", Kind.MEMBERSHIP_LOOSE),
    ("UPDATE membership SET flags = flags | 1 WHERE mailbox_id = 1 AND uid = 7", Kind.SNAPSHOT_WRONG),
    ("DELETE FROM membership WHERE mailbox_id = 1 AND uid = 7", Kind.SNAPSHOT_WRONG),
    ("UPDATE membership SET modseq = 99 WHERE mailbox_id = 1 AND uid = 7", Kind.SNAPSHOT_WRONG),
    ("UPDATE snapshot SET rows = x'01'", Kind.SNAPSHOT_WRONG),
]


@pytest.mark.parametrize(("sql", "kind"), DAMAGE)
def test_wrong_rows_are_found(place: AccountPlace, sql: str, kind: Kind) -> None:
    change(place, sql)
    found = [finding for finding in findings(place) if finding.kind is kind]
    assert found
    for finding in found:
        assert finding.account_id == ACCOUNT
        assert finding.text.endswith(".")
        assert "{" not in finding.text


def test_flags_that_changed_after_a_snapshot_are_found_written_down(place: AccountPlace) -> None:
    inbox = place.account.mailboxes.find("INBOX").id
    place.account.messages.store(inbox, UidSet(((6, 7),)), "add", DELETED)
    place.account.messages.append(inbox, MAIL)
    while place.account.index.work():
        pass
    assert findings(place) == []
    change(place, "UPDATE mailbox SET flag_changes = ''")
    assert [(each.kind, each.uid) for each in findings(place)] == [(Kind.SNAPSHOT_WRONG, 6)]
    change(place, "UPDATE mailbox SET flag_horizon = highest_modseq")
    assert findings(place) == []


def file_of(place: AccountPlace, message_id: int) -> Path:
    with place.account.database.reading() as connection:
        ((name,),) = connection.execute(text(f"SELECT file FROM message WHERE message_id = {message_id}"))
    return place.account.maildir.path / "cur" / name


def test_a_lost_file_is_an_alarm(place: AccountPlace) -> None:
    path = file_of(place, 2)
    path.unlink()
    (finding,) = findings(place)
    assert (finding.kind, finding.severity) == (Kind.FILE_MISSING, Severity.ALARM)
    assert (finding.message_id, finding.file) == (2, path.name)


def changed(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[-1] ^= 1
    path.write_bytes(octets)


def cut(path: Path) -> None:
    os.truncate(path, 100)


@pytest.mark.parametrize("damage", [changed, cut])
def test_a_damaged_file_is_found_when_contents_are_read(place: AccountPlace, damage: Callable[[Path], None]) -> None:
    damage(file_of(place, 2))
    assert findings(place) == []
    (finding,) = findings(place, contents=True)
    assert (finding.kind, finding.message_id) == (Kind.FILE_UNREADABLE, 2)


@pytest.mark.parametrize(("column", "what"), [("size", "size"), ("internal_date", "INTERNALDATE")])
def test_a_file_that_says_something_else_is_found(place: AccountPlace, column: str, what: str) -> None:
    change(place, f"UPDATE message SET {column} = 12345 WHERE message_id = 2")
    found = [finding for finding in findings(place, contents=True) if finding.kind is Kind.FILE_DIFFERS]
    assert [finding.message_id for finding in found] == [2]
    assert what in found[0].text


def test_files_in_flight_are_told_from_rubbish(place: AccountPlace) -> None:
    writer = Incarnation(place.data)
    maildir = place.account.maildir
    for link in (False, True):
        name = maildir.new_name(writer.name)
        maildir.write(name, KEY, FileMeta(ACCOUNT, MessageId(99), 1), MAIL)
        if link:
            maildir.link(name)
    assert findings(place) == []
    writer.close()
    found = findings(place)
    assert [(each.kind, each.severity) for each in found] == 2 * [(Kind.FILE_UNFINISHED, Severity.NOTE)]


def test_a_file_that_waits_for_its_removal_is_a_note(place: AccountPlace) -> None:
    place.background.close()
    inbox = place.account.mailboxes.find("INBOX")
    place.account.messages.expunge(inbox.id, UidSet(((8, 8),)), only_deleted=False)
    assert [(each.kind, each.severity) for each in findings(place)] == [(Kind.FILE_TO_REMOVE, Severity.NOTE)]


def test_a_damaged_database_is_an_alarm(place: AccountPlace) -> None:
    with place.account.database.reading() as connection:
        roots = connection.driver.execute("SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'membership'").fetchall()
    place.account.close()
    path = place.root / DATABASE
    octets = bytearray(path.read_bytes())
    for (page,) in roots:  # of a table that nothing reads when an account is opened
        octets[(page - 1) * 4096 + 100] ^= 1
    path.write_bytes(octets)
    place.open()
    found = findings(place)
    assert Kind.DATABASE_DAMAGED in {finding.kind for finding in found}
    assert all(finding.severity is Severity.ALARM for finding in found)

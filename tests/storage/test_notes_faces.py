"""One note over both faces: what is edited on either appears on the other, in the same commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from accounts import ACCOUNT, KEY, TENANT
from notes_place import NotesPlace, apple_note, journal
from sqlalchemy import delete, func, select
from statements import Statements

from storage.check import check_account
from storage.checks.finding import Kind as Finding
from storage.collections.conditions import PreconditionFailed, Violated
from storage.collections.values import Content, Kind, NewCollection
from storage.errors import NotFound, NotPermitted, OverQuota
from storage.mail.account import Account
from storage.mail.outcomes import NewMessage
from storage.mail.quota import Limits
from storage.notes.notes import GRACE
from storage.schema.account import info
from storage.schema.collections import note
from storage.values import DELETED, FLAGGED, SEEN, UidSet

ONE, TWO = "0F5CB8A7-0000-4000-8000-000000000001", "0F5CB8A7-0000-4000-8000-000000000002"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[NotesPlace]:
    place = NotesPlace(tmp_path)
    yield place
    place.close()


# From the collection to the mailbox


def test_the_mailbox_appears_subscribed_with_the_first_note(place: NotesPlace) -> None:
    with pytest.raises(NotFound):
        place.account.mailboxes.find("Notes")
    place.put("a.ics", journal("uid-1", "Shopping", "Milk\\nEggs"))
    assert place.account.mailboxes.find("Notes").messages == 1
    assert "Notes" in place.account.mailboxes.subscriptions()
    assert place.texts() == ["Shopping\nMilk\nEggs"]
    [(uid, note)] = place.messages()
    [row] = place.account.messages.fetch_rows(place.mailbox, uid, uid, ("flags",))
    assert (row[0], note.identifier) == (SEEN, "uid-1")
    assert note.created == 1748768400  # CREATED


def test_an_edit_over_caldav_replaces_the_message_and_keeps_its_flags(place: NotesPlace) -> None:
    first = place.put("a.ics", journal("uid-1", "Shopping"))
    [(uid, _)] = place.messages()
    place.account.messages.store(place.mailbox, UidSet.of([uid]), "add", FLAGGED, ["work"])
    place.put("a.ics", journal("uid-1", "Shopping", "Milk"), if_match=first.etag)
    [(now, note)] = place.messages()
    assert now > uid
    assert note.said.whole == "Shopping\nMilk"
    [row] = place.account.messages.fetch_rows(place.mailbox, now, now, ("flags",))
    assert row[0] & (SEEN | FLAGGED) == SEEN | FLAGGED
    assert row[0] >> 8  # the keyword
    assert place.texts() == ["Shopping\nMilk"]


def test_what_concerns_the_journal_alone_leaves_the_message(place: NotesPlace) -> None:
    place.put("a.ics", journal("uid-1", "Shopping"))
    before = place.account.mailboxes.find("Notes")
    place.put("a.ics", journal("uid-1", "Shopping", extra="CATEGORIES:home\r\nCOLOR:red\r\n"))
    assert place.account.mailboxes.find("Notes") == before
    assert place.texts() == ["Shopping"]


def test_a_note_that_is_deleted_over_caldav_leaves_the_mailbox(place: NotesPlace) -> None:
    place.put("a.ics", journal("uid-1", "Shopping"))
    place.put("b.ics", journal("uid-2", "Other"))
    place.delete("a.ics")
    assert place.texts() == ["Other"]


def test_other_journals_and_other_collections_are_no_notes(place: NotesPlace) -> None:
    diary = place.account.collections.create(NewCollection(Kind.CALENDAR, "diary", components=("VJOURNAL",)))
    data = journal("uid-1", "Dear diary")
    place.account.objects.put(diary.id, "a.ics", Content(data, "text/calendar", "uid-1", "VJOURNAL"))
    with pytest.raises(NotFound):
        place.account.mailboxes.find("Notes")


def test_notes_of_a_collection_that_is_deleted_go_and_new_ones_make_it_again(place: NotesPlace) -> None:
    place.put("a.ics", journal("uid-1", "Shopping"))
    place.account.collections.delete(place.collection.id)
    place.settle()
    assert place.messages() == []
    place.append(ONE, "Again")
    assert place.texts() == ["Again"]


@pytest.mark.parametrize("is_gone_first", [False, True])
def test_an_edit_of_a_note_whose_collection_is_going_is_kept(place: NotesPlace, is_gone_first: bool) -> None:
    base, edited = place.append(ONE, "Shopping"), Event()

    def wait_for_the_edit() -> None:
        edited.wait()

    if not is_gone_first:
        place.background.submit(("the test",), wait_for_the_edit)
    place.account.collections.delete(place.collection.id)
    if is_gone_first:
        place.settle()
    place.append(ONE, "Shopping\nMilk")
    edited.set()
    place.expunge(base)
    place.settle()
    place.pass_grace()
    assert place.texts() == ["Shopping\nMilk"]


def test_notes_of_a_renamed_collection_stay_notes(place: NotesPlace) -> None:
    place.put("a.ics", journal("uid-1", "Shopping"))
    old = place.collection.id
    place.account.transfers.move_collection(old, 0, "old-notes")
    [(uid, _)] = place.messages()
    place.append("uid-1", "Shopping\nMilk")
    place.expunge(uid)
    [stored] = place.account.objects.list(old)
    assert b"DESCRIPTION:Milk" in place.account.objects.read(stored)
    place.append(ONE, "New")
    assert [each.said.title for _, each in place.journals()] == ["New"]


def test_an_object_that_is_renamed_or_moved_away(place: NotesPlace) -> None:
    stored = place.put("a.ics", journal("uid-1", "Shopping"))
    place.account.transfers.move(stored, place.collection.id, "b.ics")
    assert place.texts() == ["Shopping"]
    diary = place.account.collections.create(NewCollection(Kind.CALENDAR, "diary", components=("VJOURNAL",)))
    stored = place.account.objects.find(place.collection.id, "b.ics")
    place.account.transfers.move(stored, diary.id, "b.ics")
    assert place.texts() == []


# From the mailbox to the collection


def test_a_note_that_is_appended_is_a_journal_entry(place: NotesPlace) -> None:
    place.append(ONE, "Shopping\nMilk\n\nEggs")
    [(stored, read)] = place.journals()
    assert (stored.name, stored.uid, stored.component) == (f"{ONE}.ics", ONE, "VJOURNAL")
    assert (read.said.title, read.said.text) == ("Shopping", "Milk\n\nEggs")
    assert read.created == 1748851200  # X-Mail-Created-Date
    assert place.texts() == ["Shopping\nMilk\n\nEggs"]


@pytest.mark.parametrize("expunge_first", [False, True])
def test_an_edit_of_a_telephone_in_either_order(place: NotesPlace, expunge_first: bool) -> None:
    place.put("a.ics", journal("uid-1", "Shopping", "Milk", "CATEGORIES:home,work\r\nX-ONE;P=1:two\r\n"))
    [(uid, _)] = place.messages()
    if expunge_first:
        place.expunge(uid)
        assert place.texts() == []
        place.append("uid-1", "Shopping\nEggs")
    else:
        place.append("uid-1", "Shopping\nEggs")
        place.expunge(uid)
    assert place.texts() == ["Shopping\nEggs"]
    data = place.octets("a.ics")
    assert b"CATEGORIES:home,work\r\nX-ONE;P=1:two\r\n" in data
    assert b"CREATED:20250601T090000Z\r\n" in data
    assert b"SEQUENCE:1\r\n" in data
    assert place.pass_grace() == 0
    assert place.texts() == ["Shopping\nEggs"]


def test_an_edit_over_imap_changes_the_etag_so_that_an_older_one_over_caldav_is_refused(place: NotesPlace) -> None:
    first = place.put("a.ics", journal("uid-1", "Shopping"))
    [(uid, _)] = place.messages()
    place.append("uid-1", "Shopping\nMilk")
    place.expunge(uid)
    with pytest.raises(PreconditionFailed):
        place.put("a.ics", journal("uid-1", "Shopping", "Eggs"), if_match=first.etag)
    assert place.texts() == ["Shopping\nMilk"]


def test_expunging_the_current_message_deletes_the_note_and_an_older_one_does_not(place: NotesPlace) -> None:
    first = place.append(ONE, "Shopping")
    second = place.append(ONE, "Shopping\nMilk")
    place.expunge(first)
    assert place.texts() == ["Shopping\nMilk"]
    place.expunge(second)
    assert place.texts() == []
    place.clock.advance(GRACE + 1)
    place.account.note_settling.settle()
    with place.account.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(note)) == [(0,)]


def test_a_note_that_was_moved_to_the_trash_comes_back_with_all_that_it_had(place: NotesPlace) -> None:
    place.put("a.ics", journal("uid-1", "Shopping", extra="CATEGORIES:home\r\n"))
    [(uid, _)] = place.messages()
    trash = place.account.mailboxes.find("Trash").id
    moved = place.account.messages.move(place.mailbox, UidSet.of([uid]), trash)
    assert place.texts() == []
    place.account.messages.copy(trash, UidSet.of([moved.pairs[0][1]]), place.mailbox)
    assert place.texts() == ["Shopping"]
    assert b"CATEGORIES:home" in place.octets("a.ics")


def test_other_messages_in_the_mailbox_are_ordinary_mail(place: NotesPlace) -> None:
    place.account.messages.append(place.mailbox, b"Subject: hello\r\n\r\ncom.apple.mail-note\r\n")
    place.account.messages.append(place.account.mailboxes.find("INBOX").id, apple_note(ONE, "In the inbox"))
    assert place.journals() == []
    place.expunge(1)
    assert place.texts() == []


def test_a_note_with_attachments_keeps_them(place: NotesPlace) -> None:
    data = (
        b"Subject: Trip\r\nX-Uniform-Type-Identifier: com.apple.mail-note\r\nX-Universally-Unique-Identifier: "
        + ONE.encode()
        + b"\r\nX-Own: kept\r\nContent-Type: multipart/related; boundary=b\r\n\r\n--b\r\n"
        b"Content-Type: text/html; charset=utf-8\r\n\r\nTrip<div>Rome</div><div><object "
        b'type="application/x-apple-msg-attachment" data="cid:pic@x"></object></div>\r\n--b\r\n'
        b"Content-Type: image/png\r\nContent-Id: <pic@x>\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n"
    )
    place.account.messages.append(place.mailbox, data)
    assert place.texts() == ["Trip\nRome"]
    assert place.message(1) == data
    place.put(f"{ONE}.ics", journal(ONE, "Trip", "Rome and Naples"))
    [(uid, note)] = place.messages()
    now = place.message(uid)
    assert note.has_attachments
    assert note.said.whole.strip() == "Trip\nRome and Naples"
    assert b"X-Own: kept\r\n" in now
    assert b"Content-Id: <pic@x>\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n" in now
    assert b"cid:pic@x" in now.replace(b"=\r\n", b"")
    assert place.texts() == ["Trip\nRome and Naples"]


# Conflicts


def test_two_telephones_edit_the_same_note(place: NotesPlace) -> None:
    base = place.append(ONE, "Shopping")
    place.append(ONE, "Shopping\nof the first")
    place.append(ONE, "Shopping\nof the second")
    place.expunge(base)
    assert place.pass_grace() == 1
    assert place.texts() == ["Shopping\nof the second", "Shopping (conflict)\nShopping\nof the first"]
    uids = {each.uid for each, _ in place.journals()}
    assert ONE in uids
    assert len(uids) == 2
    assert place.pass_grace() == 0


def test_an_edit_over_caldav_while_a_telephone_edits_an_older_revision(place: NotesPlace) -> None:
    place.put("a.ics", journal("uid-1", "Shopping"))
    [(base, _)] = place.messages()
    place.put("a.ics", journal("uid-1", "Shopping", "over CalDAV"))
    place.append("uid-1", "Shopping\nover IMAP")
    place.expunge(base)  # which is gone already
    assert place.octets("a.ics").count(b"over IMAP") == 1
    assert place.pass_grace() == 1
    assert place.texts() == ["Shopping\nover IMAP", "Shopping (conflict)\nShopping\nover CalDAV"]


def test_a_message_that_is_marked_deleted_is_no_conflict_and_one_that_says_the_same_goes(place: NotesPlace) -> None:
    first = place.append(ONE, "Shopping")
    place.account.messages.store(place.mailbox, UidSet.of([first]), "add", DELETED)
    place.append(ONE, "Shopping\nMilk")
    place.append(TWO, "Same")
    place.append(TWO, "Same")
    assert place.pass_grace() == 0
    assert [note.said.whole for _, note in place.messages()] == ["Shopping", "Shopping\nMilk", "Same"]
    place.expunge(first)
    assert place.texts() == ["Same", "Shopping\nMilk"]


def test_a_note_deleted_over_caldav_and_edited_on_a_telephone_stays(place: NotesPlace) -> None:
    place.put("a.ics", journal("uid-1", "Shopping"))
    [(base, _)] = place.messages()
    place.delete("a.ics")
    place.append("uid-1", "Shopping\nMilk")
    place.expunge(base)
    assert place.texts() == ["Shopping\nMilk"]


def test_of_two_edits_the_current_is_deleted_and_the_other_stays(place: NotesPlace) -> None:
    base = place.append(ONE, "Shopping")
    place.append(ONE, "Shopping\nfirst")
    second = place.append(ONE, "Shopping\nsecond")
    place.expunge(base)
    place.expunge(second)
    place.pass_grace()
    assert place.texts() == ["Shopping\nfirst"]


# Limits, and what stands in the way


def test_the_mailbox_that_shows_notes_stays(place: NotesPlace) -> None:
    place.append(ONE, "Shopping")
    with pytest.raises(NotPermitted):
        place.account.mailboxes.delete("Notes")
    with pytest.raises(NotPermitted):
        place.account.mailboxes.rename("Notes", "Other")
    place.delete(f"{ONE}.ics")
    place.account.mailboxes.rename("Notes", "Other")


def test_over_quota_nothing_of_either_face_is_changed(place: NotesPlace) -> None:
    place.put("a.ics", journal("uid-1", "Shopping"))
    before, usage = place.messages(), place.account.usage()
    place.account.limits = Limits(bytes=usage.bytes + 100)
    with pytest.raises(OverQuota):
        place.put("a.ics", journal("uid-1", "Shopping", "x" * 50))
    with pytest.raises(OverQuota):
        place.append("uid-1", "Shopping\n" + "x" * 500)
    assert place.messages() == before
    assert place.account.usage() == usage
    assert place.texts() == ["Shopping"]
    assert len(list(place.account.maildir.names("cur"))) + len(list(place.account.maildir.names("new"))) == 1


def test_a_text_that_is_too_long_is_refused_over_caldav_and_ordinary_mail_over_imap(place: NotesPlace) -> None:
    with pytest.raises(Violated) as refused:
        place.put("a.ics", journal("uid-1", "Long", "x" * (1 << 20)))
    assert refused.value.condition == "max-resource-size"
    place.append(ONE, "Long\n" + "x" * (1 << 20))
    assert place.journals() == []


def test_a_large_note_stands_in_files_on_both_sides(place: NotesPlace) -> None:
    text = "Long\n" + "\n".join(f"line {number} é" for number in range(20_000))
    place.append(ONE, text)
    assert place.texts() == [text]
    place.put(f"{ONE}.ics", journal(ONE, "Long", "y" * 100_000))
    assert place.texts() == ["Long\n" + "y" * 100_000]
    assert not list(place.account.maildir.names("tmp"))


# What was there before, and what is missing


def test_notes_of_an_account_of_before_are_taken_in_when_it_is_opened(place: NotesPlace) -> None:
    place.account.ledger.follower = None  # as long as nobody knew of notes
    for number in range(120):
        place.append(f"N-{number}", f"Note {number}\ntext")
    place.append("N-7", "Note 7\nedited")
    place.account.messages.append(place.mailbox, b"Subject: mail\r\n\r\n\r\n")
    assert place.journals() == []
    place.account.close()
    place.open()
    place.settle()
    assert len(place.journals()) == 120
    assert place.pass_grace() == 1
    texts = place.texts()
    assert "Note 7\nedited" in texts
    assert "Note 7 (conflict)\nNote 7\ntext" in texts
    assert len(texts) == 121


def test_a_mailbox_that_gets_the_name_is_taken_in(place: NotesPlace) -> None:
    other = place.account.mailboxes.create("Old notes").id
    place.account.messages.append(other, apple_note(ONE, "Shopping"))
    place.account.mailboxes.rename("Old notes", "Notes")
    place.settle()
    assert place.texts() == ["Shopping"]


def test_many_notes_that_are_copied_are_taken_in_too(place: NotesPlace) -> None:
    other = place.account.mailboxes.create("Other").id
    for number in range(60):
        place.account.messages.append(other, apple_note(f"N-{number}", f"Note {number}"))
    place.account.messages.copy(other, UidSet(((1, 1000),)), place.mailbox)
    place.settle()
    assert len(place.texts()) == 60


def test_faces_that_are_missing_are_found_and_made_again(place: NotesPlace) -> None:
    place.append(ONE, "Shopping")
    place.append(TWO, "Other")
    place.account.ledger.follower = None
    place.expunge(1)
    stored = place.account.objects.find(place.collection.id, f"{TWO}.ics")
    place.account.database.write(
        lambda transaction: place.account.objects.delete_in(transaction, place.collection.id, stored.name, told=False)
    )
    place.account.ledger.follower = place.account.notes
    found = [each for each in check_account(place.account, place.incarnation) if each.kind is Finding.NOTE_WRONG]
    assert [each.text for each in found] == [
        "Note 1: its message is missing.",
        "Note 2: its journal entry is missing.",
    ]
    assert place.account.note_settling.mend() == 2
    assert place.texts() == ["Other", "Shopping"]
    assert place.account.note_settling.mend() == 0


@pytest.mark.parametrize("uid", [ONE, ONE.lower(), "a note of no header field é"])
def test_an_account_that_is_made_anew_from_its_files_has_each_note_once(place: NotesPlace, uid: str) -> None:
    place.put("a.ics", journal(uid, "Shopping", extra="CATEGORIES:home\r\n"))
    octets = place.octets("a.ics")
    for forgotten in (
        delete(note).returning(note.c.note_id),
        delete(info).where(info.c.name == "notes_taken_in").returning(info.c.name),
    ):
        place.account.database.write(lambda transaction, forgotten=forgotten: transaction.execute(forgotten))
    place.account.close()
    place.open()
    place.settle()
    assert place.texts() == ["Shopping"]
    assert place.octets("a.ics") == octets


def test_an_archive_brings_each_note_once_journals_first_and_then_mail(place: NotesPlace) -> None:
    place.put("a.ics", journal(ONE, "Shopping", "Milk"))
    place.put("b.ics", journal(TWO, "Trip"))
    picture = (
        "X-Uniform-Type-Identifier: com.apple.mail-note\r\nX-Universally-Unique-Identifier: "
        f"{TWO}\r\nSubject: Trip\r\nContent-Type: multipart/related; boundary=b\r\n\r\n--b\r\n"
        "Content-Type: text/html\r\n\r\nTrip\r\n--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n"
    ).encode()
    place.append(ONE, "Shopping\nMilk")
    place.account.messages.append(place.mailbox, picture)
    assert place.account.note_settling.settle(patience=0) == 0
    assert place.texts() == ["Shopping\nMilk", "Trip"]
    assert picture in [place.message(uid) for uid, _ in place.messages()]


def test_a_message_is_written_before_its_journal_entry_is_and_goes_with_a_put_that_fails(place: NotesPlace) -> None:
    first = place.put("a.ics", journal("uid-1", "Shopping"))
    place.put("a.ics", journal("uid-1", "Shopping", "Milk"), if_match=first.etag)
    for stale in (journal("uid-1", "Shopping", "Eggs"), journal("uid-2", "Other")):
        with pytest.raises(PreconditionFailed):
            place.put("a.ics", stale, if_match=first.etag)
    place.settle()
    assert len(list(place.account.maildir.names("cur"))) == 1
    assert not list(place.account.maildir.names("new"))
    assert place.texts() == ["Shopping\nMilk"]


def test_what_is_remembered_and_what_conflicts_is_settled_by_who_opens_the_account_next(place: NotesPlace) -> None:
    place.append(ONE, "Shopping")
    place.append(ONE, "Shopping\nMilk")
    place.append(TWO, "Other")
    place.expunge(3)
    place.account.close()
    place.clock.advance(GRACE + 1)
    place.open()
    place.settle()
    assert place.texts() == ["Shopping\nMilk", "Shopping (conflict)\nShopping"]
    with place.account.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(note)) == [(2,)]


# Who has nothing to do with notes


def test_ordinary_mail_costs_no_statement_because_of_notes(place: NotesPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place.append(ONE, "Shopping")
    messages, mailboxes = place.account.messages, place.account.mailboxes
    inbox, archive = mailboxes.find("INBOX").id, mailboxes.find("Archive").id
    everything = UidSet(((1, 1000),))

    def ordinary() -> None:
        messages.append(inbox, apple_note(TWO, "A note elsewhere"))
        messages.append_many(inbox, [NewMessage(b"Subject: x\r\n\r\n")] * 2, many=True)
        messages.copy(inbox, everything, archive)
        messages.move(inbox, everything, archive)
        messages.store(archive, everything, "add", DELETED)
        messages.expunge(archive)
        mailboxes.create("One/below")
        mailboxes.rename("One", "Two")
        mailboxes.delete("Two/below")
        mailboxes.delete("Two")

    ordinary()  # what is asked once is asked
    place.settle()
    place.background.close()  # whose statements would be counted too
    statements = Statements(monkeypatch)
    with_notes = statements.of(ordinary)
    place.account.ledger.follower = None
    assert statements.of(ordinary) == with_notes


def test_a_name_that_another_process_gives_and_takes_is_known_at_once(place: NotesPlace) -> None:
    mailbox = place.account.mailboxes.create("Drawer").id
    place.account.mailboxes.find("Drawer")  # this process remembers its name
    other = Account.open(place.root, TENANT, ACCOUNT, KEY, place.surroundings)
    other.mailboxes.rename("Drawer", "Notes")
    place.account.messages.append(mailbox, apple_note(ONE, "Shopping"))
    assert place.texts() == ["Shopping"]
    place.expunge(1)
    assert place.texts() == []
    other.mailboxes.rename("Notes", "Drawer")
    place.account.messages.append(mailbox, apple_note(TWO, "Trip"))
    assert place.journals() == []
    other.close()

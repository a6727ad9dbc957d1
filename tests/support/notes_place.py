"""An account whose notes are edited over both faces, for tests."""

from __future__ import annotations

from pathlib import Path

from accounts import AccountPlace

from storage.collections.values import Collection, Kind, Stored
from storage.errors import NotFound
from storage.icalendar.content import calendar_content
from storage.notes.journal import Journal, read_journal
from storage.notes.markup import write_html
from storage.notes.message import NoteMessage, read_note
from storage.values import DELETED, MailboxId, UidSet


def apple_note(identifier: str, text: str, extra: str = "") -> bytes:
    """As Notes of a telephone appends one; the first line is the title."""
    title = text.partition("\n")[0]
    return (
        f"Subject: {title}\r\nFrom: ann@one.test\r\nX-Uniform-Type-Identifier: com.apple.mail-note\r\n"
        "Content-Type: text/html;\r\n\tcharset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        "Date: Tue, 3 Jun 2025 10:00:00 +0200\r\nX-Mail-Created-Date: Mon, 2 Jun 2025 10:00:00 +0200\r\n"
        f"X-Universally-Unique-Identifier: {identifier}\r\nMime-Version: 1.0 (iOS)\r\n{extra}\r\n"
        f"<html><head></head><body>{write_html(text)}</body></html>\r\n"
    ).encode()


def journal(uid: str, title: str, text: str = "", extra: str = "") -> bytes:
    """As a client on a telephone puts one."""
    described = f"DESCRIPTION:{text}\r\n" if text else ""
    return (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//one//two//EN\r\nBEGIN:VJOURNAL\r\n"
        f"UID:{uid}\r\nDTSTAMP:20250601T100000Z\r\nCREATED:20250601T090000Z\r\n{extra}"
        f"SUMMARY:{title}\r\n{described}END:VJOURNAL\r\nEND:VCALENDAR\r\n"
    ).encode()


class NotesPlace(AccountPlace):
    def __init__(self, data: Path, *, new: bool = True) -> None:
        """`new`: the account is made; else it is opened."""
        super().__init__(data, new=new)

    # Over CalDAV

    @property
    def collection(self) -> Collection:
        return self.account.collections.find(Kind.CALENDAR, "notes")

    def put(self, name: str, data: bytes, if_match: str | None = None) -> Stored:
        match = None if if_match is None else (if_match,)
        return self.account.objects.put(self.collection.id, name, calendar_content(data), if_match=match).stored

    def delete(self, name: str) -> None:
        self.account.objects.delete(self.collection.id, name)

    def octets(self, name: str) -> bytes:
        return self.account.objects.read(self.account.objects.find(self.collection.id, name))

    def journals(self) -> list[tuple[Stored, Journal]]:
        objects = self.account.objects
        return [(each, read_journal(data)) for each, data in objects.read_many(objects.list(self.collection.id))]

    # Over IMAP

    @property
    def mailbox(self) -> MailboxId:
        """As Apple's Notes does: it makes the mailbox if it is not there."""
        try:
            return self.account.mailboxes.find("Notes").id
        except NotFound:
            return self.account.mailboxes.create("Notes").id

    def append(self, identifier: str, text: str, extra: str = "") -> int:
        return self.account.messages.append(self.mailbox, apple_note(identifier, text, extra)).uid

    def expunge(self, uid: int) -> None:
        self.account.messages.store(self.mailbox, UidSet.of([uid]), "add", DELETED)
        self.account.messages.expunge(self.mailbox, UidSet.of([uid]))

    def messages(self) -> list[tuple[int, NoteMessage]]:
        rows = self.account.messages.fetch_rows(self.mailbox, 1, 1 << 31, ("uid", "message_id"))
        found = [(row[0], read_note(self.account.messages.read_message(row[1]))) for row in rows]
        return [(uid, note) for uid, note in found if note is not None]

    def message(self, uid: int) -> bytes:
        [row] = self.account.messages.fetch_rows(self.mailbox, uid, uid, ("message_id",))
        return self.account.messages.read_message(row[0])

    def pass_grace(self) -> int:
        """Time passes, and what has waited is settled; how many conflicts became notes."""
        self.clock.advance(1000)
        return self.account.note_settling.settle()

    # Both

    def texts(self) -> list[str]:
        """What both faces say; they agree, or this fails."""
        wrong = list(self.account.note_settling.disagreements())
        assert not wrong, wrong
        over_dav = sorted(each.said.whole.strip("\n") for _, each in self.journals())
        over_imap = sorted(each.said.whole.strip("\n") for _, each in self.messages())
        assert over_dav == over_imap
        return over_dav

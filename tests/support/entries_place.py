"""Calendars, address books, notes and files for an account, and what tells whether two accounts hold the same."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from storage.collections.properties import home
from storage.collections.values import CollectionId, Kind, NewCollection, file_content
from storage.icalendar.content import calendar_content
from storage.mail.account import Account
from storage.schema.collections import note, note_earlier
from storage.values import UID_MAX
from storage.vcard.content import card_content

COLOR = "{http://apple.com/ns/ical/}calendar-color"
OBJECTS = 18  # that `fill` makes
_HOMES = (Kind.CALENDAR, Kind.ADDRESS_BOOK, Kind.FOLDER)


def calendar(uid: str, component: str = "VEVENT", more: bytes = b"", summary: str = "lunch") -> bytes:
    start = b"DTSTART:20260102T100000Z\r\n" if component == "VEVENT" else b""
    return (
        b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\nBEGIN:%s\r\nUID:%s\r\nDTSTAMP:20260101T000000Z\r\n%sSUMMARY:%s"
        b"\r\n%sEND:%s\r\nEND:VCALENDAR\r\n"
    ) % (component.encode(), uid.encode(), start, summary.encode(), more, component.encode())


def card(uid: str, more: bytes = b"") -> bytes:
    return b"BEGIN:VCARD\r\nVERSION:3.0\r\nUID:%s\r\nFN:Bo\r\nN:B;;;;\r\n%sEND:VCARD\r\n" % (uid.encode(), more)


def fill(account: Account) -> None:
    """Something of each kind, odd names, a file of its own, properties everywhere."""
    collections, objects = account.collections, account.objects
    work = collections.create(
        NewCollection(Kind.CALENDAR, "Wörk / 1".replace("/", "&"), 0, "Work", "of work", "#FF0000FF", 7)
    )
    collections.update(collections.find(Kind.CALENDAR, "calendar").id, color="#00FF00", display_name="Mine")
    collections.delete(collections.find(Kind.CALENDAR, "tasks").id)
    for name, uid in (("A.ics", "a"), ("a.ICS", "b"), ("no ending", "c"), (".hidden", "d"), ("x" * 250, "e")):
        objects.put(work.id, name, calendar_content(calendar(uid)))
    more = b"ATTENDEE:mailto:bo@far.test\r\nORGANIZER:mailto:me@one.test\r\n"
    objects.put(work.id, "meeting.ics", calendar_content(calendar("m", more=more)))
    large = card("photo", b"BDAY:1990-01-02\r\nPHOTO;ENCODING=b:" + 120_000 * b"A" + b"\r\n")
    book = collections.find(Kind.ADDRESS_BOOK, "contacts")
    objects.put(book.id, "photo.vcf", card_content(large))
    files = collections.create(NewCollection(Kind.FOLDER, "files"))
    deep: CollectionId = files.id
    for level in range(9):
        deep = collections.create(NewCollection(Kind.FOLDER, "Level", deep)).id
        objects.put(deep, f"{level}.bin", file_content((70_000 if level == 3 else 20) * bytes([level]), "image/png"))
    objects.put(files.id, "level", file_content(b"", "text/plain"))
    notes = collections.find(Kind.CALENDAR, "notes")
    objects.put(notes.id, "n.ics", calendar_content(calendar("note-1", "VJOURNAL", b"CATEGORIES:x\r\n", "A note")))
    account.feeds.subscribe("Feed", "https://far.example/feed.ics", display_name="Far", color="#123456")
    stored = objects.find(work.id, "A.ics")
    account.properties.set(work.id, stored.object_id, "{urn:x}seen", b'<seen xmlns="urn:x">\xc3\xa4</seen>')
    account.properties.set(work.id, 0, COLOR, b"<x/>")
    account.properties.set(*home(Kind.CALENDAR), "{urn:x}order", b"<y>\xff</y>")


def held(account: Account) -> dict[str, Any]:
    """All that a round trip keeps of collections, and of the mailbox Notes."""
    found: dict[str, Any] = {"homes": [account.collections.home_properties(kind) for kind in (None, *_HOMES)]}
    for each in account.collections.list():
        path = "/".join((each.kind.value, *(one.name for one in account.collections.path(each.id))))
        said = (each.display_name, each.description, each.color, each.position, each.components, each.transparent)
        entries = {}
        for stored, octets in account.objects.read_many(account.objects.list(each.id)):
            more = account.properties.get(each.id, stored.object_id)
            entries[stored.name] = (octets, stored.uid, stored.component, stored.content_type, more)
        found[path] = (said, each.timezone, account.properties.get(each.id), each.objects, each.bytes, entries)
    names = {each.name for each in account.mailboxes.list()}
    if "Notes" in names:
        rows = account.messages.fetch_rows(
            account.mailboxes.find("Notes").id, 1, UID_MAX, ("uid", "message_id", "file")
        )
        found["Notes"] = [account.messages.read(message_id, file) for _, message_id, file in rows]
    with account.database.reading() as connection:
        found["feeds"] = [each.url for each in account.feeds.list()]
        found["rows of notes"] = sorted(connection.execute(select(note.c.uid, note.c.title)))
        assert connection.execute(select(note_earlier.c.note_id)) == []
    return found

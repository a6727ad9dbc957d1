"""The face of a note that calendar clients read and write: a VJOURNAL with SUMMARY and DESCRIPTION.

What a client stored keeps its octets. An edit from the other face puts new lines into the places of SUMMARY,
DESCRIPTION, LAST-MODIFIED, DTSTAMP and SEQUENCE, and of X-ALT-DESC where there is one, since it says the same text in
HTML; categories, colours, dates, attachments and everything else stay as they are, to the octet. Of a journal that
recurs the entry without RECURRENCE-ID is the note.

HTML of a journal (X-ALT-DESC, or ALTREP with a data: URL, as Thunderbird writes it) counts only while it says what
DESCRIPTION says: a client that does not know it leaves it as it was when it changes the text.

Raises: Malformed (these are no content lines). Standards: RFC 5545 §3.6.3, RFC 9253 (STYLED-DESCRIPTION is left alone).
"""

from __future__ import annotations

import time
from calendar import timegm
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from storage.icalendar import contentlines
from storage.icalendar.contentlines import Component, Malformed, Property
from storage.notes.markup import cleaned, is_readable, read_html, write_html
from storage.notes.message import TEXT_MAX, NoteText

COMPONENT = "VJOURNAL"

_PRODUCT = "-//Cleanmail//Notes//EN"
_TIME = "%Y%m%dT%H%M%SZ"
_ALT = "X-ALT-DESC"
_DATA_URL = "data:text/html"


@dataclass(frozen=True, slots=True)
class Journal:
    """What was read of a VJOURNAL."""

    uid: str
    said: NoteText
    created: int | None  # Unix seconds


def read_journal(data: bytes) -> Journal:
    """What the octets of a calendar object with a VJOURNAL say."""
    entry = _entry(contentlines.read(data))
    title = " ".join(cleaned(contentlines.text(entry.value("SUMMARY") or "")).split("\n"))
    text = _description(entry)
    if not title.strip():
        text = text.lstrip("\n")
    return Journal(
        (entry.value("UID") or "").strip(), NoteText(title, text, _html(entry, title, text)), _created(entry)
    )


def write_journal(said: NoteText, uid: str, revision: int, *, created: int, modified: int) -> bytes:
    """A new one."""
    stamp = _stamp(modified)
    values = [
        ("UID", uid),
        ("DTSTAMP", stamp),
        ("CREATED", _stamp(created)),
        ("LAST-MODIFIED", stamp),
        ("SEQUENCE", str(revision)),
        ("SUMMARY", contentlines.escaped(said.title)),
        *([("DESCRIPTION", contentlines.escaped(said.text))] if said.text else []),
    ]
    entry = Component(COMPONENT, [Property(name, value) for name, value in values])
    head = [Property("VERSION", "2.0"), Property("PRODID", _PRODUCT)]
    return contentlines.write(Component("VCALENDAR", head, [entry]))


def edited(data: bytes, said: NoteText, *, modified: int) -> bytes:
    """The same journal with another text: all lines but those that have to change keep their octets."""
    entry = _entry(contentlines.read(data))
    line_end = b"\r\n" if b"\r\n" in data else b"\n"
    after = max((one.end for one in entry.properties), default=entry.inner_start)
    edits: list[tuple[int, int, bytes]] = []

    def put(name: str, value: str | None, drop: Sequence[str] = ()) -> None:
        """The first of that name has the value, others go; None: all go."""
        there = entry.all(name)
        for one in there[0 if value is None else 1 :]:
            edits.append((one.start, one.end, b""))
        if value is None:
            return
        new = Property(name, value)
        start = end = after
        if there:
            start, end = there[0].start, there[0].end
            new.parameters = [each for each in there[0].parameters if each[0] not in drop]
        line = contentlines.write_property(new)
        edits.append((start, end, line.replace(b"\r\n", line_end) if line_end == b"\n" else line))

    put("SUMMARY", contentlines.escaped(said.title), ("ALTREP",))
    put("DESCRIPTION", contentlines.escaped(said.text) if said.text else None, ("ALTREP",))
    if entry.first(_ALT) is not None:
        put(_ALT, contentlines.escaped(write_html(said.text)) if said.text else None)
    put("DTSTAMP", _stamp(modified))
    put("LAST-MODIFIED", _stamp(modified))
    sequence = (entry.value("SEQUENCE") or "0").strip()
    put("SEQUENCE", str(int(sequence) + 1 if sequence.isascii() and sequence.isdigit() and len(sequence) < 10 else 1))
    return _spliced(data, edits)


def _spliced(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    pieces: list[bytes] = []
    at = 0
    for start, end, new in sorted(edits, key=lambda each: each[:2]):
        pieces += (data[at:start], new)
        at = end
    return b"".join((*pieces, data[at:]))


def _entry(root: Component) -> Component:
    entries = root.below(COMPONENT)
    if not entries:
        raise Malformed("There is no VJOURNAL in it.")
    return next((one for one in entries if one.first("RECURRENCE-ID") is None), entries[0])


def _description(entry: Component) -> str:
    """A VJOURNAL may have several (RFC 5545 §3.8.1.5)."""
    return cleaned("\n".join(contentlines.text(one.value) for one in entry.all("DESCRIPTION")))


def _html(entry: Component, title: str, text: str) -> str | None:
    source = None
    for one in entry.all(_ALT):
        if (one.parameter("FMTTYPE") or "text/html").lower() == "text/html":
            source = contentlines.text(one.value)
            break
    if source is None and (described := entry.first("DESCRIPTION")) is not None:
        address = described.parameter("ALTREP") or ""
        if address[: len(_DATA_URL)].lower() == _DATA_URL and ";base64" not in address.partition(",")[0]:
            source = unquote(address.partition(",")[2])
    if source is None or not is_readable(source, 2 * TEXT_MAX):
        return None
    read = read_html(source)
    if not read.text or read.text.split() != text.split():
        return None
    return f"{write_html(title)}<div>{read.html}</div>" if title else read.html


def _created(entry: Component) -> int | None:
    for name in ("CREATED", "DTSTAMP"):
        value = (entry.value(name) or "").strip()
        try:
            return timegm(time.strptime(value[:15], "%Y%m%dT%H%M%S"))
        except ValueError:
            continue
    return None


def _stamp(seconds: int) -> str:
    return time.strftime(_TIME, time.gmtime(seconds))

"""A whole calendar as one iCalendar object, for GET and for whoever gives one away (RFC 5545 §3.4, RFC 7986 §5).

Components are the octets that clients stored; each time zone stands once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hosting.dav.context import Context
from hosting.dav.methods.getting import not_modified
from hosting.dav.private import shown
from hosting.dav.properties import http_date
from hosting.dav.request import DavResponse, Headers, Streamed
from hosting.dav.resources import Resource
from storage.collections.values import Collection
from storage.errors import InvalidInput
from storage.icalendar.contentlines import escaped, folded, read
from storage.mail.account import Account

_PRODID = "-//Cleanmail//DAV//EN"
_BATCH = 64 << 10


def download(context: Context, resource: Resource) -> DavResponse:
    """GET of a calendar."""
    parts = whole_calendar(resource.data, resource.row, lambda data: shown(resource, data))
    return answered(context, resource, "text/calendar; charset=utf-8", "calendar.ics", batched(parts))


def answered(
    context: Context, resource: Resource, media_type: str, file_name: str, parts: Iterator[bytes]
) -> DavResponse:
    """All of a collection, or 304 where the client has it."""
    row = resource.row
    etag = f'"{row.id}-{row.highest_modseq}"'
    headers: Headers = [
        ("ETag", etag),
        ("Last-Modified", http_date(row.modified)),
        ("Cache-Control", "private, no-cache"),
        ("Vary", "Accept"),
    ]
    if not_modified(context, etag, row.modified):
        return DavResponse(304, headers)
    headers += [("Content-Type", media_type), ("Content-Disposition", f'attachment; filename="{file_name}"')]
    return DavResponse(200, headers, Streamed(parts, context.close))


def whole_calendar(
    account: Account, collection: Collection, seen: Callable[[bytes], bytes | None] = lambda data: data
) -> Iterator[bytes]:
    """The octets of the calendar, made while they are read. `seen` makes of an object what may be seen of it."""
    yield b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nCALSCALE:GREGORIAN\r\n" + folded(f"PRODID:{_PRODID}")
    name = escaped(collection.display_name or collection.name)
    yield folded(f"NAME:{name}") + folded(f"X-WR-CALNAME:{name}")
    if collection.description:
        yield folded(f"X-WR-CALDESC:{escaped(collection.description)}")
    yield from components(_seen(account, collection, seen))
    yield b"END:VCALENDAR\r\n"


def _seen(account: Account, collection: Collection, seen: Callable[[bytes], bytes | None]) -> Iterator[bytes]:
    for _, data in account.objects.read_many(account.objects.list(collection.id)):
        try:
            part = seen(data)
        except InvalidInput:
            continue
        if part is not None:
            yield part


def components(objects: Iterable[bytes]) -> Iterator[bytes]:
    """What stands in these objects; what cannot be read is left out."""
    zones: set[str] = set()
    for data in objects:
        try:
            root = read(data)
        except InvalidInput:
            continue
        for component in root.components:
            if component.name == "VTIMEZONE":
                tzid = component.value("TZID") or ""
                if tzid in zones:
                    continue
                zones.add(tzid)
            part = data[component.start : component.end]
            yield part if part.endswith(b"\n") else part + b"\r\n"


def batched(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces joined to some that are worth sending."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= _BATCH:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)

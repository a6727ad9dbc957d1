"""GET and HEAD: the octets that were stored, with the conditions and, for files, one range.

Files are anything that somebody put there, and are served so that no browser runs them in this server's name.

Standards: RFC 9110 §9.3.1, §13 (conditions), §14 (ranges); RFC 4918 §9.4.
"""

from __future__ import annotations

import re
from calendar import timegm
from email.utils import parsedate_tz

from hosting.dav.context import Context
from hosting.dav.errors import Refused
from hosting.dav.if_header import read_etags
from hosting.dav.locating import locate, requested
from hosting.dav.properties import http_date
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse, Headers
from hosting.dav.resources import OBJECT_OF, Resource, ResourceType
from storage.collections.values import Kind, Stored

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z", re.ASCII)
_KIND_OF = {type_: kind for kind, type_ in OBJECT_OF.items()}
_UNTRUSTED = [
    ("Content-Security-Policy", "sandbox; default-src 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Disposition", "attachment"),
]
# For a person who opens the address in a browser, and programs that try whether anything is there.
_GREETING = b"Calendars, contacts and files are here, for programs that speak CalDAV, CardDAV and WebDAV.\n"
_GREETING_HEADERS = (("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(_GREETING))))


class Get:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __call__(self, context: Context) -> DavResponse:
        resource = locate(context, requested(context).segments)
        context.require(resource, Reach.READ)
        if resource.stored is None:
            return self._collection(context, resource)
        return self._object(context, resource)

    def _collection(self, context: Context, resource: Resource) -> DavResponse:
        if resource.type is ResourceType.ROOT:
            return _without_body(context, DavResponse(200, list(_GREETING_HEADERS), _GREETING))
        download = self._registry.downloads.get(resource.type)
        if download is None:
            allowed = ", ".join(self._registry.methods_of(resource.type))
            raise Refused(405, why="A collection has no content; ask with PROPFIND.", headers=(("Allow", allowed),))
        return _without_body(context, download(context, resource))

    def _object(self, context: Context, resource: Resource) -> DavResponse:
        if not_modified(context, resource.object.etag, resource.object.modified):
            return DavResponse(304, _validators(resource.object))
        stored, data = resource.data.objects.read_now(resource.object)  # it may have changed since it was found
        headers, media_type = _validators(stored), stored.content_type
        bodies = self._registry.bodies.get(_KIND_OF.get(resource.type, Kind.FOLDER))
        if bodies is not None:
            data, media_type = bodies.served(context, resource, data)
        headers.append(("Content-Type", media_type))
        status = 200
        if resource.type is ResourceType.FILE:
            headers += [*_UNTRUSTED, ("Accept-Ranges", "bytes")]
            part = _range(context, len(data), stored.etag, stored.modified)
            if part is not None:
                status = 206
                headers.append(("Content-Range", f"bytes {part[0]}-{part[1] - 1}/{len(data)}"))
                data = data[part[0] : part[1]]
        elif bodies is not None:
            headers.append(("Vary", "Accept"))
        headers.append(("Content-Length", str(len(data))))
        return _without_body(context, DavResponse(status, headers, data))


def _validators(stored: Stored) -> Headers:
    headers: Headers = [("ETag", stored.etag), ("Last-Modified", http_date(stored.modified))]
    if stored.schedule_tag:
        headers.append(("Schedule-Tag", stored.schedule_tag))
    headers.append(("Cache-Control", "private, no-cache"))
    return headers


def _without_body(context: Context, response: DavResponse) -> DavResponse:
    if context.request.method != "HEAD":
        return response
    response.close()
    return DavResponse(response.status, response.headers)


def not_modified(context: Context, etag: str, modified: int) -> bool:
    """In the order of RFC 9110 §13.2.2. Raises Refused (412)."""
    request = context.request
    match = read_etags(request.header("if-match"))
    if match is not None:
        if "*" not in match and etag not in match:
            raise Refused(412, why="It is another version.")
    else:
        since = read_date(request.header("if-unmodified-since"))
        if since is not None and modified > since:
            raise Refused(412, why="It was modified since.")
    none = read_etags(request.header("if-none-match"))
    if none is not None:
        return "*" in none or etag in {each.removeprefix("W/") for each in none}
    since = read_date(request.header("if-modified-since"))
    return since is not None and modified <= since


def read_date(header: str) -> int | None:
    """An HTTP date; None for none and for what is none (RFC 9110 §13.1.3: it is ignored)."""
    parsed = parsedate_tz(header[:64]) if header else None
    if parsed is None:
        return None
    try:
        return timegm((*parsed[:6], 0, 1, 0)) - (parsed[9] or 0)
    except (ValueError, OverflowError):
        return None


def _range(context: Context, size: int, etag: str, modified: int) -> tuple[int, int] | None:
    """The half-open range that is asked for; None: all of it. Several ranges are answered with all of it.

    Raises Refused (416).
    """
    asked = _RANGE.match(context.request.header("range").replace(" ", ""))
    if asked is None or not (asked[1] or asked[2]):
        return None
    unless = context.request.header("if-range").strip()
    if unless and unless != etag and read_date(unless) != modified:
        return None
    if not asked[1]:
        start, end = max(0, size - int(asked[2])), size
    else:
        start = int(asked[1])
        end = min(size, int(asked[2]) + 1) if asked[2] else size
        if asked[2] and int(asked[2]) < start:
            return None
    if start >= end:
        raise Refused(416, why="The range is not within the file.", headers=(("Content-Range", f"bytes */{size}"),))
    return start, end

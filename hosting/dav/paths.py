"""Paths of requests: decoded once, segment by segment, and never taken for the path of a file.

Everything that would make one segment look like several, or like none, is refused here (400): an encoded slash, NUL
and other control characters, "." and "..", octets that are no UTF-8. What is left is looked for by name, in rows. One
place may hold an encoded slash: that of a login, since an address may have one (RFC 5322 §3.2.3).

Raises: Refused (400, 404, 502).
Standards: RFC 3986 §2.1, §3.3, §5; RFC 4918 §8.3 (references), §10.3 (Destination).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlsplit

from hosting.dav.errors import Refused, missing
from hosting.dav.request import DavRequest
from hosting.dav.services import DavLimits

_PREFIX = "/dav"
_LOGIN = 1  # which segment says whose it is
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN = re.compile(r"[A-Za-z0-9@_~!$*,;=:()+-][A-Za-z0-9@_~!$*,;=:()+.-]*\Z")  # nothing to decode or to refuse
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Path:
    """A path below /dav/: its segments, and whether it ended in a slash."""

    segments: tuple[str, ...]
    slash: bool

    @property
    def parent(self) -> tuple[str, ...]:
        return self.segments[:-1]

    @property
    def name(self) -> str:
        return self.segments[-1] if self.segments else ""


def read_path(raw: str, limits: DavLimits) -> Path:
    """The path of a request, as it was sent. Raises Refused."""
    if len(raw) > limits.path:
        raise Refused(400, why="The path is too long.")
    if not raw.startswith(_PREFIX) or raw[len(_PREFIX) : len(_PREFIX) + 1] not in ("", "/"):
        raise missing()
    parts = raw[len(_PREFIX) :].strip("/").split("/")
    if parts == [""]:
        return Path((), slash=True)
    names = tuple(_segment(part, limits, is_login=number == _LOGIN) for number, part in enumerate(parts))
    return Path(names, raw.endswith("/"))


def _segment(part: str, limits: DavLimits, *, is_login: bool) -> str:
    if len(part) <= limits.segment and _PLAIN.match(part):
        return part
    if "#" in part or "?" in part or "\\" in part or _BROKEN_ESCAPE.search(part):
        raise Refused(400, why="The path is not valid.")
    try:
        name = unquote_to_bytes(part).decode("utf-8")
    except UnicodeError:
        raise Refused(400, why="The path is not UTF-8.") from None
    if not name:
        raise missing()
    if (
        name in (".", "..")
        or ("/" in name and not (is_login and "@" in name))
        or any(c < " " or c == "\x7f" for c in name)
    ):
        raise Refused(400, why="The path is not valid.")
    if len(name.encode("utf-8")) > limits.segment:
        raise Refused(400, why="A name in the path is too long.")
    return name


def read_reference(request: DavRequest, reference: str, limits: DavLimits) -> Path:
    """What an href in a body, a Destination or a tag of If names: a path, or a URL of this server.

    Raises Refused: 502 where it is on another server.
    """
    reference = reference.strip()
    if reference.startswith("/") and not reference.startswith("//"):
        return read_path(reference.replace(" ", "%20"), limits)
    try:
        url = urlsplit(reference)
        named = (url.hostname or "", url.port or _DEFAULT_PORTS.get(url.scheme.lower()))
    except ValueError:
        raise Refused(400, why="The reference is not a valid URL.") from None
    if not url.scheme or not url.netloc:
        raise Refused(400, why="The reference is neither a path nor a URL.")
    if url.scheme.lower() not in _DEFAULT_PORTS or named[0] != _host(request):
        raise Refused(502, why="The reference leads to another server.")
    return read_path(url.path.replace(" ", "%20") or "/", limits)


def _host(request: DavRequest) -> str:
    """The name by which the client called this server. Ports do not count: proxies and redirects change them."""
    try:
        return urlsplit("//" + request.header("host")).hostname or ""
    except ValueError:
        return ""

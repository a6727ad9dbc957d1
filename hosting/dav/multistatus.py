"""207 Multi-Status: what is asked of each resource, resolved only as far as it is asked, written as bytes in batches.

A short answer is one body with its length; a long one is streamed, made while it is sent. What fails before the first
batch is answered with its own status.

Standards: RFC 4918 §9.1, §13, §14; RFC 8144 §2.1 (Prefer: return=minimal).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import chain

from hosting.dav.context import Context
from hosting.dav.errors import XML_HEAD, Refused, status_line
from hosting.dav.names import DECLARATIONS, dav, element, split, tags, text, text_element
from hosting.dav.registry import LiveProperty, Registry
from hosting.dav.request import DavResponse, Headers, Streamed
from hosting.dav.resources import Resource, ResourceType
from hosting.dav.xml import Element
from storage.collections.properties import home
from storage.collections.values import CollectionId, Kind

XML_TYPE = ("Content-Type", 'application/xml; charset="utf-8"')
_BATCH = 64 << 10  # octets that are sent at a time
_HEAD = XML_HEAD + b"<D:multistatus " + DECLARATIONS + b">"
_TAIL = b"</D:multistatus>"

_OPEN = b"<D:response><D:href>"
_AFTER_HREF = b"</D:href>"
_CLOSE = b"</D:response>\n"
_FOUND = b"<D:propstat><D:prop>"
_FOUND_END = b"</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>"
_MISSING_END = b"</D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>"

HOME_KINDS: Mapping[ResourceType, Kind | None] = {
    ResourceType.PRINCIPAL: None,
    ResourceType.CALENDAR_HOME: Kind.CALENDAR,
    ResourceType.ADDRESS_BOOK_HOME: Kind.ADDRESS_BOOK,
    ResourceType.FILE_HOME: Kind.FOLDER,
}

Dead = Mapping[str, bytes]
_NONE: Dead = {}


class Asked(Enum):
    NAMED = auto()
    ALL = auto()
    NAMES_ONLY = auto()


# A property that was asked for: its name, how it is read (None: it is dead), and its tags.
_Step = tuple[str, "Callable[[Context, Resource], bytes | None] | None", bytes, bytes, bytes]


@dataclass(slots=True)
class Wanted:
    """Which properties a request asks for. `elements` are as they were sent, for those that have parameters."""

    asked: Asked
    names: tuple[str, ...] = ()  # NAMED; with ALL those that are included beside
    elements: Mapping[str, Element] = field(default_factory=dict)
    minimal: bool = False  # what is missing is not listed
    _plans: dict[ResourceType, tuple[list[_Step], bool]] = field(default_factory=dict)


def wanted_in(context: Context, body: Element | None) -> Wanted:
    """What a PROPFIND or a report asks for in DAV:prop, DAV:allprop, DAV:propname; nothing said is allprop.

    Raises Refused.
    """
    minimal = "minimal" in preferences(context)
    if body is None:
        return Wanted(Asked.ALL, minimal=minimal)
    if body.find(dav("propname")) is not None:
        return Wanted(Asked.NAMES_ONLY, minimal=minimal)
    named = body.find(dav("prop"))
    if body.find(dav("allprop")) is not None:
        asked, named = Asked.ALL, body.find(dav("include"))
    elif named is not None:
        asked = Asked.NAMED
    else:
        return Wanted(Asked.ALL, minimal=minimal)
    elements = {child.name: child for child in named.children} if named is not None else {}
    if named is not None and len(named.children) > context.services.limits.properties:
        raise Refused(400, why="The request asks for too many properties.")
    return Wanted(asked, tuple(elements), elements, minimal)


def preferences(context: Context) -> frozenset[str]:
    """Values of `return` in Prefer (RFC 7240 §4.2), and "depth-noroot" (RFC 8144 §3); Brief: t is minimal too."""
    found = set()
    for part in context.request.header("prefer").lower().split(","):
        name, _, value = part.partition(";")[0].strip().partition("=")
        if name.strip() == "return":
            found.add(value.strip().strip('"'))
        elif name.strip() == "depth-noroot":
            found.add("depth-noroot")
    if context.request.header("brief").lower() == "t":
        found.add("minimal")
    return frozenset(found)


class Multistatus:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def respond(
        self,
        context: Context,
        resource: Resource,
        wanted: Wanted,
        given: Mapping[str, bytes] = _NONE,
        dead: Dead | None = None,
    ) -> bytes:
        """DAV:response of one resource. `given` are contents of properties that the caller has made already.

        `dead` are the properties that clients keep with it, where the caller has them; None: they are looked for,
        if anything asked for may be among them.
        """
        if wanted.asked is not Asked.NAMED:
            return self._respond_all(context, resource, wanted, given, dead)
        steps, may_be_dead = self._plan(resource.type, wanted)
        if may_be_dead and dead is None:
            dead = dead_of(resource)
        found, absent = [], []
        for name, read, opened, closed, empty in steps:
            if name in given:
                value: bytes | None = given[name]
            elif read is not None:
                value = read(context, resource)
            else:
                value = None
                if dead and name in dead:
                    found.append(dead[name])
                    continue
            if value is None:
                absent.append(empty)
            else:
                found.append(opened + value + closed if value else empty)
        return _response(resource.href, found, absent, minimal=wanted.minimal)

    def _plan(self, type_: ResourceType, wanted: Wanted) -> tuple[list[_Step], bool]:
        made = wanted._plans.get(type_)
        if made is None:
            live = self._registry.live(type_)
            steps: list[_Step] = []
            for name in wanted.names:
                known = live.get(name)
                steps.append((name, known.read if known else None, *tags(name)))
            made = wanted._plans[type_] = (steps, any(step[1] is None for step in steps))
        return made

    def _respond_all(
        self, context: Context, resource: Resource, wanted: Wanted, given: Mapping[str, bytes], dead: Dead | None
    ) -> bytes:
        """Allprop: those of RFC 4918, dead ones, and those that are included; propname: the names of all."""
        if dead is None:
            dead = dead_of(resource)
        found, absent = [], []
        only_names = wanted.asked is Asked.NAMES_ONLY
        live = self._registry.live(resource.type)
        for name, each in live.items():
            if only_names or each.in_allprop or name in wanted.names:
                value = given.get(name)
                value = each.read(context, resource) if value is None else value
                if value is not None:
                    found.append(element(name, b"" if only_names else value))
        for name, whole in dead.items():
            if name not in live:
                found.append(element(name) if only_names else whole)
        for name in wanted.names:
            if name not in live and name not in dead:
                absent.append(element(name))
        return _response(resource.href, found, absent, minimal=wanted.minimal)

    def respond_members(
        self, context: Context, parent: Resource, members: Iterable[Resource], wanted: Wanted
    ) -> Iterator[bytes]:
        """One response for each object of a collection; the properties that clients keep with them in one look."""
        below: Mapping[int, Dead] | None = None
        for each in members:
            if below is None:
                below = {}
                if parent.share is None and self.needs_dead(each.type, wanted):
                    below = each.data.properties.get_below(parent.row.id)
            yield self.respond(context, each, wanted, dead=below.get(each.object.object_id, _NONE))

    def needs_dead(self, type_: ResourceType, wanted: Wanted) -> bool:
        """Whether what is asked for may be kept by clients."""
        return wanted.asked is not Asked.NAMED or self._plan(type_, wanted)[1]

    def live(self, type_: ResourceType, name: str) -> LiveProperty | None:
        return self._registry.live(type_).get(name)


def dead_of(resource: Resource) -> Dead:
    """The properties that clients keep with a resource."""
    place = kept_at(resource)
    return _NONE if place is None or resource.account is None else resource.data.properties.get(*place)


def kept_at(resource: Resource) -> tuple[CollectionId, int] | None:
    """Where they are kept; None: it has none, and of what is shared, and of what is in it, the owner's are his."""
    if resource.share is not None:
        return None
    if resource.stored is not None:
        return resource.object.collection_id, resource.object.object_id
    if resource.type in HOME_KINDS:
        return home(HOME_KINDS[resource.type])
    return (resource.collection.id, 0) if resource.collection is not None else None


def _response(href: bytes, found: list[bytes], absent: list[bytes], *, minimal: bool) -> bytes:
    parts = [_OPEN, href, _AFTER_HREF]
    if found or not absent or minimal:
        parts += [_FOUND, *found, _FOUND_END]
    if absent and not minimal:
        parts += [_FOUND, *absent, _MISSING_END]
    parts.append(_CLOSE)
    return b"".join(parts)


def status_response(href: bytes, status: int, condition: bytes = b"", why: str = "") -> bytes:
    """DAV:response of a resource that is told of as a whole (RFC 4918 §14.24)."""
    told = element(dav("error"), condition) if condition else b""
    if why:
        told += text_element(dav("responsedescription"), why)
    return _OPEN + href + _AFTER_HREF + element(dav("status"), status_line(status)) + told + _CLOSE


def propstat(names: Iterable[str], status: int, condition: bytes = b"") -> bytes:
    """Of properties without their values, as PROPPATCH answers."""
    empty = b"".join(element(name) for name in names)
    told = element(dav("error"), condition) if condition else b""
    return element(dav("propstat"), element(dav("prop"), empty) + element(dav("status"), status_line(status)) + told)


def response_of(href: bytes, propstats: bytes) -> bytes:
    return _OPEN + href + _AFTER_HREF + propstats + _CLOSE


def xml_response(status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> DavResponse:
    """An answer whose body is one document."""
    whole = XML_HEAD + body
    return DavResponse(status, [XML_TYPE, ("Content-Length", str(len(whole))), *headers], whole)


def answer(context: Context, parts: Iterable[bytes], headers: Iterable[tuple[str, str]] = ()) -> DavResponse:
    """207 of these responses (and what else stands in the document, as DAV:sync-token), short or streamed."""
    batches = _batches(chain((_HEAD,), parts, (_TAIL,)))
    first = next(batches)
    told: Headers = [XML_TYPE, *headers]
    if first.endswith(_TAIL):
        return DavResponse(207, [*told, ("Content-Length", str(len(first)))], first)
    return DavResponse(207, told, Streamed(chain((first,), batches), context.close))


def _batches(parts: Iterable[bytes]) -> Iterator[bytes]:
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


def described(name: str) -> bytes:
    """A property by its name, as supported-live-property-set and principal-search-property-set tell it."""
    return element(dav("prop"), element(name)) + element(dav("description"), text(split(name)[1]))

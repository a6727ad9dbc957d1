"""Objects with their content, as the reports of CalDAV and CardDAV give them: found by href, read in batches, streamed.

Standards: RFC 4791 §7.8, §7.9; RFC 6352 §8.6, §8.7 (multiget, 507 for what a limit left out).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from hosting.dav.context import Context
from hosting.dav.errors import Refused, refusal_of
from hosting.dav.locating import collections_in, locate
from hosting.dav.multistatus import Dead, Multistatus, Wanted, status_response
from hosting.dav.names import dav, element, text
from hosting.dav.paths import read_reference
from hosting.dav.private import shown
from hosting.dav.reach import Reach
from hosting.dav.resources import KEPT, TYPE_OF, Resource
from hosting.dav.xml import Element
from storage.collections.values import Stored
from storage.errors import CleanmailError, InvalidInput, LimitReached

_BOM = b"\xef\xbb\xbf"
_NONE: Dead = {}

# What of an object's octets is asked for. Raises Violated where it cannot be had.
Part = Callable[[bytes], bytes]


def octets_as_xml(data: bytes) -> bytes:
    """Octets of an object as the text of an element: each line end as it was stored (XML 1.0 §2.11).

    What is stored was refused if XML could not carry it (storage.icalendar.contentlines).
    """
    if data.startswith(_BOM):
        data = data[len(_BOM) :]
    if b"&" in data:
        data = data.replace(b"&", b"&amp;")
    if b"<" in data:
        data = data.replace(b"<", b"&lt;")
    if b"]]>" in data:
        data = data.replace(b"]]>", b"]]&gt;")
    return data.replace(b"\r", b"&#13;")


class Contents:
    """Reports of one protocol: `name` is the element that stands for content among the properties asked for."""

    def __init__(self, multistatus: Multistatus, name: str) -> None:
        self._multistatus = multistatus
        self.name = name

    def told(
        self, context: Context, parent: Resource, objects: Iterable[Stored], wanted: Wanted, part: Part | None
    ) -> Iterator[bytes]:
        """One response for each; those that were deleted meanwhile are left out if their content is asked for."""
        if part is None:
            yield from self._multistatus.respond_members(context, parent, parent.members(objects), wanted)
            return
        yield from self.told_read(context, parent, parent.data.objects.read_many(objects), wanted, part)

    def told_read(
        self,
        context: Context,
        parent: Resource,
        read: Iterable[tuple[Stored, bytes]],
        wanted: Wanted,
        part: Part | None,
    ) -> Iterator[bytes]:
        """The same of objects whose octets were read already."""
        below, base = None, parent.href
        for stored, data in read:
            member = parent.member(stored, base)
            if below is None:
                asked = parent.share is None and self._may_be_dead(member, wanted)
                below = parent.data.properties.get_below(parent.row.id) if asked else {}
            given = {}
            if part is not None:
                try:
                    given[self.name] = octets_as_xml(part(shown(parent, data)))
                except (InvalidInput, LimitReached) as error:
                    refused = refusal_of(error, member.href)
                    yield status_response(member.href, refused.status, refused.condition, refused.why)
                    continue
            dead = below.get(stored.object_id, _NONE)
            yield self._multistatus.respond(context, member, wanted, given, dead)

    def _may_be_dead(self, member: Resource, wanted: Wanted) -> bool:
        others = replace(wanted, names=tuple(each for each in wanted.names if each != self.name), _plans={})
        return self._multistatus.needs_dead(member.type, others)

    def multiget(
        self, context: Context, resource: Resource, hrefs: Iterable[str], wanted: Wanted, part: Part | None
    ) -> Iterator[bytes]:
        """Objects by their hrefs, each once, whatever its encoding; 404 for those that are not there.

        An href is answered as the client wrote it where nothing is found, else as this server writes it. Asked of one
        object, nothing else is given.
        """
        missing: list[tuple[str, int]] = []
        by_parent: dict[tuple[str, ...], dict[str, str]] = {}
        limits = context.services.limits
        for sent in hrefs:
            try:
                segments = read_reference(context.request, sent, limits).segments
            except Refused:
                missing.append((sent, 404))
                continue
            if segments and (resource.stored is None or segments == resource.segments):
                by_parent.setdefault(segments[:-1], {}).setdefault(segments[-1], sent)
            else:
                missing.append((sent, 404))
        for segments, named in by_parent.items():
            here = collection_of(resource) if resource.stored else resource
            parent = here if segments == here.segments else None
            if parent is None:
                try:
                    parent = locate(context, segments)
                    context.require(parent, Reach.READ)
                except (Refused, CleanmailError) as refused:
                    status = refused.status if isinstance(refused, Refused) else refusal_of(refused).status
                    missing += [(sent, status) for sent in named.values()]
                    continue
            if parent.type not in KEPT:
                missing += [(sent, 404) for sent in named.values()]
                continue
            yield from self._named(context, parent, named, wanted, part)
        for sent, status in missing:
            yield status_response(text(sent.strip()), status)

    def _named(
        self, context: Context, parent: Resource, named: dict[str, str], wanted: Wanted, part: Part | None
    ) -> Iterator[bytes]:
        found: list[Stored] = []
        with suppress(InvalidInput):
            found = list(parent.data.objects.find_many(parent.row.id, named))
        yield from self.told(context, parent, found, wanted, part)
        there = {stored.name for stored in found}
        for name, sent in named.items():
            if name not in there:
                yield status_response(text(sent.strip()), 404)


def scope(context: Context, resource: Resource) -> Iterator[tuple[Resource, Stored | None]]:
    """The collections that a query is about; with an object, only that one of its members.

    A query on a calendar or an address book means what is in it whatever Depth says, as every client and Apple's server
    mean it, though with a depth of 0 it would be about the collection alone (RFC 3253 §3.6). A home is searched with
    Depth 1 or infinity.
    """
    depth = context.request.header("depth").strip().lower()
    if resource.stored is not None:
        yield collection_of(resource), resource.object
    elif resource.type in KEPT:
        yield resource, None
    elif depth in ("1", "infinity"):
        for each in collections_in(context, resource):
            yield each, None


def collection_of(member: Resource) -> Resource:
    """The collection that an object lies in."""
    return replace(member, type=TYPE_OF[member.row.kind], segments=member.segments[:-1], stored=None)


def hrefs_of(report: Element) -> list[str]:
    """What a multiget asks for. Raises Refused."""
    found = [child.text for child in report.all(dav("href"))]
    if not found:
        raise Refused(400, why="The request names no object.")
    return found


def cut(resource: Resource) -> bytes:
    """The response that tells that a limit left something out (RFC 6352 §8.6.1, RFC 5323 §2.3)."""
    return status_response(resource.href, 507, element(dav("number-of-matches-within-limits")))

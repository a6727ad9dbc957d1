"""MKCOL, plain and extended, and what MKCALENDAR shares with it: collections made with their properties, or not at all.

Where something is already, a plain MKCOL is answered 405 as WebDAV says, and one with properties as a MKCALENDAR is.

Standards: RFC 4918 §9.3; RFC 5689 §3, §5 (extended MKCOL); RFC 4791 §5.3.1; RFC 8144 §2.3 (return=minimal).
"""

from __future__ import annotations

from typing import Any, cast

from hosting.dav.bodies import xml_body
from hosting.dav.context import Context
from hosting.dav.errors import XML_HEAD, Refused, precondition
from hosting.dav.locating import Place, place, requested, with_folder
from hosting.dav.locks import check_if, check_members_unlocked
from hosting.dav.methods.proppatch import Changes, Checking
from hosting.dav.multistatus import XML_TYPE, preferences, xml_response
from hosting.dav.names import DECLARATIONS, dav, split, tags
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse, empty
from hosting.dav.resources import TYPE_OF, Resource, ResourceType
from hosting.dav.xml import Element
from storage.collections.values import Kind, NewCollection

_HOME_OF = {
    Kind.CALENDAR: ResourceType.CALENDAR_HOME,
    Kind.ADDRESS_BOOK: ResourceType.ADDRESS_BOOK_HOME,
}
_CREATED = [("Content-Length", "0"), ("Cache-Control", "no-cache")]


class Making:
    """Makes collections; `hosting.dav.calendars` uses it for MKCALENDAR."""

    def __init__(self, registry: Registry) -> None:
        self._checking = Checking(registry)

    def free_place(self, context: Context) -> Place:
        """Where the collection would be. Raises Refused: 405 where something is, 403, 409, 412, 423."""
        where = place(context, requested(context))
        if where.found is not None:
            raise Refused(405, why="Something is there already.")
        context.require(where.parent, Reach.BIND)
        check_if(context, where)
        check_members_unlocked(context, where.parent)
        return where

    def make(self, context: Context, where: Place, kind: Kind, body: Element | None, answer_name: str) -> DavResponse:
        """201, or 403 with what became of each property under `answer_name`."""
        parent = where.parent
        fits = (
            parent.type in (ResourceType.FOLDER, ResourceType.FILE_HOME)
            if kind is Kind.FOLDER
            else parent.type is _HOME_OF.get(kind)
        )
        if not fits:
            raise precondition(403, _location_condition(kind), why="Nothing of this kind can be made here.")
        future = Resource(TYPE_OF[kind], where.segments, parent.reach, parent.person, parent.owner, parent.account)
        changes = Changes() if body is None else self._checking.changes(context, future, body, creating=True)
        if changes.failed:
            opened, closed, _ = tags(answer_name)
            told = opened[:-1] + b" " + DECLARATIONS + b">" + changes.propstats() + closed
            return xml_response(403, told)
        parent = with_folder(context, parent)
        fields = cast(Any, changes.fields)
        parent_id = int(parent.row.id) if kind is Kind.FOLDER else 0
        parent.data.collections.create(NewCollection(kind, where.name, parent_id, **fields, properties=changes.put))
        for apply in changes.apply:
            apply()
        if body is not None and "minimal" not in preferences(context):
            opened, closed, _ = tags(answer_name)
            whole = XML_HEAD + opened[:-1] + b" " + DECLARATIONS + b">" + changes.propstats() + closed
            return DavResponse(201, [XML_TYPE, ("Content-Length", str(len(whole))), _CREATED[1]], whole)
        return empty(201, _CREATED[1:])


def _location_condition(kind: Kind) -> str:
    if kind is Kind.CALENDAR:
        return "{urn:ietf:params:xml:ns:caldav}calendar-collection-location-ok"
    if kind is Kind.ADDRESS_BOOK:
        return "{urn:ietf:params:xml:ns:carddav}addressbook-collection-location-ok"
    return dav("valid-resourcetype")


class Mkcol:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._making = Making(registry)

    def __call__(self, context: Context) -> DavResponse:
        request = context.request
        media_type = request.header("content-type").lower()
        if request.body.strip() and media_type and "xml" not in media_type:
            raise Refused(415, why="The body is not what MKCOL takes.")
        if request.body.strip() and place(context, requested(context)).found is not None:
            raise precondition(403, dav("resource-must-be-null"), why="Something is there already.")
        where = self._making.free_place(context)
        body = xml_body(context, dav("mkcol"), optional=True)
        if body is not None:
            for check in self._registry.before_making:
                check(body)
        return self._making.make(context, where, self._kind(body), body, dav("mkcol-response"))

    def _kind(self, body: Element | None) -> Kind:
        """What is asked for with DAV:resourcetype (RFC 5689 §3); a folder, where nothing is."""
        if body is None:
            return Kind.FOLDER
        asked = {
            element.name
            for step in body.all(dav("set"))
            for holder in step.all(dav("prop"))
            for type_ in holder.all(dav("resourcetype"))
            for element in type_
        }
        more = asked - {dav("collection")}
        if not more:
            return Kind.FOLDER
        kinds = {self._registry.creatable.get(name) for name in more}
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind is None:
            names = ", ".join(sorted(split(name)[1] for name in more))[:200]
            raise precondition(403, dav("valid-resourcetype"), why=f"No collection is made of this type: {names}.")
        return kind

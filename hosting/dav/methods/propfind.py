"""PROPFIND: properties of a resource, or of it and its members.

The answer is made while it is sent. Infinite depth is answered where the tree is small, and refused elsewhere
(RFC 4918 §9.1.1).

Standards: RFC 4918 §9.1; RFC 8144 §2.1, §3 (depth-noroot).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hosting.dav.bodies import xml_body
from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.locating import collections_in, locate, objects_in, requested
from hosting.dav.locks import check_if
from hosting.dav.multistatus import Multistatus, Wanted, answer, preferences, wanted_in
from hosting.dav.names import dav
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse
from hosting.dav.resources import A_HOME, KEPT, Resource, ResourceType
from hosting.dav.xml import Element

DEPTHS = ("0", "1", "infinity")
# What a client asks for at the root: one that was led here may have lost its question on the way (requests, niquests).
_WHO = dav("current-user-principal")
_ASKING = frozenset({dav("prop"), dav("propname"), dav("allprop")})


def depth_of(context: Context, default: str) -> str:
    """The Depth header. Raises Refused."""
    depth = context.request.header("depth").strip().lower() or default
    if depth not in DEPTHS:
        raise Refused(400, why="The Depth header is 0, 1 or infinity.")
    return depth


def _check_asks(body: Element) -> None:
    """One of prop, propname and allprop, the last with or without include (§14.20, §17)."""
    named = [each.name for each in body if each.name in _ASKING]
    if len(named) != 1 or (body.find(dav("include")) is not None and named != [dav("allprop")]):
        raise Refused(400, why="A PROPFIND asks for prop, propname or allprop.")


class Propfind:
    def __init__(self, registry: Registry) -> None:
        self._multistatus = Multistatus(registry)

    def __call__(self, context: Context) -> DavResponse:
        resource = locate(context, requested(context).segments)
        context.require(resource, Reach.READ)
        check_if(context, resource)
        depth = depth_of(context, "infinity")
        body = xml_body(context, dav("propfind"), optional=True)
        if body is not None:
            _check_asks(body)
        wanted = wanted_in(context, body)
        if body is None and resource.type is ResourceType.ROOT:
            wanted = replace(wanted, names=(_WHO,))
        told = preferences(context)
        applied = [("Preference-Applied", "return=minimal")] if "minimal" in told else []
        if depth == "infinity" and resource.is_collection:
            self._check_small(context, resource)
        parts = self._responses(context, resource, wanted, depth, root="depth-noroot" not in told or depth == "0")
        return answer(context, parts, applied)

    def _responses(
        self, context: Context, resource: Resource, wanted: Wanted, depth: str, *, root: bool
    ) -> Iterator[bytes]:
        if root:
            yield self._multistatus.respond(context, resource, wanted)
        if depth == "0" or not resource.is_collection:
            return
        pending = [resource]
        while pending:
            at = pending.pop()
            inside = collections_in(context, at)
            dead = self._dead_of(inside, wanted)
            for each in inside:
                known = dead.get(each.row.id, {}) if dead is not None and each.collection is not None else None
                yield self._multistatus.respond(context, each, wanted, dead=known)
            yield from self._multistatus.respond_members(context, at, objects_in(at), wanted)
            if depth == "infinity":
                pending.extend(reversed(inside))

    def _dead_of(self, inside: list[Resource], wanted: Wanted) -> dict[int, dict[str, bytes]] | None:
        """What clients keep with the collections in a home, in one look; None: they are looked at one by one."""
        own = [each for each in inside if each.type in KEPT and each.share is None]
        if len(own) < 2 or len(own) != len(inside):
            return None
        if not any(self._multistatus.needs_dead(each.type, wanted) for each in own):
            return {}
        return own[0].data.properties.get_many(each.row.id for each in own)

    def _check_small(self, context: Context, resource: Resource) -> None:
        """Raises Refused with DAV:propfind-finite-depth."""
        if resource.type in A_HOME or resource.type in KEPT:
            count, pending = 0, [resource]
            while pending:
                at = pending.pop()
                inside = collections_in(context, at)
                count += len(inside) + (at.collection.objects if at.collection is not None else 0)
                if count > context.services.limits.infinite_members:
                    break
                pending.extend(inside)
            else:
                return
        raise precondition(403, dav("propfind-finite-depth"), why="Ask for one level after the other.")

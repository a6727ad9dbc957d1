"""POST: for scheduling outboxes and sharing, by the types of resource and body (RFC 6638 §5, RFC 9110 §9.3.3)."""

from __future__ import annotations

from hosting.dav.context import Context
from hosting.dav.errors import Refused
from hosting.dav.locating import locate, requested
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse


class PostMethod:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __call__(self, context: Context) -> DavResponse:
        resource = locate(context, requested(context).segments)
        media_type = context.request.header("content-type").partition(";")[0].strip().lower()
        here = [each for each in self._registry.posts if resource.type in each.types]
        for each in here:
            if media_type in each.media_types or "*" in each.media_types:
                return each.answer(context, resource)
        if here:
            raise Refused(415, why="The body is not what is taken here.")
        allowed = ", ".join(self._registry.methods_of(resource.type))
        raise Refused(405, why="Nothing is taken by POST here.", headers=(("Allow", allowed),))

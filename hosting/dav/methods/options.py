"""OPTIONS: what can be done with a resource, and which extensions there are (RFC 4918 §9.1, §10.1, §18)."""

from __future__ import annotations

from hosting.dav.context import Context
from hosting.dav.errors import Refused
from hosting.dav.locating import locate, requested
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse, empty

_OF_NOTHING = "OPTIONS, PUT, MKCOL, MKCALENDAR, LOCK"  # where nothing is, or nothing that may be told


class Options:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __call__(self, context: Context) -> DavResponse:
        path = requested(context)
        try:
            allowed = ", ".join(self._registry.methods_of(locate(context, path.segments).type))
        except Refused:
            allowed = _OF_NOTHING
        classes = ", ".join(self._registry.classes)
        return empty(200, [("Allow", allowed), ("DAV", classes), ("MS-Author-Via", "DAV")])

"""Puts the DAV layer together: the core of WebDAV and what extends it, in one registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hosting.dav import principal_reports, properties, sync_report
from hosting.dav.handler import DavHandler
from hosting.dav.methods.deleting import Delete
from hosting.dav.methods.getting import Get
from hosting.dav.methods.locking import lock, unlock
from hosting.dav.methods.making import Mkcol
from hosting.dav.methods.options import Options
from hosting.dav.methods.posting import PostMethod
from hosting.dav.methods.propfind import Propfind
from hosting.dav.methods.proppatch import Proppatch
from hosting.dav.methods.putting import PutMethod
from hosting.dav.methods.reporting import ReportMethod
from hosting.dav.methods.transferring import Transfer
from hosting.dav.registry import Registry
from hosting.dav.resources import A_HOME, KEPT, OBJECTS, ResourceType
from hosting.dav.services import DavServices

_ROWS = KEPT | OBJECTS
_BOXES = frozenset({ResourceType.INBOX, ResourceType.OUTBOX})
_MOVED = _ROWS - _BOXES


def core_registry() -> Registry:
    """WebDAV alone; the properties that tell what else there is come last, with `finish`."""
    registry = Registry()
    registry.method("OPTIONS", Options(registry))
    registry.method("PROPFIND", Propfind(registry))
    registry.method("PROPPATCH", Proppatch(registry), KEPT | OBJECTS | A_HOME | {ResourceType.PRINCIPAL})
    registry.method("REPORT", ReportMethod(registry))
    registry.method("GET", Get(registry), OBJECTS)
    registry.method("HEAD", Get(registry), OBJECTS)
    registry.method("PUT", PutMethod(registry), OBJECTS)
    registry.method("POST", PostMethod(registry), ())
    registry.method("DELETE", Delete(registry), _ROWS - _BOXES)
    registry.method("MKCOL", Mkcol(registry), ())
    registry.method("COPY", Transfer(registry, move=False), _MOVED)
    registry.method("MOVE", Transfer(registry, move=True), _MOVED)
    registry.method("LOCK", lock, _ROWS)
    registry.method("UNLOCK", unlock, _ROWS)
    registry.dav_class("1", "2", "3", "access-control", "extended-mkcol")
    principal_reports.register(registry)
    sync_report.register(registry)
    return registry


def make_handler(services: DavServices, extensions: Iterable[Callable[[Registry], None]] = ()) -> DavHandler:
    """`extensions` put CalDAV, CardDAV, scheduling, sharing into the registry."""
    registry = core_registry()
    for extend in extensions:
        extend(registry)
    properties.register(registry)
    return DavHandler(services, registry)

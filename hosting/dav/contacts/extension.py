"""Puts CardDAV into the registry: what `hosting.dav.assembly` calls."""

from __future__ import annotations

from hosting.dav.contacts import properties, whole
from hosting.dav.contacts.bodies import CardBodies
from hosting.dav.contacts.reports import CardReports
from hosting.dav.names import carddav
from hosting.dav.registry import Registry
from hosting.dav.resources import ResourceType
from storage.collections.values import Kind


def register(registry: Registry) -> None:
    registry.dav_class("addressbook")
    registry.resource_types[ResourceType.ADDRESS_BOOK] = (carddav("addressbook"),)
    registry.creatable[carddav("addressbook")] = Kind.ADDRESS_BOOK
    registry.bodies[Kind.ADDRESS_BOOK] = CardBodies()
    registry.downloads[ResourceType.ADDRESS_BOOK] = whole.download
    for method in ("GET", "HEAD"):
        registry.method_types[method] |= {ResourceType.ADDRESS_BOOK}
    properties.register(registry)
    CardReports(registry).register(registry)

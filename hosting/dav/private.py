"""What sharees see of calendar objects that their owner calls private: that he is busy, and when.

CLASS is the owner's word, so whoever else may write into the calendar cannot change or remove such an object: he would
put what he was shown in place of what he was not.

Raises: Violated (what is stored cannot be read), Refused (403).
Standards: RFC 5545 §3.8.1.3.
"""

from __future__ import annotations

from hosting.dav.context import Context
from hosting.dav.errors import needs
from hosting.dav.reach import Reach
from hosting.dav.resources import Resource, ResourceType
from storage.collections.values import Kind
from storage.itip.privacy import as_seen_by_others


def shown(resource: Resource, data: bytes) -> bytes:
    """The octets of an object of this calendar, or this object, as who asks may see them."""
    if resource.share is None or resource.row.kind is not Kind.CALENDAR or not may_be_private(data):
        return data
    return as_seen_by_others(data)


def may_be_private(data: bytes) -> bool:
    """False: it has no CLASS, however it is folded."""
    for fold in (b"\r\n ", b"\r\n\t", b"\n ", b"\n\t"):
        if fold in data:
            data = data.replace(fold, b"")
    return b"CLASS" in data.upper()


def check_changeable(context: Context, resource: Resource) -> None:
    """Before an object is overwritten, moved or removed."""
    if resource.share is None or resource.type is not ResourceType.EVENT:
        return
    data = resource.data.objects.read(resource.object)
    if may_be_private(data) and as_seen_by_others(data) is not data:
        raise needs(resource.href, Reach.WRITE_CONTENT)

"""What may be put into an address book, and what a GET is given of it: vCard 3.0 or 4.0, as Accept asks for.

Standards: RFC 6352 §5.1, §6.3.2; RFC 6350 §10.1 (the media type and its version); RFC 9110 §12.5.1 (Accept).
"""

from __future__ import annotations

from hosting.dav.context import Context
from hosting.dav.resources import Resource
from storage.collections.conditions import Namespace, Violated
from storage.collections.values import Content
from storage.vcard.card import VERSIONS, read_card
from storage.vcard.content import card_content
from storage.vcard.convert import converted

_MEDIA_TYPES = ("", "text/vcard", "text/x-vcard", "text/directory")
_PARTS_MAX = 50  # of an Accept header


class CardBodies:
    """See `hosting.dav.registry.Bodies`."""

    def checked(self, context: Context, collection: Resource, name: str, data: bytes, content_type: str) -> Content:
        media_type, _, parameters = content_type.partition(";")
        if media_type.strip().lower() not in _MEDIA_TYPES or not _is_card(parameters):
            raise Violated(
                "supported-address-data", "An address book keeps text/vcard, version 3.0 or 4.0.", Namespace.CARDDAV
            )
        return card_content(data)

    def served(self, context: Context, resource: Resource, data: bytes) -> tuple[bytes, str]:
        media_type = resource.object.content_type
        version = version_accepted(context.request.header("accept"))
        if version is None:
            return data, media_type
        try:
            stored = read_card(data).version
            data = data if stored == version else converted(data, version)
        except Violated:  # what cannot be converted is served as it is
            return data, media_type
        return data, f"text/vcard; charset=utf-8; version={version}"


def _is_card(parameters: str) -> bool:
    """Whether the parameters of a media type, if they say something, say vCard in UTF-8."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        name, value = name.strip().lower(), value.strip().strip('"').lower()
        if name == "charset" and value not in ("utf-8", "utf8", "us-ascii"):
            return False
        if (name == "profile" and value != "vcard") or (name == "version" and value not in VERSIONS):
            return False
    return True


def version_accepted(accept: str) -> str | None:
    """The version of vCard that an Accept header prefers by name; None: it names none, or takes anything as gladly."""
    best, version = 0.0, None
    for part in accept.split(",")[:_PARTS_MAX]:
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_type not in ("text/vcard", "text/*", "*/*"):
            continue
        named, quality = None, 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            value = value.strip().strip('"')
            if name.strip() == "version" and value in VERSIONS:
                named = value
            elif name.strip() == "q":
                quality = _quality(value)
        if quality > best:
            best, version = quality, named
    return version


def _quality(value: str) -> float:
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0

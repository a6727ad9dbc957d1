"""Preconditions of WebDAV and its extensions that a request did not meet, as the answer names them (RFC 4918 §16).

Raised by what checks bodies and by the stores; hosting.dav answers 403 or 409 with the element, or 412.
"""

from __future__ import annotations

from enum import StrEnum

from storage.errors import Conflict, InvalidInput


class Namespace(StrEnum):
    DAV = "DAV:"
    CALDAV = "urn:ietf:params:xml:ns:caldav"
    CARDDAV = "urn:ietf:params:xml:ns:carddav"


class Violated(InvalidInput):
    """`condition` is the element's local name, e.g. "valid-calendar-data"; `name` the object that is in the way."""

    def __init__(
        self, condition: str, why: str, namespace: Namespace = Namespace.CALDAV, *, name: str | None = None
    ) -> None:
        super().__init__(why)
        self.condition = condition
        self.namespace = namespace
        self.name = name


class PreconditionFailed(Conflict):
    """If-Match, If-None-Match or If-Schedule-Tag-Match does not hold (RFC 9110 §13.1): 412."""

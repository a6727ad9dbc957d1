"""Preconditions of WebDAV and its extensions that a request did not meet, as the answer names them (RFC 4918 §16).

Raised by what checks bodies and by the stores; hosting.dav answers 403 or 409 with the element, or 412.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a request demands of what is there, as `put` and `delete` check it in the writing transaction."""

    if_match: tuple[str, ...] | None = None  # ETags with their quotes; "*": anything
    if_none_match: tuple[str, ...] | None = None  # likewise; it must be none of these
    if_schedule_tag: str | None = None  # RFC 6638 §8.3

    def check(self, etag: str | None, schedule_tag: str | None) -> None:
        """`etag` is None if nothing is there. Raises PreconditionFailed."""
        if self.if_match is not None and (etag is None or not ("*" in self.if_match or etag in self.if_match)):
            raise PreconditionFailed("It was changed meanwhile: the entity tag does not match.")
        if self.if_none_match is not None and etag is not None:
            if "*" in self.if_none_match:
                raise PreconditionFailed("Something is there already under this name.")
            if etag in self.if_none_match:
                raise PreconditionFailed("The entity tag matches.")
        if self.if_schedule_tag is not None and schedule_tag != self.if_schedule_tag:
            raise PreconditionFailed("It was changed meanwhile: the schedule tag does not match.")


ANYTHING = Conditions()


def conditions_of(
    if_match: tuple[str, ...] | None, if_none_match: bool | tuple[str, ...], if_schedule_tag: str | None
) -> Conditions:
    """From what a request says; `if_none_match` True stands for "*", False for nothing."""
    none = if_none_match if isinstance(if_none_match, tuple) else ("*",) if if_none_match else None
    return Conditions(if_match, none, if_schedule_tag)

"""Subscriptions: MKCOL with the type CS:subscribed and CS:source, as Apple's clients make them.

What is made is a calendar that the server fills and its owner reads, so every client shows it, not those alone that
fetch by themselves. Where it comes from, and what went wrong with it, its owner sees; sharees do not.

Raises: Refused (400, 403), InvalidInput, LimitReached.
"""

from __future__ import annotations

from collections.abc import Callable

from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.names import calendarserver, dav, element, text, text_element
from hosting.dav.registry import Edit, LiveProperty, Registry
from hosting.dav.resources import Resource, ResourceType
from hosting.dav.xml import Element
from storage.collections.feeds import SOURCE, Feed
from storage.collections.values import Kind

_CALENDARS = frozenset({ResourceType.CALENDAR})
_SUBSCRIBED, _SOURCE = calendarserver("subscribed"), calendarserver("source")
_STATE = "{urn:cleanmail:dav}feed-state"


def register(registry: Registry) -> None:
    registry.dav_class("calendarserver-subscribed")
    registry.creatable[_SUBSCRIBED] = Kind.CALENDAR
    registry.before_making.append(_check)
    registry.properties(
        LiveProperty(_SOURCE, _CALENDARS, _source, _change_source, _set_source),
        LiveProperty(_STATE, _CALENDARS, _state),
    )


def _asked(body: Element) -> tuple[bool, bool]:
    """Whether a subscription is asked for, and whether a source is named."""
    subscribed = source = False
    for step in body.all(dav("set")):
        for holder in step.all(dav("prop")):
            source = source or holder.find(_SOURCE) is not None
            for type_ in holder.all(dav("resourcetype")):
                subscribed = subscribed or type_.find(_SUBSCRIBED) is not None
    return subscribed, source


def _check(body: Element) -> None:
    subscribed, source = _asked(body)
    if subscribed and not source:
        raise precondition(403, dav("valid-resourcetype"), why="A subscription says where it comes from.")


def _feed(resource: Resource) -> Feed | None:
    if resource.row.source != SOURCE or resource.share is not None:
        return None
    return resource.data.feeds.find(resource.row.id)


def _source(_: Context, resource: Resource) -> bytes | None:
    feed = _feed(resource)
    return None if feed is None else text_element(dav("href"), feed.url)


def _state(_: Context, resource: Resource) -> bytes | None:
    """How it went the last time, for people and for programs."""
    feed = _feed(resource)
    if feed is None:
        return None
    told = b"".join(
        element("{urn:cleanmail:dav}" + name, text(str(value)))
        for name, value in (("fetched", feed.fetched), ("failures", feed.failures), ("problem", feed.problem))
        if value not in (None, "")
    )
    return told


def _url(value: Element | None) -> str:
    found = None if value is None else (value.content(dav("href")) or value.text.strip())
    if not found:
        raise Refused(403, why="A subscription says where it comes from.")
    return found


def _set_source(_: Context, resource: Resource, value: Element | None) -> Edit:
    """Of a calendar that is being made."""
    feeds = resource.data.feeds
    url = feeds.checked(_url(value))
    feeds.check_room()
    return Edit({"source": SOURCE, "transparent": True}, _putting(resource, url))


def _change_source(_: Context, resource: Resource, value: Element | None) -> Edit:
    if resource.row.source != SOURCE or resource.share is not None:
        raise precondition(403, dav("cannot-modify-protected-property"), why="This calendar comes from nowhere else.")
    url = resource.data.feeds.checked(_url(value))
    return Edit({}, _putting(resource, url))


def _putting(resource: Resource, url: str) -> Callable[[], None]:
    def put() -> None:
        account = resource.data
        made = resource.collection or account.collections.find(Kind.CALENDAR, resource.segments[-1])
        account.feeds.put(made.id, url)

    return put

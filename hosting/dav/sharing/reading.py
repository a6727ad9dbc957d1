"""What POSTs about sharing say: pure, from XML to values.

Standards: caldav-sharing (CalendarServer) §5; draft-pot-webdav-resource-sharing-04 §4.

Raises: Refused (400).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hosting.dav.errors import Refused
from hosting.dav.names import calendarserver, dav
from hosting.dav.xml import Element

ENTRIES_MAX = 500  # people that one request names


@dataclass(frozen=True, slots=True)
class Wish:
    """What one person is to be allowed; `may_write` None: nothing any more."""

    href: str = field(repr=False)
    may_write: bool | None
    summary: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A sharee's answer to an invitation to what lies at `shared`."""

    shared: str = field(repr=False)
    accepted: bool
    summary: str = field(default="", repr=False)


def read_share(body: Element) -> list[Wish]:
    """CS:share."""
    wishes = []
    for each in body:
        if each.name == calendarserver("remove"):
            wishes.append(Wish(_href(each), None))
        elif each.name == calendarserver("set"):
            writes = each.find(calendarserver("read-write")) is not None
            if not writes and each.find(calendarserver("read")) is None:
                raise Refused(400, why="An invitation is to read, or to read and write.")
            wishes.append(Wish(_href(each), writes, each.content(calendarserver("summary")) or ""))
    return _counted(wishes)


def read_share_resource(body: Element) -> list[Wish]:
    """DAV:share-resource."""
    wishes = []
    for each in body.all(dav("sharee")):
        access = each.find(dav("share-access"))
        asked = {child.name for child in access} if access is not None else set()
        if len(asked) != 1 or not asked <= {dav("no-access"), dav("read"), dav("read-write")}:
            raise Refused(400, why="A sharee has no access, reads, or reads and writes.")
        may = None if dav("no-access") in asked else dav("read-write") in asked
        wishes.append(Wish(_href(each), may, each.content(dav("comment")) or ""))
    return _counted(wishes)


def read_reply(body: Element) -> Reply:
    """CS:invite-reply."""
    host = body.find(calendarserver("hosturl"))
    accepted = body.find(calendarserver("invite-accepted")) is not None
    if host is None or accepted == (body.find(calendarserver("invite-declined")) is not None):
        raise Refused(400, why="An answer accepts or declines, and names what was shared.")
    return Reply(_href(host), accepted, body.content(calendarserver("summary")) or "")


def _href(element: Element) -> str:
    found = element.content(dav("href"))
    if not found:
        raise Refused(400, why="It names nobody.")
    return found


def _counted(wishes: list[Wish]) -> list[Wish]:
    if not wishes:
        raise Refused(400, why="Nobody is named to share with.")
    if len(wishes) > ENTRIES_MAX:
        raise Refused(400, why=f"At most {ENTRIES_MAX} may be named at once.")
    return wishes

"""What shared collections say of themselves to those who own them and those who read them.

A sharee sees the owner and himself, not who else reads it.

Standards: caldav-sharing §5.2 (CS:invite, CS:allowed-sharing-modes, CS:shared-url, CS:notification-URL);
draft-pot-webdav-resource-sharing-04 §4.4 (DAV:invite, DAV:share-access, DAV:share-resource-uri).
"""

from __future__ import annotations

from collections.abc import Iterable

from hosting.dav.context import Context
from hosting.dav.locating import NOTIFICATIONS
from hosting.dav.names import calendarserver, dav, element, text, text_element
from hosting.dav.registry import LiveProperty, Registry
from hosting.dav.resources import Person, Resource, ResourceType, href
from hosting.dav.sharing.shares import DirectoryShares
from storage.directory.shares import Answer, ShareRow

SHARED = frozenset({ResourceType.CALENDAR, ResourceType.ADDRESS_BOOK})
_ANSWERS = {
    Answer.INVITED: "invite-noresponse",
    Answer.ACCEPTED: "invite-accepted",
    Answer.DECLINED: "invite-declined",
}


def organizer(context: Context, owner: Person) -> bytes:
    return element(
        calendarserver("organizer"),
        text_element(dav("href"), f"mailto:{owner.login}")
        + text_element(calendarserver("common-name"), context.name_of(owner)),
    )


def access(row: ShareRow) -> bytes:
    return element(calendarserver("access"), element(calendarserver("read-write" if row.may_write else "read")))


def answer_element(row: ShareRow, name: str) -> bytes:
    """`name` "{namespace}" of the protocol."""
    return element(name + _ANSWERS[row.state])


class SharingProperties:
    def __init__(self, shares: DirectoryShares) -> None:
        self._shares = shares

    def register(self, registry: Registry) -> None:
        for each in SHARED:
            registry.more_types[each] = self._types
        registry.properties(
            LiveProperty(calendarserver("invite"), SHARED, self._invite),
            LiveProperty(calendarserver("allowed-sharing-modes"), SHARED, _modes),
            LiveProperty(calendarserver("shared-url"), SHARED, _shared_url),
            LiveProperty(dav("invite"), SHARED, self._dav_invite),
            LiveProperty(dav("share-access"), SHARED, self._share_access),
            LiveProperty(dav("share-resource-uri"), SHARED, _uri),
            LiveProperty(calendarserver("notification-URL"), frozenset({ResourceType.PRINCIPAL}), _notification_url),
        )

    def _rows(self, context: Context, resource: Resource) -> list[ShareRow]:
        """With whom it is shared, as far as that is for who asks."""
        owner = resource.owner
        assert owner is not None
        rows = self._shares.rows(owner.tenant_id).of_collection(owner.account_id, resource.row.id)
        return [row for row in rows if resource.share is None or row.sharee_id == context.me.account_id]

    def _types(self, context: Context, resource: Resource) -> bytes:
        if resource.share is not None:
            return element(calendarserver("shared"))
        return element(calendarserver("shared-owner")) if self._rows(context, resource) else b""

    def _invite(self, context: Context, resource: Resource) -> bytes | None:
        rows = self._rows(context, resource)
        if not rows:
            return None
        assert resource.owner is not None
        return organizer(context, resource.owner) + b"".join(self._user(context, row) for row in rows)

    @staticmethod
    def _user(context: Context, row: ShareRow) -> bytes:
        person = context.person(row.sharee_id)
        told = text_element(dav("href"), f"mailto:{person.login}")
        told += text_element(calendarserver("common-name"), context.name_of(person)) + access(row)
        if row.summary:
            told += text_element(calendarserver("summary"), row.summary)
        return element(calendarserver("user"), told + answer_element(row, calendarserver("")))

    def _dav_invite(self, context: Context, resource: Resource) -> bytes | None:
        return b"".join(_sharees(context, self._rows(context, resource)))

    def _share_access(self, context: Context, resource: Resource) -> bytes | None:
        if resource.share is not None:
            return element(dav("read-write" if resource.share.may_write else "read"))
        return element(dav("shared-owner" if self._rows(context, resource) else "not-shared"))


def _sharees(context: Context, rows: Iterable[ShareRow]) -> Iterable[bytes]:
    for row in rows:
        person = context.person(row.sharee_id)
        yield element(
            dav("sharee"),
            text_element(dav("href"), f"mailto:{person.login}")
            + element(dav("principal"), element(dav("href"), href(person.segments, is_collection=True)))
            + element(dav("prop"), text_element(dav("displayname"), context.name_of(person)))
            + element(dav("share-access"), element(dav("read-write" if row.may_write else "read")))
            + (text_element(dav("comment"), row.summary) if row.summary else b"")
            + answer_element(row, dav("")),
        )


def _modes(_: Context, resource: Resource) -> bytes | None:
    return element(calendarserver("can-be-shared")) if resource.share is None else None


def _home(resource: Resource) -> str:
    return "calendars" if resource.type is ResourceType.CALENDAR else "addressbooks"


def original(resource: Resource) -> bytes:
    """Where it is at its owner's."""
    assert resource.owner is not None
    return href((_home(resource), resource.owner.login, resource.row.name), is_collection=True)


def _shared_url(_: Context, resource: Resource) -> bytes | None:
    return element(dav("href"), original(resource)) if resource.share is not None else None


def _uri(_: Context, resource: Resource) -> bytes | None:
    """The same for all who have it, and it tells nothing."""
    assert resource.owner is not None
    return element(dav("href"), text(f"urn:cleanmail:shared:{resource.owner.account_id}-{resource.row.id}"))


def _notification_url(context: Context, resource: Resource) -> bytes | None:
    if resource.person != context.me:
        return None
    return element(dav("href"), href(("calendars", context.me.login, NOTIFICATIONS), is_collection=True))


__all__ = ["SHARED", "SharingProperties", "access", "answer_element", "organizer", "original"]

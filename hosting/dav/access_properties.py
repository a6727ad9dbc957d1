"""Properties of access control: who owns a resource and what the one who asks may do with it.

ACLs are read here and never written: what is shared is said by sharing. All of it is computed from `hosting.dav.reach`.

Standards: RFC 3744 §4 (principals), §5 (properties).
"""

from __future__ import annotations

from hosting.dav.context import Context
from hosting.dav.names import caldav, dav, element, text_element
from hosting.dav.reach import Reach, privileges
from hosting.dav.registry import LiveProperty
from hosting.dav.resources import EVERYTHING, PRINCIPALS, Person, Resource, ResourceType, href

_PRINCIPAL = frozenset({ResourceType.PRINCIPAL})
_OWNED = EVERYTHING - {
    ResourceType.ROOT,
    ResourceType.PRINCIPALS,
    ResourceType.CALENDAR_HOMES,
    ResourceType.ADDRESS_BOOK_HOMES,
    ResourceType.FILE_HOMES,
}


def principal_href(person: Person) -> bytes:
    return element(dav("href"), href(person.segments, is_collection=True))


def _owner(_: Context, resource: Resource) -> bytes | None:
    return principal_href(resource.owner) if resource.owner is not None else b""


def _privilege(name: str) -> bytes:
    return element(dav("privilege"), element(name))


def _mine(_: Context, resource: Resource) -> bytes | None:
    return b"".join(map(_privilege, privileges(resource.reach)))


def _ace(principal: bytes, reach: Reach, *, protected: bool) -> bytes:
    granted = element(dav("grant"), b"".join(map(_privilege, privileges(reach))))
    return element(
        dav("ace"), element(dav("principal"), principal) + granted + (b"<D:protected/>" if protected else b"")
    )


def _acl(context: Context, resource: Resource) -> bytes | None:
    """The owner's entry, and one for each with whom he shares; a sharee sees his own."""
    if resource.owner is None or resource.type is ResourceType.PRINCIPAL:
        return _ace(b"<D:authenticated/>", Reach.READ, protected=True)
    if resource.share is not None:
        return _ace(principal_href(context.me), resource.reach, protected=True)
    entries = [_ace(b"<D:property><D:owner/></D:property>", resource.reach, protected=True)]
    if resource.collection is not None:
        for share in context.shares_of(resource.owner, resource.collection.id):
            sharee = element(dav("href"), href(context.person(share.sharee_id).segments, is_collection=True))
            may = Reach.READ | Reach.FREE_BUSY
            if share.may_write:
                may |= Reach.WRITE_CONTENT | Reach.BIND | Reach.UNBIND
            entries.append(_ace(sharee, may, protected=False))
    return b"".join(entries)


def _supported(name: str, words: str, *within: bytes, abstract: bool = False) -> bytes:
    described = b'<D:description xml:lang="en">' + words.encode() + b"</D:description>"
    return element(
        dav("supported-privilege"),
        _privilege(name) + (b"<D:abstract/>" if abstract else b"") + described + b"".join(within),
    )


_SUPPORTED = _supported(
    dav("all"),
    "Everything",
    _supported(
        dav("read"),
        "Read",
        _supported(dav("read-current-user-privilege-set"), "See what one may do", abstract=True),
        _supported(caldav("read-free-busy"), "See when one is busy"),
    ),
    _supported(
        dav("write"),
        "Write",
        _supported(dav("write-properties"), "Change properties"),
        _supported(dav("write-content"), "Change content"),
        _supported(dav("bind"), "Add"),
        _supported(dav("unbind"), "Remove"),
    ),
    _supported(dav("unlock"), "Take away locks"),
    _supported(dav("read-acl"), "See who may do what"),
    _supported(dav("write-acl"), "Share", abstract=True),
)
_DELIVER = _supported(
    caldav("schedule-deliver"),
    "Deliver scheduling messages",
    *(
        _supported(caldav(local), words)
        for local, words in (
            ("schedule-deliver-invite", "Deliver invitations"),
            ("schedule-deliver-reply", "Deliver replies"),
            ("schedule-query-freebusy", "Ask when one is busy"),
        )
    ),
)
_SEND = _supported(
    caldav("schedule-send"),
    "Send scheduling messages",
    *(
        _supported(caldav(local), words)
        for local, words in (
            ("schedule-send-invite", "Send invitations"),
            ("schedule-send-reply", "Send replies"),
            ("schedule-send-freebusy", "Ask when others are busy"),
        )
    ),
)
_ALL_END = b"</D:supported-privilege>"


def _supported_set(_: Context, resource: Resource) -> bytes | None:
    more = {ResourceType.INBOX: _DELIVER, ResourceType.OUTBOX: _SEND}.get(resource.type, b"")
    return _SUPPORTED.removesuffix(_ALL_END) + more + _ALL_END if more else _SUPPORTED


def _collections_of_principals(_: Context, __: Resource) -> bytes | None:
    return element(dav("href"), href((PRINCIPALS,), is_collection=True))


def _url(_: Context, resource: Resource) -> bytes | None:
    assert resource.person is not None
    return principal_href(resource.person)


def _addresses(_: Context, resource: Resource) -> bytes | None:
    assert resource.person is not None
    return text_element(dav("href"), "mailto:" + resource.person.login)


ACCESS = (
    LiveProperty(dav("owner"), _OWNED, _owner),
    LiveProperty(dav("group"), _OWNED, lambda *_: b""),
    LiveProperty(dav("current-user-privilege-set"), EVERYTHING, _mine),
    LiveProperty(dav("supported-privilege-set"), EVERYTHING, _supported_set),
    LiveProperty(dav("acl"), EVERYTHING, _acl),
    LiveProperty(dav("acl-restrictions"), EVERYTHING, lambda *_: b"<D:grant-only/><D:no-invert/>"),
    LiveProperty(dav("inherited-acl-set"), EVERYTHING, lambda *_: b""),
    LiveProperty(dav("principal-collection-set"), EVERYTHING, _collections_of_principals),
    LiveProperty(dav("principal-URL"), _PRINCIPAL, _url),
    LiveProperty(dav("alternate-URI-set"), _PRINCIPAL, _addresses),
    LiveProperty(dav("group-member-set"), _PRINCIPAL, lambda *_: b""),
    LiveProperty(dav("group-membership"), _PRINCIPAL, lambda *_: b""),
)

"""From paths to resources: whose home a path stands in, and the rows that it leads to.

    /dav/  /dav/principals/<login>/  /dav/{calendars,addressbooks}/<login>/<collection>/<object>
    /dav/files/<login>/<folder>/…/<file>

What is another tenant's is answered like what does not exist, before anything of it is looked at. The home of files is
itself a folder, made when something is first put there.

Raises: Refused (403 for what others of the tenant do not share, 404).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from hosting.dav import reach
from hosting.dav.context import Context
from hosting.dav.errors import Refused, missing, needs
from hosting.dav.paths import Path, read_path
from hosting.dav.reach import Reach
from hosting.dav.resources import BRANCHES, PRINCIPALS, TYPE_OF, Person, Resource, ResourceType, Share, href
from storage.collections.values import Collection, CollectionId, Kind, NewCollection
from storage.directory.shares import ShareRow
from storage.errors import AlreadyExists, InvalidInput, NotFound
from storage.mail.account import Account

FILES_ROOT = "files"  # the folder that is the home of files
NOTIFICATIONS = "notifications"
_SERVER = Reach.READ
_NAMED_KINDS = {"inbox": Kind.INBOX, "outbox": Kind.OUTBOX}
_MEMBERS_AT_ONCE = 2000
_NOTICES_MAX = 200  # that are shown; the oldest


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is, or would be made: `parent` is the collection that it is a member of."""

    parent: Resource
    name: str
    found: Resource | None

    @property
    def segments(self) -> tuple[str, ...]:
        return (*self.parent.segments, self.name)


def requested(context: Context) -> Path:
    """The path of the request."""
    return read_path(context.request.path, context.services.limits)


def locate(context: Context, segments: tuple[str, ...]) -> Resource:
    """The resource at a path. Raises Refused."""
    found = _find(context, segments)
    if found is None:
        raise missing()
    return found


def place(context: Context, path: Path) -> Place:
    """Where a path leads, whether anything is there or not. Raises Refused: 409 where its parent is missing."""
    segments = path.segments
    if len(segments) < 3 or segments[0] not in BRANCHES:
        locate(context, segments)
        raise Refused(405, why="Nothing can be made here.")
    try:
        parent = locate(context, segments[:-1])
    except Refused as refused:
        if refused.status == 404 and len(segments) > 3:
            locate(context, segments[:2])  # another tenant's home, or none: 404
            raise Refused(409, why="The collection that it would be in does not exist.") from None
        raise
    if not parent.is_collection:
        raise Refused(409, why="A file has no members.")
    return Place(parent, path.name, member(context, parent, path.name))


def member(context: Context, parent: Resource, name: str) -> Resource | None:
    """The member of a collection with this name."""
    if parent.type in (ResourceType.CALENDAR_HOME, ResourceType.ADDRESS_BOOK_HOME):
        return _in_home(context, parent, name)
    if parent.type is ResourceType.NOTIFICATIONS:
        found = (each for each in notices(context, parent) if each.segments[-1] == name)
        return next(found, None)
    if parent.collection is None:
        return None
    with suppress(InvalidInput):  # a name that nothing can have
        if parent.row.kind is Kind.FOLDER:
            return _in_folder(parent, name)
        with suppress(NotFound):
            return parent.member(parent.data.objects.find(parent.row.id, name))
    return None


def _find(context: Context, segments: tuple[str, ...]) -> Resource | None:
    if not segments:
        return Resource(ResourceType.ROOT, (), _SERVER)
    branch = segments[0]
    if branch == PRINCIPALS:
        return _principal(context, segments)
    if branch not in BRANCHES:
        return None
    homes, home, _ = BRANCHES[branch]
    if len(segments) == 1:
        return Resource(homes, segments, _SERVER)
    person = context.person_named(segments[1])
    if person is None:
        return None
    if person != context.me:
        return _of_another(context, person, segments)
    found: Resource | None = _home(context, home, segments[:2])
    for name in segments[2:]:
        if found is None or not found.is_collection:
            return None
        found = member(context, found, name)
    return found


def _principal(context: Context, segments: tuple[str, ...]) -> Resource | None:
    if len(segments) == 1:
        return Resource(ResourceType.PRINCIPALS, segments, _SERVER)
    person = context.person_named(segments[1])
    if person is None or len(segments) > 2:
        return None
    return principal(context, person, segments)


def principal(context: Context, person: Person, segments: tuple[str, ...] | None = None) -> Resource:
    """An account of the tenant as a principal; its own may have properties written."""
    own = person == context.me
    may = reach.PRINCIPAL | Reach.WRITE_PROPERTIES if own else Reach.READ
    return Resource(
        ResourceType.PRINCIPAL,
        segments or person.segments,
        reach.windowed(may, read_only=context.read_only),
        person,
        person,
        context.account(person.account_id) if own else None,
    )


def _home(context: Context, type_: ResourceType, segments: tuple[str, ...]) -> Resource:
    me = context.me
    account = context.account(me.account_id)
    may = reach.windowed(reach.HOME, read_only=context.read_only)
    root = None
    if type_ is ResourceType.FILE_HOME:
        may = reach.windowed(reach.OWN, read_only=context.read_only)
        root = _collection(account, Kind.FOLDER, FILES_ROOT, 0)
    return Resource(type_, segments, may, me, me, account, root)


def _collection(account: Account, kind: Kind, name: str, parent_id: int) -> Collection | None:
    with suppress(NotFound, InvalidInput):
        return account.collections.find(kind, name, parent_id)
    return None


def with_folder(context: Context, home: Resource) -> Resource:
    """The home of files with its folder, made if it is not there yet."""
    if home.type is not ResourceType.FILE_HOME or home.collection is not None:
        return home
    collections = home.data.collections
    try:
        made = collections.create(NewCollection(Kind.FOLDER, FILES_ROOT))
    except AlreadyExists:  # by another request, a moment ago
        made = collections.find(Kind.FOLDER, FILES_ROOT)
    return home.with_collection(made)


def _in_home(context: Context, home: Resource, name: str) -> Resource | None:
    _, _, kinds = BRANCHES[home.segments[0]]
    kind = _NAMED_KINDS.get(name, kinds[0]) if Kind.INBOX in kinds else kinds[0]
    if name == NOTIFICATIONS and Kind.INBOX in kinds:
        return notifications(context, home)
    found = _collection(home.data, kind, name, 0)
    if found is not None:
        return owned(context, home, found)
    for share in context.shares:
        if share.kind is kind and share.name == name:
            return shared(context, home, share)
    return None


def notifications(context: Context, home: Resource) -> Resource:
    """What sharing has to tell, as a collection that the server keeps in the home of calendars."""
    may = reach.windowed(reach.HOME & ~(Reach.BIND | Reach.WRITE_PROPERTIES), read_only=context.read_only)
    return Resource(ResourceType.NOTIFICATIONS, (*home.segments, NOTIFICATIONS), may, home.person, home.owner)


def notices(context: Context, parent: Resource) -> list[Resource]:
    """The notifications of who asks: invitations that he has not answered, and answers to his own."""
    rows = context.services.shares.notices(context.me.tenant_id, context.me.account_id)[:_NOTICES_MAX]
    return [
        Resource(
            ResourceType.NOTIFICATION,
            (*parent.segments, notice_name(row)),
            parent.reach,
            parent.person,
            parent.owner,
            notice=row,
        )
        for row in rows
        if _is_there(context, row)
    ]


def _is_there(context: Context, row: ShareRow) -> bool:
    """Whether what it is about still is."""
    try:
        context.account(row.owner_id).collections.by_id(CollectionId(row.collection_id))
    except NotFound:
        return False
    return True


def notice_name(row: ShareRow) -> str:
    return f"{row.owner_id}-{row.collection_id}-{row.sharee_id}-{row.answered or row.invited}.xml"


def owned(context: Context, parent: Resource, collection: Collection) -> Resource:
    """A collection of one's own as a member of its home or folder."""
    may = reach.of_collection(collection, owns=True, may_write=True, read_only=context.read_only)
    segments = (*parent.segments, collection.name)
    return Resource(TYPE_OF[collection.kind], segments, may, parent.person, parent.owner, parent.account, collection)


def shared(
    context: Context, home: Resource | None, share: Share, segments: tuple[str, ...] | None = None
) -> Resource | None:
    """Somebody else's collection as a member of one's own home, or where it is at its owner's."""
    try:
        account = context.account(share.owner.account_id)
        collection = account.collections.by_id(CollectionId(share.collection_id))
    except NotFound:  # its owner has removed it, or has ended
        return None
    may = reach.of_collection(collection, owns=False, may_write=share.may_write, read_only=context.read_only)
    if segments is None:
        assert home is not None
        segments = (*home.segments, share.name)
    return Resource(TYPE_OF[collection.kind], segments, may, context.me, share.owner, account, collection, share=share)


def _of_another(context: Context, person: Person, segments: tuple[str, ...]) -> Resource | None:
    """Below the home of another account of the tenant there is what he shares, and nothing else is told."""
    kinds = BRANCHES[segments[0]][2]
    if len(segments) in (3, 4):
        for share in context.shares:
            if share.owner == person and share.kind in kinds:
                found = shared(context, None, share, segments[:3])
                if found is not None and found.row.name == segments[2]:
                    return found if len(segments) == 3 else member(context, found, segments[3])
    raise needs(href(segments, is_collection=len(segments) < 4), Reach.READ)


def _in_folder(parent: Resource, name: str) -> Resource | None:
    account, folder = parent.data, parent.row
    found = _collection(account, Kind.FOLDER, name, folder.id)
    if found is not None:
        return _below(parent, found)
    with suppress(NotFound):
        return parent.member(account.objects.find(folder.id, name))
    return None


def _below(parent: Resource, folder: Collection) -> Resource:
    return Resource(
        ResourceType.FOLDER,
        (*parent.segments, folder.name),
        parent.reach,
        parent.person,
        parent.owner,
        parent.account,
        folder,
    )


# Members


def collections_in(context: Context, resource: Resource) -> list[Resource]:
    """The members of a collection that are collections themselves."""
    match resource.type:
        case ResourceType.ROOT:
            names = (PRINCIPALS, *BRANCHES)
            return [found for name in names if (found := _find(context, (name,))) is not None]
        case ResourceType.PRINCIPALS:  # others are looked for by principal-property-search
            return [principal(context, context.me)]
        case ResourceType.CALENDAR_HOMES | ResourceType.ADDRESS_BOOK_HOMES | ResourceType.FILE_HOMES:
            return [locate(context, (*resource.segments, context.me.login))]
        case ResourceType.CALENDAR_HOME | ResourceType.ADDRESS_BOOK_HOME:
            _, _, kinds = BRANCHES[resource.segments[0]]
            account = resource.data
            own = [owned(context, resource, each) for kind in kinds for each in account.collections.list(kind)]
            taken = [shared(context, resource, each) for each in context.shares if each.kind in kinds]
            return own + [found for found in taken if found is not None]
        case ResourceType.FOLDER | ResourceType.FILE_HOME if resource.collection is not None:
            folders = resource.data.collections.list(Kind.FOLDER, resource.collection.id)
            return [_below(resource, each) for each in folders]
        case ResourceType.NOTIFICATIONS:
            return notices(context, resource)
    return []


def objects_in(resource: Resource) -> Iterator[Resource]:
    """The members of a collection that are none themselves, some at a time, as they are pulled."""
    if resource.collection is None or resource.stored is not None:
        return
    objects, collection_id, after = resource.data.objects, resource.collection.id, 0
    while some := objects.some(collection_id, after, _MEMBERS_AT_ONCE):
        yield from resource.members(some)
        if len(some) < _MEMBERS_AT_ONCE:
            return
        after = some[-1].object_id

"""What the core of WebDAV is extended by: properties, reports, checks of bodies, POST, further methods.

CalDAV, CardDAV, scheduling and sharing each put their own in when the handler is composed (`hosting.dav.assembly`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hosting.dav.context import Context
from hosting.dav.request import DavResponse
from hosting.dav.resources import EVERYTHING, Resource, ResourceType
from hosting.dav.xml import Element
from storage.collections.values import Collection, Content, Kind

Read = Callable[[Context, Resource], "bytes | None"]


@dataclass(frozen=True, slots=True)
class Edit:
    """What setting a property changes: fields of the collection's row, or what `apply` does. Checked, not done yet."""

    fields: Mapping[str, object] = field(default_factory=dict)
    apply: Callable[[], None] | None = None


Write = Callable[[Context, Resource, "Element | None"], Edit]


@dataclass(frozen=True, slots=True)
class LiveProperty:
    """`read` gives the element's content as XML, None where the resource has no such property.

    `write` checks a new value (None: the property is removed) and says what it changes; without it the property is
    protected. `create` likewise, of a collection that is about to be made (the resource has no row yet); what `write`
    takes it takes as well.
    """

    name: str  # "{namespace}local"
    types: frozenset[ResourceType]
    read: Read
    write: Write | None = None
    create: Write | None = None
    in_allprop: bool = False  # those of RFC 4918 §15 only; others are asked for by name (RFC 4791 §5.2)


@dataclass(frozen=True, slots=True)
class Report:
    """`depth` is what the header says, "0" where it says nothing (RFC 3253 §3.6)."""

    name: str
    types: frozenset[ResourceType]
    answer: Callable[[Context, Resource, Element, str], DavResponse]


class Bodies(Protocol):
    """What bodies of one kind of collection have to be."""

    def checked(self, context: Context, collection: Resource, name: str, data: bytes, content_type: str) -> Content:
        """Raises Violated, TooLarge, InvalidInput."""
        ...

    def served(self, context: Context, resource: Resource, data: bytes) -> tuple[bytes, str]:
        """What a GET is given, and its Content-Type: what Accept asks for, where it may differ from what is stored."""
        ...


@dataclass(frozen=True, slots=True)
class Post:
    """POST on resources of these types whose body is of one of these media types ("*": any)."""

    types: frozenset[ResourceType]
    media_types: frozenset[str]
    answer: Callable[[Context, Resource], DavResponse]


Method = Callable[[Context], DavResponse]
Row = Mapping[str, LiveProperty]


class Registry:
    """Filled while the server is composed, only read afterwards."""

    def __init__(self) -> None:
        self._properties: dict[ResourceType, dict[str, LiveProperty]] = {each: {} for each in ResourceType}
        self.reports: dict[tuple[str, ResourceType], Report] = {}
        self.bodies: dict[Kind, Bodies] = {}
        self.posts: list[Post] = []
        self.methods: dict[str, Method] = {}
        self.method_types: dict[str, frozenset[ResourceType]] = {}
        self.classes: list[str] = []  # of the DAV header
        # What a collection of this kind is as DAV:resourcetype, beside DAV:collection: an element's name.
        self.resource_types: dict[ResourceType, tuple[str, ...]] = {}
        self.creatable: dict[str, Kind] = {}  # by an element of resourcetype (RFC 5689)
        self.downloads: dict[ResourceType, Callable[[Context, Resource], DavResponse]] = {}  # GET of collections
        # What else single ones of this type are (shared ones): XML.
        self.more_types: dict[ResourceType, Callable[[Context, Resource], bytes]] = {}
        self.removals: dict[ResourceType, Callable[[Context, Resource], None]] = {}  # DELETE of what is no row
        # May refuse before a collection is made, by what the body asks for.
        self.before_making: list[Callable[[Element], None]] = []
        # May refuse before an object is changed or removed that is there.
        self.before_changing: list[Callable[[Context, Resource], None]] = []
        # May refuse before a collection is removed or moved (RFC 6638 §9.2: the default calendar).
        self.guards: list[Callable[[Context, Collection], None]] = []

    def properties(self, *added: LiveProperty) -> None:
        for each in added:
            for type_ in each.types:
                self._properties[type_][each.name] = each

    def live(self, type_: ResourceType) -> Row:
        """Those that a resource of this type may have."""
        return self._properties[type_]

    def is_protected(self, name: str) -> bool:
        """Whether some resources have such a property and none lets it be set: then nobody keeps one of this name."""
        known = [of[name] for of in self._properties.values() if name in of]
        return bool(known) and not any(each.write or each.create for each in known)

    def report(self, *added: Report) -> None:
        for each in added:
            for type_ in each.types:
                self.reports[each.name, type_] = each

    def reports_of(self, type_: ResourceType) -> list[str]:
        return [name for name, of in self.reports if of is type_]

    def post(self, *added: Post) -> None:
        self.posts.extend(added)

    def method(self, name: str, do: Method, types: Iterable[ResourceType] = EVERYTHING) -> None:
        """`types`: where Allow and supported-method-set name it."""
        self.methods[name] = do
        self.method_types[name] = frozenset(types)

    def methods_of(self, type_: ResourceType) -> list[str]:
        return [name for name, types in self.method_types.items() if type_ in types]

    def dav_class(self, *names: str) -> None:
        self.classes.extend(name for name in names if name not in self.classes)

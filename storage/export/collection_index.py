"""The index of what an account's archive holds beside mail: JSON lines of collections, objects and properties.

First the properties of homes; then each collection in the order of their numbers, with its properties, and its objects
in the order of theirs, each with its properties. What may be a file of an object, and where, is decided here too.
Readers take one line at a time and believe nothing: each field is checked for its type and its range.

Raises: InvalidInput (not an index that an export writes), OSError as the file system gives it.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection as Container
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, BinaryIO

from storage.collections.names import checked_name
from storage.collections.values import Kind
from storage.errors import InvalidInput
from storage.export import names

FILES = "files"  # also the name of the folder that is the home of files itself
ROOTS = {
    Kind.CALENDAR: "calendars",
    Kind.ADDRESS_BOOK: "addressbooks",
    Kind.FOLDER: FILES,
    Kind.INBOX: "scheduling",
    Kind.OUTBOX: "scheduling",
}
ENDINGS = {Kind.CALENDAR: ".ics", Kind.INBOX: ".ics", Kind.OUTBOX: ".ics", Kind.ADDRESS_BOOK: ".vcf", Kind.FOLDER: ""}

LINE_MAX = 1024 * 1024  # octets; a property has 64 KiB at most
OBJECT_MAX = 256 * 1024 * 1024  # octets, as storage.export.values.MESSAGE_MAX
COLLECTIONS_MAX = 10_000

_NUMBER_MAX = (1 << 63) - 1
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_ETAG = re.compile(r'"[!-~]{1,200}"\Z')
_TYPE = re.compile(r"[ -~]{0,255}\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PROPERTY = re.compile(r"\{[^{}\x00-\x1f]{0,2000}\}[^{}\x00-\x20]{1,500}\Z")
_COMPONENT = re.compile(r"[A-Z-]{1,32}\Z")
_REFUSED = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_NAME_MAX = 180  # octets of a name: room for what is put behind it
_PATH_MAX = 700  # octets of a folder's path; longer ones, and deeper ones, stand in a folder of their own
_DEPTH_MAX = 6


@dataclass(frozen=True, slots=True)
class CollectionLine:
    """A calendar, an address book, a box of scheduling or a folder, before what is in it."""

    collection: int  # its number in the account that was exported
    of: str  # storage.collections.values.Kind
    parent: int
    name: str
    path: str
    display_name: str
    description: str
    color: str
    position: int | None
    timezone: str
    components: tuple[str, ...]
    transparent: bool
    source: str
    created: int
    modified: int
    feed: str = ""  # where it is fetched from


@dataclass(frozen=True, slots=True)
class ObjectLine:
    """An event, a task, a card, a file: in the collection above it. The file's octets are the object's."""

    object: int
    name: str
    file: str
    size: int
    sha256: str
    etag: str
    content_type: str
    created: int
    modified: int


@dataclass(frozen=True, slots=True)
class PropertyLine:
    """An element that a client keeps with the collection (object 0) or object above it, or of a home (collection 0)."""

    collection: int
    object: int
    name: str
    value: str  # XML; octets that are no UTF-8 as surrogates


Line = CollectionLine | ObjectLine | PropertyLine

_KINDS: dict[str, type[Line]] = {"collection": CollectionLine, "object": ObjectLine, "property": PropertyLine}
_OF_KIND = {kind: name for name, kind in _KINDS.items()}
_LAYOUT = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS.values()}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def packed(line: Line) -> bytes:
    """The line as it is written, with its end."""
    kind = type(line)
    values = {"kind": _OF_KIND[kind]} | {name: getattr(line, name) for name in _LAYOUT[kind]}
    return _encode(values).encode("utf-8", "surrogatepass") + b"\n"


def parsed(octets: bytes) -> Line:
    """A line that was read."""
    try:
        values = json.loads(octets)
        kind = _KINDS[values.pop("kind")]
        known = {name: value for name, value in values.items() if name in _LAYOUT[kind]}
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}
        line = kind(**given)
        right = _is_right(line)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidInput("The index of the archive's collections has a line that is none.") from None
    if not right:
        raise InvalidInput("The index of the archive's collections has a line with a value that cannot be.")
    return line


def _is_right(line: Line) -> bool:
    if isinstance(line, PropertyLine):
        return (
            _is_number(line.collection)
            and _is_number(line.object)
            and _is_text(line.name)
            and _PROPERTY.match(line.name) is not None
            and len(octets_of(line.value)) <= LINE_MAX
        )
    numbers: tuple[Any, ...]
    if isinstance(line, ObjectLine):
        numbers = (line.object, line.size, line.created, line.modified)
        return (
            all(map(_is_number, numbers))
            and line.object > 0
            and line.size <= OBJECT_MAX
            and _is_name(line.name)
            and _is_text(line.file)
            and _SHA256.match(line.sha256) is not None
            and _ETAG.match(line.etag) is not None
            and _TYPE.match(line.content_type) is not None
        )
    numbers = (line.collection, line.parent, line.created, line.modified, *_optional(line.position))
    texts = (line.path, line.display_name, line.description, line.color, line.timezone, line.source, line.feed)
    return (
        all(map(_is_number, numbers))
        and line.collection > 0
        and line.of in set(Kind)
        and _is_name(line.name)
        and all(_is_text(text, 100_000) for text in texts)
        and _are_components(line.components)
        and type(line.transparent) is bool
    )


def _optional(position: int | None) -> tuple[int, ...]:
    return () if position is None else (position,)


def _are_components(value: object) -> bool:
    return isinstance(value, tuple) and len(value) <= 16 and all(_COMPONENT.match(each) for each in value)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= _NUMBER_MAX


def _is_text(value: object, most: int = 4000) -> bool:
    return isinstance(value, str) and len(value) <= most and (value.isascii() or _SURROGATE.search(value) is None)


def _is_name(value: object) -> bool:
    if not isinstance(value, str) or not _is_text(value):
        return False
    try:
        return checked_name(value) == value
    except InvalidInput:
        return False


def text_of(value: bytes) -> str:
    """A property's octets as the index has them."""
    return value.decode("utf-8", "surrogateescape")


def octets_of(value: str) -> bytes:
    """And back. Raises ValueError for what `text_of` does not give."""
    return value.encode("utf-8", "surrogateescape")


# Reading


def whole_lines(file: BinaryIO) -> Iterator[Line]:
    """The lines of an index that may not be at its end, up to one that a crash tore."""
    while (octets := file.readline(LINE_MAX + 1)).endswith(b"\n"):
        try:
            line = parsed(octets)
        except InvalidInput:
            return
        yield line


def checked_lines(file: BinaryIO) -> Iterator[Line]:
    """The lines of an index in their order, which is checked as they come."""
    collection: CollectionLine | None = None
    paths: set[str] = set()
    number, last = 0, 0
    while octets := file.readline(LINE_MAX + 1):
        if not octets.endswith(b"\n"):
            raise InvalidInput("The index of the archive's collections has a line that is too long.")
        line = parsed(octets)
        if isinstance(line, CollectionLine):
            if line.collection <= number or line.path in paths or len(paths) >= COLLECTIONS_MAX:
                raise InvalidInput("The index of the archive has collections that cannot be.")
            if not is_place(line):
                raise InvalidInput("The index of the archive names a collection's folder that cannot be.")
            paths.add(line.path)
            collection, number, last = line, line.collection, 0
        elif isinstance(line, ObjectLine):
            if collection is None or line.object <= last:
                raise InvalidInput("The index of the archive has objects in the wrong place.")
            above, _, name = line.file.rpartition("/")
            if above != collection.path or not names.parts_of(name):
                raise InvalidInput("The index of the archive names a file that is not of its collection.")
            last = line.object
        elif (line.collection, line.object) != (number, last) and (collection is not None or line.collection):
            raise InvalidInput("The index of the archive has properties in the wrong place.")
        yield line


def is_place(line: CollectionLine) -> bool:
    """Whether a collection of its kind may have its path."""
    parts = names.parts_of(line.path)
    root = ROOTS[Kind(line.of)]
    return parts[0] == root and (len(parts) == 2 or (root == FILES and len(parts) <= _DEPTH_MAX + 1))


# Where things lie


def readable(name: str, ending: str, taken: Container[str]) -> str:
    """A name that file systems take, of something that is called so; another than those that are `taken` (casefolded).

    The same name beside the same others is always called the same.
    """
    clean = _REFUSED.sub("_", unicodedata.normalize("NFC", name))
    if ending and clean.casefold().endswith(ending):
        clean = clean[: -len(ending)]
    clean = f"_{clean[1:]}" if clean.startswith((".", "~")) else clean
    cut = clean.encode()[:_NAME_MAX].decode("utf-8", "ignore").rstrip(" .") or "_"
    wanted = cut + ending
    if wanted.casefold() in taken:
        wanted = f"{cut}~{hashlib.sha256(name.encode()).hexdigest()[:16]}{ending}"
    return wanted


def is_shallow(path: str) -> bool:
    """Whether a folder may have this path."""
    return path.count("/") <= _DEPTH_MAX and len(path.encode()) <= _PATH_MAX

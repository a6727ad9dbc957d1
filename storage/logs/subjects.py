"""Personal fields of log records: each belongs to one account, and is sealed under that account's key of the segment.

    keys/logs/<class>/<day>/<process>.subjects    a key for each account that a segment names, under the segment's key

A personal text (an address, a client's network address) stands in a segment once, as a term sealed under the key of its
account; records refer to it. Destroying that one key leaves the records of everybody else, and of this account time,
type, result and ids; `ERASED` stands where a text was. An account gets a new key with each segment, so with each day
and process, and the keys go with their day. A text that belongs to no account here stays under the segment's key.

A text belongs to one account only: the sender's address to the sender, the recipient's to the recipient.

Keys are durable before anything that they seal. `erase` may be called again at any time, while others write too.
Raises: StorageFull, Unavailable.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import Corrupt
from storage.files import durable
from storage.keys.sealing import new_secret, open_sealed, seal

ERASED = "erased"  # what a reader is shown of a text whose key was destroyed

_MAGIC = b"CMsubj1\n"
_HEADER = struct.Struct(">8sQ")  # then how often something was erased here
_ENTRY = struct.Struct(">QQ61s")  # tenant, account, box of the key; an erased one is all zeros
_TERM = struct.Struct(">II")  # number of the term, position of its account's key
_NONCE = 12
_MARK = "~"
REFERENCE = b'{"~":'  # stands in packed records; inside of a JSON string its quotes are escaped
_REFERENCE = re.compile(rb'\{"~":(\d+)\}')

_BRACKETED = re.compile(r"<([^<>\n]*)>")
_BETWEEN = re.compile(r"([\s<>,;:\"'()\[\]=]+)")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose a text is. Accounts' numbers are never used again, by no tenant, so the account alone counts."""

    tenant_id: int
    account_id: int


@dataclass(frozen=True, slots=True)
class Personal:
    """A text that belongs to one account."""

    subject: Subject
    text: str = field(repr=False)


# Whose an address is; None: nobody's here, or nobody's alone.
Whose = Callable[[str], Subject | None]

# A text with what is personal in it.
Mixed = str | Personal | list[str | Personal]


def nobody(_: str) -> None:
    """Where nobody can be told to have an account here."""


def owned(text: str, subject: Subject | None) -> str | Personal:
    return Personal(subject, text) if subject is not None and text else text


def mixed(text: str, whose: Whose) -> Mixed:
    """Each address of an account in a free text becomes that account's; the time is linear in the text."""
    if "@" not in text:
        return text
    parts: list[str | Personal] = []
    for index, part in enumerate(_BRACKETED.split(text)):
        subject = whose(part) if index % 2 and "@" in part else None
        if index % 2:
            parts += ["<", Personal(subject, part), ">"] if subject is not None else ["<", *_words(part, whose), ">"]
        else:
            parts += _words(part, whose)
    merged: list[str | Personal] = []
    for each in parts:
        if isinstance(each, str) and merged and isinstance(merged[-1], str):
            merged[-1] += each
        elif each != "":
            merged.append(each)
    return merged[0] if len(merged) == 1 else merged


def _words(text: str, whose: Whose) -> list[str | Personal]:
    if "@" not in text:
        return [text]
    return [owned(word, whose(word.rstrip("."))) if "@" in word else word for word in _BETWEEN.split(text)]


def whole(value: Any) -> str:
    """What `mixed` made, as one text again."""
    return value if isinstance(value, str) else "".join(value)


# Packing


def dump(values: Any) -> tuple[bytes, tuple[Personal, ...]]:
    """JSON in which the n-th personal text is a reference with that number, and those texts."""
    found: list[Personal] = []

    def refer(value: Any) -> dict[str, int]:
        if not isinstance(value, Personal):
            raise TypeError(type(value))
        found.append(value)
        return {_MARK: len(found) - 1}

    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=refer)
    return text.encode("utf-8", "replace"), tuple(found)


def load(data: bytes, text_of: Callable[[int], str]) -> Any:
    """What was dumped, with texts instead of references."""
    if REFERENCE not in data:
        return json.loads(data)

    def resolve(value: dict[str, Any]) -> Any:
        return text_of(value[_MARK]) if len(value) == 1 and _MARK in value else value

    return json.loads(data, object_hook=resolve)


def renumbered(data: bytes, numbers: list[int]) -> bytes:
    """With references to the segment's terms instead of the record's own."""
    return _REFERENCE.sub(lambda match: reference(numbers[int(match[1])]), data)


def reference(number: int) -> bytes:
    return b'{"~":%d}' % number


def packed_text(text: str) -> bytes:
    """As a text stands inside of a packed record, in lower case, to look for it."""
    return json.dumps(text, ensure_ascii=False)[1:-1].lower().encode("utf-8", "replace")


# Keys of one segment


class NewKeys:
    """Accounts' keys of a segment that this process writes. Its file is made when the first is needed."""

    def __init__(self, path: Path, segment_secret: bytes, context: bytes) -> None:
        self._path = path
        self._segment_secret = segment_secret
        self._context = context
        self._descriptor: int | None = None
        self._known: dict[int, tuple[int, AESGCM]] = {}  # by account: position, cipher
        self._new: list[bytes] = []  # entries that are not on the disk
        self._count = 0  # of entries, with these
        self._erasures = 0

    def seal(self, number: int, personal: Personal) -> bytes:
        """A term as the segment keeps it; `settle` has to be called before it is written."""
        position, cipher = self._key(personal.subject)
        nonce = os.urandom(_NONCE)
        plain = personal.text.encode("utf-8", "replace")
        return _TERM.pack(number, position) + nonce + cipher.encrypt(nonce, plain, _term_context(self._context, number))

    def settle(self) -> None:
        """The new keys are on the disk when it returns; when it raises, all keys are forgotten."""
        if not self._new:
            return
        try:
            if self._descriptor is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)
                durable.write_all(self._descriptor, _HEADER.pack(_MAGIC, 0))
                durable.fsync_directory(self._path.parent)
            durable.write_all(self._descriptor, b"".join(self._new))
            durable.fsync_file(self._descriptor)
        except BaseException:
            self._undo()
            raise
        self._new.clear()

    def _undo(self) -> None:
        self._count -= len(self._new)
        self.forget()
        if self._descriptor is not None:
            size = _HEADER.size + self._count * _ENTRY.size
            os.ftruncate(self._descriptor, size)
            if os.lseek(self._descriptor, 0, os.SEEK_END) != size:  # not even its header was written
                os.close(self._descriptor)
                self._descriptor = None
                self._path.unlink(missing_ok=True)
            elif self._count == 0:
                os.pwrite(self._descriptor, _HEADER.pack(_MAGIC, self._erasures), 0)

    def forget(self) -> None:
        self._new.clear()
        self._known.clear()

    def was_erased(self) -> bool:
        """Whether somebody was erased since this was asked last: then all keys are forgotten, and new ones made."""
        if self._descriptor is None:
            return False
        erasures = _HEADER.unpack(os.pread(self._descriptor, _HEADER.size, 0))[1]
        if erasures == self._erasures:
            return False
        self._erasures = erasures
        self.forget()
        return True

    def close(self) -> None:
        self.forget()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _key(self, subject: Subject) -> tuple[int, AESGCM]:
        known = self._known.get(subject.account_id)
        if known is None:
            secret = new_secret()
            whose = (subject.tenant_id, subject.account_id)
            box = seal(self._segment_secret, secret, _key_context(self._context, *whose))
            self._new.append(_ENTRY.pack(*whose, box))
            known = self._known[subject.account_id] = (self._count, AESGCM(secret))
            self._count += 1
        return known


class KeptKeys:
    """Accounts' keys of a segment, to read it by."""

    def __init__(self, path: Path, segment_secret: bytes, context: bytes) -> None:
        self._path = path
        self._segment_secret = segment_secret
        self._context = context
        self._octets = b""
        self._ciphers: dict[int, AESGCM | None] = {}

    def open(self, term: bytes) -> tuple[int, str | None]:
        """The number of a term, and its text; None: its key was destroyed."""
        number, position = _TERM.unpack_from(term)
        cipher = self._cipher(position)
        if cipher is None:
            return number, None
        begin = _TERM.size + _NONCE
        try:
            plain = cipher.decrypt(term[_TERM.size : begin], term[begin:], _term_context(self._context, number))
        except (InvalidTag, ValueError):
            return number, None
        return number, plain.decode("utf-8", "replace")

    def _cipher(self, position: int) -> AESGCM | None:
        if position not in self._ciphers:
            self._ciphers[position] = self._opened(position)
        return self._ciphers[position]

    def _opened(self, position: int) -> AESGCM | None:
        begin = _HEADER.size + position * _ENTRY.size
        if len(self._octets) < begin + _ENTRY.size:  # it was written after the file was read
            try:
                self._octets = self._path.read_bytes()
            except FileNotFoundError:
                return None
        if len(self._octets) < begin + _ENTRY.size:
            return None
        tenant_id, account_id, box = _ENTRY.unpack_from(self._octets, begin)
        try:
            return AESGCM(open_sealed(self._segment_secret, box, _key_context(self._context, tenant_id, account_id)))
        except Corrupt:
            return None


def term_number(term: bytes) -> int:
    number, _ = _TERM.unpack_from(term)
    return int(number)


# Erasing


def erase(keys_of_class: Path, account_id: int) -> int:
    """Destroys all keys of the account in a class of records (`keys/logs/<class>`); of how many segments."""
    return sum(_erase_in(path, account_id) for path in sorted(keys_of_class.glob("*/*.subjects")))


def count(keys_of_class: Path, account_id: int) -> int:
    """In how many segments the account has a key."""
    found = 0
    for path in keys_of_class.glob("*/*.subjects"):
        try:
            found += bool(_positions(path.read_bytes(), account_id))
        except FileNotFoundError:  # its day is over
            continue
    return found


def _erase_in(path: Path, account_id: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # its day is over
        return False
    except OSError as error:
        raise durable.translated(error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # of who else erases; who appends is not disturbed
        octets = _content(descriptor)
        positions = _positions(octets, account_id)
        if not positions:
            return False
        # A crash leaves the account's number until its writer can know that the key is gone.
        box = _ENTRY.size - 16
        for begin in positions:
            os.pwrite(descriptor, os.urandom(box), begin + 16)
        durable.fsync_file(descriptor)
        erasures = _HEADER.unpack_from(octets)[1]
        os.pwrite(descriptor, _HEADER.pack(_MAGIC, erasures + 1), 0)
        for begin in positions:
            os.pwrite(descriptor, bytes(_ENTRY.size), begin)
        durable.fsync_file(descriptor)
    except OSError as error:
        raise durable.translated(error) from None
    finally:
        os.close(descriptor)
    return True


def _content(descriptor: int) -> bytes:
    parts = []
    place = 0
    while part := os.pread(descriptor, 1 << 20, place):
        parts.append(part)
        place += len(part)
    return b"".join(parts)


def _positions(octets: bytes, account_id: int) -> list[int]:
    sought = account_id.to_bytes(8, "big")
    ends = range(_HEADER.size, len(octets) - _ENTRY.size + 1, _ENTRY.size)
    return [begin for begin in ends if octets[begin + 8 : begin + 16] == sought] if sought in octets else []


def _key_context(context: bytes, tenant_id: int, account_id: int) -> bytes:
    return context + b"subject %d %d" % (tenant_id, account_id)


def _term_context(context: bytes, number: int) -> bytes:
    return context + b"term %d" % number

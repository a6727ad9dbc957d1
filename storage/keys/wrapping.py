"""The two kinds of files in keys/: one key with its generations, and a set of secrets that wrap others.

A key's file is JSON and lists its generations, the newest last; each is an AES-256-GCM box whose context binds its
owner, its id, its generation and what it is wrapped under, so no file works in another's place. A set (the groups, or
the rings of one group) is one box of numbers, ids and secrets. What wraps is named "master:2", "group:<id>",
"ring:<id>", or by the id of a tenant's key in files of before.

Pure. Raises: Corrupt (does not open, changed), Unavailable (a newer format).
"""

from __future__ import annotations

import json
import secrets
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from storage.errors import Corrupt, Unavailable
from storage.keys.sealing import KEY_SIZE, Key, new_secret, open_sealed, seal

_FORMAT = 1
_ENTRY = struct.Struct(">Q16s32s")

Unwrap = Callable[[str], bytes]  # the wrapping secret that a name stands for
Secrets = dict[int, list[Key]]  # by number of a group or a tenant; the newest last


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """One generation of a key as it stands in its file."""

    id: str  # 32 hexadecimal digits
    generation: int
    created: int
    under: str
    box: bytes
    moved: bool = False  # once wrapped under its tenant's key, so that a copy of that file opens as long as it lives

    def context(self, owner: str) -> bytes:
        moved = " moved" if self.moved else ""
        return f"cleanmail key {owner} {self.id} {self.generation} {self.created} {self.under}{moved}".encode()

    def unwrap(self, owner: str, wrapping: bytes) -> Key:
        secret = open_sealed(wrapping, self.box, self.context(owner))
        if len(secret) != KEY_SIZE:
            raise Corrupt(detail=f"key of {owner}: wrong length")
        return Key(self.id, secret)


def wrap(owner: str, secret: bytes, created: int, under: str, wrapping: bytes) -> WrappedKey:
    """A new key's first generation."""
    wrapped = WrappedKey(new_id(), 1, created, under, b"")
    return replace(wrapped, box=seal(wrapping, secret, wrapped.context(owner)))


def rewrap(
    owner: str, stored: Sequence[WrappedKey], unwrap: Unwrap, under: str, wrapping: bytes, *, moved: bool = False
) -> list[WrappedKey]:
    """The same generations under something else."""
    renewed = []
    for wrapped in stored:
        plain = wrapped.unwrap(owner, unwrap(wrapped.under)).secret
        following = replace(wrapped, under=under, moved=wrapped.moved or moved)
        renewed.append(replace(following, box=seal(wrapping, plain, following.context(owner))))
    return renewed


def new_id() -> str:
    return secrets.token_hex(16)


def new_key() -> Key:
    """A new secret that wraps others."""
    return Key(new_id(), new_secret())


def encode_keys(generations: Sequence[WrappedKey]) -> bytes:
    entries: list[dict[str, Any]] = []
    for k in generations:
        entry = {"id": k.id, "generation": k.generation, "created": k.created, "under": k.under, "box": k.box.hex()}
        entries.append(entry | ({"moved": True} if k.moved else {}))
    return json.dumps({"format": _FORMAT, "keys": entries}, indent=1).encode("ascii") + b"\n"


def decode_keys(data: bytes, owner: str) -> list[WrappedKey]:
    try:
        document: Any = json.loads(data)
        _check_format(document["format"], owner)
        stored = [
            WrappedKey(
                str(e["id"]),
                int(e["generation"]),
                int(e["created"]),
                str(e["under"]),
                bytes.fromhex(e["box"]),
                e.get("moved") is True,
            )
            for e in document["keys"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Corrupt(detail=f"key of {owner}: unreadable file") from None
    if not stored:
        raise Corrupt(detail=f"key of {owner}: empty file")
    return stored


@dataclass(frozen=True, slots=True)
class SealedSet:
    """A set of secrets as it stands in its file."""

    under: str
    complete: bool  # of the groups: every key of the installation is in the tree, none in the layout of before
    box: bytes

    def open(self, name: str, wrapping: bytes) -> Secrets:
        plain = open_sealed(wrapping, self.box, _set_context(name, self.under, self.complete))
        if len(plain) % _ENTRY.size:
            raise Corrupt(detail=f"{name}: wrong length")
        found: Secrets = {}
        for number, identity, secret in _ENTRY.iter_unpack(plain):
            found.setdefault(number, []).append(Key(identity.hex(), secret))
        return found


def encode_set(
    name: str, entries: Mapping[int, Sequence[Key]], under: str, wrapping: bytes, *, complete: bool
) -> bytes:
    plain = b"".join(
        _ENTRY.pack(number, bytes.fromhex(key.id), key.secret) for number in sorted(entries) for key in entries[number]
    )
    box = seal(wrapping, plain, _set_context(name, under, complete))
    document = {"format": _FORMAT, "under": under, "complete": complete, "box": box.hex()}
    return json.dumps(document, indent=1).encode("ascii") + b"\n"


def decode_set(data: bytes, name: str) -> SealedSet:
    try:
        document: Any = json.loads(data)
        _check_format(document["format"], name)
        return SealedSet(str(document["under"]), document["complete"] is True, bytes.fromhex(document["box"]))
    except (ValueError, KeyError, TypeError):
        raise Corrupt(detail=f"{name}: unreadable file") from None


def generation_of(under: str) -> int:
    """The generation of the master that a name stands for."""
    kind, _, number = under.partition(":")
    if kind != "master" or not number.isdecimal():
        raise Corrupt(detail="key file: not wrapped under the master")
    return int(number)


def _check_format(value: Any, what: str) -> None:
    if value != _FORMAT:
        raise Unavailable("A key file has a newer format than this program knows.", detail=f"key of {what}")


def _set_context(name: str, under: str, complete: bool) -> bytes:
    return f"cleanmail {name} {under} {complete}".encode()

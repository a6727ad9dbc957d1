"""What an ending has to know of what it erases: the customer's names for the certificate, and what to search for.

It stands in control.db, sealed under a key of its own in keys/endings/, which is removed when the ending is certified.
Of the keys that are destroyed it holds no more than `storage.ending.terms.KeyTerm`.

Raises: Gone (the ending is certified), Corrupt, StorageFull, Unavailable.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from storage.ending.terms import KeyTerm
from storage.errors import Gone
from storage.files import durable
from storage.keys.sealing import new_secret, open_sealed, seal


@dataclass(frozen=True, slots=True)
class Sought:
    slug: str = field(repr=False)
    domains: tuple[str, ...] = field(repr=False)
    texts: tuple[str, ...] = field(default=(), repr=False)  # addresses, domains and names
    keys: tuple[KeyTerm, ...] = ()
    accounts: tuple[int, ...] = ()
    others: tuple[str, ...] = field(default=(), repr=False)  # texts of accounts that stay, which contain one of these

    def with_texts(
        self, texts: set[str], keys: list[KeyTerm], accounts: set[int], others: Iterable[str] = ()
    ) -> Sought:
        """`others` are texts that stay; of them those count which contain one of the sought ones."""
        all_texts = {*self.texts, *texts} - {""}
        return replace(
            self,
            texts=tuple(sorted(all_texts)),
            others=tuple(sorted(other for other in set(others) if _contains(other, all_texts))),
            keys=tuple(keys),
            accounts=tuple(sorted(accounts)),
        )


class SoughtBox:
    """Of one ending."""

    def __init__(self, data: Path, ending_id: str) -> None:
        self._folder = data / "keys" / "endings"
        self._path = self._folder / f"{ending_id}.key"
        self._context = b"control.ending.sought:" + ending_id.encode("ascii")

    def make_key(self) -> None:
        durable.make_directory(self._folder)
        durable.write_file(self._path, new_secret())

    @property
    def has_key(self) -> bool:
        return self._path.exists()

    def remove_key(self) -> None:
        if self._path.exists():
            durable.remove_file(self._path)

    def seal(self, sought: Sought) -> bytes:
        values = {
            "slug": sought.slug,
            "domains": sought.domains,
            "texts": sought.texts,
            "keys": [[key.key_id, _text(key.head), _text(key.digest)] for key in sought.keys],
            "accounts": sought.accounts,
            "others": sought.others,
        }
        return seal(self._key(), zlib.compress(json.dumps(values).encode()), self._context)

    def open(self, box: bytes) -> Sought:
        values: dict[str, Any] = json.loads(zlib.decompress(open_sealed(self._key(), box, self._context)))
        return Sought(
            values["slug"],
            tuple(values["domains"]),
            tuple(values["texts"]),
            tuple(KeyTerm(number, _octets(head), _octets(digest)) for number, head, digest in values["keys"]),
            tuple(values["accounts"]),
            tuple(values["others"]),
        )

    def _key(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            raise Gone("What was searched for is forgotten.") from None


def keys_without_ending(data: Path, ending_ids: set[str]) -> list[Path]:
    """Keys of orders that a crash kept from being made, whole or half written."""
    folder = data / "keys" / "endings"
    known = {f"{ending_id}.key" for ending_id in ending_ids}
    return [path for path in folder.iterdir() if path.name not in known] if folder.is_dir() else []


def _contains(other: str, texts: Iterable[str]) -> bool:
    return any(text.lower() in other.lower() for text in texts)


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _octets(text: str) -> bytes:
    return base64.b64decode(text)

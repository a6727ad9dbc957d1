"""Tokens that each stand in one place, and the search for them in all that an installation leaves, opened or not.

A token is a stem that all have in common and an ending of its own, so that looking for one stem looks for all of them.
It is looked for as it is, without regard to case, in UTF-16, in hexadecimal digits, as percent or quoted-printable
octets, in base64 at each alignment and across line ends, and in whatever zlib, gzip or Zstandard streams unpack to.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import zstandard

from storage.backup.place import Place
from storage.clock import SystemClock
from storage.database.driver import connect, database_key
from storage.ending.pages import EncryptedPages
from storage.errors import CleanmailError
from storage.keys.keystore import KeyStore
from storage.keys.master import read_master_file
from storage.keys.source import LocalKeys
from storage.logs.access import AccessLog
from storage.logs.traces import TraceLog
from storage.logs.transcript_log import TranscriptLog
from storage.values import AccountId, TenantId

STEM = "xqkanarek"
_UNPACKED_MAX = 1 << 22  # octets of one packed stream
_MAGIC = (b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


class Canary:
    """`canary("subject")` is the token of that place; who asks again gets the same one."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        token = STEM + hashlib.sha256(place.encode()).hexdigest()[:10]
        self._places[token] = place
        return token

    @property
    def places(self) -> frozenset[str]:
        return frozenset(self._places.values())

    def found_in(self, octets: bytes) -> frozenset[str]:
        """The places whose tokens stand in `octets`, in any writing, packed or not; "?" if only a part of one does."""
        found = set[str]()
        for each in _unpacked(octets):
            if _stands(STEM, each):
                found |= {place for token, place in self._places.items() if _stands(token, each)} or {"?"}
        return frozenset(found)


def _stands(text: str, octets: bytes) -> bool:
    folded, exact = _writings(text)
    joined = octets.replace(b"=\r\n", b"").replace(b"=\n", b"").replace(b"\r\n", b"").replace(b"\n", b"")
    for each in {octets, joined}:
        lower = each.lower()
        if any(writing in lower for writing in folded) or any(writing in each for writing in exact):
            return True
    return False


@cache
def _writings(text: str) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Those that are looked for in lower case, and those that are not."""
    lower = text.lower()
    plain = lower.encode()
    folded = (
        plain,
        lower.encode("utf-16-le"),
        lower.encode("utf-16-be"),
        plain.hex().encode(),
        plain.hex(" ").encode(),
        "".join(f"%{octet:02x}" for octet in plain).encode(),
        "".join(f"={octet:02x}" for octet in plain).encode(),
    )
    exact = []
    for form in {lower, lower.upper(), lower.title()}:
        for shift in range(3):
            inner = base64.b64encode(bytes(shift) + form.encode())
            # what octets beside it have a part in, and what fills up, is left out
            exact.append(inner[(shift * 8 + 5) // 6 : (shift + len(form)) * 8 // 6])
    return folded, tuple(exact)


def _unpacked(octets: bytes) -> Iterator[bytes]:
    yield octets
    for magic in _MAGIC:
        place = octets.find(magic)
        while place >= 0:
            with suppress(zlib.error, zstandard.ZstdError, EOFError):
                piece = octets[place : place + _UNPACKED_MAX]
                if magic == _MAGIC[0]:
                    yield zstandard.ZstdDecompressor().decompressobj().decompress(piece)
                else:
                    yield zlib.decompressobj(47).decompress(piece, _UNPACKED_MAX)
            place = octets.find(magic, place + 1)


# Octets as they lie


@dataclass(frozen=True, slots=True, order=True)
class Found:
    where: str  # a path, or a kind of record
    how: str  # name, octets; of a database: a table, or "free"; of a log: its field
    place: str  # of the token


def in_files(canary: Canary, folder: Path) -> set[Found]:
    """In every file below, and in every name."""
    found = set[Found]()
    for path in folder.rglob("*"):
        where = str(path.relative_to(folder))
        found |= {Found(where, "name", place) for place in canary.found_in(os.fsencode(path.name))}
        if path.is_file() and not path.is_symlink():
            with suppress(FileNotFoundError):  # a server goes on
                found |= {Found(where, "octets", place) for place in canary.found_in(path.read_bytes())}
    return found


# What keys open


class Opened:
    """What the keys of an installation that are left open, beside its server or without it. Writes nothing."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._clock = SystemClock()
        self.keys = LocalKeys(KeyStore(data / "keys", read_master_file(data / "keys" / "master"), self._clock))

    def databases(self) -> dict[str, bytes]:
        """Every database that opens, by its path, with the key of its connections."""
        found = {
            f"{name}.db": database_key(self.keys.service_key(name), name) for name in ("control", "queue", "audit")
        }
        for path in sorted(self._data.glob("tenants/*/tenant.db")):
            with suppress(CleanmailError):
                key = self.keys.tenant_key(TenantId(int(path.parent.name)), "test")
                found[str(path.relative_to(self._data))] = database_key(key.secret, "tenant")
        for path in sorted(self._data.glob("tenants/*/accounts/*/account.db")):
            tenant_id, account_id = TenantId(int(path.parts[-4])), AccountId(int(path.parts[-2]))
            with suppress(CleanmailError):
                key = self.keys.account_key(tenant_id, account_id, "test")
                found[str(path.relative_to(self._data))] = database_key(key.secret, "account")
        return found

    def in_pages(self, canary: Canary, root: Path | None = None) -> set[Found]:
        """In every page of every database and its log, free or not; with `root`, of copies that lie there."""
        found = set[Found]()
        for name, key in self.databases().items():
            path = (root or self._data) / name
            if not path.exists():
                continue
            pages = EncryptedPages(path, key)
            hits: dict[int, set[str]] = {}
            for page in pages.all():
                if places := canary.found_in(page.octets):
                    hits.setdefault(page.number, set()).update(places)
            tables = pages.tables(hits)
            found |= {Found(name, tables.get(n, "free"), place) for n, places in hits.items() for place in places}
        return found

    def in_columns(self, canary: Canary, name: str, root: Path | None = None) -> set[Found]:
        """In what SQL shows of one database: which column of which table."""
        driver = connect((root or self._data) / name, self.databases()[name])
        try:
            found = set[Found]()
            for (table,) in driver.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                cursor = driver.execute(f'SELECT * FROM "{table}"')
                columns = [each[0] for each in cursor.description]
                for row in cursor.fetchall():
                    for column, value in zip(columns, row, strict=True):
                        octets = value if isinstance(value, bytes) else str(value).encode()
                        found |= {Found(name, f"{table}.{column}", place) for place in canary.found_in(octets)}
            return found
        finally:
            driver.close()

    def in_logs(self, canary: Canary) -> set[Found]:
        """In every record of every segment: in which field of it."""
        since, far = self._clock.now() - 2 * 86_400, self._clock.now() + 86_400
        of = (self._data, self.keys, "test", self._clock)
        kinds: tuple[tuple[str, Iterable[object]], ...] = (
            ("access", AccessLog(*of).read(since, far)),
            ("traces", TraceLog(*of).read(since, far)),
            ("transcripts", TranscriptLog(*of).read(self.keys.auditor_key("test"), since, far)),
        )
        found = set[Found]()
        for kind, records in kinds:
            for record in records:
                for each in fields(record):
                    text = str(getattr(record, each.name)).encode("utf-8", "replace")
                    found |= {Found(kind, each.name, place) for place in canary.found_in(text)}
        return found

    def in_backup(self, canary: Canary, place: Path) -> set[Found]:
        """In backups, with the keys that are left; and in their files as they lie."""
        found = in_files(canary, place)
        for stored in Place(place).all():
            found |= self.in_pages(canary, stored.path(""))
        return found

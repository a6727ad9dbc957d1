"""Searches a data directory for what must not be there any more: `python -m storage.ending.remains`, a process alone.

It opens no database: it decrypts the pages of the databases that go on, and of their logs, by itself (free pages too),
looks across the borders over which their rows run, reads every other file as it is, and looks at every path. Other
customers' folders are passed over unless it is told to be thorough: so a search costs what the installation's own
databases, logs and files cost, however many customers there are. It gets keys and terms on standard input, and nothing
that it decrypts leaves it: on standard output it says how far it is, and at last where something was found and of which
kind, with the number of the term.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from storage.ending.pages import PAGE, Border, EncryptedPages, Page
from storage.ending.terms import LEAST_AMONG_RANDOM, KeyTerm, Search

FOUND_MAX = 1000  # terms that are told of one place; of places none is left out, since one of them decides
_CHUNK = 1 << 20
_TOGETHER = 64  # pages
_HITS_MAX = 100_000  # in memory
_TELL_EACH = 1 << 26  # octets

# Where something stands
FILE, NAME, ROW, FREE_PAGE, LOG_FRAME = "file", "name", "row", "free page", "log frame"


@dataclass(frozen=True, slots=True)
class SoughtDatabase:
    path: str  # relative to the data directory
    key: str = field(repr=False)  # hexadecimal digits of the connection's raw key


@dataclass(frozen=True, slots=True)
class Order:
    """What the process is told."""

    data: str
    databases: tuple[SoughtDatabase, ...]
    texts: tuple[str, ...] = field(repr=False)  # hexadecimal digits of octets in ASCII lower case
    keys: tuple[tuple[str, str, str], ...] = field(repr=False)  # id, head and digest
    absent: tuple[str, ...]  # paths that must not be there, relative
    thorough: bool = False
    others: tuple[str, ...] = field(default=(), repr=False)  # as texts: what stays, and contains one of them


@dataclass(frozen=True, slots=True)
class Found:
    where: str  # a path, relative to the data directory
    kind: str
    table: str  # of a row; else empty
    term: str  # hexadecimal digits of a text, or "key <id>", or "path"


@dataclass(slots=True)
class Result:
    files: int = 0
    octets: int = 0
    pages: int = 0
    unverified: int = 0  # pages that could not be read whole; what of them could was searched
    terms: int = 0
    unsearched: int = 0  # terms that say nothing where they stand: too short, words of our own, names of others too
    found: list[Found] = field(default_factory=list)


class Remains:
    def __init__(self, order: Order, tell: Callable[[int, int], None]) -> None:
        self._data = Path(order.data)
        self._order = order
        self._tell = tell
        self._told = 0
        # What they hold is encrypted, and others'; or empty, and one for each customer.
        self._passed_over = {str(self._data / name) for name in ("tenants", "erasing", "run/leases")}
        self._keys = str(self._data / "keys")
        self._own = {name.split("/")[1] for name in order.absent if name.startswith("keys/")}
        keys = [KeyTerm(number, bytes.fromhex(head), bytes.fromhex(digest)) for number, head, digest in order.keys]
        texts = [bytes.fromhex(text) for text in order.texts]
        others = [bytes.fromhex(text) for text in order.others]
        self._search = Search(texts, keys, others=others)
        self._search_files = Search(texts, keys, LEAST_AMONG_RANDOM, others)
        self._found: dict[tuple[str, str, str, bool], set[Found]] = {}
        self.result = Result(terms=len(self._search), unsearched=self._search.unsearched)

    def search(self) -> Result:
        for name in self._order.absent:
            if os.path.lexists(self._data / name):
                self._add(name, NAME, "", "path")
        for path in self._files(self._data):
            self._look_into(path)
        for database in self._order.databases:
            self._look_at_pages(database)
        return self.result

    def _files(self, folder: Path) -> Iterator[Path]:
        """Every regular one below, but for other customers' folders; all names are looked at."""
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
            return
        self._look_at_names(entries)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if self._order.thorough or not self._passes_over(entry):
                    yield from self._files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)

    def _passes_over(self, entry: os.DirEntry[str]) -> bool:
        """What is there for each customer. Of who is searched for, no folder of wrapped keys is passed over."""
        if entry.name.isdecimal() and os.path.dirname(entry.path) == self._keys:
            return entry.name not in self._own
        return entry.path in self._passed_over

    def _look_at_names(self, entries: list[os.DirEntry[str]]) -> None:
        """All of a folder at once, which may be very many; one by one if there is something."""
        if any(self._search.find("\0".join(entry.name for entry in entries).encode("utf-8", "surrogateescape"))):
            for entry in entries:
                for term in self._search.find(os.fsencode(entry.name)):
                    self._add(os.path.relpath(entry.path, self._data), NAME, "", _term(term))

    def _look_into(self, path: Path) -> None:
        """The octets as they are; pieces overlap by the length of the longest term."""
        name = str(path.relative_to(self._data))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # removed meanwhile
            return
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return
            self.result.files += 1
            rest, seen = b"", set()
            while chunk := os.read(descriptor, _CHUNK):
                self._read(len(chunk))
                octets = rest + chunk
                for term in self._search_files.find(octets):
                    if term not in seen:
                        seen.add(term)
                        self._add(name, FILE, "", _term(term))
                rest = octets[-self._search_files.longest :]
        finally:
            os.close(descriptor)

    def _look_at_pages(self, database: SoughtDatabase) -> None:
        pages = EncryptedPages(self._data / database.path, bytes.fromhex(database.key))
        hits: list[tuple[int, int, bytes | KeyTerm]] = []  # number of a page, frame
        last: Page | None = None
        every = pages.all()
        while together := list(islice(every, _TOGETHER)):
            for page in together:
                self.result.pages += 1
                self.result.unverified += not page.verified
                self._read(PAGE)
            hits += self._in_pages(together)
            hits += self._over_borders(
                border
                for before, page in pairwise([last, *together])
                if page is not None
                for border in pages.borders(page, before)
            )
            last = together[-1]
            if len(hits) > _HITS_MAX:
                self._add_hits(database, pages, hits)
                hits.clear()
        self._add_hits(database, pages, hits)

    def _add_hits(
        self, database: SoughtDatabase, pages: EncryptedPages, hits: list[tuple[int, int, bytes | KeyTerm]]
    ) -> None:
        tables = pages.tables({number for number, _, _ in hits}) if hits else {}
        for number, frame, term in hits:
            table = tables.get(number, "")
            kind = LOG_FRAME if frame >= 0 else ROW if table else FREE_PAGE
            self._add(database.path, kind, table, _term(term))

    def _in_pages(self, together: list[Page]) -> list[tuple[int, int, bytes | KeyTerm]]:
        """Looked at together first, and one by one only if there is something."""
        if not any(True for _ in self._search.find(b"".join(page.octets for page in together))):
            return []
        return [(page.number, page.frame, term) for page in together for term in self._search.find(page.octets)]

    def _over_borders(self, borders: Iterable[Border]) -> list[tuple[int, int, bytes | KeyTerm]]:
        reach = self._search.longest
        together = [Border(each.number, each.frame, each.left[-reach:], each.right[:reach]) for each in borders]
        if not any(True for _ in self._search.find(b"".join(each.left + each.right for each in together))):
            return []
        return [
            (each.number, each.frame, term)
            for each in together
            for term in self._search.find_across(each.left, each.right)
        ]

    def _add(self, where: str, kind: str, table: str, term: str) -> None:
        found = Found(where, kind, table, term)
        there = self._found.setdefault((where, kind, table, term.startswith("key ")), set())
        if found not in there and len(there) < FOUND_MAX:
            there.add(found)
            self.result.found.append(found)

    def _read(self, octets: int) -> None:
        self.result.octets += octets
        if self.result.octets - self._told >= _TELL_EACH:
            self._told = self.result.octets
            self._tell(self.result.files, self.result.octets)


def _term(term: bytes | KeyTerm) -> str:
    return f"key {term.key_id}" if isinstance(term, KeyTerm) else term.hex()


def encoded(order: Order) -> bytes:
    return json.dumps(asdict(order)).encode("ascii") + b"\n"


def decoded(line: bytes) -> Order:
    values: dict[str, Any] = json.loads(line)
    return Order(
        values["data"],
        tuple(SoughtDatabase(each["path"], each["key"]) for each in values["databases"]),
        tuple(values["texts"]),
        tuple((number, head, digest) for number, head, digest in values["keys"]),
        tuple(values["absent"]),
        values["thorough"],
        tuple(values["others"]),
    )


def result_of(values: dict[str, Any]) -> Result:
    return Result(**{**values, "found": [Found(**each) for each in values["found"]]})


def _say(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main() -> None:
    order = decoded(sys.stdin.buffer.readline())
    result = Remains(order, lambda files, octets: _say(files=files, octets=octets)).search()
    _say(result=asdict(result))


if __name__ == "__main__":
    main()

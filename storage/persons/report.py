"""What is stored about a person, as a package to hand over: JSON for each class, a page to read, a signed manifest.

    TO/report.md              for people
    TO/data/<class>.json      for programs: a list of items, by the names of the data register
    TO/mail/                  the mailbox, if it is asked for (`storage.export`)
    TO/manifest.json          hashes of all these, signed; written last

The package appears under its name when it is whole. Memory does not grow with what is found. Whoever calls this leaves
the audit record first.

Raises: InvalidInput (the target is not empty, or inside the data directory), NotPermitted (it cannot be written),
StorageFull, Unavailable, and of export.
Standards: GDPR Art. 15 and 20, revFADP Art. 25 and 28.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from storage.certificates.certificate import canonical
from storage.certificates.signing import key_id
from storage.errors import Corrupt, InvalidInput, NotPermitted, StorageFull, Unavailable
from storage.export.account import export_account
from storage.export.manifest import program
from storage.files import durable
from storage.keys import signing
from storage.keys.source import KeySource
from storage.persons.collectors import COLLECTORS, NOT_SEARCHED
from storage.persons.item import Item, moment
from storage.persons.sought import Sought
from storage.register import words
from storage.register.classes import GROUPS
from storage.register.values import DataClass, Whose

FORMAT = 1
MANIFEST = "manifest.json"
SHOWN_MAX = 100  # items of a class that the readable page shows

_MANIFEST_MAX = 1 << 20
_NOT_EXTRACTED = (
    "Messages that this person wrote to users, or got from them, lie in these users' mailboxes, encrypted under their"
    " keys: they are theirs, and are not searched."
)

Tell = Callable[[str, int, int], None]
"""The class that is looked at, which one that is, of how many."""


class Sink(Protocol):
    """Where a report goes."""

    def begin(self, of: DataClass) -> None: ...

    def item(self, of: DataClass, item: Item) -> None: ...

    def end(self, of: DataClass, count: int, sentence: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    counts: dict[str, int]
    unreadable: list[str]
    manifest: dict[str, Any] = field(repr=False)


def searched_classes() -> list[DataClass]:
    """Those with persons in them, in the order of the register."""
    found = [of for _, group in GROUPS for of in group]
    return [of for of in found if of.whose - {Whose.NOBODY}]


def collect(sought: Sought, sink: Sink, tell: Tell | None = None) -> dict[str, int]:
    """Everything, class by class; how many items of each."""
    every = searched_classes()
    counts: dict[str, int] = {}
    for index, of in enumerate(every):
        if tell is not None:
            tell(of.title, index, len(every))
        sink.begin(of)
        count = 0
        collector = COLLECTORS.get(of)
        if collector is not None:
            with sought.reading(of.title):
                for item in collector(sought):
                    sink.item(of, item)
                    count += 1
        counts[of.name] = count
        sink.end(of, count, "" if collector is not None else NOT_SEARCHED[of])
    return counts


# A folder


def write_report(
    sought: Sought, target: Path, tell: Tell | None = None, *, with_mail: bool = False, reason: str = ""
) -> Report:
    """The package in `target`, a folder that is not there or empty."""
    _check_target(sought.installation.data, target)
    parent = target.parent
    with _translated():
        parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
    try:
        report = _write(sought, making, tell, with_mail=with_mail, reason=reason)
        with _translated():
            making.rename(target)
        durable.fsync_directory(parent)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return report


def _write(sought: Sought, folder: Path, tell: Tell | None, *, with_mail: bool, reason: str) -> Report:
    with _translated(), _Folder(sought, folder) as sink:
        counts = collect(sought, sink, tell)
        if with_mail and sought.account_id is not None and sought.tenant_id is not None:
            with sought.reading("the mailbox"):
                export_account(sought.installation, sought.tenant_id, sought.account_id, folder / "mail")
        sink.finish(counts)
    with _translated():
        files = {str(path.relative_to(folder)): _hash(path) for path in _files(folder)}
        values = _values(sought, counts, reason) | {"files": files}
        _write_file(folder / MANIFEST, signed(values, sought.installation.keys))
    durable.fsync_directory(folder)
    return Report(counts, list(sought.unreadable), values)


class _Folder:
    """A `Sink` that writes the files of a package."""

    def __init__(self, sought: Sought, folder: Path) -> None:
        self._sought = sought
        self._folder = folder
        (folder / "data").mkdir(0o700)
        self._page = _create(folder / "report.md")
        self._page.write(_heading(sought))
        self._file: IO[str] | None = None
        self._count = 0

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._file, self._page):
            if file is not None and not file.closed:
                file.close()

    def begin(self, of: DataClass) -> None:
        self._file = _create(self._folder / "data" / f"{of.name}.json")
        self._file.write("[")
        self._count = 0
        self._page.write(f"\n## {of.title}\n\n{_about(self._sought, of)}\n\n")

    def item(self, of: DataClass, item: Item) -> None:
        assert self._file is not None
        self._file.write((",\n" if self._count else "\n") + _json(item))
        self._count += 1
        if self._count <= SHOWN_MAX:
            self._page.write(f"- {_readable(item)}\n")

    def end(self, of: DataClass, count: int, sentence: str) -> None:
        assert self._file is not None
        self._file.write("\n]\n" if count else "]\n")
        _close(self._file)
        if sentence:
            self._page.write(f"Not searched by address. {sentence}\n")
        elif not count:
            self._page.write("Nothing was found.\n")
        elif count > SHOWN_MAX:
            self._page.write(f"\n{count - SHOWN_MAX} more are in data/{of.name}.json.\n")

    def finish(self, counts: dict[str, int]) -> None:
        page = self._page
        page.write(f"\n## What is not in this report\n\n{_NOT_EXTRACTED}\n")
        for each in self._sought.unreadable:
            page.write(f"- could not be read: {each}\n")
        if self._sought.only is not None:
            page.write("- Only one customer's data was looked at.\n")
        _close(page)


# A stream


def stream_report(
    sought: Sought, write: Callable[[str], None], tell: Tell | None = None, *, reason: str = ""
) -> Report:
    """A line of JSON for each item, and the signed manifest, with the hash of all lines before it, as the last."""
    sink = _Lines(write)
    counts = collect(sought, sink, tell)
    values = _values(sought, counts, reason) | {"lines": sink.digest.hexdigest()}
    write(signed(values, sought.installation.keys).decode())
    return Report(counts, list(sought.unreadable), values)


class _Lines:
    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self.digest = hashlib.sha256()

    def begin(self, of: DataClass) -> None:
        pass

    def item(self, of: DataClass, item: Item) -> None:
        line = _json({"class": of.name, **item}) + "\n"
        self.digest.update(line.encode("utf-8", "replace"))
        self._write(line)

    def end(self, of: DataClass, count: int, sentence: str) -> None:
        pass


# The manifest


def signed(values: dict[str, Any], keys: KeySource) -> bytes:
    signature = {
        "algorithm": "Ed25519",
        "public_key": keys.verifying_key("manifest").hex(),
        "value": keys.sign("manifest", canonical(values)).hex(),
    }
    return canonical({"manifest": values, "signature": signature}) + b"\n"


def verify_report(folder: Path, key: bytes | None = None) -> dict[str, Any]:
    """The manifest of a package that is whole and unchanged. Raises InvalidInput."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            document = json.loads(file.read(_MANIFEST_MAX))
        values, signature = document["manifest"], document["signature"]
        public = bytes.fromhex(signature["public_key"])
        if key is not None and key != public:
            raise InvalidInput(f"The report was signed with the key {key_id(public)}, not with {key_id(key)}.")
        signing.verify(public, canonical(values), bytes.fromhex(signature["value"]))
        wanted = dict(values["files"])
        found = {str(path.relative_to(folder)): _hash(path) for path in _files(folder)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError, Corrupt):
        raise InvalidInput("The report is not whole, or was changed after it had been signed.") from None
    if found != wanted:
        raise InvalidInput("A file of the report was changed after it had been signed, was added, or is missing.")
    return dict(values)


def _values(sought: Sought, counts: dict[str, int], reason: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": "person",
        "address": str(sought.address),
        "made": sought.installation.clock.now(),
        "program": program(),
        "installation": sought.installation.control.installation_id(),
        "one_customer_only": sought.only is not None,
        "counts": counts,
        "not_searched": {of.name: why for of, why in NOT_SEARCHED.items()},
        "unreadable": list(sought.unreadable),
        "reason": reason,
    }


# Words


def _heading(sought: Sought) -> str:
    what = "This address has an account here." if sought.account is not None else "Nobody here has this address."
    made = moment(sought.installation.clock.now())
    return f"# What is stored about {_plain(str(sought.address))}\n\nMade {made}. {what}\n"


def _about(sought: Sought, of: DataClass) -> str:
    until = words.how_long(of, sought.installation.periods)
    readers = ", ".join(words.readers(of))
    return f"Kept for {of.purpose}. Ground: {words.BASIS[of.basis]}. How long: {until}. Who may read it: {readers}."


def _readable(item: Item) -> str:
    said = [
        f"{name.replace('_', ' ')}: {_plain(_text(value))}"
        for name, value in item.items()
        if name != "record" and value not in (None, "", [], {})
    ]
    return "; ".join(said) or str(item["record"])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)


_MARKDOWN = str.maketrans({each: "\\" + each for each in "\\`*_[]<>#|!"} | {"\n": " ", "\r": " "})


def _plain(text: str) -> str:
    """A stranger's text makes no link, picture or heading of a page."""
    return text.translate(_MARKDOWN)


# Files


def _check_target(data: Path, target: Path) -> None:
    with _translated():
        resolved, inside = target.resolve(), data.resolve()
        is_taken = target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir())))
    if resolved == inside or inside in resolved.parents:
        raise InvalidInput("The report goes to a folder outside of the data directory.")
    if is_taken:
        raise InvalidInput(f"{target} is there already, and no empty folder.")


@contextmanager
def _translated() -> Iterator[None]:
    """What the file system of the target says, as one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The target has no space left; make room there and run the same command again.") from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise NotPermitted("The target cannot be written by the user that the server runs as.") from None
        raise Unavailable(f"The target cannot be written ({error.strerror}).") from None


def _create(path: Path) -> IO[str]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    return open(descriptor, "w", encoding="utf-8", errors="replace", newline="\n")


def _close(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _write_file(path: Path, octets: bytes) -> None:
    durable.write_file(path, octets)


def _files(folder: Path) -> list[Path]:
    """Those whose hashes stand in the manifest; of an archive of mail its own manifest stands for all of it."""
    mail = folder / "mail"
    found = [folder / "report.md", *sorted((folder / "data").iterdir())]
    return [*found, *([mail / MANIFEST] if (mail / MANIFEST).exists() else [])]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False)

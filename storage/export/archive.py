"""Reads an archive that may come from anybody: nothing is believed, nothing outside of it is opened.

Paths are walked folder by folder from the archive's own descriptor, without following a link, and only regular files
are read. Every number and every text of the index is checked before it is used, and each message against its hash. A
manifest is read first: without one, or with one that does not verify, there is no archive.

Memory: one line of the index, one message, and the documents up to `DOCUMENT_MAX`.
Raises: InvalidInput with one sentence.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from storage.errors import InvalidInput
from storage.export import form, manifest, names
from storage.export.index import FolderLine, Line, MessageLine, lines
from storage.export.manifest import FileHash, Signed
from storage.export.place import read_marker
from storage.export.values import ACCOUNT, DOCUMENT_MAX, INDEX, MANIFEST, MANIFEST_MAX, MARKER, PART_FILES, TENANT, Form
from storage.mail.mailboxes import MAILBOXES_MAX
from storage.mail.names import new_name

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe is opened, seen to be none, and closed
_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
_SOURCE = re.compile(r"[0-9a-f]{32}\Z")
_SUBSCRIPTIONS = f"{names.MAILDIR}/subscriptions"


def is_export(path: Path) -> bool:
    """Whether there is an archive of ours at `path`, complete or not."""
    return (path / MARKER).is_file() or (path / MANIFEST).is_file()


class ArchiveFolder:
    """An archive that has a manifest. `key`: 32 octets; the signature has to be its holder's."""

    def __init__(self, path: Path, key: bytes | None = None) -> None:
        try:
            self._root = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except OSError:
            raise InvalidInput(f"There is no archive at {path}.") from None
        self._folder: tuple[tuple[str, ...], int] | None = None
        self.path = path
        try:
            self.signed = self._manifest(key)
            self.source = self._source()
        except BaseException:
            self.close()
            raise

    def _manifest(self, key: bytes | None) -> Signed:
        try:
            octets = self.read(MANIFEST, MANIFEST_MAX)
        except InvalidInput:
            if not is_export(self.path):
                raise InvalidInput(f"There is no archive at {self.path}.") from None
            raise InvalidInput(
                f"The archive in {self.path} is incomplete: it has no manifest. Run the export again: it goes on."
            ) from None
        self.manifest_hash = hashlib.sha256(octets).hexdigest()
        return manifest.read(octets, key)

    def _source(self) -> str:
        marker = read_marker(self.path) or {}
        source = marker.get("source")
        if not isinstance(source, str) or not _SOURCE.match(source):
            raise InvalidInput(f"{MARKER} of the archive cannot be read.")
        return source

    def close(self) -> None:
        if self._folder is not None:
            os.close(self._folder[1])
            self._folder = None
        os.close(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    # Files

    def open(self, name: str) -> int:
        """A descriptor of a regular file in the archive."""
        *above, last = names.parts_of(name)
        try:
            descriptor = os.open(last, _READ, dir_fd=self._directory(tuple(above)))
        except OSError as error:
            raise _not_there(name, error) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InvalidInput(f"{_shown(name)} of the archive is no file.")
        return descriptor

    def _directory(self, parts: tuple[str, ...]) -> int:
        """The folder's descriptor; that of the last one is kept."""
        if not parts:
            return self._root
        if self._folder is not None and self._folder[0] == parts:
            return self._folder[1]
        descriptor = os.dup(self._root)
        for part in parts:
            try:
                below = os.open(part, _DIRECTORY, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        if self._folder is not None:
            os.close(self._folder[1])
        self._folder = (parts, descriptor)
        return descriptor

    def read(self, name: str, most: int) -> bytes:
        """A whole file of at most so many octets."""
        descriptor = self.open(name)
        try:
            return _octets(descriptor, name, most)
        finally:
            os.close(descriptor)

    def size(self, name: str) -> int:
        descriptor = self.open(name)
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def listed(self, folder: str) -> list[str]:
        try:
            return os.listdir(self._directory(tuple(names.parts_of(folder))))
        except OSError:
            return []

    # What the manifest names

    def check_files(self) -> None:
        """Those beside the messages are what the manifest says."""
        signed = self.signed.manifest
        needed = {ACCOUNT, INDEX} if signed.kind == "account" else {TENANT}
        named = set(signed.files)
        if not needed | {MARKER} <= named or not named <= needed | {MARKER, _SUBSCRIPTIONS} | PART_FILES:
            raise InvalidInput("The manifest of the archive does not name the files that it has to name.")
        for name, wanted in signed.files.items():
            self._check(name, wanted)

    def _check(self, name: str, wanted: FileHash) -> None:
        descriptor = self.open(name)
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if size != wanted.size or hashlib.file_digest(file, "sha256").hexdigest() != wanted.sha256:
                raise InvalidInput(f"{name} of the archive was changed.")

    def document(self, name: str) -> dict[str, Any]:
        """account.json or tenant.json, checked against the manifest."""
        octets = self.read(name, DOCUMENT_MAX)
        wanted = self.signed.manifest.files.get(name)
        if wanted is None or hashlib.sha256(octets).hexdigest() != wanted.sha256:
            raise InvalidInput(f"{name} of the archive was changed.")
        try:
            values = json.loads(octets)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise InvalidInput(f"{name} of the archive cannot be read.")
        return values

    # The index

    @contextmanager
    def index(self) -> Iterator[Iterator[Line]]:
        """Its lines in their order, which is checked as they come."""
        with open(self.open(INDEX), "rb") as file:
            yield self._checked(lines(file))

    def _checked(self, found: Iterator[Line]) -> Iterator[Line]:
        folder: FolderLine | None = None
        number, uid, folders = 0, 0, 0
        seen: set[str] = set()
        for line in found:
            if isinstance(line, FolderLine):
                folders += 1
                if folders > 2 * MAILBOXES_MAX or line.mailbox <= number:
                    raise InvalidInput("The index of the archive has folders that cannot be.")
                self._check_folder(line, seen)
                folder, number, uid = line, line.mailbox, 0
                yield line
                continue
            if folder is None or line.uid <= uid:
                raise InvalidInput("The index of the archive has messages in the wrong place.")
            if isinstance(line, MessageLine):
                self._check_message(line, folder)
            uid = line.uid
            yield line

    def _check_folder(self, line: FolderLine, seen: set[str]) -> None:
        if line.gone:
            return
        parts = names.parts_of(line.path)
        if self.signed.manifest.form is Form.MBOX:
            right = len(parts) == 2 and parts[0] == names.MBOX and parts[1].endswith(".mbox")
        else:
            right = parts == [names.MAILDIR] or (
                len(parts) == 2 and parts[0] == names.MAILDIR and parts[1].startswith(".")
            )
        if not right or line.path in seen or line.folder in seen or new_name(line.folder) != line.folder:
            raise InvalidInput("The index of the archive has a folder that cannot be.")
        seen |= {line.path, line.folder}

    def _check_message(self, line: MessageLine, folder: FolderLine) -> None:
        if folder.gone:
            raise InvalidInput("The index of the archive has messages in the wrong place.")
        if self.signed.manifest.form is Form.MBOX:
            right = line.file == folder.path
        else:
            above, _, last = line.file.rpartition("/")
            right = above == f"{folder.path}/cur" and bool(names.parts_of(last)) and line.offset == 0
        if not right:
            raise InvalidInput("The index of the archive names a file that is not of its folder.")

    # Messages

    def message(self, line: MessageLine) -> bytes:
        """A message as IMAP gave it, checked against the index."""
        descriptor = self.open(line.file)
        try:
            if self.signed.manifest.form is Form.MBOX:
                octets = os.pread(descriptor, line.octets, line.offset)
            else:
                octets = _octets(descriptor, line.file, line.octets)
        finally:
            os.close(descriptor)
        if len(octets) != line.octets or hashlib.sha256(octets).hexdigest() != line.file_sha256:
            raise InvalidInput(f"A message of the archive was changed: {_shown(line.file)}, UID {line.uid}.")
        if self.signed.manifest.form is Form.MBOX:
            octets = form.out_of_mbox(octets, line.added, line.ended)
        message = form.message_of(octets, line.crlf)
        if len(message) != line.size or hashlib.sha256(message).hexdigest() != line.sha256:
            raise InvalidInput(f"A message of the archive is not what the index says: {_shown(line.file)}.")
        return message


def _octets(descriptor: int, name: str, most: int) -> bytes:
    if os.fstat(descriptor).st_size > most:
        raise InvalidInput(f"{_shown(name)} of the archive is larger than it may be.")
    parts = []
    while most >= 0 and (octets := os.read(descriptor, min(most + 1, 1 << 20))):
        parts.append(octets)
        most -= len(octets)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _not_there(name: str, error: OSError) -> InvalidInput:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return InvalidInput(f"{_shown(name)} of the archive is a link or lies behind one; nothing was read.")
    if error.errno == errno.ENOENT:
        return InvalidInput(f"{_shown(name)} is missing in the archive.")
    return InvalidInput(f"{_shown(name)} of the archive cannot be read: {error.strerror}.")


def _shown(name: str) -> str:
    return name if len(name) <= 120 else name[:117] + "…"

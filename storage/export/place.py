"""The folder that an archive is written to: claimed by one export, written in batches, for its owner's eyes only.

`claim` takes an empty folder, or one that an earlier run of the same export began; anything else is refused and left as
it is. Files are written without an fsync each: when `settle` returns, everything written before is on the disk under
its name. Nothing here follows a link. Folders are 0700 and files 0600, whatever the umask.

Raises: InvalidInput (inside the data directory, no folder), Conflict (another export's, another at work), NotPermitted,
StorageFull, Unavailable.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.errors import CleanmailError, Conflict, InvalidInput, NotPermitted, StorageFull, Unavailable
from storage.export.values import ACCOUNT, FORMAT, MANIFEST, MARKER, TENANT
from storage.files import durable

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_MARKER_MAX = 4096


class Place:
    """A folder that this export holds."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._folders: set[str] = set()

    def make_folder(self, name: str) -> None:
        """With those above it."""
        if name in self._folders:
            return
        above, _, _ = name.rpartition("/")
        if above:
            self.make_folder(above)
        try:
            os.mkdir(f"{self.path}/{name}", 0o700)
        except FileExistsError:
            if os.path.islink(f"{self.path}/{name}"):
                raise Conflict(f"{name} in the target is a link; an export follows none.") from None
        self._folders.add(name)

    def write(self, name: str, octets: bytes, *, time: int | None = None) -> None:
        """Raises OSError as the kernel does."""
        path = f"{self.path}/{name}"
        descriptor = os.open(path, _CREATE, 0o600)
        try:
            durable.write_all(descriptor, octets)
            if time is not None:
                _set_time(descriptor, time)
        finally:
            os.close(descriptor)

    def link(self, name: str, other: str) -> bool:
        """`other` under `name` too; False where the file system has no hard links, or `other` is not there."""
        path = f"{self.path}/{name}"
        for _ in range(2):
            try:
                os.link(f"{self.path}/{other}", path, follow_symlinks=False)
            except FileExistsError:
                os.unlink(path)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV, errno.ENOSYS):
                    return False
                raise
            else:
                return True
        return False

    def leads_away(self, folder: str) -> bool:
        """Whether the folder, or one above it, is a link."""
        parts = folder.split("/")
        return any(os.path.islink(f"{self.path}/{'/'.join(parts[: end + 1])}") for end in range(len(parts)))

    def settle(self) -> None:
        """Everything written before is on the disk."""
        durable.sync_file_system(self._descriptor)

    def write_document(self, name: str, octets: bytes) -> None:
        """Whole under its name, or not at all; durable on return."""
        with sentences():
            try:
                durable.write_file(self.path / name, octets)
            except StorageFull:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None

    def remove(self, name: str) -> bool:
        """Durable on return; False if it was not there."""
        with sentences():
            return durable.remove_file(self.path / name)

    def has(self, name: str) -> bool:
        return os.path.lexists(self.path / name)


@contextmanager
def claim(target: Path, data: Path, identity: Mapping[str, Any]) -> Iterator[Place]:
    """The target of the export that `identity` names, held until the context ends."""
    place = _outside(target, data)
    with sentences():
        made = not place.exists()
        if made:
            _make(place)
        elif not place.is_dir():
            raise InvalidInput(f"{target} is not a folder.")
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(f"Another export is writing to {target}.") from None
        _check_identity(place, target, identity)
        with sentences():
            _remove_torn(place)
            yield Place(place, descriptor)
    finally:
        os.close(descriptor)


def _make(place: Path) -> None:
    """Raises OSError as the kernel does: what the installation's own folders say of it helps nobody here."""
    try:
        durable.make_directory(place)
    except Unavailable as error:
        raise error.__cause__ or error from None


def _outside(target: Path, data: Path) -> Path:
    place = Path(os.path.realpath(target))
    home = Path(os.path.realpath(data))
    if place == home or home in place.parents:
        raise InvalidInput("An export goes outside of the data directory.")
    return place


def _check_identity(place: Path, target: Path, identity: Mapping[str, Any]) -> None:
    wanted = {"format": FORMAT, **identity}
    with sentences():
        found = read_marker(place)
        if found is None:
            left = [name for name in os.listdir(place) if not name.startswith(f".{MARKER}.")]
            if left:
                raise Conflict(f"{target} is neither empty nor an export; nothing was changed.")
            durable.write_file(place / MARKER, json.dumps(wanted, ensure_ascii=False).encode() + b"\n")
        elif found == {**wanted, "format": found.get("format")} and _is_earlier(found.get("format")):
            durable.write_file(place / MARKER, json.dumps(wanted, ensure_ascii=False).encode() + b"\n")
        elif found != wanted:
            what = "form" if {**found, "form": wanted.get("form")} == wanted else "account or tenant"
            raise Conflict(f"{target} holds an export of another {what}; nothing was changed.")


def _is_earlier(form: object) -> bool:
    """An archive of an earlier version gets what was not in it."""
    return type(form) is int and 0 < form < FORMAT


def _remove_torn(place: Path) -> None:
    """Documents that a crash left half written."""
    for name in os.listdir(place):
        if any(name.startswith(f".{document}.") for document in (MARKER, ACCOUNT, TENANT, MANIFEST)):
            os.unlink(place / name)


def read_marker(place: Path) -> dict[str, Any] | None:
    """What an archive says it is of; None if there is none."""
    try:
        descriptor = os.open(place / MARKER, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return {}
        raise
    try:
        found = json.loads(os.read(descriptor, _MARKER_MAX))
    except (ValueError, OSError, RecursionError):
        return {}
    finally:
        os.close(descriptor)
    return found if isinstance(found, dict) else {}


@contextmanager
def sentences() -> Iterator[None]:
    """What the file system of the target says, as one sentence."""
    try:
        yield
    except CleanmailError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "The target has no space left; make room there and run the same command again: it goes on."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise NotPermitted("The target cannot be written by the user that the server runs as.") from None
        if error.errno in (errno.EINVAL, errno.ENAMETOOLONG):
            raise InvalidInput(
                "The target's file system does not take the names of a Maildir; use --format mbox there."
            ) from None
        raise Unavailable(
            f"The target cannot be written ({error.strerror}); run the same command again: it goes on."
        ) from None


def _set_time(descriptor: int, time: int) -> None:
    try:
        os.utime(descriptor, (time, time))
    except (OverflowError, OSError):  # before 1970, after what the file system knows: the index has it
        return

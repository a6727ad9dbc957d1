"""Dated copies of keys/ in another place: all wrapped keys with their hashes, never the master.

A copy is a folder keys-<UTC time>/ with manifest.json, which says when it was made, when it has to be removed, which
generation of the master opens it, and the SHA-256 of each file. It is whole when it has that name. Together with that
generation of the master it opens everything, so it lives for days only; without it, nothing.

Raises: Unavailable (the place cannot be written), InvalidInput (no copy), Corrupt (a changed copy), AlreadyExists.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.clock import Clock
from storage.errors import AlreadyExists, CleanmailError, Corrupt, Gone, InvalidInput, NotFound, Unavailable
from storage.files import durable
from storage.keys import names, unfinished
from storage.keys.files import KeyFiles
from storage.keys.keystore import KeyStore
from storage.keys.mirror import wrapped_files
from storage.keys.places import MasterPlace, shred
from storage.keys.wrapping import decode_keys, decode_set, generation_of
from storage.values import AccountId, TenantId

MANIFEST = "manifest.json"

_FORMAT = 1
_FOLDER = re.compile(r"keys-[0-9]{8}T[0-9]{6}Z\Z")
_INCOMING = "restoring"  # beside keys/, with its name before it


@dataclass(frozen=True, slots=True)
class Manifest:
    made: int  # Unix seconds, as below
    expires: int
    master: int  # the generation that opens it
    files: dict[str, str]  # SHA-256 by name


def folder_of(place: Path, made: int) -> Path:
    """Where a copy that is made now in `place` will be."""
    return place / f"keys-{datetime.fromtimestamp(made, UTC):%Y%m%dT%H%M%SZ}"


def master_generation(keys: Path) -> int:
    """Which generation of the master wraps what is in keys/; no key is needed to see it."""
    try:
        if (keys / names.GROUPS).exists():
            return generation_of(decode_set((keys / names.GROUPS).read_bytes(), "groups").under)
        return generation_of(decode_keys((keys / names.SERVICE).read_bytes(), "service")[-1].under)
    except FileNotFoundError:
        raise NotFound("There are no keys in this data directory yet.") from None


def make_copy(keys: Path, folder: Path, *, made: int, expires: int) -> Manifest:
    """Copy keys/ to `folder` (see `folder_of`), which is whole and durable when it returns.

    Nobody changes keys meanwhile, so the disk is waited for once, not for each file.
    """
    if not folder.parent.is_dir():
        raise Unavailable(f"The folder {folder.parent} is not there: mount its disk, or make it.")
    if folder.exists():
        raise AlreadyExists(f"There is {folder} already.")
    partial = _partial(folder)
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        with KeyFiles(keys).locked():
            _check_nothing_is_to_go(keys)
            manifest = Manifest(made, expires, master_generation(keys), _copy(keys, partial))
        document = {"format": _FORMAT, **{name: getattr(manifest, name) for name in Manifest.__slots__}}
        _write(partial / MANIFEST, json.dumps(document, indent=1).encode("ascii") + b"\n")
        os.sync()
        partial.rename(folder)
        durable.fsync_directory(folder.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise Unavailable(f"{folder.parent} cannot be written: {error.strerror}.") from None
    except CleanmailError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What a copy says of itself."""
    try:
        document: Any = json.loads((folder / MANIFEST).read_bytes())
        if document["format"] != _FORMAT:
            raise Unavailable("The copy of the keys has a newer format than this program knows.")
        files = {str(name): str(digest) for name, digest in document["files"].items()}
        return Manifest(int(document["made"]), int(document["expires"]), int(document["master"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InvalidInput(f"{folder} is no copy of keys: it has no {MANIFEST}, or it cannot be read.") from None


def verify(folder: Path) -> Manifest:
    """Every file is there as it was copied. Raises Corrupt."""
    manifest = read_manifest(folder)
    for name, digest in manifest.files.items():
        if not _is_name(name):
            raise Corrupt(f"The copy of the keys names a file '{name[:40]}' that is none of keys/.")
        try:
            octets = (folder / name).read_bytes()
        except OSError:
            raise Corrupt(f"The copy of the keys is not whole: {name} is missing.") from None
        if hashlib.sha256(octets).hexdigest() != digest:
            raise Corrupt(f"The copy of the keys was changed: {name} is not as it was copied.")
    if names.SERVICE not in manifest.files:
        raise Corrupt("The copy of the keys is not whole: service.key is missing.")
    return manifest


def is_gone(folder: Path) -> bool:
    """Whether nothing of a copy is left, nor of one that was not finished. Not, if that cannot be seen."""
    try:
        return not any(os.path.lexists(root) for root in (folder, _partial(folder))) and folder.parent.is_dir()
    except OSError:
        return False


def remove_copy(folder: Path) -> None:
    """Overwritten and gone, for good. Raises Unavailable if its place is not there to be looked at."""
    if not _FOLDER.match(folder.name):
        raise InvalidInput(f"{folder} is no copy of keys.")
    if not folder.parent.is_dir():
        raise Unavailable(f"The folder {folder.parent} is not there, so the copy in it cannot be removed.")
    for root in (folder, _partial(folder)):
        try:
            for path, _, files in os.walk(root):
                for name in files:
                    shred(Path(path) / name)
            if root.is_dir():
                shutil.rmtree(root)
        except OSError as error:
            raise Unavailable(f"{root} cannot be removed: {error.strerror}.") from None
    durable.fsync_directory(folder.parent)


def restore(folder: Path, keys: Path, master: MasterPlace, clock: Clock, *, tell: Callable[[], None]) -> Manifest:
    """Put a copy in the place of keys/ that are not there, after the master has opened every key of it.

    `tell` is called before the first step that changes something. Done twice it is the same. Raises AlreadyExists if
    there are other keys.
    """
    manifest = verify(folder)
    if (keys / names.SERVICE).exists():
        if {name: _digest(keys / name) for name in wrapped_files(keys)} != manifest.files:
            raise AlreadyExists("There are other keys in this data directory; nothing was changed.")
        return manifest
    incoming = keys.with_name(f".{keys.name}.{_INCOMING}")
    shutil.rmtree(incoming, ignore_errors=True)
    tell()
    try:
        for name in manifest.files:
            (incoming / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(incoming / name, (folder / name).read_bytes())
        _open_all(incoming, master, clock)
        durable.make_directory(keys)
        for name in sorted(manifest.files, key=lambda name: name == names.SERVICE):  # which says that keys are there
            durable.make_directory((keys / name).parent)
            durable.write_file(keys / name, (incoming / name).read_bytes())
    except OSError as error:
        raise durable.translated(error) from None
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return manifest


def _partial(folder: Path) -> Path:
    """Where it is written until it is whole."""
    return folder.with_name(f".{folder.name}")


def _check_nothing_is_to_go(keys: Path) -> None:
    """A destruction that was interrupted before its first step has asked for the copies that there are already."""
    for change in unfinished.read(keys):
        tenant = TenantId(change.tenant)
        name = names.account_file(tenant, AccountId(change.account)) if change.account else names.tenant_file(tenant)
        if change.what != "rotate" and (keys / name).exists():
            raise Unavailable("A key that is to be destroyed is still there: no copy is made before that has ended.")


def _open_all(keys: Path, master: MasterPlace, clock: Clock) -> None:
    try:
        store = KeyStore(keys, master.read(), clock)
        for tenant in store.tenants():
            try:
                store.tenant(tenant)
                for account in store.accounts(tenant):
                    try:
                        store.account(tenant, account)
                    except Gone:
                        continue
            except Gone:
                continue
    except CleanmailError as error:
        raise Corrupt(f"The master key does not open this copy: {error.public} Nothing was changed.") from None


def _copy(keys: Path, target: Path) -> dict[str, str]:
    digests: dict[str, str] = {}
    for name in wrapped_files(keys):
        octets = (keys / name).read_bytes()
        (target / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(target / name, octets)
        digests[name] = hashlib.sha256(octets).hexdigest()
    return digests


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        durable.write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_name(name: str) -> bool:
    folder, slash, file = name.partition("/")
    if not slash:
        return name in names.TOP or names.TENANT_MARKER.match(name) is not None
    pattern = names.IN_GROUPS if folder == "groups" else names.IN_TENANT
    return (folder == "groups" or names.NUMBER.match(folder) is not None) and pattern.match(file) is not None

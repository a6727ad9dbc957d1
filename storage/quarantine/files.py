"""The two files of each withheld message, in the quarantine of its tenant: NAME.header and NAME.body.

NAME carries the message's id and its writer's incarnation, so the sweep removes only what the dead left without a row.
Each is a message file (`storage.files.format`) under a key of its own (`storage.quarantine.keys`); what is
authenticated with it includes its name, so neither stands in for the other, nor for another message's.

Raises: NotFound (it was settled), Corrupt, StorageFull, Unavailable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from storage.backup import lease
from storage.errors import AlreadyExists, NotFound
from storage.files import durable
from storage.files.format import read_all, write_file
from storage.files.metadata import FileMeta
from storage.keys.sealing import Key
from storage.quarantine.header_object import HeaderObject
from storage.register import classes
from storage.register.values import FileClass
from storage.values import AccountId, MessageId, TenantId

HEADER, BODY = ".header", ".body"
_ENDINGS = (HEADER, BODY)


FILES = (
    FileClass("tenants/*/quarantine/*.header", classes.WITHHELD, "the header of a withheld message, encrypted"),
    FileClass("tenants/*/quarantine/*.body", classes.WITHHELD, "its body, encrypted under another key"),
)


def folder_of(data: Path, tenant_id: TenantId) -> Path:
    return data / "tenants" / str(int(tenant_id)) / "quarantine"


def read_header(folder: Path, name: str, key: Key) -> HeaderObject:
    """The header object of the message with this base name; `key` is the header key and opens nothing else."""
    return HeaderObject.unpack(_read(folder / f"{name}{HEADER}", key))


def find_name(folder: Path, quarantine_id: str) -> str:
    """The base name of a message's files, for who has no database to ask. Raises NotFound."""
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if name.startswith(f"{quarantine_id}.") and name.endswith(HEADER):
                return name.removesuffix(HEADER)
    raise NotFound("The message is not in the quarantine any more.")


class QuarantineFiles:
    """Of one tenant."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, header_key: Key, header: HeaderObject, body_key: Key, body: bytes) -> None:
        """Both, fsynced; their names are durable after `sync`. When this raises, nothing of it is left.

        AlreadyExists: they are there, and stay.
        """
        durable.make_child(self.folder)
        try:
            self._write(f"{name}{HEADER}", header_key, header.pack(), header)
            self._write(f"{name}{BODY}", body_key, body, header)
        except FileExistsError:
            raise AlreadyExists(detail="quarantine: a file of that name is there") from None
        except BaseException as error:
            self.remove(name)
            if isinstance(error, OSError):
                raise durable.translated(error) from None
            raise

    def _write(self, name: str, key: Key, octets: bytes, about: HeaderObject) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self.folder / name, flags, 0o600)
        try:
            meta = FileMeta(AccountId(0), MessageId(0), about.received, mailbox="", delivery_id=about.quarantine_id)
            write_file(descriptor, name, key, meta, octets)
            durable.fsync_file(descriptor)
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Makes the names of all files written so far durable."""
        durable.fsync_directory(self.folder)

    def read_header(self, name: str, key: Key) -> HeaderObject:
        return read_header(self.folder, name, key)

    def read_body(self, name: str, key: Key) -> bytes:
        return _read(self.folder / f"{name}{BODY}", key)

    def has(self, name: str) -> bool:
        """Whether both are there."""
        return all((self.folder / f"{name}{ending}").exists() for ending in _ENDINGS)

    def remove(self, name: str) -> bool:
        """Whether both are gone; what cannot be removed is left to the sweep."""
        gone = True
        for ending in _ENDINGS:
            try:
                os.unlink(self.folder / f"{name}{ending}")
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone

    def are_being_copied(self) -> bool:
        """Whether a backup needs all files as they are now."""
        return lease.is_held(self.folder.parents[2], self.folder.parent.name)

    def names(self) -> Iterator[tuple[str, str]]:
        """(base name, incarnation of its writer) of each message of which a file is there."""
        try:
            found = os.listdir(self.folder)
        except FileNotFoundError:
            return
        for name in sorted({name.rpartition(".")[0] for name in found}):
            yield name, name.partition(".")[2]


def _read(path: Path, key: Key) -> bytes:
    try:
        return read_all(str(path), key)[1]
    except FileNotFoundError:
        raise NotFound("The message is not in the quarantine any more.") from None
    except OSError as error:
        raise durable.translated(error) from None

"""The content of queued messages: one encrypted file per entry, in the spool of the tenant whose key it is under.

A file's name carries the entry's id and its writer's incarnation, so the sweep removes only what the dead left without
a row. The octets are fsynced by `make_durable`, the name is durable after `sync`; both go before the commit.

Raises: NotFound (no such file: the entry was settled), Corrupt, StorageFull, Unavailable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from storage.backup import lease
from storage.errors import NotFound, Unavailable
from storage.files import durable
from storage.files.format import read_all, write_file
from storage.files.metadata import FileMeta
from storage.keys.sealing import Key
from storage.register import classes
from storage.register.values import FileClass
from storage.values import AccountId, MessageId, TenantId


class SpoolFile:
    """A file that was written and is still open: several may be written before the first is made durable."""

    __slots__ = ("_descriptor", "name", "tenant_id")

    def __init__(self, tenant_id: TenantId, name: str, descriptor: int) -> None:
        self.tenant_id = tenant_id
        self.name = name
        self._descriptor = descriptor

    def make_durable(self) -> None:
        """Fsyncs and closes it; its name is durable after `Spool.sync`."""
        if self._descriptor >= 0:
            durable.fsync_file(self._descriptor)
            self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


FILES = (FileClass("tenants/*/spool/*", classes.QUEUE, "content of queued messages, encrypted"),)


class Spool:
    """All tenants' spools of one data directory."""

    def __init__(self, data: Path, incarnation: str) -> None:
        self._data = str(data)
        self._tenants = str(data / "tenants")  # texts: pathlib's paths cost as much as the encryption of a message
        self._incarnation = incarnation

    def folder(self, tenant_id: TenantId) -> Path:
        return Path(self._folder(tenant_id))

    def _folder(self, tenant_id: TenantId) -> str:
        return f"{self._tenants}/{tenant_id:d}/spool"

    def write(self, tenant_id: TenantId, queue_id: str, key: Key, content: bytes, arrived: int) -> SpoolFile:
        """The new file, not durable yet. When this raises, nothing is left."""
        name = f"{queue_id}.{self._incarnation}"
        path = f"{self._folder(tenant_id)}/{name}"
        try:
            descriptor = self._open_new(path)
        except OSError as error:
            raise durable.translated(error) from None
        file = SpoolFile(tenant_id, name, descriptor)
        try:
            meta = FileMeta(AccountId(0), MessageId(0), arrived, mailbox="", delivery_id=queue_id)
            write_file(descriptor, name, key, meta, content)
        except BaseException as error:
            file.close()
            with suppress(FileNotFoundError):
                os.unlink(path)
            if isinstance(error, OSError):
                raise durable.translated(error) from None
            raise
        return file

    def _open_new(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:  # the tenant's first entry
            durable.make_child(Path(path).parent)
            return os.open(path, flags, 0o600)

    def sync(self, tenant_id: TenantId) -> None:
        """Makes the names of all files written so far durable.

        Raises Unavailable if the tenant has ended meanwhile: temporary, since others may share the commit that fails.
        """
        try:
            durable.fsync_directory(self._folder(tenant_id))
        except FileNotFoundError:
            raise Unavailable(detail=f"tenant {tenant_id}: it has no spool any more") from None

    def read(self, tenant_id: TenantId, name: str, key: Key) -> bytes:
        try:
            return read_all(f"{self._folder(tenant_id)}/{name}", key)[1]
        except FileNotFoundError:
            raise NotFound("The message is not in the queue any more.") from None

    def remove(self, tenant_id: TenantId, name: str) -> bool:
        """Whether it is gone; what cannot be removed is left to the sweep."""
        try:
            os.unlink(f"{self._folder(tenant_id)}/{name}")
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def is_being_copied(self) -> bool:
        """Whether a backup needs all files as they are now."""
        return lease.is_held(self._data, lease.QUEUE)

    def files(self, tenant_id: TenantId) -> Iterator[tuple[str, str]]:
        """(base name, incarnation of its writer) of each file."""
        try:
            names = os.listdir(self._folder(tenant_id))
        except FileNotFoundError:
            return
        for name in names:
            yield name, name.partition(".")[2]

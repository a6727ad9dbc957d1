"""The middle of the key tree: groups of tenants under the master, and under a group's secret a ring for each tenant.

    groups.key        the secrets of at most 256 groups, under the master
    groups/<n>.key    the rings of the tenants whose id leaves n when divided by 256, under that group's secret

A ring wraps its tenant's key and those of its accounts. To take one key out of reach for good, only the ring, the group
and the master above it are made anew: that costs the same among ten tenants as among ten thousand. Both sets are kept
in memory as long as their files are the same (inode, times, size), so a lease reads one file only.

While one is replaced, both the old and the new secret stand in the set above: whoever reads finds one that fits, or
looks again.

Raises: Corrupt, Unavailable (the generation of the master that is needed is not there).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from storage.errors import Corrupt
from storage.keys import names
from storage.keys.files import KeyFiles
from storage.keys.known import GenerationMissingError
from storage.keys.sealing import Key
from storage.keys.wrapping import Secrets, decode_set, encode_set
from storage.values import TenantId

T = TypeVar("T")

_ATTEMPTS = 10  # to read what somebody else is changing
_LOOKS = 2  # for a generation of the master, which may cost a run of a command

_Stamp = tuple[int, int, int, int]


class MovedError(Exception):
    """What was read is wrapped under something that was not known: it was changed meanwhile, or it is damaged."""


@dataclass(frozen=True, slots=True)
class _Set:
    stamp: _Stamp
    under: str
    complete: bool
    secrets: Secrets


class Tree:
    def __init__(self, files: KeyFiles, master: Callable[[str], bytes]) -> None:
        """`master`: the secret that "master:2" stands for."""
        self._files = files
        self._folder = str(files.directory)
        self._master = master
        self._lock = threading.Lock()
        self._groups: _Set | None = None
        self._rings: dict[int, _Set] = {}

    def forget(self) -> None:
        """Everything is read anew."""
        with self._lock:
            self._groups = None
            self._rings.clear()

    def consistent(self, read: Callable[[], T]) -> T:
        """What `read` gives, which may raise MovedError as long as somebody changes what it reads."""
        for attempt in range(_ATTEMPTS):
            try:
                return read()
            except MovedError:
                self.forget()
            except GenerationMissingError:
                if attempt >= _LOOKS:
                    raise
                self.forget()
        raise Corrupt(detail="key file: wrapped under a key that is not there")

    # Reading

    def groups(self) -> Secrets:
        if self._files.exists(names.GROUPS):
            return self._groups_set().secrets
        if any(self._files.path("groups").glob("*.key")):
            raise Corrupt(detail="groups.key is not there; its groups are")
        return {}

    def under(self) -> str | None:
        """What the groups are wrapped under."""
        return self._groups_set().under if self._files.exists(names.GROUPS) else None

    def complete(self) -> bool:
        """Whether no key is left in the layout of before."""
        return self._files.exists(names.GROUPS) and self._groups_set().complete

    def rings(self, number: int) -> Secrets:
        """The rings of a group; none if it has no file."""
        found = self._rings_set(number)
        return found.secrets if found is not None else {}

    def ring_secrets(self, tenant: TenantId) -> dict[str, bytes]:
        """By the names under which they wrap."""
        return {f"ring:{key.id}": key.secret for key in self.rings(names.group_of(tenant)).get(int(tenant), [])}

    def group_in_use(self, number: int) -> str | None:
        """The id of the secret that the group's file is under; None if it has no file."""
        found = self._rings_set(number)
        return found.under.removeprefix("group:") if found is not None else None

    def _groups_set(self) -> _Set:
        with self._lock:
            known = self._groups
        stamp = self._stamp(names.GROUPS)
        if stamp is None:
            raise MovedError
        if known is not None and known.stamp == stamp:
            return known
        sealed = decode_set(self._read(names.GROUPS), "groups")
        found = _Set(stamp, sealed.under, sealed.complete, sealed.open("groups", self._master(sealed.under)))
        with self._lock:
            self._groups = found
        return found

    def _rings_set(self, number: int) -> _Set | None:
        name = names.rings_file(number)
        stamp = self._stamp(name)
        if stamp is None:
            return None
        with self._lock:
            known = self._rings.get(number)
        if known is not None and known.stamp == stamp:
            return known
        sealed = decode_set(self._read(name), f"rings {number}")
        secret = {f"group:{key.id}": key.secret for key in self.groups().get(number, [])}.get(sealed.under)
        if secret is None:
            raise MovedError
        found = _Set(stamp, sealed.under, sealed.complete, sealed.open(f"rings {number}", secret))
        with self._lock:
            self._rings[number] = found
        return found

    def _stamp(self, name: str) -> _Stamp | None:
        try:
            status = os.stat(f"{self._folder}/{name}")
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size

    def _read(self, name: str) -> bytes:
        try:
            return self._files.read(name)
        except FileNotFoundError:
            raise MovedError from None

    # Writing, under the lock of the files

    def write_groups(
        self, groups: Mapping[int, Sequence[Key]], under: str, *, complete: bool, new: bool = False
    ) -> None:
        write = self._files.write_new if new else self._files.write
        write(names.GROUPS, encode_set("groups", groups, under, self._master(under), complete=complete))
        with self._lock:
            self._groups = None

    def write_rings(self, number: int, rings: Mapping[int, Sequence[Key]], group: Key, *, new: bool = False) -> None:
        write = self._files.write_new if new else self._files.write
        encoded = encode_set(f"rings {number}", rings, f"group:{group.id}", group.secret, complete=True)
        write(names.rings_file(number), encoded)
        with self._lock:
            self._rings.pop(number, None)

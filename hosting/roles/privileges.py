"""What a process may do: the user it runs as, no core dumps, as many open files as the machine allows.

Raises: Unavailable with a sentence for the operator.
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import Unavailable


def forbid_core_dumps() -> None:
    """A core file would hold keys and passwords; children inherit the limit."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def raise_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def become(user: str) -> None:
    """Give up root for `user`, for good; nothing happens if the process is not root."""
    if os.geteuid() != 0 or not user:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise Unavailable(f"server.user: this machine has no user '{user}'.") from None
    _switch(entry.pw_uid, entry.pw_gid)


def become_owner(path: Path) -> None:
    """As `become`, with the owner of `path`: files that root would make there could not be used by the server."""
    if os.geteuid() != 0 or not path.exists():
        return
    owner = path.stat()
    if owner.st_uid == 0:
        return
    _switch(owner.st_uid, owner.st_gid)


@contextmanager
def acting_as_owner(path: Path, *, wholly: bool = False) -> Iterator[None]:
    """As `become_owner`, while the context lasts (see `acting_as`)."""
    owner = path.stat() if path.exists() else None
    if owner is None:
        yield
        return
    with acting_as(owner.st_uid, owner.st_gid, wholly=wholly):
        yield


@contextmanager
def acting_as(uid: int, gid: int | None = None, *, wholly: bool = False) -> Iterator[None]:
    """Root's program has no more rights than this user, while the context lasts; nothing happens if it is not root.

    `gid`: None is the user's own. The real user stays, so that others can see who it is. `wholly`: he does not, and
    programs that are started meanwhile can never be root again.
    """
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    group = _group_of(uid) if gid is None else gid
    gids, uids, groups = os.getresgid(), os.getresuid(), os.getgroups()
    real_gid, real_uid = (group, uid) if wholly else (gids[0], uids[0])
    try:
        os.setgroups(_groups_of(uid, group))
        os.setresgid(real_gid, group, gids[2])
        os.setresuid(real_uid, uid, 0)
        yield
    finally:
        os.setresuid(*uids)
        os.setresgid(*gids)
        os.setgroups(groups)


def _group_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def _groups_of(uid: int, gid: int) -> list[int]:
    """Also of a user without a name."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return [gid]
    return sorted({group.gr_gid for group in grp.getgrall() if name in group.gr_mem} | {gid})


def _switch(uid: int, gid: int) -> None:
    os.setgroups(_groups_of(uid, gid))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.environ["HOME"] = "/"

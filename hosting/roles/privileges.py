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
    """As `become_owner`, while the context lasts; the real user stays, so that others can see who it is.

    `wholly`: he does not, and programs that are started meanwhile can never be root again.
    """
    owner = path.stat() if path.exists() else None
    if os.geteuid() != 0 or owner is None or owner.st_uid == 0:
        yield
        return
    gids, uids, groups = os.getresgid(), os.getresuid(), os.getgroups()
    real_gid, real_uid = (owner.st_gid, owner.st_uid) if wholly else (gids[0], uids[0])
    os.setgroups(_groups_of(owner.st_uid, owner.st_gid))
    os.setresgid(real_gid, owner.st_gid, gids[2])
    os.setresuid(real_uid, owner.st_uid, 0)
    try:
        yield
    finally:
        os.setresuid(*uids)
        os.setresgid(*gids)
        os.setgroups(groups)


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

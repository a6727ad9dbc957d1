"""Where a person's program keeps the token of his session: a file of his own that nobody else may read.

It lies in XDG_RUNTIME_DIR, else in /run/user/<uid>, else in ~/.local/state, is read and written as that user (also by
root's program, so that no link leads it elsewhere), and is believed only if it is his and closed to others.

Raises: NotPermitted (somebody else's, or open to others), Unavailable (no place for it).
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from hosting.roles import privileges
from storage.errors import NotPermitted, Unavailable

_LENGTH_MAX = 200


def read(data: Path, uid: int) -> str:
    """The token for this data directory; empty if there is none."""
    with privileges.acting_as(uid):
        for folder in _folders(uid):
            try:
                descriptor = os.open(
                    folder / _name(data, uid), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                )
            except OSError:
                continue
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    continue
                if found.st_uid not in {uid, os.geteuid()} or found.st_mode & 0o077:
                    raise NotPermitted(
                        f"The session in {folder} belongs to somebody else or can be read by others; "
                        "remove it and sign in again."
                    )
                return os.read(descriptor, _LENGTH_MAX).decode("ascii", "replace").strip()
            finally:
                os.close(descriptor)
    return ""


def write(data: Path, uid: int, token: str) -> Path:
    """Durable enough for a session: whole when it returns, or not there."""
    with privileges.acting_as(uid):
        for folder in _folders(uid):
            path = folder / _name(data, uid)
            temporary = path.with_name(f"{path.name}.{os.getpid()}")
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                temporary.unlink(missing_ok=True)
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(token.encode("ascii") + b"\n")
                temporary.rename(path)
            except OSError:
                continue
            return path
    raise Unavailable("There is no place for the session: neither XDG_RUNTIME_DIR nor a home directory can be written.")


def remove(data: Path, uid: int) -> None:
    with privileges.acting_as(uid):
        for folder in _folders(uid):
            with suppress(OSError):
                (folder / _name(data, uid)).unlink()


def _name(data: Path, uid: int) -> str:
    return f"session-{uid}-{hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]}"


def _folders(uid: int) -> list[Path]:
    """Where it may lie, the best place first."""
    places = []
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        places.append(Path(runtime))
    places.append(Path(f"/run/user/{uid}"))
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        places.append(Path(state))
    with suppress(KeyError):
        places.append(Path(pwd.getpwuid(uid).pw_dir) / ".local" / "state")
    return [place / "cleanmail" for place in places if place.is_dir() or place.name == "state"]

"""Which person is behind a process: who signed in to the machine, also through sudo; else whom it was started as.

The kernel keeps the login uid from the sign-in on and lets nobody change it afterwards. Where nobody sets it, as in a
container, the real uid counts; so the user that the server runs as must never be an auditor or a reviewer.

Raises: NotPermitted.
"""

from __future__ import annotations

import pwd
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hosting.access.actions import Action
from hosting.access.decide import may
from hosting.access.roles import StaffRole, Who
from storage.errors import NotPermitted

PROC = Path("/proc")
_UNSET = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Person:
    uid: int
    name: str  # of the Unix user; the number, if it has none


def person_of(pid: int | str = "self") -> Person:
    """Raises NotPermitted if the process cannot be asked about."""
    try:
        uid = _login_uid(pid)
        if uid == _UNSET:
            uid = _real_uid(pid)
    except (OSError, ValueError, StopIteration):
        raise NotPermitted("Who asks cannot be found out.") from None
    return Person(uid, user_name(uid))


def user_name(uid: int) -> str:
    """Of the Unix user; the number, if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def check_auditor(pid: int | str, auditors: Collection[str]) -> Person:
    """The person behind the process, who is one of `auditors` (names of Unix users). Raises NotPermitted."""
    person = person_of(pid)
    may(Who(person.name, frozenset(), named_auditor=person.name in auditors), Action.TRANSCRIPTS_READ)
    return person


def check_reviewer(person: Person, *, agreed: bool, server_users: Collection[str]) -> None:
    """`agreed`: whether a secrecy agreement of the person is in force now. Raises NotPermitted.

    `server_users`: whom the server's own processes belong to; what is asked in their names may be asked by any of them.
    """
    reviewer = frozenset({StaffRole.REVIEWER})
    may(Who(person.name, reviewer, server=person.name in server_users, agreed=agreed), Action.REVIEW)


def _login_uid(pid: int | str) -> int:
    try:
        return int((PROC / str(pid) / "loginuid").read_text(encoding="ascii"))
    except FileNotFoundError:  # a kernel without audit, or no such process: the next question tells
        return _UNSET


def _real_uid(pid: int | str) -> int:
    lines = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    return int(next(line for line in lines if line.startswith("Uid:")).split()[1])

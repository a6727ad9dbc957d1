"""The roles that exist, as data: the design's table "Processes".

A role of an earlier stage is ready before the next stage is started, and is stopped after it: everybody needs keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hosting.config import Config

RoleName = Literal["auth", "imap", "smtp", "queue", "web", "jobs"]
ReactorName = Literal["epoll", "asyncio"]


@dataclass(frozen=True, slots=True)
class RoleSpec:
    name: RoleName
    stage: int
    reactor: ReactorName
    processes: Callable[[Config], int]
    listeners: tuple[str, ...] = ()  # fields of [listen]
    sections: tuple[str, ...] = ()  # of the configuration; [server], [storage] and [logs] concern every role
    switch_interval: float = 0.005  # seconds after which a thread that computes lets others go on; Python's default
    nice: int = 0  # above 0: where processors are short, the other roles' processes go first


def _one(config: Config) -> int:
    return 1


ROLES: tuple[RoleSpec, ...] = (
    RoleSpec("auth", 0, "epoll", _one, sections=("auth", "oauth", "keys", "staff")),
    # IMAP answers twice as many commands on the epoll reactor; SMTP lives on asyncio.
    # SQLite gives the interpreter lock back at every row: with the default, a thread that computes would hold the event
    # loop's reads up by that much for each row. Where most work is in threads, shorter turns only cost more turns.
    RoleSpec(
        "imap",
        1,
        "epoll",
        lambda c: c.imap_workers,
        ("imap", "imaps"),
        ("imap", "auth", "oauth", "tls", "listen"),  # [auth] and [oauth] say which mechanisms are offered
        switch_interval=0.0005,
    ),
    RoleSpec(
        "smtp",
        1,
        "asyncio",
        lambda c: c.smtp_workers,
        ("mx", "submission", "submissions"),
        ("mx", "submission", "auth", "oauth", "sending", "mail", "filter", "tls", "listen", "dns", "relay"),
    ),
    RoleSpec("queue", 1, "asyncio", _one, sections=("mail", "relay", "dns", "listen")),
    # What it stores may have to be sent: invitations pass the rules and the limits of submission.
    RoleSpec(
        "web",
        1,
        "asyncio",
        lambda c: c.web_workers,
        ("https", "http"),
        ("web", "discovery", "sending", "relay", "mail", "tls", "listen"),
        switch_interval=0.0005,
    ),
    # Nobody waits for what it does, but others wait for a database that it is just writing to: 5 leaves it a quarter of
    # a core that another thread wants, too. With 10, who wrote meanwhile waited for longer again.
    RoleSpec(
        "jobs",
        1,
        "epoll",
        _one,
        sections=("jobs", "keys", "dns", "filter", "mail", "relay", "retention", "backup", "privacy", "contracts"),
        nice=5,
    ),
)

_EVERYBODY = ("server", "storage", "logs")


def spec(name: str) -> RoleSpec:
    return next(role for role in ROLES if role.name == name)


def concerned(role: RoleSpec, old: Config, new: Config) -> bool:
    """Whether a process of the role has to be replaced for what differs between two configurations."""
    return any(getattr(old, name) != getattr(new, name) for name in (*_EVERYBODY, *role.sections))


def needs_restart(old: Config, new: Config) -> list[str]:
    """The settings that differ and cannot change while the server runs: bound sockets and the number of processes."""
    fixed = [
        ("listen", name)
        for name in (
            "addresses",
            "mx",
            "imap",
            "imaps",
            "submission",
            "submissions",
            "https",
            "http",
            "operations_address",
            "operations",
        )
    ]
    fixed += [("server", name) for name in ("user", "imap_workers", "smtp_workers", "web_workers")]
    return [
        f"{section}.{name}"
        for section, name in fixed
        if getattr(getattr(old, section), name) != getattr(getattr(new, section), name)
    ]

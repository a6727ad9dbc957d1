"""Endings in a server of several processes: each lets go of what ends, and whoever carries one out sees who has not.

`LettingGo` stands in every role. When it is told that a tenant or an account ends, everything of it is closed in this
process and its keys are forgotten (`Installation.forget_tenant`), in a thread: what is under way there has a moment to
finish. `ServerProcesses` is what the jobs role, or a command, knows of the others: the auth role knows who holds keys,
the kernel who has files open.

Memory that was freed may show traces of a key until it is written over. So the processes that held keys are replaced:
after a contract's end at once, one after the other so that those who stay are served by the others meanwhile, the auth
role last; after the end of one account, for which nobody else's sessions are to be ended, in the following night, each
at a moment of its own.
"""

# ruff: noqa: N802 - Twisted calls these methods by these names

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from hosting.auth.client import AuthClient
from hosting.composition import Parts
from hosting.operational_log import log_failure
from hosting.roles.feed import FeedReader
from storage.changes import AccountEnded, Gap, Published, TenantEnded
from storage.clock import Clock
from storage.keys.source import KeySource
from storage.values import AccountId, TenantId

log = logging.getLogger("ending")

_DAY = 86_400
_NIGHT = 3 * 3600  # seconds after midnight UTC
_SPREAD = 3600  # seconds over which processes are replaced, so that they are not all new at once
_STOPPING = 600  # seconds that the last one may take to stop
_TURN = 20.0  # seconds for which the others wait for one to be replaced
_POLL = 0.1
_ORDER = (
    "imap",
    "web",
    "smtp",
    "queue",
)  # sessions that people have open first, while all others can take them; then the rest


class LettingGo(Service):
    """One for each process. Told several times about the same, it does it once at a time."""

    def __init__(self, parts: Parts) -> None:
        self._reactor = parts.reactor
        self._replacement = Replacement(parts.reactor, parts.clock) if parts.supervised else None
        self._has_all = not isinstance(parts.keys, AuthClient)  # the keys of everybody, as the auth role
        self._installation = parts.installation
        self._feed = FeedReader(parts.reactor, parts.subscribe(mailboxes=False), self._changed)
        self._running: dict[object, Deferred[Any]] = {}

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._feed.start()

    def stopService(self) -> Deferred[Any] | None:
        """Fires when what was being let go of is."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._feed.stop()
        if self._replacement is not None:
            self._replacement.cancel()
        return DeferredList(list(self._running.values())) if self._running else None

    def _changed(self, changes: list[Published | Gap]) -> None:
        """What was missed is told again."""
        for change in changes:
            match change:
                case TenantEnded(tenant_id):
                    self._begin(change, partial(self._installation.forget_tenant, tenant_id))
                case AccountEnded(tenant_id, account_id):
                    self._begin(change, partial(self._installation.forget_account, tenant_id, account_id))
                    if self._replacement is not None and self._held(tenant_id, account_id):
                        self._replacement.at_night()

    def _held(self, tenant_id: TenantId, account_id: AccountId) -> bool:
        return self._has_all or self._installation.held(tenant_id, account_id)

    def _begin(self, change: TenantEnded | AccountEnded, forget: Callable[[], None]) -> None:
        if change in self._running:
            return

        def over(result: object) -> None:
            self._running.pop(change, None)
            if isinstance(result, Failure):
                log_failure(log, "what ends was not let go of", result)
            else:
                log.info("let go of %s", told)

        told = " ".join(f"{name.removesuffix('_id')} {number}" for name, number in asdict(change).items())
        self._running[change] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), forget)
        self._running[change].addBoth(over)


class Replacement:
    """Of this process, which held the key of an account that ended and goes on for others."""

    def __init__(self, reactor: Any, clock: Clock, end: Callable[[], None] | None = None) -> None:
        """`end` stops this process cleanly; the supervisor starts it again."""
        self._reactor = reactor
        self._clock = clock
        self._end = end or partial(os.kill, os.getpid(), signal.SIGTERM)
        self._call: Any = None

    def at_night(self) -> None:
        """The first night counts: what ends until then is gone with this process, too."""
        if self._call is None:
            now = self._clock.now()
            seconds = following_night(now) - now + os.getpid() % _SPREAD
            self._call = self._reactor.callLater(seconds, self._end)
            log.info("this process held the key of an account that ended, and is replaced in %d seconds", seconds)

    def cancel(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()


def following_night(now: int) -> int:
    """When the next one begins."""
    return now + _DAY - (now - _NIGHT) % _DAY


def replaced_until(now: int) -> int:
    """When every process that hears of an ending now, at the latest, was replaced."""
    return following_night(now) + _SPREAD + _STOPPING


class ServerProcesses:
    """`storage.ending.processes.Processes`, with keys from the auth role; with the key store itself there is nobody."""

    def __init__(self, keys: KeySource, check: Callable[[], None] = lambda: None) -> None:
        """`check` raises what is to end a wait for others."""
        self._auth = keys if isinstance(keys, AuthClient) else None
        self._check = check

    def holding(self, tenant_id: TenantId, folder: Path, *, keys: bool) -> frozenset[int]:
        if self._auth is None:
            return frozenset()
        held = self._auth.holders(tenant_id) if keys else frozenset[int]()
        using = {pid for pid in self._auth.ever_held(tenant_id) - held if _has_open(pid, f"{folder}/")}
        return (held | using) - {os.getpid()}

    def kill(self, tenant_id: TenantId, processes: frozenset[int]) -> int:
        return len(self._auth.kill(tenant_id, processes)) if self._auth is not None else 0

    def replaced_until(self, now: int) -> int | None:
        return replaced_until(now) if self._auth is not None else None

    def recycle(self, tenant_id: TenantId) -> int:
        """The supervisor starts them again, one after the other. Not this process: whoever runs it sees to it; nor
        commands, which end."""
        if self._auth is None:
            return 0
        roles = {pid: role for pid in self._auth.ever_held(tenant_id) if (role := _role_of(pid))}
        roles.pop(os.getpid(), None)
        auth = self._auth

        def present(role: str) -> set[int]:
            return {*auth.present(role), *(pid for pid, each in roles.items() if each == role and _role_of(pid))}

        return replace_in_turn(
            roles, stop=lambda pid: bool(auth.recycle(tenant_id, {pid})), present=present, wait=self._wait
        )

    def _wait(self, seconds: float) -> None:
        self._check()
        time.sleep(seconds)

    def recycle_key_holder(self) -> int:
        """The auth role, which has not only this tenant's keys; whoever asks it meanwhile waits for the next one."""
        return int(self._auth.retire()) if self._auth is not None else 0


def replace_in_turn(
    roles: Mapping[int, str],
    *,
    stop: Callable[[int], bool],
    present: Callable[[str], Collection[int]],
    wait: Callable[[float], None],
) -> int:
    """Stops each of these processes, whose roles are named, once the one before it was replaced; how many were stopped.

    Who is not replaced within `_TURN` seconds keeps the others waiting no longer. `present` are the processes of a role
    that are up: those that are to go until they are gone, the others once they are ready.
    """
    stopped = 0
    for pid in sorted(roles, key=lambda pid: (_ORDER.index(roles[pid]) if roles[pid] in _ORDER else len(_ORDER), pid)):
        role = roles[pid]
        before = {*roles, *present(role)}  # an auth role that was started anew does not know all of them
        if not stop(pid):
            continue  # it ended by itself
        stopped += 1
        for _ in range(round(_TURN / _POLL)):
            now = set(present(role))
            if pid not in now and now - before:
                break
            wait(_POLL)
        else:
            log.warning("the process %d of %s was told to stop, and is not replaced yet", pid, role)
    return stopped


def _role_of(pid: int) -> str:
    """Of a worker; "" of any other process."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[words.index(b"hosting.roles") + 1].decode("ascii", "replace")
    except (OSError, ValueError, IndexError):  # it is gone, or none
        return ""


def _has_open(pid: int, below: str) -> bool:
    """Whether a process of ours has a file below a folder open."""
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it is gone
        return False
    for descriptor in descriptors:
        try:
            if os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith(below):
                return True
        except OSError:
            continue
    return False

"""Endings in a server of several processes: each lets go of what ends, and whoever carries one out sees who has not.

`LettingGo` stands in every role. When it is told that a tenant or an account ends, everything of it is closed in this
process and its keys are forgotten (`Installation.forget_tenant`), in a thread: what is under way there has a moment to
finish. `ServerProcesses` is what the jobs role, or a command, knows of the others: the auth role knows who holds keys,
the kernel who has files open.

Memory that was freed may show traces of a key until it is written over. So the processes that held keys are replaced:
after a contract's end at once, the auth role last; after the end of one account, for which nobody else's sessions are
to be ended, in the following night, each at a moment of its own.
"""

# ruff: noqa: N802 - Twisted calls these methods by these names

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
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

    def __init__(self, keys: KeySource) -> None:
        self._auth = keys if isinstance(keys, AuthClient) else None

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
        """The supervisor starts them again. Not this process: whoever runs it sees to it; nor commands, which end."""
        if self._auth is None:
            return 0
        workers = {pid for pid in self._auth.ever_held(tenant_id) if _is_worker(pid)}
        return len(self._auth.recycle(tenant_id, workers - {os.getpid()}))

    def recycle_key_holder(self) -> int:
        """The auth role, which has not only this tenant's keys; whoever asks it meanwhile waits for the next one."""
        return int(self._auth.retire()) if self._auth is not None else 0


def _is_worker(pid: int) -> bool:
    try:
        return b"hosting.roles" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:  # it is gone
        return False


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

"""The jobs role carries out endings: those that are open when it starts, those that are ordered, and again each minute.

What keeps one from going on (a legal hold, a process that does not let go, a full disk, remains) is logged, written
down for whoever looks at the ending, and tried again; it keeps no other from going on, and a gauge tells for how long
the oldest has waited. When contracts have ended, every process that ever held keys of
them is replaced; this one last, by ending itself when all is certified.
"""

# ruff: noqa: N802 - Twisted calls these methods by these names

from __future__ import annotations

import logging
import os
import signal
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from hosting.auth.client import AuthClient
from hosting.composition import Parts
from hosting.ending import ServerProcesses
from hosting.operational_log import log_failure
from hosting.roles.feed import FeedReader
from storage.changes import AccountEnded, Gap, Published, TenantEnded
from storage.directory.endings import EndingRow
from storage.ending.ending import carry_out, tidy
from storage.ending.steps import Step
from storage.errors import Busy, CleanmailError

log = logging.getLogger("ending")

EVERY = 60.0


class Stopped(Exception):  # noqa: N818 - no error
    """The role ends; what is left is done by the next one."""


class EndingRound(Service):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._installation = parts.installation
        self._people = ServerProcesses(parts.keys, self._check_going_on)
        self._feed = FeedReader(parts.reactor, parts.subscribe(mailboxes=False), self._changed)
        self._loop = LoopingCall(self.look)
        self._loop.clock = parts.reactor
        self._running: Deferred[Any] | None = None
        self._again = False
        self._stopping = False

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._feed.start()
        self._loop.start(EVERY, now=True)

    def stopService(self) -> Deferred[Any] | None:
        """Fires when the step that is worked on is left."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        self._feed.stop()
        if self._loop.running:
            self._loop.stop()
        return self._running

    def look(self) -> None:
        """Now, or right after the round that is under way."""
        if self._running is not None:
            self._again = True
        elif not self._stopping:
            self._running = deferToThreadPool(self._parts.reactor, self._parts.reactor.getThreadPool(), self.round)
            self._running.addBoth(self._over)

    def _changed(self, changes: list[Published | Gap]) -> None:
        if self._running is None and any(isinstance(change, (TenantEnded, AccountEnded)) for change in changes):
            self.look()

    def _over(self, result: object) -> None:
        self._running = None
        if isinstance(result, Failure):
            log_failure(log, "a round of endings failed", result)
        if self._again:
            self._again = False
            self.look()

    def round(self) -> None:
        """Blocking: everything that is open, the oldest first."""
        tidy(self._installation)
        self._show()
        contracts = 0
        for row in self._installation.control.endings.open():
            if self._stopping:
                return
            contracts += self._carry_out(row) and row.account_id is None
            self._show()
        if contracts and isinstance(self._parts.keys, AuthClient):
            log.info("this process held keys of what ended, and is replaced")
            os.kill(os.getpid(), signal.SIGTERM)  # a clean stop; the supervisor starts it again

    def _show(self) -> None:
        oldest = next(iter(self._installation.control.endings.open()), None)
        waits = 0 if oldest is None else max(0, self._installation.clock.now() - oldest.begun)
        self._parts.metrics.ending_waits.set(waits)

    def _carry_out(self, row: EndingRow) -> bool:
        try:
            certificate = carry_out(
                self._installation,
                row.ending_id,
                people=self._people,
                progress=self._progress,
                issuer=self._parts.config.server.name,
            )
        except Stopped:
            return False
        except Busy:
            return False
        except CleanmailError as error:
            log.error("ending %s cannot go on: %s", row.ending_id, error.detail or error.public)
            return False
        except Exception:  # noqa: BLE001 - of this one alone: those behind it go on
            log_failure(log, f"ending {row.ending_id} cannot go on", Failure())
            return False
        log.info("ending %s is certified: %d files", row.ending_id, certificate.counts.files)
        return True

    def _progress(self, step: Step, done: int, total: int) -> None:
        self._check_going_on()

    def _check_going_on(self) -> None:
        if self._stopping:
            raise Stopped

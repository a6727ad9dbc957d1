"""Moves one account in: all folders, over as many connections as it takes.

The first connection is tried once, and why it cannot be made is said. One that breaks later is made again, after a
pause that grows while nothing comes of it, and is told; what came before counts. When `migrate` returns, what the
report counts as here is durable. Run again, it goes on, and later it brings what is new. One move at a time writes to
an account.

Raises: InvalidInput, AuthenticationFailed (nothing was changed), NotPermitted (the contract), Conflict (another move is
at work), Unavailable (the other server cannot be reached, or nothing more can be stored here, for the moment).
"""

from __future__ import annotations

import fcntl
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from hosting.migration.answers import Refused
from hosting.migration.client import Server
from hosting.migration.folders import Planned, plan
from hosting.migration.pull import FolderPull
from hosting.migration.report import FolderReport, Progress, Report, Tell
from hosting.migration.run import Attempts, Destination, Orders, Shown, Stopped
from hosting.migration.source import Login, Source
from hosting.migration.wire import ServerLost
from storage.errors import AuthenticationFailed, Conflict, NotPermitted, Unavailable
from storage.mail.account import Account
from storage.mail.moving import Moving

T = TypeVar("T")

_NOT_REACHED = "the move stopped before it was through"
PAUSES = (1.0, 2.0, 5.0, 15.0, 60.0, 120.0, 300.0)  # seconds, while nothing comes of it; then the run ends


def migrate(
    account: Account,
    source: Source,
    login: Login,
    orders: Orders,
    *,
    run: Path,
    check: Callable[[], None] = lambda: None,
    tell: Tell | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Report:
    """`run` is the folder for locks; `check` raises NotPermitted once nothing may be stored any more."""
    check()
    with _alone(run, account):
        return _Move(account, source, login, orders, check, tell, wait).all()


@contextmanager
def _alone(run: Path, account: Account) -> Iterator[None]:
    run.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(run / f"migrate-{account.account_id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict("Another move into this account is at work.") from None
        yield
    finally:
        os.close(descriptor)


class _Move:
    def __init__(
        self,
        account: Account,
        source: Source,
        login: Login,
        orders: Orders,
        check: Callable[[], None],
        tell: Tell | None,
        wait: Callable[[float], None],
    ) -> None:
        self._account = account
        self._source = source
        self._login = login
        self._orders = orders
        self._check = check
        self._tell = tell
        self._wait = wait
        self._moving = Moving(account, f"{login.user}@{source.host}")  # whichever port
        self._server: Server | None = None
        self._failures = 0
        self.report = Report(is_dry=orders.is_dry)

    def all(self) -> Report:
        planned: list[Planned] = []
        try:
            shown = self._again(self._look)
            planned = self._plan(shown)
            destination = Destination(self._account, self._moving, self.report, self._check, self._tell)
            pull = FolderPull(destination, self._orders, shown)
            for each in planned:
                self._folder(pull, each)
            self._tell_of_gone_folders(shown)
        except (Stopped, Refused) as stopped:
            self.report.stopped = stopped.said
            for each in planned[len(self.report.folders) :]:
                failed = "" if each.left_out else _NOT_REACHED
                self.report.folders.append(FolderReport(each.listed.name, each.mailbox, each.left_out, failed))
        finally:
            if self._server is not None:
                self._server.close()
        if self._orders.is_final and not self._orders.is_dry and self.report.is_complete:
            self._moving.forget()
            self.report.is_final = True
        return self.report

    def _look(self, server: Server) -> Shown:
        return Shown(server.folders(), server.namespaces())

    def _plan(self, shown: Shown) -> list[Planned]:
        mailboxes = self._account.mailboxes.list()
        used = {use: each.name for each in mailboxes for use in each.special_use}
        kept = {each.name for each in mailboxes if each.read_only}  # by the server: nothing else goes into them
        return plan(shown.folders, shown.namespaces, self._orders.choice, used, kept)

    def _folder(self, pull: FolderPull, planned: Planned) -> None:
        report = FolderReport(planned.listed.name, planned.mailbox, planned.left_out)
        self.report.folders.append(report)
        if planned.left_out:
            return
        attempts = Attempts()
        stored = 0

        def work(server: Server) -> None:
            nonlocal stored
            try:
                pull.run(server, planned, attempts, report)
            except ServerLost:
                if attempts.stored > stored:
                    stored, self._failures = attempts.stored, 0
                raise

        report.failed = _NOT_REACHED
        try:
            self._again(work)
            report.failed = ""
        except Refused as refused:
            report.failed = refused.said
        except NotPermitted as error:
            raise Stopped(error.public) from None

    def _tell_of_gone_folders(self, shown: Shown) -> None:
        for key, folder in self._moving.folders().items():
            if not shown.has(key):
                name = folder.folder.encode("latin-1").decode("utf-8", "replace")
                self.report.note(f"{name} is no longer on the other server; what came of it stays here.")

    # Connections

    def _again(self, work: Callable[[Server], T]) -> T:
        """Until it is done. Raises Stopped if it never is, Unavailable if nothing could be begun."""
        while True:
            try:
                if self._server is None:
                    self._server = self._connect()
                done = work(self._server)
            except ServerLost as lost:
                if self._server is not None:
                    self._server.abandon()
                    self._server = None
                if not self.report.connections:  # a wrong name or port: nothing gets better by waiting
                    raise Unavailable(f"{self._source} cannot be used: {_why(lost)}") from None
                if self._failures >= len(PAUSES):
                    raise Stopped(f"{self._source}: {lost.said} Run it again later to go on.") from None
                self._pause(PAUSES[self._failures], lost)
                self._failures += 1
            else:
                self._failures = 0
                return done

    def _pause(self, seconds: float, lost: ServerLost) -> None:
        self.report.note(f"{self._source}: {_why(lost)} It was tried again after {seconds:.0f} seconds.")
        if self._tell is not None:
            self._tell(Progress("", 0, 0, self.report.total("octets"), waits=seconds))
        self._wait(seconds)

    def _connect(self) -> Server:
        try:
            server = Server.connect(self._source, self._login)
        except Refused as refused:
            raise ServerLost(refused.said) from None
        except AuthenticationFailed as error:
            if self.report.connections:  # it worked before: a token that ended, a throttle
                raise Stopped(error.public) from None
            raise
        self.report.connections += 1
        return server


def _why(lost: ServerLost) -> str:
    """What became of the connection; what the system says of it, where that is for people."""
    error = lost.__context__
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.strerror:
        return f"{error.strerror}."
    return lost.said

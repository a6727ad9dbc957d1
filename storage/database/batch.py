"""The works of concurrent writers, carried out in one transaction.

Each work runs in a savepoint: one that raises is undone alone and gets its own exception, the others are committed
together. When `carry_out` returns, every work either is committed or has an error, and nothing is open.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar, cast

from storage.clock import Clock
from storage.database.driver import BUSY_TIMEOUT, Driver, Error
from storage.database.errors import translated
from storage.database.prepared import Connection
from storage.errors import CleanmailError, Unavailable
from storage.values import MailboxId, ModSeq

T = TypeVar("T")

_log = logging.getLogger("cleanmail.storage")

BATCH_TIME = 0.05  # seconds after which works that wait are left to the next transaction


class Transaction(Connection):
    """What one work writes on. It must not be kept, and the work must not write to the same database otherwise."""

    __slots__ = ("after", "before", "changes")

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.before: dict[Hashable, Callable[[], object]] = {}
        self.after: list[Callable[[], object]] = []
        self.changes: dict[MailboxId, ModSeq] = {}

    def before_commit(self, action: Callable[[], object], key: Hashable = None) -> None:
        """Run `action` before the commit (fsync of a directory); of several with one key in a batch, one runs.

        If it raises, nothing of the whole batch is committed.
        """
        self.before[object() if key is None else key] = action

    def after_commit(self, action: Callable[[], object]) -> None:
        """Run `action` when this work is committed, before `write` returns; whatever it raises is only logged."""
        self.after.append(action)

    def changed(self, mailbox: MailboxId, modseq: ModSeq) -> None:
        """Announce on the change feed, after the commit, that the mailbox has come to this modseq."""
        self.changes[mailbox] = modseq


class Work(Generic[T]):
    """One caller's work and what became of it."""

    __slots__ = ("action", "durable", "error", "leads", "result", "transaction", "wake")

    def __init__(self, action: Callable[[Transaction], T] | None, durable: bool) -> None:
        self.action = action  # None: whoever it is for wants the lead, not a transaction
        self.durable = durable
        self.leads = False  # becomes true when the caller has to lead the next batch
        self.transaction: Transaction | None = None
        self.result: T | None = None
        self.error: BaseException | None = None
        self.wake = threading.Lock()  # released when the work is done, or has to lead
        self.wake.acquire()


class Mode:
    """How a connection commits, as it was told last: to tell it again costs as much as to begin a transaction."""

    __slots__ = ("durable", "patient")

    def __init__(self) -> None:
        self.durable: bool | None = None
        self.patient: bool | None = None


def carry_out(
    driver: Driver, works: list[Work[Any]], clock: Clock, *, patient: bool = True, mode: Mode | None = None
) -> list[Work[Any]]:
    """Run the works in one transaction and commit it; returns those that were left for lack of time.

    The commit is FULL if one of them asked for a durable one. The caller holds the writer's lock. `mode` is the
    connection's, if it is used again.
    """
    deadline = clock.monotonic() + BATCH_TIME
    try:
        _begin(driver, durable=any(work.durable for work in works), patient=patient, mode=mode or Mode())
    except Exception as error:  # noqa: BLE001  every caller gets it
        fail(works, error)
        return []
    done = 0
    try:
        for work in works:
            if done and clock.monotonic() > deadline:
                break
            _run(driver, work, alone=len(works) == 1)
            done += 1
        _finish(driver, works[:done])
    except BaseException as error:
        if driver.in_transaction:
            driver.execute("ROLLBACK")
        fail(works, error)
        if not isinstance(error, Exception):
            raise
        return []
    return works[done:]


def _begin(driver: Driver, *, durable: bool, patient: bool, mode: Mode) -> None:
    if mode.patient is not patient:
        driver.set_busy_timeout(BUSY_TIMEOUT if patient else 0)
        mode.patient = patient
    # In WAL mode FULL is one fsync for each commit; NORMAL can lose the last commits with the power, never their order.
    # It cannot be changed within a transaction.
    if mode.durable is not durable:
        mode.durable = None
        driver.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
        mode.durable = durable
    driver.execute("BEGIN IMMEDIATE")


def _run(driver: Driver, work: Work[Any], *, alone: bool) -> None:
    """One work in its savepoint. Raises only when SQLite has undone the whole transaction."""
    assert work.action is not None
    work.transaction = Transaction(driver)
    if alone:
        try:
            work.result = work.action(work.transaction)
        except Exception as error:  # noqa: BLE001  its caller gets it
            work.error = error
        return
    driver.execute("SAVEPOINT work")
    try:
        work.result = work.action(work.transaction)
    except Exception as error:
        if not driver.in_transaction:  # a full disk, an I/O error
            raise
        work.error = error
        driver.execute("ROLLBACK TO work")
    driver.execute("RELEASE work")


def _finish(driver: Driver, works: list[Work[Any]]) -> None:
    succeeded = [work.transaction for work in works if work.error is None and work.transaction is not None]
    if not succeeded:
        if driver.in_transaction:
            driver.execute("ROLLBACK")
        return
    before: dict[Hashable, Callable[[], object]] = {}
    for transaction in succeeded:
        before.update(transaction.before)
    for action in before.values():
        action()
    driver.execute("COMMIT")


def fail(works: list[Work[Any]], error: BaseException) -> None:
    """Nothing was kept: each work gets an error of its own, unless it has one already."""
    if isinstance(error, Error):
        error = translated(error)
    for work in works:
        if work.error is None:
            work.error = same_for_another(error)


def same_for_another(error: BaseException) -> Exception:
    """One exception must not be raised on two threads, or for two callers."""
    if isinstance(error, CleanmailError):
        return type(error)(error.public, detail=error.detail)
    if not isinstance(error, Exception):
        return Unavailable(detail="the writer was interrupted")
    return error


def outcome(work: Work[T]) -> T:
    """What a work that was carried out gave or raised, after what it wanted done after its commit."""
    if work.error is not None:
        try:
            raise translated(work.error) if isinstance(work.error, Error) else work.error
        finally:
            work.error = None  # its traceback refers to this frame
    if work.transaction is not None:
        for action in work.transaction.after:
            try:
                action()
            except Exception as error:  # noqa: BLE001  the commit stands
                _log.error("an action after a commit failed: %s", type(error).__name__)
    return cast(T, work.result)

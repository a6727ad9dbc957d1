"""One encrypted database: its read connection, its writers, its place in the file system.

Writers of one process share commits: whoever finds no leader leads, carries out every work that waits in one
transaction, and hands the lead to the first that came meanwhile. When `write` returns, the work is committed, and
unless it was called with durable=False it is on the disk. When it raises, nothing of this work was kept.

No cursor and no transaction lives longer than a call or a context here. Connections are opened when they are used, and
closed again by `rest` when nobody used them for a while: 290 KiB of an account whose sessions wait become 15.

Raises: StorageFull, Unavailable (locked for too long, closed, I/O error, newer file), Corrupt (damaged, wrong key),
NotFound (no such file), AlreadyExists (create; a broken unique key), Busy (write_now).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from storage.clock import Clock
from storage.database.batch import Mode, Transaction, Work, carry_out, fail, outcome
from storage.database.checkpointer import Checkpointer
from storage.database.commits import Place
from storage.database.creation import create_file
from storage.database.driver import SMALL_CACHE, Driver, Error, connect, database_key
from storage.database.errors import Busy, translated
from storage.database.leasing import open_leased
from storage.database.lockfile import LockFile
from storage.database.migrations import Schema
from storage.database.prepared import Connection
from storage.database.reader import Reader
from storage.errors import NotFound, Unavailable
from storage.locks import new_lock
from storage.values import MailboxId, ModSeq

__all__ = ["Busy", "Connection", "Database", "Transaction"]

T = TypeVar("T")
OnChanged = Callable[[Mapping[MailboxId, ModSeq]], None]

PATIENCE = 30.0  # seconds that a writer waits for its turn, or an opener for a migration elsewhere


class Database:
    def __init__(
        self,
        path: Path,
        key: bytes,
        schema: Schema,
        clock: Clock,
        *,
        on_changed: OnChanged | None = None,
        checkpointer: Checkpointer | None = None,
        commits: Place | None = None,
        cache: int = SMALL_CACHE,
        on_opened: Callable[[], None] | None = None,
    ) -> None:
        """`commits`: where every process that writes to this database says so."""
        self._path = str(path)  # a Path takes four times as much, and every open account has one
        self._key = database_key(key, schema.name)
        self._schema = schema
        self._clock = clock
        self._on_changed = on_changed
        self._checkpointer = checkpointer
        self._commits = commits
        self._cache = cache

        self._opening = new_lock()
        self._checkpointing = new_lock()
        self._lock_file: LockFile | None = None
        self._on_opened = on_opened  # there is a connection that was not there, which costs memory; see `rest`
        self._reader = Reader(self._connect, on_opened)
        self._writer: Driver | None = None
        self._mode = Mode()  # the writer's
        self._wrote = False  # since somebody looked, see `rest`

        self._guard = new_lock()  # of the four below
        self._waiting: list[Work[Any]] = []
        self._led = False
        self._leader = 0  # identity of the thread that carries out a batch
        self._closed = False

    @classmethod
    def create(
        cls,
        path: Path,
        key: bytes,
        schema: Schema,
        clock: Clock,
        *,
        fill: Callable[[Transaction], object] | None = None,
        on_changed: OnChanged | None = None,
        checkpointer: Checkpointer | None = None,
        cache: int = SMALL_CACHE,
    ) -> Self:
        """Make the file with the schema's tables and whatever `fill` writes, in one step: whole, or not there.

        It is made under another name and renamed; what a crash leaves is removed by the next try.
        """
        create_file(path, database_key(key, schema.name), schema, clock, fill, PATIENCE)
        return cls(path, key, schema, clock, on_changed=on_changed, checkpointer=checkpointer, cache=cache)

    @classmethod
    def open(
        cls,
        path: Path,
        key: bytes,
        schema: Schema,
        clock: Clock,
        *,
        on_changed: OnChanged | None = None,
        checkpointer: Checkpointer | None = None,
        cache: int = SMALL_CACHE,
    ) -> Self:
        """A file that is there. It is touched, tried with the key and migrated if it is older before this returns."""
        database = cls(path, key, schema, clock, on_changed=on_changed, checkpointer=checkpointer, cache=cache)
        with database.reading():
            return database

    @property
    def path(self) -> Path:
        return Path(self._path)

    # Reading

    def reading(self) -> AbstractContextManager[Connection]:
        """The read connection, for one thread at a time; each statement sees what is committed when it starts.

        The same thread may enter it again. Never hold it while output is pulled or a file is read.
        """
        return self._reader

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Like `reading`, but all statements see one state of the database. Keep it short: it holds the log back."""
        with self._reader as connection:
            driver = connection.driver
            if driver.in_transaction:
                yield connection
                return
            driver.execute("BEGIN")
            try:
                yield connection
            finally:
                driver.execute("ROLLBACK")

    @contextmanager
    def apart(self) -> Iterator[Connection]:
        """Like `snapshot`, on a connection of its own: for what takes long, so that nobody waits who reads meanwhile.

        Opening it takes a millisecond. `close` waits for it.
        """
        with self._checkpointing:
            if self._closed:
                raise Unavailable(detail="database is closed")
            driver = self._connect()
            try:
                driver.execute("BEGIN")
                yield Connection(driver)
            finally:
                driver.close()

    def data_version(self) -> int:
        """Changes when anybody, here or in another process, has committed.

        It changes with a new connection, too: what SQLite counts is one connection's. It is asked, in 6 microseconds,
        where somebody has marked a commit, and each second.
        """
        ask = self._reader.data_version
        return ask()[0] if self._commits is None else self._commits.version(self._clock.monotonic(), ask)

    def rest(self) -> bool:
        """Close both connections, unless one was used since the last call: it is called every few seconds.

        Whoever comes next opens them again, in less than a millisecond; the lease stays, so nobody is waited for then.
        It may take as long as a checkpoint. Returns whether nothing is open now.
        """
        if self._reader.used or self._wrote:
            self._reader.used = self._wrote = False
            return False
        with self._checkpointing:  # so `close`, after which others may take the files away, waits for it
            driver = self._reader.let_go()
            writer = None
            with self._guard:
                if not (self._led or self._closed):
                    writer, self._writer = self._writer, None
            for each in (driver, writer):
                if each is not None:
                    each.close()
            return not self.is_open

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, whose pages take memory."""
        return self._reader.driver is not None or self._writer is not None

    # Writing

    def write(self, action: Callable[[Transaction], T], *, durable: bool = True) -> T:
        """Carry out `action` in a transaction and commit it; returns its result.

        It shares the transaction with other threads' works, so it should be short: at most some 1,000 rows.
        With durable=False a power loss may undo it (never out of order); a crash of the process does not.
        """
        work = Work(action, durable)
        if not self._enter(work):
            self._wait(work)
        if work.leads:
            self._lead(work)
        return outcome(work)

    def write_now(self, action: Callable[[Transaction], T]) -> T:
        """Like `write` with durable=False, but raises Busy at once where that would wait for another writer."""
        work = Work(action, durable=False)
        with self._guard:
            self._check_open()
            if self._led:
                raise Busy
            self._led = True
        try:
            lock_file = self._ready()
            if not lock_file.try_write():
                raise Busy
            try:
                self._carry_out([work], patient=False)
            finally:
                lock_file.written()
        finally:
            self._hand_over()
        self._announce([work])
        return outcome(work)

    @property
    def waiting(self) -> int:
        """Works that no batch has taken up yet, for the metrics."""
        return len(self._waiting)

    def _enter(self, work: Work[Any]) -> bool:
        """Join those who wait; True if there is no leader, so that this one leads."""
        with self._guard:
            self._check_open()
            if self._leader == threading.get_ident():
                raise RuntimeError("a work writes to the database that it is part of")
            self._waiting.append(work)
            work.leads, self._led = not self._led, True
        return work.leads

    def _wait(self, work: Work[Any]) -> None:
        if work.wake.acquire(timeout=PATIENCE):
            return
        with self._guard:
            if work in self._waiting and not work.leads:
                self._waiting.remove(work)
                raise Unavailable(detail="database: no turn to write")
        work.wake.acquire()  # its transaction has begun

    def _lead(self, own: Work[Any]) -> None:
        """Carry out all that wait; `own` is the first of them."""
        with self._guard:
            batch = [work for work in self._waiting if work.action is not None]
            self._waiting = [work for work in self._waiting if work.action is None]
        left: list[Work[Any]] = []
        try:
            lock_file = self._ready()
            lock_file.write(PATIENCE)
            try:
                left = self._carry_out(batch)
            finally:
                lock_file.written()
        except BaseException as error:
            fail(batch, error)
            if not isinstance(error, Exception):
                raise
        finally:
            with self._guard:
                self._waiting[:0] = left
            self._hand_over()
            done = batch[: len(batch) - len(left)]
            for work in done:
                if work is not own:
                    work.wake.release()
        self._announce(done)

    def _ready(self) -> LockFile:
        """The writer's connection and its lock file; only who leads asks."""
        self._wrote = True
        if self._writer is None:
            self._writer, self._mode = self._connect(), Mode()
            if self._on_opened is not None:
                self._on_opened()
        assert self._lock_file is not None
        return self._lock_file

    def _carry_out(self, batch: list[Work[Any]], *, patient: bool = True) -> list[Work[Any]]:
        self._leader = threading.get_ident()
        try:
            return carry_out(self._writer, batch, self._clock, patient=patient, mode=self._mode)
        finally:
            self._leader = 0
            if self._commits is not None:  # before anybody is told of it
                self._commits.mark()

    def _hand_over(self) -> None:
        """The first that waits leads next; if nobody does, there is no leader."""
        with self._guard:
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].wake.release()
            else:
                self._led = False

    def _announce(self, done: list[Work[Any]]) -> None:
        """Tell the checkpointer and the change feed about a batch, once; the last modseq of a mailbox counts."""
        committed = [work.transaction for work in done if work.error is None and work.transaction is not None]
        changes: dict[MailboxId, ModSeq] = {}
        for transaction in committed:
            changes.update(transaction.changes)
        if committed and self._checkpointer is not None:
            self._checkpointer.note(self)
        if changes and self._on_changed is not None:
            self._on_changed(changes)

    # Opening, checkpointing, closing

    def _connect(self) -> Driver:
        """A connection to a file of this version, with the lease held."""
        with self._opening:
            if not os.path.exists(self._path):
                raise NotFound("There is no such database.")
            if self._lock_file is not None:
                return self._connect_only()
            driver, self._lock_file = open_leased(self.path, self._schema, self._connect_only, PATIENCE)
            return driver

    def _connect_only(self) -> Driver:
        return connect(self.path, self._key, cache=self._cache, autocheckpoint=self._checkpointer is None)

    def checkpoint(self) -> None:
        """Move the log's pages into the file, as far as no reader needs them; nobody waits for it meanwhile."""
        self._checkpoint("PASSIVE")

    def truncate_log(self) -> bool:
        """Move all of the log into the file and cut it to nothing, so that what was overwritten is gone from it too.

        False: somebody reads or writes all the time; try again.
        """
        return self._checkpoint("TRUNCATE")

    def _checkpoint(self, mode: str) -> bool:
        """Whether all that was asked for is done."""
        with self._checkpointing:
            if self._closed:
                return False
            driver = self._connect()
            try:
                [(busy, _, _)] = driver.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
            except Error as error:
                raise translated(error) from None
            finally:
                driver.close()
        return not busy

    def close(self) -> None:
        """Finish the works that wait, then close; whoever comes later gets Unavailable. May be called again."""
        last: Work[None] = Work(None, durable=False)
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._waiting.append(last)
            last.leads, self._led = not self._led, True
        if not last.leads:
            last.wake.acquire()  # from here on it leads, and nobody follows
        if self._checkpointer is not None:
            self._checkpointer.forget(self)
        with self._checkpointing:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._reader.close()
            if self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(detail="database is closed")

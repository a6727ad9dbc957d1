"""The read connection of a database: opened when it is used, lent to one thread at a time, closed when nobody needs it.

Raises: Unavailable (closed), and what opening or reading a database raises.
"""

from __future__ import annotations

from collections.abc import Callable

from storage.database.driver import Driver, Error
from storage.database.errors import translated
from storage.database.prepared import Connection
from storage.errors import Unavailable
from storage.locks import new_rlock

_DATA_VERSION = "PRAGMA data_version"
_VERSION_BITS = 32  # of SQLite's number


class Reader(Connection):
    """A context; the thread that is in it may enter it again."""

    __slots__ = ("_closed", "_connect", "_lock", "_on_opened", "opened", "used")

    def __init__(self, connect: Callable[[], Driver], on_opened: Callable[[], None] | None = None) -> None:
        """`on_opened` is called when there is a connection that was not there; it must not wait for anybody."""
        super().__init__(None)
        self._connect = connect
        self._on_opened = on_opened
        self._lock = new_rlock()
        self._closed = False
        self.opened = 0  # how many connections there were
        self.used = False  # since somebody looked, see `Database.rest`

    def __enter__(self) -> Connection:
        self._lock.acquire()
        self.used = True
        if self.driver is None:
            try:
                if self._closed:
                    raise Unavailable(detail="database is closed")
                self.driver = self._connect()
                self.opened += 1
                if self._on_opened is not None:
                    self._on_opened()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def data_version(self) -> tuple[int, bool]:
        """What SQLite says; it changes with a commit of anybody's, and with a new connection.

        And whether it is of all that is committed: within a snapshot it is the snapshot's.
        """
        with self:
            try:
                [(number,)] = self.driver.execute(_DATA_VERSION).fetchall()
            except Error as error:
                raise translated(error) from None
            return (self.opened << _VERSION_BITS) + int(number), not self.driver.in_transaction

    def let_go(self) -> Driver | None:
        """The connection, to be closed: the next to enter opens another. None if there is none, or it is in use."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            driver, self.driver = self.driver, None
            return driver
        finally:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self.driver is not None:
                self.driver.close()
                self.driver = None

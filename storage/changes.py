"""The change feed between the processes of one machine: who committed what, so that nobody has to poll.

A publisher sends each commit's changes to the sockets in run/feed/, as datagrams that carry its name and a running
number of this receiver's, and a heartbeat each second. It never waits and never fails: what a receiver cannot take yet
(kernels queue as few as 10 datagrams) is kept for it, the newest of each mailbox and collection, and sent again within
milliseconds. Changes of mailboxes, of collections and of the queue go only to subscribers that asked for them, and
changes of messages only to those that watch the account (`storage.feed_files`), so that a flag wakes nobody in vain.

A subscriber gets `Gap` when a number is missing, a publisher has fallen silent without a farewell, or a datagram cannot
be read; then it looks again at whatever it watches. A change only says that something happened; what happened is asked
of storage. So a subscriber that looks at the database after it subscribed learns of every later commit, at the latest
some seconds after a crash of the process that made it.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import struct
import threading
from collections.abc import Collection, Hashable, Sequence
from contextlib import suppress
from itertools import islice
from mmap import mmap
from pathlib import Path

from storage.change_values import (
    CHANGE,
    FAREWELL,
    AccountChanged,
    AccountEnded,
    Change,
    CollectionChanged,
    Gap,
    MailboxesChanged,
    Published,
    QueueChanged,
    RightsChanged,
    TenantChanged,
    TenantEnded,
    pack,
    unpack,
)
from storage.clock import Clock
from storage.errors import StorageFull
from storage.feed_files import SOCKET, Addresses, WatchedAccounts, is_watched, remove, sweep, table_of
from storage.files import durable
from storage.register import classes
from storage.register.values import FileClass
from storage.values import AccountId

__all__ = [
    "AccountChanged",
    "AccountEnded",
    "Change",
    "CollectionChanged",
    "Gap",
    "MailboxesChanged",
    "Published",
    "Publisher",
    "QueueChanged",
    "RightsChanged",
    "Subscriber",
    "TenantChanged",
    "TenantEnded",
]

HEARTBEAT = 1.0  # seconds between calls of `Publisher.beat`
SILENCE = 3.5  # seconds without a datagram after which a publisher counts as gone

_HEADER = struct.Struct(">8sQ")  # publisher, number
_MAIL, _DAV, _QUEUE = ".mail", ".dav", ".queue"  # what is asked for: in the names of sockets
_DATAGRAM_MAX = 32_768
_PIECE = (_DATAGRAM_MAX - _HEADER.size) // CHANGE.size * CHANGE.size
_RECEIVE_BUFFER = 1 << 20
_KEPT_MAX = 10_000  # changes kept for one receiver; beyond that it has to look again at everything
_AGAIN = (0.002, 0.05)  # seconds until kept changes are sent again: first, and at most
_PER_DRAIN = 2_000  # datagrams; more are read when the event loop comes around again
_SETTLED = 0.05  # seconds: a directory that changed just now may change again within the same tick of its clock


class Publisher:
    """One for each process; any thread may publish."""

    def __init__(self, data: Path, clock: Clock) -> None:
        self._directory = _feed(data)
        self._clock = clock
        self._name = secrets.token_bytes(8)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._address = Addresses(self._directory)
        self._receivers: dict[str, _Receiver] = {}
        self._known: int | None = None  # when the directory had changed last, as of the last look; None: look again
        self._guard = threading.Lock()
        self._kept = threading.Condition(self._guard)
        self._again: threading.Thread | None = None
        self._closed = False
        self.beat()

    def publish(self, *changes: Published) -> None:
        """Tell everybody concerned; never waits, never raises for a receiver's sake."""
        with self._guard:
            for receiver in self._look():
                wanted = [change for change in changes if receiver.wants(change)]
                if wanted:
                    self._tell(receiver, wanted, b"".join([pack(change) for change in wanted]))

    def beat(self) -> None:
        """To be called each second, so that receivers miss nothing for long."""
        with self._guard:
            for receiver in self._look():
                if receiver.kept:
                    self._send_kept(receiver)
                else:
                    self._send(receiver, b"")

    def close(self) -> None:
        """Says farewell, so that nobody wonders what this publisher did not tell."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._kept.notify()
            for receiver in self._look():
                if self._send_kept(receiver):
                    self._send(receiver, CHANGE.pack(FAREWELL, 0, 0, 0))
            self._socket.close()
            self._address.close()

    def _tell(self, receiver: _Receiver, changes: Sequence[Published], body: bytes) -> None:
        if receiver.kept:  # the thread that sends again sees to it
            receiver.keep(changes)
        elif len(body) > _PIECE or not self._send(receiver, body):
            receiver.keep(changes)
            if not self._send_kept(receiver):
                self._send_again_soon()

    def _send_kept(self, receiver: _Receiver) -> bool:
        """Whether nothing is kept for the receiver any more."""
        while receiver.kept:
            part = list(islice(receiver.kept.values(), _PIECE // CHANGE.size))
            if not self._send(receiver, b"".join(pack(change) for change in part)):
                return False
            for change in part:
                receiver.kept.pop(_subject(change), None)
        return True

    def _send(self, receiver: _Receiver, body: bytes) -> bool:
        """False: the receiver is full. One that is dead has left its name behind, and takes anything from now on."""
        try:
            self._socket.sendto(_HEADER.pack(self._name, receiver.number + 1) + body, self._address.of(receiver.name))
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                remove(self._directory / receiver.name)
                self._known = None
            return error.errno not in (errno.EAGAIN, errno.ENOBUFS)
        receiver.number += 1
        return True

    def _send_again_soon(self) -> None:
        if self._again is None:
            self._again = threading.Thread(target=self._send_again, name="change feed", daemon=True)
            self._again.start()
        self._kept.notify()

    def _send_again(self) -> None:
        pause = _AGAIN[0]
        with self._guard:
            while not self._closed:
                waiting = [receiver for receiver in self._look() if receiver.kept]
                if not waiting:
                    self._kept.wait()
                    pause = _AGAIN[0]
                    continue
                self._kept.wait(pause)
                pause = min(pause * 2, _AGAIN[1])
                if not self._closed:
                    for receiver in waiting:
                        self._send_kept(receiver)

    def _look(self) -> Collection[_Receiver]:
        changed = os.stat(self._directory).st_mtime_ns
        if changed != self._known:
            names = [name for name in os.listdir(self._directory) if name.endswith(SOCKET)]
            known, directory = self._receivers, self._directory
            self._receivers = {name: known.get(name) or _Receiver(name, table_of(directory / name)) for name in names}
            settled = self._clock.precise() - changed / 1e9 > _SETTLED
            self._known = changed if settled else None
        return self._receivers.values()


class _Receiver:
    """A subscriber as a publisher knows it."""

    __slots__ = ("_table", "_unwanted", "kept", "name", "number")

    def __init__(self, name: str, table: mmap | None) -> None:
        self.name = name
        self._table = table
        asked = (
            (_MAIL, Change),
            (_MAIL, MailboxesChanged),
            (_DAV, CollectionChanged),
            (_QUEUE, QueueChanged),
        )
        self._unwanted: tuple[type[Published], ...] = tuple(kind for part, kind in asked if part not in name)
        self.number = 0  # of the last datagram that it took
        self.kept: dict[Hashable, Published] = {}  # by what they are about: the newest counts

    def wants(self, change: Published) -> bool:
        if self._table is not None and type(change) is Change and not is_watched(self._table, change.account_id):
            return False
        return not isinstance(change, self._unwanted)

    def keep(self, changes: Sequence[Published]) -> None:
        for change in changes:
            subject = _subject(change)
            self.kept.pop(subject, None)
            self.kept[subject] = change
        if len(self.kept) > _KEPT_MAX:
            self.kept.clear()
            self.number += 1  # so it learns of the gap


def _subject(change: Published) -> Hashable:
    """What a change is about: of several about the same, the last says all."""
    match change:
        case Change(account, mailbox, _):
            return account, mailbox
        case CollectionChanged(account, collection, _):
            return account, "collection", collection
    return change


class Subscriber:
    """One for each process that watches; used by one thread, its event loop's."""

    def __init__(
        self,
        data: Path,
        clock: Clock,
        *,
        mailboxes: bool = True,
        queue: bool = False,
        collections: bool = False,
        only_watched: bool = False,
    ) -> None:
        """`mailboxes`, `queue`, `collections`: changes of these too, not of accounts and tenants alone.

        `only_watched`: a `Change` only of an account for which `watch` was called; of all where the disk is full.
        """
        directory = _feed(data)
        self._clock = clock
        asked = (_MAIL if mailboxes else "") + (_QUEUE if queue else "") + (_DAV if collections else "")
        self._path = directory / (secrets.token_hex(8) + asked + SOCKET)
        self._watched: WatchedAccounts | None = None
        if only_watched:
            sweep(directory, clock.precise())
            with suppress(StorageFull):
                self._watched = WatchedAccounts(self._path)  # there before the socket is
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        addresses = Addresses(directory)
        try:
            self._socket.bind(addresses.of(self._path.name))
        finally:
            addresses.close()
        self._last: dict[bytes, tuple[int, float]] = {}  # publisher → number, when

    def fileno(self) -> int:
        """Readable when there is something to drain."""
        return self._socket.fileno()

    def watch(self, account_id: AccountId) -> None:
        """To be told of it from now on, as often as it is watched; then look at the database."""
        if self._watched is not None:
            self._watched.watch(account_id)

    def unwatch(self, account_id: AccountId) -> None:
        if self._watched is not None:
            self._watched.unwatch(account_id)

    def drain(self) -> list[Published | Gap]:
        """What came since the last call, at most one Gap, and that first. To be called each second in any case."""
        now = self._clock.monotonic()
        news: dict[Published | Gap, None] = {}
        gap = False
        for _ in range(_PER_DRAIN):
            try:
                datagram = self._socket.recv(_DATAGRAM_MAX)
            except BlockingIOError:
                break
            gap |= self._take(datagram, now, news)
        silent = [name for name, (_, when) in self._last.items() if now - when > SILENCE]
        for name in silent:
            del self._last[name]  # what it committed last it may not have told
        return [Gap(), *news] if gap or silent else list(news)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._socket.close()
        if self._watched is not None:
            self._watched.close()
            self._watched = None

    def _take(self, datagram: bytes, now: float, news: dict[Published | Gap, None]) -> bool:
        """One datagram; True if something before it was missed."""
        if len(datagram) < _HEADER.size:
            return True
        name, number = _HEADER.unpack_from(datagram)
        last, _ = self._last.get(name, (0, 0.0))
        self._last[name] = (number, now)
        try:
            for change in unpack(datagram, _HEADER.size):
                if change is None:
                    del self._last[name]
                else:
                    news[change] = None
        except (struct.error, ValueError):
            return True
        return bool(number != last + 1)


FILES = (FileClass("run/feed/*", classes.INSTALLATION, "sockets of who listens to changes, and of which accounts"),)


def _feed(data: Path) -> Path:
    directory = data / "run" / "feed"
    durable.make_directory(directory)
    return directory

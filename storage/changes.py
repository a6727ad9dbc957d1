"""The change feed between the processes of one machine: who committed what, so that nobody has to poll.

A publisher sends each commit's changes to the sockets in run/feed/, as datagrams that carry its name and a running
number of this receiver's, and a heartbeat each second. It never waits and never fails: what a receiver cannot take yet
(kernels queue as few as 10 datagrams) is kept for it, the newest of each mailbox and collection, and sent again within
milliseconds. Changes of mailboxes, of collections and of the queue go only to subscribers that asked for them, so that
a flag wakes nobody in vain.

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
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from storage.clock import Clock
from storage.collections.values import CollectionId
from storage.files import durable
from storage.register import classes
from storage.register.values import FileClass
from storage.values import AccountId, MailboxId, ModSeq, TenantId

HEARTBEAT = 1.0  # seconds between calls of `Publisher.beat`
SILENCE = 3.5  # seconds without a datagram after which a publisher counts as gone

_HEADER = struct.Struct(">8sQ")  # publisher, number
_CHANGE = struct.Struct(">BQQQ")
_IS_FAREWELL = 4
# how the sockets' names end: what is asked for, and this
_MAIL, _DAV, _QUEUE, _SOCKET = ".mail", ".dav", ".queue", ".sock"
_DATAGRAM_MAX = 32_768
_PIECE = (_DATAGRAM_MAX - _HEADER.size) // _CHANGE.size * _CHANGE.size
_RECEIVE_BUFFER = 1 << 20
_KEPT_MAX = 10_000  # changes kept for one receiver; beyond that it has to look again at everything
_AGAIN = (0.002, 0.05)  # seconds until kept changes are sent again: first, and at most
_PER_DRAIN = 2_000  # datagrams; more are read when the event loop comes around again
_SETTLED = 0.05  # seconds: a directory that changed just now may change again within the same tick of its clock


@dataclass(frozen=True, slots=True)
class Change:
    """A mailbox has come to this modseq, or beyond."""

    account_id: AccountId
    mailbox_id: MailboxId
    modseq: ModSeq


@dataclass(frozen=True, slots=True)
class MailboxesChanged:
    """Mailboxes of an account were made, deleted or renamed, or its subscriptions or annotations changed."""

    account_id: AccountId


@dataclass(frozen=True, slots=True)
class CollectionChanged:
    """A calendar, address book or folder has come to this modseq, or beyond, or its name or colour has changed."""

    account_id: AccountId
    collection_id: CollectionId
    modseq: ModSeq


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """Credentials, state or quota of an account."""

    tenant_id: TenantId
    account_id: AccountId


@dataclass(frozen=True, slots=True)
class TenantChanged:
    """The state or the settings of a tenant."""

    tenant_id: TenantId


@dataclass(frozen=True, slots=True)
class RightsChanged:
    """Who may do what with the mailboxes of an account."""

    tenant_id: TenantId
    owner_id: AccountId


@dataclass(frozen=True, slots=True)
class TenantEnded:
    """Its contract is over: let go of all that is open of it, and of its keys. Told again until everybody has."""

    tenant_id: TenantId


@dataclass(frozen=True, slots=True)
class AccountEnded:
    """It is being deleted: let go of its database. Told again until everybody has."""

    tenant_id: TenantId
    account_id: AccountId


@dataclass(frozen=True, slots=True)
class QueueChanged:
    """Something in the queue became due earlier than was known: `Queue.news` tells what."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something may have been missed: look again."""


Published = (
    Change
    | MailboxesChanged
    | CollectionChanged
    | AccountChanged
    | RightsChanged
    | TenantChanged
    | QueueChanged
    | TenantEnded
    | AccountEnded
)

_KINDS: dict[int, type[Published]] = {
    1: Change,
    2: AccountChanged,
    3: TenantChanged,
    5: QueueChanged,
    6: TenantEnded,
    7: AccountEnded,
    8: CollectionChanged,
    9: MailboxesChanged,
    10: RightsChanged,
}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


class Publisher:
    """One for each process; any thread may publish."""

    def __init__(self, data: Path, clock: Clock) -> None:
        self._directory = _feed(data)
        self._clock = clock
        self._name = secrets.token_bytes(8)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._address = _Addresses(self._directory)
        self._receivers: dict[str, _Receiver] = {}
        self._known: int | None = None  # when the directory had changed last, as of the last look; None: look again
        self._guard = threading.Lock()
        self._kept = threading.Condition(self._guard)
        self._again: threading.Thread | None = None
        self._closed = False
        self.beat()

    def publish(self, *changes: Published) -> None:
        """Tell everybody concerned; never waits, never raises for a receiver's sake."""
        packed = [(change, _pack(change)) for change in changes]
        with self._guard:
            for receiver in self._look():
                wanted = [(change, octets) for change, octets in packed if not isinstance(change, receiver.unwanted)]
                if wanted:
                    self._tell(receiver, [change for change, _ in wanted], b"".join(octets for _, octets in wanted))

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
                    self._send(receiver, _CHANGE.pack(_IS_FAREWELL, 0, 0, 0))
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
            part = list(islice(receiver.kept.values(), _PIECE // _CHANGE.size))
            if not self._send(receiver, b"".join(_pack(change) for change in part)):
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
                (self._directory / receiver.name).unlink(missing_ok=True)
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
            names = [name for name in os.listdir(self._directory) if name.endswith(_SOCKET)]
            self._receivers = {name: self._receivers.get(name) or _Receiver(name) for name in names}
            settled = self._clock.precise() - changed / 1e9 > _SETTLED
            self._known = changed if settled else None
        return self._receivers.values()


class _Receiver:
    """A subscriber as a publisher knows it."""

    __slots__ = ("kept", "name", "number", "unwanted")

    def __init__(self, name: str) -> None:
        self.name = name
        asked = (
            (_MAIL, Change),
            (_MAIL, MailboxesChanged),
            (_DAV, CollectionChanged),
            (_QUEUE, QueueChanged),
        )
        self.unwanted: tuple[type[Published], ...] = tuple(kind for part, kind in asked if part not in name)
        self.number = 0  # of the last datagram that it took
        self.kept: dict[Hashable, Published] = {}  # by what they are about: the newest counts

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
        self, data: Path, clock: Clock, *, mailboxes: bool = True, queue: bool = False, collections: bool = False
    ) -> None:
        """`mailboxes`, `queue`, `collections`: changes of these too, not of accounts and tenants alone."""
        directory = _feed(data)
        self._clock = clock
        asked = (_MAIL if mailboxes else "") + (_QUEUE if queue else "") + (_DAV if collections else "")
        self._path = directory / (secrets.token_hex(8) + asked + _SOCKET)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        addresses = _Addresses(directory)
        try:
            self._socket.bind(addresses.of(self._path.name))
        finally:
            addresses.close()
        self._last: dict[bytes, tuple[int, float]] = {}  # publisher → number, when

    def fileno(self) -> int:
        """Readable when there is something to drain."""
        return self._socket.fileno()

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

    def _take(self, datagram: bytes, now: float, news: dict[Published | Gap, None]) -> bool:
        """One datagram; True if something before it was missed."""
        if len(datagram) < _HEADER.size:
            return True
        name, number = _HEADER.unpack_from(datagram)
        last, _ = self._last.get(name, (0, 0.0))
        self._last[name] = (number, now)
        try:
            for change in _unpack(datagram, _HEADER.size):
                if change is None:
                    del self._last[name]
                else:
                    news[change] = None
        except (struct.error, ValueError):
            return True
        return bool(number != last + 1)


FILES = (FileClass("run/feed/*", classes.INSTALLATION, "sockets of who listens to changes"),)


def _feed(data: Path) -> Path:
    directory = data / "run" / "feed"
    durable.make_directory(directory)
    return directory


class _Addresses:
    """Socket addresses below a directory whose path may be longer than the 107 octets an address takes."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def of(self, name: str) -> str:
        return f"/proc/self/fd/{self._descriptor}/{name}"

    def close(self) -> None:
        os.close(self._descriptor)


def _pack(change: Published) -> bytes:
    """The number of its kind, and its ids."""
    values = [getattr(change, name) for name in type(change).__match_args__]
    return _CHANGE.pack(_NUMBERS[type(change)], *values, *(0,) * (3 - len(values)))


def _unpack(datagram: bytes, position: int) -> Sequence[Published | None]:
    """None is a farewell. Raises ValueError or struct.error for what is no change."""
    changes: list[Published | None] = []
    for start in range(position, len(datagram), _CHANGE.size):
        number, *values = _CHANGE.unpack_from(datagram, start)
        if number == _IS_FAREWELL:
            changes.append(None)
        elif number in _KINDS:
            kind = _KINDS[number]
            changes.append(kind(*values[: len(kind.__match_args__)]))
        else:
            raise ValueError("unknown kind of change")
    return changes

"""The change feed between the processes of one machine: who committed what, so that nobody has to poll.

A publisher sends each commit's changes to the sockets in run/feed/, as datagrams that carry its name and a running
number, and a heartbeat each second. Changes of mailboxes go only to subscribers that asked for them, so that a flag
wakes nobody in vain; each of the two kinds of subscribers has running numbers of its own. It never waits and never
fails: who could not be reached finds out. A subscriber gets `Gap` when a number is missing, a publisher is new or has
fallen silent, or a datagram cannot be read; then it looks again at whatever it watches. A change only says that
something happened; what happened is asked of storage.

So a subscriber that looks at the database after it subscribed learns of every later commit, at the latest some seconds
after a crash of the process that made it.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.clock import Clock
from storage.files import durable
from storage.values import AccountId, MailboxId, ModSeq, TenantId

HEARTBEAT = 1.0  # seconds between calls of `Publisher.beat`
SILENCE = 3.5  # seconds without a datagram after which a publisher counts as gone

_HEADER = struct.Struct(">8sQ")  # publisher, number
_CHANGE = struct.Struct(">BQQQ")
_IS_CHANGE, _IS_ACCOUNT, _IS_TENANT = 1, 2, 3
_EVERYTHING, _ACCOUNTS = ".mail.sock", ".accounts.sock"  # how the sockets' names end
_DATAGRAM_MAX = 32_768
_PIECE = (_DATAGRAM_MAX - _HEADER.size) // _CHANGE.size * _CHANGE.size
_RECEIVE_BUFFER = 1 << 20
_PER_DRAIN = 2_000  # datagrams; more are read when the event loop comes around again
_SETTLED = 0.05  # seconds: a directory that changed just now may change again within the same tick of its clock


@dataclass(frozen=True, slots=True)
class Change:
    """A mailbox has come to this modseq, or beyond."""

    account_id: AccountId
    mailbox_id: MailboxId
    modseq: ModSeq


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """Credentials, state, quota or the list of mailboxes of an account."""

    tenant_id: TenantId
    account_id: AccountId


@dataclass(frozen=True, slots=True)
class TenantChanged:
    """The state or the settings of a tenant."""

    tenant_id: TenantId


@dataclass(frozen=True, slots=True)
class Gap:
    """Something may have been missed: look again."""


Published = Change | AccountChanged | TenantChanged


class Publisher:
    """One for each process; any thread may publish."""

    def __init__(self, data: Path, clock: Clock) -> None:
        self._directory = _feed(data)
        self._clock = clock
        self._name = secrets.token_bytes(8)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._address = _Addresses(self._directory)
        self._audiences = (_Audience(_EVERYTHING), _Audience(_ACCOUNTS))
        self._known: int | None = None  # when the directory had changed last, as of the last look; None: look again
        self._guard = threading.Lock()
        self.beat()

    def publish(self, *changes: Published) -> None:
        """Tell everybody concerned, in one datagram; never waits, never raises for a receiver's sake."""
        of_accounts = [change for change in changes if not isinstance(change, Change)]
        with self._guard:
            self._look()
            everything, accounts = self._audiences
            self._send(everything, b"".join(_pack(change) for change in changes))
            if of_accounts:
                self._send(accounts, b"".join(_pack(change) for change in of_accounts))

    def beat(self) -> None:
        """To be called each second, so that receivers miss nothing for long."""
        with self._guard:
            self._look()
            for audience in self._audiences:
                self._send(audience, b"")

    def close(self) -> None:
        with self._guard:
            self._socket.close()
            self._address.close()

    def _send(self, audience: _Audience, body: bytes) -> None:
        pieces = [body[i : i + _PIECE] for i in range(0, len(body), _PIECE)] or [b""]
        for piece in pieces:
            audience.number += 1
            datagram = _HEADER.pack(self._name, audience.number) + piece
            for receiver in audience.receivers:
                self._send_to(receiver, datagram)

    def _send_to(self, receiver: str, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._address.of(receiver))
        except OSError as error:
            # A full receiver misses a number and so learns of the gap. A dead one has left its name behind.
            if error.errno == errno.ECONNREFUSED:
                (self._directory / receiver).unlink(missing_ok=True)
                self._known = None

    def _look(self) -> None:
        changed = os.stat(self._directory).st_mtime_ns
        if changed != self._known:
            names = os.listdir(self._directory)
            for audience in self._audiences:
                audience.receivers = [name for name in names if name.endswith(audience.suffix)]
            settled = self._clock.precise() - changed / 1e9 > _SETTLED
            self._known = changed if settled else None


class _Audience:
    """The subscribers of one kind, and the running number of what is sent to them."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix
        self.receivers: list[str] = []
        self.number = 0


class Subscriber:
    """One for each process that watches; used by one thread, its event loop's."""

    def __init__(self, data: Path, clock: Clock, *, mailboxes: bool = True) -> None:
        """`mailboxes`: changes of mailboxes too, not of accounts and tenants alone."""
        directory = _feed(data)
        self._clock = clock
        self._path = directory / (secrets.token_hex(8) + (_EVERYTHING if mailboxes else _ACCOUNTS))
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
        last = self._last.get(name)
        self._last[name] = (number, now)
        try:
            for change in _unpack(datagram, _HEADER.size):
                news[change] = None
        except (struct.error, ValueError):
            return True
        return last is None or number != last[0] + 1


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
    match change:
        case Change(account, mailbox, modseq):
            return _CHANGE.pack(_IS_CHANGE, account, mailbox, modseq)
        case AccountChanged(tenant, account):
            return _CHANGE.pack(_IS_ACCOUNT, tenant, account, 0)
        case TenantChanged(tenant):
            return _CHANGE.pack(_IS_TENANT, tenant, 0, 0)


def _unpack(datagram: bytes, position: int) -> Sequence[Published]:
    """Raises ValueError or struct.error for what is no change."""
    changes: list[Published] = []
    for start in range(position, len(datagram), _CHANGE.size):
        kind, first, second, third = _CHANGE.unpack_from(datagram, start)
        if kind == _IS_CHANGE:
            changes.append(Change(AccountId(first), MailboxId(second), ModSeq(third)))
        elif kind == _IS_ACCOUNT:
            changes.append(AccountChanged(TenantId(first), AccountId(second)))
        elif kind == _IS_TENANT:
            changes.append(TenantChanged(TenantId(first)))
        else:
            raise ValueError("unknown kind of change")
    return changes

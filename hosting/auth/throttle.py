"""Slows down guessing of passwords, for all protocols at once.

Failures are counted per login name, per client address and per network. Within an allowance they cost nothing; each one
beyond it doubles a pause in which attempts are refused unread. Attempts under way count as well, so that a thousand
guesses at once get no further than one after the other.

An address that signed in to an account lately is judged by its own failures at that account alone: neither somebody who
guesses the account's password from elsewhere nor a neighbour behind the same address can lock its owner out. A login
name that nobody has is throttled like any other. All of it lives in bounded memory, by keyed hashes of login names.

Raises: Throttled.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from storage.clock import Clock
from storage.errors import Throttled


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many failures are free, and what further ones cost."""

    free: int  # failures that cost nothing
    parallel: int  # attempts that may be under way beyond the free ones
    first_pause: float  # seconds after the first failure that is not free; each further one doubles it
    longest_pause: float  # seconds
    forgotten_after: float  # seconds without a failure after which all are forgotten

    def pause(self, failures: int) -> float:
        """After that many failures."""
        beyond = failures - self.free
        if beyond <= 0:
            return 0.0
        return float(min(self.first_pause * 2.0 ** min(beyond - 1, 60), self.longest_pause))


@dataclass(frozen=True, slots=True)
class ThrottlePolicy:
    login: Allowance = Allowance(10, 16, 10.0, 900.0, 3600.0)  # of one login name, for addresses it does not know
    address: Allowance = Allowance(20, 128, 5.0, 3600.0, 3600.0)  # of one IPv4 address, or one IPv6 /64
    network: Allowance = Allowance(200, 512, 5.0, 3600.0, 3600.0)  # of one IPv4 /24, or one IPv6 /48
    pair: Allowance = Allowance(10, 64, 5.0, 300.0, 3600.0)  # of an address at an account that it signed in to lately
    known_for: int = 30 * 86400  # seconds for which an address that signed in is known at its account
    remembered: int = 100_000  # subjects of each kind that are kept in memory


@dataclass(slots=True)
class _Record:
    failures: int = 0
    under_way: int = 0
    paused_until: float = 0.0
    last: float = 0.0


class _Limit:
    """The records of one kind of subject. Not safe by itself: `Throttle` holds the lock."""

    def __init__(self, allowance: Allowance, remembered: int) -> None:
        self._allowance = allowance
        self._remembered = remembered
        self._records: OrderedDict[object, _Record] = OrderedDict()

    def refuses(self, subject: object, now: float, *, another: bool) -> bool:
        """Whether it is in a pause, or (`another`) has as many attempts under way as it may."""
        record = self._records.get(subject)
        if record is None:
            return False
        if now < record.paused_until:
            return True
        failures = 0 if self._stale(record, now) else record.failures
        left = self._allowance.free - failures
        # Where the next failure means a pause, attempts go one at a time.
        return another and record.under_way >= (left + self._allowance.parallel if left > 0 else 1)

    def enter(self, subject: object) -> None:
        record = self._records.get(subject)
        if record is None:
            record = self._records[subject] = _Record()
            self._shrink()
        self._records.move_to_end(subject)
        record.under_way += 1

    def leave(self, subject: object, now: float, *, failed: bool) -> None:
        record = self._records.get(subject)
        if record is None:
            return
        record.under_way = max(record.under_way - 1, 0)
        if failed:
            record.failures = 1 if self._stale(record, now) else record.failures + 1
            record.last = now
            record.paused_until = max(record.paused_until, now + self._allowance.pause(record.failures))
        elif not record.failures and not record.under_way:
            del self._records[subject]

    def forget(self, subject: object) -> None:
        record = self._records.get(subject)
        if record is not None:
            record.failures, record.paused_until = 0, 0.0

    def _stale(self, record: _Record, now: float) -> bool:
        return now - max(record.last, record.paused_until) >= self._allowance.forgotten_after

    def _shrink(self) -> None:
        while len(self._records) > self._remembered:
            self._records.popitem(last=False)


class Throttle:
    """Safe to use from many threads."""

    def __init__(self, clock: Clock, policy: ThrottlePolicy | None = None) -> None:
        self._clock = clock
        self._policy = policy = policy or ThrottlePolicy()
        self._lock = threading.Lock()
        self._login = _Limit(policy.login, policy.remembered)
        self._address = _Limit(policy.address, policy.remembered)
        self._network = _Limit(policy.network, policy.remembered)
        self._pair = _Limit(policy.pair, policy.remembered)
        self._known: OrderedDict[tuple[bytes, str], int] = OrderedDict()

    def check(self, login: bytes, address: str) -> None:
        """Raises Throttled if an attempt would be refused for what happened before."""
        with self._lock:
            self._refuse(self._subjects(login, address), another=False)

    def admit(self, login: bytes, address: str) -> Attempt:
        """Take an attempt in; it must be ended. Raises Throttled."""
        with self._lock:
            subjects = self._subjects(login, address)
            self._refuse(subjects, another=True)
            for limit, subject in subjects:
                limit.enter(subject)
        return Attempt(self, login, address, subjects)

    def is_known(self, login: bytes, address: str) -> bool:
        """Whether the address signed in to the account lately."""
        with self._lock:
            return self._is_known(login, _single(address))

    def remember(self, login: bytes, address: str, time: int) -> None:
        """The address signed in at `time` (Unix seconds)."""
        pair = (login, _single(address))
        with self._lock:
            self._known[pair] = max(time, self._known.get(pair, 0))
            self._known.move_to_end(pair)
            while len(self._known) > self._policy.remembered:
                self._known.popitem(last=False)

    def _subjects(self, login: bytes, address: str) -> list[tuple[_Limit, object]]:
        single = _single(address)
        if self._is_known(login, single):
            return [(self._pair, (login, single))]
        return [(self._login, login), (self._address, single), (self._network, _network(address))]

    def _is_known(self, login: bytes, single: str) -> bool:
        since = self._known.get((login, single))
        return since is not None and self._clock.now() - since < self._policy.known_for

    def _refuse(self, subjects: list[tuple[_Limit, object]], *, another: bool) -> None:
        now = self._clock.monotonic()
        if any(limit.refuses(subject, now, another=another) for limit, subject in subjects):
            raise Throttled

    def _end(self, subjects: list[tuple[_Limit, object]], *, failed: bool) -> None:
        now = self._clock.monotonic()
        with self._lock:
            for limit, subject in subjects:
                limit.leave(subject, now, failed=failed)


class Attempt:
    """One attempt under way. Exactly one of its methods is called, once."""

    __slots__ = ("_address", "_login", "_subjects", "_throttle")

    def __init__(self, throttle: Throttle, login: bytes, address: str, subjects: list[tuple[_Limit, object]]) -> None:
        self._throttle = throttle
        self._login = login
        self._address = address
        self._subjects = subjects

    def succeeded(self) -> None:
        """Failures of others stay counted: who owns one account must not clear the way to the next."""
        self._throttle._end(self._subjects, failed=False)
        self._throttle.remember(self._login, self._address, self._throttle._clock.now())

    def failed(self) -> None:
        self._throttle._end(self._subjects, failed=True)

    def abandoned(self) -> None:
        """It was not decided: the store did not answer."""
        self._throttle._end(self._subjects, failed=False)


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


def _single(address: str) -> str:
    """One subscriber: an IPv4 address, or the /64 that an IPv6 one comes from."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return f"{int(parsed) >> 64:x}/64"
    return str(parsed) if parsed is not None else address[:64]


def _network(address: str) -> str:
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return f"{int(parsed) >> 80:x}/48"
    if parsed is not None:
        return f"{int(parsed) >> 8:x}/24"
    return address[:64]

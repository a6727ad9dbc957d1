"""A directory with a verifier over it: real databases, real argon2 with cheap parameters, a clock that stands still."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from directory_premises import DirectoryPremises, Town

from hosting.auth.passwords import Passwords
from hosting.auth.pool import HashingPool
from hosting.auth.remembered import VerificationCache
from hosting.auth.signin import Principal, SignIn, SignInProtocol
from hosting.auth.throttle import Throttle
from hosting.auth.verifier import Verifier
from storage.directory.resolve import Directory
from storage.logs.access import AccessEvent, AccessLog
from storage.values import AccountId, EmailAddress, TenantId

CHEAP = Passwords(time_cost=1, memory_kib=8, lanes=1)


@dataclass
class Held:
    """Comparisons that wait for the test."""

    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


class CountingPasswords(Passwords):
    """The real thing, which counts how often and how many at once it runs."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_kib=8, lanes=1)
        self.runs = 0
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self._held: Held | None = None

    def verify(self, verifier: str | None, password: str) -> bool:
        with self._lock:
            self.runs += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        held = self._held
        if held is not None:
            held.begun.set()
            held.go_on.wait(10)
        try:
            return super().verify(verifier, password)
        finally:
            with self._lock:
                self._now -= 1

    @contextmanager
    def held(self) -> Iterator[Held]:
        self._held = Held()
        try:
            yield self._held
        finally:
            self._held.go_on.set()
            self._held = None


class AuthTown(Town):
    def __init__(self, premises: DirectoryPremises) -> None:
        super().__init__(premises)
        self.clock = premises.clock
        self.passwords = CountingPasswords()
        self.pool = HashingPool(2)
        self.throttle = Throttle(self.clock)
        self.cache = VerificationCache(self.clock)
        self.access_log = AccessLog(premises.data, premises.keys, "test", self.clock)
        self.verifier = self.verifier_over(premises)

    def verifier_over(self, directory: Directory) -> Verifier:
        return Verifier(
            directory, self.passwords, self.pool, self.throttle, self.cache, self.access_log, self.premises.clock
        )

    def account_with(self, tenant_id: TenantId, address: str, password: str) -> AccountId:
        return self.provisioning.create_account(
            tenant_id, EmailAddress.parse(address), password_hash=CHEAP.hash(password)
        ).account_id

    def sign_in(
        self,
        login: str,
        password: str,
        *,
        address: str = "192.0.2.1",
        protocol: SignInProtocol = "imap",
        verifier: Verifier | None = None,
    ) -> Principal:
        return (verifier or self.verifier).begin(SignIn(protocol, login, password, address, "s1")).result(30)

    def events(self) -> list[AccessEvent]:
        return list(self.access_log.read(0, self.clock.now() + 1))


@contextmanager
def new_auth_town(data: Path) -> Iterator[AuthTown]:
    premises = DirectoryPremises(data)
    town = AuthTown(premises)
    try:
        yield town
    finally:
        town.pool.close()
        premises.close()

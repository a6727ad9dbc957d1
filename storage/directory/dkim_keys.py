"""DKIM keys of the tenant's domains, in tenant.db: the life of each, from made to retired.

A key is made, seen in DNS, signing, retiring (published for the signatures that are still on their way) and retired
(its private half is destroyed, its record is published empty). `NEXT` is the whole of it: nothing begins to sign that
was not seen, so no signature ever names a selector that receivers cannot find. At most one key of an algorithm signs
for a domain: the one that begins lets the one before retire, in the same commit.

Every change is durable on return. Whether a key stands in DNS is for the caller to find out: `saw` is told.

Raises: NotFound, AlreadyExists, Conflict (the key's state does not allow it).
Standards: RFC 6376 §3.6.1 (an empty p= revokes a key), RFC 6376 appendix C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import Connection, prepare
from storage.errors import Conflict, NotFound
from storage.schema import tenant as schema
from storage.values import Domain

# Between seen and signing where another key signs meanwhile: "no such name" is remembered that long by resolvers.
SEEN_FOR = 3600
RETIRING_FOR = 7 * 86400  # longer than any queue on the way keeps a message that was signed


class DkimAlgorithm(StrEnum):
    RSA = "rsa"
    ED25519 = "ed25519"


class DkimState(StrEnum):
    MADE = "made"
    SEEN = "seen"
    SIGNING = "signing"
    RETIRING = "retiring"
    RETIRED = "retired"


# Which state may follow which. A key that never signed does not retire, it is discarded.
NEXT: dict[DkimState, frozenset[DkimState]] = {
    DkimState.MADE: frozenset({DkimState.SEEN}),
    DkimState.SEEN: frozenset({DkimState.SIGNING}),
    DkimState.SIGNING: frozenset({DkimState.RETIRING}),
    DkimState.RETIRING: frozenset({DkimState.SIGNING, DkimState.RETIRED}),  # a rotation may be taken back
    DkimState.RETIRED: frozenset(),
}
UNUSED = frozenset({DkimState.MADE, DkimState.SEEN})  # has never signed

_key = schema.dkim_key
_COLUMNS = (
    _key.c.domain,
    _key.c.selector,
    _key.c.algorithm,
    _key.c.public_key,
    _key.c.state,
    _key.c.created,
    _key.c.changed,
)
_THIS = (_key.c.domain == bindparam("which"), _key.c.selector == bindparam("name"))

_ALL = prepare(select(*_COLUMNS).order_by(_key.c.domain, _key.c.created, _key.c.selector))
_OF_DOMAIN = prepare(
    select(*_COLUMNS).where(_key.c.domain == bindparam("which")).order_by(_key.c.created, _key.c.selector)
)
_ONE = prepare(select(*_COLUMNS).where(*_THIS))
_SIGNING = prepare(
    select(_key.c.selector, _key.c.algorithm, _key.c.private_key)
    .where(_key.c.domain == bindparam("which"), _key.c.state == DkimState.SIGNING.value)
    .order_by(_key.c.algorithm.desc())
)
_INSERT = prepare(insert(_key))
_SET_STATE = prepare(update(_key).where(*_THIS).values(state=bindparam("next"), changed=bindparam("time")))
_DESTROY = prepare(update(_key).where(*_THIS).values(private_key=None))
_DELETE = prepare(delete(_key).where(*_THIS))


@dataclass(frozen=True, slots=True)
class DkimKey:
    """What is public of a key. `public_key` is what p= has, before base64."""

    domain: Domain
    selector: str
    algorithm: DkimAlgorithm
    public_key: bytes = field(repr=False)
    state: DkimState
    created: int
    changed: int  # when it came to its state

    @property
    def name(self) -> str:
        """Where its record stands in DNS (RFC 6376 §3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class DkimPrivateKey:
    """A key that signs now; `private_key` is PKCS #8 in DER."""

    domain: Domain
    selector: str
    algorithm: DkimAlgorithm
    private_key: bytes = field(repr=False)


class DkimKeys:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def find(self, domain: Domain | None = None) -> list[DkimKey]:
        """The keys of a domain, or of all, oldest first."""
        with self._database.reading() as connection:
            rows = _ALL.rows(connection) if domain is None else _OF_DOMAIN.rows(connection, which=domain.name)
        return [_row(row) for row in rows]

    def show(self, domain: Domain, selector: str) -> DkimKey:
        with self._database.reading() as connection:
            return _find(connection, domain, selector)

    def signing(self, domain: Domain) -> tuple[DkimPrivateKey, ...]:
        """The keys that sign for the domain, RSA first; none: its mail leaves unsigned."""
        with self._database.reading() as connection:
            rows = _SIGNING.rows(connection, which=domain.name)
        return tuple(DkimPrivateKey(domain, row[0], DkimAlgorithm(row[1]), row[2]) for row in rows)

    def add(
        self, domain: Domain, selector: str, algorithm: DkimAlgorithm, *, private_key: bytes, public_key: bytes
    ) -> DkimKey:
        """A new key, made. AlreadyExists if the selector was ever used; Conflict if one of its kind waits already."""
        now = self._clock.now()
        key = DkimKey(domain, selector, algorithm, public_key, DkimState.MADE, now, now)

        def work(transaction: Transaction) -> None:
            for other in map(_row, _OF_DOMAIN.rows(transaction, which=domain.name)):
                if other.algorithm is algorithm and other.state in UNUSED:
                    raise Conflict(
                        f"The {algorithm} key {other.selector} of {domain} has never signed; publish or retire it."
                    )
            _INSERT.run(
                transaction,
                domain=domain.name,
                selector=selector,
                algorithm=algorithm.value,
                private_key=private_key,
                public_key=public_key,
                state=key.state.value,
                created=now,
                changed=now,
            )

        self._database.write(work)
        return key

    def saw(self, domain: Domain, selector: str) -> DkimKey:
        """The key's record stands in DNS as it should.

        It becomes SEEN, and SIGNING in the same commit unless another key of its algorithm signs: then there is no
        hurry, and it begins when everybody's memory of "no such name" has passed (`progress`). Nothing happens to a
        key that is further than that.
        """

        def work(transaction: Transaction) -> DkimKey:
            key = _find(transaction, domain, selector)
            if key.state is DkimState.MADE:
                key = self._move(transaction, key, DkimState.SEEN)
                if self._predecessor(transaction, key) is None:
                    key = self._move(transaction, key, DkimState.SIGNING)
            return key

        return self._write(work)

    def begin(self, domain: Domain, selector: str) -> DkimKey:
        """Let the key sign now; the one of its algorithm that signed retires."""
        return self._write(lambda t: self._begin(t, _find(t, domain, selector)))

    def retire(self, domain: Domain, selector: str, *, at_once: bool = False) -> DkimKey | None:
        """Sign no longer; the record has to stay for RETIRING_FOR. None: it never signed, and is gone.

        `at_once` is for a key that is in wrong hands: it is RETIRED, and what it signed does not count any more.
        """

        def work(transaction: Transaction) -> DkimKey | None:
            key = _find(transaction, domain, selector)
            if key.state in UNUSED:
                _DELETE.run(transaction, which=domain.name, name=selector)
                return None
            if key.state is DkimState.SIGNING:
                key = self._move(transaction, key, DkimState.RETIRING)
            if at_once and key.state is DkimState.RETIRING:
                key = self._move(transaction, key, DkimState.RETIRED)
            return key

        retired: DkimKey | None = self._database.write(work)
        return retired

    def progress(self) -> list[DkimKey]:
        """What time alone brings about: seen keys begin to sign, retiring ones are retired. The keys that moved on."""
        now = self._clock.now()

        def work(transaction: Transaction) -> list[DkimKey]:
            moved: list[DkimKey] = []
            for key in map(_row, _ALL.rows(transaction)):
                if key.state is DkimState.SEEN and now - key.changed >= SEEN_FOR:
                    moved.append(self._begin(transaction, key))
                elif key.state is DkimState.RETIRING and now - key.changed >= RETIRING_FOR:
                    moved.append(self._move(transaction, key, DkimState.RETIRED))
            return moved

        if not any(key.state in (DkimState.SEEN, DkimState.RETIRING) for key in self.find()):
            return []
        changed: list[DkimKey] = self._database.write(work)
        return changed

    def _begin(self, transaction: Transaction, key: DkimKey) -> DkimKey:
        if key.state is DkimState.SIGNING:
            return key
        begun = self._move(transaction, key, DkimState.SIGNING)
        predecessor = self._predecessor(transaction, key)
        if predecessor is not None:
            self._move(transaction, predecessor, DkimState.RETIRING)
        return begun

    def _predecessor(self, transaction: Transaction, key: DkimKey) -> DkimKey | None:
        """The other key of its algorithm that signs."""
        for other in map(_row, _OF_DOMAIN.rows(transaction, which=key.domain.name)):
            if other.state is DkimState.SIGNING and other.algorithm is key.algorithm and other.selector != key.selector:
                return other
        return None

    def _move(self, transaction: Transaction, key: DkimKey, following: DkimState) -> DkimKey:
        if following not in NEXT[key.state]:
            raise Conflict(f"A DKIM key that is {key.state} cannot become {following}.")
        now = self._clock.now()
        _SET_STATE.run(transaction, which=key.domain.name, name=key.selector, next=following.value, time=now)
        if following is DkimState.RETIRED:
            _DESTROY.run(transaction, which=key.domain.name, name=key.selector)
        return replace(key, state=following, changed=now)

    def _write(self, work: Callable[[Transaction], DkimKey]) -> DkimKey:
        key: DkimKey = self._database.write(work)
        return key


def _find(connection: Connection, domain: Domain, selector: str) -> DkimKey:
    row = _ONE.one(connection, which=domain.name, name=selector)
    if row is None:
        raise NotFound(f"The domain {domain} has no DKIM key '{selector[:80]}'.")
    return _row(row)


def _row(row: tuple[Any, ...]) -> DkimKey:
    return DkimKey(Domain(row[0]), row[1], DkimAlgorithm(row[2]), row[3], DkimState(row[4]), row[5], row[6])

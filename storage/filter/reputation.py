"""What a tenant got from the domains and networks that send to it: counts of wanted and unwanted messages, which fade.

A subject is a domain that proved itself (nobody can ruin another's name) or the network a client connected from. What
people say of a message counts fully, but of one account once in `VOICE`: who throws away a mailing list message by
message does not take it from others. That the filter let a message pass counts lightly, up to a low ceiling and only in
favour: else it would believe itself the more, the more often it was wrong. Malware counts fully, up to a ceiling too:
whoever has an account at a large provider could ruin it with test viruses. Counts halve every 30 days, at each look.

Subjects are kept as keyed hashes under a key of the tenant's. `record` gathers in memory; `flush` writes. There is a
most of subjects: whoever sends from many names pushes out the lightest, which are his own.

Raises: nothing from `record`; Unavailable, StorageFull and Corrupt otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from threading import Lock
from typing import NewType

from sqlalchemy import bindparam, delete, func, or_, select
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import CleanmailError
from storage.keys.sealing import derive, keyed_hash
from storage.schema.tenant import reputation
from storage.values import Domain

DAY = 86_400
HALF_LIFE = 30 * DAY
KEPT = 6 * HALF_LIFE  # after the last message; a sixty-fourth of what it weighed is left then
SUBJECTS_MAX = 50_000
VOICE = HALF_LIFE  # seconds in which what one account says of a subject counts once
LIGHT = 0.1  # what a message that the filter let pass adds …
LIGHT_MAX = 3.0  # … until the subject weighs so much
MALWARE_MAX = 3.0  # until the subject weighs so much against itself, each piece of malware counts

_IPV4_BITS, _IPV6_BITS = 24, 48
_WAITING_MAX = 20_000  # subjects
_FLUSH_AT = 1_000
_FLUSH_AFTER = 5.0  # seconds that counts wait, so that writes are shared
_ROOM_MADE_EVERY = 1_000  # rows written between two counts

Subject = NewType("Subject", str)

_THIS = reputation.c.subject_hash == bindparam("hash")
_COLUMNS = (reputation.c.ham, reputation.c.spam, reputation.c.last)
_ONE = prepare(select(*_COLUMNS).where(_THIS))
_TWO = prepare(
    select(reputation.c.subject_hash, *_COLUMNS).where(
        or_(reputation.c.subject_hash == bindparam("first"), reputation.c.subject_hash == bindparam("second"))
    )
)
_insert = upsert(reputation)
_WRITE = prepare(
    _insert.on_conflict_do_update(
        index_elements=[reputation.c.subject_hash],
        set_={name: _insert.excluded[name] for name in ("ham", "spam", "last")},
    )
)
_COUNT = prepare(select(func.count()).select_from(reputation))
_LIGHTEST = (
    select(reputation.c.subject_hash)
    .order_by(reputation.c.ham + reputation.c.spam >= 1.0, reputation.c.last)
    .limit(bindparam("excess"))
)
_MAKE_ROOM = prepare(delete(reputation).where(reputation.c.subject_hash.in_(_LIGHTEST)))
_EXPIRE = prepare(delete(reputation).where(reputation.c.last < bindparam("before")))


@dataclass(frozen=True, slots=True)
class Counts:
    """What came from a subject, faded."""

    ham: float = 0.0
    spam: float = 0.0


@dataclass(slots=True)
class _Waiting:
    """What is to be added to a subject."""

    ham: float = 0.0
    spam: float = 0.0
    light: float = 0.0
    malware: float = 0.0


NOTHING = Counts()


def domain_subject(domain: Domain) -> Subject:
    """A domain that the message proved to come from."""
    return Subject(f"domain:{domain.name}")


def network_subject(address: str) -> Subject | None:
    """The network of a client's address: /24 or /48; None if it is no address."""
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return Subject(f"network:{IPv6Address(int(ip) >> (128 - _IPV6_BITS) << (128 - _IPV6_BITS))}")
        ip = ip.ipv4_mapped
    return Subject(f"network:{type(ip)(int(ip) >> (32 - _IPV4_BITS) << (32 - _IPV4_BITS))}")


class Reputation:
    """Of one tenant's senders. Any thread may use it."""

    def __init__(self, database: Database, tenant_secret: bytes, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._key = derive(tenant_secret, "filter", "reputation")
        self._guard = Lock()  # of the next two
        self._waiting: dict[Subject, _Waiting] = {}
        self._since = 0.0
        self._written = _ROOM_MADE_EVERY  # rows since room was made

    def record(
        self,
        subjects: Iterable[Subject | None],
        *,
        ham: float = 0.0,
        spam: float = 0.0,
        light: float = 0.0,
        malware: float = 0.0,
    ) -> None:
        """Add to what is known of the subjects (None is passed over). Never waits and never fails.

        `ham` and `spam` are what people said, negative where they took it back; `light` what was only let pass,
        `malware` what a scanner found.
        """
        with self._guard:
            if not self._waiting:
                self._since = self._clock.monotonic()
            for subject in subjects:
                if subject is None or (len(self._waiting) >= _WAITING_MAX and subject not in self._waiting):
                    continue
                waiting = self._waiting.setdefault(subject, _Waiting())
                waiting.ham += ham
                waiting.spam += spam
                waiting.light += light
                waiting.malware += malware

    def flush(self, *, at_once: bool = True) -> None:
        """Write what was recorded; unless `at_once`, only if it waited for some seconds or is much."""
        with self._guard:
            waited = self._clock.monotonic() - self._since
            if not self._waiting or not (at_once or waited >= _FLUSH_AFTER or len(self._waiting) >= _FLUSH_AT):
                return
            waiting, self._waiting = self._waiting, {}
        try:
            self._database.write(lambda t: self._write(t, waiting), durable=False)
        except CleanmailError:
            for subject, more in waiting.items():
                self.record([subject], ham=more.ham, spam=more.spam, light=more.light, malware=more.malware)
            raise

    def _write(self, transaction: Transaction, waiting: dict[Subject, _Waiting]) -> None:
        now = self._clock.now()
        rows = []
        for subject, more in waiting.items():
            hash_ = self.hash_of(subject)
            old = _faded(_ONE.one(transaction, hash=hash_), now)
            ham = max(0.0, old.ham + more.ham)
            ham = max(ham, min(ham + more.light, LIGHT_MAX))
            spam = max(0.0, old.spam + more.spam)
            spam = max(spam, min(spam + more.malware, MALWARE_MAX))
            rows.append({"subject_hash": hash_, "ham": ham, "spam": spam, "last": now})
        _WRITE.run_many(transaction, rows)
        self._written += len(rows)
        if self._written >= _ROOM_MADE_EVERY:
            self._make_room(transaction)
            self._written = 0

    def _make_room(self, transaction: Transaction) -> int:
        row = _COUNT.one(transaction)
        excess = (row[0] if row else 0) - SUBJECTS_MAX
        return _MAKE_ROOM.run(transaction, excess=excess) if excess > 0 else 0

    def look(self, domain: Domain | None, address: str) -> tuple[Counts, Counts]:
        """What is known of a domain that proved itself (None: none did), and of a client's network."""
        subjects = (domain_subject(domain) if domain is not None else None, network_subject(address))
        first, second = (self.hash_of(subject) if subject is not None else b"" for subject in subjects)
        with self._database.reading() as connection:
            found = {row[0]: row[1:] for row in _TWO.rows(connection, first=first, second=second)}
        if not found:
            return NOTHING, NOTHING
        now = self._clock.now()
        return _faded(found.get(first), now), _faded(found.get(second), now)

    def remove_expired(self, before: int | None = None) -> int:
        """Subjects that sent nothing for long, or since that time, and those that are too many; how many."""
        before = max(before or 0, self._clock.now() - KEPT)
        return self._database.write(lambda t: _EXPIRE.run(t, before=before) + self._make_room(t))

    def withdraw(self, transaction: Transaction, voices: Iterable[tuple[bytes, bool, int]]) -> None:
        """Takes back, in the commit that removes an account, what it said: hash, whether spam, and when (seconds)."""
        now = self._clock.now()
        for hash_, is_spam, said in voices:
            row = _ONE.one(transaction, hash=hash_)
            if row is not None:
                old, left = _faded(row, now), _left(said, now)
                ham, spam = (old.ham, old.spam - left) if is_spam else (old.ham - left, old.spam)
                _WRITE.run(transaction, subject_hash=hash_, ham=max(0.0, ham), spam=max(0.0, spam), last=now)

    def left_since(self, counted: int) -> float:
        """What is left now of 1 that was counted then (Unix seconds)."""
        return _left(counted, self._clock.now())

    def hash_of(self, subject: Subject) -> bytes:
        """What is kept instead of its name."""
        return keyed_hash(self._key, subject.encode())


def _left(counted: int, now: int) -> float:
    left: float = 0.5 ** (max(0, now - counted) / HALF_LIFE)
    return left


def _faded(row: tuple[float, float, int] | None, now: int) -> Counts:
    if row is None:
        return NOTHING
    ham, spam, last = row
    left = _left(last, now)
    return Counts(ham * left, spam * left)

"""What the accounts of a tenant taught the filter, and which lessons that is made of: rows of tenant.db.

Vectors are packed octets here; `gateway.classifier.correction` knows what they mean. Row 0 is the tenant's aggregate,
the sum of what each account contributes. It can always be made anew from the accounts' rows: empty weights say that
this has to be done, as after the removal of an account, of which nothing may be left at once.

`revisions` tells in one read of 10 microseconds whether anything changed. Revisions rise with every change of any row
of the tenant and are never used again.

Every change is durable on return. Raises: Conflict (somebody else was faster), NotFound (the account), Unavailable.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from threading import Lock

from sqlalchemy import LargeBinary, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.clock import Clock
from storage.database.database import Connection, Database, Transaction
from storage.database.prepared import prepare
from storage.errors import Conflict, NotFound
from storage.keys.sealing import HASH_SIZE, derive, keyed_hash
from storage.schema.tenant import account, correction, lesson
from storage.values import AccountId

DAY = 86_400
LESSONS_KEPT = 365 * DAY  # a lesson can be taken back so long; what it taught stays
LESSONS_MAX = 5_000  # of one account that can be taken back

AGGREGATE = AccountId(0)

_ID = correction.c.account_id
_REVISIONS = prepare(select(_ID, correction.c.revision).where(or_(_ID == 0, bindparam("id") == _ID)))
_ROWS = prepare(
    select(_ID, correction.c.revision, correction.c.lessons, correction.c.weights, correction.c.taught).where(
        or_(_ID == 0, bindparam("id") == _ID)
    )
)
_OUTDATED = prepare(select(_ID).where(_ID == 0, func.length(correction.c.weights) == 0))
_ALL = prepare(select(_ID, correction.c.weights).where(_ID != 0).order_by(_ID))
_insert = upsert(correction)
_WRITE = prepare(
    _insert.on_conflict_do_update(
        index_elements=[_ID],
        set_={name: _insert.excluded[name] for name in ("revision", "lessons", "taught", "weights")},
    )
)
_DELETE = prepare(delete(correction).where(bindparam("id") == _ID))
_OUTDATE = prepare(
    update(correction).where(_ID == 0).values(revision=correction.c.revision + 1, weights=bindparam("nothing"))
)

_EXISTS = prepare(select(account.c.account_id).where(account.c.account_id == bindparam("id")))

_OF_ACCOUNT = lesson.c.account_id == bindparam("id")
_THIS_LESSON = (_OF_ACCOUNT, lesson.c.message_hash == bindparam("hash"))
_LESSON = prepare(select(lesson.c.spam, lesson.c.step, lesson.c.learned, lesson.c.spoke).where(*_THIS_LESSON))
_new_lesson = upsert(lesson)
_WRITE_LESSON = prepare(
    _new_lesson.on_conflict_do_update(
        index_elements=[lesson.c.account_id, lesson.c.message_hash],
        set_={name: _new_lesson.excluded[name] for name in ("spam", "step", "spoke", "learned")},
    )
)
_VOICES = prepare(
    select(func.count()).where(
        _OF_ACCOUNT,
        lesson.c.learned >= bindparam("since"),
        lesson.c.spam.is_(bindparam("spam")),
        func.instr(lesson.c.spoke, bindparam("subject", type_=LargeBinary)) > 0,
    )
)
_ALL_VOICES = prepare(
    select(lesson.c.spam, lesson.c.learned, lesson.c.spoke).where(_OF_ACCOUNT, func.length(lesson.c.spoke) > 0)
)
_FORGET_LESSON = prepare(delete(lesson).where(*_THIS_LESSON))
_LEARNED_SINCE = prepare(
    select(func.count()).where(_OF_ACCOUNT, lesson.c.learned >= bindparam("since"), lesson.c.step != 0.0)
)
_EXPIRE = prepare(delete(lesson).where(lesson.c.learned < bindparam("before")))
_TOO_MANY = prepare(
    select(lesson.c.account_id, func.count() - bindparam("most"))
    .group_by(lesson.c.account_id)
    .having(func.count() > bindparam("most"))
)
_FORGET_OLDEST = prepare(
    delete(lesson).where(
        _OF_ACCOUNT,
        lesson.c.message_hash.in_(
            select(lesson.c.message_hash).where(_OF_ACCOUNT).order_by(lesson.c.learned).limit(bindparam("excess"))
        ),
    )
)
_DELETE_LESSONS = prepare(delete(lesson).where(_OF_ACCOUNT))


@dataclass(frozen=True, slots=True)
class Revisions:
    """0: there is nothing."""

    aggregate: int = 0
    own: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """The aggregate and one account's vector, packed; b"": nothing was learned, or the aggregate is to be made anew."""

    revisions: Revisions = Revisions()
    aggregate: bytes = field(default=b"", repr=False)
    own: bytes = field(default=b"", repr=False)
    taught: bytes = field(default=b"", repr=False)  # the account's lessons, of which `own` is what counts
    lessons: int = 0  # in `taught`


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the person last said of a message, and how far that went; step 0: a lesson that was taken back."""

    message_hash: bytes
    spam: bool
    step: float
    learned: int = 0  # Unix seconds; `replace` sets it
    spoke: tuple[bytes, ...] = ()  # hashes of the senders about whom it counts, see `storage.filter.reputation`


NOTHING = Rows()
_NO_ROW = (0, 0, b"", b"")


class Corrections:
    """Of one tenant. Any thread may use it."""

    def __init__(self, database: Database, tenant_secret: bytes, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._key = derive(tenant_secret, "filter", "lessons")
        # To be held from `rows` to `replace`, so that those who learn in one process do not get in each other's way.
        self.learning = Lock()

    # Looking

    def revisions(self, account_id: AccountId | None) -> Revisions:
        """Whether anything was learned, and whether it is still what the caller knows."""
        with self._database.reading() as connection:
            return _revisions(connection, account_id)

    def rows(self, account_id: AccountId | None) -> Rows:
        with self._database.reading() as connection:
            found = {row[0]: row[1:] for row in _ROWS.rows(connection, id=account_id or 0)}
        if not found:
            return NOTHING
        revision, _, aggregate, _ = found.get(AGGREGATE, _NO_ROW)
        own_revision, lessons, own, taught = found.get(account_id, _NO_ROW) if account_id else _NO_ROW
        return Rows(Revisions(revision, own_revision), aggregate, own, taught, lessons)

    def is_outdated(self) -> bool:
        """Whether the aggregate has to be made anew."""
        with self._database.reading() as connection:
            return _OUTDATED.one(connection) is not None

    def every_account(self) -> tuple[int, list[tuple[AccountId, bytes]]]:
        """The aggregate's revision and each account's packed vector, of one moment: to make the aggregate anew."""
        with self._database.snapshot() as connection:
            return _revisions(connection, None).aggregate, [
                (AccountId(row[0]), row[1]) for row in _ALL.rows(connection)
            ]

    def message_hash(self, message: bytes) -> bytes:
        """What a lesson remembers of a message."""
        return keyed_hash(self._key, message)

    def lesson(self, account_id: AccountId, message_hash: bytes) -> Lesson | None:
        with self._database.reading() as connection:
            row = _LESSON.one(connection, id=account_id, hash=message_hash)
        return None if row is None else Lesson(message_hash, bool(row[0]), row[1], row[2], _hashes(row[3]))

    def voices(self, account_id: AccountId, subject: bytes, seconds: int, *, spam: bool) -> int:
        """How many of an account's lessons of so long count for, or against, a sender."""
        since = self._clock.now() - seconds
        with self._database.reading() as connection:
            row = _VOICES.one(connection, id=account_id, subject=subject, since=since, spam=spam)
        return int(row[0]) if row else 0

    def every_voice(self, transaction: Transaction, account_id: AccountId) -> list[tuple[bytes, bool, int]]:
        """Where an account's lessons count: the sender's hash, whether against it, and since when."""
        rows = _ALL_VOICES.rows(transaction, id=account_id)
        return [(subject, bool(spam), learned) for spam, learned, spoke in rows for subject in _hashes(spoke)]

    def learned_today(self, account_id: AccountId) -> int:
        """Lessons of this day (UTC) that are in force."""
        now = self._clock.now()
        with self._database.reading() as connection:
            row = _LEARNED_SINCE.one(connection, id=account_id, since=now - now % DAY)
        return int(row[0]) if row else 0

    # Learning

    def replace(
        self,
        account_id: AccountId,
        seen: Rows,
        *,
        own: bytes,
        taught: bytes,
        aggregate: bytes,
        lessons: int,
        written: Sequence[Lesson],
        forgotten: Collection[bytes],
    ) -> None:
        """An account's vectors, the aggregate and the lessons that changed, in one commit.

        `seen` is what the new ones were made of. Raises Conflict if that is no longer what there is, and NotFound if
        the account is gone: then nothing was written.
        """

        def work(transaction: Transaction) -> None:
            if _EXISTS.one(transaction, id=account_id) is None:
                raise NotFound(f"There is no account {account_id}.")
            if _revisions(transaction, account_id) != seen.revisions:
                raise Conflict(detail="a correction was changed by somebody else")
            revision, now = seen.revisions.aggregate + 1, self._clock.now()
            _WRITE.run(
                transaction, account_id=account_id, revision=revision, lessons=lessons, taught=taught, weights=own
            )
            _write_aggregate(transaction, revision, aggregate)
            for each in written:
                _WRITE_LESSON.run(
                    transaction,
                    account_id=account_id,
                    message_hash=each.message_hash,
                    spam=each.spam,
                    step=each.step,
                    spoke=b"".join(each.spoke),
                    learned=now,
                )
            for message_hash in forgotten:
                _FORGET_LESSON.run(transaction, id=account_id, hash=message_hash)

        self._database.write(work)

    def renew(self, revision: int, aggregate: bytes) -> None:
        """The aggregate as it was made anew of `every_account`. Raises Conflict if something was learned meanwhile."""

        def work(transaction: Transaction) -> None:
            if _revisions(transaction, None).aggregate != revision:
                raise Conflict(detail="a correction was changed by somebody else")
            _write_aggregate(transaction, revision + 1, aggregate)

        self._database.write(work)

    # Forgetting

    def remove_expired(self, before: int | None = None) -> int:
        """Lessons learned before that time, and those that are too many; how many were removed."""
        if before is None:
            before = self._clock.now() - LESSONS_KEPT

        def work(transaction: Transaction) -> int:
            removed = _EXPIRE.run(transaction, before=before)
            for account_id, excess in _TOO_MANY.rows(transaction, most=LESSONS_MAX):
                removed += _FORGET_OLDEST.run(transaction, id=account_id, excess=excess)
            return removed

        return self._database.write(work)

    def remove_account(self, transaction: Transaction, account_id: AccountId) -> None:
        """In the commit that removes an account's rows: nothing of what it taught counts from then on."""
        _DELETE_LESSONS.run(transaction, id=account_id)
        if _DELETE.run(transaction, id=account_id):
            _OUTDATE.run(transaction, nothing=b"")


def _hashes(octets: bytes) -> tuple[bytes, ...]:
    return tuple(octets[at : at + HASH_SIZE] for at in range(0, len(octets), HASH_SIZE))


def _write_aggregate(transaction: Transaction, revision: int, aggregate: bytes) -> None:
    _WRITE.run(transaction, account_id=AGGREGATE, revision=revision, lessons=0, taught=b"", weights=aggregate)


def _revisions(connection: Connection, account_id: AccountId | None) -> Revisions:
    found: dict[int, int] = dict(_REVISIONS.rows(connection, id=account_id or 0))
    if not found:
        return Revisions()
    return Revisions(found.get(AGGREGATE, 0), found.get(account_id, 0) if account_id else 0)

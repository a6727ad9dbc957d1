"""Who works for the provider, and customers' administrators, in control.db: their accounts, two factors, sessions.

A password is kept as an argon2id verifier, the secret of the second factor sealed under a key of the service; a code
that was used once never works again, in no process. A session is a random token of which a keyed hash is kept; it is of
one Unix user, and ends by its time, with a change of credentials, and with the person's account. Every change is
durable on return. Names stay for a while after somebody has left, so that audit records keep their meaning.

Raises: NotFound, AlreadyExists, Conflict, InvalidInput, LimitReached.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import AlreadyExists, Conflict, InvalidInput, LimitReached, NotFound
from storage.keys.sealing import derive, keyed_hash, open_sealed, seal
from storage.keys.source import KeySource
from storage.schema.staff import staff, staff_session
from storage.values import TenantId

STAFF_MAX = 10_000  # people who have not left
SESSIONS_MAX = 20  # of one person
NEVER = -1  # the time step that was used last, of a second factor that nobody has confirmed

_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,63}\Z")
_TOUCHED_EACH = 60  # seconds: a session's last use is noted no more often

_COLUMNS = (
    staff.c.staff_id,
    staff.c.name,
    staff.c.roles,
    staff.c.tenant_id,
    staff.c.totp_used,
    staff.c.failures,
    staff.c.failed,
    staff.c.credential_version,
    staff.c.created,
    staff.c.ended,
)
_BY_NAME = prepare(select(*_COLUMNS).where(staff.c.name == bindparam("which")))
_BY_ID = prepare(select(*_COLUMNS).where(staff.c.staff_id == bindparam("id")))
_ALL = prepare(select(*_COLUMNS).order_by(staff.c.name))
_ANY = prepare(select(staff.c.staff_id).limit(1))
_COUNT = prepare(select(func.count()).where(staff.c.ended.is_(None)))
_SECRETS = prepare(select(staff.c.password_hash, staff.c.totp).where(staff.c.staff_id == bindparam("id")))
_INSERT = prepare(insert(staff))
_LIVING = (staff.c.staff_id == bindparam("id")) & staff.c.ended.is_(None)
_NEXT = {"credential_version": staff.c.credential_version + 1}
_SET_ROLES = prepare(
    update(staff).where(_LIVING).values(roles=bindparam("new"), tenant_id=bindparam("tenant"), **_NEXT)
)
_SET_PASSWORD = prepare(
    update(staff).where(_LIVING).values(password_hash=bindparam("verifier"), failures=0, failed=0, **_NEXT)
)
_SET_TOTP = prepare(
    update(staff)
    .where(_LIVING)
    .values(totp=bindparam("box"), totp_used=bindparam("step"), failures=0, failed=0, **_NEXT)
)
_END = prepare(
    update(staff)
    .where(_LIVING)
    .values(ended=bindparam("time"), password_hash=None, totp=None, totp_used=NEVER, **_NEXT)
)
_USE_STEP = prepare(
    update(staff)
    .where(_LIVING, staff.c.totp_used < bindparam("step"))
    .values(totp_used=bindparam("step"), failures=0, failed=0)
)
_FAIL = prepare(
    update(staff)
    .where(staff.c.staff_id == bindparam("id"))
    .values(failures=staff.c.failures + 1, failed=bindparam("time"))
)

_SESSION_COLUMNS = (
    staff_session.c.staff_id,
    staff_session.c.credential_version,
    staff_session.c.uid,
    staff_session.c.begun,
    staff_session.c.used,
    staff_session.c.expires,
)
_SESSION = prepare(select(*_SESSION_COLUMNS).where(staff_session.c.token_hash == bindparam("hash")))
_SESSIONS_OF = prepare(
    select(staff_session.c.token_hash, *_SESSION_COLUMNS)
    .where(staff_session.c.staff_id == bindparam("id"))
    .order_by(staff_session.c.begun)
)
_SESSIONS_AS = prepare(select(*_SESSION_COLUMNS).where(staff_session.c.uid == bindparam("number")))
_INSERT_SESSION = prepare(insert(staff_session))
_TOUCH = prepare(
    update(staff_session).where(staff_session.c.token_hash == bindparam("hash")).values(used=bindparam("time"))
)
_DROP_SESSION = prepare(delete(staff_session).where(staff_session.c.token_hash == bindparam("hash")))
_DROP_SESSIONS_OF = prepare(delete(staff_session).where(staff_session.c.staff_id == bindparam("id")))


@dataclass(frozen=True, slots=True)
class StaffMember:
    staff_id: int
    name: str = field(repr=False)
    roles: tuple[str, ...]
    tenant_id: TenantId | None
    confirmed: bool  # somebody signed in with the second factor, or confirmed it
    failures: int  # sign-ins that failed since the last that did not …
    failed: int  # … and when the last of them did
    credential_version: int
    created: int
    ended: int | None


@dataclass(frozen=True, slots=True)
class Factors:
    """What a sign-in is compared with."""

    password_hash: str | None = field(repr=False)
    totp: str | None = field(repr=False)  # base32


@dataclass(frozen=True, slots=True)
class StaffSession:
    staff_id: int
    credential_version: int
    uid: int
    begun: int
    used: int
    expires: int


class StaffDirectory:
    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        root = keys.service_key("directory")
        self._totp_key = derive(root, "staff totp")
        self._session_key = derive(root, "staff session")

    # People

    def add(
        self,
        name: str,
        roles: tuple[str, ...],
        tenant_id: TenantId | None,
        password_hash: str,
        totp: str,
        step: int = NEVER,
    ) -> StaffMember:
        """`totp`: the secret in base32; `step`: the time step of the code that confirmed it. What roles are is not
        known here."""
        check_name(name)
        now = self._clock.now()

        def work(transaction: Transaction) -> None:
            if _BY_NAME.one(transaction, which=name) is not None:
                raise AlreadyExists(f"There is, or was, somebody called '{name}'; that name is taken.")
            row = _COUNT.one(transaction)
            if row is not None and row[0] >= STAFF_MAX:
                raise LimitReached(f"There are {STAFF_MAX} people already.")
            _INSERT.run(
                transaction,
                staff_id=None,
                name=name,
                roles=" ".join(roles),
                tenant_id=tenant_id,
                password_hash=password_hash,
                totp=self._sealed(name, totp),
                totp_used=step,
                failures=0,
                failed=0,
                credential_version=1,
                created=now,
                ended=None,
            )

        self._database.write(work)
        return self.find(name)

    def find(self, name: str) -> StaffMember:
        """Also who has left. Raises NotFound."""
        found = self.look_up(name)
        if found is None:
            raise NotFound(f"There is nobody called '{name[:64]}' among the staff.")
        return found

    def look_up(self, name: str) -> StaffMember | None:
        if not _NAME.match(name):
            return None
        with self._database.reading() as connection:
            row = _BY_NAME.one(connection, which=name)
        return None if row is None else _member(row)

    def by_id(self, staff_id: int) -> StaffMember | None:
        with self._database.reading() as connection:
            row = _BY_ID.one(connection, id=staff_id)
        return None if row is None else _member(row)

    def all(self) -> list[StaffMember]:
        """Those who have left too, by name."""
        with self._database.reading() as connection:
            rows = _ALL.rows(connection)
        return [_member(row) for row in rows]

    def exist(self) -> bool:
        """Whether anybody is or was staff: who leaves last does not give everybody his rights."""
        with self._database.reading() as connection:
            return _ANY.one(connection) is not None

    def set_roles(self, member: StaffMember, roles: tuple[str, ...], tenant_id: TenantId | None) -> StaffMember:
        """Ends the person's sessions."""
        return self._change(member, lambda t, id_: _SET_ROLES.run(t, id=id_, new=" ".join(roles), tenant=tenant_id))

    def set_password(self, member: StaffMember, password_hash: str) -> StaffMember:
        """Ends the person's sessions."""
        return self._change(member, lambda t, id_: _SET_PASSWORD.run(t, id=id_, verifier=password_hash))

    def set_totp(self, member: StaffMember, totp: str, step: int = NEVER) -> StaffMember:
        """Ends the person's sessions."""
        box = self._sealed(member.name, totp)
        return self._change(member, lambda t, id_: _SET_TOTP.run(t, id=id_, box=box, step=step))

    def end(self, member: StaffMember) -> StaffMember:
        """The person has left: no factor and no session is kept."""
        now = self._clock.now()
        return self._change(member, lambda t, id_: _END.run(t, id=id_, time=now))

    def _change(self, member: StaffMember, run: Any) -> StaffMember:
        def work(transaction: Transaction) -> None:
            if not run(transaction, member.staff_id):
                raise Conflict(f"'{member.name}' has left.")
            _DROP_SESSIONS_OF.run(transaction, id=member.staff_id)

        self._database.write(work)
        return self.find(member.name)

    # Signing in

    def factors(self, member: StaffMember) -> Factors:
        with self._database.reading() as connection:
            row = _SECRETS.one(connection, id=member.staff_id)
        if row is None:
            return Factors(None, None)
        totp = None if row[1] is None else open_sealed(self._totp_key, row[1], _context(member.name)).decode("ascii")
        return Factors(row[0], totp)

    def use_step(self, member: StaffMember, step: int) -> bool:
        """A code of this time step was given: True once, then False for it and all before it, in every process."""
        return self._database.write(lambda t: _USE_STEP.run(t, id=member.staff_id, step=step)) == 1

    def note_failure(self, member: StaffMember) -> None:
        now = self._clock.now()
        self._database.write(lambda t: _FAIL.run(t, id=member.staff_id, time=now))

    # Sessions

    def begin_session(self, member: StaffMember, uid: int, seconds: int) -> str:
        """The token of a new session, which is kept nowhere here. Beyond `SESSIONS_MAX` the oldest one ends."""
        token, now = secrets.token_urlsafe(32), self._clock.now()

        def work(transaction: Transaction) -> None:
            row = _BY_ID.one(transaction, id=member.staff_id)
            if row is None or _member(row).ended is not None:
                raise Conflict(f"'{member.name}' has left.")
            sessions = _SESSIONS_OF.rows(transaction, id=member.staff_id)
            for old in sessions[: max(0, len(sessions) - SESSIONS_MAX + 1)]:
                _DROP_SESSION.run(transaction, hash=old[0])
            _INSERT_SESSION.run(
                transaction,
                token_hash=self._hash(token),
                staff_id=member.staff_id,
                credential_version=member.credential_version,
                uid=uid,
                begun=now,
                used=now,
                expires=now + seconds,
            )

        self._database.write(work)
        return token

    def session(self, token: str, uid: int, idle: int) -> StaffMember | None:
        """Whose session it is now, if it is one of this Unix user, in time, and used `idle` seconds ago at most."""
        digest, now = self._hash(token), self._clock.now()
        with self._database.reading() as connection:
            row = _SESSION.one(connection, hash=digest)
        if row is None:
            return None
        session = StaffSession(*row)
        member = self._holder(session, uid, idle)
        if member is not None and now - session.used >= _TOUCHED_EACH:
            self._database.write(lambda t: _TOUCH.run(t, hash=digest, time=now))
        return member

    def signed_in_as(self, uid: int, idle: int) -> list[StaffMember]:
        """Who has a session as this Unix user now: for a process that knows the user from the kernel, and no token."""
        with self._database.reading() as connection:
            rows = _SESSIONS_AS.rows(connection, number=uid)
        found = [self._holder(StaffSession(*row), uid, idle) for row in rows]
        return list({member.staff_id: member for member in found if member is not None}.values())

    def end_session(self, token: str) -> bool:
        """Whether there was one."""
        digest = self._hash(token)
        return self._database.write(lambda t: _DROP_SESSION.run(t, hash=digest)) == 1

    def _holder(self, session: StaffSession, uid: int, idle: int) -> StaffMember | None:
        now = self._clock.now()
        if session.uid != uid or now >= session.expires or now - session.used >= idle or now < session.begun:
            return None
        member = self.by_id(session.staff_id)
        if member is None or member.ended is not None or member.credential_version != session.credential_version:
            return None
        return member

    def _hash(self, token: str) -> bytes:
        return keyed_hash(self._session_key, token.encode("utf-8", "surrogatepass"))

    def _sealed(self, name: str, totp: str) -> bytes:
        return seal(self._totp_key, totp.encode("ascii"), _context(name))


def check_name(name: str) -> None:
    """Raises InvalidInput."""
    if not _NAME.match(name):
        raise InvalidInput("A name of staff has only a-z, 0-9, '.', '-' and '_', at most 64 characters.")


def _member(row: tuple[Any, ...]) -> StaffMember:
    staff_id, name, roles, tenant_id, step, failures, failed, version, created, ended = row
    tenant = None if tenant_id is None else TenantId(tenant_id)
    return StaffMember(
        staff_id, name, tuple(roles.split()), tenant, step != NEVER, failures, failed, version, created, ended
    )


def _context(name: str) -> bytes:
    return f"control.staff.totp:{name}".encode("ascii")

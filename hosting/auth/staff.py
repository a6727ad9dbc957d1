"""Signs staff in: a password and a code, compared where sign-ins are decided, under the same throttle and pool.

Runs in the auth role; in the command itself where no server runs. Which of name, password and code was wrong is not
said, and an unknown name costs what a known one does. Failures are also counted with the person, so that a program that
is started anew for each guess gets no further. A code works once. Every sign-in, and every failure of a known name, is
an audit record.

Raises: AuthenticationFailed, Throttled, Unavailable.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from hosting.access import totp
from hosting.access.identity import Premises
from hosting.auth.passwords import Passwords
from hosting.auth.persons import Person
from hosting.auth.pool import HashingPool
from hosting.auth.signin import PASSWORD_MAX
from hosting.auth.throttle import Throttle, ThrottlePolicy
from storage.audit import Audit
from storage.clock import Clock
from storage.directory.staff import StaffMember
from storage.errors import AuthenticationFailed, InvalidInput, Throttled, Unavailable
from storage.keys.sealing import keyed_hash

_WRONG = "The name, the password or the code is wrong."
_SUBJECT = b"staff sign-in"  # the throttle keeps these apart from login names of accounts


@dataclass(frozen=True, slots=True)
class SignedIn:
    token: str = field(repr=False)
    name: str = field(repr=False)
    roles: tuple[str, ...]
    expires: int
    failures: int  # that were counted before


class StaffSigningIn(Protocol):
    """Where staff sign in: the auth role, or the command itself."""

    def staff_sign_in(self, name: str, password: str, code: str) -> SignedIn:
        """A session of the Unix user behind this process."""
        ...


class StaffEntrance:
    """Safe to use from many threads."""

    def __init__(
        self,
        premises: Premises,
        audit: Audit,
        passwords: Passwords,
        pool: HashingPool,
        throttle: Throttle,
        policy: ThrottlePolicy,
        clock: Clock,
    ) -> None:
        self.premises = premises
        self._staff = premises.control.staff
        self._audit = audit
        self._passwords = passwords
        self._pool = pool
        self._throttle = throttle
        self._policy = policy
        self._clock = clock

    def begin(self, person: Person, name: str, password: str, code: str) -> Future[SignedIn]:
        """The answer, when argon2 has run."""
        subject, address = keyed_hash(_SUBJECT, name.encode("utf-8", "replace")), f"unix:{person.uid}"
        self._throttle.check(subject, address)
        member = self._staff.look_up(name)
        if member is not None and self._pausing(member):
            raise Throttled
        attempt = self._throttle.admit(subject, address)

        def settle() -> SignedIn:
            try:
                right = self._right(member, password, code)
            except BaseException:
                attempt.abandoned()
                raise
            if member is None or not right:
                attempt.failed()
                self._failed(person, member)
                raise AuthenticationFailed(_WRONG)
            attempt.succeeded()
            return self._session(person, member)

        try:
            return self._pool.submit(settle, known=self._throttle.is_known(subject, address))
        except Unavailable:
            attempt.abandoned()
            raise

    def close(self) -> None:
        """Where it is not the server's: its threads end."""
        self._pool.close()

    def _right(self, member: StaffMember | None, password: str, code: str) -> bool:
        """In a thread of the pool. A code is not used up by who does not know the password."""
        factors = self._staff.factors(member) if member is not None and member.ended is None else None
        verifier = factors.password_hash if factors is not None else None
        if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_MAX:
            verifier, password = None, ""
        right = self._passwords.verify(verifier, password)
        if not right or member is None or factors is None or factors.totp is None:
            return False
        step = totp.step_of(factors.totp, code, self._clock.now())
        return step is not None and self._staff.use_step(member, step)

    def _pausing(self, member: StaffMember) -> bool:
        pause = self._policy.login.pause(member.failures)
        left = member.failed + pause - self._clock.now()
        return 0 < left <= pause

    def _failed(self, person: Person, member: StaffMember | None) -> None:
        if member is not None and member.ended is None:
            self._audit.append("staff.sign_in_failed", person.name, details={"name": member.name})
            self._staff.note_failure(member)

    def _session(self, person: Person, member: StaffMember) -> SignedIn:
        self._audit.append("staff.sign_in", member.name, details={"unix": person.name})
        seconds = int(self.premises.settings.session)
        token = self._staff.begin_session(member, person.uid, seconds)
        return SignedIn(token, member.name, member.roles, self._clock.now() + seconds, member.failures)


class LocalEntrance:
    """A `StaffSigningIn` for the person who runs this process."""

    def __init__(self, entrance: StaffEntrance, person: Person) -> None:
        self._entrance = entrance
        self._person = person

    def staff_sign_in(self, name: str, password: str, code: str) -> SignedIn:
        return self._entrance.begin(self._person, name, password, code).result()


def signed_in_of(fields: object) -> SignedIn:
    """From what the auth role answers. Raises InvalidInput."""
    match fields:
        case {
            "token": str(token),
            "name": str(name),
            "roles": [*roles],
            "expires": int(expires),
            "failures": int(failures),
        }:
            return SignedIn(token, name, tuple(map(str, roles)), expires, failures)
    raise InvalidInput("The answer is none of a sign-in.")

"""Decides who signs in, for every protocol, and leaves an access event.

An attempt costs microseconds if the throttle refuses it, if it is an app password, or if the same password was tried in
the last minutes; otherwise one run of argon2 in the pool, which attempts with the same password share. A name that
nobody has goes the same way at the same cost. Every attempt leaves exactly one access event. State and versions are
read from the databases at every attempt, so what was committed anywhere counts at once.

Raises: AuthenticationFailed, Throttled, Suspended and NotIncluded (only to those who know the password), Unavailable.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

from hosting.auth.passwords import Passwords
from hosting.auth.pool import HashingPool
from hosting.auth.remembered import VerificationCache
from hosting.auth.signin import LOGIN_MAX, PASSWORD_MAX, Principal, SignIn
from hosting.auth.throttle import Attempt, Throttle
from storage.clock import Clock
from storage.directory.resolve import Directory
from storage.directory.rows import AccountRow, State
from storage.directory.scram import FEW_ROUNDS, MAIN, MANY_ROUNDS, make_key, salt_of
from storage.directory.tenant import Tenant
from storage.directory.terms import Contract, Feature
from storage.errors import (
    AuthenticationFailed,
    CleanmailError,
    Gone,
    NotFound,
    NotIncluded,
    Suspended,
    Throttled,
    Unavailable,
)
from storage.logs.access import AccessEvent, AccessLog, AccessResult, AccessType
from storage.values import TenantId

PASSWORD = "password"  # noqa: S105 - the kind of a credential
APP = "app:"
TOKEN = "token"  # noqa: S105 - of an OpenID provider


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose login name was given, as the directory stands now."""

    tenant_id: TenantId
    tenant: Tenant
    tenant_state: State
    state_version: int
    account: AccountRow
    password_hash: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """One attempt, and whom it is about."""

    sign_in: SignIn
    login_hash: bytes
    owner: Owner | None


class Verifier:
    """Safe to use from many threads."""

    def __init__(
        self,
        directory: Directory,
        passwords: Passwords,
        pool: HashingPool,
        throttle: Throttle,
        cache: VerificationCache,
        access_log: AccessLog,
        clock: Clock,
        *,
        scram_for_passwords: bool = False,
    ) -> None:
        """`scram_for_passwords`: SCRAM is for main passwords too; their keys are made when one is verified."""
        self._directory = directory
        self.passwords = passwords
        self.pool = pool
        self.throttle = throttle
        self._cache = cache
        self._access_log = access_log
        self.clock = clock
        self.scram_for_passwords = scram_for_passwords
        self._lock = threading.Lock()
        self._running: dict[bytes, Future[bool]] = {}

    def begin(self, sign_in: SignIn) -> Future[Principal]:
        """The answer, at once or when argon2 has run. Reads databases, so it may take milliseconds."""
        answer: Future[Principal] = Future()
        case: Case | None = None
        try:
            case = self.case(sign_in)
            self.throttle.check(case.login_hash, sign_in.address)
            principal = self._decide_now(case)
            if principal is None:
                digest = self._digest(case)
                comparison = self._compare(case, digest)
                comparison.add_done_callback(lambda done: self._conclude(sign_in, digest, done, answer))
                return answer
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            answer.set_exception(self.refused(sign_in, case, error))
        else:
            answer.set_result(principal)
        return answer

    def still_valid(self, principal: Principal) -> bool:
        """See `Authenticator.still_valid`."""
        if principal.has_expired(self.clock.now()):
            return False
        try:
            state, version = self._directory.control.tenant_state(principal.tenant_id)
            if state is not State.ACTIVE or version != principal.state_version:
                return False
            contract = self._directory.control.contracts.find(principal.tenant_id)
            if (principal.read_only_from, principal.full) != _restrictions(contract):
                return False
            tenant = self._directory.tenant(principal.tenant_id)
            account = tenant.account(principal.account_id)
            if account.state is not State.ACTIVE:
                return False
            if principal.credential in (PASSWORD, TOKEN):
                return account.credential_version == principal.credential_version
            app_password = tenant.app_passwords.show(int(principal.credential.removeprefix(APP)))
        except (NotFound, Gone, ValueError):
            return False
        return (
            app_password.account_id == principal.account_id
            and app_password.revoked is None
            and app_password.version == principal.credential_version
        )

    @property
    def scram_rounds(self) -> int:
        """For everybody, whoever has which credentials."""
        return MANY_ROUNDS if self.scram_for_passwords else FEW_ROUNDS

    def case(self, sign_in: SignIn) -> Case:
        """Whom the attempt is about, as the directory stands now."""
        if len(sign_in.login.encode("utf-8", "surrogatepass")) > LOGIN_MAX:
            sign_in = SignIn(sign_in.protocol, "", sign_in.password, sign_in.address, sign_in.session)
        login_hash = self._directory.control.login_hash(sign_in.login)
        return Case(sign_in, login_hash, self._owner(login_hash))

    def _owner(self, login_hash: bytes) -> Owner | None:
        login = self._directory.control.find_login(login_hash)
        if login is None:
            return None
        try:
            state, version = self._directory.control.tenant_state(login.tenant_id)
            if state is State.ENDED:
                return None
            tenant = self._directory.tenant(login.tenant_id)
        except (NotFound, Gone):
            return None
        credentials = tenant.credentials(login.account_id)
        if credentials is None or credentials.account.state is State.ENDED:
            return None
        return Owner(login.tenant_id, tenant, state, version, credentials.account, credentials.password_hash)

    def _decide_now(self, case: Case) -> Principal | None:
        """Without argon2, if that is possible."""
        sign_in, owner = case.sign_in, case.owner
        if owner is not None:
            app_password = owner.tenant.app_passwords.match(owner.account.account_id, sign_in.password)
            if app_password is not None:
                if not app_password.allows(sign_in.protocol):
                    raise AuthenticationFailed
                return self.accept(case, owner, f"{APP}{app_password.app_password_id}", app_password.version)
        right = self._cache.get(self._digest(case))
        if right is None:
            return None
        if not right or owner is None:
            raise AuthenticationFailed
        return self.accept(case, owner, PASSWORD, owner.account.credential_version)

    def _digest(self, case: Case) -> bytes:
        owner = case.owner
        if owner is None:
            return self._cache.digest(case.login_hash, 0, 0, 0, case.sign_in.password)
        account = owner.account
        return self._cache.digest(
            case.login_hash, account.account_id, account.credential_version, owner.state_version, case.sign_in.password
        )

    def _compare(self, case: Case, digest: bytes) -> Future[bool]:
        """Whether the password is right, by argon2; shared with attempts of the same password under way."""
        login_hash, address = case.login_hash, case.sign_in.address
        with self._lock:
            running = self._running.get(digest)
            if running is None:
                attempt = self.throttle.admit(login_hash, address)
                try:
                    running = self.pool.submit(
                        lambda: self._hash(case, digest, attempt), known=self.throttle.is_known(login_hash, address)
                    )
                except Unavailable:
                    attempt.abandoned()
                    raise
                self._running[digest] = running
        return running

    def _hash(self, case: Case, digest: bytes, attempt: Attempt) -> bool:
        """In a thread of the pool."""
        verifier = case.owner.password_hash if case.owner is not None else None
        password = case.sign_in.password
        if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_MAX:  # nobody's: the same answer at the same cost
            verifier, password = None, ""
        try:
            right = self.passwords.verify(verifier, password)
        except BaseException:
            attempt.abandoned()
            raise
        else:
            self._cache.put(digest, right)
            if right:
                attempt.succeeded()
            else:
                attempt.failed()
        finally:
            with self._lock:
                self._running.pop(digest, None)
        if right:
            self._renew_scram(case)
            self._rehash(case)
        return right

    def _rehash(self, case: Case) -> None:
        owner = case.owner
        if owner is None or owner.password_hash is None or not self.passwords.needs_rehash(owner.password_hash):
            return
        with suppress(CleanmailError):  # the next sign-in tries again
            renewed = self.passwords.rehash(case.sign_in.password)
            owner.tenant.replace_hash(owner.account.account_id, owner.password_hash, renewed)

    def _renew_scram(self, case: Case) -> None:
        """What SCRAM knows of the main password is made here, or taken away where that is not wanted any more."""
        owner = case.owner
        if owner is None or owner.password_hash is None:
            return
        account_id, scram = owner.account.account_id, owner.tenant.scram
        with suppress(CleanmailError):  # the next sign-in tries again
            has = MAIN in scram.having(account_id)
            if has == self.scram_for_passwords:
                return
            salt = scram.salt(account_id) or salt_of(case.login_hash)
            key = make_key(case.sign_in.password, salt, MANY_ROUNDS) if self.scram_for_passwords else None
            if key is None and not has:
                return  # a text that cannot be a password of SCRAM
            owner.tenant.set_scram_key(account_id, owner.password_hash, salt, key)

    def _conclude(self, sign_in: SignIn, digest: bytes, compared: Future[bool], answer: Future[Principal]) -> None:
        """After argon2: look again, since the directory may have changed meanwhile."""
        case: Case | None = None
        try:
            right = compared.result()
            case = self.case(sign_in)
            owner = case.owner
            if not right or owner is None or self._digest(case) != digest:
                raise AuthenticationFailed
            principal = self.accept(case, owner, PASSWORD, owner.account.credential_version)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            answer.set_exception(self.refused(sign_in, case, error))
        else:
            answer.set_result(principal)

    def accept(self, case: Case, owner: Owner, credential: str, version: int) -> Principal:
        """The credential is right."""
        account = owner.account
        if owner.tenant_state is not State.ACTIVE or account.state is not State.ACTIVE:
            raise Suspended
        contract = self._directory.control.contracts.find(owner.tenant_id)
        if contract is not None and not contract.limits.allows(Feature(case.sign_in.protocol)):
            raise NotIncluded
        self.throttle.remember(case.login_hash, case.sign_in.address, self.clock.now())
        self._record(case.sign_in, case, AccessResult.SUCCESS)
        return Principal(
            owner.tenant_id,
            account.account_id,
            str(account.login),
            credential,
            version,
            owner.state_version,
            account.quota_bytes,
            account.quota_messages,
            *_restrictions(contract),
        )

    def refused(self, sign_in: SignIn, case: Case | None, error: Exception) -> CleanmailError:
        """Leaves the event of an attempt that `error` ended; what its client is told."""
        match error:
            case AuthenticationFailed():
                known = case is not None and case.owner is not None
                result = AccessResult.WRONG_PASSWORD if known else AccessResult.UNKNOWN
            case Throttled():
                result = AccessResult.THROTTLED
            case NotIncluded():
                result = AccessResult.NOT_INCLUDED
            case Suspended():
                result = AccessResult.SUSPENDED
            case _:
                result = AccessResult.UNAVAILABLE
        self._record(sign_in, case, result)
        return error if isinstance(error, CleanmailError) else Unavailable(detail=type(error).__name__)

    def _record(self, sign_in: SignIn, case: Case | None, result: AccessResult) -> None:
        owner = case.owner if case is not None else None
        self._access_log.record(
            AccessEvent(
                time=self.clock.now(),
                type=AccessType.SIGN_IN,
                result=result,
                protocol=sign_in.protocol,
                tenant_id=owner.tenant_id if owner is not None else None,
                account_id=owner.account.account_id if owner is not None else None,
                login_hash=case.login_hash if case is not None and owner is None else b"",
                address=sign_in.address,
            )
        )


def _restrictions(contract: Contract | None) -> tuple[int, bool]:
    """What a principal carries of the tenant's contract."""
    if contract is None:
        return 0, False
    return contract.read_only_from or 0, contract.is_over_quota

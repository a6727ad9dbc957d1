"""Signing in with a token of an OpenID provider: who says so is the provider, asked for every token that is not known.

What he said is remembered for a minute at most, never beyond the token's end; many attempts with one token ask once. He
is asked before anybody looks at names, so an answer says nothing about who exists here. The account is the one that the
provider's claim names; a client may name it too, and has to name the same. Each attempt is counted by the throttle,
under the token itself where no name was given, and leaves one access event. A session ends with its token, if the
provider says when that is; when the account's password is set anew; and as all sessions do.

Whoever waits for a provider that is silent holds up a thread of the process that serves him. So after a silence nobody
asks for some seconds, and then one at a time until the provider speaks again.

Raises: AuthenticationFailed, Throttled, Suspended, NotIncluded, Unavailable (the provider does not answer).
Standards: RFC 7628, RFC 7662, RFC 6750.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Protocol

from hosting.auth.pool import HashingPool
from hosting.auth.signin import Principal, SignIn, TokenSignIn
from hosting.auth.throttle import Attempt
from hosting.auth.verifier import TOKEN, Case, Verifier
from storage.clock import Clock
from storage.errors import AuthenticationFailed, NotPermitted, Unavailable

TOKEN_MAX = 8192  # characters; AUTH lines have 12,288 octets in base64

_REMEMBERED = 20_000  # tokens
_THREADS, _WAITING = 8, 256  # questions to the provider at once, and those that wait
_LATEST = 2**53  # Unix seconds: a token that ends later ends then
_REST = 5.0  # seconds in which a provider that was silent is not asked


class Silent(Unavailable):
    """The provider could not be reached, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What the provider says of a token that is good for us."""

    login: str = field(repr=False)
    until: float | None  # Unix seconds; None: he does not say


class Provider(Protocol):
    def look_up(self, token: str) -> Claims | None:
        """None: it is not good for us. Blocks for seconds. Raises Unavailable."""
        ...


class TokenSignIns(Protocol):
    def begin(self, sign_in: TokenSignIn) -> Future[Principal]: ...


class _NoTokens:
    """Where no provider is configured."""

    def begin(self, sign_in: TokenSignIn) -> Future[Principal]:
        raise NotPermitted("Nobody signs in with tokens here.")


NO_TOKENS: TokenSignIns = _NoTokens()


class _Answers:
    """What the provider said, for a while. Safe to use from many threads."""

    def __init__(self, provider: Provider, clock: Clock, seconds: float) -> None:
        self._provider = provider
        self._clock = clock
        self._seconds = seconds
        self._pool = HashingPool(_THREADS, waiting=_WAITING, name="tokens")
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[float, float | None, Claims | None]] = OrderedDict()
        self._running: dict[bytes, Future[Claims | None]] = {}
        self._silent_until: float | None = None  # monotonic; None: it answered last time

    def ask(self, digest: bytes, token: str, *, known_address: bool) -> Future[Claims | None]:
        """Raises Unavailable if too many wait."""
        with self._lock:
            found = self._known.get(digest)
            if found is not None:
                remembered_until, ends, claims = found
                if self._clock.monotonic() < remembered_until and (ends is None or self._clock.now() < ends):
                    done: Future[Claims | None] = Future()
                    done.set_result(claims)
                    return done
                del self._known[digest]
            running = self._running.get(digest)
            if running is None:
                silent_until = self._silent_until
                if silent_until is not None and (self._running or self._clock.monotonic() < silent_until):
                    raise Unavailable(detail="OpenID provider: it did not answer lately")
                running = self._pool.submit(lambda: self._look_up(digest, token), known=known_address)
                self._running[digest] = running
            return running

    def close(self) -> None:
        self._pool.close()

    def _look_up(self, digest: bytes, token: str) -> Claims | None:
        """In a thread of the pool."""
        try:
            claims = self._asked(token)
            if claims is not None and claims.until is not None and claims.until <= self._clock.now():
                claims = None
            with self._lock:
                ends = claims.until if claims is not None else None
                self._known[digest] = (self._clock.monotonic() + self._seconds, ends, claims)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
            return claims
        finally:
            with self._lock:
                self._running.pop(digest, None)

    def _asked(self, token: str) -> Claims | None:
        silent_until = None
        try:
            return self._provider.look_up(token)
        except Silent:
            silent_until = self._clock.monotonic() + _REST
            raise
        finally:
            self._silent_until = silent_until


class ProviderSignIns:
    """`TokenSignIns` where there is a provider. Safe to use from many threads."""

    def __init__(self, verifier: Verifier, provider: Provider, *, seconds: float = 60.0) -> None:
        self._verifier = verifier
        self._key = secrets.token_bytes(32)
        self._answers = _Answers(provider, verifier.clock, seconds)

    def close(self) -> None:
        """Finish what waits, then stop."""
        self._answers.close()

    def begin(self, sign_in: TokenSignIn) -> Future[Principal]:
        """The answer, at once or when the provider has spoken."""
        answer: Future[Principal] = Future()
        verifier, case, attempt = self._verifier, None, None
        try:
            case = verifier.case(_named(sign_in, sign_in.login))
            if not sign_in.token or len(sign_in.token) > TOKEN_MAX:
                raise AuthenticationFailed
            digest = hashlib.blake2b(sign_in.token.encode("utf-8", "surrogatepass"), key=self._key).digest()
            subject = case.login_hash if sign_in.login else digest
            attempt = verifier.throttle.admit(subject, sign_in.address)
            known = verifier.throttle.is_known(subject, sign_in.address)
            asked = self._answers.ask(digest, sign_in.token, known_address=known)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            if attempt is not None:
                attempt.abandoned()
            answer.set_exception(verifier.refused(_named(sign_in, sign_in.login), case, error))
            return answer
        asked.add_done_callback(lambda done: self._conclude(sign_in, attempt, done, answer))
        return answer

    def _conclude(
        self, sign_in: TokenSignIn, attempt: Attempt, done: Future[Claims | None], answer: Future[Principal]
    ) -> None:
        verifier, case = self._verifier, None
        named = _named(sign_in, sign_in.login)
        try:
            case = verifier.case(named)
            try:
                claims = done.result()
            except BaseException:
                attempt.abandoned()
                raise
            if claims is None:
                attempt.failed()
                raise AuthenticationFailed
            theirs = verifier.case(_named(sign_in, claims.login))
            if sign_in.login and theirs.login_hash != case.login_hash:
                attempt.failed()
                raise AuthenticationFailed
            attempt.abandoned()  # no failure, and whose it was is known only now
            case = theirs
            principal = self._accept(case, claims)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            answer.set_exception(verifier.refused(named, case, error))
        else:
            answer.set_result(principal)

    def _accept(self, case: Case, claims: Claims) -> Principal:
        owner = case.owner
        if owner is None:
            raise AuthenticationFailed
        principal = self._verifier.accept(case, owner, TOKEN, owner.account.credential_version)
        return principal if claims.until is None else replace(principal, until=ceil(min(claims.until, _LATEST)))


def _named(sign_in: TokenSignIn, login: str) -> SignIn:
    return SignIn(sign_in.protocol, login, "", sign_in.address, sign_in.session)

"""Signing in over HTTP: each request carries name and password (Basic), and is nearly always answered from memory.

What was found right is remembered for a minute by a keyed hash of name, password and the client's address, under a key
that lives and dies with the process. After that minute the auth role is asked whether it still holds, which costs no
password hash and leaves no event. A change of the account or its tenant, and whatever the change feed may have missed,
drops it at once; a failed attempt drops what is remembered of that name from that address, so that nobody learns from
here what the throttle would keep from him.

Every failure and the first success leave an access event (the auth role records those); so does each new connection
that begins with a remembered sign-in.

Standards: RFC 9110 §11, RFC 7617 (Basic, charset UTF-8).
"""

from __future__ import annotations

import binascii
import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.smtp.admission import address_key
from hosting.auth.signin import Authenticator, Principal, SignIn
from storage.changes import AccountChanged, AccountEnded, Gap, Published, TenantChanged, TenantEnded
from storage.clock import Clock
from storage.errors import CleanmailError, Unavailable
from storage.logs.access import AccessEvent, AccessLog, AccessResult, AccessType

PROTOCOL = "dav"
CREDENTIALS_MAX = 4096  # octets of the field; longer ones are wrong without a look

_LONGEST = 3600.0  # seconds after which a password is compared again, whatever is remembered
_MOST = 50_000  # sign-ins


@dataclass(frozen=True, slots=True)
class Credentials:
    login: str = field(repr=False)
    password: str = field(repr=False)


def parse(authorization: bytes) -> Credentials | None:
    """What a field Authorization says; None if that is nothing that could be right."""
    scheme, _, encoded = authorization.strip().partition(b" ")
    if scheme.lower() != b"basic" or len(encoded) > CREDENTIALS_MAX:
        return None
    try:
        octets = binascii.a2b_base64(encoded.strip(), strict_mode=True)
    except binascii.Error:
        return None
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        text = octets.decode("latin-1")  # of clients that don't heed the charset
    login, colon, password = text.partition(":")
    if not colon or not login or "\0" in text:
        return None
    return Credentials(login, password)


@dataclass(slots=True)
class _Known:
    principal: Principal
    name: bytes  # keyed hash of login and address
    verified: float
    asked: float  # when it was known to hold


class SignIns:
    """Safe to use from many threads. `recall` and `remembers` never block; `verify` and `confirm` do."""

    def __init__(
        self, authenticator: Authenticator, access_log: AccessLog, clock: Clock, *, seconds: float = 60.0
    ) -> None:
        self._authenticator = authenticator
        self._access_log = access_log
        self._clock = clock
        self._seconds = seconds
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._names: dict[bytes, set[bytes]] = {}
        self._drops = 0  # counts what was dropped, so that nothing older is remembered after it

    def digest(self, authorization: bytes, address: str) -> bytes:
        """What a field Authorization from an address is remembered by."""
        octets = address_key(address).encode() + b"\0" + authorization
        return hashlib.blake2b(octets, key=self._key, digest_size=32).digest()

    def recall(self, digest: bytes) -> Principal | None:
        """Who that is, if it was known to hold within the last minute."""
        with self._lock:
            known = self._known.get(digest)
            if known is None or self._clock.monotonic() - known.asked >= self._seconds:
                return None
            return known.principal

    def remembers(self, digest: bytes) -> bool:
        """Whether that was right once, so that `confirm` is worth asking; it may hold no more."""
        with self._lock:
            return digest in self._known

    def confirm(self, digest: bytes) -> Principal | None:
        """Who that is, if it is remembered and the auth role says that it still holds. Raises Unavailable."""
        now = self._clock.monotonic()
        with self._lock:
            known = self._known.get(digest)
            if known is None:
                return None
            if now - known.verified >= _LONGEST:
                self._drop(digest)
                return None
            drops = self._drops
        valid = self._authenticator.still_valid(known.principal)
        with self._lock:
            if not valid:
                self._drop(digest)
                return None
            if drops == self._drops:
                known.asked = now
            return known.principal

    def verify(self, digest: bytes, credentials: Credentials, address: str, session: str) -> Principal:
        """Who this is; remembered. Raises AuthenticationFailed, Throttled, Suspended, NotIncluded or Unavailable."""
        name = self._name(credentials.login, address)
        with self._lock:
            drops = self._drops
        now = self._clock.monotonic()
        try:
            principal = self._authenticator.verify(
                SignIn("dav", credentials.login, credentials.password, address, session)
            )
        except Unavailable:  # nobody looked at the password
            raise
        except CleanmailError:
            self._forget_name(name)
            raise
        with self._lock:
            if drops == self._drops:
                self._known[digest] = _Known(principal, name, now, now)
                self._known.move_to_end(digest)
                self._names.setdefault(name, set()).add(digest)
                while len(self._known) > _MOST:
                    self._drop(next(iter(self._known)))
        return principal

    def begun(self, principal: Principal, address: str) -> None:
        """A connection begins with a remembered sign-in: leaves the access event that `verify` would have left."""
        self._access_log.record(
            AccessEvent(
                time=self._clock.now(),
                type=AccessType.SIGN_IN,
                result=AccessResult.SUCCESS,
                protocol=PROTOCOL,
                tenant_id=principal.tenant_id,
                account_id=principal.account_id,
                login_hash=b"",
                address=address,
            )
        )

    def changed(self, changes: Iterable[Published | Gap]) -> None:
        """Forgets what may not hold any more."""
        tenants: set[int] = set()
        accounts: set[int] = set()
        everybody = False
        for change in changes:
            match change:
                case AccountChanged() | AccountEnded():
                    accounts.add(change.account_id)
                case TenantChanged() | TenantEnded():
                    tenants.add(change.tenant_id)
                case Gap():
                    everybody = True
        if not (everybody or tenants or accounts):
            return
        with self._lock:
            self._drops += 1
            concerned = [
                digest
                for digest, known in self._known.items()
                if everybody or known.principal.account_id in accounts or known.principal.tenant_id in tenants
            ]
            for digest in concerned:
                self._drop(digest)

    def expire(self) -> None:
        """Forgets what nobody used for long; to be called now and then."""
        before = self._clock.monotonic() - 10 * self._seconds
        with self._lock:
            for digest in [digest for digest, known in self._known.items() if known.asked < before]:
                self._drop(digest)

    def __len__(self) -> int:
        return len(self._known)

    def _name(self, login: str, address: str) -> bytes:
        octets = f"{address_key(address)}\0{login.lower()}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(octets, key=self._key, digest_size=16).digest()

    def _forget_name(self, name: bytes) -> None:
        with self._lock:
            for digest in list(self._names.get(name, ())):
                self._drop(digest)

    def _drop(self, digest: bytes) -> None:
        known = self._known.pop(digest, None)
        if known is not None:
            digests = self._names.get(known.name)
            if digests is not None:
                digests.discard(digest)
                if not digests:
                    del self._names[known.name]

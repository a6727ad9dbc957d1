"""The auth role from outside: sign-ins and keys, asked over its Unix socket.

Blocking, and safe to use from many threads: each request has a connection of a small pool to itself. When the auth role
is started anew, requests connect again and are repeated for some seconds, then they raise Unavailable. A verification
that is repeated counts twice in the throttle, which is harmless. Keys are not kept here.

Raises: what the auth role answers (`storage.errors`), Unavailable.
"""

from __future__ import annotations

import base64
import random
import threading
import time
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from hosting.auth import sockets
from hosting.auth.frames import Fields, FrameReader, encode
from hosting.auth.grants import Role
from hosting.auth.messages import VERSION, base64_of, error_of, number, principal_of
from hosting.auth.signin import (
    Offers,
    Principal,
    ScramChallenge,
    ScramOpening,
    SignedInByScram,
    SignIn,
    TokenSignIn,
)
from hosting.auth.staff import SignedIn, signed_in_of
from hosting.review.values import Recorded, ReviewCase
from storage.errors import Corrupt, InvalidInput, Unavailable
from storage.keys.source import Destroyed, Key, ServiceName, SigningPurpose
from storage.values import AccountId, TenantId

TOKENS_AT_ONCE = 6  # that wait for the auth role, and it perhaps for a slow provider: fewer than a process has threads


class AuthClient:
    """A KeySource and an Authenticator; for a reviewer's process a `Reviewing`."""

    def __init__(
        self,
        path: Path,
        role: Role,
        *,
        connections: int = 32,
        patience: float = 10.0,
        timeout: float = 60.0,
        offers: Offers | None = None,
    ) -> None:
        """`patience`: seconds to wait for an auth role that is not there; `timeout`: for an answer of one that is."""
        self._path = path
        self._role = role
        self._patience = patience
        self._timeout = timeout
        self.offers = offers or Offers()
        self._token_slots = threading.BoundedSemaphore(TOKENS_AT_ONCE)
        self._slots = threading.BoundedSemaphore(connections)
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._closed = False

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._drop_idle()

    # Sign-ins

    def verify(self, sign_in: SignIn) -> Principal:
        """See `Authenticator.verify`."""
        return principal_of(
            self._ask(
                {
                    "op": "verify",
                    "protocol": sign_in.protocol,
                    "login": sign_in.login,
                    "password": sign_in.password,
                    "address": sign_in.address,
                    "session": sign_in.session,
                }
            )
        )

    def scram_begin(self, opening: ScramOpening) -> ScramChallenge:
        """See `SaslAuthenticator.scram_begin`."""
        reply = self._ask(
            {
                "op": "scram_begin",
                "protocol": opening.protocol,
                "plus": opening.plus,
                "message": base64_of(opening.message),
                "channel": base64_of(opening.channel),
                "address": opening.address,
                "session": opening.session,
            }
        )
        return ScramChallenge(opening.protocol, _octets(reply, "message"), _octets(reply, "box"))

    def scram_finish(self, challenge: ScramChallenge, message: bytes) -> SignedInByScram:
        """See `SaslAuthenticator.scram_finish`."""
        reply = self._ask({"op": "scram_finish", "box": base64_of(challenge.box), "message": base64_of(message)})
        return SignedInByScram(principal_of(reply.get("principal")), _octets(reply, "message"))

    def verify_token(self, sign_in: TokenSignIn) -> Principal:
        """See `SaslAuthenticator.verify_token`."""
        if not self._token_slots.acquire(blocking=False):
            raise Unavailable(detail="sign-ins with tokens")
        try:
            return principal_of(self._ask({"op": "verify_token", **asdict(sign_in)}))
        finally:
            self._token_slots.release()

    def still_valid(self, principal: Principal) -> bool:
        """See `Authenticator.still_valid`."""
        return self._ask({"op": "still_valid", "principal": asdict(principal)}).get("valid") is True

    def staff_sign_in(self, name: str, password: str, code: str) -> SignedIn:
        """See `StaffSigningIn.staff_sign_in`."""
        return signed_in_of(self._ask({"op": "staff_sign_in", "name": name, "password": password, "code": code}))

    # Keys

    def service_key(self, name: ServiceName) -> bytes:
        return _secret(self._ask({"op": "service_key", "name": name}))

    def auditor_key(self, purpose: str) -> bytes:
        return _secret(self._ask({"op": "auditor_key", "purpose": purpose}))

    def tenant_key(self, tenant: TenantId, purpose: str) -> Key:
        return _key(self._ask({"op": "tenant_key", "tenant": tenant, "purpose": purpose}))

    def header_key(self, tenant: TenantId, purpose: str) -> Key:
        """For a reviewer, and a view that was recorded: see `Reviewing.header_key`."""
        return _key(self._ask({"op": "header_key", "tenant": tenant, "purpose": purpose}))

    def account_key(self, tenant: TenantId, account: AccountId, purpose: str) -> Key:
        return _key(self._ask({"op": "account_key", "tenant": tenant, "account": account, "purpose": purpose}))

    def create_tenant_key(self, tenant: TenantId) -> Key:
        return _key(self._ask({"op": "create_tenant_key", "tenant": tenant}))

    def create_account_key(self, tenant: TenantId, account: AccountId) -> Key:
        return _key(self._ask({"op": "create_account_key", "tenant": tenant, "account": account}))

    def destroy_tenant_key(self, tenant: TenantId) -> Destroyed:
        return _destroyed(self._ask({"op": "destroy_tenant_key", "tenant": tenant}))

    def destroy_account_key(self, tenant: TenantId, account: AccountId) -> Destroyed:
        return _destroyed(self._ask({"op": "destroy_account_key", "tenant": tenant, "account": account}))

    def rotate_keys(self) -> int:
        """Wrap all keys under a new generation of the master and forget the old one; the new generation."""
        return number(self._ask({"op": "rotate_keys"}), "generation")

    def sign(self, purpose: SigningPurpose, message: bytes) -> bytes:
        return _octets(self._ask({"op": "sign", "purpose": purpose, "message": base64_of(message)}), "signature")

    def verifying_key(self, purpose: SigningPurpose) -> bytes:
        return _octets(self._ask({"op": "verifying_key", "purpose": purpose}), "key")

    # Who holds keys

    def holders(self, tenant: TenantId) -> frozenset[int]:
        """The living processes that were given keys of the tenant and did not say that they forgot them."""
        return _pids(self._ask({"op": "holders", "tenant": tenant}))

    def ever_held(self, tenant: TenantId) -> frozenset[int]:
        """The living processes that were given keys of the tenant, whatever they said since."""
        return _pids(self._ask({"op": "holders", "tenant": tenant, "ever": True}))

    def ready(self) -> None:
        """Say that this process does its work from now on."""
        self._ask({"op": "ready"})

    def present(self, role: str) -> frozenset[int]:
        """The living processes of a role that said that they are ready, since the auth role was started."""
        return _pids(self._ask({"op": "present", "of": role}))

    def recycle(self, tenant: TenantId, pids: Collection[int]) -> frozenset[int]:
        """Have those of them that ever held keys of the tenant told to stop (the supervisor starts them again).

        The ones that were told; never this process.
        """
        return _pids(self._ask({"op": "recycle", "tenant": tenant, "pids": sorted(pids)}))

    def kill(self, tenant: TenantId, pids: Collection[int]) -> frozenset[int]:
        """As `recycle`, but at once and without asking."""
        return _pids(self._ask({"op": "kill", "tenant": tenant, "pids": sorted(pids)}))

    def retire(self) -> bool:
        """Have the auth role itself stop, when it has answered what is under way; the supervisor starts it again.

        False if nobody would.
        """
        return self._ask({"op": "retire"}).get("retires") is True

    def forget(self, tenant: TenantId) -> None:
        """Say that this process holds no key of the tenant any more."""
        self._ask({"op": "forget", "tenant": tenant})

    # Reviews, for a reviewer

    def reviews(self) -> list[ReviewCase]:
        """See `Reviewing.reviews`."""
        listed = self._ask({"op": "reviews"}).get("reviews")
        return [ReviewCase.from_fields(fields) for fields in listed] if isinstance(listed, list) else []

    def view_review(self, quarantine_id: str, tenant: str, reason: str) -> Recorded:
        """See `Reviewing.view_review`."""
        return _recorded(self._ask({"op": "view_review", "id": quarantine_id, "tenant": tenant, "reason": reason}))

    def decide_review(self, quarantine_id: str, tenant: str, reason: str, *, wrong: bool) -> Recorded:
        """See `Reviewing.decide_review`."""
        asked = {"id": quarantine_id, "tenant": tenant, "reason": reason, "wrong": wrong}
        return _recorded(self._ask({"op": "decide_review", **asked}))

    # Requests

    def ask(self, fields: Fields) -> Fields:
        """For the clients of one subject: `hosting.auth.mailbox_rights`."""
        return self._ask(fields)

    def _ask(self, fields: Fields) -> Fields:
        request = encode(fields)
        deadline = time.monotonic() + self._patience
        if not self._slots.acquire(timeout=self._timeout):
            raise Unavailable(detail="auth connections")
        try:
            return self._attempts(request, deadline)
        finally:
            self._slots.release()

    def _attempts(self, request: bytes, deadline: float) -> Fields:
        pause = 0.01
        while True:
            try:
                connection = self._take()
                reply = connection.ask(request)
            except TimeoutError:
                raise Unavailable(detail="auth timeout") from None
            except OSError:
                self._drop_idle()  # they ended with the auth role that this one did
                if time.monotonic() >= deadline:
                    raise Unavailable(detail="auth role") from None
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads clients, hides nothing
                pause = min(pause * 2, 0.25)
                continue
            self._give_back(connection)
            result = reply.get("ok")
            if isinstance(result, dict):
                return result
            raise error_of(reply)

    def _take(self) -> _Connection:
        with self._lock:
            if self._closed:
                raise Unavailable(detail="auth client closed")
            if self._idle:
                return self._idle.pop()
        return _Connection(self._path, self._role, self._timeout)

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class _Connection:
    """One connection after its hello. Any error closes it."""

    def __init__(self, path: Path, role: Role, timeout: float) -> None:
        self._socket = sockets.connect(path, timeout)
        self._reader = FrameReader()
        reply = self.ask(encode({"op": "hello", "version": VERSION, "role": role.value}))
        if "ok" not in reply:
            self.close()
            raise error_of(reply)

    def ask(self, request: bytes) -> Fields:
        try:
            self._socket.sendall(request)
            while True:
                reply = self._reader.next()
                if reply is not None:
                    return reply
                data = self._socket.recv(64 * 1024)
                if not data:
                    raise ConnectionResetError
                self._reader.feed(data)
        except InvalidInput:
            self.close()
            raise ConnectionResetError from None
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()


def _secret(fields: Fields) -> bytes:
    return _octets(fields, "secret")


def _octets(fields: Fields, name: str) -> bytes:
    try:
        return base64.b64decode(str(fields[name]), validate=True)
    except (KeyError, ValueError):
        raise Unavailable(detail="auth reply") from None


def _destroyed(fields: Fields) -> Destroyed:
    try:
        return Destroyed.from_fields(fields.get("destroyed"))
    except Corrupt:
        raise Unavailable(detail="auth reply") from None


def _pids(fields: Fields) -> frozenset[int]:
    listed = fields.get("pids")
    return frozenset(pid for pid in listed if isinstance(pid, int)) if isinstance(listed, list) else frozenset()


def _recorded(fields: Fields) -> Recorded:
    return Recorded(number(fields, "record"), ReviewCase.from_fields(fields.get("review")))


def _key(fields: Fields) -> Key:
    return Key(str(fields.get("id", "")), _secret(fields))

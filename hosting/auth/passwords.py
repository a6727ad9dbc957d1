"""Passwords as argon2id verifiers.

`Passwords` is built with its parameters (tests pass cheap ones) and is safe to use from many threads. A verification
costs about 130 ms of one core with the parameters of RFC 9106's second choice, so callers bound how many run at once
(`hosting.auth.lanes`). Nothing here keeps a password.

Standards: RFC 9106 (argon2id), RFC 8265 §4.2 (OpaqueString: NFC, other spaces become U+0020).
"""

from __future__ import annotations

import secrets
import unicodedata

from argon2 import PasswordHasher, Type
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError

from hosting.auth.signin import PASSWORD_MAX
from storage.errors import InvalidInput, Unavailable

PASSWORD_MIN = 8


class Passwords:
    def __init__(self, *, time_cost: int = 3, memory_kib: int = 64 * 1024, lanes: int = 4) -> None:
        self._hasher = PasswordHasher(
            time_cost=time_cost, memory_cost=memory_kib, parallelism=lanes, hash_len=32, salt_len=16, type=Type.ID
        )
        # What the password of nobody is compared with, so that an unknown name costs what a known one does.
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def hash(self, password: str) -> str:
        """A new verifier.

        Raises: InvalidInput (the password is too short, too long or has control characters), Unavailable.
        """
        if len(password) < PASSWORD_MIN:
            raise InvalidInput(f"A password has at least {PASSWORD_MIN} characters.")
        prepared = _prepare(password)
        if len(prepared) > PASSWORD_MAX:
            raise InvalidInput(f"A password has at most {PASSWORD_MAX} octets.")
        if any(unicodedata.category(character) == "Cc" for character in password):
            raise InvalidInput("A password has no control characters.")
        return self._hashed(prepared)

    def verify(self, verifier: str | None, password: str) -> bool:
        """Whether `password` is the one; None costs the same and is False.

        Raises Unavailable where it could not be computed, which says nothing of the password: not to be remembered.
        """
        try:
            self._hasher.verify(verifier or self._nobody, _prepare(password))
        except (VerifyMismatchError, InvalidHashError):
            return False
        except VerificationError as error:  # most likely there is no memory for it
            raise Unavailable(detail="a password could not be verified: is there enough memory?") from error
        return verifier is not None

    def needs_rehash(self, verifier: str) -> bool:
        """Whether it was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(verifier)

    def rehash(self, password: str) -> str:
        """A new verifier of a password that just verified, whatever rules it was made under. Raises Unavailable."""
        return self._hashed(_prepare(password))

    def _hashed(self, prepared: bytes) -> str:
        try:
            return self._hasher.hash(prepared)
        except HashingError as error:
            raise Unavailable(detail="a verifier of a password could not be made: is there enough memory?") from error


def _prepare(password: str) -> bytes:
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    return unicodedata.normalize("NFC", spaced).encode("utf-8", "surrogatepass")

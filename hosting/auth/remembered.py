"""Remembers for a few minutes which passwords were right and which were wrong, so that argon2 runs once for them.

What is kept is a keyed hash under a key that lives and dies with the process; it covers the credential's version and
the version of the tenant's state, so a changed password or a suspended tenant is never answered from here. Wrong
passwords are remembered too, for names that nobody has as well: a device that keeps trying an old password costs
nothing, and the time of the answer says nothing about the name.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict

from storage.clock import Clock


class VerificationCache:
    """Safe to use from many threads."""

    def __init__(self, clock: Clock, *, seconds: float = 300.0, entries: int = 100_000) -> None:
        self._clock = clock
        self._seconds = seconds
        self._entries = entries
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._answers: OrderedDict[bytes, tuple[float, bool]] = OrderedDict()  # in the order of their making

    def digest(
        self, login_hash: bytes, account_id: int, credential_version: int, state_version: int, text: str
    ) -> bytes:
        """What one password for one credential at one version is remembered by."""
        head = b"%d.%d.%d.%d." % (len(login_hash), account_id, credential_version, state_version)
        message = head + login_hash + text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(message, key=self._key, digest_size=32).digest()

    def get(self, digest: bytes) -> bool | None:
        """Whether that password was right; None: not known."""
        with self._lock:
            found = self._answers.get(digest)
            if found is None:
                return None
            until, right = found
            if self._clock.monotonic() >= until:
                del self._answers[digest]
                return None
            return right

    def put(self, digest: bytes, right: bool) -> None:
        now = self._clock.monotonic()
        with self._lock:
            self._answers.pop(digest, None)
            self._answers[digest] = (now + self._seconds, right)
            while self._answers:
                oldest, (until, _) = next(iter(self._answers.items()))
                if until > now and len(self._answers) <= self._entries:
                    break
                del self._answers[oldest]

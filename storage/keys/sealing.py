"""The operations that all secrecy here is made of: derive a key, hash under a key, seal a box, open it.

A box is AES-256-GCM with a random nonce; its context is authenticated but not stored, so a box opens only where it was
made for. A key that seals more than 2**32 boxes this way needs a successor; message files derive one key each.
A box may also be sealed to a public key: who makes it cannot open it.

Raises: Corrupt when a box does not open (wrong key, wrong context, changed octets).
Standards: NIST SP 800-38D §8.2.2, RFC 5869 §2, RFC 2104, RFC 7748 §6.1 (X25519).
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import Corrupt

KEY_SIZE = 32
_FORMAT = b"\x01"
_TO_PUBLIC_KEY = b"\x02"
_NONCE_SIZE = 12
_TAG_SIZE = 16


@dataclass(frozen=True, slots=True)
class Key:
    """One key, unwrapped. `id` (32 hexadecimal digits) may stand in files and logs; the secret never."""

    id: str
    secret: bytes = field(repr=False)


def new_secret() -> bytes:
    """32 octets from the kernel's generator."""
    return os.urandom(KEY_SIZE)


def derive(key: bytes, *labels: str | bytes) -> bytes:
    """A 32-octet key for the purpose that the labels name: HKDF-Expand with SHA-256; `key` must be uniformly random.

    The labels go in with their lengths, so ("ab", "c") and ("a", "bc") give different keys.
    """
    parts = [label.encode() if isinstance(label, str) else label for label in labels]
    purpose = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return hmac.digest(key, purpose + b"\x01", "sha256")


def derivation(purpose: str, size: int) -> Callable[[bytes, bytes], bytes]:
    """`derive` for many keys of one purpose, whose last label has `size` octets: called with the key and that label."""
    first = purpose.encode()
    head = struct.pack(">I", len(first)) + first + struct.pack(">I", size)
    digest = hmac.digest

    def derived(key: bytes, last: bytes) -> bytes:
        return digest(key, head + last + b"\x01", "sha256")

    return derived


HASH_SIZE = 32


def keyed_hash(key: bytes, data: bytes) -> bytes:
    """32 octets that tell nobody without the key whether two inputs are equal: HMAC with SHA-256."""
    return hmac.digest(key, data, "sha256")


def seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    """A box that opens only with the same key and context."""
    nonce = os.urandom(_NONCE_SIZE)
    return _FORMAT + nonce + AESGCM(key).encrypt(nonce, plain, context)


def open_sealed(key: bytes, box: bytes, context: bytes) -> bytes:
    """What was sealed. Raises Corrupt."""
    if len(box) < 1 + _NONCE_SIZE + _TAG_SIZE or box[:1] != _FORMAT:
        raise Corrupt(detail="sealed value: unknown format")
    try:
        return AESGCM(key).decrypt(box[1 : 1 + _NONCE_SIZE], box[1 + _NONCE_SIZE :], context)
    except InvalidTag:
        raise Corrupt(detail="sealed value: does not verify") from None


def public_key(private: bytes) -> bytes:
    """Of any 32 octets as a private key of X25519."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def seal_to(public: bytes, plain: bytes, context: bytes) -> bytes:
    """A box that opens only with the private key of `public`, and the same context."""
    ephemeral = X25519PrivateKey.generate()
    sender = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    return _TO_PUBLIC_KEY + sender + seal(_agreed(shared, sender, public), plain, context)


def open_sealed_to(private: bytes, box: bytes, context: bytes) -> bytes:
    """What was sealed to the public key of `private`. Raises Corrupt."""
    sender, inner = box[1 : 1 + KEY_SIZE], box[1 + KEY_SIZE :]
    if box[:1] != _TO_PUBLIC_KEY or len(sender) != KEY_SIZE:
        raise Corrupt(detail="sealed value: unknown format")
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(sender))
    except ValueError:  # a point of small order
        raise Corrupt(detail="sealed value: does not verify") from None
    return open_sealed(_agreed(shared, sender, public_key(private)), inner, context)


def _agreed(shared: bytes, sender: bytes, public: bytes) -> bytes:
    """RFC 5869 §2.2 extracts, since what X25519 gives is not uniform; both keys belong to what was agreed."""
    return derive(hmac.digest(bytes(KEY_SIZE), shared, "sha256"), "sealed to", sender, public)

"""The four operations that all secrecy here is made of: derive a key, hash under a key, seal a box, open it.

A box is AES-256-GCM with a random nonce; its context is authenticated but not stored, so a box opens only where it was
made for. A key that seals more than 2**32 boxes this way needs a successor; message files derive one key each.

Raises: Corrupt when a box does not open (wrong key, wrong context, changed octets).
Standards: NIST SP 800-38D §8.2.2, RFC 5869 §2.3, RFC 2104.
"""

from __future__ import annotations

import hmac
import os
import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import Corrupt

KEY_SIZE = 32
_FORMAT = b"\x01"
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

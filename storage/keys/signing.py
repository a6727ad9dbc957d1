"""Signatures of the installation: Ed25519 keys by purpose, derived from the service secret.

They stay the same while the master and everything under it changes, so what was signed once can be verified for good.
What is signed is the message itself, so that any program that knows Ed25519 verifies it.

Raises: Corrupt when a signature does not verify.
Standards: RFC 8032 (Ed25519).
"""

from __future__ import annotations

from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from storage.errors import Corrupt
from storage.keys.sealing import derive

SigningPurpose = Literal["certificate", "audit", "manifest"]


def sign(service: bytes, purpose: SigningPurpose, message: bytes) -> bytes:
    """64 octets. `service`: the secret of the service key."""
    return _private(service, purpose).sign(message)


def verifying_key(service: bytes, purpose: SigningPurpose) -> bytes:
    """The public key, 32 raw octets."""
    return _private(service, purpose).public_key().public_bytes_raw()


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Whether `signature` is of `message`, by whoever has the private key of `public`. Raises Corrupt."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Corrupt("The signature does not verify.") from None


def _private(service: bytes, purpose: SigningPurpose) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(derive(service, "signing", purpose))

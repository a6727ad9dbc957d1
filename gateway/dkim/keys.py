"""DKIM keys: made, loaded for signing, and written as the TXT records that publish them.

`generate` takes some 50 ms for RSA; `load` once for each key, not for each message.
Raises: Corrupt (a stored key is none).
Standards: RFC 6376 §3.6.1 (records), RFC 8301 §3.2 (RSA of 2048 bits), RFC 8463 §4.2 (Ed25519).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from storage.directory.dkim_keys import DkimAlgorithm, DkimPrivateKey
from storage.errors import Corrupt
from storage.values import Domain

RSA_BITS = 2048  # RFC 8301 §3.2; longer ones do not fit into one UDP answer of every resolver

_BLANK = re.compile(r"[ \t\r\n]+")
_PADDING = PKCS1v15()
_SHA256 = Prehashed(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class KeyPair:
    """`private_key` is PKCS #8 in DER; `public_key` is what p= has, before base64."""

    algorithm: DkimAlgorithm
    private_key: bytes = field(repr=False)
    public_key: bytes


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key ready to sign."""

    domain: Domain
    selector: str
    algorithm: DkimAlgorithm
    key: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    def sign(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest (RFC 6376 §3.3.1, RFC 8463 §3)."""
        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(digest)
        return self.key.sign(digest, _PADDING, _SHA256)


def generate(algorithm: DkimAlgorithm) -> KeyPair:
    if algorithm is DkimAlgorithm.ED25519:
        ed25519 = Ed25519PrivateKey.generate()
        private = ed25519.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return KeyPair(algorithm, private, ed25519.public_key().public_bytes_raw())  # RFC 8463 §4.2
    rsa = generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    private = rsa.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    # RFC 6376 §3.6.1 says RSAPublicKey; its erratum 3017 and everybody publish SubjectPublicKeyInfo.
    return KeyPair(algorithm, private, rsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def load(stored: DkimPrivateKey) -> SigningKey:
    try:
        # We made it ourselves: checking its primes again would take longer than thirty signatures.
        key = load_der_private_key(stored.private_key, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Corrupt(detail=f"DKIM key {stored.selector} cannot be read") from None
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise Corrupt(detail=f"DKIM key {stored.selector} is of another kind")
    return SigningKey(stored.domain, stored.selector, stored.algorithm, key)


def record_text(algorithm: DkimAlgorithm, public_key: bytes) -> str:
    """The TXT record of a key; with `public_key` empty that of a revoked one."""
    return f"v=DKIM1; k={algorithm}; p={base64.b64encode(public_key).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """What a TXT record publishes; `public_key` is empty if it revokes the key, None if it is no base64."""

    algorithm: str
    public_key: bytes | None


def read_record(text: str) -> PublishedKey | None:
    """The key that a TXT record publishes, or None if it is no DKIM record (RFC 6376 §3.6.1, tag lists: §3.2)."""
    tags: dict[str, str] = {}
    for number, part in enumerate(text.split(";")):
        name, equals, value = part.partition("=")
        name, value = name.strip(" \t\r\n"), value.strip(" \t\r\n")
        if not equals:
            if name:
                return None
            continue
        if name in tags or (name == "v" and (number or value != "DKIM1")):
            return None
        tags[name] = value
    if "p" not in tags:
        return None
    try:
        public_key = base64.b64decode(_BLANK.sub("", tags["p"]), validate=True)
    except ValueError:
        public_key = None
    return PublishedKey(tags.get("k", "rsa"), public_key)

"""Signs certificates and verifies them: with the public key alone, without any data of the installation.

The document is JSON: the certificate, and beside it an Ed25519 signature of its canonical octets with the number of the
key (the first 16 hexadecimal digits of its SHA-256). Verifying writes the certificate down canonically again, so blanks
and the order of names do not matter, and everything else does.

Raises: InvalidInput with one sentence that says why a document does not verify.
Standards: RFC 8032 §5.1 (Ed25519), RFC 8785 (canonical JSON), RFC 8410 (public keys as PEM).
"""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from storage.certificates.certificate import Certificate, canonical, parsed
from storage.errors import Corrupt, InvalidInput
from storage.keys import signing

ALGORITHM = "Ed25519"
PURPOSE: signing.SigningPurpose = "certificate"
_KEY_SIZE = 32
_PEM_MAX = 10_000


class Signer(Protocol):
    """What signs: `storage.keys.source.KeySource`."""

    def sign(self, purpose: signing.SigningPurpose, message: bytes) -> bytes: ...

    def verifying_key(self, purpose: signing.SigningPurpose) -> bytes: ...


def issue(certificate: Certificate, keys: Signer) -> bytes:
    """The document: the certificate with its signature, one line of JSON."""
    public = keys.verifying_key(PURPOSE)
    signed = certificate.to_json()
    signature = {"algorithm": ALGORITHM, "key_id": key_id(public), "value": keys.sign(PURPOSE, signed).hex()}
    return canonical({"certificate": parsed(signed), "signature": signature}) + b"\n"


def verify(document: bytes, public_key: bytes, *, installation_id: str | None = None) -> Certificate:
    """The certificate, if the holder of `public_key` signed just this; of that installation, if one is named."""
    values, signature = _parts(document)
    try:
        signed = canonical(values)
        value = bytes.fromhex(signature["value"])
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput("The certificate is damaged: its signature cannot be read.") from None
    if signature["key_id"] != key_id(public_key):
        raise InvalidInput(
            f"The certificate was signed with the key {signature['key_id'][:16]}, not with the key"
            f" {key_id(public_key)} that it was verified against: it comes from another installation, or the key is"
            " the wrong one."
        )
    try:
        signing.verify(public_key, signed, value)
    except Corrupt:
        raise InvalidInput("The certificate is not genuine: it was changed after it had been signed.") from None
    certificate = Certificate.of(values)
    if installation_id is not None and certificate.installation_id != installation_id:
        raise InvalidInput(f"The certificate belongs to another installation, {certificate.installation_id[:40]}.")
    return certificate


def read(document: bytes) -> Certificate:
    """The certificate in a document whose signature nobody asked about: one of our own."""
    return Certificate.of(_parts(document)[0])


def signature_of(document: bytes) -> dict[str, str]:
    """What the document says of its signature: algorithm, key_id, value."""
    return _parts(document)[1]


def key_id(public_key: bytes) -> str:
    return hashlib.sha256(public_key).hexdigest()[:16]


def read_key(text: bytes) -> bytes:
    """A public key as people have it: 64 hexadecimal digits, or PEM. Raises InvalidInput."""
    try:
        plain = bytes.fromhex(text.decode("ascii").strip())
        if len(plain) == _KEY_SIZE:
            return plain
    except ValueError:
        pass
    try:
        found = load_pem_public_key(text) if len(text) <= _PEM_MAX else None
    except Exception:  # noqa: BLE001 - the library raises what its parsers raise
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise InvalidInput("The key is no Ed25519 public key: 64 hexadecimal digits, or a PEM file.")
    return found.public_bytes_raw()


def pem(public_key: bytes) -> str:
    """As other programs want it, such as `openssl pkeyutl -verify`."""
    key = Ed25519PublicKey.from_public_bytes(public_key)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def _parts(document: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    values = parsed(document)
    if not isinstance(values, dict) or values.keys() != {"certificate", "signature"}:
        raise InvalidInput("This is no certificate of erasure.")
    certificate, signature = values["certificate"], values["signature"]
    named = isinstance(signature, dict) and signature.keys() == {"algorithm", "key_id", "value"}
    if not named or not isinstance(certificate, dict) or not all(isinstance(each, str) for each in signature.values()):
        raise InvalidInput("The certificate is damaged: it has no signature.")
    if signature["algorithm"] != ALGORITHM:
        raise InvalidInput(f"The certificate is signed with another algorithm than {ALGORITHM}.")
    return certificate, signature

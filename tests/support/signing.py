"""Signs messages in every way that DKIM and ARC allow, and in ways that they don't: for tests of verification.

    signer = TestSigner("example.org", "s1")
    signer.record                            # the TXT record of its key
    sign(message, signer, c="simple/relaxed", l="10", h="From:Subject")
    sign(message, signer, v=None)            # a tag that is left out
    seal(message, signer, results="mx.example.org; dmarc=pass header.from=a.example")

Whatever is signed is hashed with `gateway.dkim.digests`; that others hash the same is shown with dkimpy and OpenDKIM.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.arc.validation import MESSAGE_SIGNATURE, RESULTS, SEAL
from gateway.dkim.canonical import relaxed_body, simple_body
from gateway.dkim.digests import MessageDigests
from gateway.dkim.keys import SigningKey, record_text
from storage.directory.dkim_keys import DkimAlgorithm
from storage.mime.fields import read_header
from storage.values import Domain

NOW = 1_780_000_000

# One for all tests: making one takes a while.
_RSA: dict[int, RSAPrivateKey] = {}


def rsa_key(bits: int = 2048) -> RSAPrivateKey:
    if bits not in _RSA:
        _RSA[bits] = generate_private_key(public_exponent=65537, key_size=bits)
    return _RSA[bits]


@dataclass
class TestSigner:
    __test__ = False

    domain: str = "example.org"
    selector: str = "s1"
    key: RSAPrivateKey | Ed25519PrivateKey = field(default_factory=rsa_key)

    @property
    def algorithm(self) -> DkimAlgorithm:
        return DkimAlgorithm.RSA if isinstance(self.key, RSAPrivateKey) else DkimAlgorithm.ED25519

    @property
    def name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def public(self) -> bytes:
        public = self.key.public_key()
        if isinstance(self.key, Ed25519PrivateKey):
            return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def record(self) -> str:
        return record_text(self.algorithm, self.public)

    @property
    def zone(self) -> dict[str, str]:
        return {self.name: self.record}

    @property
    def pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())

    def signature(self, digest: bytes) -> str:
        key = SigningKey(Domain("example.org"), self.selector, self.algorithm, self.key)
        return base64.b64encode(key.sign(digest)).decode()


def sign(message: bytes, signer: TestSigner, **changes: str | None) -> bytes:
    """The message with a DKIM-Signature in front. `changes`: tags that are others than usual; None: left out."""
    tags: dict[str, str | None] = {
        "v": "1",
        "a": f"{signer.algorithm}-sha256",
        "c": "relaxed/relaxed",
        "d": signer.domain,
        "s": signer.selector,
        "h": "From:To:Subject",
    }
    return _signed(message, signer, b"DKIM-Signature", tags | changes)


def seal(
    message: bytes,
    signer: TestSigner,
    *,
    results: str = "mx.example.org; spf=pass smtp.mailfrom=a.example; dmarc=pass header.from=a.example",
    cv: str | None = None,
    instance: int = 0,
    message_tags: dict[str, str | None] | None = None,
    seal_tags: dict[str, str | None] | None = None,
) -> bytes:
    """The message with one more ARC set in front."""
    number = instance or 1 + sum(each.name == SEAL for each in read_header(message).fields)
    message = f"ARC-Authentication-Results: i={number}; {results}\r\n".encode() + message
    tags: dict[str, str | None] = {
        "i": str(number),
        "a": f"{signer.algorithm}-sha256",
        "c": "relaxed/relaxed",
        "d": signer.domain,
        "s": signer.selector,
        "h": "From:To:Subject:DKIM-Signature",
    }
    message = _signed(message, signer, b"ARC-Message-Signature", tags | (message_tags or {}))
    tags = {
        "i": str(number),
        "a": tags["a"],
        "d": signer.domain,
        "s": signer.selector,
        "cv": cv or ("none" if number == 1 else "pass"),
    }
    return _sealed(message, signer, tags | (seal_tags or {}), number)


def _signed(message: bytes, signer: TestSigner, name: bytes, tags: dict[str, str | None]) -> bytes:
    header_form, _, body_form = (tags.get("c") or "simple/simple").partition("/")
    digests = MessageDigests(message, read_header(message))
    if "bh" not in tags:
        body_hash, _ = digests.body(relaxed=body_form == "relaxed")
        if (tags.get("l") or "").isdigit():
            whole = _body(message, relaxed=body_form == "relaxed")
            body_hash = hashlib.sha256(whole[: int(tags["l"] or 0)]).digest()
        tags = {**tags, "bh": base64.b64encode(body_hash).decode()}
    given = tags.pop("b", "")
    unsigned = _written(name, tags) + message
    header = read_header(unsigned)
    names = [each.strip().lower().encode() for each in (tags.get("h") or "").split(":")]
    digest = MessageDigests(unsigned, header).signed(names, header.fields[0], relaxed=header_form == "relaxed")
    return _written(name, tags, given or signer.signature(digest)) + message


def _sealed(message: bytes, signer: TestSigner, tags: dict[str, str | None], number: int) -> bytes:
    unsigned = _written(b"ARC-Seal", tags) + message
    header = read_header(unsigned)
    digests = MessageDigests(unsigned, header)
    own = header.fields[0]
    chain = hashlib.sha256()
    for instance in range(1, number + 1):
        for name in (RESULTS, MESSAGE_SIGNATURE, SEAL):
            for each in digests.named(name):
                value = digests.value(each).replace(b" ", b"")
                if each is not own and (value.startswith(b"i=%d;" % instance)):
                    chain.update(digests.relaxed(each))
    chain.update(digests.unsigned(own, relaxed=True))
    return _written(b"ARC-Seal", tags, signer.signature(chain.digest())) + message


def _written(name: bytes, tags: dict[str, str | None], signature: str = "") -> bytes:
    text = "; ".join(f"{tag}={value}" for tag, value in tags.items() if value is not None)
    return name + f": {text};\r\n\tb={signature}\r\n".encode()


def _body(message: bytes, *, relaxed: bool) -> bytes:
    return (relaxed_body if relaxed else simple_body)(message, read_header(message).end)

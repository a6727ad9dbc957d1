"""Public keys of signers: found in DNS, checked, ready to verify with.

A key costs a bounded time whatever its owner publishes: RSA of at most 4096 bits with an ordinary exponent. Keys that
were seen lately are kept decoded.

Raises nothing. Standards: RFC 6376 §3.6.1 and §6.1.2, RFC 8301 §3.2 (at least 1024 bits), RFC 8463 §4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from gateway.dkim.result import Dkim
from gateway.dkim.tags import TagError, decode_base64, parse_tags, without_blanks
from gateway.dns.answers import Answer, Dns

RSA_LEAST, RSA_MOST = 1024, 4096  # bits
EXPONENT_BITS = 33  # 65537 everywhere; a long one makes a verification as slow as a signature
RECORDS_MAX = 20  # TXT records of one name that are looked at
OCTETS_MAX = 8192  # of one
NO_KEY_KNOWN = "DNS did not answer for its key"
_KNOWN, _KNOWN_OCTETS = 2000, 1500  # records that are kept decoded, and how long they may be

_PADDING = PKCS1v15()
_SHA256 = Prehashed(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Rejected:
    """There is no key to verify with; `reason` in short words of ours, ASCII without quotes."""

    result: Dkim
    reason: str


@dataclass(frozen=True, slots=True)
class PublicKey:
    key: RSAPublicKey | Ed25519PublicKey = field(repr=False)
    testing: bool = False  # t=y
    strict: bool = False  # t=s: i= is of the domain itself

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """Whether this is the signature of a SHA-256 digest."""
        try:
            if isinstance(self.key, Ed25519PublicKey):
                self.key.verify(signature, digest)
            else:
                self.key.verify(signature, digest, _PADDING, _SHA256)
        except InvalidSignature:
            return False
        return True


async def fetch(dns: Dns, places: Collection[tuple[str, str]]) -> dict[tuple[str, str], Answer[bytes]]:
    """The TXT records for each selector and domain, asked at once."""
    questions = [dns.txt(f"{selector}._domainkey.{domain}") for selector, domain in places]
    if len(questions) == 1:  # nearly always; a task costs more than an answer from the cache
        return dict(zip(places, [await questions[0]], strict=True))
    return dict(zip(places, await asyncio.gather(*questions), strict=True))


def find_key(answer: Answer[bytes], key_type: str) -> PublicKey | Rejected:
    """The one key of this type among the records.

    Several would mean that somebody else's could be one of them (§3.6.2.2 leaves it undefined).
    """
    if answer.failed:
        return Rejected(Dkim.TEMPERROR, NO_KEY_KNOWN)
    found: list[PublicKey | Rejected] = []
    for record in answer.records[:RECORDS_MAX]:
        read = _read_known(record, key_type) if len(record) <= _KNOWN_OCTETS else _read(record, key_type)
        if read is not None:
            found.append(read)
    usable = [key for key in found if isinstance(key, PublicKey)]
    if len(usable) > 1:
        return Rejected(Dkim.PERMERROR, "several keys stand under one selector")
    if usable:
        return usable[0]
    return found[0] if found else Rejected(Dkim.PERMERROR, "there is no such key")


def _read(record: bytes, key_type: str) -> PublicKey | Rejected | None:
    """None: no record of a key at all."""
    if len(record) > OCTETS_MAX:
        return Rejected(Dkim.PERMERROR, "the key record is too long")
    try:
        # Notes may be in any character set.
        tags = parse_tags(record.decode("utf-8", "replace").encode("utf-8"))
    except TagError:
        return None
    if "p" not in tags or ("v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v")):
        return None
    if not tags["p"]:
        return Rejected(Dkim.PERMERROR, "the key was revoked")
    if tags.get("k", "rsa") != key_type:
        return Rejected(Dkim.PERMERROR, "the key is of another type")
    if "h" in tags and "sha256" not in without_blanks(tags["h"]).split(":"):
        return Rejected(Dkim.PERMERROR, "the key is not for SHA-256")
    if not {"*", "email"} & set(without_blanks(tags.get("s", "*")).split(":")):
        return Rejected(Dkim.PERMERROR, "the key is not for mail")
    flags = without_blanks(tags.get("t", "")).split(":")
    octets = decode_base64(tags["p"])
    if octets is None:
        return Rejected(Dkim.PERMERROR, "the key is no base64")
    key = _load(octets, key_type)
    return key if isinstance(key, Rejected) else PublicKey(key, "y" in flags, "s" in flags)


_read_known = lru_cache(_KNOWN)(_read)


def _load(octets: bytes, key_type: str) -> RSAPublicKey | Ed25519PublicKey | Rejected:
    unreadable = Rejected(Dkim.PERMERROR, "the key cannot be read")
    try:
        if key_type == "ed25519":
            return Ed25519PublicKey.from_public_bytes(octets)
        key = load_der_public_key(octets)  # SubjectPublicKeyInfo, or RSAPublicKey (erratum 3017)
        if not isinstance(key, RSAPublicKey):
            return unreadable
        if key.key_size < RSA_LEAST:
            return Rejected(Dkim.PERMERROR, f"the key has fewer than {RSA_LEAST} bits")
        if key.key_size > RSA_MOST:
            return Rejected(Dkim.POLICY, f"the key has more than {RSA_MOST} bits")
        if key.public_numbers().e.bit_length() > EXPONENT_BITS:
            return Rejected(Dkim.POLICY, "the exponent of the key is too long")
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return unreadable
    return key

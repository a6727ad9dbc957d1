"""A DKIM-Signature field as its signer wrote it, and what is wrong with it before any key is asked for.

ARC-Message-Signature is read here too: it differs in i= and has no v= (RFC 8617 §4.1.2).

Raises: Refused. Standards: RFC 6376 §3.5 and §6.1.1, RFC 8301 §3.1, RFC 8463 §3, RFC 8616 §4 (U-labels).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.dkim.result import Dkim
from gateway.dkim.tags import decode_base64, without_blanks
from gateway.dns.names import normal

OCTETS_MAX = 65_536  # of one field
NAMES_MAX = 1000  # in h=; signers name each of their fields once or twice

ALGORITHMS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}
_FORMS = {"simple": False, "relaxed": True}
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\Z")
_FIELD_NAME = re.compile(r"[!-9<-~]+\Z")  # RFC 5322 §3.6.8, without the semicolon
_DIGITS = re.compile(r"[0-9]{1,12}\Z")
_LENGTH = re.compile(r"[0-9]{1,76}\Z")


class Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """The signature comes to `result` whatever its key says; `reason` in short words of ours, ASCII without quotes."""

    def __init__(self, result: Dkim, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SignatureField:
    domain: str
    selector: str
    key_type: str  # "rsa" or "ed25519"; the hash is SHA-256
    signature: bytes
    body_hash: bytes
    names: tuple[bytes, ...]  # of h=, in lower case
    header_relaxed: bool = False
    body_relaxed: bool = False
    length: int | None = None  # l=
    time: int | None = None
    expires: int | None = None
    same_domain: bool = True  # the domain of i= is d=, not one below it


def read_signature(tags: Mapping[str, str]) -> SignatureField:
    """A DKIM-Signature."""
    version = _required(tags, "v")
    if version != "1":
        raise Refused(Dkim.NEUTRAL, "the signature is of an unknown version")
    identity = tags.get("i")
    domain = read_domain(tags)
    return _read(tags, domain, same_domain=identity is None or _identity_is(identity, domain))


def read_message_signature(tags: Mapping[str, str]) -> SignatureField:
    """An ARC-Message-Signature."""
    return _read(tags, read_domain(tags), same_domain=True)


def read_domain(tags: Mapping[str, str]) -> str:
    """d= in lower-case A-labels."""
    domain = name_of(_required(tags, "d"))
    if not domain:
        raise Refused(Dkim.PERMERROR, "d= is no domain")
    return domain


def read_selector(tags: Mapping[str, str]) -> str:
    selector = name_of(_required(tags, "s"))
    if not selector:
        raise Refused(Dkim.PERMERROR, "s= is no selector")
    return selector


def read_key_type(tags: Mapping[str, str]) -> str:
    algorithm = _required(tags, "a").lower()
    if algorithm == "rsa-sha1":  # RFC 8301 §3.1
        raise Refused(Dkim.POLICY, "rsa-sha1 is not accepted any more")
    key_type = ALGORITHMS.get(algorithm)
    if key_type is None:
        raise Refused(Dkim.NEUTRAL, "the algorithm is unknown")
    return key_type


def read_octets(tags: Mapping[str, str]) -> bytes:
    """b=."""
    octets = decode_base64(_required(tags, "b"))
    if octets is None:
        raise Refused(Dkim.NEUTRAL, "the signature is no base64")
    return octets


def name_of(text: str) -> str:
    """A domain name or selector in lower-case A-labels; empty if it is none that DNS and a field of ours can have."""
    name = normal(text)
    return name if name is not None and _NAME.match(name) else ""


def _read(tags: Mapping[str, str], domain: str, *, same_domain: bool) -> SignatureField:
    selector = read_selector(tags)
    if normal(f"{selector}._domainkey.{domain}") is None:
        raise Refused(Dkim.PERMERROR, "selector and domain are too long")
    key_type = read_key_type(tags)
    octets = read_octets(tags)
    body_hash = decode_base64(_required(tags, "bh"))
    if body_hash is None or len(body_hash) != 32:
        raise Refused(Dkim.NEUTRAL, "bh= is no SHA-256 hash")
    header_form, _, body_form = without_blanks(tags.get("c", "simple/simple")).lower().partition("/")
    if header_form not in _FORMS or (body_form or "simple") not in _FORMS:
        raise Refused(Dkim.NEUTRAL, "the canonicalisation is unknown")
    if "dns/txt" not in without_blanks(tags.get("q", "dns/txt")).lower().split(":"):
        raise Refused(Dkim.NEUTRAL, "its key is not in DNS")
    time, expires = _seconds(tags, "t"), _seconds(tags, "x")
    if time is not None and expires is not None and expires <= time:
        raise Refused(Dkim.PERMERROR, "the signature expires before it was made")
    length = tags.get("l")
    if length is not None and not _LENGTH.match(length):
        raise Refused(Dkim.NEUTRAL, "l= is no number")
    return SignatureField(
        domain,
        selector,
        key_type,
        octets,
        body_hash,
        _names(_required(tags, "h")),
        _FORMS[header_form],
        _FORMS[body_form or "simple"],
        int(length) if length is not None else None,
        time,
        expires,
        same_domain,
    )


def _names(value: str) -> tuple[bytes, ...]:
    if value.count(":") >= NAMES_MAX:
        raise Refused(Dkim.NEUTRAL, "h= has too many names")
    names = without_blanks(value).lower().split(":")
    if not all(_FIELD_NAME.match(name) for name in names):
        raise Refused(Dkim.NEUTRAL, "h= is no list of field names")
    if "from" not in names:  # §5.4
        raise Refused(Dkim.PERMERROR, "From is not signed")
    return tuple(name.encode("ascii") for name in names)


def _identity_is(identity: str, domain: str) -> bool:
    """Whether i= is of the domain itself; raises Refused unless that or of one below it (§6.1.1)."""
    _, at, host = identity.rpartition("@")
    name = name_of(without_blanks(host)) if at else ""
    if name == domain:
        return True
    if not name.endswith("." + domain):
        raise Refused(Dkim.PERMERROR, "i= is not of the domain that signs")
    return False


def _seconds(tags: Mapping[str, str], name: str) -> int | None:
    value = tags.get(name)
    if value is None:
        return None
    if not _DIGITS.match(value):
        raise Refused(Dkim.NEUTRAL, f"{name}= is no time")
    return int(value)


def _required(tags: Mapping[str, str], name: str) -> str:
    value = tags.get(name)
    if not value:
        raise Refused(Dkim.NEUTRAL, f"{name}= is missing")
    return value

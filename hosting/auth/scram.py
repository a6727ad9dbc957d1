"""The messages of a SCRAM exchange as octets, and its arithmetic; pure.

A server that gives what it offers as channel binding takes no client that says it saw none ("y"): somebody between them
took it out of the list. Extensions that must be understood are refused, others are passed over.

Raises: InvalidInput (no message of SCRAM), AuthenticationFailed (a well-formed one that cannot sign in).
Standards: RFC 5802 §5, §6, §7 (SCRAM), RFC 7677 (SHA-256), RFC 9266 (tls-exporter), RFC 5801 §4 (GS2 header).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field

from storage.directory.scram import ScramKey
from storage.errors import AuthenticationFailed, InvalidInput

BINDING = b"tls-exporter"
MESSAGE_MAX = 4096  # octets
NONCE_MAX = 512  # octets of the client's part

_NO_FIRST = "This is no first message of SCRAM."
_NO_FINAL = "This is no final message of SCRAM."
_PROOF_SIZE = 32
_FIRST = re.compile(
    rb"(?P<header>(?P<flag>n|y|p=[A-Za-z0-9.\-]{1,64}),(?:a=(?P<acting>[^,\0]*))?,)"
    rb"(?P<bare>(?P<must>m=[^,\0]+,)?n=(?P<name>[^,\0]*),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[^\0]*)?)",
    re.DOTALL,
)
_FINAL = re.compile(
    rb"(?P<without>c=(?P<channel>[A-Za-z0-9+/]+={0,2}),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,\0]+)*?)"
    rb",p=(?P<proof>[A-Za-z0-9+/]+={0,2})",
    re.DOTALL,
)
_ESCAPE = re.compile(rb"=(2C|3D)?")


@dataclass(frozen=True, slots=True)
class First:
    """client-first-message."""

    header: bytes  # GS2 header, with its last comma
    flag: bytes  # n, y or p=…
    acting_as: str  # authorization identity
    login: str = field(repr=False)
    nonce: bytes
    bare: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Final:
    """client-final-message."""

    channel: bytes  # GS2 header and the channel's data
    nonce: bytes
    proof: bytes = field(repr=False)
    without_proof: bytes = field(repr=False)


def read_first(message: bytes) -> First:
    found = _FIRST.fullmatch(message) if len(message) <= MESSAGE_MAX else None
    if found is None or len(found["nonce"]) > NONCE_MAX:
        raise InvalidInput(_NO_FIRST)
    if found["must"]:
        raise AuthenticationFailed("An extension of SCRAM is asked for that this server does not know.")
    acting_as = _name(found["acting"] or b"")
    return First(found["header"], found["flag"], acting_as, _name(found["name"]), found["nonce"], found["bare"])


def check_binding(first: First, *, plus: bool, offered: bool) -> None:
    """RFC 5802 §6: what the client says of channel binding fits its mechanism and what it was offered."""
    if plus and not offered:
        raise AuthenticationFailed("This connection has nothing that could be bound to.")
    if plus != first.flag.startswith(b"p="):
        raise AuthenticationFailed("Mechanism and channel binding do not fit.")
    if plus and first.flag != b"p=" + BINDING:
        raise AuthenticationFailed("Channels are bound by tls-exporter here.")
    if first.flag == b"y" and offered:
        raise AuthenticationFailed("Channel binding is offered, and something hid that from you.")


def check_acting(first: First) -> None:
    if first.acting_as not in ("", first.login):
        raise AuthenticationFailed("Nobody may act for another here.")


def read_final(message: bytes) -> Final:
    found = _FINAL.fullmatch(message) if len(message) <= MESSAGE_MAX else None
    if found is None:
        raise InvalidInput(_NO_FINAL)
    try:
        channel, proof = b64decode(found["channel"], validate=True), b64decode(found["proof"], validate=True)
    except ValueError:
        raise InvalidInput(_NO_FINAL) from None
    return Final(channel, found["nonce"], proof, found["without"])


def challenge(nonce: bytes, salt: bytes, rounds: int) -> bytes:
    """server-first-message."""
    return b"r=%b,s=%b,i=%d" % (nonce, b64encode(salt), rounds)


def auth_message(bare: bytes, server_first: bytes, final: Final) -> bytes:
    return b"%b,%b,%b" % (bare, server_first, final.without_proof)


def prove(key: ScramKey, message: bytes, proof: bytes) -> bool:
    """Whether the proof is of who knows the password behind `key`."""
    if len(proof) != _PROOF_SIZE:
        return False
    signature = hmac.digest(key.stored, message, "sha256")
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), key.stored)


def find(keys: Sequence[ScramKey], message: bytes, proof: bytes) -> int | None:
    """Which of the keys it is; all of them are tried, whichever it is."""
    right = [number for number, key in enumerate(keys) if prove(key, message, proof)]
    return right[0] if right else None


def confirmation(key: ScramKey, message: bytes) -> bytes:
    """server-final-message: the server knows the password too."""
    return b"v=" + b64encode(hmac.digest(key.server, message, "sha256"))


def _name(octets: bytes) -> str:
    """A saslname (RFC 5802 §5.1): =2C is a comma, =3D an equals sign, and no other sign follows one."""

    def sign(found: re.Match[bytes]) -> bytes:
        if found[1] is None:
            raise InvalidInput(_NO_FIRST)
        return b"," if found[1] == b"2C" else b"="

    try:
        return _ESCAPE.sub(sign, octets).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(_NO_FIRST) from None

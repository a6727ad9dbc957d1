"""The certificates that a server showed, as octets, and the public key in one.

Standards: RFC 5280 §4.1 (where the SubjectPublicKeyInfo stands), X.690 §8.1 (DER).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

_DER = 2  # _ssl.ENCODING_DER


class NotDer(ValueError):  # noqa: N818 - what the octets are
    """These octets are no certificate."""


def peer_chain(connection: ssl.SSLObject) -> list[bytes]:
    """What the server sent, its own certificate first, in DER; empty if it sent none."""
    # Public since Python 3.13; before that only the object beneath has it.
    source: Any = connection if hasattr(connection, "get_unverified_chain") else getattr(connection, "_sslobj", None)
    chain: Sequence[Any] = (source.get_unverified_chain() if source is not None else None) or ()
    return [bytes(one) if isinstance(one, bytes) else one.public_bytes(_DER) for one in chain]


def public_key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo exactly as it stands in the certificate. Raises NotDer."""
    position, end = _content(certificate, 0, 0x30)  # Certificate
    if end != len(certificate):
        raise NotDer("octets behind the certificate")
    position, end = _content(certificate, position, 0x30)  # TBSCertificate
    if certificate[position : position + 1] == b"\xa0":  # version
        position = _end(certificate, position)
    for _ in range(5):  # serialNumber, signature, issuer, validity, subject
        position = _end(certificate, position)
    _content(certificate, position, 0x30)
    last = _end(certificate, position)
    if last > end:
        raise NotDer("a length is wrong")
    return certificate[position:last]


def _content(data: bytes, position: int, tag: int) -> tuple[int, int]:
    """Where the value of the element at `position` begins and ends."""
    if data[position : position + 1] != bytes((tag,)):
        raise NotDer("another element was expected")
    return _value(data, position)


def _end(data: bytes, position: int) -> int:
    return _value(data, position)[1]


def _value(data: bytes, position: int) -> tuple[int, int]:
    if position + 2 > len(data):
        raise NotDer("an element is missing")
    length, start = data[position + 1], position + 2
    if length & 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4:
            raise NotDer("a length is wrong")
        length = int.from_bytes(data[start : start + octets], "big")
        start += octets
    if start + length > len(data):
        raise NotDer("a length is wrong")
    return start, start + length

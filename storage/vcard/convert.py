"""A card of one version as one of the other: vCard 3.0 and 4.0, in both directions (RFC 6352 §10.4, `version`).

What the other version cannot say goes into the X- property that Apple, Evolution or the RFC's predecessors used, and
comes back from there; the UID stays the same text. The result is written anew: CRLF, folded.

Standards: RFC 6350 appendix A, RFC 2426, RFC 2739 (CALURI, FBURL), RFC 6474, RFC 6715.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from storage.icalendar.contentlines import Property
from storage.vcard.card import VERSIONS, Card, CardLimits, read_card, refused, stated_version
from storage.vcard.properties import written
from storage.vcard.to_version3 import to_version3
from storage.vcard.to_version4 import to_version4

_WAYS: dict[str, Callable[[Card], Iterator[Property]]] = {"3.0": to_version3, "4.0": to_version4}


def converted(data: bytes, version: str, limits: CardLimits | None = None) -> bytes:
    """`data` in that version; the very octets if it has it already. Raises Violated."""
    if stated_version(data) == version:
        return data
    card = read_card(data, limits)
    return data if card.version == version else write_card(convert(card, version), version)


def convert(card: Card, version: str) -> list[Property]:
    """The properties of `card` as that version has them, VERSION first. Raises Violated (supported-address-data)."""
    if card.version == version:
        return list(card.properties)
    if version not in VERSIONS or card.version not in VERSIONS:
        raise refused("This server converts vCard 3.0 and 4.0.", "supported-address-data")
    return [Property("VERSION", version), *_WAYS[version](card)]


def write_card(properties: list[Property], version: str) -> bytes:
    """The octets of a card with these properties."""
    return b"".join([b"BEGIN:VCARD\r\n", *(written(one, version) for one in properties), b"END:VCARD\r\n"])

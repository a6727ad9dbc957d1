"""The part of a card that an address-data element asks for (RFC 6352 §10.4): some properties, another version.

What is asked whole is given as its octets are. BEGIN, VERSION and END are always there: without VERSION nobody could
read the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.icalendar.contentlines import Property
from storage.vcard.card import CardLimits, read_card
from storage.vcard.convert import convert, converted
from storage.vcard.properties import having, written


@dataclass(frozen=True, slots=True)
class CardProp:
    """A property that is asked for; `no_value`: only that it is there."""

    name: str  # upper case, without its group
    group: str = ""
    no_value: bool = False


@dataclass(frozen=True, slots=True)
class AddressData:
    """What an address-data element asks for."""

    props: tuple[CardProp, ...] | None = None  # None: all
    version: str = ""  # empty: as it is stored


def partial(data: bytes, asked: AddressData, limits: CardLimits | None = None) -> bytes:
    """The part of `data` that is asked for. Raises Violated (supported-address-data)."""
    if asked.props is None and not asked.version:
        return data
    if asked.props is None:
        return converted(data, asked.version, limits)
    card = read_card(data, limits)
    version = asked.version or card.version
    wanted: dict[str, list[CardProp]] = {}
    for prop in asked.props:
        wanted.setdefault(prop.name, []).append(prop)
    lines: list[bytes] = []
    for one in convert(card, version):
        how = _how(one, wanted)
        if how is None:
            continue
        if how.no_value:
            lines.append(written(having(one, value=""), version))
        elif card.version == version:
            lines.append(_ended(card.data[one.start : one.end]))
        else:
            lines.append(written(one, version))
    return b"".join([b"BEGIN:VCARD\r\n", *lines, b"END:VCARD\r\n"])


def _how(one: Property, wanted: dict[str, list[CardProp]]) -> CardProp | None:
    """In which way a property is asked for; None: in none."""
    if one.name == "VERSION":
        return CardProp("VERSION")
    group = one.group.lower()
    return next((prop for prop in wanted.get(one.name, []) if not prop.group or prop.group.lower() == group), None)


def _ended(line: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + b"\r\n"

"""A vCard read from its octets, and what has to hold of one that is stored (RFC 6352 §5.1).

Tolerated is what real address books send and no client trips over: a BOM, bare LF, unfolded base64, types without
TYPE=, no N in vCard 3, no FN in vCard 4, empty properties, any X- property. Refused is what makes it another thing than
one card: two cards, no UID, no VERSION, control characters, octets that are not UTF-8. vCard 2.1 is refused here with
its own condition, since the client's octets are kept and no client of CardDAV expects it; an import converts it first
(storage.vcard.splitting).

Raises: Violated (valid-address-data, supported-address-data, max-resource-size).
Standards: RFC 6350, RFC 2426, RFC 6352 §6.3.2.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from storage.collections.conditions import Namespace, Violated
from storage.icalendar.contentlines import LineLimits, Malformed, Property, read_all, split, text
from storage.vcard.properties import repaired

VERSIONS = ("3.0", "4.0")


@dataclass(frozen=True, slots=True)
class CardLimits:
    """What one card may be."""

    max_size: int = 4 << 20  # octets: a photo of a telephone in base64
    max_properties: int = 20_000  # a group names each member in a line of its own
    max_uid: int = 1000  # characters


@dataclass(frozen=True, slots=True)
class Card:
    """A vCard. `data` is what the spans of its properties are of: what was read, or that with its base64 folded."""

    version: str
    properties: tuple[Property, ...] = field(repr=False)
    data: bytes = field(default=b"", repr=False, compare=False)

    def all(self, *names: str) -> Iterator[Property]:
        """The properties of these names, in their order."""
        return (one for one in self.properties if one.name in names)

    def first(self, name: str) -> Property | None:
        """The first property of a name that says anything."""
        return next((one for one in self.properties if one.name == name and one.value.strip()), None)

    def text(self, name: str) -> str:
        """The text of the first property of a name; empty: there is none."""
        found = self.first(name)
        return text(found.value).strip() if found else ""

    @property
    def uid(self) -> str:
        return self.text("UID")

    @property
    def display_name(self) -> str:
        """What it is called, whichever of its properties says so; empty: nothing does."""
        name = self.text("FN")
        if not name and (structured := self.first("N")):
            family, given, more, before, after = ([_words(part) for part in split(structured.value, ";")] + [""] * 5)[
                :5
            ]
            name = " ".join(part for part in (before, given, more, family, after) if part)
        if not name and (organisation := self.first("ORG")):
            name = ", ".join(part for part in map(text, split(organisation.value, ";")) if part.strip())
        return name or self.text("NICKNAME") or self.text("EMAIL") or self.text("TEL")

    @property
    def kind(self) -> str:
        """KIND, also as Apple's server calls it; "individual" if nothing is said (RFC 6350 §6.1.4)."""
        return (self.text("KIND") or self.text("X-ADDRESSBOOKSERVER-KIND") or "individual").lower()

    @property
    def members(self) -> list[str]:
        """URIs of who is in a group, e.g. urn:uuid:…"""
        return [one.value.strip() for one in self.all("MEMBER", "X-ADDRESSBOOKSERVER-MEMBER") if one.value.strip()]


def _words(part: str) -> str:
    """A part of a name, which may be a list."""
    return " ".join(filter(None, (text(word).strip() for word in split(part))))


def refused(why: str, condition: str = "valid-address-data") -> Violated:
    """The error of a card that is not stored."""
    return Violated(condition, why, Namespace.CARDDAV)


def read_card(data: bytes, limits: CardLimits | None = None) -> Card:
    """The one card that `data` is. Raises Violated."""
    limits = limits or CardLimits()
    if len(data) > limits.max_size:
        raise refused("The card is larger than this server takes.", "max-resource-size")
    data = repaired(data)
    most = limits.max_properties
    try:
        found = read_all(data, LineLimits(lines=most + 3, parameters=10 * most, depth=1))
    except Malformed as error:
        raise refused(f"This is not a vCard. {error.public}") from None
    if [one.name for one in found] != ["VCARD"] or any(one.name in ("BEGIN", "END") for one in found[0].properties):
        raise refused("One address object holds exactly one vCard, and nothing else.")
    versions = {one.value.strip() for one in found[0].all("VERSION")}
    if len(versions) != 1:
        raise refused("The vCard says two versions." if versions else "The vCard does not say its VERSION.")
    return Card(versions.pop(), tuple(found[0].properties), data)


def checked(data: bytes, limits: CardLimits | None = None) -> Card:
    """The card that `data` is, if it may be stored. Raises Violated."""
    limits = limits or CardLimits()
    card = read_card(data, limits)
    if card.version not in VERSIONS:
        raise refused(
            "This server keeps vCard 3.0 and 4.0; vCard 2.1 is taken by the import, which converts it."
            if card.version == "2.1"
            else "This server keeps vCard 3.0 and 4.0.",
            "supported-address-data",
        )
    uids = {text(one.value).strip() for one in card.all("UID")} - {""}
    if len(uids) != 1:
        raise refused("The vCard has two UIDs." if uids else "The vCard has no UID.")
    if len(next(iter(uids))) > limits.max_uid:
        raise refused("The UID of the vCard is too long.")
    return card


_STATED = re.compile(
    rb"(?:\xef\xbb\xbf)?BEGIN:VCARD\r?\n(?:[^\n]{0,200}\n){0,2}?VERSION:(3\.0|4\.0)\r?\n(?![ \t])", re.IGNORECASE
)


def stated_version(data: bytes) -> str:
    """The version of a card that was checked, where its first lines say it; empty: it has to be read."""
    match = _STATED.match(data)
    return match[1].decode("ascii") if match is not None else ""

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
from storage.icalendar.textmatch import unescaped
from storage.vcard.lines import Field, LineError, compound, read_fields, without_bom

VERSIONS = ("3.0", "4.0")

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class CardLimits:
    """What one card may be."""

    max_size: int = 4 << 20  # octets: a photo of a telephone in base64
    max_fields: int = 20_000  # a group names each member in a field of its own
    max_uid: int = 1000  # characters


@dataclass(frozen=True, slots=True)
class Card:
    """A vCard. `fields` are without BEGIN and END."""

    version: str
    fields: tuple[Field, ...] = field(repr=False)

    def all(self, *names: str) -> Iterator[Field]:
        """The fields of these names, in their order."""
        return (one for one in self.fields if one.name in names)

    def first(self, name: str) -> Field | None:
        """The first field of a name that says anything."""
        return next((one for one in self.fields if one.name == name and one.value.strip()), None)

    def text(self, name: str) -> str:
        """The text of the first field of a name; empty: there is none."""
        found = self.first(name)
        return unescaped(found.value).strip() if found else ""

    @property
    def uid(self) -> str:
        return self.text("UID")

    @property
    def display_name(self) -> str:
        """What it is called, whichever of its properties says so; empty: nothing does."""
        name = self.text("FN")
        if not name and (structured := self.first("N")):
            parts = [_words(part) for part in compound(structured.value)]
            family, given, more, before, after = (parts + [""] * 5)[:5]
            name = " ".join(part for part in (before, given, more, family, after) if part)
        if not name and (organisation := self.first("ORG")):
            name = ", ".join(part for part in map(unescaped, compound(organisation.value)) if part.strip())
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
    return " ".join(filter(None, (unescaped(word).strip() for word in compound(part, ","))))


def refused(why: str, condition: str = "valid-address-data") -> Violated:
    """The error of a card that is not stored."""
    return Violated(condition, why, Namespace.CARDDAV)


def read_card(data: bytes, limits: CardLimits | None = None) -> Card:
    """The one card that `data` is. Raises Violated."""
    limits = limits or CardLimits()
    if len(data) > limits.max_size:
        raise refused("The card is larger than this server takes.", "max-resource-size")
    found = _CONTROL.search(data)
    if found is not None:
        raise refused("The card contains control characters.")
    fields = _fields(data, limits)
    if not fields or fields[0].name != "BEGIN" or fields[0].value.strip().upper() != "VCARD":
        raise refused("This is not a vCard: it does not begin with BEGIN:VCARD.")
    if fields[-1].name != "END" or fields[-1].value.strip().upper() != "VCARD":
        raise refused("The vCard is cut off: it does not end with END:VCARD.")
    inner = fields[1:-1]
    if any(one.name in ("BEGIN", "END") for one in inner):
        raise refused("One address object holds exactly one vCard.")
    return Card(_version(inner), tuple(inner))


def _fields(data: bytes, limits: CardLimits) -> list[Field]:
    fields: list[Field] = []
    try:
        for one in read_fields(data):
            fields.append(one)
            if len(fields) > limits.max_fields:
                raise refused(f"A card has at most {limits.max_fields} properties here.")
    except LineError as error:
        raise refused(f"Line {error.number} is not one of a vCard.") from None
    except UnicodeDecodeError:
        raise refused("The card is not in UTF-8.") from None
    return fields


def _version(fields: list[Field]) -> str:
    versions = {one.value.strip() for one in fields if one.name == "VERSION"}
    if not versions:
        raise refused("The vCard does not say its VERSION.")
    if len(versions) > 1:
        raise refused("The vCard says two versions.")
    return versions.pop()


def checked(data: bytes, limits: CardLimits | None = None) -> Card:
    """The card that `data` is, if it may be stored. Raises Violated."""
    limits = limits or CardLimits()
    card = read_card(data, limits)
    if card.version not in VERSIONS:
        raise refused(
            "This server keeps vCard 3.0 and 4.0; import vCard 2.1 with the provider's import, which converts it."
            if card.version == "2.1"
            else "This server keeps vCard 3.0 and 4.0.",
            "supported-address-data",
        )
    uids = {unescaped(one.value).strip() for one in card.all("UID")} - {""}
    if not uids:
        raise refused("The vCard has no UID.")
    if len(uids) > 1:
        raise refused("The vCard has two UIDs.")
    if len(next(iter(uids))) > limits.max_uid:
        raise refused("The UID of the vCard is too long.")
    return card


def begins_like_a_card(data: bytes) -> bool:
    """Whether it may be a vCard at all, for who has to tell files apart."""
    return data[without_bom(data) :][:200].lstrip().upper().startswith(b"BEGIN:VCARD")

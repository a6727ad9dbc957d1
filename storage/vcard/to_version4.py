"""vCard 3.0 to 4.0, property by property (RFC 6350 appendix A). See storage.vcard.convert."""

from __future__ import annotations

import re
from collections.abc import Iterator

from storage.icalendar.contentlines import Property, escaped, text
from storage.vcard.card import Card
from storage.vcard.dates import read_date
from storage.vcard.labels import Labels, related_type
from storage.vcard.properties import encoding, having, made, types

MEDIA = {"PHOTO": "image/jpeg", "LOGO": "image/jpeg", "SOUND": "audio/basic", "KEY": "application/pgp-keys"}
_TYPED = {"x509": "application/pkix-cert", "pgp": "application/pgp-keys", "jpg": "image/jpeg", "wave": "audio/wav"}
_MAGIC = {"/9j/": "image/jpeg", "iVBOR": "image/png", "R0lG": "image/gif", "Qk": "image/bmp", "UklGR": "image/webp"}

_DATES = {
    "BDAY": "BDAY",
    "ANNIVERSARY": "ANNIVERSARY",
    "X-ANNIVERSARY": "ANNIVERSARY",
    "X-EVOLUTION-ANNIVERSARY": "ANNIVERSARY",
}
_RENAMED = {
    "X-ADDRESSBOOKSERVER-KIND": "KIND",
    "X-ADDRESSBOOKSERVER-MEMBER": "MEMBER",
    "X-GENDER": "GENDER",
    "X-LANG": "LANG",
    "X-CLIENTPIDMAP": "CLIENTPIDMAP",
    "X-XML": "XML",
}
KEPT_AS_X = ("CLASS", "MAILER", "NAME")  # vCard 4 has them no more
_RELATED = {"X-SPOUSE": "spouse", "X-EVOLUTION-SPOUSE": "spouse"}

_VALUES = {"url": "uri", "phone-number": "", "binary": "", "vcard": ""}  # of vCard 3 alone

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,30}:\S")
_OFFSET = re.compile(r"([+-]\d{2}):?(\d{2})?\Z", re.ASCII)
_COORDINATES = re.compile(r"\s*(-?\d{1,3}(?:\.\d{1,20})?)\s*;\s*(-?\d{1,3}(?:\.\d{1,20})?)\s*\Z", re.ASCII)


def to_version4(card: Card) -> Iterator[Property]:
    """Its properties without VERSION."""
    labels, addresses = Labels(card), _AddressLabels(card)
    sort_as = card.text("SORT-STRING")
    has_kind = any(one.name in ("KIND", "X-ADDRESSBOOKSERVER-KIND") for one in card.properties)
    if not card.text("FN"):
        yield made("FN", escaped(card.display_name))
    for one in card.properties:
        if one.name in ("VERSION", "PROFILE", "SORT-STRING", "LABEL") or (one.name == "FN" and not one.value.strip()):
            continue
        if one.name == "X-ABSHOWAS":
            if not has_kind and one.value.strip().upper() == "COMPANY":
                yield made("KIND", "org")
        elif one.name == "ADR":
            yield _address(one, addresses)
        elif one.name == "N":
            yield having(_common(one), ("SORT-AS", [sort_as] if sort_as else []))
        elif one.name != "X-ABLABEL" or not _is_said_elsewhere(labels, one):
            yield _property(labels, one)
    for label in addresses.left():
        yield having(_common(label), ("LABEL", [text(label.value)]), name="ADR", value=";;;;;;")


class _AddressLabels:
    """LABEL properties, each of which belongs to the address of its group or of its types (RFC 2426 §3.2.2)."""

    def __init__(self, card: Card) -> None:
        self._labels = {id(one): one for one in card.all("LABEL") if one.value.strip()}
        self._by_group: dict[str, list[Property]] = {}
        self._by_types: dict[frozenset[str], list[Property]] = {}
        for one in self._labels.values():
            if one.group:
                self._by_group.setdefault(one.group.lower(), []).append(one)
            self._by_types.setdefault(_places(one), []).append(one)

    def take(self, address: Property) -> Property | None:
        """The label of an address, once."""
        for found in (self._by_group.get(address.group.lower(), []), self._by_types.get(_places(address), [])):
            while found:
                label = self._labels.pop(id(found.pop(0)), None)
                if label is not None:
                    return label
        return None

    def left(self) -> list[Property]:
        """Those of addresses that the card does not have."""
        return list(self._labels.values())


def _places(one: Property) -> frozenset[str]:
    return frozenset(types(one)) - {"pref"}


def _property(labels: Labels, one: Property) -> Property:
    name = one.name
    if name in MEDIA:
        return _media(one)
    if name in _DATES or (name == "X-ABDATE" and labels.of(one).lower() == "anniversary"):
        return _date(one, _DATES.get(name, "ANNIVERSARY"))
    if name == "X-ABRELATEDNAMES":
        kind = related_type(labels.of(one))
        is_uri = (one.parameter("VALUE") or "").lower() in ("uri", "url")
        value = ("VALUE", [] if is_uri else ["text"])
        return having(one, ("TYPE", [kind] if kind else []), value, name="RELATED")
    if name in _RELATED:
        return having(one, ("VALUE", ["text"]), ("TYPE", [_RELATED[name]]), name="RELATED")
    if name == "AGENT":
        if (one.parameter("VALUE") or "").lower() in ("uri", "url"):
            return having(one, ("TYPE", ["agent"]), without=["VALUE"], name="RELATED")
        return having(one, name="X-AGENT")
    if name == "GEO":
        match = _COORDINATES.match(one.value)
        return having(one, value=f"geo:{match[1]},{match[2]}") if match else one
    if name == "TZ":
        offset = _OFFSET.match(one.value.strip())
        plain = having(one, without=["VALUE"])
        return having(plain, ("VALUE", ["utc-offset"]), value=f"{offset[1]}{offset[2] or '00'}") if offset else plain
    if name == "REV":
        date = read_date(one.value)
        return having(one, without=["VALUE"], value=date.basic() if date else one.value)
    if name == "UID":
        return having(one, ("VALUE", [] if _URI.match(one.value) else ["text"]))
    if name in KEPT_AS_X:
        return having(_common(one), name=f"X-{name}")
    return having(_common(one), name=_RENAMED.get(name, name), value=_renamed_value(name, one.value))


def _renamed_value(name: str, value: str) -> str:
    return value.lower() if name == "X-ADDRESSBOOKSERVER-KIND" else value


def _common(one: Property) -> Property:
    """Types in their new form: PREF apart, no INTERNET, nothing without a name."""
    said = types(one)
    kept = [word for word in dict.fromkeys(said) if word not in ("pref", "internet")]
    preferred = ["1"] if "pref" in said and not one.parameter("PREF") else []
    bare = [name for name, values in one.parameters if not values]
    value = (one.parameter("VALUE") or "").lower()
    return having(
        one,
        ("TYPE", kept),
        *([("PREF", preferred)] if preferred else []),
        ("VALUE", [_VALUES.get(value, value)] if _VALUES.get(value, value) else []),
        without=["CHARSET", "ENCODING", *bare],
    )


def _media(one: Property) -> Property:
    """A photo and the like: inline data becomes a data: URI (RFC 6350 §6.2.4)."""
    said = types(one)
    plain = _common(one)
    if encoding(one) != "B":
        return having(plain, without=["TYPE", "VALUE"]) if _URI.match(one.value) else plain
    value = "".join(one.value.split())
    named = [word for word in said if word not in ("pref", "home", "work")]
    media = _TYPED.get(named[0], "") if named else ""
    if not media and named:
        media = named[0] if "/" in named[0] else f"{MEDIA[one.name].partition('/')[0]}/{named[0]}"
    if not media:
        media = next((media for magic, media in _MAGIC.items() if value.startswith(magic)), MEDIA[one.name])
    places = [word for word in said if word in ("home", "work")]
    return having(plain, ("TYPE", places), without=["VALUE"], value=f"data:{media};base64,{value}")


def _date(one: Property, name: str) -> Property:
    date = read_date(one.value, one.parameter("X-APPLE-OMIT-YEAR") or "")
    plain = having(one, without=["VALUE", "X-APPLE-OMIT-YEAR", "TYPE", "CHARSET"], name=name)
    if date is not None:
        plain.value = date.basic()
    elif one.value.strip():
        plain = having(plain, ("VALUE", ["text"]))
    return plain


def _address(one: Property, labels: _AddressLabels) -> Property:
    """An address with the label that was written for it (RFC 6350 §6.3.1)."""
    plain = _common(one)
    label = labels.take(one) if one.parameter("LABEL") is None else None
    return having(plain, ("LABEL", [text(label.value)])) if label is not None else plain


def _is_said_elsewhere(labels: Labels, label: Property) -> bool:
    """Whether a label stands beside what has a type for it in vCard 4."""
    beside = labels.labelled(label)
    if beside is None:
        return False
    return (beside.name == "X-ABDATE" and labels.of(beside).lower() == "anniversary") or (
        beside.name == "X-ABRELATEDNAMES" and bool(related_type(labels.of(beside)))
    )

"""vCard 4.0 to 3.0, property by property. See storage.vcard.convert."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from itertools import count
from urllib.parse import unquote_to_bytes

from storage.icalendar.contentlines import Property, escaped, split, text
from storage.vcard.card import Card
from storage.vcard.dates import LEAP_YEAR, CardDate, read_date
from storage.vcard.labels import RELATED, Labels, apple
from storage.vcard.properties import encoding, having, made, types

_MEDIA = ("PHOTO", "LOGO", "SOUND", "KEY")
_TYPED = {
    "application/pgp-keys": "PGP",
    "application/pkix-cert": "X509",
    "image/svg+xml": "SVG",
    "audio/wav": "WAVE",
}
_KEPT_AS_X = ("GENDER", "LANG", "CLIENTPIDMAP", "XML")
_BACK = {"X-CLASS": "CLASS", "X-MAILER": "MAILER", "X-NAME": "NAME", "X-AGENT": "AGENT"}
_UNKNOWN = ("PREF", "ALTID", "PID", "MEDIATYPE", "CALSCALE", "SORT-AS", "LABEL", "GEO", "TZ")  # parameters
_OFFSET = re.compile(r"([+-]\d{2}):?(\d{2})?\Z", re.ASCII)


def to_version3(card: Card) -> Iterator[Property]:
    """Its properties without VERSION."""
    preferred, labels = _preferred(card), Labels(card)
    used = {one.group.lower() for one in card.properties if one.group}
    groups = (f"item{number}" for number in count(1) if f"item{number}" not in used)
    seen: set[tuple[str, str]] = set()
    names = {one.name for one in card.properties if one.value.strip()}
    if "N" not in names:
        yield made("N", _structured(card))
    if "FN" not in names:
        yield made("FN", escaped(card.display_name))
    for one in card.properties:
        if one.name == "VERSION" or (one.name in ("N", "FN") and not one.value.strip()):
            continue
        alternative = one.parameter("ALTID") or ("" if one.name in ("N", "BDAY", "ANNIVERSARY") else None)
        if alternative is not None:  # the same in another language: vCard 3 takes one
            if (one.name, alternative) in seen:
                continue
            seen.add((one.name, alternative))
        yield from _property(labels, one, id(one) in preferred, groups)


def _preferred(card: Card) -> set[int]:
    """The most preferred property of each name that says PREF (RFC 6350 §5.3)."""
    best: dict[str, tuple[int, int]] = {}
    for one in card.properties:
        said = one.parameter("PREF") or ""
        if said.isascii() and said.isdigit() and len(said) <= 3:
            best[one.name] = min(best.get(one.name, (1000, 0)), (int(said), id(one)))
    return {identity for _, identity in best.values()}


def _structured(card: Card) -> str:
    """N, which vCard 3 demands: of a person's name the last word is taken for the family's."""
    if card.kind in ("org", "group", "location", "application"):
        return ";;;;"
    given, _, family = card.display_name.strip().rpartition(" ")
    return f"{escaped(family)};{escaped(given)};;;"


def _property(labels: Labels, one: Property, is_preferred: bool, groups: Iterator[str]) -> Iterator[Property]:
    name = one.name
    plain = _common(one, is_preferred)
    if name in _MEDIA:
        yield _media(one, plain)
    elif name == "BDAY":
        yield _date(one, plain)
    elif name == "ANNIVERSARY":
        date = _date(one, plain)
        date.name = "X-ABDATE"
        date.group = one.group or next(groups)
        yield date
        if not labels.of(one):
            yield made("X-ABLABEL", apple("Anniversary"), group=date.group)
    elif name == "RELATED":
        yield from _related(labels, one, plain, groups)
    elif name == "KIND":
        yield from _kind(one)
    elif name == "MEMBER":
        yield having(one, without=[*_UNKNOWN, "VALUE"], name="X-ADDRESSBOOKSERVER-MEMBER")
    elif name == "ADR":
        yield plain
        label = one.parameter("LABEL")
        if label:
            yield made("LABEL", escaped(label), ("TYPE", types(plain)), group=one.group)
    elif name == "N":
        yield plain
        if sort_as := ",".join(one.values_of("SORT-AS")):
            yield made("SORT-STRING", escaped(sort_as))
    elif name == "GEO":
        latitude, comma, longitude = one.value.strip().removeprefix("geo:").partition(";")[0].partition(",")
        yield having(plain, without=["VALUE"], value=f"{latitude};{longitude.split(',')[0]}" if comma else one.value)
    elif name == "TZ":
        offset = _OFFSET.match(one.value.strip())
        value = f"{offset[1]}:{offset[2] or '00'}" if offset else one.value
        yield having(plain, ("VALUE", [] if offset else ["text"]), value=value)
    elif name == "REV":
        date_of = read_date(one.value)
        yield having(plain, without=["VALUE"], value=(date_of and date_of.extended()) or one.value)
    elif name == "UID":
        yield having(plain, without=["VALUE"])
    elif name == "TEL":
        yield _telephone(one, plain)
    else:
        yield having(plain, name=f"X-{name}" if name in _KEPT_AS_X else _BACK.get(name, name))


def _common(one: Property, is_preferred: bool) -> Property:
    said = [*types(one), *(["pref"] if is_preferred else [])]
    return having(one, ("TYPE", said), without=_UNKNOWN)


def _media(one: Property, plain: Property) -> Property:
    """A data: URI becomes inline data (RFC 2426 §2.4)."""
    scheme, _, rest = one.value.strip().partition(":")
    if scheme.lower() != "data":
        if encoding(one) == "B":  # vCard 3 within vCard 4, as some programs write it
            return having(plain, ("ENCODING", ["b"]), ("TYPE", [word.upper() for word in types(one)]))
        return having(plain, ("VALUE", ["uri"]))
    about, _, content = rest.partition(",")
    media, *parameters = about.split(";")
    if not any(word.strip().lower() == "base64" for word in parameters):
        content = base64.b64encode(unquote_to_bytes(content)).decode("ascii")
    else:
        content = "".join(content.split()).replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
    media = media.strip().lower()
    kind = _TYPED.get(media) or media.rpartition("/")[2].removeprefix("x-").upper()
    places = [word for word in types(plain) if word in ("home", "work", "pref")]
    return having(
        plain, ("ENCODING", ["b"]), ("TYPE", [*([kind] if kind else []), *places]), without=["VALUE"], value=content
    )


def _date(one: Property, plain: Property) -> Property:
    """A day without a year as Apple writes it; other parts of a date as text."""
    plain = having(plain, without=["VALUE", "TYPE"])
    date = None if (one.parameter("VALUE") or "").lower() == "text" else read_date(one.value)
    if date is None:
        return having(plain, ("VALUE", ["text"]))
    full = date.extended()
    if full is not None:
        plain.value = full
        return having(plain, ("VALUE", [] if date.time else ["date"]))
    if date.is_day:
        value = CardDate(LEAP_YEAR, date.month, date.day).extended()
        assert value is not None
        return having(plain, ("VALUE", ["date"]), ("X-APPLE-OMIT-YEAR", [str(LEAP_YEAR)]), value=value)
    return having(plain, ("VALUE", ["text"]), value=date.basic())


def _related(labels: Labels, one: Property, plain: Property, groups: Iterator[str]) -> Iterator[Property]:
    kinds = types(one)
    is_text = (one.parameter("VALUE") or "").lower() == "text"
    if "agent" in kinds and not is_text:
        yield having(plain, ("VALUE", ["uri"]), without=["TYPE"], name="AGENT")
        return
    related = having(plain, ("VALUE", [] if is_text else ["uri"]), without=["TYPE"], name="X-ABRELATEDNAMES")
    if not kinds or labels.of(one):
        yield related
        return
    related.group = one.group or next(groups)
    yield related
    label = next((RELATED[word] for word in kinds if word in RELATED), kinds[0].capitalize())
    yield made("X-ABLABEL", apple(label), group=related.group)


def _kind(one: Property) -> Iterator[Property]:
    kind = text(one.value).strip().lower()
    if kind == "org":
        yield made("X-ABSHOWAS", "COMPANY")
    elif kind != "individual":
        yield made("X-ADDRESSBOOKSERVER-KIND", escaped(kind))


def _telephone(one: Property, plain: Property) -> Property:
    """A tel: URI as the number that people write (RFC 3966 §5.3)."""
    scheme, _, number = one.value.strip().partition(":")
    if scheme.lower() != "tel":
        return having(plain, without=["VALUE"])
    number, *rest = split(number, ";")
    extension = next((part[4:] for part in rest if part.lower().startswith("ext=")), "")
    return having(plain, without=["VALUE"], value=f"{number} x{extension}" if extension else number)

"""The record of a domain, parsed whole before any of it is evaluated: an error anywhere is found (RFC 7208 §4.6).

Raises: PermError. Standards: RFC 7208 §4.5, §4.6, §5, §6, §12 (the grammar).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.spf.macros import MacroString, PermError, parse_domain, parse_string
from gateway.spf.result import Spf

OCTETS = 16_384  # of one record: some thousand addresses; what is longer is an attack on our time
KNOWN, KNOWN_OCTETS = 1000, 1000  # records that are kept parsed, and how long they may be

QUALIFIERS = {"+": Spf.PASS, "-": Spf.FAIL, "~": Spf.SOFTFAIL, "?": Spf.NEUTRAL}

_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)\Z", re.DOTALL)
_DUAL_CIDR = re.compile(r"(.*?)(?:/([0-9]+))?(?://([0-9]+))?\Z", re.DOTALL)
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,2})\Z")


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One directive. What it needs of `domain`, `network` and prefixes depends on its name."""

    name: str
    qualifier: Spf
    text: str  # as published
    domain: MacroString | None = None  # None: the domain that is being checked
    network: IPv4Network | IPv6Network | None = None
    prefix4: int = 32
    prefix6: int = 128


@dataclass(frozen=True, slots=True)
class Record:
    mechanisms: tuple[Mechanism, ...]
    redirect: MacroString | None = None
    explanation: MacroString | None = None


def select(texts: Iterable[bytes]) -> bytes | None:
    """The SPF record among TXT records, if there is one (§4.5). Raises PermError if there are several."""
    found = [text for text in texts if text[:6].lower() == b"v=spf1" and text[6:7] in (b"", b" ")]
    if len(found) > 1:
        raise PermError("several SPF records")
    return found[0] if found else None


def parse(octets: bytes) -> Record:
    """Of a record that `select` returned."""
    if len(octets) > OCTETS:
        raise PermError("the record is too long")
    return _parse_known(octets) if len(octets) <= KNOWN_OCTETS else _parse(octets)


def _parse(octets: bytes) -> Record:
    try:
        text = octets.decode("ascii")
    except UnicodeDecodeError:
        raise PermError("the record is not ASCII") from None  # §3.1
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, MacroString] = {}
    for term in text[6:].split(" "):
        if not term:
            continue
        modifier = _MODIFIER.match(term)
        if modifier is None:
            mechanisms.append(_mechanism(term))
            continue
        name, value = modifier[1].lower(), modifier[2]
        if name not in ("redirect", "exp"):
            parse_string(value)  # §6: unknown ones are ignored, but are written rightly
        elif name in modifiers:
            raise PermError(f"{name}= stands twice")  # §6
        else:
            modifiers[name] = parse_domain(value)
    return Record(tuple(mechanisms), modifiers.get("redirect"), modifiers.get("exp"))


# Large senders' records come with every message; parsing one costs more than evaluating it.
_parse_known = lru_cache(KNOWN)(_parse)


def _mechanism(term: str) -> Mechanism:
    qualifier, rest = (term[0], term[1:]) if term[0] in QUALIFIERS else ("+", term)
    result = QUALIFIERS[qualifier]
    name = re.split("[:/]", rest, maxsplit=1)[0].lower()
    value = rest[len(name) :]
    if name == "all" and not value:
        return Mechanism(name, result, term)
    if name in ("include", "exists"):
        return Mechanism(name, result, term, _required(value))
    if name == "ptr":
        return Mechanism(name, result, term, _required(value) if value else None)
    if name in ("a", "mx"):
        value, prefix4, prefix6 = _prefixes(value)
        return Mechanism(name, result, term, _required(value) if value else None, None, prefix4, prefix6)
    if name in ("ip4", "ip6") and value.startswith(":"):
        return Mechanism(name, result, term, None, _network(name, value[1:]))
    raise PermError("a term is no mechanism and no modifier")


def _required(value: str) -> MacroString:
    if not value.startswith(":"):
        raise PermError("a mechanism lacks its domain")
    return parse_domain(value[1:])


def _prefixes(value: str) -> tuple[str, int, int]:
    """Splits `dual-cidr-length` off (§5.3)."""
    found = _DUAL_CIDR.match(value)
    assert found is not None
    return found[1], _prefix(found[2], 32), _prefix(found[3], 128)


def _prefix(digits: str | None, most: int) -> int:
    if digits is None:
        return most
    if not _NUMBER.match(digits) or int(digits) > most:
        raise PermError("a prefix length is none")
    return int(digits)


def _network(name: str, value: str) -> IPv4Network | IPv6Network:
    """§5.6."""
    address, slash, digits = value.partition("/")
    try:
        if name == "ip4":
            return IPv4Network((IPv4Address(address), _prefix(digits if slash else None, 32)), strict=False)
        if "%" in address:  # a zone is no part of an address in a record
            raise PermError("an address is none")
        return IPv6Network((IPv6Address(address), _prefix(digits if slash else None, 128)), strict=False)
    except AddressValueError:
        raise PermError("an address is none") from None

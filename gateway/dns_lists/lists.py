"""Which DNS lists are asked, what of their answers counts, and for how much; read from short texts.

    bl.example.org                                  each of its answers within 127.0.0.0/8 counts as one point
    zen.example.org=127.0.0.2,127.0.0.4             only these answers count
    zen.example.org=127.0.0.8/29:2.5                and they count for 2.5 points
    zen.example.org=127.0.0.2:reject                who is listed so is refused
    allow.example.org=127.0.0.0/16:-1               a list of good servers takes points away

A zone may be named several times, with answers of its own each time; DNS is asked once.

Raises: InvalidInput, with a sentence. Standards: RFC 5782 §2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from ipaddress import IPv4Network

from storage.errors import InvalidInput
from storage.values import Domain

LOOPBACK = IPv4Network("127.0.0.0/8")
_WEIGHT_MAX = 100.0


@dataclass(frozen=True, slots=True)
class DnsList:
    """One entry of the configuration."""

    zone: str
    answers: tuple[IPv4Network, ...] = (LOOPBACK,)
    weight: float = 1.0  # points
    rejects: bool = False

    @classmethod
    def parse(cls, text: str) -> DnsList:
        rest, colon, effect = text.strip().partition(":")
        zone, equals, answers = rest.partition("=")
        try:
            name = Domain.parse(zone.strip().removesuffix(".")).name
        except InvalidInput:
            raise InvalidInput(f"'{zone.strip()[:80]}' is no zone of a DNS list.") from None
        networks = tuple(_answer(each, name) for each in answers.split(",")) if equals else (LOOPBACK,)
        effect = effect.strip()
        if not colon:
            return cls(name, networks)
        if effect == "reject":
            return cls(name, networks, rejects=True)
        return cls(name, networks, _weight(effect, name))


@dataclass(frozen=True, slots=True)
class Listing:
    """A DNS list names the client."""

    zone: str
    answers: tuple[str, ...]  # the ones that count, sorted
    weight: float = 1.0
    rejects: bool = False


def parse_lists(texts: tuple[str, ...]) -> tuple[DnsList, ...]:
    return tuple(DnsList.parse(text) for text in texts)


def _answer(text: str, zone: str) -> IPv4Network:
    try:
        network = IPv4Network(text.strip())
    except ValueError:
        network = None
    if network is None or not network.subnet_of(LOOPBACK):
        raise InvalidInput(
            f"'{text.strip()[:80]}' is no answer of the DNS list {zone}; answers are addresses"
            " or networks within 127.0.0.0/8, such as 127.0.0.2."
        )
    return network


def _weight(text: str, zone: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not -_WEIGHT_MAX <= weight <= _WEIGHT_MAX or not weight:
        raise InvalidInput(
            f"'{text[:80]}' says not what the DNS list {zone} does: 'reject', or points from -100 to 100 such as 2.5."
        )
    return weight

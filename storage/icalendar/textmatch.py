"""Whether a text matches what a query asks for: collations, ways of comparing, negation.

Calendars and address books ask in the same words (RFC 4791 §9.7.5, RFC 6352 §10.5.4); they differ in the collation that
is meant when none is named. What is looked for is made comparable once, each value when it is compared; both linear.

Raises: Violated (supported-collation) for a collation that is not there.
Standards: RFC 4790 §9 (i;ascii-casemap, i;octet), RFC 5051 (i;unicode-casemap).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from storage.collections.conditions import Namespace, Violated
from storage.mime.casemap import casemap

_LOWER = {letter: letter - 32 for letter in range(ord("a"), ord("z") + 1)}


class Collation(StrEnum):
    ASCII = "i;ascii-casemap"
    OCTET = "i;octet"
    UNICODE = "i;unicode-casemap"

    @classmethod
    def named(cls, name: str, namespace: Namespace) -> Collation:
        """The collation that a request names; empty or "default" is its protocol's own."""
        if name in ("", "default"):
            return cls.UNICODE if namespace is Namespace.CARDDAV else cls.ASCII
        try:
            return cls(name)
        except ValueError:
            raise Violated("supported-collation", "This collation is not known here.", namespace) from None

    def fold(self, text: str) -> str:
        """`text` as it is compared octet by octet."""
        match self:
            case Collation.ASCII:
                return text.upper() if text.isascii() else text.translate(_LOWER)
            case Collation.UNICODE:
                return casemap(text)
            case Collation.OCTET:
                return text


class MatchType(StrEnum):
    EQUALS = "equals"
    CONTAINS = "contains"
    STARTS_WITH = "starts-with"
    ENDS_WITH = "ends-with"


@dataclass(frozen=True, slots=True)
class TextMatch:
    """What is looked for. CalDAV knows only `contains`; Apple's clients say more there too."""

    text: str = field(repr=False)
    collation: Collation = Collation.ASCII
    match_type: MatchType = MatchType.CONTAINS
    negate: bool = False
    _folded: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_folded", self.collation.fold(self.text))

    def matches(self, value: str) -> bool:
        """Whether `value` is what is looked for, or is not if that is asked."""
        return self._found(self.collation.fold(value)) is not self.negate

    def _found(self, value: str) -> bool:
        match self.match_type:
            case MatchType.EQUALS:
                return value == self._folded
            case MatchType.CONTAINS:
                return self._folded in value
            case MatchType.STARTS_WITH:
                return value.startswith(self._folded)
            case MatchType.ENDS_WITH:
                return value.endswith(self._folded)


_FOLD = re.compile(rb"\r*\n[ \t]")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_UNSURE = re.compile(r'[\\,;"^\x00-\x1f]')  # what values and parameters write in other octets than they mean


class Octets:
    """The octets of an object, asked what may be in it before anybody reads it. A no is certain, a yes is not."""

    __slots__ = ("_is_ascii", "_meant", "_raw")

    def __init__(self, data: bytes) -> None:
        self._is_ascii = data.isascii()
        self._raw = _FOLD.sub(b"", data).upper()
        # Parameters keep their backslashes, values do not: both are looked at.
        self._meant = _ESCAPE.sub(rb"\1", self._raw) if b"\\" in self._raw else self._raw

    def may_have(self, name: str) -> bool:
        """Whether there may be a component, property or parameter of this name, which is in upper case."""
        return name.encode() in self._raw

    def may_match(self, wanted: TextMatch | None) -> bool:
        """Whether some text of it may match."""
        if wanted is None or wanted.negate or _UNSURE.search(wanted.text):
            return True
        sought = wanted.text
        if wanted.collation is Collation.UNICODE:
            sought = casemap(sought)
            if not self._is_ascii or _UNSURE.search(sought):
                return True
        octets = sought.encode("utf-8", "surrogatepass").upper()
        return octets in self._raw or octets in self._meant

"""Macro strings of SPF: parsed once, with all their errors, and expanded for one message.

Raises: PermError for a string that the grammar does not have; NotAscii where an expansion would need a local part that
no ASCII record can match (RFC 8616 §4).

Standards: RFC 7208 §7.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

LETTERS = frozenset("slodiphv")
EXPLAINING = LETTERS | frozenset("crt")  # §7.2: c, r and t only in explanations

_EXPAND = re.compile(r"%(?:([%_-])|\{([A-Za-z])([0-9]*)([Rr]?)([.\-+,/_=]*)\})")
_LITERAL = re.compile(r"[\x21-\x24\x26-\x7e]+\Z")
_LITERAL_OR_SPACE = re.compile(r"[\x20-\x24\x26-\x7e]+\Z")
# §7.1: domain-end; a top label is of letters, digits and hyphens, and not of digits alone.
_TOP_LABEL = re.compile(r"\.(?=[A-Za-z0-9-]*[A-Za-z-])[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?\Z")
_ESCAPES = {"%": "%", "_": " ", "-": "%20"}
NAME_OCTETS = 253


class PermError(Exception):
    """The record is wrong; the text says where, in words of ours and of the record."""


class NotAscii(Exception):  # noqa: N818 - no error: a term that cannot match
    pass


@dataclass(frozen=True, slots=True)
class Macro:
    letter: str  # as written: in capitals its value is escaped as in URLs
    keep: int  # of the parts on the right; 0: all
    reverse: bool
    delimiters: str

    def expand(self, values: Mapping[str, str]) -> str:
        value = values[self.letter.lower()]
        if not value.isascii():
            raise NotAscii
        if self.keep or self.reverse or self.delimiters != ".":
            parts = re.split(f"[{re.escape(self.delimiters)}]", value)
            if self.reverse:
                parts.reverse()
            value = ".".join(parts[-self.keep :])
        return urllib.parse.quote(value, safe="") if self.letter.isupper() else value


@dataclass(frozen=True, slots=True)
class MacroString:
    parts: tuple[str | Macro, ...]

    @property
    def letters(self) -> frozenset[str]:
        return frozenset(part.letter.lower() for part in self.parts if isinstance(part, Macro))

    def expand(self, values: Mapping[str, str]) -> str:
        return "".join(part if isinstance(part, str) else part.expand(values) for part in self.parts)

    def name(self, values: Mapping[str, str]) -> str:
        """The expansion as a domain name, cut from the left until DNS takes it (§7.3).

        Only what is left of it is expanded: a long record of nothing but macros would come to a megabyte.
        """
        if not all(values[letter].isascii() for letter in self.letters):
            raise NotAscii
        name = ""
        for part in reversed(self.parts):
            if len(name) > NAME_OCTETS + 1:
                break
            name = (part if isinstance(part, str) else part.expand(values)) + name
        name = name.removesuffix(".")
        if len(name) <= NAME_OCTETS:
            return name
        fits = name.find(".", len(name) - NAME_OCTETS - 1)
        return name[(fits if fits >= 0 else name.rfind(".")) + 1 :]


def parse_string(text: str, *, letters: frozenset[str] = LETTERS, spaces: bool = False) -> MacroString:
    """`macro-string`, or `explain-string` with spaces. Empty is fine."""
    literal = _LITERAL_OR_SPACE if spaces else _LITERAL
    parts: list[str | Macro] = []
    position = 0
    while position < len(text):
        found = _EXPAND.match(text, position)
        if found is not None:
            escaped, letter, digits, reverse, delimiters = found.groups()
            parts.append(_ESCAPES[escaped] if escaped else _macro(letter, digits, reverse, delimiters, letters))
            position = found.end()
            continue
        end = text.find("%", position)
        piece = text[position : end if end >= 0 else len(text)]
        if not literal.match(piece):
            raise PermError("a character or a % that macros do not allow")
        parts.append(piece)
        position += len(piece)
    return MacroString(tuple(parts))


def parse_domain(text: str) -> MacroString:
    """`domain-spec`: it ends in a macro or in a dot and a top label (§7.1)."""
    macros = parse_string(text)
    if not macros.parts:
        raise PermError("a domain is missing")
    # The last piece of text decides, unless a macro (or %%, %_, %-) stands at the end.
    tail = text[max((found.end() for found in _EXPAND.finditer(text)), default=0) :]
    if tail and not _TOP_LABEL.search(tail):
        raise PermError("a domain does not end in a top-level label")
    return macros


def _macro(letter: str, digits: str, reverse: str, delimiters: str, letters: frozenset[str]) -> Macro:
    if letter.lower() not in letters:
        raise PermError(f"macro %{{{letter}}} is not defined here")
    keep = int(digits[:4]) if digits else 0
    if digits and not keep:
        raise PermError("a macro keeps none of its parts")  # §7.3: zero is an error
    return Macro(letter, keep, bool(reverse), delimiters or ".")

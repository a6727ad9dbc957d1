"""Mailbox patterns of LIST: "*" matches anything, "%" anything within one level of the hierarchy.

Matching takes time in proportion to the name, whatever the pattern: the possible positions in the pattern are bits of
one number. (Regular expressions would take exponential or polynomial time on hostile patterns.)

Standards: RFC 9051 §6.3.9.
"""

from __future__ import annotations

import re

_WILD = re.compile(r"[*%]+")


class Pattern:
    """One canonical pattern."""

    __slots__ = ("_any", "_end", "_letters", "_level", "_wild")

    def __init__(self, text: str) -> None:
        text = _WILD.sub(lambda run: "*" if "*" in run[0] else "%", text)
        head, slash, rest = text.partition("/")
        if head.upper() == "INBOX":  # RFC 9051 §5.1: in any case
            text = "INBOX" + slash + rest
        self._letters: dict[str, int] = {}
        self._any = self._level = 0
        for position, letter in enumerate(text):
            bit = 1 << position
            if letter == "*":
                self._any |= bit
            elif letter == "%":
                self._level |= bit
            else:
                self._letters[letter] = self._letters.get(letter, 0) | bit
        self._wild = self._any | self._level
        self._end = 1 << len(text)

    def matches(self, name: str) -> bool:
        wild, letters, everything = self._wild, self._letters, self._any
        here = 1 | ((1 & wild) << 1)
        for letter in name:
            stays = here & (everything if letter == "/" else wild)
            here = ((here & letters.get(letter, 0)) << 1) | stays
            here |= (here & wild) << 1  # a wildcard may match nothing; two never stand side by side
            if not here:
                return False
        return bool(here & self._end)

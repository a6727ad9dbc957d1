"""Reads the results in an ARC-Authentication-Results or Authentication-Results field.

Linear in the value, of which at most `OCTETS` are read and `RESULTS` results kept. What is not written as RFC 8601 says
is passed over up to the next semicolon. Never fails.

Standards: RFC 8601 §2.2 (grammar), RFC 8617 §4.1.1 (the instance in front of it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OCTETS = 8192
RESULTS = 50
PROPERTIES = 20  # of one result

_PIECE = re.compile(r"[ \t\r\n]++|[^ \t\r\n\"();=]++|.", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_COMMENT_PIECE = re.compile(r"[^()\\]++|\\.|.", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_METHOD = re.compile(r"([a-z][a-z0-9-]*)(?:/[0-9]+)?\Z")
_RESULT = re.compile(r"[a-z][a-z0-9-]*\Z")
_PROPERTY = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True)
class MethodResult:
    """`dkim=pass header.d=example.org`: names and values in lower case, without quotes and comments."""

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()

    def property(self, name: str) -> str:
        """The value of a property ("header.d"); empty without it."""
        return next((value for found, value in self.properties if found == name), "")


def read_results(value: str) -> tuple[MethodResult, ...]:
    """The results of a field's value; its instance and its authserv-id are none."""
    found: list[MethodResult] = []
    for words in _parts(value[:OCTETS]):
        result = _result(words)
        if result is not None:
            found.append(result)
            if len(found) == RESULTS:
                break
    return tuple(found)


def _parts(value: str) -> list[list[str]]:
    """The words between semicolons, without blanks, comments and quotes; "name=" is one word, its value the next."""
    parts: list[list[str]] = [[]]
    joined = False  # what comes next belongs to the word before
    quotes = True  # once a quote has no end, none behind it is looked for again
    position, size = 0, len(value)
    while position < size:
        piece = _PIECE.match(value, position)
        assert piece is not None
        text, words = piece[0], parts[-1]
        position = piece.end()
        if text == "(":
            position = _comment_end(value, position)
            joined = False
        elif text == ";":
            parts.append([])
            joined = False
        elif text[0] in " \t\r\n":
            joined = False
        elif text == "=" and words and not words[-1].endswith("="):
            words[-1] += "="
            joined = False
        else:
            quoted = _QUOTED.match(value, piece.start()) if text == '"' and quotes else None
            if quoted is not None:
                text, position = _ESCAPE.sub(r"\1", quoted[1]), quoted.end()
            elif text == '"':
                quotes = False
            if joined:
                words[-1] += text
            else:
                words.append(text)
            joined = True
    return parts


def _comment_end(value: str, position: int) -> int:
    """Behind the comment whose "(" stands before `position`; the end of the value if it has none."""
    depth = 1
    for piece in _COMMENT_PIECE.finditer(value, position):
        if piece[0] == "(":
            depth += 1
        elif piece[0] == ")":
            depth -= 1
            if not depth:
                return piece.end()
    return len(value)


def _result(words: list[str]) -> MethodResult | None:
    pairs = [
        (words[index][:-1].lower(), words[index + 1].lower())
        for index in range(len(words) - 1)
        if words[index].endswith("=")
    ]
    if not pairs or not words[0].endswith("="):
        return None
    method = _METHOD.match(pairs[0][0])
    if method is None or method[1] == "i" or not _RESULT.match(pairs[0][1]):
        return None
    properties = tuple(pair for pair in pairs[1:] if _PROPERTY.match(pair[0]))
    return MethodResult(method[1], pairs[0][1], properties[:PROPERTIES])

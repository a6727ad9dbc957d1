"""Structured MIME field values: a token (or type/subtype) followed by parameters.

Tolerant where mail is broken: a missing quote, blanks around "=", values that are no token. Continuations of RFC
2231 are joined, their percent encoding is kept and the name then ends in "*", as clients expect it in BODYSTRUCTURE.

Never fails; linear time; at most `PARAMETERS_MAX` parameters in the first `OCTETS_MAX` octets are read.
Standards: RFC 2045 §5.1, RFC 2183 §2, RFC 2231 §3 and §4, RFC 3282 (Content-Language).
"""

from __future__ import annotations

import re
from itertools import islice

Parameters = tuple[tuple[bytes, bytes], ...]  # names in lower case

PARAMETERS_MAX = 1_000
OCTETS_MAX = 1 << 16  # of a value

_TOKEN = rb"[^\x00-\x20()<>@,;:\\\"/\[\]?=\x7f]"
_HEAD = re.compile(rb"[ \t\r\n]*(" + _TOKEN + rb"*+)[ \t\r\n]*(/?)[ \t\r\n]*(" + _TOKEN + rb"*+)")
_PARAMETER = re.compile(
    rb";[ \t\r\n]*(" + _TOKEN + rb"++)[ \t\r\n]*=[ \t\r\n]*"
    rb'(?:"((?:[^"\\]|\\.)*+)"?|([^;\x00-\x20"(]*+))',
    re.DOTALL,
)
_SECTION = re.compile(rb"([^*]++)\*(?:([0-9]{1,4})(\*?))?\Z")  # name*, name*0, name*0*
_FOLD = re.compile(rb"\r?\n")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_WORD = re.compile(rb'"(?:[^"\\]|\\.)*+"?|\(|\)|\\.|[^"()\\]++', re.DOTALL)
_LANGUAGE = re.compile(rb"[A-Za-z0-9*-]+")


def without_comments(value: bytes) -> bytes:
    """`value` with every comment replaced by a space; an unclosed one reaches to the end (RFC 5322 §3.2.2)."""
    if b"(" not in value:
        return value
    kept: list[bytes] = []
    depth = 0
    for match in _WORD.finditer(value):
        word = match[0]
        if word == b"(":
            depth += 1
            if depth == 1:
                kept.append(b" ")
        elif word == b")" and depth:
            depth -= 1
        elif depth and word[:1] == b'"':
            depth = max(0, depth + word.count(b"(") - word.count(b")"))  # quotes mean nothing inside a comment
        elif not depth:
            kept.append(word)
    return b"".join(kept)


def parse_type(value: bytes) -> tuple[bytes, bytes, Parameters]:
    """Type and subtype in lower case, either b"" when it is missing, and the parameters of a Content-Type value."""
    value = without_comments(value[:OCTETS_MAX])
    head = _HEAD.match(value)
    assert head is not None  # every piece of the expression may be empty
    return head[1].lower(), head[3].lower() if head[2] else b"", _parameters(value, head.end())


def parse_disposition(value: bytes) -> tuple[bytes, Parameters]:
    """The disposition in lower case and its parameters."""
    value = without_comments(value[:OCTETS_MAX])
    head = _HEAD.match(value)
    assert head is not None
    return head[1].lower(), _parameters(value, head.end(1))


def parse_token(value: bytes) -> bytes:
    """The first token in lower case, b"" when there is none (Content-Transfer-Encoding)."""
    head = _HEAD.match(without_comments(value[:OCTETS_MAX]))
    assert head is not None
    return head[1].lower()


def parse_languages(value: bytes) -> tuple[bytes, ...]:
    """The language tags of a Content-Language value."""
    return tuple(match[0] for match in islice(_LANGUAGE.finditer(without_comments(value[:OCTETS_MAX])), PARAMETERS_MAX))


def _parameters(value: bytes, position: int) -> Parameters:
    if b";" not in value[position:]:
        return ()
    found: list[tuple[bytes, bytes]] = []
    sectioned = False
    for match in islice(_PARAMETER.finditer(value, position), PARAMETERS_MAX):
        name, quoted, plain = match.groups()
        if quoted is not None:
            if b"\n" in quoted:
                quoted = _FOLD.sub(b"", quoted)
            plain = _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted
        found.append((name.lower(), plain))
        sectioned = sectioned or b"*" in name
    return _join_sections(found) if sectioned else tuple(found)


def _join_sections(found: list[tuple[bytes, bytes]]) -> Parameters:
    """RFC 2231 §3: name*0, name*1 … become one; where a number is missing they stay as they are."""
    plain: list[tuple[bytes, bytes]] = []
    sections: dict[bytes, list[tuple[int, bool, bytes, bytes]]] = {}
    for name, text in found:
        match = _SECTION.match(name)
        if match is None:
            plain.append((name, text))
        else:
            encoded = match[2] is None or bool(match[3])
            sections.setdefault(match[1], []).append((int(match[2] or b"0"), encoded, name, text))
    for name, pieces in sections.items():
        pieces.sort(key=lambda piece: piece[0])
        if [number for number, _, _, _ in pieces] != list(range(len(pieces))):
            plain.extend((whole, text) for _, _, whole, text in pieces)
        elif not any(encoded for _, encoded, _, _ in pieces):
            plain.append((name, b"".join([text for _, _, _, text in pieces])))
        else:
            start = b"" if pieces[0][1] else b"''"  # the first section is plain: no charset is named
            joined = [text if encoded else text.replace(b"%", b"%25") for _, encoded, _, text in pieces]
            plain.append((name + b"*", start + b"".join(joined)))
    return tuple(plain)

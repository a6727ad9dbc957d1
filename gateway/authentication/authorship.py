"""Whose message it is, as its From fields say: every address of every one of them.

Of "a@x.example <b@y.example>", which no grammar knows, some programs show the first address and others the second one.
Both are authors here, so that no forger chooses which of them is checked; and then it is not clear who it is.

Pure, never fails; linear; at most `ADDRESSES_MAX` addresses are read.

Standards: RFC 5322 §3.6.2 (one From field), RFC 9989 §5.3.1 and §11.5 (several domains, broken fields).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from gateway.dns.names import normal
from storage.mime.addresses import Address, parse_addresses
from storage.mime.fields import Header, unfold

ADDRESSES_MAX = 20
FIELDS_MAX = 10

# What stands for a part that is missing (storage.mime.addresses).
_BROKEN = frozenset((b"MISSING_DOMAIN", b"SYNTAX_ERROR"))
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+\Z")

# Of a field that is no list of addresses: what stands on both sides of an @, outside of quotes and comments.
_PIECE = re.compile(rb'[^"(\\]++|\\.|"(?:[^"\\]|\\.)*+"|.', re.DOTALL)
_COMMENT_PIECE = re.compile(rb"[^()\\]++|\\.|.", re.DOTALL)
_QUOTED = b"\x00"  # stands for a quoted string
_WRITTEN = re.compile(rb'([^\s<>@,;:()"\[\]\\]++)[ \t\r\n]*+@[ \t\r\n]*+([^\s<>@,;:()"\[\]\\\x00]++)')


@dataclass(frozen=True, slots=True)
class Authors:
    addresses: tuple[str, ...] = ()  # as written, without names; those that could be read
    domains: tuple[str, ...] = ()  # of these, in lower-case A-labels, each once, in order
    fields: int = 0  # From fields; RFC 5322 wants one
    unreadable: int = 0  # addresses without a domain that can be read, and domains that not everybody reads there

    @property
    def are_clear(self) -> bool:
        """Whether everybody reads the same authors: one From field, with addresses that all have a domain."""
        return self.fields == 1 and bool(self.domains) and not self.unreadable


def authors(header: Header) -> Authors:
    """The authors of a message, from all its From fields."""
    fields = [field for field in header.fields if field.name == b"from"]
    read: list[Address] = []
    written: list[Address] = []
    for field in fields[:FIELDS_MAX]:
        value = unfold(header.data[field.value : field.end])
        found = [each for each in parse_addresses(value, ADDRESSES_MAX - len(read)) if each.host is not None]
        read += found
        if value.count(b"@") > len(found):
            written += islice(_written(value), ADDRESSES_MAX)
        if len(read) >= ADDRESSES_MAX:
            break
    addresses: list[str] = []
    domains: dict[str, None] = {}
    for address in read:
        domain = _domain(address)
        if domain is not None:
            addresses.append(_text(address, domain))
            domains[domain] = None
    cut = header.is_cut or len(fields) > FIELDS_MAX or len(read) >= ADDRESSES_MAX or len(written) >= ADDRESSES_MAX
    unreadable = len(read) - len(addresses) + cut
    unreadable += _add(written, addresses, domains)
    return Authors(tuple(addresses), tuple(domains), len(fields), unreadable)


def _add(written: list[Address], addresses: list[str], domains: dict[str, None]) -> int:
    """Adds what else stands there, and says how many domains are new."""
    known, before = {each.casefold() for each in addresses}, len(domains)
    for address in written:
        domain = _domain(address)
        if domain is None:  # "Ann @ Home" is no address
            continue
        domains[domain] = None
        text = _text(address, domain)
        if address.mailbox != _QUOTED and text.casefold() not in known:
            addresses.append(text)
            known.add(text.casefold())
    return len(domains) - before


def _written(value: bytes) -> Iterator[Address]:
    """Whatever looks like an address; a route has nothing before its @."""
    text = b".".join(part.strip(b" \t\r\n") for part in _bare(value).split(b"."))
    for found in _WRITTEN.finditer(text):
        yield Address(None, None, found[1], found[2])


def _bare(value: bytes) -> bytes:
    """Without comments, and with `_QUOTED` for quoted strings. What has no end is neither."""
    bare: list[bytes] = []
    position, comments = 0, True
    while piece := _PIECE.match(value, position):
        position = piece.end()
        text = piece[0]
        if text == b"(" and comments:
            end = _comment_end(value, position)
            comments = end > 0  # without an end once, none is looked for again
            position = end or position
            bare.append(b" ")
        else:
            bare.append(_QUOTED if text[:1] == b'"' and len(text) > 1 else text)
    return b"".join(bare)


def _comment_end(value: bytes, position: int) -> int:
    """Behind the comment whose "(" stands before `position`; 0 if it has no end."""
    depth = 1
    for piece in _COMMENT_PIECE.finditer(value, position):
        depth += {b"(": 1, b")": -1}.get(piece[0], 0)
        if not depth:
            return piece.end()
    return 0


def _text(address: Address, domain: str) -> str:
    return f"{(address.mailbox or b'').decode('utf-8', 'replace')}@{domain}"


def _domain(address: Address) -> str | None:
    host = address.host
    if host is None or host in _BROKEN or address.mailbox == b"MISSING_MAILBOX":
        return None
    try:
        name = normal(host.decode("utf-8"))
    except UnicodeDecodeError:
        return None
    return name if name is not None and _NAME.match(name) else None

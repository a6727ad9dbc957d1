"""Whose message it is, as its From fields say: every address of every one of them.

Pure, never fails; at most `ADDRESSES_MAX` addresses are read.

Standards: RFC 5322 §3.6.2 (one From field), RFC 9989 §5.3.1 and §11.5 (several domains, broken fields).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.dns.names import normal
from storage.mime.addresses import Address, parse_addresses
from storage.mime.fields import Header, unfold

ADDRESSES_MAX = 20
FIELDS_MAX = 10

# What stands for a part that is missing (storage.mime.addresses).
_BROKEN = frozenset((b"MISSING_DOMAIN", b"SYNTAX_ERROR"))
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+\Z")


@dataclass(frozen=True, slots=True)
class Authors:
    addresses: tuple[str, ...] = ()  # as written, without names; those that could be read
    domains: tuple[str, ...] = ()  # of these, in lower-case A-labels, each once, in order
    fields: int = 0  # From fields; RFC 5322 wants one
    unreadable: int = 0  # addresses without a domain that can be read

    @property
    def are_clear(self) -> bool:
        """Whether everybody reads the same authors: one From field, with addresses that all have a domain."""
        return self.fields == 1 and bool(self.domains) and not self.unreadable


def authors(header: Header) -> Authors:
    """The authors of a message, from all its From fields."""
    fields = [field for field in header.fields if field.name == b"from"]
    found: list[Address] = []
    for field in fields[:FIELDS_MAX]:
        value = unfold(header.data[field.value : field.end])
        read = [each for each in parse_addresses(value, ADDRESSES_MAX - len(found)) if each.host is not None]
        found += read
        if len(found) >= ADDRESSES_MAX:
            break
    addresses: list[str] = []
    domains: dict[str, None] = {}
    for address in found:
        domain = _domain(address)
        if domain is not None:
            addresses.append(f"{(address.mailbox or b'').decode('utf-8', 'replace')}@{domain}")
            domains[domain] = None
    cut = header.is_cut or len(fields) > FIELDS_MAX or len(found) >= ADDRESSES_MAX
    return Authors(tuple(addresses), tuple(domains), len(fields), len(found) - len(addresses) + cut)


def _domain(address: Address) -> str | None:
    host = address.host
    if host is None or host in _BROKEN or address.mailbox == b"MISSING_MAILBOX":
        return None
    try:
        name = normal(host.decode("utf-8"))
    except UnicodeDecodeError:
        return None
    return name if name is not None and _NAME.match(name) else None

"""Whose message it is, as its From field says.

Pure, never fails. Standards: RFC 5322 §3.6.2 (From), RFC 7489 §6.6.1 (one domain, or none that counts).
"""

from __future__ import annotations

from storage.errors import InvalidInput
from storage.mime.addresses import parse_addresses
from storage.mime.fields import read_header, unfold
from storage.values import Domain


def author_domain(content: bytes) -> Domain | None:
    """The one domain of all mailboxes in the one From field; None if there is none or more than one of either."""
    header = read_header(content)
    fields = [field for field in header.fields if field.name == b"from"]
    if len(fields) != 1 or header.is_cut:
        return None
    value = unfold(header.data[fields[0].value : fields[0].end])
    hosts = {address.host for address in parse_addresses(value) if address.host is not None}
    try:
        domains = {Domain.parse(host.decode("utf-8")) for host in hosts}
    except (InvalidInput, UnicodeDecodeError):
        return None
    return domains.pop() if len(domains) == 1 else None

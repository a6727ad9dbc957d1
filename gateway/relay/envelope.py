"""MAIL and RCPT as a server takes them, and which recipients go together in one transaction. Pure.

Standards: RFC 5321 §4.1.1.2, §4.1.1.3 and §4.5.3.1.8 (100 recipients are always taken), RFC 1870, RFC 6152, RFC 6531
§3.4, RFC 3461 §4 and §5.2 (DSN parameters), RFC 6533 §3 (ORCPT of internationalised addresses), RFC 9422 §4 (LIMITS).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gateway.relay.capabilities import Capabilities
from gateway.relay.outcome import RelayMessage, RelayRecipient

RECIPIENTS_MAX = 100  # of one transaction: what every server has to take

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def mail_command(message: RelayMessage, server: Capabilities, size: int, *, eight_bit: bool, smtputf8: bool) -> bytes:
    """`eight_bit` and `smtputf8` say what the content and the addresses need, and the server has."""
    words = [f"MAIL FROM:<{'' if message.reverse_path is None else message.reverse_path}>"]
    if server.size is not None:
        words.append(f"SIZE={size}")
    if eight_bit:
        words.append("BODY=8BITMIME")
    if smtputf8:
        words.append("SMTPUTF8")
    if server.dsn:
        if message.parameters.ret:
            words.append(f"RET={message.parameters.ret}")
        if message.parameters.envid:
            words.append(f"ENVID={message.parameters.envid}")
    return " ".join(words).encode()


def rcpt_command(recipient: RelayRecipient, server: Capabilities, *, smtputf8: bool) -> bytes:
    words = [f"RCPT TO:<{recipient.address}>"]
    if server.dsn:
        if recipient.notify:
            words.append(f"NOTIFY={','.join(recipient.notify)}")
        if recipient.orcpt:
            words.append(f"ORCPT={recipient.orcpt if smtputf8 else _ascii_orcpt(recipient.orcpt)}")
    return " ".join(words).encode()


def transactions(
    recipients: Iterable[tuple[int, RelayRecipient]], server: Capabilities
) -> Iterator[list[tuple[int, RelayRecipient]]]:
    """The recipients, each with its position, in groups as large as the server takes."""
    most = min(RECIPIENTS_MAX, server.rcpt_max or RECIPIENTS_MAX)
    group: list[tuple[int, RelayRecipient]] = []
    domains: set[str] = set()
    for position, recipient in recipients:
        domain = recipient.address.domain.name
        too_many_domains = server.rcpt_domain_max and len(domains | {domain}) > server.rcpt_domain_max
        if group and (len(group) >= most or too_many_domains):
            yield group
            group, domains = [], set()
        group.append((position, recipient))
        domains.add(domain)
    if group:
        yield group


def _ascii_orcpt(orcpt: str) -> str:
    """An utf-8 address in its ASCII form, utf-8-addr-xtext (RFC 6533 §3); others are ASCII already."""
    return _NOT_ASCII.sub(lambda match: f"\\x{{{ord(match[0]):X}}}", orcpt)

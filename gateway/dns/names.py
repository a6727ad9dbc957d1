"""Domain names between text and DNS: case, last dots, internationalised labels.

Text is taken literally: a backslash is an octet like others, never an escape of zone files, since names come from
strangers (SPF macros, HELO). `normal` raises nothing; a text that no domain name can be is None.

Standards: RFC 1035 §2.3.4 (lengths), RFC 5890 (A-labels), RFC 8552 (underscored labels).
"""

from __future__ import annotations

import dns.name
import idna


def normal(text: str) -> str | None:
    """Lower-case A-labels without the last dot; "" is the root."""
    text = text.removesuffix(".")
    if not text.isascii():
        labels = text.replace("。", ".").split(".")
        # A stranger's text can be long, and encoding a label takes 40 us. No A-label is shorter than five.
        if sum(len(label) + 1 if label.isascii() else 6 for label in labels) > 254:
            return None
        try:
            # Label by label: one with an underscore stands beside internationalised ones (_25._tcp.bücher.example).
            text = ".".join(
                label if label.isascii() else idna.encode(label, uts46=True, transitional=False).decode("ascii")
                for label in labels
            )
        except (idna.IDNAError, UnicodeError):
            return None
    text = text.lower()
    if not text:
        return text
    fits = len(text) <= 253 and all(0 < len(label) <= 63 for label in text.split("."))
    return text if fits else None


def to_dns(name: str) -> dns.name.Name:
    """Of a name that `normal` returned."""
    return dns.name.Name((*name.encode("ascii").split(b"."), b"")) if name else dns.name.root


def from_dns(name: dns.name.Name) -> str:
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()

"""Modified UTF-7: mailbox names as IMAP4rev1 clients write them.

Decoding never guesses: what is not well-formed raises InvalidInput. UTF-8 that a client sends all the same is taken,
since many do.

Standards: RFC 3501 §5.1.3, RFC 9051 Appendix A.
"""

from __future__ import annotations

import binascii
import re

from storage.errors import InvalidInput

_SHIFTED = re.compile("&([^-]*)-")
_NOT_DIRECT = re.compile("[^\x20-\x7e]+|&")


def encode(name: str) -> str:
    """The name in printable ASCII."""
    if name.isascii() and name.isprintable() and "&" not in name:
        return name
    return _NOT_DIRECT.sub(_shift, name)


def _shift(match: re.Match[str]) -> str:
    if match[0] == "&":
        return "&-"
    octets = binascii.b2a_base64(match[0].encode("utf-16-be", "surrogatepass"), newline=False)
    return "&" + octets.decode("ascii").rstrip("=").replace("/", ",") + "-"


def decode(name: str) -> str:
    """The name that a client meant. Raises InvalidInput."""
    if "&" not in name:
        return name
    if name.count("&") != len(_SHIFTED.findall(name)):
        raise InvalidInput("The mailbox name is not modified UTF-7.")
    return _SHIFTED.sub(_unshift, name)


def _unshift(match: re.Match[str]) -> str:
    text = match[1]
    if not text:
        return "&"
    try:
        octets = binascii.a2b_base64(text.replace(",", "/") + "=" * (-len(text) % 4), strict_mode=True)
        return octets.decode("utf-16-be")
    except (binascii.Error, ValueError):
        raise InvalidInput("The mailbox name is not modified UTF-7.") from None

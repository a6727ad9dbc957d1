"""Text made comparable: without case, compatibility forms and composition decided once for index, search and sort.

RFC 5051 maps each character to title case and decomposes it (NFKD). This maps the whole text: NFKD, then full case
folding, then upper case. Letters come out as RFC 5051 has them (upper case, so that "_" sorts after them as in
i;ascii-casemap); beyond it "ß" equals "ss", final sigma equals sigma, and compatibility forms ("ﬁ", "ª", full width)
lose their case too.

`casemap(casemap(text)) == casemap(text)`. Linear time. Standards: RFC 5051, RFC 5255 §4.6, RFC 9051 §6.4.4.
"""

from __future__ import annotations

from unicodedata import normalize


def casemap(text: str) -> str:
    """`text` for comparison."""
    if text.isascii():
        return text.upper()
    return normalize("NFKD", normalize("NFKD", text).casefold().upper())

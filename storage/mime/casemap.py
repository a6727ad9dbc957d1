"""Text made comparable: case, compatibility forms and composition are decided once for index, search and sort.

RFC 5051 maps each character to title case and decomposes it (NFKD). This maps the whole text: NFKD, then full case
folding, then upper case. Letters come out as RFC 5051 has them (upper case, so that "_" sorts after them as in
i;ascii-casemap); beyond it "ß" equals "ss", final sigma equals sigma, and compatibility forms ("ﬁ", "ª", full width)
lose their case too.

`casemap(casemap(text)) == casemap(text)`. Linear time. Standards: RFC 5051, RFC 5255 §4.6, RFC 9051 §6.4.4.
"""

from __future__ import annotations

import re
from unicodedata import normalize

# Reordering combining marks takes quadratic time in the length of their run: text that may have long ones is decomposed
# in pieces. At the seam of two pieces several marks on one letter may keep the order in which they were written.
_PIECE = 256
_LONG_RUN = re.compile(rf"[^\x00-\x7f]{{{_PIECE}}}")


def casemap(text: str) -> str:
    """`text` for comparison."""
    if text.isascii():
        return text.upper()
    return _decompose(_decompose(text).casefold().upper())


def _decompose(text: str) -> str:
    if _LONG_RUN.search(text) is None:
        return normalize("NFKD", text)
    return "".join([normalize("NFKD", text[at : at + _PIECE]) for at in range(0, len(text), _PIECE)])

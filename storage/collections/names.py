"""Names of collections and objects: one segment of a path, in one spelling (Unicode NFC), so that none hides another.

Raises: InvalidInput. Standards: RFC 3986 §3.3, UAX #15.
"""

from __future__ import annotations

import unicodedata

from storage.errors import InvalidInput

NAME_MAX = 255  # octets of UTF-8


def checked_name(name: str) -> str:
    """The name as it is stored and looked for."""
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise InvalidInput("A name must not contain control characters.")
    elif not name.isprintable():
        raise InvalidInput("A name must not contain control characters.")
    if not name or name in (".", ".."):
        raise InvalidInput("A name must not be empty, nor consist of dots alone.")
    if "/" in name:
        raise InvalidInput("A name must not contain a slash.")
    if len(name.encode()) > NAME_MAX:
        raise InvalidInput(f"A name must not be longer than {NAME_MAX} octets.")
    return name

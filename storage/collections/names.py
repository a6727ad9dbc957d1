"""Names of collections and objects: one segment of a path, in one spelling (Unicode NFC), so that none hides another.

Raises: InvalidInput, NotFound. Standards: RFC 3986 §3.3, UAX #15.
"""

from __future__ import annotations

import unicodedata

from storage.errors import InvalidInput, NotFound

NAME_MAX = 255  # octets of UTF-8


def normalised(name: str) -> str:
    """In the one spelling that is stored."""
    return unicodedata.normalize("NFC", name)


def checked_name(name: str) -> str:
    """The name as it is stored and looked for."""
    if not name.isascii():
        name = normalised(name)
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


def sought_name(name: str) -> str:
    """The name as it would be stored. Raises NotFound, where nothing can be stored under it."""
    try:
        return checked_name(name)
    except InvalidInput:
        raise NotFound("There is nothing under this name.") from None

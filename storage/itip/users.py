"""Calendar user addresses, in a form in which equal ones are equal. Pure.

Standards: RFC 6638 §2.4.1 (mailto: and paths of principals), RFC 6068 (mailto).
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from storage.errors import InvalidInput
from storage.values import EmailAddress

_MAILTO = "mailto:"
_PRINCIPALS = "/dav/principals/"


def calendar_user(value: str) -> str:
    """`mailto:` and the address's key, for addresses and for paths of principals here; else what was said."""
    address = address_of(value)
    return value.strip() if address is None else _MAILTO + address.key


def address_of(value: str) -> EmailAddress | None:
    """The e-mail address of a calendar user; None if he has none that can be seen."""
    value = value.strip()
    if value[: len(_MAILTO)].lower() == _MAILTO:
        text = unquote(value[len(_MAILTO) :].partition("?")[0])
    else:
        try:
            path = urlsplit(value).path if "://" in value else value
        except ValueError:
            return None
        if not path.startswith(_PRINCIPALS):
            return None
        text = unquote(path[len(_PRINCIPALS) :].strip("/"))
    try:
        return EmailAddress.parse(text)
    except InvalidInput:
        return None

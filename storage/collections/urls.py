"""URLs of calendars elsewhere, as people and programs give them: which may be fetched at all, in one spelling.

Only http and https (webcal is https), no passwords, and only ports on which the web is served, so that nobody has this
server speak to the mail server, the name server or the database of somebody else. Where a name leads is not looked at
here: that is checked each time it is connected to.

Raises: InvalidInput. Standards: RFC 3986 §3, RFC 3490 (names that are not ASCII).
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit, urlunsplit

from storage.errors import InvalidInput

URL_MAX = 2000  # characters
_SCHEMES = {"http": "http", "https": "https", "webcal": "https", "webcals": "https"}
_PORTS = frozenset({80, 443})
_FIRST_FREE_PORT = 1024
_HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?\Z|[0-9a-f:.]+\Z")
_SAFE = "/~:@!$&'()*+,;=-._%"


def feed_url(text: str) -> str:
    """The URL as it is kept and fetched, without its fragment."""
    text = text.strip()
    if len(text) > URL_MAX or not text.isprintable() or any(each.isspace() for each in text):
        raise _no_url()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _no_url() from None
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None:
        raise InvalidInput("Calendars elsewhere are fetched by https, http or webcal.")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("Calendars that need a password cannot be subscribed to.")
    if port is not None and port not in _PORTS and port < _FIRST_FREE_PORT:
        raise InvalidInput("No calendars are served at this port.")
    try:
        host = host.encode("idna").decode("ascii").lower() if not host.isascii() else host.lower()
    except UnicodeError:
        raise _no_url() from None
    if not _HOST.match(host):
        raise _no_url()
    place = f"[{host}]" if ":" in host else host
    if port is not None and port != {"http": 80, "https": 443}[scheme]:
        place += f":{port}"
    query = quote(parts.query, safe=_SAFE + "?")
    return urlunsplit((scheme, place, quote(parts.path, safe=_SAFE) or "/", query, ""))


def _no_url() -> InvalidInput:
    return InvalidInput("This is no address of a calendar on the web.")

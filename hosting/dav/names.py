"""Names of XML elements, "{namespace}local" as in XML's Clark notation, and how they are written: prefixes are fixed.

A namespace of ours has one prefix that the root of every answer declares (`DECLARATIONS`); any other is declared on
the element itself. Tags are made once per name.
"""

from __future__ import annotations

from functools import lru_cache

DAV = "DAV:"
CALDAV = "urn:ietf:params:xml:ns:caldav"
CARDDAV = "urn:ietf:params:xml:ns:carddav"
CALENDARSERVER = "http://calendarserver.org/ns/"
APPLE_ICAL = "http://apple.com/ns/ical/"

PREFIXES = {DAV: "D", CALDAV: "C", CARDDAV: "CR", CALENDARSERVER: "CS", APPLE_ICAL: "I"}

DECLARATIONS = " ".join(f'xmlns:{prefix}="{namespace}"' for namespace, prefix in PREFIXES.items()).encode()

_ESCAPED = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\t": "&#9;", "\n": "&#10;"}
)
# What no document of XML 1.0 may hold (§2.2), whatever a client has put into a name.
_FORBIDDEN = dict.fromkeys(
    [*(c for c in range(32) if c not in (9, 10, 13)), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], "\ufffd"
)
_TEXT = str.maketrans({**_FORBIDDEN, ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("\r"): "&#13;"})


def dav(local: str) -> str:
    return "{DAV:}" + local


def caldav(local: str) -> str:
    return "{urn:ietf:params:xml:ns:caldav}" + local


def carddav(local: str) -> str:
    return "{urn:ietf:params:xml:ns:carddav}" + local


def calendarserver(local: str) -> str:
    return "{http://calendarserver.org/ns/}" + local


def split(name: str) -> tuple[str, str]:
    """Namespace, "" for none, and local name."""
    if name.startswith("{"):
        namespace, _, local = name[1:].rpartition("}")
        return namespace, local
    return "", name


def text(value: str) -> bytes:
    """Characters as the content of an element."""
    if value.isalnum():  # nothing to escape, as most
        return value.encode("utf-8")
    return value.translate(_TEXT).encode("utf-8")


def attribute(value: str) -> bytes:
    """Characters as the value of an attribute, between double quotes."""
    return value.translate(_FORBIDDEN).translate(_ESCAPED).encode("utf-8")


@lru_cache(maxsize=1024)
def tags(name: str) -> tuple[bytes, bytes, bytes]:
    """What opens the element, what closes it, and the empty element."""
    namespace, local = split(name)
    prefix = PREFIXES.get(namespace)
    if prefix is not None:
        qualified = f"{prefix}:{local}".encode()
        return b"<" + qualified + b">", b"</" + qualified + b">", b"<" + qualified + b"/>"
    if namespace:
        qualified, declared = f"X:{local}".encode(), b' xmlns:X="' + attribute(namespace) + b'"'
    else:
        qualified, declared = local.encode(), b""
    return b"<" + qualified + declared + b">", b"</" + qualified + b">", b"<" + qualified + declared + b"/>"


def element(name: str, content: bytes = b"") -> bytes:
    """The element with this content, which is XML already."""
    opened, closed, empty = tags(name)
    return opened + content + closed if content else empty


def text_element(name: str, value: str) -> bytes:
    return element(name, text(value))

"""XML that is written from values: elements with their content escaped, one to a line. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

INDENT = "  "


def element(name: str, content: str | int | Sequence[str] = "", **attributes: str) -> str:
    """`content` is text, or elements as this function made them."""
    written = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
    if isinstance(content, (str, int)):
        return f"<{name}{written}>{escape(str(content))}</{name}>"
    inner = "".join(f"{INDENT}{line}\n" for child in content for line in child.split("\n"))
    return f"<{name}{written}>\n{inner}</{name}>"


def document(root: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{root}\n'.encode()

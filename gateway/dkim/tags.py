"""Tag lists ("v=1; a=rsa-sha256; ..."), of signatures and of key records.

Strict in what changes the meaning (a tag that stands twice, a piece that is no tag), tolerant of an empty piece between
two semicolons. What stands in a value is for whoever reads the tag. Linear, and at most `TAGS_MAX` tags.

Raises: TagError, whose text says in short words what is wrong.
Standards: RFC 6376 §3.2, RFC 8616 §5 (values in UTF-8).
"""

from __future__ import annotations

import base64
import re

TAGS_MAX = 100

_BLANKS = " \t\r\n"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_BLANK = re.compile(r"[ \t\r\n]+")


class TagError(Exception):
    pass


def parse_tags(octets: bytes) -> dict[str, str]:
    """Values by name, in order, without the white space around them."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise TagError("it is not UTF-8") from None
    if text.count(";") > TAGS_MAX:
        raise TagError("it has too many tags")
    tags: dict[str, str] = {}
    for piece in text.split(";"):
        name, equals, value = piece.partition("=")
        name = name.strip(_BLANKS)
        if not equals and not name:
            continue
        if not equals or not _NAME.match(name):
            raise TagError("it is no list of tags")
        if name in tags:
            raise TagError("a tag stands twice")
        tags[name] = value.strip(_BLANKS)
    return tags


def without_blanks(value: str) -> str:
    return _BLANK.sub("", value)


def decode_base64(value: str) -> bytes | None:
    """The octets of a value with white space in it; None if it is no base64, or has nothing in it."""
    try:
        return base64.b64decode(without_blanks(value), validate=True) or None
    except ValueError:
        return None

"""File names as messages and archives give them, and what in them is made to deceive.

A name is shortened in its middle, never at its end, since the end is what a system goes by.
Standards: RFC 2183 §2.3, RFC 2231, Unicode UAX 9 (bidirectional controls).
"""

from __future__ import annotations

import re

from gateway.content_facts.attachment import Trait, extension_of
from gateway.content_facts.forbidden import EXECUTABLE, FORBIDDEN, SCRIPT, SHORTCUT
from storage.mime.decode import decode_parameter
from storage.mime.message import Part

NAME_MAX = 255  # characters
PATH_MAX = 1000

_OVERRIDES = re.compile("[\u202d\u202e]")
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u202a-\u202c\u2060-\u2069\ufeff\ufffc]"
)
_PADDING = re.compile("[\\s\u2800\u3164_]{8}")
_RUNS = FORBIDDEN.extensions[EXECUTABLE] | FORBIDDEN.extensions[SCRIPT] | FORBIDDEN.extensions[SHORTCUT]
_TRUSTED = (
    "pdf doc docx xls xlsx ppt pptx odt ods rtf txt csv jpg jpeg png gif bmp tif tiff mp3 mp4 avi mov wav zip rar html"
    " htm xml eml msg"
)
_SHOWN = frozenset(_TRUSTED.split())  # endings that people trust
_NAMES = (b"filename", b"filename*", b"name", b"name*")


def part_names(part: Part) -> list[str]:
    """The names that programs may give the part, the likeliest first; without doubles."""
    found: dict[bytes, str] = {}
    for parameters in (part.disposition_params, part.params):
        for key, value in parameters:
            if key in _NAMES and key not in found:
                found[key] = clean_name(decode_parameter(key, value))
    # RFC 5987 and most programs: the extended one is meant where both are there.
    ordered = [found[key] for key in (b"filename*", b"filename", b"name*", b"name") if found.get(key)]
    return list(dict.fromkeys(ordered))


def clean_name(text: str) -> str:
    """Without folders, and not longer than `NAME_MAX`."""
    text = text.strip().replace("\0", "\u2400")
    if "/" in text or "\\" in text:
        text = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    return shortened(text, NAME_MAX)


def shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    tail = most * 2 // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def joined(prefix: str, name: str) -> str:
    """The path of `name` in the archive `prefix`."""
    return shortened(f"{prefix}/{name}" if prefix else name, PATH_MAX)


def name_traits(name: str) -> frozenset[Trait]:
    """What is made to deceive."""
    if not name:
        return _NONE
    found: set[Trait] = set()
    if not name.isascii():
        if _OVERRIDES.search(name):
            found.add(Trait.REVERSED_NAME)
        if _HIDDEN.search(name):
            found.add(Trait.HIDDEN_NAME)
    elif not name.isprintable() or "\u2400" in name:
        found.add(Trait.HIDDEN_NAME)
    extension = extension_of(name)
    if (extension and name[-1] in ". \t\xa0\u3000") or _PADDING.search(name):
        found.add(Trait.PADDED_NAME)
    if extension in _RUNS:
        stem = name.rstrip(". \t\u3000\xa0").rpartition(".")[0]
        if extension_of(stem) in _SHOWN:
            found.add(Trait.DOUBLE_EXTENSION)
    return frozenset(found) if found else _NONE


_NONE: frozenset[Trait] = frozenset()

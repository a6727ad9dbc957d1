"""The base subject, by which replies and forwards are known to belong together.

Never fails; linear time. Standards: RFC 5256 §2.1.
"""

from __future__ import annotations

import re

from storage.mime.casemap import casemap

SUBJECT_MAX = 4_096  # characters that are looked at

_BLANKS = re.compile(r"[\s\0]+")
_BLOBS = re.compile(r"(?:\[[^\[\]]*+\]\s*+)*+")
_REFWD = re.compile(r"(?:RE|FWD?)\s*+(?:\[[^\[\]]*+\]\s*+)?:\s*+")
_LAST_BLOB = re.compile(r"\[[^\[\]]*+\]\s*+\Z")
_TRAILER = "(FWD)"
_FORWARD = "[FWD:"


def base_subject(subject: str) -> tuple[str, bool]:
    """The casemapped base of a decoded subject, and whether it was that of a reply or a forward."""
    text = _BLANKS.sub(" ", casemap(subject[:SUBJECT_MAX])).strip()  # (1)
    start, end = 0, len(text)
    changed = False
    while True:
        while True:  # (2) trailers
            if text.endswith(_TRAILER, start, end):
                end -= len(_TRAILER)
                changed = True
            elif start < end and text[end - 1] == " ":
                end -= 1
            else:
                break
        start, refwd = _skip_leaders(text, start, end)
        changed = changed or refwd
        if not (text.startswith(_FORWARD, start, end) and text.endswith("]", start + len(_FORWARD), end)):
            return text[start:end], changed
        start += len(_FORWARD)  # (6)
        end -= 1
        changed = True
        while start < end and text[start] == " ":
            start += 1


def _skip_leaders(text: str, start: int, end: int) -> tuple[int, bool]:
    """(3) to (5): past "Re:", "Fwd:" and [blobs]; but a blob with nothing after it is the subject itself."""
    refwd = False
    while True:
        blobs = _BLOBS.match(text, start, end)
        assert blobs is not None  # it may be empty
        leader = _REFWD.match(text, blobs.end(), end)
        if leader is not None:
            start = leader.end()
            refwd = True
        elif blobs.end() < end:
            return blobs.end(), refwd
        else:
            last = _LAST_BLOB.search(text, start, end)
            return (last.start() if last else start), refwd

"""The header object of a withheld message: what a review may see, sealed under the header key alone.

It holds the message's own header lines, the fields that we added, and what explains the verdict; nothing of the body.
Where a header does not end as headers do, only lines that are fields count as header: a text whose empty line is
missing is no header, whoever reads it.

Raises: Corrupt (not a header object).
Standards: RFC 5322 §2.2 (fields), RFC 2047 (encoded words).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.errors import Corrupt
from storage.mime.decode import decode_words
from storage.mime.fields import Field, Header, fields_between, header_end, unfold

LINES_MAX = 1000  # that are shown
VALUE_MAX = 2000  # characters of a value that are shown
_DECODED_MAX = 16 * VALUE_MAX  # octets of it that are decoded
TEXT_MAX = 250  # characters of a subject or an author that rows keep

_LENGTH = struct.Struct(">I")
_NAME = re.compile(rb"[!-9;-~]{1,200}\Z")  # RFC 5322 §2.2
# Control characters, what turns the direction of writing, and what shows as nothing.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]+")


@dataclass(frozen=True, slots=True)
class HeaderObject:
    quarantine_id: str
    received: int  # Unix seconds
    size: int  # of the message
    sender: str = field(repr=False)  # of the envelope; empty: the null reverse-path
    domains: tuple[str, ...] = field(repr=False)  # of its recipients
    reason: str
    sentence: str = field(repr=False)
    counterfactual: str = field(repr=False)
    score: float | None
    facts: Mapping[str, str] = field(repr=False)
    prefix: bytes = field(repr=False)  # fields that we put in front
    header: bytes = field(repr=False)  # the message's own

    def pack(self) -> bytes:
        values = {
            "id": self.quarantine_id,
            "received": self.received,
            "size": self.size,
            "sender": self.sender,
            "domains": list(self.domains),
            "reason": self.reason,
            "sentence": self.sentence,
            "counterfactual": self.counterfactual,
            "score": self.score,
            "facts": dict(self.facts),
            "prefix": len(self.prefix),
        }
        packed = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return _LENGTH.pack(len(packed)) + packed + self.prefix + self.header

    @classmethod
    def unpack(cls, octets: bytes) -> HeaderObject:
        try:
            start = _LENGTH.size + _LENGTH.unpack_from(octets)[0]
            values = json.loads(octets[_LENGTH.size : start])
            middle = start + values["prefix"]
            return cls(
                values["id"],
                values["received"],
                values["size"],
                values["sender"],
                tuple(values["domains"]),
                values["reason"],
                values["sentence"],
                values["counterfactual"],
                values["score"],
                values["facts"],
                octets[start:middle],
                octets[middle:],
            )
        except (struct.error, ValueError, KeyError, TypeError):
            raise Corrupt(detail="quarantine: a header object is unreadable") from None

    def lines(self) -> list[tuple[str, str]]:
        """Name and value of each field, ours first, decoded, one line each, safe for a terminal."""
        return shown_fields(self.prefix + self.header)


def split(data: bytes) -> int:
    """Where what may be seen as header ends in a message: behind its empty line, or before a line that is no field."""
    end = header_end(data, 0, len(data))
    header = fields_between(data, 0, end)
    for each in header.fields:
        if data[each.value - 1 : each.value] != b":" or not _NAME.match(each.name):
            return each.start
    return header.fields[-1].end if header.is_cut else end


def shown_fields(header: bytes) -> list[tuple[str, str]]:
    """The fields of a header for people; at most `LINES_MAX`."""
    fields = fields_between(header, 0, len(header)).fields
    shown = [
        (header[each.start : each.value].rstrip(b": \t").decode("ascii", "replace"), _shown(header, each, VALUE_MAX))
        for each in fields[:LINES_MAX]
    ]
    if len(fields) > LINES_MAX:
        shown.append(("…", f"{len(fields) - LINES_MAX} more"))
    return shown


def text_of(header: Header, name: bytes) -> str:
    """The first field of that name (lower case) as rows keep it: decoded, on one line, cut."""
    found = header.first(name)
    return "" if found is None else _shown(header.data, found, TEXT_MAX)


def visible(text: str, most: int) -> str:
    """`text` on one line, without anything that acts on a terminal or hides; cut to `most` characters."""
    line = " ".join(_UNSEEN.sub(" ", text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _shown(header: bytes, field: Field, most: int) -> str:
    return visible(decode_words(unfold(header[field.value : field.end])[:_DECODED_MAX]), most)

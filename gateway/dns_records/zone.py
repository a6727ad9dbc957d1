"""Records as lines of a zone file, aligned, with full names and a comment for each purpose. Pure.

Standards: RFC 1035 §5.1 (master files), §3.3.14 and RFC 7208 §3.3 (a TXT is strings of at most 255 octets).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from gateway.dns_records.wanted import Record

TTL = 3600
STRING_MAX = 255


def zone_text(records: Sequence[Record], notes: Sequence[str] = ()) -> str:
    """The lines with their line ends; `notes` become comments at the end."""
    width = max((len(record.name) for record in records), default=0) + 1
    lines: list[str] = []
    for purpose, group in groupby(records, key=lambda record: record.purpose):
        if lines:
            lines.append("")
        lines.append(f"; {purpose}")
        lines += [f"{record.name + '.':<{width}} {TTL} IN {record.rdtype:<3} {data(record)}" for record in group]
    if notes:
        lines += ["", *(f"; {note}" for note in notes)]
    return "".join(f"{line}\n" for line in lines)


def data(record: Record) -> str:
    """The data of a record as a zone file has it."""
    return txt_data(record.value) if record.rdtype == "TXT" else record.value


def txt_data(text: str) -> str:
    """A text as quoted strings, on one line: forms of DNS providers take it so."""
    octets = text.encode("utf-8")
    return " ".join(_quoted(octets[start : start + STRING_MAX]) for start in range(0, len(octets) or 1, STRING_MAX))


def _quoted(octets: bytes) -> str:
    return '"' + "".join(_character(octet) for octet in octets) + '"'


def _character(octet: int) -> str:
    if octet in b'"\\':
        return "\\" + chr(octet)
    return chr(octet) if 32 <= octet < 127 else f"\\{octet:03d}"

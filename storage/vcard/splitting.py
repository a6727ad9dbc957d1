"""The cards of a .vcf file, each as it may be stored, for imports.

A file is taken apart by its lines before anything is checked, so that one bad card costs only itself. What a PUT would
be refused for and an import can mend is mended: vCard 2.1 becomes 3.0, other charsets become UTF-8, control characters
go, a card without VERSION is 3.0, one without a UID gets one made of its octets (a second import of the file finds it
again). All else stays.
"""

from __future__ import annotations

import codecs
import re
import uuid
from collections.abc import Iterator

from storage.icalendar.contentlines import BOM
from storage.mime.decode import decode_unknown
from storage.vcard.version21 import from_version21, is_version21

_NAMESPACE = uuid.UUID("a3c1b0de-5d0c-5f7e-8a43-0f2a6f0c9b11")  # of UIDs that are given here
_BEGIN = re.compile(rb"BEGIN[ \t]*:[ \t]*VCARD[ \t\r]*\n?\Z", re.IGNORECASE)
_END = re.compile(rb"END[ \t]*:[ \t]*VCARD[ \t\r]*\n?\Z", re.IGNORECASE)
_AGENT = re.compile(rb"[\w.-]{0,80}\bAGENT[;:]", re.IGNORECASE)
_LINE = re.compile(rb"[^\n]*\n?")
_UID = re.compile(rb"^(?:[\w-]{1,80}\.)?UID[;:]", re.MULTILINE | re.IGNORECASE)
_VERSION_LINE = re.compile(rb"^VERSION[^\n]*\n?", re.MULTILINE | re.IGNORECASE)
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|\r(?!\n)")


def split(data: bytes) -> Iterator[bytes]:
    """Each card of `data`; what stands between cards is passed over, a last one that is cut off comes as it is."""
    return (card for _, card in split_lines(data))


def split_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Likewise, each with the number of the line where it begins."""
    data = _utf8(data)
    line = 1
    counted = 0
    for start, piece in _pieces(data):
        line += data.count(b"\n", counted, start)
        counted = start
        yield line, _mended(piece)


def _utf8(data: bytes) -> bytes:
    """`data` without a BOM, in UTF-8 if it was UTF-16 (Outlook)."""
    for mark, codec in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return data[2:].decode(codec, "replace").encode("utf-8", "replace")
    data = data.removeprefix(BOM)
    return data.replace(b"\r", b"\n") if b"\n" not in data else data  # of an old Macintosh


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = depth = 0
    before = b""
    for match in _LINE.finditer(data):
        line = match[0]
        if _BEGIN.match(line):
            if depth and _AGENT.match(before):
                depth += 1
            else:
                if depth:  # the one before never ended
                    yield start, data[start : match.start()]
                start, depth = match.start(), 1
        elif depth and _END.match(line):
            depth -= 1
            if not depth:
                yield start, data[start : match.end()]
        before = line
    if depth:
        yield start, data[start:]


def _mended(piece: bytes) -> bytes:
    if is_version21(piece):
        piece = from_version21(piece)
    try:
        said = piece.decode("utf-8")
    except UnicodeDecodeError:
        said = decode_unknown(piece)
        piece = said.encode("utf-8")
    if _REFUSED.search(said):
        piece = _REFUSED.sub("", said).encode("utf-8")
    version = _VERSION_LINE.search(piece)
    if version is None:  # some programs export it so; what they mean is 3.0
        begin = _LINE.match(piece)
        assert begin is not None
        piece = begin[0] + b"VERSION:3.0\r\n" + piece[begin.end() :]
        version = _VERSION_LINE.search(piece)
    if _UID.search(piece) or version is None:
        return piece
    end = b"\r\n" if version[0].endswith(b"\r\n") else b"\n"
    given = b"UID:%s%s" % (str(uuid.uuid5(_NAMESPACE, said)).encode(), end)
    return piece[: version.end()] + given + piece[version.end() :]

"""Finds the signed document that is attached to a certificate's PDF, without a PDF library. Pure.

It stands there uncompressed and once (`storage.certificates.pdf`). What has none or several, or was written anew by
another program, is refused with what to do instead.

Raises: InvalidInput.
Standards: ISO 32000-1 §7.11.4 (embedded files), §7.3.8 (streams).
"""

from __future__ import annotations

import re

from storage.certificates.certificate import LARGEST
from storage.errors import InvalidInput

NAME = "certificate.json"

_PDF_MAX = LARGEST + 1_000_000
_EMBEDDED = re.compile(rb"/Type\s{0,9}/EmbeddedFile\b")
_LENGTH = re.compile(rb"/Length\s{1,9}([0-9]{1,8})\b")
_FILTER = re.compile(rb"/Filter(?!\s{0,9}\[\s{0,9}\])")  # an empty list of them is none
_HEAD = 600  # octets around the type, in which its dictionary lies


def attached(pdf: bytes) -> bytes:
    """The signed document in a PDF that `render` made."""
    if len(pdf) > _PDF_MAX:
        raise InvalidInput("The PDF is too large for a certificate of erasure.")
    places = [match.start() for match in _EMBEDDED.finditer(pdf)][:2]
    if not places:
        raise InvalidInput(
            "No signed certificate is attached to the PDF as this program attaches it: it is damaged, or another"
            f" program wrote it anew. Save its attachment {NAME} and verify that."
        )
    if len(places) > 1:
        raise InvalidInput("Several files are attached to the PDF; a certificate of erasure has one.")
    begin = pdf.rfind(b"obj", 0, places[0])
    opened = pdf.find(b"stream", places[0], places[0] + _HEAD)
    head = pdf[max(begin, places[0] - _HEAD) : opened]
    length = _LENGTH.search(head)
    if opened < 0 or length is None or _FILTER.search(head):
        raise InvalidInput(
            f"What is attached to the PDF cannot be read here. Save its attachment {NAME} and verify that."
        )
    start = opened + len(b"stream")
    start += 2 if pdf[start : start + 2] == b"\r\n" else 1
    found = pdf[start : start + int(length[1])]
    if len(found) != int(length[1]):
        raise InvalidInput("The PDF is damaged: it ends inside its attachment.")
    return found


def is_pdf(data: bytes) -> bool:
    return data.startswith(b"%PDF-")

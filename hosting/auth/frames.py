"""Frames of the auth socket: four octets of length, big-endian, then one JSON object in UTF-8.

Pure: octets in, objects out, and back. Raises InvalidInput for a frame that is too long or no JSON object; nothing
after it can be read.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from storage.errors import InvalidInput

FRAME_MAX = 1 << 24  # a certificate that is to be signed names the keys of a hundred thousand accounts
_LENGTH = struct.Struct(">I")

Fields = dict[str, Any]


def encode(fields: Fields) -> bytes:
    body = json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    if len(body) > FRAME_MAX:
        raise InvalidInput("The request is too long.")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Takes octets as they come; `next` gives what is whole."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def partial(self) -> bool:
        """Whether octets wait for the rest of their frame, or to be taken."""
        return bool(self._buffer)

    def next(self) -> Fields | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > FRAME_MAX:
            raise InvalidInput("The frame is too long.")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError):
            raise InvalidInput("The frame is not JSON.") from None
        if not isinstance(fields, dict):
            raise InvalidInput("The frame is not a JSON object.")
        return fields

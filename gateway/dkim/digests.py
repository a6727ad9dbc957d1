"""What the signatures of one message are computed over: hashes of its body and of the header fields that they name.

Each canonical form is made once, whatever the number of signatures, and each field is hashed at most once for a
signature, however often its name stands there. A body of many megabytes takes longer than an event loop should wait.

Content has CRLF line ends, as it went over the wire. Never fails.
Standards: RFC 6376 §3.4, §3.7, §5.4.2 (fields of one name are taken from the last one up).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from gateway.dkim.canonical import relaxed_body, relaxed_field, simple_body
from storage.mime.fields import Field, Header

# The value of b=, with the white space around it. A tag begins where the value does or after a semicolon.
_SIGNATURE = re.compile(rb"((?:\A|;)[ \t\r\n]*+b[ \t\r\n]*+=)[^;]*+")


class MessageDigests:
    def __init__(self, data: bytes, header: Header) -> None:
        self.header = header
        self._data = data
        self._named: dict[bytes, list[Field]] | None = None
        self._relaxed: dict[int, bytes] = {}
        self._bodies: dict[bool, tuple[bytes, int]] = {}

    def value(self, field: Field) -> bytes:
        return self._data[field.value : field.end]

    def named(self, name: bytes) -> Sequence[Field]:
        """The fields of this name (lower case), in order."""
        if self._named is None:
            self._named = {}
            for field in self.header.fields:
                self._named.setdefault(field.name, []).append(field)
        return self._named.get(name, ())

    def body(self, *, relaxed: bool) -> tuple[bytes, int]:
        """SHA-256 of the canonical body, and its octets."""
        found = self._bodies.get(relaxed)
        if found is None:
            body = (relaxed_body if relaxed else simple_body)(self._data, self.header.end)
            found = self._bodies[relaxed] = hashlib.sha256(body).digest(), len(body)
        return found

    def relaxed(self, field: Field) -> bytes:
        """The relaxed form of a field, with its line end."""
        found = self._relaxed.get(field.start)
        if found is None:
            found = self._relaxed[field.start] = relaxed_field(field.name, self.value(field))
        return found

    def signed(self, names: Sequence[bytes], own: Field, *, relaxed: bool) -> bytes:
        """The SHA-256 that the signature in the field `own` signs, over the fields `names` and itself without b=."""
        digest = hashlib.sha256()
        left: dict[bytes, int] = {}
        for name in names:
            fields = self.named(name)
            index = left.get(name, len(fields)) - 1
            if index >= 0 and fields[index].start == own.start:
                index -= 1  # a signature does not sign itself as one of the others
            left[name] = max(index, 0)
            if index >= 0:
                field = fields[index]
                digest.update(self.relaxed(field) if relaxed else self._data[field.start : field.end])
        digest.update(self.unsigned(own, relaxed=relaxed))
        return digest.digest()

    def unsigned(self, own: Field, *, relaxed: bool) -> bytes:
        """The canonical form of a signature's field as it was when it was signed: b= is empty, and no line end."""
        value = _SIGNATURE.sub(rb"\1", self.value(own), count=1)
        if relaxed:
            return relaxed_field(own.name, value).removesuffix(b"\r\n")
        return self._data[own.start : own.value] + value.removesuffix(b"\r\n")

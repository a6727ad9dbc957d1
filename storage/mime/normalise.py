"""Line ends at the border: what is stored has CRLF, made once where mail comes in and never again.

Only a bare LF is changed. A bare CR stays: it is content, and taking it for a line end would change what was signed.
Standards: RFC 5322 §2.3, RFC 9051 §6.3.12 (APPEND takes RFC 5322 messages).
"""

from __future__ import annotations


def to_crlf(data: bytes) -> bytes:
    """`data` with CRLF where a bare LF stood."""
    if data.count(b"\n") == data.count(b"\r\n"):
        return data
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

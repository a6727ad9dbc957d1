"""Answers that the web role gives by itself: a status and one sentence, without a stack trace and without our name.

Standards: RFC 9110 §15, RFC 6585 §4 (429), RFC 7617 §2.1 (charset).
"""

from __future__ import annotations

from starlette.types import Send

from storage import errors
from storage.errors import CleanmailError

Fields = list[tuple[bytes, bytes]]

CHALLENGE = (b"www-authenticate", b'Basic realm="Cleanmail", charset="UTF-8"')
_SOON = (b"retry-after", b"5")
_LATER = (b"retry-after", b"30")  # of the throttle's first pauses; it says nothing about how long this one is

_STATUSES: tuple[tuple[type[CleanmailError], int, Fields], ...] = (  # the most special first
    (errors.AuthenticationFailed, 401, [CHALLENGE]),
    (errors.Throttled, 429, [_LATER]),
    (errors.NotPermitted, 403, []),
    (errors.NotFound, 404, []),
    (errors.Gone, 404, []),
    (errors.TooLarge, 413, []),
    (errors.InvalidInput, 400, []),
)


class Refused(Exception):  # noqa: N818 - what happened, as in storage.errors
    """A request that does not come to what it is for."""

    def __init__(self, status: int, sentence: str, *fields: tuple[bytes, bytes]) -> None:
        super().__init__(status)
        self.status = status
        self.sentence = sentence
        self.fields = list(fields)


class Left(Exception):  # noqa: N818
    """The client is gone; nobody is there to be answered."""


def refusal_of(error: CleanmailError) -> Refused:
    """What a client is told of an error."""
    for kind, status, fields in _STATUSES:
        if isinstance(error, kind):
            return Refused(status, error.public, *fields)
    return Refused(503, error.public, _SOON)


async def send_plain(send: Send, status: int, sentence: str, fields: Fields) -> None:
    body = f"{sentence}\n".encode() if sentence else b""
    length = (b"content-length", b"%d" % len(body))
    kind = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [kind, length, *fields]})
    await send({"type": "http.response.body", "body": body})


async def send_redirect(send: Send, status: int, location: str) -> None:
    fields = [(b"location", location.encode("ascii", "replace")), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": b""})

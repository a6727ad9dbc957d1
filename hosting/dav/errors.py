"""How a request is refused: with a status and, where there is one, the precondition that did not hold.

`Refused` is raised anywhere in this layer; what storage raises is translated by one table (`refusal_of`).

Standards: RFC 4918 §8.7, §11, §16; RFC 3744 §7.1.1; RFC 4331 §6.
"""

from __future__ import annotations

from hosting.dav import names
from hosting.dav.names import dav, element
from hosting.dav.reach import PRIVILEGES, Reach
from hosting.dav.resources import encoded
from storage import errors
from storage.collections.conditions import PreconditionFailed, Violated
from storage.collections.locks import Locked
from storage.collections.tokens import TokenTooOld
from storage.errors import CleanmailError

XML_HEAD = b'<?xml version="1.0" encoding="utf-8"?>\n'
ERROR_SINCE = "{http://twistedmatrix.com/xml_namespace/dav/}error-description"

REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    412: "Precondition Failed",
    423: "Locked",
    424: "Failed Dependency",
    500: "Internal Server Error",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


class Refused(Exception):  # noqa: N818 - what happened, as in storage.errors
    """`condition` is the precondition's element as XML, or empty; `why` a sentence for people."""

    def __init__(
        self,
        status: int,
        condition: bytes = b"",
        why: str = "",
        *,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(status)
        self.status = status
        self.condition = condition
        self.why = why
        self.headers = headers


def precondition(status: int, name: str, content: bytes = b"", why: str = "") -> Refused:
    """Refused because of the precondition with this name."""
    return Refused(status, element(name, content), why)


def missing() -> Refused:
    """404, the same for what does not exist and for what belongs to another tenant."""
    return Refused(404, why="There is no such resource.")


def needs(href: bytes, reach: Reach) -> Refused:
    """403 with the privilege that is missing (RFC 3744 §7.1.1)."""
    name = next((PRIVILEGES[each] for each in PRIVILEGES if each in reach), dav("all"))
    resource = element(dav("resource"), element(dav("href"), href) + element(dav("privilege"), element(name)))
    return precondition(403, dav("need-privileges"), resource, "This is not permitted.")


# The most special first. Condition elements are those that a client can act on.
_STATUSES: tuple[tuple[type[CleanmailError], int], ...] = (
    (PreconditionFailed, 412),
    (Locked, 423),
    (TokenTooOld, 403),
    (errors.AuthenticationFailed, 401),
    (errors.Throttled, 429),
    (errors.NotPermitted, 403),
    (errors.NotFound, 404),
    (errors.Gone, 403),  # an account or a contract that has ended
    (errors.AlreadyExists, 405),
    (errors.OverQuota, 507),
    (errors.StorageFull, 507),
    (errors.LimitReached, 507),
    (errors.TooLarge, 413),
    (errors.Conflict, 409),
    (errors.InvalidInput, 400),
    (errors.Unavailable, 503),
    (errors.Corrupt, 503),
)
_RETRY_AFTER = "30"  # seconds


def refusal_of(error: CleanmailError, href: bytes = b"") -> Refused:
    """The one translation of what storage raises."""
    if isinstance(error, Violated):
        return _violated(error, href)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 503)
    condition = b""
    if isinstance(error, errors.OverQuota):
        condition = element(dav("quota-not-exceeded"))  # RFC 4331 §6
    elif isinstance(error, errors.StorageFull):
        condition = element(dav("sufficient-disk-space"))
    elif isinstance(error, TokenTooOld):
        condition = element(dav("valid-sync-token"))
    elif isinstance(error, Locked):
        condition = element(
            dav("lock-token-submitted"), element(dav("href"), names.text(href.decode("ascii", "replace")))
        )
    headers = (("Retry-After", _RETRY_AFTER),) if status in (429, 503) else ()
    return Refused(status, condition, error.public, headers=headers)


def _violated(error: Violated, href: bytes) -> Refused:
    """403, as the request would fail again whoever repeats it; the other resource's href inside where there is one."""
    content = b""
    if error.name is not None:
        collection = href.rpartition(b"/")[0].decode("ascii", "replace")  # as it was sent: it may hold "&"
        content = element(dav("href"), names.text(f"{collection}/{encoded(error.name)}"))
    return precondition(403, "{" + error.namespace.value + "}" + error.condition, content, error.public)


def error_body(refused: Refused) -> bytes:
    """DAV:error with the precondition, and the sentence for people beside it."""
    opened = b"<D:error " + names.DECLARATIONS + b">"
    described = names.text_element(ERROR_SINCE, refused.why) if refused.why else b""
    return XML_HEAD + opened + refused.condition + described + b"</D:error>"


def status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}".encode()

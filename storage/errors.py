"""The one taxonomy of errors; each protocol translates it with one table of its own.

An error carries `public`, one sentence that may be shown to a peer or a user (no path, no address of somebody else,
nothing of ours), and `temporary`, which says whether the same request may succeed later. Anything that is not a
`CleanmailError` is unexpected and is answered as temporary, with a text of the protocol's own.

Translations: `hosting.imap.replies` (RFC 5530), `gateway.smtp.replies` (RFC 3463), later HTTP (RFC 9457).
"""

from __future__ import annotations

from typing import ClassVar


class CleanmailError(Exception):
    """The root. `public` is shown to people; `detail` is for the operational log and holds ids only."""

    temporary: ClassVar[bool] = False
    default: ClassVar[str] = "The request failed."

    def __init__(self, public: str | None = None, *, detail: str = "") -> None:
        self.public = public or self.default
        self.detail = detail
        super().__init__(self.public if not detail else f"{self.public} [{detail}]")


class NotFound(CleanmailError):
    default = "There is no such thing."


class AlreadyExists(CleanmailError):
    default = "It exists already."


class NotPermitted(CleanmailError):
    default = "This is not permitted."


class AuthenticationFailed(NotPermitted):
    default = "The user name or the password is wrong."


class Throttled(NotPermitted):
    temporary = True
    default = "Too many attempts failed; try again later."


class Suspended(NotPermitted):
    default = "This account is suspended; ask your provider."


class NotIncluded(Suspended):
    default = "The contract does not include this service; ask your provider."


class OverQuota(CleanmailError):
    temporary = True
    default = "The mailbox is full."


class QuarantineFull(OverQuota):
    """A tenant's. The sender of what would be withheld does not learn by it what is thought of his message."""

    default = "The message cannot be taken for the moment; try again later."

    def __init__(self, public: str | None = None, *, detail: str = "", tenant_id: int = 0) -> None:
        super().__init__(public, detail=detail)
        self.tenant_id = tenant_id  # whose it is


class TooLarge(CleanmailError):
    default = "The message is larger than this server takes."


class LimitReached(CleanmailError):
    default = "A limit of this server is reached."


class Conflict(CleanmailError):
    """Somebody else changed it first, or the state does not allow the step."""

    default = "It was changed meanwhile; look again and repeat."


class InvalidInput(CleanmailError):
    default = "The input is not valid."


class Unavailable(CleanmailError):
    """A part that is needed does not answer, or the disk is full; nothing was kept."""

    temporary = True
    default = "The service is not available for the moment; try again later."


class Busy(Unavailable):
    """Another writer is at work; who must not wait now does it elsewhere (`Database.write_now`)."""


class StorageFull(Unavailable):
    default = "The server has no space left; try again later."


class Gone(CleanmailError):
    """The message was expunged, or the tenant's contract has ended."""

    default = "It is no longer there."


class Corrupt(CleanmailError):
    """Stored data does not verify. The operator is told; the peer learns only that it failed for now."""

    temporary = True
    default = "Stored data cannot be read; the operator has been told."

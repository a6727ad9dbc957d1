"""Status answers, and the one table that translates errors into them.

Only the public text of an error is shown; anything unexpected is answered as temporary, with a text of our own.
Standards: RFC 9051 §7.1, RFC 5530 (response codes), RFC 7889 (TOOBIG).
"""

from __future__ import annotations

from typing import Final

from storage import errors

UNEXPECTED: Final = b"NO [SERVERBUG] The command failed on our side; try again later."
EXPIRED: Final = b"[EXPIRED] The token has expired; sign in with a new one."  # RFC 5530 §3

# The most specific class that is listed counts.
_CODES: Final[dict[type[errors.CleanmailError], bytes]] = {
    errors.NotFound: b"NONEXISTENT",
    errors.AlreadyExists: b"ALREADYEXISTS",
    errors.NotPermitted: b"NOPERM",
    errors.AuthenticationFailed: b"AUTHENTICATIONFAILED",
    errors.Throttled: b"LIMIT",
    errors.Suspended: b"CONTACTADMIN",
    errors.OverQuota: b"OVERQUOTA",
    errors.TooLarge: b"TOOBIG",
    errors.LimitReached: b"LIMIT",
    errors.Conflict: b"INUSE",
    errors.InvalidInput: b"CANNOT",
    errors.Unavailable: b"UNAVAILABLE",
    errors.Gone: b"EXPUNGEISSUED",
    errors.Corrupt: b"CORRUPTION",
}


class Refused(Exception):  # noqa: N818
    """A command's own NO: a response code with its text, where the table below would not say enough."""

    def __init__(self, code: bytes, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class MailboxGone(Exception):  # noqa: N818
    """The selected mailbox was deleted elsewhere: the session ends, since no state of the protocol fits."""


class NoLongerShared(Exception):  # noqa: N818
    """The selected mailbox is another's, who no longer lets it be read: the session ends (RFC 4314 §5.1.1)."""


class Bad(Exception):  # noqa: N818
    """A command that is well-formed and still wrong here: answered BAD."""


def refusal(error: Exception) -> bytes:
    """`NO [CODE] text` for an error that ended a command."""
    if isinstance(error, Bad):
        return b"BAD " + printable(str(error))
    if isinstance(error, Refused):
        return b"NO [%b] %b" % (error.code, printable(error.text))
    if isinstance(error, errors.CleanmailError):
        for kind in type(error).__mro__:
            code = _CODES.get(kind)
            if code is not None:
                return b"NO [%b] %b" % (code, printable(error.public))
    return UNEXPECTED


def printable(text: str) -> bytes:
    """Text that may stand in an answer: ASCII in one line (RFC 9051 §9, resp-text)."""
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode("ascii")[:400]

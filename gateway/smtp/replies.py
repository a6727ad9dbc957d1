"""What an SMTP server says: reply values, the fixed replies of the protocol, and the table from our errors to replies.

Anything that is not a `CleanmailError` is unexpected: it becomes a temporary reply that shows nothing of ours.

Standards: RFC 5321 §4.2 (replies), RFC 2034, 3463 and 5248 (enhanced status codes), RFC 4954 §6.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage import errors


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """One reply. `status` is the enhanced status code, empty where RFC 2034 wants none; `text` may have many lines."""

    code: int
    status: str
    text: str

    def encode(self) -> bytes:
        """The octets on the wire (RFC 5321 §4.2.1: all lines but the last have a hyphen after the code)."""
        prefix = f"{self.status} " if self.status else ""
        lines = self.text.split("\n")
        last = f"{self.code} {prefix}{lines[-1]}\r\n"
        if len(lines) == 1:
            return last.encode()
        return ("".join(f"{self.code}-{prefix}{line}\r\n" for line in lines[:-1]) + last).encode()

    @property
    def accepted(self) -> bool:
        return self.code < 400

    @property
    def temporary(self) -> bool:
        return 400 <= self.code < 500


class Refused(Exception):  # noqa: N818
    """A command is answered with `reply` and changes nothing."""

    def __init__(self, reply: SmtpReply) -> None:
        super().__init__(reply.code)
        self.reply = reply


OK = SmtpReply(250, "2.0.0", "OK")
SENDER_OK = SmtpReply(250, "2.1.0", "Sender OK")
RECIPIENT_OK = SmtpReply(250, "2.1.5", "Recipient OK")
START_DATA = SmtpReply(354, "", "End data with <CR><LF>.<CR><LF>")
BYE = SmtpReply(221, "2.0.0", "Bye")
READY_FOR_TLS = SmtpReply(220, "2.0.0", "Ready to start TLS")
CANNOT_VERIFY = SmtpReply(252, "2.5.0", "The address is not verified; try to send")

LOCAL_ERROR = SmtpReply(451, "4.3.0", "The server failed for the moment; try again later")
STOPPING = SmtpReply(421, "4.3.2", "The server is stopping; try again later")
TIMED_OUT = SmtpReply(421, "4.4.2", "Too slow; closing the connection")
TOO_MANY_ERRORS = SmtpReply(421, "4.7.0", "Too many errors; closing the connection")
TOO_MANY_COMMANDS = SmtpReply(421, "4.7.0", "Too many commands; closing the connection")
TOO_MANY_CONNECTIONS = SmtpReply(421, "4.7.0", "Too many connections from your address; try again later")
NETWORK_CROWDED = SmtpReply(421, "4.7.0", "Too many connections from your network; try again later")
TOO_FAST = SmtpReply(421, "4.7.0", "Too many connections from your address in a short time; try again later")
TOO_MANY_MESSAGES = SmtpReply(450, "4.7.1", "Too many messages from your address in a short time; try again later")
TOO_MANY_ASKED_FOR = SmtpReply(450, "4.7.1", "Too many recipients from your address in a short time; try again later")
ENOUGH_MESSAGES = SmtpReply(421, "4.7.0", "Enough messages over one connection; open another one")
SERVER_BUSY = SmtpReply(421, "4.3.2", "Too many connections; try again later")
ACCESS_ENDED = SmtpReply(421, "4.7.0", "Your access has changed; sign in again")

CANNOT_SERVE = SmtpReply(421, "4.3.0", "The server failed for the moment; try again later")
NO_SMTP = SmtpReply(421, "4.7.0", "This server speaks SMTP")
OUT_OF_STEP = SmtpReply(421, "4.7.0", "Where the next command begins is not known; closing the connection")
OUT_OF_TURN = SmtpReply(421, "4.7.0", "More was sent before this command was answered; closing the connection")

UNKNOWN_COMMAND = SmtpReply(500, "5.5.1", "Command not recognised")
NOT_IMPLEMENTED = SmtpReply(502, "5.5.1", "Command not implemented")
LINE_TOO_LONG = SmtpReply(500, "5.5.2", "The line is too long")
BAD_LINE = SmtpReply(500, "5.5.2", "A command is one line of UTF-8 text that ends with <CR><LF>")
NO_ARGUMENT_ALLOWED = SmtpReply(501, "5.5.4", "This command takes no argument")
ARGUMENT_NEEDED = SmtpReply(501, "5.5.4", "An argument is missing")
HELLO_FIRST = SmtpReply(503, "5.5.1", "Say EHLO first")
MAIL_FIRST = SmtpReply(503, "5.5.1", "Say MAIL FROM first")
NO_RECIPIENTS = SmtpReply(554, "5.5.1", "No valid recipients")
NESTED_MAIL = SmtpReply(503, "5.5.1", "A transaction is open already")
NOT_NOW = SmtpReply(503, "5.5.1", "Not during a mail transaction")
AFTER_CHUNKS = SmtpReply(503, "5.5.1", "The message has begun; go on with BDAT, or say RSET")
FAILED_TRANSACTION = SmtpReply(503, "5.5.1", "The transaction has failed; say RSET")
BAD_CHUNK_SIZE = SmtpReply(501, "5.5.4", "The size of the chunk cannot be read")
TURNED_AWAY = SmtpReply(503, "5.5.1", "No mail is taken from you; say QUIT")
TLS_ACTIVE = SmtpReply(503, "5.5.1", "TLS is active already")
TLS_UNAVAILABLE = SmtpReply(454, "4.7.0", "TLS is not available for the moment")
TLS_NEEDED = SmtpReply(530, "5.7.0", "Say STARTTLS first")
AUTH_NEEDED = SmtpReply(530, "5.7.0", "Authentication required")
UNKNOWN_MECHANISM = SmtpReply(504, "5.5.4", "Unrecognized authentication type")
AUTH_NEEDS_TLS = SmtpReply(538, "5.7.11", "Signing in needs TLS")
TOO_MANY_RECIPIENTS = SmtpReply(452, "4.5.3", "Too many recipients in one transaction")
ONE_FOR_A_BOUNCE = SmtpReply(452, "4.5.3", "A message with a null reverse-path has one recipient")
TOO_LARGE = SmtpReply(552, "5.3.4", "The message is larger than this server takes")
BARE_LINE_END = SmtpReply(554, "5.5.2", "Lines end with <CR><LF>; a lone CR or LF is not taken")
NUL_OCTET = SmtpReply(554, "5.6.0", "The message has a NUL octet in it")

# For texts of aiosmtpd, which come without a status code: those of the replies that its own methods make.
USUAL_STATUS = {
    "250": "2.0.0",
    "500": "5.5.1",
    "501": "5.5.4",
    "502": "5.5.1",
    "503": "5.5.1",
    "504": "5.5.4",
    "535": "5.7.8",
}

_TABLE: dict[type[BaseException], tuple[int, str]] = {
    errors.NotFound: (550, "5.1.1"),
    errors.AlreadyExists: (554, "5.3.0"),
    errors.NotPermitted: (550, "5.7.1"),
    errors.AuthenticationFailed: (535, "5.7.8"),
    errors.Throttled: (454, "4.7.0"),
    errors.Suspended: (535, "5.7.13"),
    errors.OverQuota: (452, "4.2.2"),
    errors.QuarantineFull: (452, "4.3.1"),  # as if the server were: a mailbox that is full would be another thing
    errors.TooLarge: (552, "5.3.4"),
    errors.LimitReached: (452, "4.5.3"),
    errors.Conflict: (451, "4.3.0"),
    errors.InvalidInput: (501, "5.5.4"),
    errors.Unavailable: (451, "4.3.0"),
    errors.StorageFull: (452, "4.3.1"),
    errors.Gone: (550, "5.2.1"),
    errors.Corrupt: (451, "4.3.0"),
}


def reply_for(error: BaseException) -> SmtpReply:
    """The reply that `error` is answered with."""
    if isinstance(error, Refused):
        return error.reply
    if isinstance(error, errors.CleanmailError):
        for kind in type(error).__mro__:
            if kind in _TABLE:
                code, status = _TABLE[kind]
                return SmtpReply(code, status, error.public)
    return LOCAL_ERROR

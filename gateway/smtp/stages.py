"""Where an SMTP dialogue stands, and which commands that forbids. A table, pure.

Standards: RFC 5321 §4.1.4 (order of commands) and §3.3, RFC 3030 §2 (DATA and BDAT are not mixed, and after a failure
only RSET clears the transaction), RFC 3207 §4.2, RFC 4954 §4.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from gateway.smtp import replies
from gateway.smtp.replies import SmtpReply


class Stage(Enum):
    TURNED_AWAY = auto()  # greeted with 554; only QUIT is of use
    NEW = auto()  # no EHLO or HELO yet
    IDLE = auto()  # no transaction
    ENVELOPE = auto()  # MAIL was accepted
    CHUNKS = auto()  # a first BDAT was accepted, none of them was the last
    FAILED = auto()  # a BDAT was refused


_NO_SECOND_TRANSACTION: Final = {
    "MAIL": replies.NESTED_MAIL,
    "STARTTLS": replies.NOT_NOW,
    "AUTH": replies.NOT_NOW,
}
_REFUSED: Final[Mapping[Stage, Mapping[str, SmtpReply]]] = {
    Stage.TURNED_AWAY: {},
    Stage.NEW: dict.fromkeys(("MAIL", "RCPT", "DATA", "BDAT", "AUTH"), replies.HELLO_FIRST),
    Stage.IDLE: dict.fromkeys(("RCPT", "DATA", "BDAT"), replies.MAIL_FIRST),
    Stage.ENVELOPE: _NO_SECOND_TRANSACTION,
    Stage.CHUNKS: {**_NO_SECOND_TRANSACTION, "RCPT": replies.AFTER_CHUNKS, "DATA": replies.AFTER_CHUNKS},
    Stage.FAILED: {
        **_NO_SECOND_TRANSACTION,
        **dict.fromkeys(("MAIL", "RCPT", "DATA", "BDAT"), replies.FAILED_TRANSACTION),
    },
}

# RFC 2920 §3.1: what comes after one of these may only be sent when it has been answered.
ENDS_A_GROUP: Final = frozenset({"EHLO", "HELO", "DATA", "AUTH", "STARTTLS"})

# RFC 5321 §4.2.4: known, and not for us. Refused as such, so that nobody thinks that he was misunderstood.
NOT_FOR_US: Final = frozenset({"ETRN", "TURN", "ATRN", "SEND", "SOML", "SAML", "BURL", "XCLIENT", "XFORWARD"})

# A browser or a proxy that was made to speak to us; each line of what it sends would be one more command.
OTHER_PROTOCOLS: Final = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE"})


def refusal(stage: Stage, verb: str) -> SmtpReply | None:
    """What `verb` is answered with where the order of commands forbids it."""
    if stage is Stage.TURNED_AWAY:
        return None if verb == "QUIT" else replies.TURNED_AWAY
    return _REFUSED[stage].get(verb)

"""What of a command line a transcript may keep: envelopes and verbs; no content, no secrets.

A client that goes out of step sends what it meant as a message, or as a password, where commands are read. So only the
arguments of the commands that name the parties are kept, and of anything that is no command only its size.

Standards: RFC 4954 §4 (AUTH), RFC 3030 §2 (BDAT).
"""

from __future__ import annotations

from typing import Final

_KEPT_WHOLE: Final = frozenset({b"EHLO", b"HELO", b"BDAT"})
_BARE: Final = frozenset({b"DATA", b"RSET", b"NOOP", b"QUIT", b"STARTTLS", b"HELP", b"VRFY", b"EXPN", b"ETRN", b"TURN"})
_PATHS: Final = {b"MAIL": b"FROM:", b"RCPT": b"TO:"}
_MECHANISMS: Final = frozenset(
    {b"PLAIN", b"LOGIN", b"CRAM-MD5", b"DIGEST-MD5", b"NTLM", b"GSSAPI", b"EXTERNAL", b"ANONYMOUS", b"XOAUTH2"}
    | {b"OAUTHBEARER", b"SCRAM-SHA-1", b"SCRAM-SHA-256", b"SCRAM-SHA-1-PLUS", b"SCRAM-SHA-256-PLUS"}
)


def transcribed(line: bytes) -> bytes:
    """A command line as its transcript shows it."""
    word, space, rest = line.partition(b" ")
    verb = word.upper()
    if verb in _KEPT_WHOLE:
        return line
    path = _PATHS.get(verb)
    if path is not None and rest[: len(path)].upper() == path:
        return line
    if verb == b"AUTH":
        mechanism = rest.split(b" ", 1)[0].upper()
        return b"AUTH " + (mechanism if mechanism in _MECHANISMS else b"[a mechanism that is not known]")
    if verb in _BARE:
        return word + (b" [%d octets]" % len(rest) if space else b"")
    return b"[no command, %d octets]" % len(line)

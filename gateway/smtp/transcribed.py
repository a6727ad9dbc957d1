"""What of a command line a transcript may keep: envelopes and verbs; no content, no secrets.

A client that goes out of step sends what it meant as a message, or as a password, where commands are read. So only the
arguments of the commands that name the parties are kept, and of anything that is no command only its size.

Standards: RFC 4954 §4 (AUTH), RFC 3030 §2 (BDAT).
"""

from __future__ import annotations

import re
from typing import Final

_NAMES_A_PARTY: Final = re.compile(rb"(?:EHLO|HELO) \S+ *\Z|MAIL +FROM:|RCPT +TO:|BDAT [0-9]+(?: LAST)?\Z", re.I)
_OTHERS: Final = frozenset(
    {b"DATA", b"BDAT", b"RSET", b"NOOP", b"QUIT", b"STARTTLS", b"HELP", b"VRFY", b"EXPN", b"ETRN", b"TURN", b"EHLO"}
    | {b"HELO"}
)
_MECHANISMS: Final = frozenset(
    {b"PLAIN", b"LOGIN", b"CRAM-MD5", b"DIGEST-MD5", b"NTLM", b"GSSAPI", b"EXTERNAL", b"ANONYMOUS", b"XOAUTH2"}
    | {b"OAUTHBEARER", b"SCRAM-SHA-1", b"SCRAM-SHA-256", b"SCRAM-SHA-1-PLUS", b"SCRAM-SHA-256-PLUS"}
)


def transcribed(line: bytes) -> bytes:
    """A command line as its transcript shows it."""
    if _NAMES_A_PARTY.match(line):
        return line
    word, space, rest = line.partition(b" ")
    verb = word.upper()
    if verb == b"AUTH":
        mechanism = rest.strip().split(b" ", 1)[0].upper()
        known = mechanism if mechanism in _MECHANISMS else b"[a mechanism that is not known]"
        return b"AUTH " + known if mechanism else verb
    if verb in _OTHERS:
        return verb + (b" [%d octets]" % len(rest) if space else b"")
    return b"[no command, %d octets]" % len(line)

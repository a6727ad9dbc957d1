"""Names of mailboxes: NFC text, levels separated by "/", INBOX in capitals whatever the client wrote.

Raises: InvalidInput. Standards: RFC 9051 §5.1 (INBOX is caseless, others are not), RFC 5198 §2 (no controls).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from storage.errors import InvalidInput

INBOX = "INBOX"
SEPARATOR = "/"
LEVELS_MAX = 64
OCTETS_MAX = 1000
_CONTROLS = {*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029}


def canonical(name: str) -> str:
    """The one spelling of a name, for looking it up; says nothing about whether it could exist."""
    name = unicodedata.normalize("NFC", name)
    first, separator, rest = name.partition(SEPARATOR)
    return INBOX + separator + rest if first.upper() == INBOX else name


def new_name(name: str) -> str:
    """The canonical spelling of a name that a mailbox may have. Raises InvalidInput."""
    name = canonical(name)
    try:
        octets = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidInput("The name of the mailbox is not valid Unicode.") from None
    if not name or octets > OCTETS_MAX:
        raise InvalidInput(f"The name of a mailbox has 1 to {OCTETS_MAX} octets.")
    if any(ord(character) in _CONTROLS for character in name):
        raise InvalidInput("The name of a mailbox has no control characters.")
    if "*" in name or "%" in name:
        raise InvalidInput("The name of a mailbox has no * and no %: they are wildcards of LIST.")
    levels = name.split(SEPARATOR)
    if not all(levels):
        raise InvalidInput("A level of the mailbox's name is empty.")
    if len(levels) > LEVELS_MAX:
        raise InvalidInput(f"Mailboxes have at most {LEVELS_MAX} levels.")
    return name


def nearest_name(name: str) -> str:
    """A name that a mailbox may have, for one that comes from elsewhere: what it can't have in it becomes "_"."""
    text = name.encode("utf-8", "replace").decode("utf-8")
    text = "".join("_" if character in "*%" or ord(character) in _CONTROLS else character for character in text)
    levels = [level for level in text.split(SEPARATOR) if level][:LEVELS_MAX]
    cut = SEPARATOR.join(levels or ["_"]).encode("utf-8")[:OCTETS_MAX].decode("utf-8", "ignore")
    return new_name(cut.rstrip(SEPARATOR))


def parents(name: str) -> Iterator[str]:
    """The names above, from the top."""
    at = name.find(SEPARATOR)
    while at >= 0:
        yield name[:at]
        at = name.find(SEPARATOR, at + 1)


def below(name: str) -> tuple[str, str]:
    """The range [first, last) of the names of all inferiors of `name`, in the order of code points."""
    return name + SEPARATOR, name + chr(ord(SEPARATOR) + 1)

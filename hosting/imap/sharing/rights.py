r"""What a right lets somebody do: the one table from which commands, flags and the answers about rights follow.

Pure. A list of rights is a str of letters in the order of `RIGHTS`. The two letters of RFC 2086 that were split since
are taken and told, and never kept: `c` stands for `k` and `x`, `d` for `t` and `e`. Every flag is one for all who read
a mailbox, \Seen too, so who may set any of them gets the mailbox READ-WRITE.

Standards: RFC 4314 §2.1 (rights), §2.1.1 (obsolete ones), §3.1 (modifications), §4 (what commands need), §5.1.1, §5.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from storage.directory.mailbox_rights import RIGHTS, How, in_order
from storage.errors import InvalidInput
from storage.values import DELETED, SEEN

ALL: Final = RIGHTS
NEW: Final = "texk"  # those that RFC 2086 did not have, for the capability RIGHTS= (§5.1.1)
_OBSOLETE: Final = {"c": "kx", "d": "te"}
_EVERY_BIT: Final = -1

# What each command needs, of the mailbox that it names or has selected (§4); "r" is needed to select one at all.
NEEDED: Final[Mapping[str, str]] = {
    "SELECT": "r",
    "EXAMINE": "r",
    "STATUS": "r",
    "LIST": "l",
    "CREATE": "k",  # of the nearest mailbox above
    "DELETE": "x",
    "RENAME": "x",  # of the old one, and of those below it
    "RENAME to": "k",  # of the nearest mailbox above the new name
    "APPEND": "i",
    "COPY": "i",  # of the target
    "MOVE": "te",  # of the source (RFC 6851 §4.1)
    "EXPUNGE": "e",
    "SETACL": "a",
    "DELETEACL": "a",
    "GETACL": "a",
    "LISTRIGHTS": "a",
}
ANY_OF_MYRIGHTS: Final = "lrikxa"
_WRITING: Final = "swtie"


def union(*lists: str) -> str:
    """What several entries of one list give together (§2)."""
    return in_order("".join(lists))


def has(rights: str, needed: str) -> bool:
    return all(letter in rights for letter in needed)


def is_read_write(rights: str) -> bool:
    """Whether SELECT answers READ-WRITE (§5.2)."""
    return any(letter in rights for letter in _WRITING)


# Flags


@lru_cache(maxsize=256)
def flag_mask(rights: str) -> int:
    """The bits that may be changed; -1: all of them."""
    if has(rights, "swt"):
        return _EVERY_BIT
    mask = ~(SEEN | DELETED) if "w" in rights else 0
    return mask | (SEEN if "s" in rights else 0) | (DELETED if "t" in rights else 0)


def permitted(rights: str, flags: int, keywords: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """Those of the flags that may be set; the others are left out and nothing is said (§4, APPEND and COPY)."""
    return flags & flag_mask(rights), tuple(keywords) if "w" in rights else ()


def is_storable(rights: str, how: How, flags: int, keywords: Sequence[str]) -> bool:
    """Whether a STORE may change anything of what it asks for (§4, STORE)."""
    return bool(flag_mask(rights)) if how == "replace" else permitted(rights, flags, keywords) != (0, ())


# Rights as people and clients write them


def written(text: str) -> str:
    """A list of rights. Raises InvalidInput for a letter that is none, capitals and digits among them."""
    letters = "".join(_OBSOLETE.get(letter, letter) for letter in text)
    try:
        return in_order(letters)
    except InvalidInput:
        raise InvalidInput("There is no such right; they are lrswipkxtea, in small letters.") from None


def modification(text: str) -> tuple[How, str]:
    """The third argument of SETACL (§3.1). Raises InvalidInput."""
    how: How = "add" if text[:1] == "+" else "remove" if text[:1] == "-" else "replace"
    return how, written(text if how == "replace" else text[1:])


def told(rights: str) -> str:
    """A list as clients of either RFC read it (§2.1.1)."""
    obsolete = (letter for letter, members in _OBSOLETE.items() if any(each in rights for each in members))
    return rights.removesuffix("a") + "".join(obsolete) + ("a" if "a" in rights else "")


def grantable(*, to_owner: bool) -> tuple[str, tuple[str, ...]]:
    """LISTRIGHTS: what somebody always has, and what he can be given, letters by themselves (§3.7)."""
    return (told(ALL), ()) if to_owner else ("", tuple(told(ALL)))

"""What moves in from another server, as values: folders, messages, and what changed of their flags there. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from storage.mail.keywords import SYSTEM_BITS
from storage.values import MailboxId, MessageId


@dataclass(frozen=True, slots=True)
class MovingFolder:
    """A folder of the other server."""

    id: int
    folder: str
    uidvalidity: int
    highest_modseq: int  # 0: flags have to be compared one by one
    mailbox_id: MailboxId

    def delivery_id(self, uid: int) -> str:
        """Under which a message of it is stored here."""
        return f"migrate:{self.id}:{self.uidvalidity}:{uid}"


class Tags(NamedTuple):
    """The flags of a message: system flags as bits, keywords by name."""

    flags: int = 0
    keywords: frozenset[str] = frozenset()


class Moved(NamedTuple):
    """A message that has moved in."""

    uid: int  # there
    message_id: MessageId
    tags: Tags  # there, when they were last looked at
    here: int | None = None  # its UID here; None: it is no longer in the mailbox into which it moved


class Arrived(NamedTuple):
    """What is to be recorded of one."""

    uid: int
    message_id: MessageId
    digest: bytes
    tags: Tags


class Changes(NamedTuple):
    """What is to be done to a message's flags here."""

    added: Tags
    removed: Tags

    def __bool__(self) -> bool:
        return any(self.added) or any(self.removed)


def changes(before: Tags, now: Tags) -> Changes:
    """What changed there: it is done here too, and nothing else. Keywords compare caselessly."""
    had, has = ({word.casefold() for word in tags.keywords} for tags in (before, now))
    return Changes(
        Tags(now.flags & ~before.flags, frozenset(word for word in now.keywords if word.casefold() not in had)),
        Tags(before.flags & ~now.flags, frozenset(word for word in before.keywords if word.casefold() not in has)),
    )


def digest(octets: bytes) -> bytes:
    """By which a message is known again."""
    return hashlib.sha256(octets).digest()[:16]


def tags_of(flags: int, words: str) -> Tags:
    return Tags(flags & SYSTEM_BITS, frozenset(words.split()))


def words_of(tags: Tags) -> str:
    return " ".join(sorted(tags.keywords))

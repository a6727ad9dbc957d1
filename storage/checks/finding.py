"""A finding of a check: what is wrong, how bad it is, and one sentence that an operator understands.

Sentences hold ids, counts and file names of ours, never an address, a subject or a folder name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """NOTE goes away by itself; ERROR is wrong but loses nothing; ALARM: mail is lost or cannot be read."""

    NOTE = "note"
    ERROR = "error"
    ALARM = "alarm"


class Kind(StrEnum):
    # files
    FILE_MISSING = "file-missing"
    FILE_UNREADABLE = "file-unreadable"
    FILE_DIFFERS = "file-differs"
    FILE_WITHOUT_ROW = "file-without-row"
    FILE_UNFINISHED = "file-unfinished"
    FILE_TO_REMOVE = "file-to-remove"
    # rows
    DATABASE_DAMAGED = "database-damaged"
    MEMBERSHIP_LOOSE = "membership-loose"
    MESSAGE_LOOSE = "message-loose"
    CONTENT_MISSING = "content-missing"
    CONTENT_LOOSE = "content-loose"
    COUNTER_WRONG = "counter-wrong"
    USAGE_WRONG = "usage-wrong"
    UID_BEYOND_NEXT = "uid-beyond-next"
    MODSEQ_BEYOND_HIGHEST = "modseq-beyond-highest"
    ID_BEYOND_COUNTER = "id-beyond-counter"
    TOMBSTONE_WRONG = "tombstone-wrong"
    KEYWORD_UNNAMED = "keyword-unnamed"
    SNAPSHOT_WRONG = "snapshot-wrong"
    INDEX_WRONG = "index-wrong"
    NOTE_WRONG = "note-wrong"
    OBJECT_LOOSE = "object-loose"
    COLLECTION_LOOSE = "collection-loose"
    # keys and folders
    KEY_MISSING = "key-missing"
    ACCOUNT_MISSING = "account-missing"
    FOLDER_LOOSE = "folder-loose"


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Kind
    severity: Severity
    text: str
    tenant_id: int | None = None
    account_id: int | None = None
    mailbox_id: int | None = None
    message_id: int | None = None
    uid: int | None = None
    file: str | None = None
    object_id: int | None = None

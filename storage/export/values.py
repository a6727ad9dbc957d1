"""What exports and their readers have in common: forms, names of files, bounds, and how far a run is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

FORMAT = 2  # of everything in an archive; a reader takes what it knows and refuses what is newer. 1: mail alone

MARKER = "export.json"  # whose archive this is; there from the first moment on
INDEX = "index.jsonl"
INDEX_PART = "index.jsonl.part"  # of a run that is not at its end
ACCOUNT = "account.json"
TENANT = "tenant.json"
MANIFEST = "manifest.json"  # there when the archive is complete
ACCOUNTS = "accounts"  # folder of a tenant's archive: one account's archive each

COLLECTIONS = "collections.jsonl"  # index of calendars, address books and files
COLLECTIONS_PART = "collections.jsonl.part"  # of a run that is not at its end
COLLECTIONS_BEFORE = "collections.jsonl.before"  # of the run before, which was not at its end either

PART_FILES = frozenset({COLLECTIONS})  # indexes of what is no mail

# Bounds for a reader, since an archive may come from anybody.
LINE_MAX = 256 * 1024  # octets of one line of an index
DOCUMENT_MAX = 64 * 1024 * 1024  # of account.json and tenant.json
MANIFEST_MAX = 16 * 1024 * 1024
MESSAGE_MAX = 256 * 1024 * 1024  # as storage.archives takes it


class Form(StrEnum):
    """How messages are laid down."""

    MAILDIR = "maildir"
    MBOX = "mbox"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: messages seen, of how many, and octets of them."""

    done: int
    total: int
    octets: int


Tell = Callable[[Progress], None]

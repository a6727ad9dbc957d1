"""How stored data is declared: whose it is, what for, on which ground, for how long, and who may read it.

The kinds of data stand on one page (`storage.register.classes`); tables, columns, logs and patterns of files name
theirs where they are defined. How long a class is kept is a name here (`Kept`): the days belong to the policy
(`storage.register.periods`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Whose(StrEnum):
    """Whom data is about."""

    USER = "user"  # who has a mailbox here
    CORRESPONDENT = "correspondent"  # who writes to users, or is written to
    CUSTOMER = "customer"  # the tenant's contact persons
    STAFF = "staff"  # who works for the provider
    NOBODY = "nobody"  # no person


class Basis(StrEnum):
    """On which ground it is processed (GDPR Art. 6 (1), revFADP Art. 31)."""

    CONTRACT = "contract"  # (b): needed for what was agreed with the person
    LAW = "law"  # (c): a law demands it
    INTEREST = "interest"  # (f): a legitimate interest, such as keeping the service safe
    CONSENT = "consent"  # (a)


class Reader(StrEnum):
    """Who may read it: roles of people by need-to-know, or programs alone."""

    OWNER = "owner"  # whose mailbox it is
    TENANT_ADMINISTRATOR = "tenant_administrator"
    OPERATOR = "operator"
    SUPPORT = "support"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    BILLING = "billing"
    PROGRAMS = "programs"  # nobody: the server itself, for its work


class Kept(StrEnum):
    """For how long, by the name of the policy's period."""

    ACCOUNT = "account"  # as long as its account: the owner decides
    CONTRACT = "contract"  # as long as the tenant's contract
    STAFF = "staff"  # as long as somebody works here
    WORK = "work"  # until its work is done: minutes to days
    QUEUE = "queue"  # until it is delivered, or the retry time is over
    QUARANTINE = "quarantine"
    TRACES = "traces"
    TRANSCRIPTS = "transcripts"
    ACCESS = "access"
    SENDING = "sending"  # how much was sent, TLS results, destinations
    FORWARDING = "forwarding"  # where bounces of forwarded mail lead
    EXPERIENCE = "experience"  # what the filter knows of senders and correspondents
    COUNTS = "counts"  # of verdicts, without persons
    REVIEWS = "reviews"
    AUDIT = "audit"
    BUSINESS = "business"  # customer and billing records, certificates, disclosure cases
    BACKUPS = "backups"
    KEY_BACKUPS = "key_backups"
    INSTALLATION = "installation"  # as long as the installation: no personal data


class Erasure(StrEnum):
    """How it is erased when its time is over."""

    ACCOUNT_KEY = "account_key"  # the account's key is destroyed, then database and files are removed
    TENANT_KEY = "tenant_key"  # the tenant's key is destroyed, then its folder and rows are removed
    SEGMENT_KEY = "segment_key"  # the day's keys are destroyed, then its segments are removed
    ROW = "row"  # rows are deleted, their pages overwritten (secure_delete)
    FILE = "file"  # the file is removed
    CHAIN = "chain"  # personal parts lose their key, the record stays
    NEVER = "never"  # holds nothing of a person


@dataclass(frozen=True, slots=True)
class DataClass:
    """One kind of data."""

    name: str  # unique, a-z and underscores
    title: str  # for the public, begins a sentence: "Messages, folders and flags"
    whose: frozenset[Whose]
    purpose: str  # for the public, completes "It is kept for …"
    basis: Basis
    kept: Kept
    erasure: Erasure
    readers: frozenset[Reader]
    sealed: bool  # encrypted under a key that ends with the person, the customer or the period
    shown: str = ""  # what its readers see, if not all of it; for the public, completes "They see …"


@dataclass(frozen=True, slots=True)
class FileClass:
    """Files of the data directory. `pattern` is relative to it, with * for one name and ** for any depth."""

    pattern: str
    of: DataClass
    what: str = field(default="")  # for the next engineer


def database_files(path: str, of: DataClass) -> tuple[FileClass, ...]:
    """What SQLite and `storage.database` keep beside a database file: its log and index, its lock, one being made."""
    folder, slash, name = path.rpartition("/")
    return (
        FileClass(path, of, "a database, encrypted"),
        FileClass(f"{path}-wal", of, "its log, encrypted"),
        FileClass(f"{path}-shm", of, "the index of its log: page numbers only"),
        FileClass(f"{path}-journal", of, "what undoes a change that was interrupted, encrypted"),
        FileClass(f"{path}.lock", of, "its writers' lock, empty"),
        FileClass(f"{folder}{slash}.{name}.new*", of, "one that is being made"),
    )

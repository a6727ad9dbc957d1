"""Checks of notes: each has both faces, they say what the note says, and they are of its revision.

Writers may be at work: each note is seen in one state of the database. What is found is mended by the jobs role when it
sweeps the account (storage.notes.settling).
"""

from __future__ import annotations

from collections.abc import Iterator

from storage.checks.finding import Finding, Kind, Severity
from storage.mail.account import Account


def check_notes(account: Account, *, contents: bool) -> Iterator[Finding]:
    """With `contents` the messages are read too."""
    for found in account.note_settling.disagreements(contents=contents):
        yield Finding(Kind.NOTE_WRONG, Severity.ERROR, found.why)

"""What an account holds beside mail, as far as an archive takes it: calendars, address books, notes, when they exist.

A part has folders of its own in the archive, and an index of its own whose name stands in `values.PART_FILES`, so that
the manifest names its hash and readers let it be. Each is exported after the mail and restored after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from storage.export.archive import ArchiveFolder
from storage.export.place import Place
from storage.mail.account import Account


class Part(Protocol):
    def export(self, account: Account, place: Place) -> tuple[list[str], Mapping[str, int]]:
        """Bring the archive to what the account holds, durably: the names for the manifest, and what it counts."""

    def restore(self, account: Account, archive: ArchiveFolder, *, dry_run: bool) -> list[str]:
        """Bring back what is missing in the account, durably: sentences about what was left out."""


PARTS: tuple[Part, ...] = ()

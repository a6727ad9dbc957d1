"""What became of a move: counts of both sides for each folder, for people and for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_NOTES_MAX = 50


@dataclass(slots=True)
class FolderReport:
    folder: str  # there
    mailbox: str  # here
    left_out: str = ""  # why the folder stays, as was to be expected
    failed: str = ""  # why not all of it could be looked at
    there: int = 0
    here: int = 0  # of those there, how many are in the mailbox
    removed_here: int = 0  # moved in, and their owner deleted or moved them here
    missing: int = 0  # are there and not here, and nobody wanted that
    skipped: Counter[str] = field(default_factory=Counter)  # by reason
    older: int = 0  # than what was asked for
    pulled: int = 0  # now
    octets: int = 0
    present: int = 0  # were here already, from elsewhere
    flags: int = 0  # messages whose flags changed there since, and do here now
    gone: int = 0  # moved in, and are no longer there
    deleted: int = 0  # of those, removed here now
    pending: int = 0  # in a dry run: would be pulled

    @property
    def is_complete(self) -> bool:
        return not self.failed and not self.missing

    def values(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "mailbox": self.mailbox,
            "left_out": self.left_out or None,
            "failed": self.failed or None,
            "there": self.there,
            "here": self.here,
            "missing": self.missing,
            "removed_here": self.removed_here,
            "skipped": dict(self.skipped),
            "older": self.older,
            "pulled": self.pulled,
            "octets": self.octets,
            "present": self.present,
            "flags_changed": self.flags,
            "gone": self.gone,
            "deleted": self.deleted,
            "pending": self.pending,
        }


@dataclass(slots=True)
class Report:
    """`stopped` says why the move ended before it was through, if it did."""

    folders: list[FolderReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stopped: str = ""
    connections: int = 0
    is_dry: bool = False
    is_final: bool = False  # nothing of the move is kept: mail that is there and not here would come again

    @property
    def is_complete(self) -> bool:
        return not self.stopped and all(each.is_complete for each in self.folders)

    def total(self, name: str) -> int:
        return sum(getattr(each, name) for each in self.folders)

    def note(self, sentence: str) -> None:
        if sentence not in self.notes and len(self.notes) < _NOTES_MAX:
            self.notes.append(sentence)

    def values(self) -> dict[str, Any]:
        names = (
            "there",
            "here",
            "missing",
            "removed_here",
            "pulled",
            "octets",
            "present",
            "gone",
            "deleted",
            "pending",
        )
        return {
            "complete": self.is_complete,
            "dry_run": self.is_dry,
            "final": self.is_final,
            "stopped": self.stopped or None,
            "connections": self.connections,
            **{name: self.total(name) for name in names},
            "folders": [each.values() for each in self.folders],
            "notes": self.notes,
        }


@dataclass(frozen=True, slots=True)
class Progress:
    folder: str
    done: int
    total: int  # of this folder
    octets: int  # of all folders so far
    waits: float = 0.0  # seconds until a connection that broke is made again


Tell = Callable[[Progress], None]

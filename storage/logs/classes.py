"""The kinds of records that are kept for a time, each with its period and its purpose: the declared data of retention.

A day's segments are destroyed together, when the first record that the day can hold reaches the ceiling. So a record
lives at least `floor_days` and less than `ceiling_days`; `storage.retention` removes what is due.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogClass:
    """One kind of record, how long it is kept, and why."""

    name: str  # of its folder
    floor_days: int  # every record can be read for so long
    ceiling_days: int  # none is there for longer
    purpose: str

    def __post_init__(self) -> None:
        if self.floor_days >= self.ceiling_days:  # the records of a day end together
            raise ValueError(f"log class {self.name}: its floor must be at least a day below its ceiling")


ACCESS = LogClass("access", 364, 365, "access events: time, type and result of what was done with an account")
TRANSCRIPTS = LogClass(
    "transcripts", 364, 365, "raw SMTP transcripts: sender, recipient and time can be reconstructed, by log auditors"
)
TRACES = LogClass("traces", 13, 14, "what became of each message, for support and the tenant's administrators")

CLASSES = (ACCESS, TRANSCRIPTS, TRACES)

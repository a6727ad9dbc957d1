"""The kinds of records that are kept for a time, each in segments by day: the declared data of retention.

How long each is kept is the policy of the installation (`storage.register.periods`). A day's segments are destroyed
together, when the first record that the day can hold reaches the ceiling. So a record lives at least the period's
floor and less than its ceiling; `storage.retention` removes what is due.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.register import classes
from storage.register.periods import BOUNDS
from storage.register.values import DataClass, Kept


@dataclass(frozen=True, slots=True)
class LogClass:
    """One kind of record."""

    name: str  # of its folder
    of: DataClass

    @property
    def kept(self) -> Kept:
        return self.of.kept

    @property
    def ceiling_days(self) -> int:
        """The most that any policy may choose: no record is there for longer."""
        return BOUNDS[self.of.kept].most

    @property
    def floor_days(self) -> int:
        """What every record can be read for under the longest period."""
        return self.ceiling_days - 1


ACCESS = LogClass("access", classes.ACCESS_EVENTS)
TRANSCRIPTS = LogClass("transcripts", classes.TRANSCRIPTS)
TRACES = LogClass("traces", classes.TRACES)

CLASSES = (ACCESS, TRANSCRIPTS, TRACES)

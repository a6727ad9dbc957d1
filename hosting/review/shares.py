"""What the provider promises of wrongly filtered mail, beside what was counted. Pure.

All traffic is every verdict for every recipient but those that put a message off: it comes again and is counted then.
The promise is kept while both shares are below it: of what a person had to look at, and of what a person found wrongly
withheld.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storage.filter.counts import VERDICTS, Counted

DAYS = 30  # of the promise


@dataclass(frozen=True, slots=True)
class Shares:
    """`promised` in percent of all traffic."""

    sums: Mapping[Counted, int]
    promised: float

    @property
    def judged(self) -> int:
        """All traffic."""
        return sum(self.sums[what] for what in VERDICTS if what is not Counted.DEFER)

    def percent(self, what: Counted) -> float:
        """Of all traffic; where there is none but somebody looked, all of it."""
        count = self.sums[what]
        return 100.0 * count / self.judged if self.judged else 100.0 * bool(count)

    @property
    def reviewed(self) -> float:
        """What a person looked at, in percent."""
        return self.percent(Counted.VIEWED)

    @property
    def wrong(self) -> float:
        """What was found to be wrongly withheld, in percent."""
        return self.percent(Counted.WRONG)

    @property
    def alarm(self) -> bool:
        return max(self.reviewed, self.wrong) >= self.promised

"""What remains after an erasure by law or for the provider's safety, and until when: from the register and the policy.

Classes that lie in databases and logs that go on. What the tenant's or the account's own databases hold ends with
their keys, whatever period it has; the last removal of the rest is the ceiling of its period away.
"""

from __future__ import annotations

from storage.certificates.certificate import Remaining
from storage.register import classes
from storage.register.periods import Periods
from storage.register.values import DataClass

# What every erasure leaves, and what it leaves only where there was such a thing.
ALWAYS: tuple[DataClass, ...] = (
    classes.TRANSCRIPTS,
    classes.ACCESS_EVENTS,
    classes.TRACES,
    classes.AUDIT,
    classes.ERASURES,
)
OF_CUSTOMERS: tuple[DataClass, ...] = (classes.CONTRACTS, classes.VERDICT_COUNTS)
IF_ANY: tuple[DataClass, ...] = (classes.REVIEWS, classes.APPROVALS, classes.HOLDS, classes.DISCLOSURES)

_DAY = 86_400


def remaining(periods: Periods, at: int, *, whole: bool) -> tuple[Remaining, ...]:
    """After the erasure of a tenant (`whole`) or of one account at that time."""
    found = [_remaining(periods, at, each) for each in ALWAYS + (OF_CUSTOMERS if whole else ())]
    return (*found, *(_remaining(periods, at, each, " (where there were any)") for each in IF_ANY))


def _remaining(periods: Periods, at: int, of: DataClass, condition: str = "") -> Remaining:
    days = periods.of(of.kept).ceiling_days
    return Remaining(of.name, of.title + condition, of.basis.value, None if days is None else at + days * _DAY)

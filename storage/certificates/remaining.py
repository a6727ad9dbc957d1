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
OF_CUSTOMERS_IF_ANY: tuple[DataClass, ...] = (classes.STAFF,)  # its administrators: what they did is on record

# What the keys that are left open in backups of before. Each goes at the ceiling of its period, wherever it is.
_IN_BACKUPS = "Backups of before: {}; all else in them is unreadable"
_OF_TENANT = "the tenant's and its domains' names, who administered it"
_OF_ACCOUNT = "the account's names and addresses, mail withheld from it"

_DAY = 86_400


def remaining(periods: Periods, at: int, *, whole: bool) -> tuple[Remaining, ...]:
    """After the erasure of a tenant (`whole`) or of one account at that time."""
    always = ALWAYS + (OF_CUSTOMERS if whole else ())
    if_any = IF_ANY + (OF_CUSTOMERS_IF_ANY if whole else ())
    of, kept = classes.BACKUPS, _IN_BACKUPS.format(_OF_TENANT if whole else _OF_ACCOUNT)
    return (
        *(_remaining(periods, at, each) for each in always),
        *(_remaining(periods, at, each, f"{each.title} (where there were any)") for each in if_any),
        _remaining(periods, at, of, f"{kept} (where there were any)"),
    )


def _remaining(periods: Periods, at: int, of: DataClass, title: str = "") -> Remaining:
    days = periods.of(of.kept).ceiling_days
    return Remaining(of.name, title or of.title, of.basis.value, None if days is None else at + days * _DAY)

"""What a contract with a tenant says, and what follows from it at a moment: values, without a store.

A contract has limits, a period of notice, and an end that may be open. Before the end there may be a window in which
mail can be read and exported but nothing new is stored: `Contract.is_read_only`, `Contract.intake`. The store is
`storage.directory.contracts`.

Raises: InvalidInput, NotPermitted, Conflict, LimitReached.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

from storage.errors import Conflict, InvalidInput, LimitReached, NotPermitted
from storage.values import TenantId

DAY = 86_400
GRACE = 3 * DAY  # of the window before the end, in which other servers are asked to try again (0026-certificates.md)
READ_ONLY = "The contract ends: mail can be read and exported, but nothing is stored, changed or sent any more."
_LIMIT_MAX = 10**18


class Feature(StrEnum):
    """What a contract may be limited to; without a list everything is allowed."""

    IMAP = "imap"
    SUBMISSION = "submission"
    DAV = "dav"
    ROUTES = "routes"  # mail of a domain goes to a server of the tenant
    FILTER = "filter"  # rules and lists of the tenant's own
    EXPORT = "export"  # archives at any time; once an end is set everybody may take his data along


class Intake(Enum):
    """What becomes of new mail for the tenant's mailboxes."""

    OPEN = auto()
    FULL = auto()  # all accounts together are above the contract's storage: 452, until there is room
    DEFERRED = auto()  # the window has begun: 450, so that what comes again meanwhile finds the new provider
    CLOSED = auto()  # nobody will take it: 550, so that its sender knows


@dataclass(frozen=True, slots=True)
class ContractLimits:
    """0 and no features: unlimited."""

    accounts: int = 0
    bytes: int = 0
    domains: int = 0
    features: frozenset[Feature] = frozenset()

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        if not all(0 <= number <= _LIMIT_MAX for number in (self.accounts, self.bytes, self.domains)):
            raise InvalidInput("A limit is 0, for none, or more, and below a million terabytes.")

    def allows(self, feature: Feature) -> bool:
        return not self.features or feature in self.features

    def check_accounts(self, quotas: Sequence[int]) -> None:
        """Whether there may be as many accounts as these quotas (octets; 0: unlimited). Raises LimitReached."""
        if self.accounts and len(quotas) > self.accounts:
            raise LimitReached(f"The contract allows {self.accounts} accounts, and there are as many already.")
        self.check_quotas(quotas)

    def check_quotas(self, quotas: Sequence[int]) -> None:
        """Whether accounts may be given these quotas together. Raises LimitReached.

        Those without a quota count nothing here: what they store counts when it is measured.
        """
        given = sum(quotas)
        if self.bytes and given > self.bytes:
            raise LimitReached(f"The contract allows {self.bytes} octets, and the quotas would be {given} together.")


@dataclass(frozen=True, slots=True)
class Contract:
    tenant_id: TenantId
    started: int
    notice_days: int = 0
    ends: int | None = None  # None: open-ended
    ended_by: str | None = field(default=None, repr=False)
    read_only_days: int = 0  # before the end
    limits: ContractLimits = ContractLimits()
    reminded: int = 0  # days before the end of the last reminder; 0: none yet
    used_bytes: int = 0  # of all accounts, when they were last measured
    measured: int | None = None

    @property
    def read_only_from(self) -> int | None:
        """When the window before the end begins; with one of no days, at the end, until the erasure has begun."""
        return None if self.ends is None else self.ends - self.read_only_days * DAY

    def is_read_only(self, now: int) -> bool:
        begins = self.read_only_from
        return begins is not None and now >= begins

    def intake(self, now: int) -> Intake:
        begins = self.read_only_from
        if begins is not None and now >= begins:
            return Intake.DEFERRED if now < begins + GRACE else Intake.CLOSED
        return Intake.FULL if self.is_over_quota else Intake.OPEN

    def is_due(self, now: int) -> bool:
        return self.ends is not None and now >= self.ends

    @property
    def is_over_quota(self) -> bool:
        return bool(self.limits.bytes) and self.used_bytes > self.limits.bytes


def check_end(found: Contract, ends: int | None, now: int, *, early: bool) -> None:
    """Raises Conflict, InvalidInput or NotPermitted: see `Contracts.set_end`."""
    if found.is_due(now):
        raise Conflict("The contract has ended already; its data is being erased.")
    if ends is None:
        return
    if ends <= now:
        raise InvalidInput("The end of a contract lies ahead; to end a tenant at once there is: cleanmail tenant end.")
    if ends < found.started:
        raise InvalidInput("A contract ends after it has begun.")
    if not early and is_early(found, ends, now):
        raise NotPermitted(
            f"The period of notice is {found.notice_days} days; an earlier end needs --early and a second person."
        )


def is_early(found: Contract, ends: int, now: int) -> bool:
    """Whether that end leaves less than the period of notice. A day that has begun counts whole."""
    return ends < now - now % DAY + found.notice_days * DAY


def parse_features(names: Collection[str]) -> frozenset[Feature]:
    """Raises InvalidInput for a name of none."""
    known = {each.value: each for each in Feature}
    for name in names:
        if name not in known:
            raise InvalidInput(f"'{name[:40]}' is no feature; there are {', '.join(known)}.")
    return frozenset(known[name] for name in names)

"""Limits on what accounts send to addresses elsewhere, and the freezing of one that suddenly sends masses.

`admit` is asked before a message is accepted; what counts is kept in queue.db by the transaction that accepts it, so
the numbers are those of the whole installation and survive restarts. Messages that are accepted at the same moment do
not see each other, so a limit may be passed by what is in flight. When `freeze` returns, the account is frozen durably,
its queue held; both may be repeated. The rule itself (`decide`) is pure.

Raises: Unavailable, NotFound and Gone of tenants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from storage.errors import InvalidInput
from storage.installation import Installation
from storage.queue.sent import HOUR
from storage.sending_limits import MOST, SendingLimits
from storage.values import AccountId, TenantId

DAY_HOURS, WEEK_HOURS = 24, 168
SETTING = "sending."  # followed by the name of a field: a tenant's own value
LIMITS = tuple(each.name for each in fields(SendingLimits))


class Ruling(StrEnum):
    ALLOW = "allow"
    LATER_ACCOUNT = "later_account"  # the account has sent as much as it may for now
    LATER_TENANT = "later_tenant"
    FREEZE = "freeze"  # this would be a sudden mass: the account has to be frozen
    FROZEN = "frozen"  # it is


@dataclass(frozen=True, slots=True)
class Sent:
    """Recipients elsewhere by hour (Unix time / 3600), of the account and of its whole tenant."""

    account: Mapping[int, int]
    tenant: Mapping[int, int]


def decide(sent: Sent, now: int, recipients: int, limits: SendingLimits, *, trusted: bool = False) -> Ruling:
    """What is to become of a message to so many recipients. `trusted`: an operator has just looked at the account."""
    if recipients <= 0:
        return Ruling.ALLOW
    within_hour = recipients + _sliding(sent.account, now, 1)
    allowance = max(limits.freeze_above, limits.freeze_factor * _busiest(sent.account, now))
    if limits.freeze_above and within_hour > allowance and not trusted:
        return Ruling.FREEZE
    for limit, counts, hours, ruling in (
        (limits.account_per_hour, sent.account, 1, Ruling.LATER_ACCOUNT),
        (limits.account_per_day, sent.account, DAY_HOURS, Ruling.LATER_ACCOUNT),
        (limits.tenant_per_hour, sent.tenant, 1, Ruling.LATER_TENANT),
        (limits.tenant_per_day, sent.tenant, DAY_HOURS, Ruling.LATER_TENANT),
    ):
        if limit and recipients + _sliding(counts, now, hours) > limit:
            return ruling
    return Ruling.ALLOW


def _sliding(counts: Mapping[int, int], now: int, hours: int) -> int:
    """Recipients of the last so many hours; of the hour that began before them the part that is within, rounded up."""
    hour, elapsed = divmod(now, HOUR)
    whole = sum(counts.get(hour - back, 0) for back in range(hours))
    return whole - counts.get(hour - hours, 0) * (elapsed - HOUR) // HOUR


def _busiest(counts: Mapping[int, int], now: int) -> int:
    """What the account sent in the busiest hour of the week before the last two hours, which are what is judged."""
    hour = now // HOUR
    return max((count for of, count in counts.items() if hour - WEEK_HOURS <= of < hour - 1), default=0)


class Sending:
    """Any thread may use it."""

    def __init__(self, installation: Installation, limits: SendingLimits) -> None:
        self._installation = installation
        self._limits = limits

    def admit(self, tenant_id: TenantId, account_id: AccountId, recipients: int) -> Ruling:
        """Whether the account may send a message to so many recipients elsewhere now; 0: whether it may send at all."""
        tenant = self._installation.tenant(tenant_id)
        if tenant.frozen.find(account_id) is not None:
            return Ruling.FROZEN
        if not recipients:
            return Ruling.ALLOW
        now = self._installation.clock.now()
        hour, queue = now // HOUR, self._installation.queue
        sent = Sent(
            queue.sent_by_account(tenant_id, account_id, hour - WEEK_HOURS),
            queue.sent_by_tenant(tenant_id, hour - DAY_HOURS),
        )
        ruling = decide(sent, now, recipients, self.limits(tenant_id))
        if ruling is Ruling.FREEZE and tenant.frozen.is_trusted(account_id):
            return decide(sent, now, recipients, self.limits(tenant_id), trusted=True)
        return ruling

    def limits(self, tenant_id: TenantId) -> SendingLimits:
        """The installation's, with what the tenant's settings say."""
        settings = self._installation.tenant(tenant_id).settings(SETTING)
        own = {
            name: int(settings[SETTING + name])
            for name in LIMITS
            if settings.get(SETTING + name, "").isdecimal()  # a setting that is broken is none
        }
        return replace(self._limits, **own)

    def set_limit(self, tenant_id: TenantId, name: str, value: int | None) -> None:
        """A tenant's own value; None: the installation's counts again. Raises InvalidInput."""
        if name not in LIMITS:
            raise InvalidInput(f"There is no limit '{name[:40]}'; they are: {', '.join(LIMITS)}.")
        if value is not None and not (1 if name == "freeze_factor" else 0) <= value <= MOST:
            raise InvalidInput(f"{value} is no value of {name}.")
        self._installation.tenant(tenant_id).set_setting(SETTING + name, None if value is None else str(value))

    def freeze(self, tenant_id: TenantId, account_id: AccountId, reason: str) -> bool:
        """Holds what the account has in the queue and stops what it sends; False if it was frozen already."""
        self._installation.queue.hold_account(tenant_id, account_id)
        return self._installation.tenant(tenant_id).frozen.freeze(account_id, reason)

    def thaw(self, tenant_id: TenantId, account_id: AccountId) -> int:
        """The account may send again, and what was held goes out; how many messages."""
        self._installation.tenant(tenant_id).frozen.thaw(account_id)
        return self._installation.queue.release_account(tenant_id, account_id)

"""Removes what was kept for its time, class by class, as the register and the policy of the installation say.

One pass over everything; it may be repeated at any time and goes on where a crash interrupted it. What cannot be
removed now does not keep the rest from going: it is logged, and the next pass tries again. What a legal hold covers is
left as it is, from the moment on at which it is made. Each pass leaves a receipt for each class, and an error in the
operational log for each of which something is older than its ceiling.

Raises: Unavailable where the clock is not believed (`storage.clock_guard`). It is asked before each part of the
installation and before each tenant, since a pass over many of them takes minutes: nothing more is removed then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from storage.directory.receipts import Receipt
from storage.directory.rows import State
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.mail import journal
from storage.mail.account import Account
from storage.register import classes
from storage.register.values import DataClass
from storage.retention.ages import earliest
from storage.retention.collections import remove_from_collections, remove_from_scheduling
from storage.retention.folders import remove_from_folders
from storage.retention.removers import INSTALLATION, TENANT, Due
from storage.values import TenantId

_log = logging.getLogger("cleanmail.storage")

_OF_ACCOUNTS = (classes.MAIL, classes.COLLECTIONS, classes.SCHEDULING)

GRACE = 2 * 3600  # seconds above a ceiling before it is an alarm: passes come every hour


@dataclass(slots=True)
class Removed:
    """What one pass removed."""

    days: dict[str, list[str]] = field(default_factory=dict)  # of records, by the name of their folder
    rows: int = 0  # of databases, and certificates
    messages: int = 0  # that left folders
    failed: int = 0  # parts that have to be tried again
    receipts: list[Receipt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Standing:
    """How old what there is of a class is."""

    of: DataClass
    oldest: int | None
    overdue: bool
    failed: int  # parts that could not be looked at


@dataclass(slots=True)
class _Tally:
    """Of one class in one pass."""

    removed: int = 0
    oldest: int | None = None
    failed: int = 0


class _Pass:
    def __init__(self, installation: Installation, now: int, stopping: Callable[[], bool]) -> None:
        self.installation = installation
        self.now = now
        self.stopping = stopping
        self.removed = Removed()
        concerned = [*(each.of for each in INSTALLATION), *(each.of for each in TENANT), *_OF_ACCOUNTS]
        self.tallies = {of: _Tally() for of in concerned}
        self.tenants = [row.tenant_id for row in installation.control.tenants() if row.state is not State.ENDED]

    def held(self) -> frozenset[TenantId]:
        """Tenants that a legal hold covers now, wholly or an account of theirs."""
        return frozenset(hold.tenant_id for hold in self.installation.control.holds.all() if hold.in_force(self.now))

    def due(self, of: DataClass, held: frozenset[TenantId] = frozenset()) -> Due:
        return Due(self.installation, self.installation.periods.of(of.kept), self.now, held)

    @contextmanager
    def part(self, of: DataClass, name: str) -> Iterator[_Tally]:
        """What fails in it is counted and told; a tenant that ended this moment is no failure."""
        tally = self.tallies[of]
        try:
            yield tally
        except (NotFound, Gone):
            return
        except Exception as error:  # noqa: BLE001 - a mistake of ours in one part keeps nothing else from going either
            tally.failed += 1
            self.removed.failed += 1
            detail = error.detail if isinstance(error, CleanmailError) else ""
            _log.error("retention: %s: %s; the next pass tries again", name, detail or type(error).__name__)

    def is_overdue(self, of: DataClass, oldest: int | None) -> bool:
        period = self.installation.periods.of(of.kept)
        return period.bounded and oldest is not None and oldest < period.limit(self.now) - GRACE

    # Removing

    def remove(self) -> None:
        for remover in INSTALLATION:
            self.installation.clock_guard.check()
            with self.part(remover.of, remover.part) as tally:
                found = remover.remove(self.due(remover.of, self.held()))
                if isinstance(found, list):
                    if found:
                        self.removed.days[remover.part] = found
                        _log.info("retention: %s: %s destroyed", remover.part, ", ".join(found))
                    tally.removed += len(found)
                else:
                    self.removed.rows += found
                    tally.removed += found
        for tenant_id in self.tenants:
            if self.stopping():
                return
            self.installation.clock_guard.check()
            is_held = self.installation.control.holds.covers(tenant_id)
            if not is_held:
                self._remove_of(tenant_id)
                self._look_at(tenant_id)  # while it is open
            self._remove_from_folders(tenant_id, is_held=is_held)
        self._look_at_installation()

    def _remove_of(self, tenant_id: TenantId) -> None:
        for remover in TENANT:
            with self.part(remover.of, f"{remover.part} of tenant {tenant_id}") as tally:
                count = remover.remove(self.due(remover.of), tenant_id)
                tally.removed += count
                self.removed.rows += count

    def _remove_from_folders(self, tenant_id: TenantId, *, is_held: bool) -> None:
        installation = self.installation
        accounts = []
        with self.part(classes.MAIL, f"folders of tenant {tenant_id}"):
            accounts = [account.account_id for account in installation.tenant(tenant_id).accounts()]
        for account_id in accounts:
            if self.stopping():
                return
            if is_held and installation.control.holds.covers(tenant_id, account_id):
                continue
            with (
                self.part(classes.MAIL, f"folders of account {account_id} of tenant {tenant_id}") as tally,
                installation.account(tenant_id, account_id) as account,
            ):
                count = remove_from_folders(account, installation.folder_rules, self.now, self.stopping)
                count += journal.expire(account, self.due(classes.ACCESS_EVENTS).cut_off)
                tally.removed += count
                self.removed.messages += count
                self._remove_from_collections(account)

    def _remove_from_collections(self, account: Account) -> None:
        """While it is open."""
        name = f"account {account.account_id} of tenant {account.tenant_id}"
        with self.part(classes.COLLECTIONS, f"collections of {name}") as tally:
            count = remove_from_collections(account, self.now, self.stopping)
            tally.removed += count
            self.removed.rows += count
        with self.part(classes.SCHEDULING, f"scheduling of {name}") as tally:
            count = remove_from_scheduling(account, self.installation.clock)
            tally.removed += count
            self.removed.rows += count

    # Looking

    def look(self) -> None:
        """How old what is left is; what holds cover is not counted."""
        self._look_at_installation()
        held = self.held()
        for tenant_id in self.tenants:
            if tenant_id not in held:
                self._look_at(tenant_id)

    def _look_at_installation(self) -> None:
        held = self.held()
        for remover in INSTALLATION:
            with self.part(remover.of, remover.part) as tally:
                tally.oldest = earliest([tally.oldest, remover.oldest(self.due(remover.of, held))])

    def _look_at(self, tenant_id: TenantId) -> None:
        for remover in TENANT:
            with self.part(remover.of, f"{remover.part} of tenant {tenant_id}") as tally:
                tally.oldest = earliest([tally.oldest, remover.oldest(self.due(remover.of), tenant_id)])

    def standings(self) -> list[Standing]:
        return [
            Standing(of, tally.oldest, self.is_overdue(of, tally.oldest), tally.failed)
            for of, tally in self.tallies.items()
        ]

    def receipts(self) -> list[Receipt]:
        return [
            Receipt(
                of.name,
                self.now,
                self.due(of).cut_off if self.due(of).period.bounded else 0,
                tally.removed,
                tally.oldest,
                tally.failed,
                self.is_overdue(of, tally.oldest),
            )
            for of, tally in self.tallies.items()
        ]


def remove_due(installation: Installation, *, stopping: Callable[[], bool] = lambda: False) -> Removed:
    """One pass. When `stopping` becomes true it ends early, without receipts."""
    work = _Pass(installation, installation.clock_guard.check(), stopping)
    work.remove()
    if stopping():
        return work.removed
    receipts = work.removed.receipts = work.receipts()
    for receipt in receipts:
        if receipt.overdue:
            _log.error("retention: %s: something is older than its ceiling", receipt.data_class)
    try:
        installation.control.receipts.add(receipts)
    except CleanmailError as error:
        _log.error("retention: its receipts were not kept: %s", error.detail or type(error).__name__)
    return work.removed


def measure(installation: Installation) -> list[Standing]:
    """How old what there is of each class is now; changes nothing."""
    work = _Pass(installation, installation.clock.now(), lambda: False)
    work.look()
    return work.standings()

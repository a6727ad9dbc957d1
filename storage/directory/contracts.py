"""Contracts with tenants, in control.db: since when, what they may use, when and by whom they end.

A tenant without a row has a contract without limits and without an end. Only a person sets the end, and until it is
reached a person can take it back; `due` lists what has to be ended now, and nothing here ends it. What follows from a
contract is in `storage.directory.terms`. Who is told of the end is sealed under the tenant's key. Every change is
durable on return.

What a contract allows is asked at every recipient and every sign-in, so `of` is one point read.

Raises: NotFound, InvalidInput, NotPermitted, Conflict, LimitReached.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import Connection, prepare
from storage.directory.rows import State
from storage.directory.terms import READ_ONLY, Contract, ContractLimits, Feature, Intake, check_end
from storage.errors import InvalidInput, LimitReached, NotFound, NotPermitted
from storage.keys.sealing import open_sealed, seal
from storage.keys.source import KeySource
from storage.schema.contracts import contract
from storage.schema.control import domain, tenant
from storage.values import EmailAddress, TenantId

_DAYS_MAX = 3650

_COLUMNS = (
    contract.c.tenant_id,
    contract.c.started,
    contract.c.notice_days,
    contract.c.ends,
    contract.c.ended_by,
    contract.c.read_only_days,
    contract.c.max_accounts,
    contract.c.max_bytes,
    contract.c.max_domains,
    contract.c.features,
    contract.c.reminded,
    contract.c.used_bytes,
    contract.c.measured,
)
_THIS = contract.c.tenant_id == bindparam("id")
_ONE = prepare(select(*_COLUMNS).where(_THIS))
_ALL = prepare(select(*_COLUMNS).order_by(contract.c.tenant_id))
_LIVES = (tenant.c.tenant_id == contract.c.tenant_id, tenant.c.state != State.ENDED.value)
_ENDING = prepare(
    select(*_COLUMNS)
    .where(contract.c.ends.is_not(None), contract.c.ends <= bindparam("until"), *_LIVES)
    .order_by(contract.c.ends, contract.c.tenant_id)
)
_LIMITED = prepare(
    select(*_COLUMNS).where(contract.c.max_bytes > 0, *_LIVES).order_by(contract.c.measured, contract.c.tenant_id)
)
_TENANT = prepare(select(tenant.c.created, tenant.c.state).where(tenant.c.tenant_id == bindparam("id")))
_COUNT_DOMAINS = prepare(select(func.count()).where(domain.c.tenant_id == bindparam("id")))
_INSERT = prepare(insert(contract))
_SET_LIMITS = prepare(
    update(contract)
    .where(_THIS)
    .values(
        max_accounts=bindparam("accounts"),
        max_bytes=bindparam("octets"),
        max_domains=bindparam("domains"),
        features=bindparam("allowed"),
    )
)
_SET_TERMS = prepare(
    update(contract)
    .where(_THIS)
    .values(started=bindparam("since"), notice_days=bindparam("notice"), read_only_days=bindparam("window"))
)
_SET_END = prepare(
    update(contract).where(_THIS).values(ends=bindparam("time"), ended_by=bindparam("person"), reminded=0)
)
_REMINDED = prepare(
    update(contract).where(_THIS, contract.c.ends == bindparam("time")).values(reminded=bindparam("days"))
)
_MEASURED = prepare(update(contract).where(_THIS).values(used_bytes=bindparam("octets"), measured=bindparam("time")))
_CONTACT = prepare(select(contract.c.contact).where(_THIS))
_SET_CONTACT = prepare(update(contract).where(_THIS).values(contact=bindparam("who")))


class Contracts:
    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    # What is agreed

    def of(self, tenant_id: TenantId) -> Contract:
        """The tenant's contract; without a row one without limits and end. Raises NotFound: no such tenant."""
        with self._database.reading() as connection:
            return _find(connection, tenant_id)

    def agreed(self, tenant_id: TenantId) -> bool:
        """Whether anything was agreed: without a row a contract is open-ended, and one person ends it."""
        with self._database.reading() as connection:
            return _ONE.one(connection, id=tenant_id) is not None

    def all(self) -> list[Contract]:
        """Those about which something was agreed."""
        with self._database.reading() as connection:
            return [_row(row) for row in _ALL.rows(connection)]

    def find(self, tenant_id: TenantId) -> Contract | None:
        """As `of`, for those that nothing was agreed with None: asked at every recipient and every sign-in."""
        with self._database.reading() as connection:
            row = _ONE.one(connection, id=tenant_id)
        return None if row is None else _row(row)

    def is_read_only(self, tenant_id: TenantId, now: int | None = None) -> bool:
        """Whether nothing may be stored, changed or sent for the tenant, since its contract ends."""
        found = self.find(tenant_id)
        return found is not None and found.is_read_only(self._clock.now() if now is None else now)

    def intake(self, tenant_id: TenantId) -> Intake:
        found = self.find(tenant_id)
        return Intake.OPEN if found is None else found.intake(self._clock.now())

    def check_feature(self, tenant_id: TenantId, feature: Feature) -> None:
        """Raises NotPermitted if the contract leaves it out. Exporting is for everybody once an end is set."""
        found = self.find(tenant_id)
        if found is None or found.limits.allows(feature):
            return
        if feature is Feature.EXPORT and found.ends is not None:
            return
        raise NotPermitted(f"The contract does not include '{feature}'; see: cleanmail contract show.")

    def check_open(self, tenant_id: TenantId) -> None:
        """Raises NotPermitted in the window before the contract's end: nothing new is made then."""
        if self.is_read_only(tenant_id):
            raise NotPermitted(READ_ONLY)

    # What changes

    def set_limits(self, tenant_id: TenantId, limits: ContractLimits) -> Contract:
        """What is there already stays, whatever it takes: only more of it is refused."""

        def work(transaction: Transaction) -> Contract:
            found = self._row_of(transaction, tenant_id)
            _SET_LIMITS.run(
                transaction,
                id=tenant_id,
                accounts=limits.accounts,
                octets=limits.bytes,
                domains=limits.domains,
                allowed=" ".join(sorted(limits.features)),
            )
            return replace(found, limits=limits)

        return self._write(work)

    def set_terms(
        self,
        tenant_id: TenantId,
        *,
        started: int | None = None,
        notice_days: int | None = None,
        read_only_days: int | None = None,
    ) -> Contract:
        """None: as it was."""
        if any(days is not None and not 0 <= days <= _DAYS_MAX for days in (notice_days, read_only_days)):
            raise InvalidInput(f"A number of days is from 0 to {_DAYS_MAX}.")

        def work(transaction: Transaction) -> Contract:
            found = self._row_of(transaction, tenant_id)
            changed = replace(
                found,
                started=found.started if started is None else started,
                notice_days=found.notice_days if notice_days is None else notice_days,
                read_only_days=found.read_only_days if read_only_days is None else read_only_days,
            )
            if changed.ends is not None and started is not None and started > changed.ends:
                raise InvalidInput("A contract ends after it has begun.")
            _SET_TERMS.run(
                transaction,
                id=tenant_id,
                since=changed.started,
                notice=changed.notice_days,
                window=changed.read_only_days,
            )
            return changed

        return self._write(work)

    def set_end(self, tenant_id: TenantId, ends: int | None, by: str, *, early: bool = False) -> Contract:
        """When the contract ends, and who says so; None takes it back, until it is reached.

        Raises NotPermitted if that is earlier than the period of notice allows, unless `early`, for which two persons
        have to agree elsewhere; Conflict if the end was reached already.
        """

        def work(transaction: Transaction) -> Contract:
            found = self._row_of(transaction, tenant_id)
            check_end(found, ends, self._clock.now(), early=early)  # of this moment: it may have waited for its turn
            _SET_END.run(transaction, id=tenant_id, time=ends, person=by if ends is not None else None)
            return replace(found, ends=ends, ended_by=by if ends is not None else None, reminded=0)

        return self._write(work)

    def set_reminded(self, tenant_id: TenantId, ends: int, days: int) -> None:
        """The reminder of `days` before that end is on its way; nothing happens if the end was changed meanwhile."""
        self._database.write(lambda t: _REMINDED.run(t, id=tenant_id, time=ends, days=days))

    def set_used(self, tenant_id: TenantId, octets: int) -> None:
        """What all accounts take up together now."""
        self._database.write(
            lambda t: _MEASURED.run(t, id=tenant_id, octets=octets, time=self._clock.now()), durable=False
        )

    # Whom to tell

    def contact(self, tenant_id: TenantId) -> EmailAddress | None:
        """Who is told of the end, beside the tenant's administrators."""
        with self._database.reading() as connection:
            row = _CONTACT.one(connection, id=tenant_id)
        if row is None or row[0] is None:
            return None
        key = self._keys.tenant_key(tenant_id, "directory.name")
        return EmailAddress.parse(open_sealed(key.secret, row[0], _contact_context(tenant_id)).decode())

    def set_contact(self, tenant_id: TenantId, address: EmailAddress | None) -> None:
        box = None
        if address is not None:
            key = self._keys.tenant_key(tenant_id, "directory.name")
            box = seal(key.secret, str(address).encode(), _contact_context(tenant_id))

        def work(transaction: Transaction) -> None:
            self._row_of(transaction, tenant_id)
            _SET_CONTACT.run(transaction, id=tenant_id, who=box)

        self._database.write(work)

    # What comes

    def ending(self, until: int) -> list[Contract]:
        """Those that end until then, the earliest first, also those that are over, but whose tenant has not ended."""
        with self._database.reading() as connection:
            return [_row(row) for row in _ENDING.rows(connection, until=until)]

    def due(self, now: int) -> list[Contract]:
        """Those whose end is reached, and whose tenant has not ended."""
        return self.ending(now)

    def with_storage_limit(self) -> list[Contract]:
        """Those whose storage has to be measured, the one first that has waited longest."""
        with self._database.reading() as connection:
            return [_row(row) for row in _LIMITED.rows(connection)]

    def _row_of(self, transaction: Transaction, tenant_id: TenantId) -> Contract:
        """The tenant's row, made if there is none."""
        row = _ONE.one(transaction, id=tenant_id)
        if row is not None:
            return _row(row)
        found = _find(transaction, tenant_id)
        _INSERT.run(
            transaction,
            tenant_id=tenant_id,
            started=found.started,
            notice_days=0,
            ends=None,
            ended_by=None,
            read_only_days=0,
            max_accounts=0,
            max_bytes=0,
            max_domains=0,
            features="",
            reminded=0,
            contact=None,
            used_bytes=0,
            measured=None,
        )
        return found

    def _write(self, work: Any) -> Contract:
        written: Contract = self._database.write(work)
        return written


def check_domains(transaction: Transaction, tenant_id: TenantId) -> None:
    """Inside the transaction that adds one: whether the contract allows another domain. Raises LimitReached."""
    row = _ONE.one(transaction, id=tenant_id)
    most = 0 if row is None else _row(row).limits.domains
    if most:
        count = _COUNT_DOMAINS.one(transaction, id=tenant_id)
        if count is not None and count[0] >= most:
            raise LimitReached(f"The contract allows {most} domains, and there are {count[0]} already.")


def _find(connection: Connection, tenant_id: TenantId) -> Contract:
    row = _ONE.one(connection, id=tenant_id)
    if row is not None:
        return _row(row)
    made = _TENANT.one(connection, id=tenant_id)
    if made is None:
        raise NotFound(f"There is no tenant {tenant_id}.")
    return Contract(tenant_id, started=int(made[0]))


def _row(row: tuple[Any, ...]) -> Contract:
    tenant_id, started, notice_days, ends, ended_by, read_only_days = row[:6]
    limits = ContractLimits(row[6], row[7], row[8], frozenset(map(Feature, row[9].split())))
    reminded, used, measured = row[10:]
    return Contract(
        TenantId(tenant_id), started, notice_days, ends, ended_by, read_only_days, limits, reminded, used, measured
    )


def _contact_context(tenant_id: TenantId) -> bytes:
    return b"control.contract.contact:%d" % tenant_id

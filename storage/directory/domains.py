"""Mail domains in control.db: each belongs to at most one tenant, and is pending until its owner proved it.

He proves it by a TXT record (`storage.directory.ownership`), or the operator vouches for it. Every change is durable on
return.

Raises: NotFound, AlreadyExists, Conflict, LimitReached, Unavailable (DNS gave no answer).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.directory.contracts import check_domains
from storage.directory.ownership import TxtLookup
from storage.directory.part import Part
from storage.directory.rows import DomainRow, DomainState, State
from storage.directory.tenants import state_of
from storage.errors import AlreadyExists, Conflict, NotFound
from storage.schema import control as schema
from storage.values import Domain, TenantId

_domain = schema.domain
_DOMAIN_COLUMNS = (
    _domain.c.domain,
    _domain.c.tenant_id,
    _domain.c.state,
    _domain.c.token,
    _domain.c.created,
    _domain.c.verified,
)

_ALL_DOMAINS = prepare(select(*_DOMAIN_COLUMNS).order_by(_domain.c.domain))
_DOMAINS_OF = prepare(select(*_DOMAIN_COLUMNS).where(_domain.c.tenant_id == bindparam("id")).order_by(_domain.c.domain))
_ONE_DOMAIN = prepare(select(*_DOMAIN_COLUMNS).where(_domain.c.domain == bindparam("which")))
_INSERT_DOMAIN = prepare(insert(_domain))
_VERIFY_DOMAIN = prepare(
    update(_domain)
    .where(_domain.c.domain == bindparam("which"), _domain.c.token == bindparam("proven"))
    .values(state=DomainState.VERIFIED.value, verified=bindparam("time"))
)


class Domains(Part):
    """Of one database, for `storage.directory.control.Control`."""

    def add_domain(self, tenant_id: TenantId, domain: Domain) -> DomainRow:
        """Pending, with a token for its TXT record."""
        row = DomainRow(domain, tenant_id, DomainState.PENDING, secrets.token_hex(16), self._clock.now(), None)

        def work(transaction: Transaction) -> None:
            state = state_of(transaction, tenant_id)
            if state is None:
                raise NotFound(f"There is no tenant {tenant_id}.")
            if state is State.ENDED:
                raise Conflict("The tenant's contract has ended.")
            held = _ONE_DOMAIN.one(transaction, which=domain.name)
            if held is not None:
                whose = "this" if held[1] == tenant_id else "another"
                raise AlreadyExists(f"The domain {domain} belongs to {whose} tenant already.")
            check_domains(transaction, tenant_id)
            _INSERT_DOMAIN.run(
                transaction,
                domain=domain.name,
                tenant_id=tenant_id,
                state=row.state.value,
                token=row.token,
                created=row.created,
                verified=None,
            )

        self._database.write(work)
        return row

    def verify_domain(self, domain: Domain, proof: TxtLookup | None) -> DomainRow:
        """Verified, if `proof` finds the token published; None is the operator's word.

        Raises NotFound with what to publish if the token is not there, Unavailable if DNS gave no answer.
        """
        row = self.domain(domain)
        if row.state is DomainState.VERIFIED:
            return row
        if proof is not None and row.token not in proof(domain):
            raise NotFound(f'No TXT record at {row.record_name} holds "{row.token}"; publish it and try again.')
        verified = self._database.write(
            lambda t: _VERIFY_DOMAIN.run(t, which=domain.name, proven=row.token, time=self._clock.now())
        )
        if not verified:
            raise Conflict(f"The domain {domain} was given to somebody else meanwhile.")
        return self.domain(domain)

    def domain(self, domain: Domain) -> DomainRow:
        with self._database.reading() as connection:
            row = _ONE_DOMAIN.one(connection, which=domain.name)
        if row is None or self._hides(row[1]):
            raise NotFound(f"The domain {domain} is not in this installation.")
        return _domain_row(row)

    def find_domain(self, domain: Domain) -> DomainRow | None:
        """As `domain`, for callers to whom a foreign domain is nothing unusual."""
        with self._database.reading() as connection:
            row = _ONE_DOMAIN.one(connection, which=domain.name)
        return _domain_row(row) if row is not None and not self._hides(row[1]) else None

    def domains(self, tenant_id: TenantId | None = None) -> list[DomainRow]:
        with self._database.reading() as connection:
            rows: Iterable[tuple[Any, ...]] = (
                _ALL_DOMAINS.rows(connection) if tenant_id is None else _DOMAINS_OF.rows(connection, id=tenant_id)
            )
        return [_domain_row(row) for row in rows if not self._hides(row[1])]


def _domain_row(row: tuple[Any, ...]) -> DomainRow:
    return DomainRow(Domain(row[0]), TenantId(row[1]), DomainState(row[2]), row[3], row[4], row[5])

"""Tenants in control.db: their short names, their names sealed under their keys, their states; and counters of ids.

Ids come from counters that only rise; an id is never used again. Every change is durable on return.

Raises: NotFound, AlreadyExists, Conflict (the state does not allow it), InvalidInput.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.directory.part import Part
from storage.directory.rows import NEXT_STATES, State, TenantRow
from storage.errors import AlreadyExists, Conflict, Corrupt, Gone, InvalidInput, NotFound, NotPermitted
from storage.keys.sealing import open_sealed, seal
from storage.schema import control as schema
from storage.values import AccountId, TenantId

COUNTERS = ("tenant_id", "account_id")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")

_tenant, _counter = schema.tenant, schema.counter
_TENANT_COLUMNS = (
    _tenant.c.tenant_id,
    _tenant.c.slug,
    _tenant.c.name,
    _tenant.c.state,
    _tenant.c.state_version,
    _tenant.c.created,
)

_COUNT = prepare(
    update(_counter)
    .where(_counter.c.name == bindparam("which"))
    .values(value=_counter.c.value + 1)
    .returning(_counter.c.value)
)
_ALL_TENANTS = prepare(select(*_TENANT_COLUMNS).order_by(_tenant.c.tenant_id))
_ONE_TENANT = prepare(select(*_TENANT_COLUMNS).where(_tenant.c.tenant_id == bindparam("id")))
_TENANT_BY_SLUG = prepare(select(*_TENANT_COLUMNS).where(_tenant.c.slug == bindparam("which")))
_TENANT_STATE = prepare(select(_tenant.c.state, _tenant.c.state_version).where(_tenant.c.tenant_id == bindparam("id")))
_ACTIVE_TENANTS = prepare(
    select(_tenant.c.tenant_id)
    .where(_tenant.c.state == State.ACTIVE.value, _tenant.c.tenant_id > bindparam("after"))
    .order_by(_tenant.c.tenant_id)
    .limit(50)
)
_INSERT_TENANT = prepare(insert(_tenant))
_SET_STATE = prepare(
    update(_tenant)
    .where(_tenant.c.tenant_id == bindparam("id"))
    .values(state=bindparam("next"), state_version=_tenant.c.state_version + 1)
)


class Tenants(Part):
    """Of one database, for `storage.directory.control.Control`."""

    def tenants(self) -> list[TenantRow]:
        """All of them, in the order of their ids."""
        with self._database.reading() as connection:
            rows = _ALL_TENANTS.rows(connection)
        return [self._tenant_row(row) for row in rows if not self._hides(row[0])]

    def tenant(self, tenant_id: TenantId) -> TenantRow:
        with self._database.reading() as connection:
            row = _ONE_TENANT.one(connection, id=tenant_id)
        if row is None or self._hides(tenant_id):
            raise NotFound(f"There is no tenant {tenant_id}.")
        return self._tenant_row(row)

    def tenant_by_slug(self, slug: str) -> TenantRow:
        with self._database.reading() as connection:
            row = _TENANT_BY_SLUG.one(connection, which=slug)
        if row is None or self._hides(row[0]):
            raise NotFound(f"There is no tenant '{slug[:80]}'.")
        return self._tenant_row(row)

    def has_slug(self, slug: str) -> bool:
        with self._database.reading() as connection:
            return _TENANT_BY_SLUG.one(connection, which=slug) is not None

    def tenant_state(self, tenant_id: TenantId) -> tuple[State, int]:
        """State and its version, without any key of the tenant: asked at every sign-in and every recipient."""
        with self._database.reading() as connection:
            row = _TENANT_STATE.one(connection, id=tenant_id)
        if row is None or self._hides(tenant_id):
            raise NotFound(f"There is no tenant {tenant_id}.")
        return State(row[0]), int(row[1])

    def active_tenant_ids(self) -> Iterator[TenantId]:
        """The oldest first, read as far as they are wanted; no key of a tenant is asked for."""
        after = 0
        while True:
            with self._database.reading() as connection:
                rows = _ACTIVE_TENANTS.rows(connection, after=after)
            if not rows:
                return
            yield from (TenantId(row[0]) for row in rows if not self._hides(row[0]))
            after = rows[-1][0]

    def next_tenant_id(self) -> TenantId:
        return TenantId(self._database.write(lambda t: _next(t, "tenant_id")))

    def next_account_id(self) -> AccountId:
        return AccountId(self._database.write(lambda t: _next(t, "account_id")))

    def insert_tenant(self, tenant_id: TenantId, slug: str, name: str) -> TenantRow:
        """The commit that makes a tenant exist; its key, folder and database exist already."""
        check_slug(slug)
        row = TenantRow(tenant_id, slug, name, State.ACTIVE, 1, self._clock.now())
        key = self._keys.tenant_key(tenant_id, "directory.name")
        sealed = seal(key.secret, name.encode(), _name_context(tenant_id))

        def work(transaction: Transaction) -> None:
            if _TENANT_BY_SLUG.one(transaction, which=slug) is not None:
                raise AlreadyExists(f"There is a tenant '{slug}' already.")
            _INSERT_TENANT.run(
                transaction,
                tenant_id=tenant_id,
                slug=slug,
                name=sealed,
                state=row.state.value,
                state_version=row.state_version,
                created=row.created,
            )

        self._database.write(work)
        return row

    def change_tenant_state(self, tenant_id: TenantId, following: State) -> TenantRow:
        """Suspend, resume or end; nothing happens if it is in that state already."""

        def work(transaction: Transaction) -> None:
            row = _TENANT_STATE.one(transaction, id=tenant_id)
            if row is None:
                raise NotFound(f"There is no tenant {tenant_id}.")
            state = State(row[0])
            if state is following:
                return
            if following not in NEXT_STATES[state]:
                raise Conflict(f"A tenant that is {state} cannot become {following}.")
            _SET_STATE.run(transaction, id=tenant_id, next=following.value)

        self._database.write(work)
        return self.tenant(tenant_id)

    def _tenant_row(self, row: tuple[Any, ...]) -> TenantRow:
        tenant_id = TenantId(row[0])
        try:
            key = self._keys.tenant_key(tenant_id, "directory.name")
            name = open_sealed(key.secret, row[2], _name_context(tenant_id)).decode()
        except (Gone, NotFound, NotPermitted, Corrupt):  # ended, or not for this role: the rest of the row still counts
            name = ""
        return TenantRow(tenant_id, row[1], name, State(row[3]), row[4], row[5])


def check_slug(slug: str) -> None:
    """Raises InvalidInput unless it is a short name: a-z, 0-9 and inner hyphens, at most 63."""
    if not _SLUG.match(slug):
        raise InvalidInput("A tenant's short name has only a-z, 0-9 and hyphens inside, at most 63 characters.")


def state_of(transaction: Transaction, tenant_id: int) -> State | None:
    """None: there is no such tenant."""
    row = _TENANT_STATE.one(transaction, id=tenant_id)
    return None if row is None else State(row[0])


def _next(transaction: Transaction, name: str) -> int:
    row = _COUNT.one(transaction, which=name)
    if row is None:
        raise Corrupt(detail=f"control.db has no counter {name}")
    return int(row[0])


def _name_context(tenant_id: TenantId) -> bytes:
    return b"control.tenant.name:%d" % tenant_id

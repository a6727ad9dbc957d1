"""The installation's directory, control.db: which tenants and domains exist, and whose a login name is.

Ids come from counters that only rise; an id is never used again. A domain belongs to at most one tenant and is pending
until its owner proved it (`storage.directory.ownership`) or the operator vouched for it. Tenants' display names are
sealed under the tenants' keys; login names stand here as keyed hashes only. Every change is durable on return.

`Provisioning` composes these steps with the tenant's own database, keys and files; nothing else should write here.

Raises: NotFound, AlreadyExists, Conflict (the state does not allow it), Unavailable.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy import delete as sql_delete

from storage.clock import Clock
from storage.database.checkpointer import Checkpointer
from storage.database.database import Database, Transaction
from storage.database.migrations import Schema, new_tables
from storage.database.prepared import prepare
from storage.directory.agreements import Agreements
from storage.directory.approvals import Approvals
from storage.directory.backups import Backups
from storage.directory.contracts import Contracts, check_domains
from storage.directory.disclosures import Disclosures
from storage.directory.endings import Endings
from storage.directory.holds import Holds
from storage.directory.key_backups import KeyBackups
from storage.directory.marks import Marks
from storage.directory.ownership import TxtLookup
from storage.directory.receipts import Receipts
from storage.directory.reviews import Reviews
from storage.directory.rows import NEXT_STATES, DomainRow, DomainState, Login, State, TenantRow
from storage.directory.staff import StaffDirectory
from storage.errors import AlreadyExists, Conflict, Corrupt, Gone, InvalidInput, NotFound, NotPermitted
from storage.filter.counts import Judged
from storage.keys.sealing import keyed_hash, open_sealed, seal
from storage.keys.source import KeySource
from storage.register import classes
from storage.register.values import database_files
from storage.schema import contracts, staff
from storage.schema import control as schema
from storage.values import AccountId, Domain, EmailAddress, TenantId

SCHEMA = Schema(
    "control",
    schema.VERSION,
    schema.metadata,
    steps=[
        new_tables(2, schema.secrecy_agreement, schema.review, schema.judged),
        new_tables(
            3,
            contracts.contract,
            contracts.ending,
            contracts.legal_hold,
            contracts.key_backup,
            contracts.backup,
            contracts.receipt,
            staff.staff,
            staff.staff_session,
            staff.approval,
            staff.disclosure,
        ),
    ],
)

FILES = database_files("control.db", classes.DIRECTORY)

_COUNTERS = ("tenant_id", "account_id")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")

_tenant, _domain, _login, _counter = schema.tenant, schema.domain, schema.login, schema.counter
_TENANT_COLUMNS = (
    _tenant.c.tenant_id,
    _tenant.c.slug,
    _tenant.c.name,
    _tenant.c.state,
    _tenant.c.state_version,
    _tenant.c.created,
)
_DOMAIN_COLUMNS = (
    _domain.c.domain,
    _domain.c.tenant_id,
    _domain.c.state,
    _domain.c.token,
    _domain.c.created,
    _domain.c.verified,
)

_COUNT = prepare(
    update(_counter)
    .where(_counter.c.name == bindparam("which"))
    .values(value=_counter.c.value + 1)
    .returning(_counter.c.value)
)
_INSERT_COUNTER = prepare(insert(_counter))
_INFO = prepare(select(schema.info.c.value).where(schema.info.c.name == bindparam("which")))
_INSERT_INFO = prepare(insert(schema.info))
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
_ALL_DOMAINS = prepare(select(*_DOMAIN_COLUMNS).order_by(_domain.c.domain))
_DOMAINS_OF = prepare(select(*_DOMAIN_COLUMNS).where(_domain.c.tenant_id == bindparam("id")).order_by(_domain.c.domain))
_ONE_DOMAIN = prepare(select(*_DOMAIN_COLUMNS).where(_domain.c.domain == bindparam("which")))
_INSERT_DOMAIN = prepare(insert(_domain))
_VERIFY_DOMAIN = prepare(
    update(_domain)
    .where(_domain.c.domain == bindparam("which"), _domain.c.token == bindparam("proven"))
    .values(state=DomainState.VERIFIED.value, verified=bindparam("time"))
)
_ONE_LOGIN = prepare(select(_login.c.tenant_id, _login.c.account_id).where(_login.c.login_hash == bindparam("hash")))
_ALL_LOGINS = prepare(select(_login.c.account_id, _login.c.login_hash))
_INSERT_LOGIN = prepare(insert(_login))
_DELETE_LOGIN = prepare(sql_delete(_login).where(_login.c.account_id == bindparam("id")))


class Control:
    """`agreements`, `reviews` and `judged` are the other stores of the same database."""

    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._only: TenantId | None = None
        self._directory_key = keys.service_key("directory")
        self.agreements = Agreements(database, clock)
        self.reviews = Reviews(database, clock)
        self.judged = Judged(database, clock)
        self.backups = Backups(database, clock)
        self.endings = Endings(database, clock)
        self.contracts = Contracts(database, keys, clock)
        self.holds = Holds(database, keys, clock)
        self.key_backups = KeyBackups(database, clock)
        self.marks = Marks(database, clock)
        self.receipts = Receipts(database, clock)
        self.approvals = Approvals(database, keys, clock)
        self.staff = StaffDirectory(database, keys, clock)
        self.disclosures = Disclosures(database, keys, clock)

    @classmethod
    def create(cls, path: Path, keys: KeySource, clock: Clock, *, checkpointer: Checkpointer | None = None) -> Self:
        """Make control.db with its counters at zero."""

        def fill(transaction: Transaction) -> None:
            _INSERT_COUNTER.run_many(transaction, [{"name": name, "value": 0} for name in _COUNTERS])

        key = keys.service_key("control")
        return cls(Database.create(path, key, SCHEMA, clock, fill=fill, checkpointer=checkpointer), keys, clock)

    @classmethod
    def open(cls, path: Path, keys: KeySource, clock: Clock, *, checkpointer: Checkpointer | None = None) -> Self:
        key = keys.service_key("control")
        return cls(Database.open(path, key, SCHEMA, clock, checkpointer=checkpointer), keys, clock)

    def close(self) -> None:
        self._database.close()

    @property
    def database(self) -> Database:
        """For retention, which looks at the age of rows in every table."""
        return self._database

    def installation_id(self) -> str:
        """32 hexadecimal digits that stand for this installation, made when they are first asked for."""

        def work(transaction: Transaction) -> str:
            row = _INFO.one(transaction, which="installation")
            if row is None:
                row = (secrets.token_hex(16),)
                _INSERT_INFO.run(transaction, name="installation", value=row[0])
            return str(row[0])

        with self._database.reading() as connection:
            row = _INFO.one(connection, which="installation")
        return str(row[0] if row is not None else self._database.write(work))

    def show_only(self, tenant_id: TenantId) -> None:
        """From now on there is no other tenant here, for tenants, domains and logins: for a tenant's administrator."""
        self._only = tenant_id

    def _hides(self, tenant_id: int) -> bool:
        return self._only is not None and tenant_id != self._only

    # Tenants

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

    # Domains

    def add_domain(self, tenant_id: TenantId, domain: Domain) -> DomainRow:
        """Pending, with a token for its TXT record."""
        row = DomainRow(domain, tenant_id, DomainState.PENDING, secrets.token_hex(16), self._clock.now(), None)

        def work(transaction: Transaction) -> None:
            state = _TENANT_STATE.one(transaction, id=tenant_id)
            if state is None:
                raise NotFound(f"There is no tenant {tenant_id}.")
            if state[0] == State.ENDED:
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

    # Logins

    def login_hash(self, text: str) -> bytes:
        """What a login name is known by; of any text at all, since people type passwords there."""
        try:
            key = EmailAddress.parse(text).key
        except InvalidInput:
            key = text.casefold()
        return keyed_hash(self._directory_key, b"login\0" + key.encode("utf-8", "surrogatepass"))

    def find_login(self, login_hash: bytes) -> Login | None:
        with self._database.reading() as connection:
            row = _ONE_LOGIN.one(connection, hash=login_hash)
        return Login(TenantId(row[0]), AccountId(row[1])) if row is not None and not self._hides(row[0]) else None

    def login_hashes(self) -> dict[AccountId, bytes]:
        """Of every account."""
        with self._database.reading() as connection:
            return {AccountId(account_id): digest for account_id, digest in _ALL_LOGINS.rows(connection)}

    def claim_login(self, address: EmailAddress, tenant_id: TenantId, account_id: AccountId) -> None:
        """Let `address` sign in to the account. A claim that the same tenant, or one that ended, left is replaced."""
        digest = self.login_hash(str(address))

        def work(transaction: Transaction) -> None:
            row = _ONE_LOGIN.one(transaction, hash=digest)
            if row is not None and row[0] != tenant_id and not _has_ended(transaction, row[0]):
                raise AlreadyExists(f"{address} signs in elsewhere already.")
            if row is not None:
                _DELETE_LOGIN.run(transaction, id=row[1])
            _INSERT_LOGIN.run(transaction, login_hash=digest, tenant_id=tenant_id, account_id=account_id)

        self._database.write(work)

    def release_login(self, account_id: AccountId) -> None:
        self._database.write(lambda t: _DELETE_LOGIN.run(t, id=account_id))


def check_slug(slug: str) -> None:
    """Raises InvalidInput unless it is a short name: a-z, 0-9 and inner hyphens, at most 63."""
    if not _SLUG.match(slug):
        raise InvalidInput("A tenant's short name has only a-z, 0-9 and hyphens inside, at most 63 characters.")


def _has_ended(transaction: Transaction, tenant_id: int) -> bool:
    row = _TENANT_STATE.one(transaction, id=tenant_id)
    return row is None or row[0] == State.ENDED


def _next(transaction: Transaction, name: str) -> int:
    row = _COUNT.one(transaction, which=name)
    if row is None:
        raise Corrupt(detail=f"control.db has no counter {name}")
    return int(row[0])


def _name_context(tenant_id: TenantId) -> bytes:
    return b"control.tenant.name:%d" % tenant_id


def _domain_row(row: tuple[Any, ...]) -> DomainRow:
    return DomainRow(Domain(row[0]), TenantId(row[1]), DomainState(row[2]), row[3], row[4], row[5])

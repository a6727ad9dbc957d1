"""What is being erased, or was: tenants and accounts, with the last step that is done, in control.db.

The order of a tenant's ending is one commit: the tenant is ENDED, its short name and its domains are free, and its
ending stands here. Everything is durable on return and may be repeated; there is one ending of a tenant or account,
and an ending that is ordered again is the one that is there.

Raises: NotFound, Conflict, Unavailable.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.directory.public_links import remove_links
from storage.directory.rows import State
from storage.ending.steps import Step
from storage.errors import Conflict, NotFound
from storage.schema.contracts import contract, ending
from storage.schema.control import domain, login, review, tenant
from storage.schema.staff import staff
from storage.values import AccountId, TenantId

_COLUMNS = (
    ending.c.ending_id,
    ending.c.tenant_id,
    ending.c.account_id,
    ending.c.step,
    ending.c.begun,
    ending.c.finished,
    ending.c.ordered_by,
    ending.c.reason,
    ending.c.progress,
    ending.c.sought,
)
_WHOLE_TENANT = 0  # no account has this number

_ONE = prepare(select(*_COLUMNS).where(ending.c.ending_id == bindparam("id")))
_OF = prepare(
    select(*_COLUMNS).where(
        ending.c.tenant_id == bindparam("tenant"), func.coalesce(ending.c.account_id, 0) == bindparam("account")
    )
)
_IS_ORDERED = prepare(
    select(ending.c.ending_id)
    .where(
        ending.c.tenant_id == bindparam("tenant"),
        or_(ending.c.account_id.is_(None), ending.c.account_id == bindparam("account")),
    )
    .limit(1)
)
_OPEN = prepare(select(*_COLUMNS).where(ending.c.finished.is_(None)).order_by(ending.c.begun, ending.c.ending_id))
_ALL = prepare(select(*_COLUMNS).order_by(ending.c.begun, ending.c.ending_id))
_INSERT = prepare(insert(ending))
_ADVANCE = prepare(
    update(ending)
    .where(ending.c.ending_id == bindparam("id"))
    .values(step=bindparam("done"), progress=bindparam("counted"), sought=bindparam("terms"))
)
_NOTE = prepare(update(ending).where(ending.c.ending_id == bindparam("id")).values(progress=bindparam("counted")))
_FINISH = prepare(
    update(ending)
    .where(ending.c.ending_id == bindparam("id"), ending.c.finished.is_(None))
    .values(step=Step.CERTIFIED.value, progress=bindparam("counted"), sought=None, finished=bindparam("time"))
)
_DUE = prepare(
    select(contract.c.ends).where(contract.c.tenant_id == bindparam("id"), contract.c.ends <= bindparam("now"))
)
_STATE = prepare(select(tenant.c.state).where(tenant.c.tenant_id == bindparam("id")))
_END_TENANT = prepare(
    update(tenant)
    .where(tenant.c.tenant_id == bindparam("id"))
    .values(
        state=State.ENDED.value,
        state_version=tenant.c.state_version + 1,
        slug=bindparam("short"),
        name=b"",
    )
)
_FREE_DOMAINS = prepare(delete(domain).where(domain.c.tenant_id == bindparam("id")))
_DELETE_LOGIN = prepare(delete(login).where(login.c.account_id == bindparam("account")))
_DELETE_REVIEWS = prepare(
    delete(review).where(review.c.tenant_id == bindparam("id"), review.c.viewed.is_(None), review.c.decided.is_(None))
)
_END_ADMINISTRATORS = prepare(
    update(staff).where(staff.c.tenant_id == bindparam("id"), staff.c.ended.is_(None)).values(ended=bindparam("time"))
)


@dataclass(frozen=True, slots=True)
class EndingRow:
    ending_id: str  # of the certificate too
    tenant_id: TenantId
    account_id: AccountId | None  # None: the whole tenant
    step: Step  # the last that is done
    begun: int
    finished: int | None
    ordered_by: str = field(repr=False)
    reason: str = field(repr=False)
    progress: Mapping[str, Any]  # what was counted so far: numbers, ids and times
    sought: bytes | None = field(repr=False)  # sealed: what is searched for

    @property
    def thorough(self) -> bool:
        """Whether other customers' folders are searched for remains, too."""
        return self.progress.get("thorough") is True

    def has(self, step: Step) -> bool:
        return self.step.number >= step.number


@dataclass(frozen=True, slots=True)
class Certified:
    """What the certificate of an ending says of it."""

    ending_id: str
    begun: int
    finished: int
    ordered_by: str
    steps: Mapping[str, int]


class Endings:
    """Any thread may use it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # Ordering

    def order_tenant(
        self,
        tenant_id: TenantId,
        by: str,
        reason: str,
        ending_id: str,
        sought: bytes,
        *,
        thorough: bool = False,
        if_due: bool = False,
    ) -> EndingRow:
        """The fence: from this commit on the tenant is ENDED, and its short name and its domains may be given anew.

        `if_due`: only if its contract has reached its end, which somebody may have taken back at the last moment.
        """

        def work(transaction: Transaction) -> None:
            if _STATE.one(transaction, id=tenant_id) is None:
                raise NotFound(f"There is no tenant {tenant_id}.")
            if _OF.one(transaction, tenant=tenant_id, account=_WHOLE_TENANT) is not None:
                return
            if if_due and _DUE.one(transaction, id=tenant_id, now=self._clock.now()) is None:
                raise Conflict("The contract has not reached its end.")
            self._insert(transaction, ending_id, tenant_id, None, by, reason, sought, thorough=thorough)
            _END_TENANT.run(transaction, id=tenant_id, short=f"ended-{tenant_id}")
            _FREE_DOMAINS.run(transaction, id=tenant_id)

        self._database.write(work)
        return self._of(tenant_id, None)

    def order_account(
        self,
        tenant_id: TenantId,
        account_id: AccountId,
        by: str,
        reason: str,
        ending_id: str,
        sought: bytes,
        *,
        thorough: bool = False,
    ) -> EndingRow:
        """Nothing has happened to the account itself yet."""

        def work(transaction: Transaction) -> None:
            if _OF.one(transaction, tenant=tenant_id, account=account_id) is None:
                self._insert(transaction, ending_id, tenant_id, account_id, by, reason, sought, thorough=thorough)

        self._database.write(work)
        return self._of(tenant_id, account_id)

    def _insert(
        self,
        transaction: Transaction,
        ending_id: str,
        tenant_id: TenantId,
        account_id: AccountId | None,
        by: str,
        reason: str,
        sought: bytes,
        *,
        thorough: bool,
    ) -> None:
        now = self._clock.now()
        _INSERT.run(
            transaction,
            ending_id=ending_id,
            tenant_id=tenant_id,
            account_id=account_id,
            step=Step.ORDERED.value,
            begun=now,
            finished=None,
            ordered_by=by,
            reason=reason,
            progress=_text({"steps": {Step.ORDERED.value: now}, "thorough": thorough}),
            sought=sought,
        )

    # Carrying out

    def advance(self, row: EndingRow, step: Step, progress: Mapping[str, Any], sought: bytes | None) -> EndingRow:
        """`step` is done; what was counted with it, and when, is kept."""
        steps = {**row.progress.get("steps", {}), step.value: self._clock.now()}
        counted = {**progress, "steps": steps}
        self._database.write(
            lambda t: _ADVANCE.run(t, id=row.ending_id, done=step.value, counted=_text(counted), terms=sought)
        )
        return self.find(row.ending_id)

    def note(self, ending_id: str, progress: Mapping[str, Any]) -> None:
        """What is counted while a step goes on, for who looks."""
        self._database.write(lambda t: _NOTE.run(t, id=ending_id, counted=_text(progress)), durable=False)

    def finish(self, row: EndingRow, progress: Mapping[str, Any]) -> EndingRow:
        """It is certified; what was searched for is forgotten."""
        now = self._clock.now()
        counted = {**progress, "steps": {**row.progress.get("steps", {}), Step.CERTIFIED.value: now}}
        self._database.write(lambda t: _FINISH.run(t, id=row.ending_id, counted=_text(counted), time=now))
        return self.find(row.ending_id)

    def erased(self, tenant_id: TenantId, account_id: AccountId | None, known: Certified | None) -> None:
        """What this database does not know of, or not all, since it comes from a backup: as if it had ended here.

        `known`: what its certificate says; without one there is no ending, only a tenant that is ENDED.
        """

        def work(transaction: Transaction) -> None:
            if account_id is None and _STATE.one(transaction, id=tenant_id) not in (None, (State.ENDED.value,)):
                _END_TENANT.run(transaction, id=tenant_id, short=f"ended-{tenant_id}")
                _FREE_DOMAINS.run(transaction, id=tenant_id)
            if known is None:
                return
            row = _OF.one(transaction, tenant=tenant_id, account=account_id or _WHOLE_TENANT)
            counted = _text({"steps": known.steps})
            if row is None:
                _INSERT.run(
                    transaction,
                    ending_id=known.ending_id,
                    tenant_id=tenant_id,
                    account_id=account_id,
                    step=Step.ORDERED.value,
                    begun=known.begun,
                    finished=None,
                    ordered_by=known.ordered_by,
                    reason="",
                    progress=counted,
                    sought=None,
                )
            _FINISH.run(transaction, id=row[0] if row else known.ending_id, counted=counted, time=known.finished)

        self._database.write(work)

    def remove_rows(self, tenant_id: TenantId, account_ids: list[AccountId], *, whole: bool) -> None:
        """Logins and public links of the accounts; with `whole`, reviews that nobody has looked at.

        Then the tenant's administrators end too.
        """

        def work(transaction: Transaction) -> None:
            _DELETE_LOGIN.run_many(transaction, [{"account": account_id} for account_id in account_ids])
            remove_links(transaction, tenant_id, account_ids, whole)
            if whole:
                _DELETE_REVIEWS.run(transaction, id=tenant_id)
                _END_ADMINISTRATORS.run(transaction, id=tenant_id, time=self._clock.now())

        self._database.write(work)

    # Looking

    def find(self, ending_id: str) -> EndingRow:
        with self._database.reading() as connection:
            row = _ONE.one(connection, id=ending_id)
        if row is None:
            raise NotFound(f"There is no ending '{ending_id[:80]}'.")
        return _row(row)

    def of(self, tenant_id: TenantId, account_id: AccountId | None = None) -> EndingRow | None:
        with self._database.reading() as connection:
            row = _OF.one(connection, tenant=tenant_id, account=account_id or _WHOLE_TENANT)
        return _row(row) if row is not None else None

    def open(self) -> list[EndingRow]:
        """Those that are not finished, the oldest first."""
        with self._database.reading() as connection:
            return [_row(row) for row in _OPEN.rows(connection)]

    def is_ordered(self, tenant_id: TenantId, account_id: AccountId | None = None) -> bool:
        """Whether the tenant ends or has ended, or this account of it: asked whenever a key is leased."""
        with self._database.reading() as connection:
            return _IS_ORDERED.one(connection, tenant=tenant_id, account=account_id or _WHOLE_TENANT) is not None

    def all(self) -> list[EndingRow]:
        with self._database.reading() as connection:
            return [_row(row) for row in _ALL.rows(connection)]

    def _of(self, tenant_id: TenantId, account_id: AccountId | None) -> EndingRow:
        row = self.of(tenant_id, account_id)
        if row is None:
            raise NotFound("There is no such ending.")
        return row


def new_ending_id() -> str:
    return secrets.token_hex(8)


def _text(progress: Mapping[str, Any]) -> str:
    return json.dumps(dict(progress), sort_keys=True, separators=(",", ":"))


def _row(row: tuple[Any, ...]) -> EndingRow:
    account_id = AccountId(row[2]) if row[2] is not None else None
    progress: dict[str, Any] = json.loads(row[8])
    return EndingRow(
        row[0], TenantId(row[1]), account_id, Step(row[3]), row[4], row[5], row[6], row[7], progress, row[9]
    )

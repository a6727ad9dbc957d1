"""What needs two persons, in control.db: one asks, another approves, then it is used once, for exactly what was asked.

Every step is an audit record before it is done, and durable when it returns. The record of a request and of its answer
names the person and the Unix user: whether one human has two of them nobody here can know, so it can at least be seen.
Reason and scope are sealed under the key of the account or the tenant that they are about, and end with it. Requests
that nobody answered or used expire. Two processes that use one approval at the same moment: one of them is refused.

Raises: NotFound, NotPermitted (the same person, nothing approved), Conflict (decided already), InvalidInput,
LimitReached, Unavailable.
"""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, func, insert, or_, select, update

from storage.audit import Audit
from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import Conflict, Corrupt, Gone, InvalidInput, LimitReached, NotFound, NotPermitted
from storage.keys.sealing import derive, open_sealed, seal
from storage.keys.source import KeySource
from storage.schema.staff import approval
from storage.values import AccountId, TenantId

DAYS = 7  # in which it has to be decided and used
OPEN_MAX = 1000  # requests that wait or are approved at the same time
REASON_MAX = 2000  # characters
SCOPE_MAX = 4000  # octets of JSON

_DAY = 86_400


class Kind(StrEnum):
    BODY_ACCESS = "body_access"  # read the content of one message
    DISCLOSURE = "disclosure"  # hand data to an authority
    EARLY_ERASURE = "early_erasure"  # erase before the contract ends
    HOLD = "hold"  # keep data from being erased, or lift that


class ApprovalState(StrEnum):
    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"  # by who asked, before it was used
    USED = "used"
    EXPIRED = "expired"  # its time was over before it was used


@dataclass(frozen=True, slots=True)
class Approval:
    approval_id: str
    kind: Kind
    tenant_id: TenantId | None
    account_id: AccountId | None
    scope: Mapping[str, str] | None = field(repr=False)  # None: it ended with the account or the tenant
    reason: str | None = field(repr=False)  # likewise
    asked: int
    asked_by: str = field(repr=False)
    asked_as: str = field(repr=False)  # the Unix user
    expires: int
    state: ApprovalState
    decided: int | None
    decided_by: str | None = field(repr=False)
    used: int | None


_COLUMNS = (
    approval.c.approval_id,
    approval.c.kind,
    approval.c.tenant_id,
    approval.c.account_id,
    approval.c.scope,
    approval.c.reason,
    approval.c.asked,
    approval.c.asked_by,
    approval.c.asked_as,
    approval.c.expires,
    approval.c.state,
    approval.c.decided,
    approval.c.decided_by,
    approval.c.used,
)
_ONE = prepare(select(*_COLUMNS).where(approval.c.approval_id == bindparam("id")))
_ALL = prepare(select(*_COLUMNS).order_by(approval.c.asked.desc(), approval.c.approval_id).limit(bindparam("most")))
_OPEN = (approval.c.state == bindparam("state")) & (approval.c.expires > bindparam("now"))
_IN_STATE = prepare(select(*_COLUMNS).where(_OPEN).order_by(approval.c.asked, approval.c.approval_id))
_COUNT = prepare(
    select(func.count()).where(
        or_(approval.c.state == ApprovalState.WAITING.value, approval.c.state == ApprovalState.APPROVED.value),
        approval.c.expires > bindparam("now"),
    )
)
_INSERT = prepare(insert(approval))
_DECIDE = prepare(
    update(approval)
    .where(
        approval.c.approval_id == bindparam("id"),
        approval.c.state == ApprovalState.WAITING.value,
        approval.c.expires > bindparam("now"),
    )
    .values(state=bindparam("following"), decided=bindparam("now"), decided_by=bindparam("person"))
)
_WITHDRAW = prepare(
    update(approval)
    .where(
        approval.c.approval_id == bindparam("id"),
        or_(approval.c.state == ApprovalState.WAITING.value, approval.c.state == ApprovalState.APPROVED.value),
    )
    .values(state=ApprovalState.WITHDRAWN.value)
)
_USE = prepare(
    update(approval)
    .where(
        approval.c.approval_id == bindparam("id"),
        approval.c.state == ApprovalState.APPROVED.value,
        approval.c.expires > bindparam("now"),
    )
    .values(state=ApprovalState.USED.value, used=bindparam("now"))
)


class Approvals:
    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._audit: Callable[[], Audit] | None = None

    def recorded_in(self, audit: Callable[[], Audit]) -> None:
        """Where its steps are recorded; without it nothing can be asked, decided or used."""
        self._audit = audit

    def ask(
        self,
        kind: Kind,
        scope: Mapping[str, str],
        reason: str,
        by: str,
        tenant_id: TenantId | None = None,
        account_id: AccountId | None = None,
        *,
        unix: str = "",
        days: int = DAYS,
    ) -> Approval:
        """`scope`: what exactly; it is compared as a whole when it is used. `unix`: the asker's Unix user."""
        reason = reason.strip()
        if not reason or len(reason) > REASON_MAX:
            raise InvalidInput(f"A reason is needed, of at most {REASON_MAX} characters.")
        text = _text(scope)
        if len(text) > SCOPE_MAX:
            raise InvalidInput("What is asked for is too long.")
        number, now = secrets.token_hex(8), self._clock.now()
        made = Approval(
            number,
            kind,
            tenant_id,
            account_id,
            dict(scope),
            reason,
            now,
            by,
            unix or by,
            now + days * _DAY,
            ApprovalState.WAITING,
            None,
            None,
            None,
        )
        key = self._key(tenant_id, account_id)
        self._record("approval.ask", by, unix, made)

        def work(transaction: Transaction) -> None:
            row = _COUNT.one(transaction, now=now)
            if row is not None and row[0] >= OPEN_MAX:
                raise LimitReached(f"{OPEN_MAX} requests are open already; decide some of them first.")
            _INSERT.run(
                transaction,
                approval_id=number,
                kind=kind.value,
                tenant_id=tenant_id,
                account_id=account_id,
                scope=seal(key, text, _context(number, "scope")),
                reason=seal(key, reason.encode("utf-8", "replace"), _context(number, "reason")),
                asked=now,
                asked_by=by,
                asked_as=made.asked_as,
                expires=made.expires,
                state=made.state.value,
                decided=None,
                decided_by=None,
                used=None,
            )

        self._database.write(work)
        return made

    def decide(self, approval_id: str, by: str, approved: bool, *, unix: str = "") -> Approval:
        """Approved or refused, by another person than who asked."""
        found = self.find(approval_id)
        if found.state is not ApprovalState.WAITING:
            raise Conflict(f"This request is not waiting any more: {found.state}.")
        if _same_person(found, by, unix or by):
            raise NotPermitted("Who asked cannot decide; another person has to.")
        self._record("approval.approve" if approved else "approval.refuse", by, unix, found)
        following = ApprovalState.APPROVED if approved else ApprovalState.REFUSED
        now = self._clock.now()
        changed = self._database.write(
            lambda t: _DECIDE.run(t, id=approval_id, now=now, following=following.value, person=by)
        )
        if not changed:
            raise Conflict("Somebody else decided this request meanwhile.")
        return self.find(approval_id)

    def withdraw(self, approval_id: str, by: str, *, unix: str = "") -> Approval:
        """By who asked, approved or not: nobody approves or uses it any more."""
        found = self.find(approval_id)
        if found.asked_by != by:
            raise NotPermitted("Only who asked can withdraw a request; others refuse it.")
        if found.state not in {ApprovalState.WAITING, ApprovalState.APPROVED}:
            raise Conflict(f"This request is over already: {found.state}.")
        self._record("approval.withdraw", by, unix, found)
        if not self._database.write(lambda t: _WITHDRAW.run(t, id=approval_id)):
            raise Conflict("This request was decided or used meanwhile.")
        return self.find(approval_id)

    def use(self, kind: Kind, scope: Mapping[str, str], by: str, options: Sequence[str] = ()) -> Approval:
        """The approval of exactly this, which `by` asked for: used up when it returns.

        Raises NotPermitted if there is none, with the command to ask by; its `options` say what the scope says.
        """
        for found in self._usable(kind, scope, by):
            self._record("approval.use", by, "", found)
            if self._use_up(found.approval_id):
                return self.find(found.approval_id)
        for waiting in self.waiting():
            if waiting.kind is kind and waiting.asked_by == by and waiting.scope == dict(scope):
                number = waiting.approval_id
                raise NotPermitted(f"Request {number} waits for a second person: cleanmail request approve {number}.")
        raise _needed(kind, options)

    def check(self, kind: Kind, scope: Mapping[str, str], by: str, options: Sequence[str] = ()) -> None:
        """As `use`, which is asked later, but nothing is used up: before anything is told about the scope.

        Nor is a request that waits: the scope of what is not there is never the same.
        """
        if not self._usable(kind, scope, by):
            raise _needed(kind, options)

    def _usable(self, kind: Kind, scope: Mapping[str, str], by: str) -> list[Approval]:
        found = self.approved(kind)
        return [each for each in found if each.asked_by == by and each.scope == dict(scope)]

    def _use_up(self, approval_id: str) -> bool:
        """False if another process did meanwhile."""
        now = self._clock.now()
        return self._database.write(lambda t: _USE.run(t, id=approval_id, now=now)) == 1

    def find(self, approval_id: str) -> Approval:
        """Raises NotFound."""
        row = None
        if approval_id.isascii():
            with self._database.reading() as connection:
                row = _ONE.one(connection, id=approval_id)
        if row is None:
            raise NotFound("There is no such request.")
        return self._approval(row)

    def waiting(self) -> list[Approval]:
        """What waits for a second person, the oldest first."""
        return self._in_state(ApprovalState.WAITING)

    def approved(self, kind: Kind) -> list[Approval]:
        """What was approved and is not used yet, the oldest first."""
        return [found for found in self._in_state(ApprovalState.APPROVED) if found.kind is kind]

    def all(self, most: int = 1000) -> list[Approval]:
        """The newest first."""
        with self._database.reading() as connection:
            rows = _ALL.rows(connection, most=most)
        return [self._approval(row) for row in rows]

    def _in_state(self, state: ApprovalState) -> list[Approval]:
        with self._database.reading() as connection:
            rows = _IN_STATE.rows(connection, state=state.value, now=self._clock.now())
        return [self._approval(row) for row in rows]

    def _record(self, action: str, by: str, unix: str, about: Approval) -> None:
        if self._audit is None:
            raise NotPermitted("Nothing is approved where it cannot be recorded.")
        details = {"request": about.approval_id, "kind": about.kind.value, "unix": unix or by}
        details |= {f"scope_{name}": value for name, value in (about.scope or {}).items()}
        details["reason"] = about.reason or ""
        self._audit().append(action, by, about.tenant_id, about.account_id, details)

    def _approval(self, row: tuple[Any, ...]) -> Approval:
        number, kind, tenant_id, account_id, scope, reason, asked, asked_by, asked_as, expires = row[:10]
        tenant = None if tenant_id is None else TenantId(tenant_id)
        account = None if account_id is None else AccountId(account_id)
        state = ApprovalState(row[10])
        if state in {ApprovalState.WAITING, ApprovalState.APPROVED} and expires <= self._clock.now():
            state = ApprovalState.EXPIRED
        opened: Mapping[str, str] | None = None
        why: str | None = None
        try:
            key = self._key(tenant, account)
            opened = json.loads(open_sealed(key, scope, _context(number, "scope")))
            why = open_sealed(key, reason, _context(number, "reason")).decode()
        except (Gone, NotFound, NotPermitted, Corrupt):  # ended, or not for this role: the rest still counts
            pass
        return Approval(
            number, Kind(kind), tenant, account, opened, why, asked, asked_by, asked_as, expires, state, *row[11:]
        )

    def _key(self, tenant_id: TenantId | None, account_id: AccountId | None) -> bytes:
        if tenant_id is None:
            return derive(self._keys.service_key("directory"), "approval")
        if account_id is None:
            return derive(self._keys.tenant_key(tenant_id, "approval").secret, "approval")
        return derive(self._keys.account_key(tenant_id, account_id, "approval").secret, "approval")


def scope_of(tenant_id: TenantId | None = None, account_id: AccountId | None = None, **more: str) -> dict[str, str]:
    """How a scope is written, so that what is asked for and what is used are the same: {"tenant": "1", "account": "5"}.

    Beside them, by kind: `folder`, `uid` and `message` for body_access, `case` for disclosure. Nothing of these names
    another subject than the one under whose key the request is sealed and recorded.
    """
    subject = {"tenant": tenant_id, "account": account_id}
    if not more.keys().isdisjoint(subject):
        raise InvalidInput("The tenant and the account of a request are named by their options.")
    return {name: str(int(value)) for name, value in subject.items() if value is not None} | more


def _needed(kind: Kind, options: Sequence[str]) -> NotPermitted:
    reason = () if "--reason" in options else ("--reason", "say why here")
    command = shlex.join(["cleanmail", "request", "ask", kind.value, *options, *reason])
    return NotPermitted(f"This needs a second person. Ask, then another person has to approve it: {command}")


def _same_person(asked: Approval, by: str, unix: str) -> bool:
    """By name; where one of the two did not sign in, his Unix user is all that is known of him."""
    if by == asked.asked_by:
        return True
    somebody_unknown = by == unix or asked.asked_by == asked.asked_as
    return somebody_unknown and unix == asked.asked_as


def _text(scope: Mapping[str, str]) -> bytes:
    return json.dumps(dict(scope), sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def _context(number: str, column: str) -> bytes:
    return f"control.approval.{column}:{number}".encode()

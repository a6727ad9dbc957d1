"""Disclosures to authorities, in control.db: what was demanded on which ground, and what became of it.

A case is recorded with the hash of the notification, never the document. It goes on by the one table of states below:
recorded, approved by a second person (`storage.directory.approvals`), disclosed; or challenged, or refused. What is
demanded is sealed under the key of the account or the tenant, and ends with it; kind of authority, legal basis and
outcome stay for the report. A case that an order keeps secret says until when; the owner is told afterwards. Every
change is durable on return.

Raises: NotFound, Conflict (the state does not allow it), InvalidInput, Unavailable.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from storage.clock import Clock
from storage.database.database import Database
from storage.database.prepared import prepare
from storage.errors import Conflict, Corrupt, Gone, InvalidInput, NotFound, NotPermitted
from storage.keys.sealing import derive, open_sealed, seal
from storage.keys.source import KeySource
from storage.schema.staff import disclosure
from storage.values import AccountId, TenantId

TEXT_MAX = 500  # characters of an authority's name and of a legal basis
MESSAGES_MAX = 1000  # messages of a case
_HASH_SIZE = 32


class Authority(StrEnum):
    COURT = "court"
    PROSECUTOR = "prosecutor"
    POLICE = "police"
    INTELLIGENCE = "intelligence"
    REGULATOR = "regulator"
    OTHER = "other"


class What(StrEnum):
    """Classes of data that a scope may name."""

    ACCOUNT = "account"  # address, name, state, when it was made
    ACCESS = "access"  # access events
    TRACES = "traces"  # what became of messages, in the horizon of traces
    TRANSCRIPTS = "transcripts"  # SMTP transcripts that name the address
    HEADERS = "headers"  # header fields of named messages
    MESSAGES = "messages"  # named messages


class CaseState(StrEnum):
    RECORDED = "recorded"
    APPROVED = "approved"  # by two persons; the extract may be made
    DISCLOSED = "disclosed"
    CHALLENGED = "challenged"  # a remedy was lodged: nothing is handed over meanwhile
    REFUSED = "refused"  # nothing was handed over


_NEXT: Mapping[CaseState, frozenset[CaseState]] = MappingProxyType(
    {
        CaseState.RECORDED: frozenset({CaseState.APPROVED, CaseState.CHALLENGED, CaseState.REFUSED}),
        CaseState.APPROVED: frozenset({CaseState.DISCLOSED, CaseState.CHALLENGED, CaseState.REFUSED}),
        CaseState.CHALLENGED: frozenset({CaseState.RECORDED, CaseState.REFUSED}),
        CaseState.DISCLOSED: frozenset(),
        CaseState.REFUSED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True)
class MessageName:
    """One message, as its owner's program calls it."""

    folder: str
    uid: int


@dataclass(frozen=True, slots=True)
class Scope:
    """What is demanded: nothing else is extracted."""

    what: frozenset[What]
    since: int  # Unix seconds
    until: int
    messages: tuple[MessageName, ...] = ()

    def __post_init__(self) -> None:
        if not self.what or not 0 <= self.since < self.until:
            raise InvalidInput("A scope names at least one class of data, and a time that ends after it begins.")
        by_message = bool(self.what & {What.HEADERS, What.MESSAGES})
        if by_message != bool(self.messages):
            raise InvalidInput("Headers and messages are disclosed message by message: name each one, and no others.")
        if len(self.messages) > MESSAGES_MAX:
            raise InvalidInput(f"A case names at most {MESSAGES_MAX} messages.")

    def pack(self) -> bytes:
        messages = [[each.folder, each.uid] for each in self.messages]
        return json.dumps([sorted(self.what), self.since, self.until, messages]).encode("ascii")

    @classmethod
    def unpack(cls, octets: bytes) -> Scope:
        what, since, until, messages = json.loads(octets)
        return cls(frozenset(map(What, what)), since, until, tuple(MessageName(*each) for each in messages))


@dataclass(frozen=True, slots=True)
class Case:
    case_id: str
    received: int
    kind: Authority
    authority: str
    legal_basis: str
    document: bytes  # SHA-256
    tenant_id: TenantId
    account_id: AccountId | None  # None: all accounts of the tenant
    scope: Scope | None = field(repr=False)  # None: it ended with whom it was about
    state: CaseState
    recorded_by: str = field(repr=False)
    approval_id: str | None
    secret_until: int | None
    told: int | None
    closed: int | None
    disclosed: int | None
    extract: bytes | None  # SHA-256 of the manifest
    items: int
    accounts: int

    def is_secret(self, now: int) -> bool:
        return self.secret_until is not None and now < self.secret_until


_COLUMNS = tuple(disclosure.columns)
_ONE = prepare(select(*_COLUMNS).where(disclosure.c.case_id == bindparam("id")))
_ALL = prepare(select(*_COLUMNS).order_by(disclosure.c.received, disclosure.c.case_id))
_BETWEEN = prepare(
    select(*_COLUMNS)
    .where(disclosure.c.received >= bindparam("since"), disclosure.c.received < bindparam("until"))
    .order_by(disclosure.c.received, disclosure.c.case_id)
)
_TO_TELL = prepare(
    select(*_COLUMNS)
    .where(disclosure.c.secret_until <= bindparam("now"), disclosure.c.told.is_(None))
    .order_by(disclosure.c.received)
)
_INSERT = prepare(insert(disclosure))
_this_state = (disclosure.c.case_id == bindparam("id"), disclosure.c.state == bindparam("before"))
_SET_STATE = prepare(
    update(disclosure)
    .where(*_this_state)
    .values(state=bindparam("after"), closed=bindparam("when"), approval_id=bindparam("approval"))
)
_DISCLOSED = prepare(
    update(disclosure)
    .where(*_this_state)
    .values(
        state=CaseState.DISCLOSED.value,
        closed=bindparam("when"),
        disclosed=bindparam("when"),
        extract=bindparam("hash"),
        items=bindparam("count"),
        accounts=bindparam("concerned"),
    )
)
_TOLD = prepare(update(disclosure).where(disclosure.c.case_id == bindparam("id")).values(told=bindparam("now")))


class Disclosures:
    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    @staticmethod
    def new_id() -> str:
        """For a case that is about to be recorded: its audit record comes first."""
        return secrets.token_hex(6)

    def record(
        self,
        case_id: str,
        kind: Authority,
        authority: str,
        legal_basis: str,
        document: bytes,
        scope: Scope,
        by: str,
        tenant_id: TenantId,
        account_id: AccountId | None = None,
        *,
        received: int | None = None,
        secret_until: int | None = None,
    ) -> Case:
        """`document` is the SHA-256 of the notification; `received` now, if not given."""
        check_words(authority, legal_basis)
        if len(document) != _HASH_SIZE:
            raise InvalidInput("The hash of the notification is no SHA-256.")
        box = seal(self._key(tenant_id, account_id), scope.pack(), _context(case_id))
        self._database.write(
            lambda transaction: _INSERT.run(
                transaction,
                case_id=case_id,
                received=self._clock.now() if received is None else received,
                kind=kind.value,
                authority=authority.strip(),
                legal_basis=legal_basis.strip(),
                document=document,
                tenant_id=tenant_id,
                account_id=account_id,
                scope=box,
                state=CaseState.RECORDED.value,
                recorded_by=by,
                approval_id=None,
                secret_until=secret_until,
                told=None,
                closed=None,
                disclosed=None,
                extract=None,
                items=0,
                accounts=0,
            )
        )
        return self.find(case_id)

    def find(self, case_id: str) -> Case:
        with self._database.reading() as connection:
            row = _ONE.one(connection, id=case_id)
        if row is None:
            raise NotFound("There is no such disclosure case.")
        return self._case(row)

    def all(self) -> list[Case]:
        """The oldest first."""
        with self._database.reading() as connection:
            rows = _ALL.rows(connection)
        return [self._case(row) for row in rows]

    def received(self, since: int, until: int) -> list[Case]:
        """Those of a time, for the report."""
        with self._database.reading() as connection:
            rows = _BETWEEN.rows(connection, since=since, until=until)
        return [self._case(row) for row in rows]

    def to_tell(self) -> list[Case]:
        """Whose secrecy is over, while the owners were not told yet."""
        with self._database.reading() as connection:
            rows = _TO_TELL.rows(connection, now=self._clock.now())
        return [self._case(row) for row in rows]

    def told(self, case_id: str) -> None:
        self._database.write(lambda transaction: _TOLD.run(transaction, id=case_id, now=self._clock.now()))

    def check(self, case_id: str, state: CaseState) -> Case:
        """The case, if it may go on to `state`; for who leaves an audit record first."""
        found = self.find(case_id)
        if state not in _NEXT[found.state]:
            raise Conflict(f"The case {case_id} is {found.state}; it cannot be {state} any more.")
        return found

    def set_state(self, case_id: str, state: CaseState, approval_id: str | None = None) -> Case:
        """Approved, challenged, refused, or recorded again: then it has to be approved anew."""
        found = self.check(case_id, state)
        closed = self._clock.now() if state is CaseState.REFUSED else None
        values = {"after": state.value, "when": closed, "approval": approval_id}
        self._change(found, lambda t: _SET_STATE.run(t, id=case_id, before=found.state.value, **values))
        return self.find(case_id)

    def set_disclosed(self, case_id: str, extract: bytes, items: int, accounts: int) -> Case:
        """What was handed over: the hash of its manifest, and how much it was."""
        found = self.check(case_id, CaseState.DISCLOSED)
        values = {"when": self._clock.now(), "hash": extract, "count": items, "concerned": accounts}
        self._change(found, lambda t: _DISCLOSED.run(t, id=case_id, before=found.state.value, **values))
        return self.find(case_id)

    def _change(self, case: Case, work: Any) -> None:
        if not self._database.write(work):
            raise Conflict(f"Somebody else worked on the case {case.case_id} meanwhile.")

    def _case(self, row: tuple[Any, ...]) -> Case:
        case_id, received, kind, authority, basis, document, tenant_id, account_id, box, state, *rest = row
        account = None if account_id is None else AccountId(account_id)
        scope: Scope | None = None
        with suppress(Gone, NotFound, NotPermitted, Corrupt):  # ended with whom it was about: the rest still counts
            scope = Scope.unpack(open_sealed(self._key(TenantId(tenant_id), account), box, _context(case_id)))
        return Case(
            case_id,
            received,
            Authority(kind),
            authority,
            basis,
            document,
            TenantId(tenant_id),
            account,
            scope,
            CaseState(state),
            *rest,
        )

    def _key(self, tenant_id: TenantId, account_id: AccountId | None) -> bytes:
        if account_id is None:
            return derive(self._keys.tenant_key(tenant_id, "disclosure").secret, "disclosure")
        return derive(self._keys.account_key(tenant_id, account_id, "disclosure").secret, "disclosure")


def check_words(authority: str, legal_basis: str) -> None:
    for text, what in ((authority, "The authority"), (legal_basis, "The legal basis")):
        if not text.strip() or len(text) > TEXT_MAX or not text.isprintable():
            raise InvalidInput(f"{what} is needed, in one line of at most {TEXT_MAX} characters.")


def _context(case_id: str) -> bytes:
    return f"control.disclosure.scope:{case_id}".encode()

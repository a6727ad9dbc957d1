"""Secrecy agreements of technical administrators, in control.db: who promised in writing to keep secret what he sees.

Only a person whose agreement is in force may review withheld mail. Of the document only its SHA-256 is kept, so that
what was signed can be proven later. Nobody records an agreement of his own, and there is at most one in force for a
person. Agreements that ended stay: audit records of views are judged by them. Every change is durable on return.

Raises: NotFound, AlreadyExists, NotPermitted, InvalidInput.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import AlreadyExists, InvalidInput, NotFound, NotPermitted
from storage.schema.control import secrecy_agreement as agreement

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")  # of Unix users, as useradd takes them, and numbers
_DIGEST_SIZE = 32

_COLUMNS = (
    agreement.c.agreement_id,
    agreement.c.person,
    agreement.c.signed,
    agreement.c.document,
    agreement.c.recorded,
    agreement.c.recorded_by,
    agreement.c.ended,
)
_IN_FORCE = prepare(
    select(*_COLUMNS).where(
        agreement.c.person == bindparam("whose"),
        agreement.c.ended.is_(None),
        agreement.c.signed <= bindparam("now"),
    )
)
_ALL = prepare(select(*_COLUMNS).order_by(agreement.c.agreement_id))
_LAST = prepare(select(func.max(agreement.c.agreement_id)))
_INSERT = prepare(insert(agreement))
_END = prepare(update(agreement).where(agreement.c.agreement_id == bindparam("id")).values(ended=bindparam("time")))


@dataclass(frozen=True, slots=True)
class Agreement:
    agreement_id: int
    person: str  # a Unix user
    signed: int
    document: bytes = field(repr=False)  # SHA-256 of what was signed
    recorded: int
    recorded_by: str
    ended: int | None = None


class Agreements:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def record(self, person: str, document: bytes, *, signed: int, recorded_by: str) -> Agreement:
        """`document`: the SHA-256 of what was signed. In force when it returns."""
        now = self._clock.now()
        self.check(person, signed=signed, recorded_by=recorded_by)
        if len(document) != _DIGEST_SIZE:
            raise InvalidInput("Of the document its SHA-256 is kept.")

        def work(transaction: Transaction) -> Agreement:
            if _IN_FORCE.one(transaction, whose=person, now=now) is not None:
                raise AlreadyExists(f"A secrecy agreement of '{person}' is in force already.")
            last = _LAST.one(transaction)
            number = (last[0] or 0) + 1 if last is not None else 1
            _INSERT.run(
                transaction,
                agreement_id=number,
                person=person,
                signed=signed,
                document=document,
                recorded=now,
                recorded_by=recorded_by,
                ended=None,
            )
            return Agreement(number, person, signed, document, now, recorded_by)

        recorded: Agreement = self._database.write(work)
        return recorded

    def check(self, person: str, *, signed: int, recorded_by: str) -> None:
        """Raises what `record` would raise, without recording anything: for who leaves an audit record first."""
        if not _NAME.match(person):
            raise InvalidInput(f"'{person[:64]}' is no name of a Unix user.")
        if person == recorded_by:
            raise NotPermitted("Nobody records a secrecy agreement of his own; another administrator has to do it.")
        if not 0 <= signed <= self._clock.now():
            raise InvalidInput("An agreement is recorded after it was signed.")
        if self.in_force(person) is not None:
            raise AlreadyExists(f"A secrecy agreement of '{person}' is in force already.")

    def end(self, person: str) -> Agreement:
        """From now on the person sees nothing any more."""
        now = self._clock.now()

        def work(transaction: Transaction) -> Agreement:
            row = _IN_FORCE.one(transaction, whose=person, now=now)
            if row is None:
                raise NotFound(f"No secrecy agreement of '{person[:64]}' is in force.")
            _END.run(transaction, id=row[0], time=now)
            return replace(_row(row), ended=now)

        ended: Agreement = self._database.write(work)
        return ended

    def in_force(self, person: str) -> Agreement | None:
        with self._database.reading() as connection:
            row = _IN_FORCE.one(connection, whose=person, now=self._clock.now())
        return _row(row) if row is not None else None

    def all(self) -> list[Agreement]:
        """Those that ended too, in the order in which they were recorded."""
        with self._database.reading() as connection:
            return [_row(row) for row in _ALL.rows(connection)]


def _row(row: tuple[Any, ...]) -> Agreement:
    return Agreement(*row)

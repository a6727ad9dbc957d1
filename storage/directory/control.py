"""The installation's directory, control.db: which tenants and domains exist, and whose a login name is.

Tenants, domains and logins have modules of their own; here they are put together with the other stores of the database.
Every change is durable on return. `Provisioning` composes these steps with the tenant's own database, keys and files;
nothing else should write here.

Raises: NotFound, AlreadyExists, Conflict (the state does not allow it), Unavailable.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Self

from sqlalchemy import bindparam, insert, select

from storage.clock import Clock
from storage.database.checkpointer import Checkpointer
from storage.database.database import Database, Transaction
from storage.database.migrations import Schema, new_tables
from storage.database.prepared import prepare
from storage.directory.agreements import Agreements
from storage.directory.approvals import Approvals
from storage.directory.backups import Backups
from storage.directory.contracts import Contracts
from storage.directory.disclosures import Disclosures
from storage.directory.domains import Domains
from storage.directory.endings import Endings
from storage.directory.holds import Holds
from storage.directory.key_backups import KeyBackups
from storage.directory.logins import Logins
from storage.directory.marks import Marks
from storage.directory.public_links import PublicLinks
from storage.directory.receipts import Receipts
from storage.directory.reviews import Reviews
from storage.directory.staff import StaffDirectory
from storage.directory.tenants import COUNTERS, Tenants, check_slug
from storage.filter.counts import Judged
from storage.keys.source import KeySource
from storage.register import classes
from storage.register.values import database_files
from storage.schema import contracts, staff
from storage.schema import control as schema

__all__ = ["FILES", "SCHEMA", "Control", "check_slug"]

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
        new_tables(4, schema.public_link),
    ],
)

FILES = database_files("control.db", classes.DIRECTORY)

_INSERT_COUNTER = prepare(insert(schema.counter))
_INFO = prepare(select(schema.info.c.value).where(schema.info.c.name == bindparam("which")))
_INSERT_INFO = prepare(insert(schema.info))


class Control(Tenants, Domains, Logins):
    """`agreements`, `reviews`, `judged` and so on are the other stores of the same database."""

    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        super().__init__(database, keys, clock)
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
        self.public_links = PublicLinks(database, clock)
        self.approvals = Approvals(database, keys, clock)
        self.staff = StaffDirectory(database, keys, clock)
        self.disclosures = Disclosures(database, keys, clock)

    @classmethod
    def create(cls, path: Path, keys: KeySource, clock: Clock, *, checkpointer: Checkpointer | None = None) -> Self:
        """Make control.db with its counters at zero."""

        def fill(transaction: Transaction) -> None:
            _INSERT_COUNTER.run_many(transaction, [{"name": name, "value": 0} for name in COUNTERS])

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

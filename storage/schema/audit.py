"""Tables of audit.db: the chain of administrative actions. One appends at a time; hashed over stored octets."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text

from storage.register import classes
from storage.schema import personal, technical

VERSION = 2

metadata = MetaData()

info = Table(
    "info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    info=technical(
        "state of this database itself, and how far the owners' journals have come", of=classes.INSTALLATION
    ),
)

record = Table(
    "record",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),  # Unix seconds
    Column("action", Text, nullable=False),  # e.g. tenant.create, account.passwd, log.access
    Column("actor", Text, nullable=False, info=personal("staff", "who acted")),
    Column("tenant_id", BigInteger, nullable=True),
    Column("account_id", BigInteger, nullable=True),
    Column("details", LargeBinary, nullable=False, info=personal("user", "what was changed", sealed=True)),
    Column("previous", LargeBinary, nullable=False),  # hash of the record before
    Column("hash", LargeBinary, nullable=False),
    info=technical("append-only chain of administrative actions", of=classes.AUDIT),
)

# Heads of the chain that were signed: who changes the chain has to have the signing key too. They outlive the records
# that they sign, so that an old anchor can still be compared.
checkpoint = Table(
    "checkpoint",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # of the record that it signs
    Column("time", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),  # Ed25519
    info=technical("signed heads of the chain", of=classes.INSTALLATION),
)

# Where the chain begins after records were removed that had had their time; the last row counts.
origin = Table(
    "origin",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # of the last record that was removed
    Column("time", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("cut_off", BigInteger, nullable=False),  # what was removed was older
    Column("signature", LargeBinary, nullable=False),  # Ed25519
    info=technical("signed beginnings of the chain", of=classes.INSTALLATION),
)

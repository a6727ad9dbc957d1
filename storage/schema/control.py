"""Tables of control.db: which tenants and domains exist, and which tenant an address belongs to.

Opened with a key derived from the master. Personal columns are sealed under the tenant's key (`storage.keys.sealing`),
so they end with it; addresses are found by HMAC under the directory key.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, Table, Text

from storage.schema import personal, technical

VERSION = 1

metadata = MetaData()

info = Table(
    "info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    info=technical("installation id, state of this database"),
)

counter = Table(
    "counter",
    metadata,
    Column("name", Text, primary_key=True),  # tenant_id, account_id
    Column("value", BigInteger, nullable=False),
    info=technical("ids that are never used again"),
)

tenant = Table(
    "tenant",
    metadata,
    Column("tenant_id", BigInteger, primary_key=True, autoincrement=False),
    Column(
        "slug",
        Text,
        nullable=False,
        unique=True,
        info=personal("customer", "the operator's short name of the customer"),
    ),
    Column("name", LargeBinary, nullable=False, info=personal("customer", "display name", sealed=True)),
    Column("state", Text, nullable=False),  # active, suspended, ended
    Column("state_version", BigInteger, nullable=False),  # rises with every change of state
    Column("created", BigInteger, nullable=False),
    info=technical("customers with a contract"),
)

domain = Table(
    "domain",
    metadata,
    Column("domain", Text, primary_key=True, info=personal("customer", "mail domain")),
    Column("tenant_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # pending, verified
    Column("token", Text, nullable=False),  # expected in the TXT record of _cleanmail.<domain>
    Column("created", BigInteger, nullable=False),
    Column("verified", BigInteger, nullable=True),
    info=technical("a domain belongs to at most one tenant"),
)
Index("domain_by_tenant", domain.c.tenant_id)

login = Table(
    "login",
    metadata,
    Column("login_hash", LargeBinary, primary_key=True),  # HMAC of the address key under the directory key
    Column("tenant_id", BigInteger, nullable=False),
    Column("account_id", BigInteger, nullable=False, unique=True),
    info=technical("finds the account of a login name"),
)

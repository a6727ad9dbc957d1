"""Tables of control.db: which tenants and domains exist, and which tenant an address belongs to.

Opened with a key derived from the master. Personal columns are sealed under the tenant's key (`storage.keys.sealing`),
so they end with it; addresses are found by HMAC under the directory key.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from storage.register import classes
from storage.schema import personal, technical

VERSION = 4

metadata = MetaData()

info = Table(
    "info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    info=technical("installation id, state of this database", of=classes.INSTALLATION),
)

counter = Table(
    "counter",
    metadata,
    Column("name", Text, primary_key=True),  # tenant_id, account_id
    Column("value", BigInteger, nullable=False),
    info=technical("ids that are never used again", of=classes.INSTALLATION),
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
    info=technical("customers with a contract", of=classes.DIRECTORY),
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
    info=technical("a domain belongs to at most one tenant", of=classes.DIRECTORY),
)
Index("domain_by_tenant", domain.c.tenant_id)

login = Table(
    "login",
    metadata,
    Column("login_hash", LargeBinary, primary_key=True),  # HMAC of the address key under the directory key
    Column("tenant_id", BigInteger, nullable=False),
    Column("account_id", BigInteger, nullable=False, unique=True),
    info=technical("finds the account of a login name", of=classes.DIRECTORY),
)

# Who promised in writing to keep secret what he sees of withheld mail: only they may see header lines of it.
secrecy_agreement = Table(
    "secrecy_agreement",
    metadata,
    Column("agreement_id", BigInteger, primary_key=True, autoincrement=False),
    Column("person", Text, nullable=False, info=personal("staff", "Unix user who signed")),
    Column("signed", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),  # SHA-256 of what was signed
    Column("recorded", BigInteger, nullable=False),
    Column("recorded_by", Text, nullable=False, info=personal("staff", "Unix user who recorded it")),
    Column("ended", BigInteger, nullable=True),
    info=technical("secrecy agreements of technical administrators", of=classes.AGREEMENTS),
)

# Withheld messages that somebody said were wrongly withheld, and what a reviewer found.
review = Table(
    "review",
    metadata,
    Column("tenant_id", BigInteger, primary_key=True, autoincrement=False),
    Column("quarantine_id", Text, primary_key=True),
    Column("asked", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=True),  # when the message came
    Column("reason", Text, nullable=False),  # the name of the verdict's reason
    Column("state", Text, nullable=False),  # storage.directory.reviews.ReviewState
    Column("viewed", BigInteger, nullable=True),  # when a person saw its header first
    Column("decided", BigInteger, nullable=True),
    Column("decided_by", Text, nullable=True, info=personal("staff", "Unix user who decided")),
    info=technical("reviews of withheld mail", of=classes.REVIEWS),
)
Index("review_by_state", review.c.state, review.c.asked)
Index("review_by_message", review.c.quarantine_id)

# How many messages were judged how, by UTC day: the shares that the provider promises are counted from it.
judged = Table(
    "judged",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970
    Column("tenant_id", BigInteger, primary_key=True, autoincrement=False),
    Column("what", Text, primary_key=True),  # storage.filter.counts.Counted
    Column("count", BigInteger, nullable=False),
    info=technical("counts of verdicts", of=classes.VERDICT_COUNTS),
    sqlite_with_rowid=False,
)

# Links under which anybody who has one may read a calendar, until it is revoked.
public_link = Table(
    "public_link",
    metadata,
    Column("digest", LargeBinary, primary_key=True),  # SHA-256 of the link's secret; the secret itself is shown once
    Column("tenant_id", BigInteger, nullable=False),
    Column("account_id", BigInteger, nullable=False),
    Column("collection_id", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    info=technical("public links to calendars", of=classes.SHARES),
    sqlite_with_rowid=False,
)
Index("public_link_by_collection", public_link.c.account_id, public_link.c.collection_id)

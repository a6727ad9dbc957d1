"""Tables of control.db about the provider's people: who may do what, what needs two of them, and disclosures."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from storage.register import classes
from storage.schema import personal, technical
from storage.schema.control import metadata

staff = Table(
    "staff",
    metadata,
    Column("staff_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True, info=personal("staff", "signs in with it")),
    Column("roles", Text, nullable=False),  # space-separated: hosting.access.roles
    Column("tenant_id", BigInteger, nullable=True),  # of a tenant administrator
    Column("password_hash", Text, nullable=True, info=personal("staff", "argon2id verifier")),
    Column("totp", LargeBinary, nullable=True, info=personal("staff", "secret of the second factor", sealed=True)),
    Column("totp_used", BigInteger, nullable=False),  # the last time step that was used: none works twice
    Column("failures", BigInteger, nullable=False),  # sign-ins that failed since the last that did not …
    Column("failed", BigInteger, nullable=False),  # … and when the last of them did
    Column("credential_version", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=True),
    info=technical("who works for the provider, and administrators of customers", of=classes.STAFF),
    sqlite_autoincrement=True,
)
Index("staff_by_tenant", staff.c.tenant_id)

# Signed in for a while: a keyed hash of the token that the person's program holds.
staff_session = Table(
    "staff_session",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("staff_id", BigInteger, nullable=False),
    Column("credential_version", BigInteger, nullable=False),
    Column("uid", BigInteger, nullable=False),  # of the Unix user whose programs may use it
    Column("begun", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    info=technical("sessions of staff", of=classes.STAFF_SESSIONS),
)
Index("staff_session_by_end", staff_session.c.expires)

# What needs two persons: asked for by one, approved by another, then used once.
approval = Table(
    "approval",
    metadata,
    Column("approval_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # storage.directory.approvals.Kind
    Column("tenant_id", BigInteger, nullable=True),
    Column("account_id", BigInteger, nullable=True),
    # JSON: what exactly is asked for; an approval is for this and nothing else.
    Column("scope", LargeBinary, nullable=False, info=personal("user", "what is asked for", sealed=True)),
    Column("reason", LargeBinary, nullable=False, info=personal("user", "why", sealed=True)),
    Column("asked", BigInteger, nullable=False),
    Column("asked_by", Text, nullable=False, info=personal("staff", "who asked")),
    Column("asked_as", Text, nullable=False, info=personal("staff", "the Unix user of who asked")),
    Column("expires", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # waiting, approved, refused, withdrawn, used, expired
    Column("decided", BigInteger, nullable=True),
    Column("decided_by", Text, nullable=True, info=personal("staff", "who approved or refused")),
    Column("used", BigInteger, nullable=True),
    info=technical("what needs a second person", of=classes.APPROVALS),
)
Index("approval_by_state", approval.c.state, approval.c.asked)

# Disclosure to an authority. Who is concerned stands here by number alone; what is demanded ends with him.
disclosure = Table(
    "disclosure",
    metadata,
    Column("case_id", Text, primary_key=True),
    Column("received", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),  # of authority: storage.directory.disclosures.Authority
    Column("authority", Text, nullable=False),
    Column("legal_basis", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),  # SHA-256 of the notification
    Column("tenant_id", BigInteger, nullable=False),
    Column("account_id", BigInteger, nullable=True),  # NULL: all accounts of the tenant
    Column("scope", LargeBinary, nullable=False, info=personal("user", "what is demanded", sealed=True)),
    Column("state", Text, nullable=False),  # storage.directory.disclosures.CaseState
    Column("recorded_by", Text, nullable=False, info=personal("staff", "who recorded it")),
    Column("approval_id", Text, nullable=True),
    Column("secret_until", BigInteger, nullable=True),  # by an order: the owner is told after it
    Column("told", BigInteger, nullable=True),  # when he was, if it had been secret
    Column("closed", BigInteger, nullable=True),  # disclosed or refused
    Column("disclosed", BigInteger, nullable=True),
    Column("extract", LargeBinary, nullable=True),  # SHA-256 of the manifest of what was handed over
    Column("items", BigInteger, nullable=False),  # how many records that were
    Column("accounts", BigInteger, nullable=False),  # of how many accounts
    info=technical("disclosures to authorities", of=classes.DISCLOSURES),
)
Index("disclosure_by_time", disclosure.c.received)

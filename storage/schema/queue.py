"""Tables of queue.db: messages that wait to leave or to be delivered; content lies in the tenant's spool, encrypted.

An entry belongs to one tenant; its recipients have states of their own. Personal columns are sealed under the tenant's
key.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from storage.schema import personal, technical

VERSION = 1

metadata = MetaData()

info = Table(
    "info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    info=technical("state of this database itself"),
)

entry = Table(
    "entry",
    metadata,
    Column("queue_id", Text, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("account_id", BigInteger, nullable=True),  # the submitter, for entries from submission
    Column("origin", Text, nullable=False),  # submission, mx
    Column("file", Text, nullable=False),  # base name in the tenant's spool
    Column("size", BigInteger, nullable=False),
    Column("reverse_path", LargeBinary, nullable=False, info=personal("user", "envelope sender", sealed=True)),
    # envelope parameters as JSON: ret, envid, smtputf8, body
    Column("parameters", LargeBinary, nullable=False, info=personal("user", "DSN parameters", sealed=True)),
    Column("arrived", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("held", Integer, nullable=False),
    info=technical("accepted messages whose recipients are not all settled"),
)
Index("entry_by_tenant", entry.c.tenant_id)

recipient = Table(
    "recipient",
    metadata,
    Column("queue_id", Text, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("address", LargeBinary, nullable=False, info=personal("correspondent", "envelope recipient", sealed=True)),
    Column("parameters", LargeBinary, nullable=False, info=personal("correspondent", "NOTIFY, ORCPT", sealed=True)),
    Column("account_id", BigInteger, nullable=True),  # a local mailbox of the tenant
    Column("destination", Text, nullable=False, info=personal("correspondent", "next hop or domain")),
    Column("state", Text, nullable=False),  # queued, delivered, relayed, failed, withdrawn
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", BigInteger, nullable=False),
    Column(
        "reply", LargeBinary, nullable=True, info=personal("correspondent", "last reply of the next hop", sealed=True)
    ),
    info=technical("one recipient of an entry"),
)
Index("recipient_due", recipient.c.state, recipient.c.next_attempt)
Index("recipient_by_destination", recipient.c.destination, recipient.c.state)

"""Tables of queue.db: messages that wait to leave or to be delivered; content lies in the tenant's spool, encrypted.

An entry belongs to one tenant; its recipients have states of their own. Personal columns are sealed under the tenant's
key. Beside them stands what sending has to remember of the world: which destinations do not answer, what accounts have
sent, other domains' MTA-STS policies, and how TLS with them went.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from storage.register import classes
from storage.schema import personal, technical

VERSION = 2

metadata = MetaData()

info = Table(
    "info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    info=technical("state of this database itself", of=classes.INSTALLATION),
)

counter = Table(
    "counter",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
    info=technical("persistent counters", of=classes.INSTALLATION),
    sqlite_with_rowid=False,
)

entry = Table(
    "entry",
    metadata,
    Column("queue_id", Text, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("account_id", BigInteger, nullable=True),  # the submitter, for entries from submission
    Column("origin", Text, nullable=False),  # submission, mx, notice
    Column("file", Text, nullable=False),  # base name in the tenant's spool
    Column("size", BigInteger, nullable=False),
    Column("reverse_path", LargeBinary, nullable=False, info=personal("user", "envelope sender", sealed=True)),
    # envelope parameters as JSON: ret, envid, smtputf8, body, authentic
    Column("parameters", LargeBinary, nullable=False, info=personal("user", "DSN parameters", sealed=True)),
    Column("arrived", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("held", Integer, nullable=False),  # 0: no; 1: by an operator; 2: with its account. So are its recipients.
    Column("given_up", Integer, nullable=False),  # 1: an operator wants it returned to its sender
    Column("waiting", Integer, nullable=False),  # recipients that are not settled; the entry goes with the last
    info=technical("accepted messages whose recipients are not all settled", of=classes.QUEUE),
    sqlite_with_rowid=False,
)
# The primary key follows in each of them, so that a page of the list is a range.
Index("entry_by_tenant", entry.c.tenant_id, entry.c.held)
Index("entry_by_end", entry.c.held, entry.c.expires)
Index("entry_by_hold", entry.c.held, entry.c.queue_id)

recipient = Table(
    "recipient",
    metadata,
    Column("queue_id", Text, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("address", LargeBinary, nullable=False, info=personal("correspondent", "envelope recipient", sealed=True)),
    Column("parameters", LargeBinary, nullable=False, info=personal("correspondent", "NOTIFY, ORCPT", sealed=True)),
    Column("account_id", BigInteger, nullable=True),  # a local mailbox of the tenant
    Column("destination", Text, nullable=False, info=personal("correspondent", "next hop or domain")),
    # Whose turn it is at the destination: the submitter's account, or the tenant's number, negative, for other mail.
    Column("lane", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # queued, held, delivered, relayed, failed, withdrawn
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", BigInteger, nullable=False),
    Column("warned", Integer, nullable=False),  # 1: its sender was told of the delay
    Column("news", BigInteger, nullable=False),  # of the counter: when it last became due earlier than was known
    Column(
        "reply", LargeBinary, nullable=True, info=personal("correspondent", "last reply of the next hop", sealed=True)
    ),
    info=technical("one recipient of an entry", of=classes.QUEUE),
    sqlite_with_rowid=False,
)
Index(
    "recipient_by_lane", recipient.c.state, recipient.c.destination, recipient.c.lane, recipient.c.next_attempt
)  # the primary key follows
Index("recipient_by_news", recipient.c.news)

# Accounts whose messages are held as they come, since the account is frozen.
held_account = Table(
    "held_account",
    metadata,
    Column("tenant_id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    info=technical("accounts whose queued mail is held", of=classes.STOPPED_SENDERS),
    sqlite_with_rowid=False,
)

# Content of entries that are gone, until it is removed.
unlink = Table(
    "unlink",
    metadata,
    Column("tenant_id", BigInteger, primary_key=True, autoincrement=False),
    Column("file", Text, primary_key=True),
    info=technical("spool files that are to be removed", of=classes.QUEUE),
    sqlite_with_rowid=False,
)

# Destinations that could not be reached as a whole; one that answers has no row.
destination = Table(
    "destination",
    metadata,
    Column("name", Text, primary_key=True, info=personal("correspondent", "next hop or domain")),
    Column("failures", Integer, nullable=False),  # in a row
    Column("since", BigInteger, nullable=False),
    Column("retry_at", BigInteger, nullable=False),
    Column("code", Integer, nullable=False),
    Column("status", Text, nullable=False),  # RFC 3463
    Column("text", Text, nullable=False),  # our own words, never the peer's
    info=technical("destinations that do not answer", of=classes.OTHER_SERVERS),
    sqlite_with_rowid=False,
)
Index("destination_by_time", destination.c.retry_at)

# What left the installation, by account and hour; account 0 is the tenant as a whole.
sent = Table(
    "sent",
    metadata,
    Column("tenant_id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),  # Unix time / 3600
    Column("recipients", BigInteger, nullable=False),
    info=technical("how much each account sends, against abuse", of=classes.SENDING),
    sqlite_with_rowid=False,
)
Index("sent_by_hour", sent.c.hour)

# RFC 8461 §3.3: policies are kept for as long as they say.
sts_policy = Table(
    "sts_policy",
    metadata,
    Column("domain", Text, primary_key=True, info=personal("correspondent", "mail domain")),
    Column("policy_id", Text, nullable=False),
    Column("mode", Text, nullable=False),  # enforce, testing, none
    Column("max_age", BigInteger, nullable=False),
    Column("mx", Text, nullable=False, info=personal("correspondent", "mail servers")),  # patterns, space-separated
    Column("fetched", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    info=technical("MTA-STS policies of other domains", of=classes.OTHER_SERVERS),
    sqlite_with_rowid=False,
)
Index("sts_policy_by_end", sts_policy.c.expires)

# RFC 8460 §4: what a report of a day says about TLS with the servers of a domain.
tls_result = Table(
    "tls_result",
    metadata,
    Column("day", BigInteger, primary_key=True, autoincrement=False),  # Unix time / 86,400
    Column("policy_domain", Text, primary_key=True, info=personal("correspondent", "mail domain")),
    Column("policy_type", Text, primary_key=True),  # sts, tlsa, no-policy-found
    Column("mx_host", Text, primary_key=True, info=personal("correspondent", "mail server")),
    Column("result_type", Text, primary_key=True),  # RFC 8460 §4.3; empty: TLS as the policy wants it
    Column("sessions", BigInteger, nullable=False),
    info=technical("outcomes of TLS with other servers", of=classes.SENDING),
    sqlite_with_rowid=False,
)

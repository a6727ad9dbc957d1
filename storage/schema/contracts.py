"""Tables of control.db about the end of things: contracts, what is being erased, certificates, holds."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from storage.register import classes
from storage.schema import personal, technical
from storage.schema.control import metadata

# What was agreed with a tenant. A tenant without a row has an open-ended contract without limits.
contract = Table(
    "contract",
    metadata,
    Column("tenant_id", BigInteger, primary_key=True, autoincrement=False),
    Column("started", BigInteger, nullable=False),  # Unix seconds
    Column("notice_days", Integer, nullable=False),  # how long before its end somebody has to give notice
    Column("ends", BigInteger, nullable=True),  # Unix seconds; None: open-ended
    Column("ended_by", Text, nullable=True, info=personal("staff", "who set the end")),
    Column("read_only_days", Integer, nullable=False),  # before the end, in which mail can be read but nothing comes in
    Column("max_accounts", BigInteger, nullable=False),  # 0: unlimited, here and below
    Column("max_bytes", BigInteger, nullable=False),
    Column("max_domains", BigInteger, nullable=False),
    Column("features", Text, nullable=False),  # space-separated; empty: all
    Column("reminded", BigInteger, nullable=False),  # days before the end of the last reminder; 0: none yet
    Column("contact", LargeBinary, nullable=True, info=personal("customer", "who is told of the end", sealed=True)),
    # What all accounts take up together, as the jobs role found last; new mail waits while that is above max_bytes.
    Column("used_bytes", BigInteger, nullable=False),
    Column("measured", BigInteger, nullable=True),
    info=technical("contracts with customers", of=classes.CONTRACTS),
)

# What is being erased, or was: a tenant or one account, step by step, so that it goes on after a crash.
ending = Table(
    "ending",
    metadata,
    Column("ending_id", Text, primary_key=True),  # of the certificate too
    Column("tenant_id", BigInteger, nullable=False),
    Column("account_id", BigInteger, nullable=True),  # None: the whole tenant
    Column("step", Text, nullable=False),  # storage.ending.steps.Step: the last one that is done
    Column("begun", BigInteger, nullable=False),
    Column("finished", BigInteger, nullable=True),
    Column("ordered_by", Text, nullable=False, info=personal("staff", "who ordered it, or the contract")),
    Column("reason", Text, nullable=False, info=personal("customer", "why it was ordered, in the operator's words")),
    # JSON of what has been counted so far; holds ids and numbers only.
    Column("progress", Text, nullable=False),
    # What is searched for afterwards, sealed under a key of its own that is destroyed when the search is over.
    Column(
        "sought",
        LargeBinary,
        nullable=True,
        info=personal("user", "addresses to look for", sealed=True, of=classes.ERASURE_SEARCH),
    ),
    info=technical("erasures under way and done", of=classes.ERASURES),
)
Index("ending_by_tenant", ending.c.tenant_id, ending.c.account_id)
Index("ending_by_finish", ending.c.finished)

# A legal hold: nothing in its scope is removed by time or order, and no key of it destroyed.
legal_hold = Table(
    "legal_hold",
    metadata,
    Column("hold_id", Text, primary_key=True),
    Column("tenant_id", BigInteger, nullable=False),
    Column("account_id", BigInteger, nullable=True),  # None: the whole tenant
    Column("reason", LargeBinary, nullable=False, info=personal("user", "why it is held", sealed=True)),
    Column("begun", BigInteger, nullable=False),
    Column("ends", BigInteger, nullable=False),
    Column("asked_by", Text, nullable=False, info=personal("staff", "who asked for it")),
    Column("approved_by", Text, nullable=False, info=personal("staff", "who approved it")),
    Column("lifted", BigInteger, nullable=True),
    Column("lifted_by", Text, nullable=True, info=personal("staff", "who lifted it")),
    info=technical("legal holds", of=classes.HOLDS),
)
Index("legal_hold_by_tenant", legal_hold.c.tenant_id)

# Keys that were copied away: until when a copy could exist that opens what was destroyed here.
key_backup = Table(
    "key_backup",
    metadata,
    Column("backup_id", Text, primary_key=True),
    Column("made", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("place", Text, nullable=False),  # where it was written, for the operator
    Column("master", Integer, nullable=False),  # generation of the master that wraps what it holds
    Column("removed", BigInteger, nullable=True),
    info=technical("copies of keys", of=classes.KEY_BACKUPS),
)

# Backups of data, so that erasures are known to those that hold the erased.
backup = Table(
    "backup",
    metadata,
    Column("backup_id", Text, primary_key=True),
    Column("made", BigInteger, nullable=False),
    Column("place", Text, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("verified", BigInteger, nullable=True),
    Column("expires", BigInteger, nullable=True),
    info=technical("backups that were made", of=classes.BACKUPS),
)

# One run of a retention job.
receipt = Table(
    "receipt",
    metadata,
    Column("receipt_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("data_class", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("cut_off", BigInteger, nullable=False),  # what is older has to be gone
    Column("removed", BigInteger, nullable=False),
    Column("oldest", BigInteger, nullable=True),  # of what is left
    Column("failed", BigInteger, nullable=False),  # parts that could not be looked at
    Column("overdue", Integer, nullable=False),  # 1: something is older than its ceiling
    info=technical("what retention did", of=classes.RECEIPTS),
    sqlite_autoincrement=True,
)
Index("receipt_by_class", receipt.c.data_class, receipt.c.time)
Index("receipt_by_time", receipt.c.time)

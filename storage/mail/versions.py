"""account.db as it is now, and the way there from each version before."""

from __future__ import annotations

from storage.database.migrations import Schema, new_tables
from storage.mail import flag_changes
from storage.schema import account as schema
from storage.schema import collections

SCHEMA = Schema(
    "account",
    schema.VERSION,
    schema.metadata,
    schema.EXTRA_SQL,
    steps=[
        new_tables(2, schema.opinion),
        new_tables(
            3,
            schema.moving,
            schema.moved,
            columns=[schema.mailbox.c.keep_days, schema.mailbox.c.read_only],
        ),
        new_tables(4, *collections.TABLES),
        new_tables(5, schema.annotation, columns=[schema.message.c.internal_zone]),
        new_tables(6, schema.field_column),
        new_tables(
            7,
            schema.flag_change,
            columns=[schema.mailbox.c.flag_changes, schema.mailbox.c.flag_horizon],
            then=flag_changes.migrate,
        ),
    ],
)

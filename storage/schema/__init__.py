"""The tables of the five kinds of database, one module each: control, tenant, account, queue, audit.

SQLAlchemy Core MetaData serves SQLCipher today and PostgreSQL later: one schema per tenant there, so every table of an
account carries `account_id` first in its key. Every column that can hold a person's data says so in `info`:
`personal(whose, why)`; content columns that PostgreSQL must keep as AEAD boxes say `sealed=True` and never stand in
a WHERE, an ORDER BY or an index. `tests/storage/test_schema.py` holds both rules.
"""

from __future__ import annotations

from typing import Any


def personal(whose: str, why: str, *, sealed: bool = False) -> dict[str, Any]:
    """The `info` of a column with personal data: whose (user, correspondent, customer), and what it is kept for."""
    return {"personal": whose, "purpose": why, "sealed": sealed}


def technical(why: str) -> dict[str, Any]:
    """The `info` of a table's columns that hold no personal data; `why` says what they are for."""
    return {"personal": None, "purpose": why, "sealed": False}

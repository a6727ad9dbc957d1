"""The tables of the five kinds of database, one module each: control, tenant, account, queue, audit.

SQLAlchemy Core MetaData serves SQLCipher today and PostgreSQL later: one schema per tenant there, so every table of an
account carries `account_id` first in its key. Every table names the class of data that it holds (`of`, one of
`storage.register.classes`), and every column that can hold a person's data says whose in its `info`: `personal(whose,
why)`, with a class of its own if it is not the table's. Content columns that PostgreSQL must keep as AEAD boxes say
`sealed=True` and never stand in a WHERE, an ORDER BY or an index. `tests/storage/test_register_catalogue.py` holds it.
"""

from __future__ import annotations

from typing import Any

from storage.register.values import DataClass


def personal(whose: str, why: str, *, sealed: bool = False, of: DataClass | None = None) -> dict[str, Any]:
    """The `info` of a column with personal data: whose (user, correspondent, customer, staff), and what it is kept for.

    `of` if it is of another class than its table.
    """
    return {"personal": whose, "purpose": why, "sealed": sealed, "class": of}


def technical(why: str, *, of: DataClass | None = None) -> dict[str, Any]:
    """The `info` of a table, of whose columns those hold no personal data that don't say so; `why` tells what it is.

    `of` is the class of what it holds; a table without one is undeclared, which a test finds.
    """
    return {"personal": None, "purpose": why, "sealed": False, "class": of}

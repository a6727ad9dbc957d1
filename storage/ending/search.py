"""Has what is left of an installation searched for what was erased, and judges what was found.

Where a text stands decides what it means: in a file, a name, a free page or a table of accounts it is a remain. In the
tables that a law or other customers keep (`_KEPT`) it is theirs: a customer's correspondents may write to the same
domain, and an operator's reason may name it. Rows of tenants and domains are asked for by the number of who ended
beside that, so that other customers' domains, which may contain the same text, are no remains.

Raises: Unavailable (the search could not be made).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache

from storage import program
from storage.ending.remains import NAME, Found, Order, Result, encoded, result_of
from storage.ending.scopes import Scope
from storage.ending.sought import Sought
from storage.ending.terms import texts_of
from storage.errors import Unavailable
from storage.register import classes
from storage.register.values import DataClass
from storage.schema import audit, contracts, control, queue, staff, tenant  # noqa: F401 - some add to another's tables

_KEPT: frozenset[DataClass] = frozenset(
    {
        classes.DIRECTORY,  # of others: those of who ended are looked for by number
        classes.CONTRACTS,
        classes.ERASURES,
        classes.HOLDS,
        classes.DISCLOSURES,
        classes.APPROVALS,
        classes.AGREEMENTS,
        classes.STAFF,
        classes.STAFF_SESSIONS,
        classes.REVIEWS,
        classes.AUDIT,
        classes.BACKUPS,
        classes.KEY_BACKUPS,
        # of other customers and of their correspondents
        classes.QUEUE,
        classes.SENDING,
        classes.OTHER_SERVERS,
        classes.SETTINGS,
        classes.FORWARDED_SENDERS,
        classes.WITHHELD,
    }
)
_SCHEMAS = {"control.db": control, "queue.db": queue, "audit.db": audit, "tenant.db": tenant}
_KEPT_FILES = ("certificates/*", "cleanmail.toml")  # the ledger of erasures; what the operator wrote
_WORD = 8  # letters
_FILES = (
    "access audit backups certificates cleanmail clock control counts endings erasing feed keys leases limits logs",
    "metrics model operations postmaster quarantine queue serve service tenants traces transcripts",
)
_ENDS_AFTER = 60.0  # seconds for the process to end once it has told its result


@dataclass(frozen=True, slots=True)
class Searched:
    result: Result
    remains: tuple[Found, ...]


def search(
    scope: Scope, sought: Sought, ending_id: str, progress: Callable[[int, int], None], *, thorough: bool = False
) -> Searched:
    """By a process that holds no connection; `progress` hears of files and octets, and may raise to stop it."""
    shared = {other.lower() for other in sought.others}
    telling = [text for text in sought.texts if not is_ordinary(text) and text.lower() not in shared]
    order = Order(
        str(scope.installation.data),
        scope.databases,
        tuple(sorted(text.hex() for text in texts_of(telling))),
        tuple((key.key_id, key.head.hex(), key.digest.hex()) for key in sought.keys),
        (*scope.absent, f"erasing/{ending_id}"),
        thorough,
        tuple(sorted(text.hex() for text in texts_of(sought.others))),
    )
    command = program.command("storage.ending.remains")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
    result: Result | None = None
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(encoded(order))
        process.stdin.close()
        for line in process.stdout:
            values = json.loads(line)
            if "result" in values:
                result = result_of(values["result"])
            else:
                progress(values["files"], values["octets"])
        process.wait(_ENDS_AFTER)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise _failed(scope) from None
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if result is None:
        raise _failed(scope)
    result.unsearched += len(sought.texts) - len(telling)
    return Searched(result, tuple(found for found in result.found if not is_kept(found)))


def is_ordinary(text: str) -> bool:
    """Whether the text says nothing where it stands: a short word, or one that this program writes by itself.

    Addresses and domains never are.
    """
    if "@" in text or "." in text:
        return False
    return (text.isalpha() and len(text) < _WORD) or text.lower() in _vocabulary()


@cache
def _vocabulary() -> str:
    """Names of tables and columns, and of our own files."""
    tables = (table for schema in _SCHEMAS.values() for table in schema.metadata.tables.values())
    return " ".join([*_FILES, *(f"{table} {' '.join(table.columns.keys())}" for table in tables)])


def is_kept(found: Found) -> bool:
    """Whether it stands where it may: a class of data that is kept by law, or that belongs to others."""
    if found.term.startswith("key ") or found.term == "path" or found.kind == NAME:
        return False
    if any(fnmatch(found.where, pattern) for pattern in _KEPT_FILES):
        return True
    schema = _SCHEMAS.get(found.where.rpartition("/")[2])
    table = schema.metadata.tables.get(found.table) if schema is not None else None
    return table is not None and table.info.get("class") in _KEPT


def _failed(scope: Scope) -> Unavailable:
    return Unavailable(
        "The search for remains failed; it is made again.", detail=f"ending of tenant {scope.tenant_id}: search"
    )

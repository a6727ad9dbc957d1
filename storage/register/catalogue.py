"""The data register: every class of data, every table, every log and every class of file of storage, in one place.

Modules declare beside what they define; here stands who is asked. `Catalogue.files_of` finds the class of a file by its
path. `hosting.data_register` adds what the layers above store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from pathlib import Path

from sqlalchemy import Table

from storage import audit as audit_chain
from storage import changes, clock_guard, greylist, leases, rebuild, recent_claims
from storage.backup import declared as backup_files
from storage.certificates import store as certificates
from storage.collections import octets
from storage.database import commits
from storage.directory import control as control_store
from storage.directory import tenant as tenant_store
from storage.ending import declared as ending_files
from storage.files import incarnation, maildir
from storage.keys import declared as key_files
from storage.logs import segments
from storage.logs.classes import CLASSES as LOG_CLASSES
from storage.logs.classes import LogClass
from storage.mail import account as account_store
from storage.quarantine import files as quarantine_files
from storage.queue import rows as queue_rows
from storage.queue import spool
from storage.register import classes
from storage.register.values import DataClass, FileClass
from storage.schema import (
    account,
    audit,
    collections,  # noqa: F401 - adds its tables to account's
    contracts,  # noqa: F401 - adds its tables to control's
    control,
    queue,
    staff,  # noqa: F401 - likewise
    tenant,
)

# What a crash leaves of a file that was being written (storage.files.durable): it is of the class of that file.
_UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{12}\Z")


@dataclass(frozen=True, slots=True)
class Declared:
    """A table or a column that names its class."""

    database: str  # account, tenant, control, queue, audit
    table: str
    column: str  # empty: the table as a whole
    purpose: str
    of: DataClass | None  # None: it declares nothing, which a test finds
    personal: str | None  # whose data a column holds
    sealed: bool = False  # it is encrypted under a key of its own

    @property
    def is_open(self) -> bool:
        """Whether it holds a person's data in a database that does not end with it, as it is."""
        return bool(self.personal) and not self.sealed and self.database not in ("tenant", "account")

    @property
    def name(self) -> str:
        return ".".join(part for part in (self.database, self.table, self.column) if part)


@dataclass(frozen=True, slots=True)
class Catalogue:
    classes: tuple[DataClass, ...]
    tables: tuple[tuple[str, Table], ...]  # with the name of their database
    logs: tuple[LogClass, ...]
    files: tuple[FileClass, ...]

    def with_files(self, files: Iterable[FileClass]) -> Catalogue:
        return Catalogue(self.classes, self.tables, self.logs, (*self.files, *files))

    def declarations(self) -> Iterator[Declared]:
        """Every table, and every column that holds a person's data or is of a class of its own."""
        for database, table in self.tables:
            of = table.info.get("class")
            yield Declared(database, table.name, "", table.info.get("purpose", ""), of, None)
            for column in table.columns:
                if column.info:
                    yield Declared(
                        database,
                        table.name,
                        column.name,
                        column.info.get("purpose", ""),
                        column.info.get("class") or of,
                        column.info.get("personal"),
                        column.info.get("sealed", False),
                    )

    def files_of(self, path: str) -> list[FileClass]:
        """The classes that a file belongs to, by its path in the data directory: exactly one, if all is declared."""
        folder, slash, name = path.rpartition("/")
        unfinished = _UNFINISHED.match(name)
        sought = folder + slash + unfinished[1] if unfinished else path
        return [each for each in self.files if _pattern(each.pattern).match(sought)]

    def undeclared(self, data: Path) -> list[str]:
        """Files of a data directory that belong to no class, or to several."""
        found = []
        for path in sorted(data.rglob("*")):
            if path.is_symlink() or not path.is_dir():
                name = str(path.relative_to(data))
                if len(self.files_of(name)) != 1:
                    found.append(name)
        return found

    def problems(self) -> list[str]:
        """What is declared wrongly, in words; empty: nothing."""
        known = set(self.classes)
        names = [each.name for each in self.classes]
        wrong = [f"two classes are called {name}" for name in sorted({name for name in names if names.count(name) > 1})]
        for declared in self.declarations():
            if declared.of is None:
                wrong.append(f"{declared.name} declares no class")
            elif declared.of not in known:
                wrong.append(f"{declared.name} is of the class {declared.of.name}, which is not in the catalogue")
            elif declared.personal not in {None, *(each.value for each in declared.of.whose)}:
                wrong.append(f"{declared.name} holds data of {declared.personal}, unlike its class {declared.of.name}")
        for log in self.logs:
            if log.of not in known:
                wrong.append(f"the log {log.name} is of a class that is not in the catalogue")
        for file in self.files:
            if file.of not in known:
                wrong.append(f"files {file.pattern} are of a class that is not in the catalogue")
        patterns = [file.pattern for file in self.files]
        wrong += [f"files {each} are declared twice" for each in sorted({p for p in patterns if patterns.count(p) > 1})]
        used = {declared.of for declared in self.declarations()} | {log.of for log in self.logs}
        used |= {each.of for each in self.files}
        wrong += [f"nothing is of the class {each.name}" for each in self.classes if each not in used]
        return wrong


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    """* is one name or a part of one, ** any number of folders."""
    parts = []
    for name in pattern.split("/"):
        if name == "**":
            parts.append(".*")
        else:
            # fnmatch's `.` would let * go over folders.
            parts.append(translate(name).removeprefix("(?s:").removesuffix(")\\Z").replace(".*", "[^/]*"))
    return re.compile("/".join(parts) + r"\Z")


def _tables() -> Iterator[tuple[str, Table]]:
    for name, module in (("control", control), ("tenant", tenant), ("account", account), ("queue", queue)):
        yield from ((name, table) for table in module.metadata.tables.values())
    yield from (("audit", table) for table in audit.metadata.tables.values())


CATALOGUE = Catalogue(
    tuple(each for each in vars(classes).values() if isinstance(each, DataClass)),
    tuple(_tables()),
    LOG_CLASSES,
    (
        *control_store.FILES,
        *queue_rows.FILES,
        *audit_chain.FILES,
        *tenant_store.FILES,
        *account_store.FILES,
        *maildir.FILES,
        *octets.FILES,
        *spool.FILES,
        *quarantine_files.FILES,
        *segments.FILES,
        *key_files.FILES,
        *certificates.FILES,
        *clock_guard.FILES,
        *greylist.FILES,
        *leases.FILES,
        *incarnation.FILES,
        *changes.FILES,
        *commits.FILES,
        *recent_claims.FILES,
        *backup_files.FILES,
        *ending_files.FILES,
        *rebuild.FILES,
    ),
)

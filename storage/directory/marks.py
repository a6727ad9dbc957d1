"""What control.db remembers of the installation itself: a few named values. Every change is durable on return."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import Conflict
from storage.schema.control import info

_ONE = prepare(select(info.c.value).where(info.c.name == bindparam("which")))
_INSERT = prepare(insert(info))
_UPDATE = prepare(update(info).where(info.c.name == bindparam("which")).values(value=bindparam("text")))

_SAVED = "master_saved"  # the generation of the master that the operator has, and when he said so: "3 1764120000"
_UNSAVED = "master_unsaved"  # since when the generation in use is another one
_ROLES = "roles_in_use"


@dataclass(frozen=True, slots=True)
class MasterSaved:
    """Whether the operator has a copy of the master of now."""

    generation: int | None  # that he said he has saved; None: he never did
    at: int | None  # when he said so
    unsaved_since: int | None  # since when the one in use is another; None: it is the same


class Marks:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def master_saved(self, in_use: int) -> MasterSaved:
        """How it stands while this generation is in use; from the first time that it is asked, the time counts.

        A generation that follows one that was not saved either does not begin the time anew.
        """
        known = self._master()
        if (known.generation == in_use) == (known.unsaved_since is None):
            return known

        def work(transaction: Transaction) -> None:
            _put(transaction, _UNSAVED, "" if known.generation == in_use else str(self._clock.now()))

        self._database.write(work)
        return self._master()

    def save_master(self, generation: int, in_use: int) -> None:
        """The operator says that he has saved it. Raises Conflict if another one is in use."""
        if generation != in_use:
            raise Conflict(f"Generation {generation} of the master opens nothing any more; {in_use} is in use.")

        def work(transaction: Transaction) -> None:
            _put(transaction, _SAVED, f"{generation} {self._clock.now()}")
            _put(transaction, _UNSAVED, "")

        self._database.write(work)

    def roles_are_in_use(self) -> bool:
        """Whether people ever had roles here: from then on nobody is an operator because nothing says who is."""
        with self._database.reading() as connection:
            return _ONE.one(connection, which=_ROLES) is not None

    def use_roles(self) -> None:
        """From now on, for good."""
        if not self.roles_are_in_use():
            self._database.write(lambda t: _put(t, _ROLES, str(self._clock.now())))

    def _master(self) -> MasterSaved:
        with self._database.reading() as connection:
            saved, unsaved = _ONE.one(connection, which=_SAVED), _ONE.one(connection, which=_UNSAVED)
        generation, _, at = saved[0].partition(" ") if saved is not None else ("", "", "")
        since = int(unsaved[0]) if unsaved is not None and unsaved[0] else None
        return MasterSaved(int(generation) if generation else None, int(at) if at else None, since)


def _put(transaction: Transaction, name: str, value: str) -> None:
    if not _UPDATE.run(transaction, which=name, text=value):
        _INSERT.run(transaction, name=name, value=value)

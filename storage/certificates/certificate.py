"""The certificate of erasure: what was erased, when it became unreadable, what is left by law and until when. Pure.

It says what this program did and found, in numbers and times; of persons it names nothing, of the customer the short
name and the domains, without which nobody could tell what it is about. `to_json` is canonical, so that the same
certificate always gives the same octets, whoever writes them down again to verify a signature.

Raises: InvalidInput where octets are no certificate.
Standards: RFC 8785 (canonical JSON; numbers are integers below 2**53 here), NIST SP 800-88 Rev. 2 §3.1 (clear, purge).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import UnionType
from typing import Any, Protocol, Union, get_args, get_origin, get_type_hints

from storage.errors import InvalidInput

KIND = "cleanmail certificate of erasure"
FORMAT = 1
LARGEST = 32_000_000  # octets; each key of an account has its number in it
_INTEGER_MAX = 2**53 - 1
_LATER = {"entries"}  # what certificates of before do not have; without a value it is left out, as in those


@dataclass(frozen=True, slots=True)
class Scope:
    """What was erased. `account_id` is None for a whole tenant."""

    tenant_id: int
    account_id: int | None
    name: str  # the tenant's short name
    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of it there was."""

    accounts: int = 0
    messages: int = 0
    files: int = 0
    bytes: int = 0
    queue_entries: int = 0  # messages under way that were withdrawn
    withheld: int = 0  # messages of the quarantine
    rows: int = 0  # of databases that go on: the directory, the queue
    # Of calendars, address books and files, as stored: a note is an entry and a message, and counts as each of them.
    entries: int | None = None  # None: not counted


class Destruction(Protocol):
    """What destroying keys came to: `storage.keys.destruction.Destroyed`."""

    @property
    def key_ids(self) -> tuple[str, ...]: ...
    @property
    def at(self) -> int: ...
    @property
    def master_before(self) -> int: ...
    @property
    def master_after(self) -> int | None: ...
    @property
    def master_place(self) -> str: ...
    @property
    def old_master_destroyed(self) -> bool: ...
    @property
    def sanitization(self) -> str: ...
    @property
    def mirrors(self) -> tuple[str, ...]: ...
    @property
    def backups_until(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class KeysDestroyed:
    """Which keys were destroyed and how thoroughly: what makes everything that they encrypted unreadable."""

    key_ids: tuple[str, ...]
    at: int
    master_before: int  # generation of the master key until then
    master_after: int | None  # None: it could not be replaced
    master_place: str  # where it lived
    old_master_destroyed: bool
    sanitization: str  # clear, purge: NIST SP 800-88
    mirrors: tuple[str, ...]  # of the wrapped keys, from which they were removed as well
    backups_until: int | None  # the last moment at which a copy of the keys can exist; None: there is none

    @classmethod
    def of(cls, destroyed: Destruction) -> KeysDestroyed:
        return cls(**{each.name: getattr(destroyed, each.name) for each in fields(cls)})


@dataclass(frozen=True, slots=True)
class StepDone:
    step: str  # storage.ending.steps.Step
    at: int


@dataclass(frozen=True, slots=True)
class Search:
    """What was searched afterwards for what had been erased, and how often something was found."""

    searched: tuple[str, ...]  # such as "control.db", "queue.db", "names of files"
    files: int
    bytes: int
    terms: int  # how many addresses, names, ids and keys were looked for
    found: int
    thorough: bool = False  # other customers' folders too
    unsearched: int = 0  # terms that say nothing where they stand: too short, ordinary words, names of others too


@dataclass(frozen=True, slots=True)
class Remaining:
    """A class of data that a law or the contract demands to keep longer."""

    data_class: str  # its name in the data register
    title: str
    basis: str
    until: int | None  # when the last of it is removed; None: it holds nothing of a person any more


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A legal hold on what was erased, and when it stopped being in force: before that nothing could be."""

    hold_id: str
    begun: int
    ended: int


@dataclass(frozen=True, slots=True)
class Certificate:
    certificate_id: str
    installation_id: str
    issuer: str  # the server's name; empty if it has none
    program: str  # name and version
    scope: Scope
    ordered_by: str  # contract, operator, user, person: never a name
    begun: int
    unreadable: int  # the keys were destroyed
    finished: int
    counts: Counts
    keys: KeysDestroyed
    steps: tuple[StepDone, ...]
    search: Search
    remaining: tuple[Remaining, ...] = ()
    holds: tuple[HeldBack, ...] = ()
    processes_killed: int = 0  # that did not let go of keys by themselves
    processes_recycled: int = 0  # that had held keys, and were replaced
    processes_until: int | None = None  # when those that dropped the keys and go on are replaced; None: none goes on

    def to_json(self) -> bytes:
        """Canonical."""
        values = asdict(self)
        if self.counts.entries is None:
            del values["counts"]["entries"]
        return canonical({"kind": KIND, "format": FORMAT, **values})

    @classmethod
    def from_json(cls, text: bytes) -> Certificate:
        return cls.of(parsed(text))

    @classmethod
    def of(cls, values: object) -> Certificate:
        """From values as JSON gives them. Raises InvalidInput for what this program cannot read whole."""
        if not isinstance(values, dict) or values.get("kind") != KIND:
            raise InvalidInput("This is no certificate of erasure.")
        if values.get("format") != FORMAT:
            raise InvalidInput("The certificate was made by another version of this program; verify it with that one.")
        made: Certificate = _made(cls, {key: each for key, each in values.items() if key not in ("kind", "format")})
        return made


def canonical(values: Mapping[str, Any]) -> bytes:
    """RFC 8785: no blanks, names in order, integers and texts only."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parsed(text: bytes) -> Any:
    """The values in `text`. Raises InvalidInput unless every reader would see the same in it."""
    if len(text) > LARGEST:
        raise InvalidInput("This is no certificate of erasure: it is too large.")
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_float=_no_number, parse_constant=_no_number
        )
    except (ValueError, RecursionError):
        raise InvalidInput("The certificate is damaged: it is no whole JSON document.") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name stands there twice")
    return values


def _no_number(text: str) -> int:
    raise ValueError(f"not an integer: {text[:20]}")


def _made(kind: Any, value: object) -> Any:
    """`value` of JSON as a value of `kind`: a frozen dataclass, a tuple, or a plain type, maybe None."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if value is None else _made(inner[0], value)
    if origin is tuple:
        if not isinstance(value, list):
            raise _damaged()
        return tuple(_made(inner[0], each) for each in value)
    if kind in (int, str, bool):
        if type(value) is not kind or (isinstance(value, int) and abs(value) > _INTEGER_MAX):
            raise _damaged()
        return value
    hints = get_type_hints(kind)
    if not isinstance(value, dict) or not hints.keys() - _LATER <= value.keys() <= hints.keys():
        raise _damaged()
    return kind(**{name: _made(hints[name], each) for name, each in value.items()})


def _damaged() -> InvalidInput:
    return InvalidInput("The certificate is damaged: it does not hold what a certificate of erasure holds.")

"""A tenant's rules of the filter and its allow and deny lists, for the whole tenant, for one domain, for one account.

Rules are texts that `gateway.policy.rules` gives their meaning. Changes are durable on return, and every process sees
them at its next look: each change raises a revision, which a look reads (10 microseconds); as long as it is the same,
what was read is used again, at most `_KEPT` entries of it.

Raises: NotFound (no such entry), Conflict (it is on the other list), LimitReached, InvalidInput.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple, NewType

from sqlalchemy import BindParameter, bindparam, delete, func, insert, select, update

from storage.clock import Clock
from storage.database.database import Connection, Database, Transaction
from storage.database.prepared import prepare
from storage.errors import Conflict, InvalidInput, LimitReached, NotFound
from storage.filter.patterns import Address, as_address, as_network, parse_pattern, patterns_of, patterns_of_domain
from storage.schema.tenant import filter_list, filter_setting, info
from storage.values import AccountId, Domain, EmailAddress

RuleScope = NewType("RuleScope", str)

WHOLE_TENANT = RuleScope("")
ENTRIES_MAX = 5000  # of one scope

_KEPT = 50_000
_REVISION_NAME = "filter_revision"


def of_domain(domain: Domain) -> RuleScope:
    return RuleScope(f"domain:{domain.name}")


def of_account(account_id: AccountId) -> RuleScope:
    return RuleScope(f"account:{int(account_id)}")


class ListKind(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class ListEntry:
    scope: RuleScope
    pattern: str
    kind: ListKind
    unproven: bool = False  # allows also what is not proven to come from there
    created: int = 0  # Unix seconds


class Hit(NamedTuple):
    """An entry that names a sender. The greater, the more it counts: the more specific, then the nearer scope."""

    specific: int
    nearness: int
    entry: ListEntry


class Scope:
    """What one scope says, made to be asked."""

    __slots__ = ("entries", "networks", "rules")

    def __init__(self, rules: tuple[tuple[str, str], ...], entries: Sequence[ListEntry]) -> None:
        self.rules = rules
        self.entries: dict[str, ListEntry] = {}
        # by version and length of the prefix, the longest first; then by the address without the rest of its bits
        networks: dict[tuple[int, int], dict[int, ListEntry]] = {}
        for entry in entries:
            network = None if "@" in entry.pattern else as_network(entry.pattern)
            if network is None:
                self.entries[entry.pattern] = entry
            else:
                shift = network.max_prefixlen - network.prefixlen
                of_length = networks.setdefault((network.version, network.prefixlen), {})
                of_length[int(network.network_address) >> shift] = entry
        self.networks = sorted(networks.items(), reverse=True)

    @property
    def weight(self) -> int:
        return 1 + len(self.rules) + len(self.entries) + sum(len(found) for _, found in self.networks)

    def of_sender(self, patterns: Iterable[tuple[str, int]]) -> Iterator[tuple[int, ListEntry]]:
        if self.entries:
            for pattern, specific in patterns:
                entry = self.entries.get(pattern)
                if entry is not None:
                    yield specific, entry

    def of_client(self, address: Address) -> Iterator[tuple[int, ListEntry]]:
        for (version, length), found in self.networks:
            if version == address.version:
                entry = found.get(int(address) >> (address.max_prefixlen - length))
                if entry is not None:
                    yield length + (96 if version == 4 else 0), entry


class Matcher:
    """The lists that count for one destination: its tenant's, its domain's, its account's. Immutable."""

    __slots__ = ("_scopes",)

    def __init__(self, scopes: Sequence[Scope] = ()) -> None:
        self._scopes = tuple((nearness, scope) for nearness, scope in enumerate(scopes) if scope.weight > 1)

    def sender(self, address: EmailAddress) -> list[Hit]:
        """All entries that name the address, what counts most first."""
        return self._sorted((n, found) for n, scope in self._scopes for found in scope.of_sender(patterns_of(address)))

    def domain(self, name: str) -> list[Hit]:
        """All entries that name every address of the domain, what counts most first."""
        patterns = list(patterns_of_domain(name)) if self._scopes else []
        return self._sorted((n, found) for n, scope in self._scopes for found in scope.of_sender(patterns))

    def client(self, address: str) -> list[Hit]:
        """All entries that name the client's network, what counts most first."""
        parsed = as_address(address) if self._scopes else None
        if parsed is None:
            return []
        return self._sorted((n, found) for n, scope in self._scopes for found in scope.of_client(parsed))

    @staticmethod
    def _sorted(found: Iterator[tuple[int, tuple[int, ListEntry]]]) -> list[Hit]:
        hits = [Hit(specific, nearness, entry) for nearness, (specific, entry) in found]
        hits.sort(key=lambda hit: hit[:2], reverse=True)
        return hits


class Look(NamedTuple):
    """What a tenant says about mail for one destination."""

    layers: tuple[tuple[tuple[str, str], ...], ...]  # rules of the tenant, the domain, the account: names and texts
    matcher: Matcher


_NOTHING = Scope((), ())
_KINDS = frozenset(ListKind)

_setting, _list = filter_setting, filter_list
_ENTRY = (_list.c.scope, _list.c.pattern, _list.c.kind, _list.c.unproven, _list.c.created)
_SCOPE: BindParameter[str] = bindparam("which")

_REVISION = prepare(select(info.c.value).where(info.c.name == _REVISION_NAME))
_FIRST_REVISION = prepare(insert(info).values(name=_REVISION_NAME, value="1"))
_RAISE_REVISION = prepare(update(info).where(info.c.name == _REVISION_NAME).values(value=bindparam("next")))
_RULES = prepare(select(_setting.c.name, _setting.c.value).where(_setting.c.scope == _SCOPE).order_by(_setting.c.name))
_ALL_RULES = prepare(
    select(_setting.c.scope, _setting.c.name, _setting.c.value).order_by(_setting.c.scope, _setting.c.name)
)
_INSERT_RULE = prepare(insert(_setting))
_THIS_RULE = (_setting.c.scope == _SCOPE, _setting.c.name == bindparam("rule"))
_UPDATE_RULE = prepare(update(_setting).where(*_THIS_RULE).values(value=bindparam("text")))
_DELETE_RULE = prepare(delete(_setting).where(*_THIS_RULE))
_DELETE_RULES = prepare(delete(_setting).where(_setting.c.scope == _SCOPE))
_ENTRIES = prepare(select(*_ENTRY).where(_list.c.scope == _SCOPE).order_by(_list.c.pattern))
_ALL_ENTRIES = prepare(select(*_ENTRY).order_by(_list.c.scope, _list.c.pattern))
_THIS_ENTRY = (_list.c.scope == _SCOPE, _list.c.pattern == bindparam("whom"))
_FIND_ENTRY = prepare(select(*_ENTRY).where(*_THIS_ENTRY))
_COUNT = prepare(select(func.count()).select_from(_list).where(_list.c.scope == _SCOPE))
_INSERT_ENTRY = prepare(insert(_list))
_UPDATE_ENTRY = prepare(update(_list).where(*_THIS_ENTRY).values(unproven=bindparam("loosely")))
_DELETE_ENTRY = prepare(delete(_list).where(*_THIS_ENTRY))
_DELETE_ENTRIES = prepare(delete(_list).where(_list.c.scope == _SCOPE))


class FilterRules:
    """Any thread may use it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._revision = ""
        self._scopes: OrderedDict[RuleScope, Scope] = OrderedDict()
        self._weight = 0

    def look(self, domain: Domain, account_id: AccountId | None) -> Look:
        """For a destination of the domain, and the account whose mailbox it is."""
        names = [WHOLE_TENANT, of_domain(domain)]
        if account_id is not None:
            names.append(of_account(account_id))
        with self._database.reading() as connection:  # one thread at a time: it guards what is kept here, too
            row = _REVISION.one(connection)
            revision = str(row[0]) if row is not None else ""
            if revision != self._revision:
                self._forget(revision)
            scopes = [self._scope(connection, name) for name in names] if revision else [_NOTHING]
        return Look(tuple(scope.rules for scope in scopes), Matcher(scopes))

    def _scope(self, connection: Connection, name: RuleScope) -> Scope:
        kept = self._scopes.get(name)
        if kept is not None:
            self._scopes.move_to_end(name)
            return kept
        rules = tuple((str(rule), str(text)) for rule, text in _RULES.rows(connection, which=name))
        entries = _entries(_ENTRIES.rows(connection, which=name))
        scope = Scope(rules, entries) if rules or entries else _NOTHING
        self._scopes[name] = scope
        self._weight += scope.weight
        while self._weight > _KEPT and len(self._scopes) > 1:
            self._weight -= self._scopes.popitem(last=False)[1].weight
        return scope

    def _forget(self, revision: str) -> None:
        self._scopes.clear()
        self._weight, self._revision = 0, revision

    # Rules

    def rules(self, scope: RuleScope) -> dict[str, str]:
        """What the scope says itself, by the names of the rules."""
        with self._database.reading() as connection:
            return dict(_RULES.rows(connection, which=scope))

    def all_rules(self) -> list[tuple[RuleScope, str, str]]:
        """Scope, name and text of every rule that anybody here has set."""
        with self._database.reading() as connection:
            return [(RuleScope(scope), name, text) for scope, name, text in _ALL_RULES.rows(connection)]

    def set_rule(self, scope: RuleScope, name: str, text: str | None) -> None:
        """None: the scope says nothing any more."""

        def work(transaction: Transaction) -> None:
            if text is None:
                _DELETE_RULE.run(transaction, which=scope, rule=name)
            elif not _UPDATE_RULE.run(transaction, which=scope, rule=name, text=text):
                _INSERT_RULE.run(transaction, scope=scope, name=name, value=text)
            _raise_revision(transaction)

        self._database.write(work)

    # Lists

    def entries(self, scope: RuleScope | None = None) -> list[ListEntry]:
        """Of one scope, or of all of them, by their patterns."""
        with self._database.reading() as connection:
            rows = _ALL_ENTRIES.rows(connection) if scope is None else _ENTRIES.rows(connection, which=scope)
        return _entries(rows)

    def add(self, scope: RuleScope, pattern: str, kind: ListKind, *, unproven: bool = False) -> ListEntry:
        """The entry as it stands on the list; one that is there already is changed."""
        entry = self._new_entry(scope, pattern, kind, unproven)

        def work(transaction: Transaction) -> ListEntry:
            added = _as_added(transaction, entry)
            if added is not entry:
                _UPDATE_ENTRY.run(transaction, which=scope, whom=entry.pattern, loosely=unproven)
            else:
                _INSERT_ENTRY.run(
                    transaction,
                    scope=scope,
                    pattern=entry.pattern,
                    kind=kind.value,
                    unproven=unproven,
                    created=entry.created,
                )
            _raise_revision(transaction)
            return added

        return self._database.write(work)

    def check(self, scope: RuleScope, pattern: str, kind: ListKind, *, unproven: bool = False) -> None:
        """Raises what `add` would raise, without adding anything: for who leaves an audit record first."""
        entry = self._new_entry(scope, pattern, kind, unproven)
        with self._database.reading() as connection:
            _as_added(connection, entry)

    def _new_entry(self, scope: RuleScope, pattern: str, kind: ListKind, unproven: bool) -> ListEntry:
        if unproven and kind is ListKind.DENY:
            raise InvalidInput("A deny list needs no proof of the sender.")
        return ListEntry(scope, parse_pattern(pattern), kind, unproven, self._clock.now())

    def remove(self, scope: RuleScope, pattern: str, kind: ListKind) -> str:
        """The pattern as the list had it."""
        wanted = parse_pattern(pattern)

        def work(transaction: Transaction) -> None:
            row = _FIND_ENTRY.one(transaction, which=scope, whom=wanted)
            if row is None or row[2] != kind:
                raise NotFound(f"{wanted} is not on this {kind} list.")
            _DELETE_ENTRY.run(transaction, which=scope, whom=wanted)
            _raise_revision(transaction)

        self._database.write(work)
        return wanted

    def remove_account(self, transaction: Transaction, account_id: AccountId) -> None:
        """In the commit that removes an account's rows."""
        scope = of_account(account_id)
        if _DELETE_RULES.run(transaction, which=scope) + _DELETE_ENTRIES.run(transaction, which=scope):
            _raise_revision(transaction)


def _as_added(connection: Connection, entry: ListEntry) -> ListEntry:
    """The entry as it will stand on the list: itself, or with the time of the one that is there.

    Raises Conflict, LimitReached.
    """
    row = _FIND_ENTRY.one(connection, which=entry.scope, whom=entry.pattern)
    if row is None:
        count = _COUNT.one(connection, which=entry.scope)
        if count is not None and count[0] >= ENTRIES_MAX:
            raise LimitReached(f"The lists hold at most {ENTRIES_MAX} entries together.")
        return entry
    if row[2] not in _KINDS:
        raise Conflict(f"{entry.pattern} is on a list of a later version, which this one does not know.")
    if row[2] != entry.kind:
        raise Conflict(f"{entry.pattern} is on the {row[2]} list; remove it from there first.")
    return replace(entry, created=row[4])


def _raise_revision(transaction: Transaction) -> None:
    row = _REVISION.one(transaction)
    if row is None:
        _FIRST_REVISION.run(transaction)
    else:
        _RAISE_REVISION.run(transaction, next=str(int(row[0]) + 1))


def _entries(rows: Iterable[tuple[Any, ...]]) -> list[ListEntry]:
    """Those of a kind that this version knows: an entry of a later one stops no mail."""
    return [_entry(row) for row in rows if row[2] in _KINDS]


def _entry(row: tuple[Any, ...]) -> ListEntry:
    return ListEntry(RuleScope(row[0]), row[1], ListKind(row[2]), bool(row[3]), row[4])

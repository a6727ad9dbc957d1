"""The corrections that a process scores mail with: unpacked, kept as long as they are what the tenant has.

`look` asks the tenant's database for revisions only (some 15 microseconds) when it has the vectors already; unpacking
takes some milliseconds and happens after lessons. Memory is bounded; what was used longest ago goes first. A correction
that cannot be read counts as nothing learned: the mail is scored without it, and the operational log says so.

Raises: Unavailable and others of the tenant's database.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeAlias

from gateway.classifier.correction import Contribution, Score, Vector, contribution, corrected, empty, unpack
from gateway.classifier.features import Features
from storage.directory.tenant import Tenant
from storage.errors import Corrupt
from storage.filter.corrections import AGGREGATE, Rows
from storage.filter.corrections import NOTHING as NO_ROWS
from storage.values import AccountId, TenantId

_log = logging.getLogger("cleanmail.learning")

MEMORY = 64 << 20  # octets of vectors that a process keeps

_Vectors: TypeAlias = tuple[Any, ...]
_Key: TypeAlias = tuple[TenantId, AccountId]


def _nothing() -> Vector:
    vector = empty()
    vector.setflags(write=False)
    return vector


_NONE = _nothing()


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What counts for mail to one account: see `gateway.classifier.correction.corrected`. Nobody changes the arrays."""

    aggregate: Contribution = field(repr=False)  # of the tenant's accounts
    own: Vector = field(repr=False)
    share: Contribution = field(repr=False)  # the account's, within `aggregate`

    def score(self, shared: float, features: Features) -> Score:
        """A message's score, of what the shared model says and what people here taught."""
        if self is NOTHING:
            return Score(shared, 0.0, 0.0)
        return corrected(shared, features, self.aggregate, self.own, self.share)


NOTHING = Correction(_NONE, _NONE, _NONE)  # nobody taught anything


class Corrections:
    """One for each process; any thread may use it."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._memory = memory
        self._guard = Lock()  # of the next two
        self._kept: OrderedDict[_Key, tuple[int, _Vectors]] = OrderedDict()
        self._octets = 0

    def look(self, tenant: Tenant, account_id: AccountId | None) -> Correction:
        """What counts for mail to an account; None: for mail that leaves for a server of the tenant's, or elsewhere."""
        revisions = tenant.corrections.revisions(account_id)
        if not revisions.aggregate:
            return NOTHING
        ours, theirs = (tenant.tenant_id, AGGREGATE), (tenant.tenant_id, account_id or AGGREGATE)
        aggregate = self._get(ours, revisions.aggregate)
        own = self._get(theirs, revisions.own) if revisions.own else (_NONE, _NONE)
        if aggregate is None or own is None:
            rows = tenant.corrections.rows(account_id)
            aggregate = self._keep(ours, rows.revisions.aggregate, lambda: _aggregate(tenant.tenant_id, rows))
            if rows.revisions.own:
                own = self._keep(theirs, rows.revisions.own, lambda: _own(theirs, rows))
            else:
                own = (_NONE, _NONE)
        # An aggregate that is being made anew (removed accounts) has nobody's share in it.
        return Correction(aggregate[0], own[0], own[1] if aggregate[0] is not _NONE else _NONE)

    def _get(self, key: _Key, revision: int) -> _Vectors | None:
        with self._guard:
            found = self._kept.get(key)
            if found is None or found[0] != revision:
                return None
            self._kept.move_to_end(key)
            return found[1]

    def _keep(self, key: _Key, revision: int, make: Callable[[], _Vectors]) -> _Vectors:
        vectors = self._get(key, revision)
        if vectors is not None:
            return vectors
        vectors = make()
        with self._guard:
            self._forget(key)
            self._kept[key] = (revision, vectors)
            self._octets += _octets(vectors)
            while self._octets > self._memory and len(self._kept) > 1:
                self._forget(next(iter(self._kept)))
        return vectors

    def _forget(self, key: _Key) -> None:
        _, vectors = self._kept.pop(key, (0, ()))
        self._octets -= _octets(vectors)


def _octets(vectors: _Vectors) -> int:
    return sum(vector.nbytes for vector in vectors if vector is not _NONE)


def _aggregate(tenant_id: TenantId, rows: Rows) -> _Vectors:
    return (_unpacked((tenant_id, AGGREGATE), rows.aggregate),)


def _own(key: _Key, rows: Rows) -> _Vectors:
    own = _unpacked(key, rows.own)
    return (own, contribution(own)) if own is not _NONE else (_NONE, _NONE)


def _unpacked(key: _Key, octets: bytes) -> Vector:
    if octets == NO_ROWS.own:
        return _NONE
    try:
        vector = unpack(octets)
    except Corrupt as error:
        _log.error("tenant %d: the correction of account %d counts as nothing: %s", *key, error.detail)
        return _NONE
    vector.setflags(write=False)
    return vector

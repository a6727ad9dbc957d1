"""The cache of other domains' MTA-STS policies, shared by all processes.

Raises: Unavailable, StorageFull.
Standards: RFC 8461 §3.2, §3.3 (a policy is kept for max_age, §5.1: what is cached is used while it cannot be fetched).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from storage.database.database import Database
from storage.database.prepared import prepare
from storage.schema.queue import sts_policy
from storage.values import Domain


class StsMode(StrEnum):
    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy as it was fetched; `expires` is the end of max_age, counted from the last time it was seen valid."""

    domain: Domain
    policy_id: str  # of the TXT record
    mode: StsMode
    max_age: int
    mx: tuple[str, ...]  # patterns
    fetched: int
    expires: int


_COLUMNS = (
    sts_policy.c.policy_id,
    sts_policy.c.mode,
    sts_policy.c.max_age,
    sts_policy.c.mx,
    sts_policy.c.fetched,
    sts_policy.c.expires,
)
_GET = prepare(select(*_COLUMNS).where(sts_policy.c.domain == bindparam("of")))
_new = insert(sts_policy)
_PUT = prepare(
    _new.on_conflict_do_update(
        index_elements=[sts_policy.c.domain], set_={column.name: _new.excluded[column.name] for column in _COLUMNS}
    )
)
_FORGET = prepare(
    delete(sts_policy).where((sts_policy.c.expires <= bindparam("now")) | (sts_policy.c.fetched < bindparam("before")))
)


class StsStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, domain: Domain) -> StsPolicy | None:
        """What was put last, even if it has expired meanwhile: the caller knows what time it is."""
        with self._database.reading() as connection:
            row = _GET.one(connection, of=domain.name)
        if row is None:
            return None
        policy_id, mode, max_age, mx, fetched, expires = row
        return StsPolicy(domain, policy_id, StsMode(mode), max_age, tuple(mx.split()), fetched, expires)

    def put(self, policy: StsPolicy) -> None:
        values = {
            "domain": policy.domain.name,
            "policy_id": policy.policy_id,
            "mode": policy.mode.value,
            "max_age": policy.max_age,
            "mx": " ".join(policy.mx),
            "fetched": policy.fetched,
            "expires": policy.expires,
        }
        # NORMAL: what a power loss takes is fetched again.
        self._database.write(lambda transaction: _PUT.run(transaction, **values), durable=False)

    def forget_expired(self, now: int, before: int = 0) -> int:
        """Also what was fetched before that time; how many were removed."""
        return self._database.write(lambda transaction: _FORGET.run(transaction, now=now, before=before), durable=False)

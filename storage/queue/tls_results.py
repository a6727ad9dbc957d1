"""How TLS with other servers went, counted by day, domain and server, for TLS reports.

`count` never waits and touches no disk: counts are gathered and written by `flush`, once a second, so that at most a
second of them is lost when a process is killed.

Standards: RFC 8460 §4 (what a report contains), §4.3 (result types).
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.schema.queue import tls_result
from storage.values import Domain

DAY = 86_400
SUCCESS = ""  # the result type of a session that went as the policy wants it
_GATHERED_MAX = 10_000  # kinds of results; beyond that new ones are not counted until the next flush


@dataclass(frozen=True, slots=True)
class TlsResult:
    """Sessions of one day that went the same way."""

    day: int  # Unix time / 86,400
    policy_domain: Domain
    policy_type: str  # sts, tlsa, no-policy-found
    mx_host: str
    result_type: str  # RFC 8460 §4.3; SUCCESS
    sessions: int


_COLUMNS = (
    tls_result.c.policy_domain,
    tls_result.c.policy_type,
    tls_result.c.mx_host,
    tls_result.c.result_type,
    tls_result.c.sessions,
)
_new = insert(tls_result)
_ADD = prepare(
    _new.on_conflict_do_update(
        index_elements=list(tls_result.primary_key.columns),
        set_={"sessions": tls_result.c.sessions + _new.excluded.sessions},
    )
)
_REPORT = prepare(select(*_COLUMNS).where(tls_result.c.day == bindparam("of")).order_by(*_COLUMNS[:4]))
_FORGET = prepare(delete(tls_result).where(tls_result.c.day < bindparam("before")))


class TlsResults:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()
        self._gathered: Counter[tuple[int, str, str, str, str]] = Counter()

    def count(self, day: int, domain: Domain, policy_type: str, mx_host: str, result_type: str) -> None:
        """One session more."""
        key = (day, domain.name, policy_type, mx_host, result_type)
        with self._guard:
            if key in self._gathered or len(self._gathered) < _GATHERED_MAX:
                self._gathered[key] += 1

    def flush(self) -> None:
        """Writes what was counted. Raises Unavailable, StorageFull; then it is tried again with the next flush."""
        with self._guard:
            gathered, self._gathered = self._gathered, Counter()
        if not gathered:
            return
        names = [column.name for column in tls_result.primary_key.columns]
        rows = [{**dict(zip(names, key, strict=True)), "sessions": count} for key, count in gathered.items()]

        def work(transaction: Transaction) -> None:
            _ADD.run_many(transaction, rows)

        try:
            self._database.write(work, durable=False)
        except BaseException:
            with self._guard:
                self._gathered.update(gathered)
            raise

    def report(self, day: int) -> list[TlsResult]:
        """All results of a day, by domain."""
        self.flush()
        with self._database.reading() as connection:
            rows = _REPORT.rows(connection, of=day)
        return [TlsResult(day, Domain(domain), kind, host, result, n) for domain, kind, host, result, n in rows]

    def forget(self, before_day: int) -> int:
        """Removes the results of earlier days; how many."""
        self.flush()
        return self._database.write(lambda transaction: _FORGET.run(transaction, before=before_day), durable=False)

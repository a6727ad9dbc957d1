"""Removes what was kept for its time: records by the periods of `storage.logs.classes`, and what stores declare.

One pass over everything; it may be repeated at any time and goes on where a crash interrupted it. What cannot be
removed now does not keep the rest from going: it is logged, and the next pass tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from storage.directory.rows import State
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.quarantine.store import Quarantine
from storage.values import TenantId

_log = logging.getLogger("cleanmail.storage")


@dataclass(slots=True)
class Removed:
    """What one pass removed."""

    days: dict[str, list[str]] = field(default_factory=dict)  # of records, by the name of their class
    rows: int = 0  # of the queue's counts and caches, of verdicts' counts and reviews, and of tenants
    failed: int = 0  # parts that have to be tried again


@dataclass(frozen=True, slots=True)
class _Part:
    name: str  # for the operational log
    remove: Callable[[], list[str] | int]


def remove_due(installation: Installation) -> Removed:
    removed = Removed()
    for part in _parts(installation):
        try:
            found = part.remove()
        except (NotFound, Gone):  # a tenant that ended this moment
            continue
        except CleanmailError as error:
            removed.failed += 1
            _log.error("retention: %s: %s; the next pass tries again", part.name, error.detail or type(error).__name__)
            continue
        if isinstance(found, int):
            removed.rows += found
        elif found:
            removed.days[part.name] = found
            _log.info("retention: %s: %s destroyed", part.name, ", ".join(found))
    return removed


def _parts(installation: Installation) -> Iterator[_Part]:
    for log in (installation.access_log, installation.transcripts, installation.traces):
        yield _Part(log.kind.name, log.expire)
    yield _Part("queue", installation.queue.expire)
    yield _Part("counts of verdicts", installation.control.judged.remove_expired)
    yield _Part("reviews", installation.control.reviews.remove_expired)
    quarantine = Quarantine(installation)
    for row in installation.control.tenants():
        if row.state is not State.ENDED:
            yield _Part(f"tenant {row.tenant_id}", partial(_of_tenant, installation, row.tenant_id))
            yield _Part(f"quarantine of tenant {row.tenant_id}", partial(quarantine.expire, row.tenant_id))


def _of_tenant(installation: Installation, tenant_id: TenantId) -> int:
    """What is worth nothing any more: rewritten reverse-paths, accounts that were frozen, experience of the filter."""
    tenant = installation.tenant(tenant_id)
    removed = tenant.srs.remove_expired() + tenant.frozen.remove_thawed() + tenant.corrections.remove_expired()
    return removed + tenant.correspondents.remove_expired() + tenant.reputation.remove_expired()

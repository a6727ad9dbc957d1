"""How each class of data is removed when its time is over, and how old what is left of it is.

A `Remover` takes care of one part of one class: of the whole installation, or of each tenant in turn. Every class
whose period has days has at least one (a test demands it). A remover may be called again at any time, after a crash in
the middle of itself too, and finds by itself what there is to do. What another part of the program removes at the
right time (backups, copies of keys) has one all the same: it removes nothing, but tells how old what is left is. The
queue's runner returns to their senders all messages whose time is over; where one is held, its hold ends here.

A legal hold spares the rows of its tenant. Segments of records hold all tenants' and go at their ceiling whoever is
held: what a case needs of them is extracted while they are there (docs/decisions/0027). Counts of verdicts name nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import bindparam, func, select, update

from storage.certificates.store import Certificates
from storage.database.prepared import prepare
from storage.directory.rows import State
from storage.directory.srs import TOKEN_DAYS
from storage.errors import Corrupt
from storage.installation import Installation
from storage.logs.buffered import BufferedLog
from storage.logs.classes import ACCESS, TRACES, TRANSCRIPTS, LogClass
from storage.quarantine.store import Quarantine
from storage.queue.sent import HOUR
from storage.register import classes
from storage.register.periods import DAY, Period
from storage.register.values import DataClass
from storage.retention.ages import Rows, earliest
from storage.schema import contracts, control, queue, staff, tenant
from storage.values import TenantId


@dataclass(frozen=True, slots=True)
class Due:
    """What a remover works with."""

    installation: Installation
    period: Period  # of its class
    now: int
    held: Collection[TenantId]  # tenants that a legal hold covers, wholly or an account of theirs

    @property
    def cut_off(self) -> int:
        return self.period.cut_off(self.now)


@dataclass(frozen=True, slots=True)
class Remover:
    """A part of the whole installation. `remove` gives what it removed: a number, or days of records by name."""

    of: DataClass
    part: str  # for the operational log
    remove: Callable[[Due], int | list[str]]
    oldest: Callable[[Due], int | None]


@dataclass(frozen=True, slots=True)
class TenantRemover:
    """A part that each tenant has; not called for one that a hold covers."""

    of: DataClass
    part: str
    remove: Callable[[Due, TenantId], int]
    oldest: Callable[[Due, TenantId], int | None]


# Records in segments


def _log(kind: LogClass, choose: Callable[[Installation], BufferedLog[Any]]) -> Remover:
    return Remover(
        kind.of,
        kind.name,
        lambda due: choose(due.installation).expire(due.period),
        lambda due: oldest_day(due.installation, kind),
    )


def oldest_day(installation: Installation, kind: LogClass) -> int | None:
    """When the earliest day began of which a segment or a key is there."""
    days: list[int | None] = []
    for root in (installation.data / "logs" / kind.name, installation.data / "keys" / "logs" / kind.name):
        if root.is_dir():
            days += [_midnight(folder.name) for folder in root.iterdir()]
    return earliest(days)


def _midnight(name: str) -> int | None:
    try:
        day = date.fromisoformat(name)
    except ValueError:
        return None
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


# Rows of control.db

_ended_tenants = select(control.tenant.c.tenant_id).where(control.tenant.c.state == State.ENDED.value)
_ended = contracts.contract.c.tenant_id.in_(_ended_tenants)
# A contract is over when its tenant's erasure was: it may have had no end, or a later one. The row of the erasure goes
# after it, so that its age is known as long as it is there.
_of_tenant = contracts.ending.c.tenant_id == contracts.contract.c.tenant_id
_whole = contracts.ending.c.account_id.is_(None)
_erased = select(contracts.ending.c.finished).where(_of_tenant, _whole).scalar_subquery()
_CONTRACTS = Rows(
    contracts.contract,
    func.coalesce(_erased, contracts.contract.c.ends),
    _ended,
    tenant=contracts.contract.c.tenant_id,
)
_ENDINGS = Rows(
    contracts.ending,
    contracts.ending.c.finished,
    contracts.ending.c.account_id.is_not(None)
    | contracts.ending.c.tenant_id.not_in(select(contracts.contract.c.tenant_id)),
    tenant=contracts.ending.c.tenant_id,
)
_HOLDS = Rows(
    contracts.legal_hold,
    func.coalesce(contracts.legal_hold.c.lifted, contracts.legal_hold.c.ends),
    tenant=contracts.legal_hold.c.tenant_id,
)
_DISCLOSURES = Rows(
    staff.disclosure,
    func.coalesce(staff.disclosure.c.disclosed, staff.disclosure.c.received),
    tenant=staff.disclosure.c.tenant_id,
)
_APPROVALS = Rows(
    staff.approval,
    func.coalesce(staff.approval.c.used, staff.approval.c.decided, staff.approval.c.expires),
    tenant=staff.approval.c.tenant_id,
)
_AGREEMENTS = Rows(control.secrecy_agreement, control.secrecy_agreement.c.ended)
_STAFF = Rows(staff.staff, staff.staff.c.ended)
_SESSIONS = Rows(staff.staff_session, staff.staff_session.c.expires)
_RECEIPTS = Rows(contracts.receipt, contracts.receipt.c.time)
_BACKUPS = Rows(contracts.backup, contracts.backup.c.made)
_KEY_COPIES = Rows(contracts.key_backup, contracts.key_backup.c.made, contracts.key_backup.c.removed.is_(None))
_KEY_COPIES_GONE = Rows(contracts.key_backup, contracts.key_backup.c.removed)
_JUDGED = Rows(control.judged, control.judged.c.day * DAY)
_REVIEWS = Rows(control.review, control.review.c.asked, tenant=control.review.c.tenant_id)


def _rows(of: DataClass, rows: Rows) -> Remover:
    """Rows of control.db that go by their age alone."""
    return Remover(
        of,
        f"{of.name}, {rows.table.name}",
        lambda due: rows.remove(due.installation.control.database, due.cut_off, due.held),
        lambda due: rows.oldest(due.installation.control.database, due.held),
    )


def _watched(of: DataClass, part: str, rows: Rows) -> Remover:
    """Rows of control.db that somebody else removes."""
    return Remover(of, part, lambda due: 0, lambda due: rows.oldest(due.installation.control.database))


def _certificates(due: Due) -> int:
    return Certificates(due.installation.data).remove_before(due.cut_off)


def _oldest_certificate(due: Due) -> int | None:
    certificates = Certificates(due.installation.data)
    damaged = certificates.damaged()
    if damaged:  # how old these are nobody can tell
        raise Corrupt(detail=f"certificates cannot be read: {', '.join(damaged[:10])}")
    return earliest([each.finished for each in certificates.all()])


def _cut_audit(due: Due) -> int:
    """Whole days, since each cut leaves a signed origin and a record."""
    return due.installation.audit.cut(due.cut_off - due.cut_off % DAY, due.held)


# Rows of queue.db

_WAITING = Rows(queue.entry, queue.entry.c.arrived, tenant=queue.entry.c.tenant_id)
_SENT = Rows(queue.sent, queue.sent.c.hour * HOUR, tenant=queue.sent.c.tenant_id)
_TLS = Rows(queue.tls_result, queue.tls_result.c.day * DAY)
_DESTINATIONS = Rows(queue.destination, queue.destination.c.retry_at)
_STS = Rows(queue.sts_policy, queue.sts_policy.c.fetched)


def _oldest_in_queue(*rows: Rows) -> Callable[[Due], int | None]:
    return lambda due: earliest([each.oldest(due.installation.queue.database, due.held) for each in rows])


INSTALLATION: tuple[Remover, ...] = (
    _log(ACCESS, lambda installation: installation.access_log),
    _log(TRANSCRIPTS, lambda installation: installation.transcripts),
    _log(TRACES, lambda installation: installation.traces),
    Remover(
        classes.QUEUE,
        "queue",
        lambda due: due.installation.queue.end_holds(due.cut_off, due.held),
        _oldest_in_queue(_WAITING),
    ),
    Remover(
        classes.SENDING,
        "what was sent",
        lambda due: due.installation.queue.expire_sending(due.held),
        _oldest_in_queue(_SENT, _TLS),
    ),
    Remover(
        classes.OTHER_SERVERS,
        "other servers",
        lambda due: due.installation.queue.expire_servers(due.cut_off),
        _oldest_in_queue(_DESTINATIONS, _STS),
    ),
    Remover(
        classes.VERDICT_COUNTS,
        "counts of verdicts",
        lambda due: due.installation.control.judged.remove_expired(due.cut_off),
        lambda due: _JUDGED.oldest(due.installation.control.database),
    ),
    _rows(classes.REVIEWS, _REVIEWS),
    Remover(classes.AUDIT, "audit", _cut_audit, lambda due: due.installation.audit.oldest(due.held)),
    Remover(classes.ERASURES, "certificates", _certificates, _oldest_certificate),
    _rows(classes.CONTRACTS, _CONTRACTS),
    _rows(classes.ERASURES, _ENDINGS),
    _rows(classes.HOLDS, _HOLDS),
    _rows(classes.DISCLOSURES, _DISCLOSURES),
    _rows(classes.APPROVALS, _APPROVALS),
    _rows(classes.AGREEMENTS, _AGREEMENTS),
    _rows(classes.STAFF, _STAFF),
    _rows(classes.STAFF_SESSIONS, _SESSIONS),
    _rows(classes.RECEIPTS, _RECEIPTS),
    _watched(classes.BACKUPS, "backups", _BACKUPS),
    _watched(classes.KEY_BACKUPS, "copies of keys", _KEY_COPIES),
    _rows(classes.KEY_BACKUPS, _KEY_COPIES_GONE),
)


# Of each tenant

_SRS = Rows(tenant.srs, tenant.srs.c.expires - TOKEN_DAYS * DAY)
_CORRESPONDENTS = Rows(tenant.correspondent, tenant.correspondent.c.last)
_REPUTATION = Rows(tenant.reputation, tenant.reputation.c.last)
_LESSONS = Rows(tenant.lesson, tenant.lesson.c.learned)
_WITHHELD = Rows(tenant.quarantine, tenant.quarantine.c.received)
_THAWED = Rows(tenant.frozen, tenant.frozen.c.thawed)
_SHORTEN = prepare(
    update(tenant.quarantine)
    .where(tenant.quarantine.c.expires > tenant.quarantine.c.received + bindparam("most"))
    .values(expires=tenant.quarantine.c.received + bindparam("most"))
)


def _expire_withheld(due: Due, tenant_id: TenantId) -> int:
    """Each as long as the rule that withheld it said, and none longer than the period."""
    database = due.installation.tenant(tenant_id).database
    most = (due.period.floor_days or 0) * DAY
    database.write(lambda transaction: _SHORTEN.run(transaction, most=most))
    return Quarantine(due.installation).expire(tenant_id)


def _oldest_in_tenant(rows: Rows) -> Callable[[Due, TenantId], int | None]:
    return lambda due, tenant_id: rows.oldest(due.installation.tenant(tenant_id).database)


TENANT: tuple[TenantRemover, ...] = (
    TenantRemover(
        classes.FORWARDED_SENDERS,
        "forwarded senders",
        lambda due, tenant_id: due.installation.tenant(tenant_id).srs.remove_expired(),
        _oldest_in_tenant(_SRS),
    ),
    TenantRemover(
        classes.STOPPED_SENDERS,
        "stopped senders",
        lambda due, tenant_id: due.installation.tenant(tenant_id).frozen.remove_thawed(),
        _oldest_in_tenant(_THAWED),
    ),
    TenantRemover(
        classes.EXPERIENCE,
        "lessons",
        lambda due, tenant_id: due.installation.tenant(tenant_id).corrections.remove_expired(due.cut_off),
        _oldest_in_tenant(_LESSONS),
    ),
    TenantRemover(
        classes.EXPERIENCE,
        "correspondents",
        lambda due, tenant_id: due.installation.tenant(tenant_id).correspondents.remove_expired(due.cut_off),
        _oldest_in_tenant(_CORRESPONDENTS),
    ),
    TenantRemover(
        classes.EXPERIENCE,
        "reputation",
        lambda due, tenant_id: due.installation.tenant(tenant_id).reputation.remove_expired(due.cut_off),
        _oldest_in_tenant(_REPUTATION),
    ),
    TenantRemover(classes.WITHHELD, "quarantine", _expire_withheld, _oldest_in_tenant(_WITHHELD)),
)

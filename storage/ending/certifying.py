"""Puts together what an ending came to: the certificate of erasure."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from storage.certificates.certificate import (
    Certificate,
    Counts,
    HeldBack,
    KeysDestroyed,
    Scope,
    Search,
    StepDone,
)
from storage.certificates.remaining import remaining
from storage.directory.endings import EndingRow
from storage.ending.sought import Sought
from storage.ending.steps import Step
from storage.installation import Installation
from storage.keys.destruction import Destroyed

_OCCASIONS = ("contract", "user", "person")  # what an ending is ordered by, if not by an operator
_SEARCHED = ("files", "names of files", "control.db", "queue.db", "audit.db")


def certificate_of(
    installation: Installation, row: EndingRow, sought: Sought, progress: Mapping[str, Any], issuer: str
) -> Certificate:
    """Finished now."""
    now = installation.clock.now()
    destroyed = Destroyed.from_fields(progress["destroyed"])
    steps = {**row.progress.get("steps", {}), Step.CERTIFIED.value: now}
    searched = progress["search"]
    return Certificate(
        certificate_id=row.ending_id,
        installation_id=installation.control.installation_id(),
        issuer=issuer,
        program=program(),
        scope=Scope(int(row.tenant_id), row.account_id, sought.slug, sought.domains),
        ordered_by=row.ordered_by if row.ordered_by in _OCCASIONS else "operator",
        begun=row.begun,
        unreadable=destroyed.at,
        finished=now,
        counts=Counts(**progress["counts"]),
        keys=KeysDestroyed.of(destroyed),
        steps=tuple(StepDone(step.value, steps[step.value]) for step in Step if step.value in steps),
        search=Search(
            searched=_SEARCHED if row.account_id is None else (*_SEARCHED, "tenant.db"),
            files=searched["files"],
            bytes=searched["octets"],
            terms=searched["terms"],
            found=0,
            unsearched=searched["unsearched"],
            thorough=searched["thorough"],
        ),
        remaining=remaining(installation.periods, now, whole=row.account_id is None),
        holds=tuple(
            HeldBack(hold.hold_id, hold.begun, hold.over)
            for hold in installation.control.holds.during(row.tenant_id, row.account_id, since=0)
        ),
        processes_killed=progress.get("killed", 0),
        processes_recycled=progress.get("recycled", 0),
        processes_until=progress.get("replaced_until"),
    )


def program() -> str:
    try:
        return f"cleanmail {version('cleanmail')}"
    except PackageNotFoundError:
        return "cleanmail"

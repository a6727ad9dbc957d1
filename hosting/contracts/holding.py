"""Legal holds need two persons: how one, or its end before its day, is asked for, and what follows from the approval.

A hold has the number of its request, so it is made once, and it is lifted once, whoever comes first: `cleanmail request
approve`, or the round of the jobs role after a crash between the two.

Raises: InvalidInput, Conflict, NotFound, Unavailable.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from storage.directory.approvals import Approval, ApprovalState, Kind, scope_of
from storage.directory.holds import Hold, check_in_force, check_new
from storage.errors import Conflict, NotFound
from storage.installation import Installation
from storage.values import AccountId, TenantId

_ENDS = "held_until"  # Unix seconds, in the scope of a request that makes a hold
_LIFTED = "lifted_hold"  # its number, in the scope of a request that lifts one


def ask_for_hold(
    installation: Installation,
    tenant_id: TenantId,
    account_id: AccountId | None,
    *,
    ends: int,
    reason: str,
    by: str,
    unix: str,
    days: int,
) -> Approval:
    """A request that another person has to approve within so many days; nothing is held before.

    Where one waits already for the same hold it is that one, whoever asked.
    """
    check_new(ends, reason, installation.clock.now())
    scope = scope_of(tenant_id, account_id, **{_ENDS: str(ends)})
    return _asked(installation, scope, reason, by, tenant_id, account_id, unix, days)


def ask_to_lift(installation: Installation, hold: Hold, *, reason: str, by: str, unix: str, days: int) -> Approval:
    """Likewise for the end of a hold before its day: it holds until another person approved. Raises Conflict if it is
    over."""
    check_in_force(hold, installation.clock.now())
    scope = scope_of(hold.tenant_id, hold.account_id, **{_LIFTED: hold.hold_id})
    return _asked(installation, scope, reason, by, hold.tenant_id, hold.account_id, unix, days)


def _asked(
    installation: Installation,
    scope: Mapping[str, str],
    reason: str,
    by: str,
    tenant_id: TenantId,
    account_id: AccountId | None,
    unix: str,
    days: int,
) -> Approval:
    approvals = installation.control.approvals
    for waiting in approvals.waiting():
        if waiting.kind is Kind.HOLD and waiting.scope == scope:
            return waiting
    return approvals.ask(Kind.HOLD, scope, reason, by, tenant_id, account_id, unix=unix, days=days)


def make_holds(installation: Installation) -> list[Hold]:
    """Makes every hold that was approved and is not there yet."""
    control = installation.control
    made = (make_hold(installation, approval) for approval in control.approvals.approved(Kind.HOLD))
    return [hold for hold in made if hold is not None]


def make_hold(installation: Installation, approval: Approval) -> Hold | None:
    """The hold that was asked for and approved; None if the request is about something else, or came too late."""
    control, scope = installation.control, approval.scope or {}
    if approval.kind is not Kind.HOLD or approval.state is not ApprovalState.APPROVED or _ENDS not in scope:
        return None
    if approval.tenant_id is None or approval.decided_by is None:
        return None
    hold, ends = None, int(scope[_ENDS])
    if ends > installation.clock.now():
        hold = control.holds.add(
            approval.tenant_id,
            approval.account_id,
            ends=ends,
            reason=approval.reason or "",
            asked_by=approval.asked_by,
            approved_by=approval.decided_by,
            hold_id=approval.approval_id,
        )
    control.approvals.use(Kind.HOLD, scope, approval.asked_by)
    return hold


def lift_holds(installation: Installation) -> list[Hold]:
    """Lifts every hold of which that was approved and not done yet."""
    lifted = (lift_hold(installation, each) for each in installation.control.approvals.approved(Kind.HOLD))
    return [hold for hold in lifted if hold is not None]


def lift_hold(installation: Installation, approval: Approval) -> Hold | None:
    """The hold that was to be lifted, and is; None if the request is about something else, or came too late.

    An audit record names both persons; the reason is in that of the request.
    """
    control, scope = installation.control, approval.scope or {}
    if approval.kind is not Kind.HOLD or approval.state is not ApprovalState.APPROVED or _LIFTED not in scope:
        return None
    hold = None
    try:
        found = control.holds.show(scope[_LIFTED])
        check_in_force(found, installation.clock.now())
    except (Conflict, NotFound):  # its day has come, or it was lifted before a crash
        pass
    else:
        details = {"hold": found.hold_id, "tenant": str(int(found.tenant_id)), "request": approval.approval_id}
        details |= {"until": _moment(found.ends), "approved_by": approval.decided_by or ""}
        installation.audit.append("hold.lift", approval.asked_by, None, None, details)
        hold = control.holds.lift(found.hold_id, approval.asked_by)
    control.approvals.use(Kind.HOLD, scope, approval.asked_by)
    return hold


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

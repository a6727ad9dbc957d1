"""Legal holds that need two persons: how one is asked for, and how it comes to be once another person approved it.

The hold has the number of its request, so it is made once, whoever comes first: `cleanmail request approve`, or the
round of the jobs role after a crash between the two.

Raises: InvalidInput, Conflict, NotFound, Unavailable.
"""

from __future__ import annotations

from storage.directory.approvals import Approval, ApprovalState, Kind, scope_of
from storage.directory.holds import Hold, check_new
from storage.installation import Installation
from storage.values import AccountId, TenantId

_ENDS = "held_until"  # Unix seconds, in the scope of a request that makes a hold


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
    approvals, scope = installation.control.approvals, scope_of(tenant_id, account_id, **{_ENDS: str(ends)})
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

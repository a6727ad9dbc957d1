"""Orders the end of a tenant's contract or of one account: the commit from which there is no way back.

Raises: NotFound, Gone, Conflict (a legal hold), Unavailable (the clock is wrong).
"""

from __future__ import annotations

from collections.abc import Callable

from storage.directory.endings import EndingRow, new_ending_id
from storage.directory.rows import State
from storage.ending.scopes import Scope, scope_of
from storage.ending.sought import Sought, SoughtBox
from storage.errors import Conflict, Gone
from storage.installation import Installation
from storage.values import AccountId, TenantId

CONTRACT = "contract"  # who orders an ending whose time has come


def order_tenant(
    installation: Installation, tenant_id: TenantId, by: str, reason: str, *, thorough: bool = False
) -> str:
    """The tenant is ENDED when this returns, and everybody was told; the id of its ending.

    `by` is the operator, or `CONTRACT`. Ordered again, it is the same ending. `thorough`: other customers' folders are
    searched for remains, too.
    """
    control = installation.control
    known = control.endings.of(tenant_id)
    if known is None:
        _check(installation, scope_of(installation, tenant_id, None), by)
        row = control.tenant(tenant_id)
        domains = tuple(str(domain.domain) for domain in control.domains(tenant_id))
        installation.audit.append("tenant.end", by, tenant_id, None, {"reason": reason})
        sought = Sought(row.slug, domains)
        if_due = by == CONTRACT
        known = _ordered(
            installation,
            sought,
            lambda *of: control.endings.order_tenant(tenant_id, by, reason, *of, thorough=thorough, if_due=if_due),
        )
    check_thorough(known, thorough=thorough)
    if known.finished is None:
        scope_of(installation, tenant_id, None).tell()
    return known.ending_id


def order_account(
    installation: Installation,
    tenant_id: TenantId,
    account_id: AccountId,
    by: str,
    reason: str,
    *,
    thorough: bool = False,
) -> str:
    """The account is ENDED when this returns, and everybody was told; the id of its ending."""
    control = installation.control
    known = control.endings.of(tenant_id, account_id)
    scope = scope_of(installation, tenant_id, account_id)
    if known is None:
        if control.tenant_state(tenant_id)[0] is State.ENDED:
            raise Gone("The tenant's contract has ended.")
        installation.tenant(tenant_id).account(account_id)
        _check(installation, scope, by)
        domains = tuple(str(domain.domain) for domain in control.domains(tenant_id))
        installation.audit.append("account.delete", by, tenant_id, account_id, {"reason": reason})
        sought = Sought(control.tenant(tenant_id).slug, domains)
        known = _ordered(
            installation,
            sought,
            lambda *of: control.endings.order_account(tenant_id, account_id, by, reason, *of, thorough=thorough),
        )
    check_thorough(known, thorough=thorough)
    if known.finished is None:
        scope.fence()
        scope.tell()
    return known.ending_id


def check_thorough(known: EndingRow, *, thorough: bool) -> None:
    if thorough and not known.thorough:
        raise Conflict(f"This was ordered before, without a thorough search: ending {known.ending_id}.")


def _check(installation: Installation, scope: Scope, by: str) -> None:
    if by == CONTRACT:
        installation.clock_guard.check()
    scope.check_holds()


def _ordered(installation: Installation, sought: Sought, order: Callable[[str, bytes], EndingRow]) -> EndingRow:
    ending_id = new_ending_id()
    box = SoughtBox(installation.data, ending_id)
    box.make_key()
    try:
        row = order(ending_id, box.seal(sought))
    except BaseException:
        box.remove_key()
        raise
    if row.ending_id != ending_id:  # somebody else ordered it at the same moment
        box.remove_key()
    return row

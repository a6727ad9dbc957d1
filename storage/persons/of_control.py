"""What control.db holds about a person: logins, contracts, erasures and holds, cases and requests, who works here.

Of holds and requests nothing is told while a case is secret that they may be for (`secret_cases`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from storage.directory.approvals import Kind
from storage.persons.item import Item, moment
from storage.persons.sought import Sought

_MOST = 100_000  # requests for a second person, the newest


def secret_cases(sought: Sought) -> list[Any]:
    return [case for case in sought.installation.control.disclosures.all() if case.is_secret(sought.secrecy_at)]


def directory(sought: Sought) -> Iterator[Item]:
    control = sought.installation.control
    for address in sought.addresses:
        login = control.find_login(control.login_hash(str(address)))
        if login is not None and sought.in_scope(login.tenant_id):
            yield {
                "record": "control.login",
                "kept_as": "a keyed hash of the address",
                "tenant_number": int(login.tenant_id),
                "account_number": int(login.account_id),
            }


def contracts(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    control = sought.installation.control
    for row in sought.living():
        with sought.reading(f"the contract of {row.slug}"):
            contact = control.contracts.contact(row.tenant_id)
            if contact is not None and names(str(contact)):
                yield {"record": "control.contract", "tenant": row.slug, "contact": str(contact)}
            ended_by = control.contracts.of(row.tenant_id).ended_by
            if sought.staff and ended_by == sought.staff:
                yield {"record": "control.contract", "tenant": row.slug, "ended_by": ended_by}


def erasures(sought: Sought) -> Iterator[Item]:
    for row in sought.installation.control.endings.all():
        about = sought.account_id is not None and row.account_id == sought.account_id
        if sought.in_scope(row.tenant_id) and (about or (sought.staff and row.ordered_by == sought.staff)):
            yield {"record": "control.ending", "id": row.ending_id, "begun": moment(row.begun), "step": row.step.value}


def holds(sought: Sought) -> Iterator[Item]:
    """But none while a case is secret that it may be for."""
    secret = {case.tenant_id for case in secret_cases(sought)}
    for hold in sought.installation.control.holds.all():
        if hold.tenant_id in secret:
            continue
        about = sought.account_id is not None and hold.account_id == sought.account_id
        by = sought.staff and sought.staff in {hold.asked_by, hold.approved_by, hold.lifted_by}
        if sought.in_scope(hold.tenant_id) and (about or by):
            yield {
                "record": "control.legal_hold",
                "id": hold.hold_id,
                "since": moment(hold.begun),
                "until": moment(hold.ends),
            }


def disclosures(sought: Sought) -> Iterator[Item]:
    for case in sought.installation.control.disclosures.all():
        about = sought.account_id is not None and case.account_id == sought.account_id
        whole = sought.account_id is not None and case.account_id is None and case.tenant_id == sought.tenant_id
        by = bool(sought.staff) and case.recorded_by == sought.staff
        if case.is_secret(sought.secrecy_at) or not sought.in_scope(case.tenant_id) or not (about or whole or by):
            continue
        yield {
            "record": "control.disclosure",
            "id": case.case_id,
            "received": moment(case.received),
            "authority": case.authority,
            "legal_basis": case.legal_basis,
            "state": case.state.value,
            "disclosed": moment(case.disclosed),
        }


def approvals(sought: Sought) -> Iterator[Item]:
    secret = {case.case_id: case.tenant_id for case in secret_cases(sought)}
    for approval in sought.installation.control.approvals.all(_MOST):
        if not sought.in_scope(approval.tenant_id) or secret.keys() & set((approval.scope or {}).values()):
            continue
        if approval.kind is Kind.HOLD and approval.tenant_id in secret.values():
            continue
        about = sought.account_id is not None and approval.account_id == sought.account_id
        by = bool(sought.staff) and sought.staff in {approval.asked_by, approval.decided_by}
        if about or by or sought.mark in (approval.scope or {}).values():
            yield {
                "record": "control.approval",
                "id": approval.approval_id,
                "kind": approval.kind.value,
                "asked": moment(approval.asked),
                "state": approval.state.value,
            }


def agreements(sought: Sought) -> Iterator[Item]:
    for each in sought.installation.control.agreements.all() if sought.staff and sought.only is None else ():
        if each.person == sought.staff:
            yield {"record": "control.secrecy_agreement", "signed": moment(each.signed), "ended": moment(each.ended)}


def staff(sought: Sought) -> Iterator[Item]:
    member = sought.installation.control.staff.look_up(sought.staff) if sought.staff else None
    if member is not None and (sought.only is None or member.tenant_id == sought.only):
        yield {
            "record": "control.staff",
            "name": member.name,
            "roles": list(member.roles),
            "created": moment(member.created),
            "ended": moment(member.ended),
        }

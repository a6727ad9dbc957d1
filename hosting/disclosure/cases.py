"""The steps of a disclosure case, each an audit record before it is done.

A step may be repeated after a crash: an extract that was written is handed over as it is, an approval that was used up
for this case still counts for it, and the record that the owner is told of stands once in the chain.

Raises: NotFound, Conflict, NotPermitted (no approval, no auditor), Gone (whom it is about), InvalidInput, Unavailable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hosting.disclosure.extract import read_extract, write_extract
from hosting.journal_words import SECRET_UNTIL
from storage.audit import Entry
from storage.directory.approvals import DAYS, Approval, ApprovalState, Kind, scope_of
from storage.directory.disclosures import Authority, Case, CaseState, Disclosures, Scope, What, check_words
from storage.directory.rows import AccountRow, State
from storage.errors import Conflict, Gone, InvalidInput
from storage.installation import Installation
from storage.values import AccountId, TenantId

RECORD, EXTRACT, FINISH = "disclosure.record", "disclosure.extract", "disclosure.finish"
RESUME = "disclosure.resume"

_VERBS = {CaseState.CHALLENGED: "challenge", CaseState.REFUSED: "refuse", CaseState.RECORDED: "resume"}


@dataclass(frozen=True, slots=True)
class Demand:
    """What an authority wants, and on which ground."""

    kind: Authority
    authority: str
    legal_basis: str
    document: bytes  # SHA-256 of the notification
    tenant_id: TenantId
    account_id: AccountId | None
    scope: Scope
    secret_until: int | None = None


@dataclass(frozen=True, slots=True)
class Person:
    name: str = field(repr=False)
    unix: str = field(repr=False)


def record_case(
    installation: Installation, demand: Demand, by: Person, reason: str, days: int = DAYS
) -> tuple[Case, Approval]:
    """The case, and the request that a second person has to approve."""
    check_words(demand.authority, demand.legal_basis)
    if demand.scope.messages and demand.account_id is None:
        raise InvalidInput("Messages are named by folder and UID of one account: name the account.")
    if not reason.strip():
        raise InvalidInput("A reason is needed: the second person decides by it.")
    if demand.secret_until is not None and demand.secret_until <= installation.clock.now():
        raise InvalidInput("The secrecy would be over already.")
    control = installation.control
    case_id = Disclosures.new_id()
    details = {"case": case_id, "authority": demand.authority, "legal_basis": demand.legal_basis}
    details |= {"document": demand.document.hex(), **_secrecy(demand.secret_until)}
    received = installation.clock.now()  # no later than its record, by which it is looked for when secrecy is over
    installation.audit.append(RECORD, by.name, demand.tenant_id, demand.account_id, details)
    case = control.disclosures.record(
        case_id,
        demand.kind,
        demand.authority,
        demand.legal_basis,
        demand.document,
        demand.scope,
        by.name,
        demand.tenant_id,
        demand.account_id,
        received=received,
        secret_until=demand.secret_until,
    )
    return case, _ask(installation, case, reason, by, days)


def _ask(installation: Installation, case: Case, reason: str, by: Person, days: int) -> Approval:
    return installation.control.approvals.ask(
        Kind.DISCLOSURE,
        _approved_scope(installation, case),
        reason,
        by.name,
        case.tenant_id,
        case.account_id,
        unix=by.unix,
        days=days,
    )


def set_state(installation: Installation, case_id: str, state: CaseState, reason: str, by: Person) -> Case:
    """Challenged, refused, or recorded again after a challenge: no approval from before counts then."""
    if not reason.strip():
        raise InvalidInput("A reason is needed.")
    disclosures = installation.control.disclosures
    case = disclosures.check(case_id, state)
    details = {"case": case_id, "reason": reason, **_secrecy(case.secret_until)}
    if case.scope is not None:  # else nobody is there any more who could be told, and no key
        installation.audit.append(f"disclosure.{_VERBS[state]}", by.name, case.tenant_id, case.account_id, details)
    else:
        installation.audit.append(f"disclosure.{_VERBS[state]}", by.name, details=details)
    return disclosures.set_state(case_id, state)


def resume(
    installation: Installation, case_id: str, reason: str, by: Person, days: int = DAYS
) -> tuple[Case, Approval | None]:
    """After a challenge, with the request that a second person has to approve; None if nobody is there any more."""
    case = set_state(installation, case_id, CaseState.RECORDED, reason, by)
    return case, None if case.scope is None else _ask(installation, case, reason, by, days)


def hand_over(
    installation: Installation, case_id: str, target: Path, by: Person, auditor_key: Callable[[], bytes]
) -> Case:
    """The extract in `target`, which must not exist. `auditor_key` gives what opens transcripts, to auditors."""
    disclosures = installation.control.disclosures
    case = disclosures.find(case_id)
    if case.state is CaseState.DISCLOSED:
        raise Conflict(f"The case {case_id} is disclosed already; what was handed over is with whoever did it.")
    if case.state is CaseState.RECORDED:
        disclosures.check(case_id, CaseState.APPROVED)
    else:
        disclosures.check(case_id, CaseState.DISCLOSED)
    scope = case.scope
    if scope is None:
        raise Gone("Whom this case is about is erased; there is nothing to disclose. Refuse the case.")
    made = read_extract(installation, case, target)
    if made is None and target.exists():
        raise InvalidInput(f"{target} exists already.")
    if made is None and not target.parent.is_dir():
        raise InvalidInput(f"{target.parent} is no folder.")
    key = auditor_key() if What.TRANSCRIPTS in scope.what else None
    accounts = _accounts(installation, case)
    approval = _use_approval(installation, case, by)
    if case.state is CaseState.RECORDED:
        case = disclosures.set_state(case_id, CaseState.APPROVED, approval.approval_id)
    subjects = [(case.tenant_id, account.account_id) for account in accounts]
    _record_once(installation, case, EXTRACT, by, subjects, {"what": ", ".join(sorted(scope.what))})
    if made is None:
        made = write_extract(installation, case, target, accounts, key)
    counted = {"hash": made.hash.hex(), "items": str(made.items), "accounts": str(made.accounts)}
    _record_once(installation, case, FINISH, by, [(case.tenant_id, case.account_id)], counted)
    return disclosures.set_disclosed(case_id, made.hash, made.items, made.accounts)


def _use_approval(installation: Installation, case: Case, by: Person) -> Approval:
    """Used up now, or for this case already, before a crash; by who asked for it alone."""
    approvals, scope = installation.control.approvals, _approved_scope(installation, case)
    for found in approvals.all():
        used = found.state is ApprovalState.USED and found.kind is Kind.DISCLOSURE and found.asked_by == by.name
        if used and found.scope == scope:
            return found
    return approvals.use(Kind.DISCLOSURE, scope, by.name, _options(installation, case))


def _options(installation: Installation, case: Case) -> tuple[str, ...]:
    """Of `cleanmail request ask`, for this case."""
    if case.account_id is None:
        whose = ("--tenant", installation.control.tenant(case.tenant_id).slug)
    else:
        whose = ("--account", str(installation.tenant(case.tenant_id).account(case.account_id).login))
    return ("--case", case.case_id, *whose)


def _approved_scope(installation: Installation, case: Case) -> dict[str, str]:
    return scope_of(case.tenant_id, case.account_id, case=case.case_id, **resumption(installation, case))


def resumption(installation: Installation, case: Case) -> dict[str, str]:
    """In the scope of an approval, the record by which a case went on: what was approved before is something else."""
    resumed = [
        record.number
        for record in installation.audit.read(since=case.received, action=RESUME, tenant_id=case.tenant_id)
        if record.details is not None and record.details.get("case") == case.case_id
    ]
    return {"resumed": str(resumed[-1])} if resumed else {}


def _record_once(
    installation: Installation,
    case: Case,
    action: str,
    by: Person,
    subjects: list[tuple[TenantId, AccountId]] | list[tuple[TenantId, AccountId | None]],
    details: dict[str, str],
) -> None:
    there = {
        (record.tenant_id, record.account_id)
        for record in installation.audit.read(since=case.received, action=action, tenant_id=case.tenant_id)
        if record.details is not None and record.details.get("case") == case.case_id
    }
    given = {"case": case.case_id, "authority": case.authority, "legal_basis": case.legal_basis}
    given |= {**details, **_secrecy(case.secret_until)}
    installation.audit.append_all(
        [Entry(action, by.name, *subject, given) for subject in subjects if subject not in there]
    )


def _accounts(installation: Installation, case: Case) -> list[AccountRow]:
    tenant = installation.tenant(case.tenant_id)
    if case.account_id is not None:
        return [tenant.account(case.account_id)]
    return [row for row in tenant.accounts() if row.state is not State.ENDED]


def _secrecy(until: int | None) -> dict[str, str]:
    return {} if until is None else {SECRET_UNTIL: str(until)}

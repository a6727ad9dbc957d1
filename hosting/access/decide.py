"""The one place that decides who may do what. Pure: what is known of somebody, an action, and whose data it is.

Used by the command line for each of its commands, by the review desk, by the quarantine, by the auth role for
transcripts. A role opens an action for everybody's data or, with administrators of tenants and users, for what is
theirs. A reviewer needs a secrecy agreement in force; who comes as the user that the server runs as is no known person,
so neither a reviewer nor an auditor, unless [logs] auditors names him.

Raises: NotPermitted, with the reason in a sentence.
"""

from __future__ import annotations

from hosting.access.actions import FOR_EVERYBODY, ROLES, Action
from hosting.access.roles import PROVIDERS, StaffRole, Subject, Who
from storage.errors import NotPermitted

_NAMES = {
    StaffRole.OPERATOR: "operators",
    StaffRole.SUPPORT: "support",
    StaffRole.REVIEWER: "technical reviewers",
    StaffRole.AUDITOR: "log auditors",
    StaffRole.BILLING: "billing",
    StaffRole.TENANT_ADMINISTRATOR: "the tenant's administrators",
    StaffRole.USER: "the account's owner",
}


def may(who: Who, action: Action, subject: Subject | None = None) -> None:
    """Returns if `who` may do it to `subject`; None: whose it will be is not known yet, and it is asked again then.

    Raises NotPermitted.
    """
    if action in FOR_EVERYBODY:
        return
    if action is Action.MACHINE:
        if not who.machine:
            raise NotPermitted("Only root and the user that the server runs as may do this.")
        if who.root or who.server:
            return  # starts it at boot, where nobody signs in; others come by sudo and need the role
    if action is Action.STAFF_CHANGE and who.root and not who.signed_in:
        return  # who lost his second factor needs somebody; root could write the table by himself
    if who.must_sign_in:
        raise NotPermitted("Sign in first: cleanmail sign-in NAME.")
    allowed = ROLES[action] & roles_in_force(who)
    if not allowed:
        raise NotPermitted(_refusal(who, action))
    if allowed & PROVIDERS or subject is None:
        return
    if StaffRole.TENANT_ADMINISTRATOR in allowed and who.tenant_id is not None and who.tenant_id == subject.tenant_id:
        return
    if StaffRole.USER in allowed and who.account_id is not None and _own(who, subject):
        return
    raise NotPermitted("This belongs to somebody else.")


def permits(who: Who, action: Action, subject: Subject | None = None) -> bool:
    """As `may`, for what is shown or left out."""
    try:
        may(who, action, subject)
    except NotPermitted:
        return False
    return True


def roles_in_force(who: Who) -> frozenset[StaffRole]:
    """Those of his roles whose conditions are met."""
    roles = set(who.roles)
    if who.server:
        roles.discard(StaffRole.AUDITOR)
    if who.server or not who.agreed:
        roles.discard(StaffRole.REVIEWER)
    if who.named_auditor:
        roles.add(StaffRole.AUDITOR)
    return frozenset(roles)


def _own(who: Who, subject: Subject) -> bool:
    return (who.tenant_id, who.account_id) == (subject.tenant_id, subject.account_id)


def _refusal(who: Who, action: Action) -> str:
    match action:
        case Action.TRANSCRIPTS_READ:
            return f"SMTP transcripts are for log auditors only, and '{who.name}' is none; [logs] auditors names them."
        case Action.REVIEW if who.server:
            return f"The server runs as '{who.unix or who.name}': who reviews withheld mail is somebody else."
        case Action.REVIEW if not who.agreed:
            return (
                "Withheld mail is reviewed by technical administrators with a secrecy agreement only, and none of "
                f"'{who.name}' is in force; another administrator can record it: cleanmail review agreement record."
            )
        case Action.WITHHELD_TEXTS if who.server:
            return f"{_TEXTS}. The server runs as '{who.unix or who.name}': who sees them is somebody else."
        case Action.WITHHELD_TEXTS:
            return f"{_TEXTS}. None of '{who.name}' is in force; another administrator can record it."
    allowed = [_NAMES[role] for role in StaffRole if role in ROLES[action]]
    return f"This is for {', '.join(allowed)}; '{who.name}' has no such role."


_TEXTS = (
    "Subjects and header lines are for people with a recorded secrecy agreement "
    "(cleanmail review agreement record PERSON --document FILE)"
)

"""What commands leave in the audit records before they do or show anything.

A reading of what concerns somebody is a record of his account, so that he finds it in his journal: of each account
whose data is about to be shown, or of the tenant where a list names accounts and no more. The owner who reads leaves
none; who changes something always leaves one.
Addresses that were asked for stand in records of their own account or tenant alone, so that they end with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from hosting.administration import Administration
from hosting.cli.invocation import Invocation, Whose, find_account
from storage.audit import Entry
from storage.directory.rows import TenantRow
from storage.errors import Gone, InvalidInput, NotFound
from storage.values import AccountId, Domain, EmailAddress, TenantId

Subject = tuple[TenantId | None, AccountId | None]
NOBODY: Subject = (None, None)


def record(
    run: Invocation,
    administration: Administration,
    action: str,
    of: Whose | TenantRow | None = None,
    details: Mapping[str, str] | None = None,
) -> None:
    """One record, of an account, of a tenant, or of neither; also of what an administrator changes in his own."""
    if isinstance(of, Whose):
        subject: Subject = (of.tenant.tenant_id, of.account.account_id)
    else:
        subject = (None if of is None else of.tenant_id, None)
    record_all(run, administration, action, [subject], details, owner_too=True)


def record_all(
    run: Invocation,
    administration: Administration,
    action: str,
    subjects: Iterable[Subject],
    details: Mapping[str, str] | None = None,
    *,
    owner_too: bool = False,
) -> None:
    """A record for each of them, in one commit; none of whose own data it is, unless `owner_too`."""
    given = {name: text for name, text in (details or {}).items() if text}
    who = run.known
    own = NOBODY if who is None else (who.tenant_id, who.account_id)
    entries = [
        Entry(action, run.operator, *subject, given)
        for subject in dict.fromkeys(subjects)
        if owner_too or subject == NOBODY or subject != own
    ]
    administration.installation.audit.append_all(entries)


def subject_of(administration: Administration, address: str) -> Subject:
    """The account of an address here, else the tenant of its domain (also of "@domain"), else nobody."""
    try:
        if not address.startswith("@"):
            whose = find_account(administration, address)
            return whose.tenant.tenant_id, whose.account.account_id
    except (NotFound, InvalidInput):
        pass
    try:
        domain = Domain.parse(address[1:]) if address.startswith("@") else EmailAddress.parse(address).domain
        return administration.control.domain(domain).tenant_id, None
    except (NotFound, InvalidInput):
        return NOBODY


def accounts_of(
    administration: Administration, pairs: Collection[tuple[TenantId | None, AccountId | None]]
) -> list[Subject]:
    """Those of them that are accounts that are still there: nobody else has a journal, or a key to seal under."""
    there: dict[TenantId, set[AccountId]] = {}
    found: list[Subject] = []
    living = {row.tenant_id for row in administration.control.tenants()}
    for tenant_id, account_id in dict.fromkeys(pairs):
        if tenant_id is None or account_id is None or tenant_id not in living:
            continue
        if tenant_id not in there:
            try:
                there[tenant_id] = {row.account_id for row in administration.installation.tenant(tenant_id).accounts()}
            except (NotFound, Gone):  # its contract has ended, and its records have not
                there[tenant_id] = set()
        if account_id in there[tenant_id]:
            found.append((tenant_id, account_id))
    return found

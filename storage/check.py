"""Compares what is stored with itself: files with rows, counters with what they count, folders with the directory.

It changes nothing and may run while others work: what looks wrong is looked at again, so that mail in flight is no
finding. What a finding says and how bad it is: `storage.checks.finding`.

Raises nothing for what it finds wrong; Unavailable when it cannot look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from storage.checks.files import check_files
from storage.checks.finding import Finding, Kind, Severity
from storage.checks.notes import check_notes
from storage.checks.objects import check_object_rows, check_objects
from storage.checks.quarantine import check_quarantine
from storage.checks.rows import check_rows, check_structure
from storage.checks.snapshots import check_snapshots
from storage.directory.rows import State, TenantRow
from storage.errors import Corrupt, Gone, NotFound
from storage.files.incarnation import Incarnation
from storage.installation import Installation
from storage.mail.account import Account
from storage.values import AccountId, TenantId

__all__ = ["Finding", "Kind", "Severity", "check_account", "check_installation"]


def check_account(account: Account, incarnation: Incarnation, *, contents: bool = False) -> Iterator[Finding]:
    """Everything that is wrong in one account; with `contents` every message file is decrypted and compared."""
    for finding in _check_account(account, incarnation, contents=contents):
        yield replace(finding, tenant_id=account.tenant_id, account_id=account.account_id)


def _check_account(account: Account, incarnation: Incarnation, *, contents: bool) -> Iterator[Finding]:
    try:
        with account.database.reading() as connection:
            findings = [*check_structure(connection), *check_rows(connection, account.account_id)]
            findings += check_object_rows(connection, account.account_id)
        yield from findings
        yield from check_snapshots(account)
        if not account.index.verify():
            yield Finding(Kind.INDEX_WRONG, Severity.ERROR, "The search index is damaged.")
        yield from check_files(account, incarnation, contents=contents)
        yield from check_objects(account, incarnation, contents=contents)
        yield from check_notes(account, contents=contents)
    except Corrupt as error:
        yield Finding(Kind.DATABASE_DAMAGED, Severity.ALARM, f"The account's database is damaged ({error.detail}).")


def check_installation(installation: Installation, *, contents: bool = False) -> Iterator[Finding]:
    """Everything that is wrong in all tenants whose contracts run."""
    tenants = [tenant for tenant in installation.control.tenants() if tenant.state is not State.ENDED]
    yield from _loose(installation.data / "tenants", {tenant.tenant_id for tenant in tenants}, "tenant")
    for tenant in tenants:
        yield from _check_tenant(installation, tenant, contents=contents)


def _check_tenant(installation: Installation, tenant: TenantRow, *, contents: bool) -> Iterator[Finding]:
    tenant_id = tenant.tenant_id
    try:
        accounts = [row for row in installation.tenant(tenant_id).accounts() if row.state is not State.ENDED]
    except (NotFound, Gone, Corrupt) as error:
        yield replace(_unopened(error, f"tenant {tenant_id}"), tenant_id=tenant_id)
        return
    quarantine = installation.tenant(tenant_id).quarantine
    for found in check_quarantine(quarantine, installation.incarnation, contents=contents):
        yield replace(found, tenant_id=tenant_id)
    folder = installation.data / "tenants" / str(tenant_id) / "accounts"
    for loose in _loose(folder, {row.account_id for row in accounts}, "account"):
        yield replace(loose, tenant_id=tenant_id)
    for row in accounts:
        yield from _open_and_check(installation, tenant_id, row.account_id, contents=contents)


def _open_and_check(
    installation: Installation, tenant_id: TenantId, account_id: AccountId, *, contents: bool
) -> Iterator[Finding]:
    try:
        with installation.account(tenant_id, account_id) as account:
            yield from check_account(account, installation.incarnation, contents=contents)
    except (NotFound, Gone, Corrupt) as error:
        yield replace(_unopened(error, f"account {account_id}"), tenant_id=tenant_id, account_id=account_id)


def _unopened(error: NotFound | Gone | Corrupt, what: str) -> Finding:
    """Why a database does not open."""
    reason = error.detail or error.public
    if isinstance(error, Corrupt):
        return Finding(Kind.DATABASE_DAMAGED, Severity.ALARM, f"The database of {what} cannot be read: {reason}")
    if isinstance(error, Gone):
        return Finding(Kind.KEY_MISSING, Severity.ALARM, f"The key of {what} was destroyed: {reason}")
    return Finding(Kind.ACCOUNT_MISSING, Severity.ALARM, f"The key or the database of {what} is missing: {reason}")


def _loose(folder: Path, known: set[TenantId] | set[AccountId], what: str) -> Iterator[Finding]:
    """Folders of tenants or accounts that the directory does not know."""
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not entry.name.isdecimal() or int(entry.name) not in known:
            text = f"The folder {entry.name} belongs to no {what}."
            yield Finding(Kind.FOLDER_LOOSE, Severity.ERROR, text)

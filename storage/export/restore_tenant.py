"""Brings the archive of a tenant back into a tenant that is there: domains, accounts, mail, aliases, settings.

What is there already stays as it is, so that it may be interrupted and run again, and an archive may be merged into a
tenant that is in use. Accounts that are made have no password, since an archive has none: whoever calls it says so.
Domains that are new here are pending until they are verified; DKIM keys are made anew, since their private halves are
in no archive.

Raises: InvalidInput (the archive), Conflict (a domain of another tenant; nothing was changed), Unavailable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.directory.provisioning import Provisioning
from storage.directory.routes import Mode, Route, RouteTls
from storage.directory.rows import AccountRow, State
from storage.errors import AlreadyExists, CleanmailError, Conflict, InvalidInput, NotFound, Unavailable
from storage.export import names
from storage.export.archive import ArchiveFolder
from storage.export.restore import Restored, restore_archive, would_be_restored
from storage.export.restore_filter import CheckRule, restore_filter
from storage.export.values import ACCOUNT, ACCOUNTS, TENANT, Progress, Tell
from storage.export.verify import verify_archive
from storage.filter.rules import RuleScope
from storage.installation import Installation
from storage.values import Domain, EmailAddress, TenantId


@dataclass(slots=True)
class RestoredTenant:
    """What became of it. `made`: accounts that have no password yet."""

    made: list[EmailAddress] = field(default_factory=list)
    domains: list[Domain] = field(default_factory=list)  # that were added, and are pending
    aliases: int = 0
    accounts: dict[str, Restored] = field(default_factory=dict)  # by address
    beside: Restored = field(default_factory=Restored)  # notes on what is of no account

    @property
    def stopped(self) -> bool:
        return any(each.stopped for each in self.accounts.values())


def restore_tenant(
    installation: Installation,
    provisioning: Provisioning,
    tenant_id: TenantId,
    source: Path,
    *,
    key: bytes | None = None,
    dry_run: bool = False,
    check_rule: CheckRule | None = None,
    progress: Tell | None = None,
) -> RestoredTenant:
    found = verify_archive(source, key)
    if found.manifest.kind != "tenant":
        raise InvalidInput("This is the archive of an account; name the account that it is imported into.")
    with ArchiveFolder(source, key) as archive:
        values = archive.document(TENANT)
        key = archive.signed.public_key
    run = _Restore(installation, provisioning, tenant_id, source, key, dry_run, check_rule, progress)
    run.total = found.manifest.messages
    run.domains(values)
    run.accounts(values)
    if not dry_run:
        run.settings(values)
        run.aliases(values)
    return run.restored


class _Restore:
    def __init__(
        self,
        installation: Installation,
        provisioning: Provisioning,
        tenant_id: TenantId,
        source: Path,
        key: bytes,
        dry_run: bool,
        check_rule: CheckRule | None,
        tell: Tell | None,
    ) -> None:
        self._installation = installation
        self._provisioning = provisioning
        self._tenant_id = tenant_id
        self._source = source
        self._key = key
        self._dry_run = dry_run
        self._check_rule = check_rule
        self._tell = tell
        self._done = self._octets = 0
        self.total = 0
        self.restored = RestoredTenant()

    def _note(self, sentence: str) -> None:
        self.restored.beside.note(sentence)

    def domains(self, values: Mapping[str, Any]) -> None:
        """All are free or the tenant's, or nothing is changed."""
        control = self._installation.control
        wanted = [Domain.parse(_text(each, "domain")) for each in _items(values, "domains")]
        new = []
        for domain in wanted:
            row = control.find_domain(domain)
            if row is None:
                new.append(domain)
            elif row.tenant_id != self._tenant_id:
                raise Conflict(f"The domain {domain} belongs to another tenant here; nothing was changed.")
        if not self._dry_run:
            for domain in new:
                control.add_domain(self._tenant_id, domain)
        self.restored.domains = new

    def accounts(self, values: Mapping[str, Any]) -> None:
        for each in _items(values, "accounts"):
            folder, address = _text(each, "folder"), EmailAddress.parse(_text(each, "address"))
            if len(names.parts_of(folder)) != 1:
                raise InvalidInput("The archive names a file outside of itself.")
            path = self._source / ACCOUNTS / folder
            with ArchiveFolder(path, self._key) as archive:
                document = archive.document(ACCOUNT)
                manifest = archive.signed.manifest
                row = self._account(address, document)
                if row is None:  # a dry run
                    self.restored.accounts[str(address)] = would_be_restored(archive)
            if row is not None:
                self.restored.accounts[str(address)] = restore_archive(
                    self._installation,
                    self._tenant_id,
                    row.account_id,
                    path,
                    key=self._key,
                    dry_run=self._dry_run,
                    verified=True,
                    check_rule=self._check_rule,
                    progress=self._told,
                )
            self._done += manifest.messages
            self._octets += manifest.octets

    def _told(self, progress: Progress) -> None:
        if self._tell is not None:
            self._tell(Progress(self._done + progress.done, self.total, self._octets + progress.octets))

    def _account(self, address: EmailAddress, values: Mapping[str, Any]) -> AccountRow | None:
        """The account of that address, made if there is none."""
        tenant = self._installation.tenant(self._tenant_id)
        try:
            return tenant.account_by_address(address)
        except NotFound:
            self.restored.made.append(address)
        if self._dry_run:
            return None
        row = self._provisioning.create_account(
            self._tenant_id,
            address,
            name=str(values.get("name") or ""),
            quota_bytes=_number(values, "quota_bytes"),
            quota_messages=_number(values, "quota_messages"),
        )
        if values.get("catch_all_sender") is True:
            self._provisioning.allow_catch_all_sender(self._tenant_id, row.account_id, True)
        if values.get("state") == State.SUSPENDED.value:
            self._provisioning.suspend_account(self._tenant_id, row.account_id)
        if values.get("frozen") is True:
            tenant.frozen.freeze(row.account_id, "It was frozen where it came from.")
        return row

    def settings(self, values: Mapping[str, Any]) -> None:
        tenant = self._installation.tenant(self._tenant_id)
        settings = values.get("settings")
        for name, value in settings.items() if isinstance(settings, Mapping) else ():
            if isinstance(value, str) and tenant.setting(name) is None:
                tenant.set_setting(name, value)
        for each in _items(values, "routes"):
            try:
                domain = Domain.parse(_text(each, "domain"))
                route = Route(
                    domain,
                    Mode(_text(each, "mode")),
                    _text(each, "host"),
                    _number(each, "port"),
                    RouteTls(_text(each, "tls")),
                    each.get("verify") is True,
                )
                if tenant.routes.find(domain) is None and self._is_own(domain):
                    tenant.routes.set(route)
            except (ValueError, CleanmailError):
                self._note("A route cannot be read; it was left out.")
        filters = values.get("filter")
        for scope, found in filters.items() if isinstance(filters, Mapping) else ():
            if scope == "" or (scope.startswith("domain:") and self._is_own_name(scope[7:])):
                restore_filter(tenant, RuleScope(scope), found, self.restored.beside.note, self._check_rule)

    def _is_own(self, domain: Domain) -> bool:
        row = self._installation.control.find_domain(domain)
        return row is not None and row.tenant_id == self._tenant_id

    def _is_own_name(self, name: str) -> bool:
        try:
            return self._is_own(Domain.parse(name))
        except InvalidInput:
            return False

    def aliases(self, values: Mapping[str, Any]) -> None:
        """An alias may lead to one that comes later: what cannot be made yet is tried again behind the others."""
        waiting = list(_items(values, "aliases"))
        while waiting:
            later = [each for each in waiting if not self._alias(each)]
            if len(later) == len(waiting):
                break
            waiting = later
        for each in waiting:
            self._note(f"The alias {str(each.get('address'))[:120]} leads to an address that nobody has.")

    def _alias(self, values: Mapping[str, Any]) -> bool:
        """False: not yet."""
        try:
            targets = [EmailAddress.parse(each) for each in values.get("targets") or () if isinstance(each, str)]
            address = _text(values, "address")
            if address.startswith("@"):
                self._provisioning.set_catch_all(self._tenant_id, Domain.parse(address[1:]), targets)
            else:
                self._provisioning.add_alias(self._tenant_id, EmailAddress.parse(address), targets)
        except NotFound:
            return False
        except AlreadyExists:
            return True
        except Unavailable:
            raise
        except CleanmailError as error:
            self._note(error.public)
            return True
        self.restored.aliases += 1
        return True


def _items(values: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = values.get(name)
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise InvalidInput(f"tenant.json of the archive lacks its {name}.")
    return found


def _text(values: Mapping[str, Any], name: str) -> str:
    found = values.get(name)
    if not isinstance(found, str):
        raise InvalidInput(f"The archive has a {name} that cannot be.")
    return found


def _number(values: Mapping[str, Any], name: str) -> int:
    found = values.get(name)
    return found if type(found) is int and 0 <= found < 1 << 62 else 0

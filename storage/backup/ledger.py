"""Which tenants and accounts were erased, and that they are: the ledger that a restore applies to what it brings back.

Known are erasures from their certificates, in the data directory and in every backup beside, and from keys that are
destroyed. Whatever time a certificate has, it counts: numbers of tenants and accounts are never used again. A
certificate has to be signed by this installation, since keys are destroyed because of it: where the keys that were
brought back are older than an erasure, they are destroyed again.

Raises: InvalidInput (a certificate that is not ours, or damaged), and what destroying a key raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import bindparam, select

from storage.certificates.certificate import Certificate
from storage.certificates.issuing import pages
from storage.certificates.signing import verify
from storage.certificates.store import FOLDER, Certificates
from storage.database.prepared import prepare
from storage.directory.endings import Certified
from storage.directory.rows import State
from storage.ending.scopes import scope_of
from storage.ending.sought import Sought
from storage.errors import CleanmailError, Gone, InvalidInput, NotFound
from storage.installation import Installation
from storage.keys.source import KeySource
from storage.schema.control import login
from storage.values import AccountId, TenantId

PURPOSE = "restore"
_LOGINS = prepare(select(login.c.account_id).where(login.c.tenant_id == bindparam("tenant")))

Owner = tuple[TenantId, AccountId | None]
"""A tenant, or one of its accounts."""


@dataclass(slots=True)
class Applied:
    """What was erased again."""

    tenants: int = 0
    accounts: int = 0


class Ledger:
    def __init__(self, keys: KeySource) -> None:
        self._keys = keys
        self._public = keys.verifying_key("certificate")
        self._documents: dict[str, bytes] = {}  # by the number of the certificate
        self._found: dict[Owner, Certificate | None] = {}

    # Knowing

    def read(self, data: Path, *, keep: bool) -> None:
        """The certificates of a data directory. `keep`: they are to come along."""
        folder = data / FOLDER
        for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
            if path.name.startswith("."):  # half written
                continue
            try:
                document = path.read_bytes()
                if self._documents.get(path.stem) == document:
                    continue  # each backup has those of the one before
                certificate = verify(document, self._public)
                if certificate.certificate_id != path.stem:
                    raise InvalidInput("It has the name of another one.")
            except OSError as error:
                raise self._refused(path, f"It cannot be read: {error.strerror}.") from None
            except CleanmailError as error:
                raise self._refused(path, error.public) from None
            if keep:
                self._documents[certificate.certificate_id] = document
            scope = certificate.scope
            account_id = None if scope.account_id is None else AccountId(scope.account_id)
            self._found[TenantId(scope.tenant_id), account_id] = certificate

    def _refused(self, path: Path, why: str) -> InvalidInput:
        return InvalidInput(
            f"The certificate {path.stem} in {path.parent} does not say what was erased since. {why} "
            "Nothing was restored: take the file away if it is not yours, or bring back the true one."
        )

    def add(self, owner: Owner) -> None:
        """Erased, though there is no certificate."""
        self._found.setdefault(owner, None)

    def has(self, owner: Owner) -> bool:
        """Whether it was erased, by itself or with its tenant."""
        return owner in self._found or (owner[0], None) in self._found

    def __iter__(self) -> Iterator[Owner]:
        return iter(sorted(self._found, key=lambda owner: (owner[0], owner[1] or 0)))

    # Applying

    def destroy_keys(self) -> int:
        """Those that are there again, of what was certified; how many."""
        destroyed = 0
        for owner in self:
            tenant_id, account_id = owner
            if account_id is not None and (tenant_id, None) in self._found:
                continue
            with suppress(Gone, NotFound):
                if account_id is None:
                    self._keys.tenant_key(tenant_id, PURPOSE)
                    self._keys.destroy_tenant_key(tenant_id)
                else:
                    self._keys.account_key(tenant_id, account_id, PURPOSE)
                    self._keys.destroy_account_key(tenant_id, account_id)
                destroyed += 1
        return destroyed

    def apply(self, installation: Installation) -> Applied:
        """Nothing of it is left in the databases of `installation`, as `storage.ending` leaves nothing."""
        applied = Applied()
        control = installation.control
        known = {row.tenant_id: row for row in control.tenants()}
        over = {(row.tenant_id, row.account_id) for row in control.endings.all() if row.finished is not None}
        for tenant_id, account_id in self:
            if tenant_id not in known or (tenant_id, account_id) in over:
                continue  # of after the backup, or of before
            if account_id is None:
                applied.tenants += known[tenant_id].state is not State.ENDED
            elif (tenant_id, None) not in self._found and known[tenant_id].state is not State.ENDED:
                with suppress(NotFound):
                    installation.tenant(tenant_id).account(account_id)
                    applied.accounts += 1
            self._apply(installation, tenant_id, account_id)
        store = Certificates(installation.data)
        there = {each.certificate_id for each in store.all()}
        for certificate_id, document in self._documents.items():
            if certificate_id not in there:
                store.keep(document, pages(document))
        return applied

    def _apply(self, installation: Installation, tenant_id: TenantId, account_id: AccountId | None) -> None:
        with installation.control.database.reading() as connection:
            accounts = tuple(row[0] for row in _LOGINS.rows(connection, tenant=tenant_id))
        installation.control.endings.erased(tenant_id, account_id, self._certified((tenant_id, account_id)))
        scope = scope_of(installation, tenant_id, account_id)
        if account_id is not None and (tenant_id, None) not in self._found:
            scope.fence()
        scope.remove_rows(Sought("", (), accounts=accounts))

    def _certified(self, owner: Owner) -> Certified | None:
        certificate = self._found[owner]
        if certificate is None:
            return None
        steps = {each.step: each.at for each in certificate.steps}
        return Certified(
            certificate.certificate_id, certificate.begun, certificate.finished, certificate.ordered_by, steps
        )

"""One request under way: who asks, what it works with, and the accounts that it holds open until it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress

from hosting.dav.errors import needs
from hosting.dav.reach import Reach
from hosting.dav.request import DavRequest
from hosting.dav.resources import Person, Resource, Share, href
from hosting.dav.services import DavServices
from storage.collections.values import CollectionId
from storage.directory.rows import AccountRow, State
from storage.directory.tenant import Tenant
from storage.errors import InvalidInput, NotFound
from storage.mail.account import Account
from storage.mail.quota import Limits
from storage.values import AccountId, EmailAddress


class Context:
    def __init__(self, services: DavServices, request: DavRequest) -> None:
        self.services = services
        self.request = request
        self.principal = request.principal
        self.now = int(services.clock.now())
        self.read_only = self.principal.is_read_only(self.now)
        self.me = Person(self.principal.tenant_id, self.principal.account_id, self.principal.login)
        self._held = ExitStack()
        self._accounts: dict[AccountId, Account] = {}
        self._rows: dict[AccountId, AccountRow] = {}
        self._shares: Sequence[Share] | None = None
        self._locks: dict[AccountId, bool] = {}

    def close(self) -> None:
        """Let go of the accounts; may be called again."""
        self._accounts.clear()
        self._held.close()

    @property
    def tenant(self) -> Tenant:
        return self.services.installation.tenant(self.principal.tenant_id)

    def account(self, account_id: AccountId) -> Account:
        """An account of the tenant, open until the request is answered. May block."""
        found = self._accounts.get(account_id)
        if found is None:
            principal = self.principal
            if account_id == principal.account_id:
                limits = Limits(principal.quota_bytes, principal.quota_messages)
            else:
                row = self.row(account_id)
                limits = Limits(row.quota_bytes, row.quota_messages)
            lease = self.services.installation.account(principal.tenant_id, account_id, limits=limits)
            found = self._accounts[account_id] = self._held.enter_context(lease)
        return found

    def has_locks(self, account: Account) -> bool:
        """Whether anything in it is locked at all, asked once in a request."""
        found = self._locks.get(account.account_id)
        if found is None:
            found = self._locks[account.account_id] = account.locks.has_any()
        return found

    @property
    def shares(self) -> Sequence[Share]:
        """What others share with who asks."""
        if self._shares is None:
            self._shares = self.services.shares.of_sharee(self.me.tenant_id, self.me.account_id)
        return self._shares

    def shares_of(self, owner: Person, collection_id: CollectionId) -> Sequence[Share]:
        """With whom a collection is shared."""
        return self.services.shares.of_collection(owner.tenant_id, owner.account_id, collection_id)

    @property
    def principal_href(self) -> bytes:
        """Of who asks."""
        return href(self.me.segments, is_collection=True)

    # Principals: the accounts of the tenant, and no others

    def row(self, account_id: AccountId) -> AccountRow:
        """What the directory says of an account of the tenant. Raises NotFound."""
        found = self._rows.get(account_id)
        if found is None:
            found = self._rows[account_id] = self.tenant.account(account_id)
        return found

    def person(self, account_id: AccountId) -> Person:
        """Raises NotFound."""
        if account_id == self.me.account_id:
            return self.me
        return self._person(self.row(account_id))

    def person_named(self, login: str) -> Person | None:
        """The account of the tenant that a path or an address names: its primary address, or an alias of its own.

        None for everybody else, whether of another tenant or of nobody.
        """
        if login == self.me.login:
            return self.me
        with suppress(InvalidInput, NotFound):
            address = EmailAddress.parse(login)
            tenant = self.tenant
            entry = tenant.addresses.find(address.key)
            if entry is not None and len(entry.targets) == 1 and isinstance(entry.targets[0], int):
                row = self.row(AccountId(entry.targets[0]))
                if row.state is not State.ENDED:
                    return self._person(row)
        return None

    def people(self) -> list[Person]:
        """Every account of the tenant that is in use."""
        found = []
        for row in self.tenant.accounts():
            self._rows[row.account_id] = row
            if row.state is State.ACTIVE:
                found.append(self._person(row))
        return found

    def _person(self, row: AccountRow) -> Person:
        if row.account_id == self.me.account_id:
            return self.me
        return Person(self.principal.tenant_id, row.account_id, str(row.login))

    def name_of(self, person: Person) -> str:
        """For people: the account's name, else its address."""
        return self.row(person.account_id).name or person.login

    # What may be done

    def require(self, resource: Resource, reach: Reach) -> None:
        """Raises Refused with DAV:need-privileges where who asks may not."""
        if reach not in resource.reach:
            raise needs(resource.href, reach & ~resource.reach)

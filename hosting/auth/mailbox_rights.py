"""Who may do what with others' mailboxes, as the IMAP role asks for it: it holds no key of a tenant's directory.

`DirectoryRights` is for those who may open directories: the auth role itself, a server of one process, commands.
`RemoteRights` asks the auth role for the same. Every change is durable on return, and told to every process. Names are
addresses of accounts of the tenant, or "anyone"; nobody else exists.

Raises: NotFound (no such account), InvalidInput, LimitReached, Unavailable.
Standards: RFC 4314 §2 (identifiers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from hosting.auth.frames import Fields
from hosting.auth.messages import number, text
from storage.changes import RightsChanged
from storage.directory.mailbox_rights import ANYONE, How, MailboxRights, RightsRow, SharedRow
from storage.directory.rows import State
from storage.errors import InvalidInput, NotFound, Unavailable
from storage.installation import Installation
from storage.values import AccountId, EmailAddress, MailboxId, TenantId

EVERYBODY: Final = "anyone"  # the identifier of RFC 4314 §2
_MADE_MAX: Final = 1000
_HOWS: Final[dict[str, How]] = {"replace": "replace", "add": "add", "remove": "remove"}


@dataclass(frozen=True, slots=True)
class Who:
    """An identifier of an access control list."""

    id: AccountId  # ANYONE: everybody
    name: str = field(repr=False)  # the account's primary address, or "anyone"


class RightsDirectory(Protocol):
    """The access control lists of all tenants. Blocking."""

    def shared_with(self, tenant_id: TenantId, account_id: AccountId) -> Sequence[SharedRow]:
        """See `MailboxRights.shared_with`."""
        ...

    def of_mailbox(self, tenant_id: TenantId, owner_id: AccountId, mailbox_id: MailboxId) -> Sequence[RightsRow]:
        """See `MailboxRights.of_mailbox`."""
        ...

    def find(self, tenant_id: TenantId, name: str) -> Who:
        """By an address that is the account's own, or "anyone"."""
        ...

    def login(self, tenant_id: TenantId, account_id: AccountId) -> str:
        """The primary address of an account."""
        ...

    def change(
        self,
        tenant_id: TenantId,
        owner_id: AccountId,
        mailbox_id: MailboxId,
        identifier: AccountId,
        how: How,
        rights: str,
    ) -> tuple[str, str]:
        """See `MailboxRights.change`."""
        ...

    def inherit(self, tenant_id: TenantId, owner_id: AccountId, above: MailboxId, made: Sequence[MailboxId]) -> None:
        """See `MailboxRights.inherit`."""
        ...

    def remove_mailbox(self, tenant_id: TenantId, owner_id: AccountId, mailbox_id: MailboxId) -> None:
        """See `MailboxRights.remove_mailbox`."""
        ...


class DirectoryRights:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def _rows(self, tenant_id: TenantId) -> MailboxRights:
        return self._installation.tenant(tenant_id).mailbox_rights

    def shared_with(self, tenant_id: TenantId, account_id: AccountId) -> Sequence[SharedRow]:
        return self._rows(tenant_id).shared_with(account_id)

    def of_mailbox(self, tenant_id: TenantId, owner_id: AccountId, mailbox_id: MailboxId) -> Sequence[RightsRow]:
        return self._rows(tenant_id).of_mailbox(owner_id, mailbox_id)

    def find(self, tenant_id: TenantId, name: str) -> Who:
        if name == EVERYBODY:
            return Who(AccountId(ANYONE), EVERYBODY)
        try:
            address = EmailAddress.parse(name)
        except InvalidInput:
            raise NotFound("There is no such account.") from None
        tenant = self._installation.tenant(tenant_id)
        entry = tenant.addresses.find(address.key)
        if entry is None or len(entry.targets) != 1 or not isinstance(entry.targets[0], int):
            raise NotFound("There is no such account.")
        row = tenant.account(AccountId(entry.targets[0]))
        if row.state is State.ENDED:
            raise NotFound("There is no such account.")
        return Who(row.account_id, str(row.login))

    def login(self, tenant_id: TenantId, account_id: AccountId) -> str:
        return str(self._installation.tenant(tenant_id).account(account_id).login)

    def change(
        self,
        tenant_id: TenantId,
        owner_id: AccountId,
        mailbox_id: MailboxId,
        identifier: AccountId,
        how: How,
        rights: str,
    ) -> tuple[str, str]:
        before, after = self._rows(tenant_id).change(owner_id, mailbox_id, identifier, how, rights)
        if before != after:
            self._installation.announce(RightsChanged(tenant_id, owner_id))
        return before, after

    def inherit(self, tenant_id: TenantId, owner_id: AccountId, above: MailboxId, made: Sequence[MailboxId]) -> None:
        if self._rows(tenant_id).inherit(owner_id, above, made):
            self._installation.announce(RightsChanged(tenant_id, owner_id))

    def remove_mailbox(self, tenant_id: TenantId, owner_id: AccountId, mailbox_id: MailboxId) -> None:
        if self._rows(tenant_id).remove_mailbox(owner_id, mailbox_id):
            self._installation.announce(RightsChanged(tenant_id, owner_id))


class RemoteRights:
    def __init__(self, ask: Callable[[Fields], Fields]) -> None:
        """`ask` of `hosting.auth.client.AuthClient`."""
        self._ask = ask

    def shared_with(self, tenant_id: TenantId, account_id: AccountId) -> Sequence[SharedRow]:
        return _listed(self._ask({"op": "mailboxes_shared", "tenant": tenant_id, "account": account_id}), SharedRow)

    def of_mailbox(self, tenant_id: TenantId, owner_id: AccountId, mailbox_id: MailboxId) -> Sequence[RightsRow]:
        return _listed(self._ask({"op": "mailbox_rights", **_scope(tenant_id, owner_id, mailbox_id)}), RightsRow)

    def find(self, tenant_id: TenantId, name: str) -> Who:
        found = self._ask({"op": "mailbox_identifier", "tenant": tenant_id, "name": name})
        return Who(AccountId(number(found, "id")), text(found, "name"))

    def login(self, tenant_id: TenantId, account_id: AccountId) -> str:
        return text(self._ask({"op": "mailbox_owner", "tenant": tenant_id, "account": account_id}), "login")

    def change(
        self,
        tenant_id: TenantId,
        owner_id: AccountId,
        mailbox_id: MailboxId,
        identifier: AccountId,
        how: How,
        rights: str,
    ) -> tuple[str, str]:
        asked = {"identifier": identifier, "how": how, "rights": rights}
        done = self._ask({"op": "change_mailbox_rights", **_scope(tenant_id, owner_id, mailbox_id), **asked})
        return text(done, "before"), text(done, "after")

    def inherit(self, tenant_id: TenantId, owner_id: AccountId, above: MailboxId, made: Sequence[MailboxId]) -> None:
        self._ask({"op": "inherit_mailbox_rights", **_scope(tenant_id, owner_id, above), "made": list(made)})

    def remove_mailbox(self, tenant_id: TenantId, owner_id: AccountId, mailbox_id: MailboxId) -> None:
        self._ask({"op": "remove_mailbox_rights", **_scope(tenant_id, owner_id, mailbox_id)})


class RightsRequests:
    """The auth role's side of `RemoteRights`: one operation for each of its methods."""

    def __init__(self, directory: RightsDirectory | None) -> None:
        self._asked = directory
        self.operations: dict[str, Callable[[Fields], Fields]] = {
            "mailboxes_shared": self._shared_with,
            "mailbox_rights": self._of_mailbox,
            "mailbox_identifier": self._find,
            "mailbox_owner": self._login,
            "change_mailbox_rights": self._change,
            "inherit_mailbox_rights": self._inherit,
            "remove_mailbox_rights": self._remove_mailbox,
        }

    @property
    def _directory(self) -> RightsDirectory:
        if self._asked is None:
            raise Unavailable(detail="no directory")
        return self._asked

    def _shared_with(self, fields: Fields) -> Fields:
        tenant_id, account_id = TenantId(number(fields, "tenant")), AccountId(number(fields, "account"))
        return {"rows": [asdict(row) for row in self._directory.shared_with(tenant_id, account_id)]}

    def _of_mailbox(self, fields: Fields) -> Fields:
        return {"rows": [asdict(row) for row in self._directory.of_mailbox(*_scope_of(fields))]}

    def _find(self, fields: Fields) -> Fields:
        return asdict(self._directory.find(TenantId(number(fields, "tenant")), text(fields, "name")))

    def _login(self, fields: Fields) -> Fields:
        tenant_id, account_id = TenantId(number(fields, "tenant")), AccountId(number(fields, "account"))
        return {"login": self._directory.login(tenant_id, account_id)}

    def _change(self, fields: Fields) -> Fields:
        how = _HOWS.get(text(fields, "how"))
        if how is None:
            raise InvalidInput("The field how is missing.")
        identifier = AccountId(number(fields, "identifier"))
        before, after = self._directory.change(*_scope_of(fields), identifier, how, text(fields, "rights"))
        return {"before": before, "after": after}

    def _inherit(self, fields: Fields) -> Fields:
        made = fields.get("made")
        if not isinstance(made, list) or len(made) > _MADE_MAX or not all(type(each) is int for each in made):
            raise InvalidInput("The field made is missing.")
        self._directory.inherit(*_scope_of(fields), [MailboxId(each) for each in made])
        return {}

    def _remove_mailbox(self, fields: Fields) -> Fields:
        self._directory.remove_mailbox(*_scope_of(fields))
        return {}


def _scope(tenant_id: TenantId, owner_id: AccountId, mailbox_id: MailboxId) -> Fields:
    return {"tenant": tenant_id, "owner": owner_id, "mailbox": mailbox_id}


def _scope_of(fields: Fields) -> tuple[TenantId, AccountId, MailboxId]:
    tenant_id, owner_id = TenantId(number(fields, "tenant")), AccountId(number(fields, "owner"))
    return tenant_id, owner_id, MailboxId(number(fields, "mailbox"))


def _listed(reply: Fields, row: Callable[..., Any]) -> list[Any]:
    """Rows as `asdict` wrote them."""
    rows = reply.get("rows")
    try:
        return [row(**each) for each in rows] if isinstance(rows, list) else []
    except TypeError:
        raise Unavailable(detail="auth reply") from None

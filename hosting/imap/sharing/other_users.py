"""Mailboxes of others: how they are called, what is shared with whom, and others' accounts that a session has open.

    Other Users/<login>/<mailbox>

`SharedMailboxes` is the worker's memory of what is shared with each account. The change feed has it forgotten, so a
change counts for the next command of every session. `Others` are the accounts that one session has open besides its
own: only while a command works with them, and the one in which its selected mailbox lies; never when the session is
closed.

Raises: NotFound (also of an owner who is suspended or gone), Unavailable.
Standards: RFC 2342 §5 (namespaces), RFC 4314 §2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from hosting.auth.mailbox_rights import RightsDirectory
from hosting.auth.signin import Principal
from hosting.imap.commands import Close, Command, Logout, Select, Unselect
from hosting.imap.effects import Flow, blocking
from hosting.imap.replies import NoLongerShared
from hosting.imap.selected import Selected
from hosting.imap.sharing import rights
from hosting.imap.shell.layer_grammar import Unauthenticate
from storage.errors import Gone, NotFound
from storage.installation import Installation
from storage.mail.account import Account
from storage.mail.names import SEPARATOR, canonical
from storage.mail.quota import Limits
from storage.values import AccountId, MailboxId, TenantId

ROOT: Final = "Other Users"
PREFIX: Final = ROOT + SEPARATOR
_KEPT: Final = 20_000  # accounts whose shared mailboxes a worker remembers
_KEPT_RIGHTS: Final = 200_000  # … and what all of them may do

_Key = tuple[TenantId, AccountId]


@dataclass(frozen=True, slots=True)
class Owner:
    """An account that shares mailboxes, as somebody sees it with whom it does."""

    account_id: AccountId
    login: str = field(repr=False)
    limits: Limits  # what it may store
    rights: Mapping[MailboxId, str]

    @property
    def root(self) -> str:
        return PREFIX + self.login

    def name_of(self, mailbox: str) -> str:
        """What the one with whom it is shared calls a mailbox."""
        return self.root + SEPARATOR + mailbox


@dataclass(frozen=True, slots=True)
class Shared:
    """Everything that others share with one account, by their ids."""

    owners: Mapping[AccountId, Owner] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of mailboxes."""
        return sum(len(owner.rights) for owner in self.owners.values())

    def rights(self, owner_id: AccountId, mailbox_id: MailboxId) -> str:
        owner = self.owners.get(owner_id)
        return owner.rights.get(mailbox_id, "") if owner is not None else ""

    def split(self, name: str) -> tuple[Owner, str] | None:
        """Whose name it is, and how he calls the mailbox: empty for the root of his names. None: nobody's.

        A login may have the separator in it; the longest that fits counts.
        """
        found: tuple[Owner, str] | None = None
        for owner in self.owners.values():
            if name != owner.root and not name.startswith(owner.root + SEPARATOR):
                continue
            if found is None or len(owner.login) > len(found[0].login):
                found = owner, canonical(name[len(owner.root) + 1 :])
        return found


class SharedMailboxes:
    """Confined to the event loop, but for `load`."""

    __slots__ = ("_known", "_of_tenant", "_rights", "_tellings", "directory")

    def __init__(self, directory: RightsDirectory) -> None:
        self.directory = directory
        self._known: OrderedDict[_Key, Shared] = OrderedDict()
        self._of_tenant: dict[TenantId, set[AccountId]] = {}  # who is known, so that forgetting looks at nobody else
        self._rights = 0  # how many are known
        self._tellings = 0  # how often something was forgotten

    def of(self, who: Principal) -> Flow[Shared]:
        """What others share with an account."""
        key = (who.tenant_id, who.account_id)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        tellings = self._tellings
        loaded = yield from blocking(lambda: self.load(*key))
        if tellings == self._tellings:  # else it may be older than what was told meanwhile
            self._keep(key, loaded)
        return loaded

    def _keep(self, key: _Key, loaded: Shared) -> None:
        before = self._known.pop(key, None)  # another command of the account asked at the same time
        self._known[key] = loaded
        self._of_tenant.setdefault(key[0], set()).add(key[1])
        self._rights += len(loaded) - (len(before) if before is not None else 0)
        while len(self._known) > _KEPT or (self._rights > _KEPT_RIGHTS and len(self._known) > 1):
            (tenant_id, account_id), oldest = self._known.popitem(last=False)
            self._of_tenant[tenant_id].discard(account_id)
            self._rights -= len(oldest)

    def __len__(self) -> int:
        return len(self._known)

    def load(self, tenant_id: TenantId, account_id: AccountId) -> Shared:
        """As it stands in the directory. Blocks."""
        owners: dict[AccountId, Owner] = {}
        given: dict[AccountId, dict[MailboxId, str]] = {}
        for row in self.directory.shared_with(tenant_id, account_id):
            mailboxes = given.setdefault(row.owner_id, {})
            mailboxes[row.mailbox_id] = rights.union(mailboxes.get(row.mailbox_id, ""), row.rights)
            if row.owner_id not in owners:
                limits = Limits(row.quota_bytes, row.quota_messages)
                owners[row.owner_id] = Owner(row.owner_id, row.owner_login, limits, mailboxes)
        return Shared(owners)

    def forget(self, tenant_id: TenantId | None = None) -> None:
        """Of a tenant, or everything, something may have changed."""
        self._tellings += 1
        if tenant_id is None:
            self._known.clear()
            self._of_tenant.clear()
            self._rights = 0
        else:
            for account_id in self._of_tenant.pop(tenant_id, ()):
                self._rights -= len(self._known.pop((tenant_id, account_id)))


_LEAVING = (Select, Close, Unselect, Logout, Unauthenticate)


def counted(shared: SharedMailboxes, who: Principal, selected: Selected, command: Command) -> Flow[None]:
    """Before a command of a session that has another's mailbox selected: what its user may do there now.

    Raises NoLongerShared, unless the command leaves the mailbox. Standards: RFC 4314 §5.1.1.
    """
    granted = (yield from shared.of(who)).rights(selected.account.account_id, selected.mailbox_id)
    if granted == selected.rights:
        return
    selected.rights = granted
    if "r" not in granted:
        if not isinstance(command, _LEAVING):
            raise NoLongerShared
        return
    yield selected.flags_response()
    if not (selected.read_only or rights.is_read_write(granted)):
        selected.read_only = True  # until it is selected anew, whatever is granted meanwhile
        yield b"* OK [READ-ONLY] Its owner lets you read only.\r\n"


class Others:
    """The accounts of others that one session has open."""

    __slots__ = ("_open", "told")

    def __init__(self) -> None:
        self._open: dict[AccountId, tuple[AbstractContextManager[Account], Account]] = {}
        self.told: set[tuple[AccountId, MailboxId]] = set()  # openings of which there is an access event

    def account(self, installation: Installation, tenant_id: TenantId, owner: Owner) -> Flow[Account]:
        """An owner's account, open until `let_go`."""
        held = self._open.get(owner.account_id)
        if held is None:
            lease = installation.account(tenant_id, owner.account_id, limits=owner.limits)
            try:
                account = yield from blocking(lease.__enter__)
            except Gone:
                raise NotFound("There is no such mailbox.") from None
            held = self._open[owner.account_id] = (lease, account)
        return held[1]

    def let_go(self, but: Account | None = None) -> None:
        """Of all accounts, except perhaps one."""
        for account_id in list(self._open):
            if but is None or self._open[account_id][1] is not but:
                lease, _ = self._open.pop(account_id)
                lease.__exit__(None, None, None)

    def __len__(self) -> int:
        return len(self._open)

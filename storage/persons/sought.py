"""Whom a report, a correction or an erasure is about: an address, what it is here, and where it is looked for.

An address may be an account of somebody here, an alias that leads to it alone, or a stranger's. A report on an account
covers all addresses that are that account's alone. Limited to one customer, nothing of another is looked at or told.

Raises: InvalidInput, NotFound, Unavailable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from storage.directory.rows import AccountRow, State, TenantRow
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.persons.whose import owner
from storage.values import AccountId, EmailAddress, TenantId

_IN_NAMES = re.escape("!#$%&'*/?^`{|}~")  # RFC 5322 §3.2.3; after = an address begins anew (SRS, BATV)


@dataclass
class Sought:
    installation: Installation
    address: EmailAddress
    tenants: list[TenantRow]  # where it is looked for
    only: TenantId | None  # the one customer that this is limited to
    tenant_id: TenantId | None = None  # of the account
    account: AccountRow | None = None  # whose address it is
    staff: str = ""  # the name that the person signs in with, if he works here
    transcripts_key: bytes | None = field(default=None, repr=False)
    secrecy_at: int = 0
    unreadable: list[str] = field(default_factory=list)

    @property
    def account_id(self) -> AccountId | None:
        return None if self.account is None else self.account.account_id

    @property
    def mark(self) -> str:
        """What tells requests about this person from others where his address must not stand."""
        return self.installation.control.login_hash(str(self.address)).hex()[:16]

    @property
    def addresses(self) -> list[EmailAddress]:
        """All that are this person's alone."""
        if self.account is None or self.tenant_id is None:
            return [self.address]
        found = {self.account.login.key: self.account.login, self.address.key: self.address}
        for alias in self.installation.tenant(self.tenant_id).addresses.aliases():
            if not alias.catch_all and alias.accounts == (self.account.account_id,) and not alias.addresses:
                address = EmailAddress.parse(alias.address)
                found.setdefault(address.key, address)
        return list(found.values())

    def namer(self) -> Callable[[str], bool]:
        """Whether a text names one of the addresses."""
        sought = "|".join(re.escape(key) for key in sorted({str(each).casefold() for each in self.addresses}))
        # Not the end of a longer name (o'neill@ is not neill@), nor the beginning of a longer domain.
        pattern = re.compile(rf"(?<![\w.+-])(?<!\w[{_IN_NAMES}])(?:{sought})(?![\w-]|\.\w)")
        return lambda text: pattern.search(text.casefold()) is not None

    def in_scope(self, tenant_id: TenantId | int | None) -> bool:
        return self.only is None or tenant_id == self.only

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """What cannot be read is said in the report, and the rest is collected."""
        try:
            yield
        except CleanmailError as error:
            self.unreadable.append(f"{what}: {error.public}")

    def living(self) -> Iterator[TenantRow]:
        return (row for row in self.tenants if row.state is not State.ENDED)


def seek(installation: Installation, address: EmailAddress, only: TenantId | None = None, staff: str = "") -> Sought:
    """`only`: nothing but this customer is looked at."""
    control = installation.control
    tenants = control.tenants() if only is None else [control.tenant(only)]
    sought = Sought(installation, address, tenants, only, staff=staff, secrecy_at=installation.clock.now())
    try:
        found = owner(installation, address)
        if found is not None and sought.in_scope(found.tenant_id):
            tenant_id = TenantId(found.tenant_id)
            sought.account = installation.tenant(tenant_id).account(AccountId(found.account_id))
            sought.tenant_id = tenant_id
    except (NotFound, Gone):
        pass
    return sought

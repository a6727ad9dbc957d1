"""One run of the command line: which installation, how to print, and the way to its stores.

Keys come from the auth role's socket if a server runs, else from the key store itself (`hosting.composition`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import typer

from hosting import composition
from hosting.auth.persons import person_of
from hosting.cli.output import Output
from hosting.composition import Administration
from hosting.config import Config, load
from hosting.roles import privileges
from storage.directory.rows import AccountRow, TenantRow
from storage.errors import InvalidInput, NotFound
from storage.keys.source import KeySource
from storage.values import EmailAddress


@dataclass
class Invocation:
    data: Path
    config_path: Path
    output: Output
    # The Unix user whom audit records name; found out before the process gives up its rights.
    operator: str = field(default_factory=lambda: person_of().name)

    @cached_property
    def config(self) -> Config:
        return load(self.config_path)

    @contextmanager
    def administration(self) -> Iterator[Administration]:
        """The stores, while the context lasts."""
        privileges.become_owner(self.data)
        with composition.administration(self.data, self.config) as administration:
            yield administration

    @contextmanager
    def keys(self) -> Iterator[KeySource]:
        """The keys alone, while the context lasts; no database is opened."""
        privileges.become_owner(self.data)
        with composition.key_source(self.data, self.config) as keys:
            yield keys


def of(context: typer.Context) -> Invocation:
    """The run that a command belongs to."""
    invocation = context.obj
    assert isinstance(invocation, Invocation)
    return invocation


@dataclass(frozen=True, slots=True)
class Whose:
    """An account with its tenant."""

    tenant: TenantRow
    account: AccountRow


def find_account(administration: Administration, address: str) -> Whose:
    """By its primary address. Raises NotFound."""
    parsed = EmailAddress.parse(address)
    domain = administration.control.domain(parsed.domain)
    tenant = administration.control.tenant(domain.tenant_id)
    return Whose(tenant, administration.installation.tenant(tenant.tenant_id).account_by_address(parsed))


def find_tenant(administration: Administration, name: str) -> TenantRow:
    """By its short name or its number."""
    if name.isdecimal():
        found = [tenant for tenant in administration.control.tenants() if tenant.tenant_id == int(name)]
        if found:
            return found[0]
    try:
        return administration.control.tenant_by_slug(name)
    except InvalidInput:
        raise NotFound(f"There is no tenant '{name[:80]}'.") from None

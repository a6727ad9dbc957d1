"""One run of the command line: which installation, how to print, who runs it, and the way to its stores.

`begin` is where a command is allowed or refused, before it does anything; what it may reach afterwards is narrowed for
an administrator of a tenant. Keys come from the auth role's socket if a server runs, else from the key store itself
(`hosting.composition`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import typer

from hosting import composition
from hosting.access import own, session_file
from hosting.access.actions import FOR_EVERYBODY, OF_PROVIDERS, ROLES, Action, action_of
from hosting.access.decide import may, permits, roles_in_force
from hosting.access.identity import Premises
from hosting.access.roles import StaffRole, Who
from hosting.administration import Administration
from hosting.auth.persons import Person, person_of
from hosting.cli.output import Output
from hosting.config import Config, load
from hosting.roles import privileges
from storage.directory.rows import AccountRow, State, TenantRow
from storage.errors import InvalidInput, NotFound, NotPermitted
from storage.keys.source import KeySource
from storage.values import EmailAddress, TenantId


@dataclass
class Invocation:
    data: Path
    config_path: Path
    output: Output
    # Whom audit records name: who signed in, else the Unix user, found out before the process gives up its rights.
    operator: str = field(default_factory=lambda: person_of().name)
    person: Person = field(default_factory=person_of, repr=False)
    _known: Who | None = None
    _door: ExitStack = field(default_factory=ExitStack, repr=False)
    _opened: Administration | None = None
    _role: str = ""  # in which he runs it: for audit records

    @cached_property
    def config(self) -> Config:
        """Raises NotPermitted for a file that the person could have written himself, while he acts as root."""
        if os.geteuid() == 0 and self.person.uid != 0 and self.config_path.exists():
            owners = {0} | ({self.data.stat().st_uid} - {self.person.uid} if self.data.exists() else set())
            found = self.config_path.stat()
            if found.st_uid not in owners or found.st_mode & 0o022:
                raise NotPermitted(f"{self.config_path} is not root's or the server's alone: it says who may do what.")
        return load(self.config_path)

    @property
    def who(self) -> Who:
        """Who runs the command, as far as that was asked for: not for commands that anybody may run."""
        assert self._known is not None
        return self._known

    @property
    def known(self) -> Who | None:
        """Who runs the command, if that was asked for."""
        return self._known

    def begin(self, command: str) -> None:
        """From here on audit records name the person. Raises NotPermitted unless he may run the command.

        Reviews are decided at their desk, so that a reviewer's process needs no keys for this question.
        """
        action = action_of(command)
        if action in FOR_EVERYBODY or action is Action.REVIEW:
            return
        reaches = self._reaches
        if not reaches:
            raise NotPermitted(f"{self.data} is for root and the user that the server runs as.")
        if not composition.is_initialised(self.data):
            return  # there is nothing yet that could be somebody's
        if action is Action.MACHINE and self._runs_the_machine():
            return  # also where no database can be opened
        who = self.identify()
        may(who, action)
        in_force = roles_in_force(who) & ROLES[action]
        self._role = next((role.value for role in StaffRole if role in in_force), "")
        if command in OF_PROVIDERS and who.tenant_id is not None:
            raise NotPermitted("At the command line this is for the provider's people.")
        if self._opened is not None:
            self._narrow(self._opened)

    def close(self) -> None:
        """What the question of who runs the command has opened."""
        self._opened = None
        self._door.close()

    def _runs_the_machine(self) -> bool:
        server = self.person.name in composition.server_users(self.data, self.config)
        who = Who(self.operator, frozenset(), machine=True, root=self.person.uid == 0, server=server)
        return permits(who, Action.MACHINE)

    def identify(self) -> Who:
        """Finds out who runs the command, of an installation that is there; audit records name him from here on."""
        self._known = self._identify(self._reaches)
        self.operator = self._known.name
        return self._known

    @property
    def _reaches(self) -> bool:
        """Whether this process could read the keys."""
        return not self.data.exists() or os.access(self.data, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)

    def _identify(self, machine: bool) -> Who:
        token = session_file.read(self.data, self.person.uid)
        with privileges.acting_as_owner(self.data, wholly=True):
            self._opened = self._door.enter_context(composition.administration(self.data, self.config))
            users = composition.server_users(self.data, self.config)
            premises = Premises(self._opened.control, self.config.staff, users, self.config.logs.auditors)
            who = premises.by_token(self.person, token, machine=machine)
            if StaffRole.OPERATOR in who.roles:
                premises.remember()
            return who

    def _narrow(self, administration: Administration) -> None:
        administration.installation.acting_as = self._role
        if self._known is not None and self._known.tenant_id is not None:
            own.narrow(administration.installation, self._known.tenant_id)

    @contextmanager
    def administration(self) -> Iterator[Administration]:
        """The stores, while the context lasts."""
        privileges.become_owner(self.data)
        opened, self._opened = self._opened, None
        if opened is not None:
            with self._door.pop_all():
                yield opened
            return
        with composition.administration(self.data, self.config) as administration:
            self._narrow(administration)
            yield administration

    @contextmanager
    def keys(self) -> Iterator[KeySource]:
        """The keys alone, while the context lasts; no database is opened."""
        self.close()
        if self._known is not None and self._known.tenant_id is not None:
            raise NotPermitted("This needs keys of the whole installation.")
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


def living_tenants(administration: Administration, name: str | None) -> list[TenantRow]:
    """The one of that name, or all whose contract has not ended: of those that have, nothing can be opened."""
    if name:
        return [find_tenant(administration, name)]
    return [row for row in administration.control.tenants() if row.state is not State.ENDED]


def find_tenant(administration: Administration, name: str) -> TenantRow:
    """By its short name or its number."""
    if name.isdecimal():
        with suppress(NotFound):
            return administration.control.tenant(TenantId(int(name)))
    try:
        return administration.control.tenant_by_slug(name)
    except InvalidInput:
        raise NotFound(f"There is no tenant '{name[:80]}'.") from None

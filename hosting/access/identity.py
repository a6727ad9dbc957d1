"""Who somebody is: a member of staff who signed in, or the Unix user whom the kernel names, with the roles of either.

While nobody was staff and [staff] unix is empty, whoever can read the keys is an operator. Afterwards Unix users have
the roles that [staff] unix gives them; root and the user that the server runs as go on as operators, so that scripts
work, unless [staff] required demands a session of everybody. That there were roles once is remembered in control.db:
who names another configuration, or loses it, is no operator because it says nothing of people.

Raises: NotPermitted (see `hosting.auth.persons`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from hosting.access.actions import Action
from hosting.access.decide import may
from hosting.access.roles import StaffRole, Who, parse_roles
from hosting.auth.persons import Person
from hosting.config import Staff as Settings
from storage.directory.control import Control
from storage.directory.staff import StaffMember
from storage.errors import InvalidInput, NotPermitted

# A reviewer is who has an agreement in force besides (`hosting.access.decide`).
_AS_EVER = frozenset({StaffRole.OPERATOR, StaffRole.REVIEWER})


@dataclass(frozen=True, slots=True)
class Premises:
    """What is known of the installation and the machine, for finding out who somebody is."""

    control: Control
    settings: Settings
    server_users: Collection[str]  # whom the server's own processes belong to
    auditors: Collection[str] = ()  # [logs] auditors

    def remember(self) -> None:
        """To be called by a server, and for an operator: if there are roles now, there were for good."""
        if self.settings.unix or self.control.staff.exist():
            self.control.marks.use_roles()

    def by_token(self, person: Person, token: str, *, machine: bool) -> Who:
        """For who shows the token of a session; empty, if there is none."""
        idle = int(self.settings.session_idle)
        member = self.control.staff.session(token, person.uid, idle) if token else None
        return self.unix(person, machine=machine) if member is None else self._member(member, person, machine=machine)

    def by_kernel(self, person: Person) -> list[Who]:
        """For a process of which only the Unix user is known: he himself, and who signed in as him, if anybody."""
        members = self.control.staff.signed_in_as(person.uid, int(self.settings.session_idle))
        return [
            self.unix(person, machine=False),
            *(self._member(member, person, machine=False) for member in members),
        ]

    def check(self, person: Person, action: Action) -> Who:
        """The one of those that `by_kernel` finds who may do it, who signed in first. Raises NotPermitted."""
        candidates = self.by_kernel(person)
        for who in candidates[1:]:
            try:
                may(who, action)
            except NotPermitted:
                continue
            return who
        may(candidates[0], action)
        return candidates[0]

    def unix(self, person: Person, *, machine: bool) -> Who:
        """The Unix user without a session."""
        people = self.control.staff.exist()
        known = Who(
            person.name,
            frozenset(),
            unix=person.name,
            must_sign_in=people and self.settings.required,
            machine=machine,
            root=person.uid == 0,
            server=person.name in self.server_users,
            agreed=self.control.agreements.in_force(person.name) is not None,
            named_auditor=person.name in self.auditors,
        )
        if person.name in self.settings.unix:
            return replace(known, roles=parse_roles(self.settings.unix[person.name].split()))
        if known.root or known.server:
            return replace(known, roles=_AS_EVER)
        if not (people or self.settings.unix or self.control.marks.roles_are_in_use()):
            return replace(known, roles=_AS_EVER)
        return replace(known, roles=frozenset({StaffRole.REVIEWER}))

    def _member(self, member: StaffMember, person: Person, *, machine: bool) -> Who:
        in_force = self.control.agreements.in_force
        return Who(
            member.name,
            _roles(member),
            member.tenant_id,
            unix=person.name,
            signed_in=True,
            machine=machine,
            root=person.uid == 0,
            server=person.name in self.server_users,
            agreed=in_force(member.name) is not None or in_force(person.name) is not None,
            named_auditor=person.name in self.auditors,
        )


def _roles(member: StaffMember) -> frozenset[StaffRole]:
    try:
        return parse_roles(member.roles)
    except InvalidInput:  # of a later version of the program
        return frozenset(role for role in StaffRole if role in member.roles and role is not StaffRole.OPERATOR)

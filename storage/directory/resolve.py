"""Where an address leads, and which addresses an account may send as.

Under a verified domain of a tenant an address is looked for in this order: exact (an account's own address, or an
alias), without its subaddress (user+tag), the domain's catch-all; then postmaster and abuse, which always resolve: to
what the tenant's setting `postmaster` names, else to the operator's address, else to the tenant's first account. A
domain whose route leads to the tenant's own server is that server's: all of it, or (mode split) what nobody has here.
Postmaster and abuse of this server's own name are the operator's, else the first account's of the oldest tenant.
Targets are followed through aliases, also into other tenants of this installation; an address that was met already adds
nothing, so a cycle that the checks at the alias's making could not see (an account deleted later) loses no mail and no
time.

Who sends needs a straighter way: `may_send_as` never leaves the tenant, and a catch-all counts only if it was granted.

Raises: LimitReached, Unavailable.
Standards: RFC 5233 (subaddress), RFC 5321 §4.5.1 (postmaster), RFC 2142 §4, §5 (abuse).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from storage.directory.addresses import ALIAS, Entry, Target, catch_all_key
from storage.directory.control import Control
from storage.directory.routes import Mode
from storage.directory.rows import DomainState, State
from storage.directory.tenant import Tenant
from storage.directory.terms import Intake
from storage.errors import Gone, InvalidInput, LimitReached, NotFound, Unavailable
from storage.values import AccountId, Domain, EmailAddress, TenantId

EXPANSIONS_MAX = 1000  # addresses followed for one recipient
ROLES = frozenset({"postmaster", "abuse"})
POSTMASTER_SETTING = "postmaster"


class Directory(Protocol):
    """What resolution and sign-in read: control.db and the tenants' databases."""

    @property
    def control(self) -> Control: ...

    def tenant(self, tenant_id: TenantId) -> Tenant:
        """Raises NotFound, or Gone if the tenant's contract has ended."""
        ...


class Outcome(Enum):
    LOCAL = "local"  # it leads to mailboxes here, to servers of tenants, to addresses elsewhere, or several of them
    UNKNOWN = "unknown"  # the domain is ours, and nobody is there
    ELSEWHERE = "elsewhere"  # the domain is not ours, or not verified
    SUSPENDED = "suspended"  # the domain's tenant is
    ENDED = "ended"


class Route(Enum):
    """By which rule the address itself was found."""

    ACCOUNT = "account"
    ALIAS = "alias"
    SUBADDRESS = "subaddress"
    CATCH_ALL = "catch-all"
    ROLE = "role"
    SERVER = "server"  # the domain's route leads to the tenant's own server
    RETURN = "return"  # a rewritten reverse-path that comes back (SRS)


@dataclass(frozen=True, slots=True)
class LocalMailbox:
    """Whose mailbox it is; `state` is the account's, or its tenant's where that is not active.

    `intake` is what the tenant's contract says of new mail.
    """

    tenant_id: TenantId
    account_id: AccountId
    state: State
    intake: Intake = Intake.OPEN


@dataclass(frozen=True, slots=True)
class RoutedAddress:
    """An address at a tenant's own server, as the route of `domain` names it."""

    address: EmailAddress
    domain: Domain
    tenant_id: TenantId


@dataclass(frozen=True, slots=True)
class Resolution:
    """`mailboxes`, `external` and `routed` hold each destination once, in the order of the aliases' targets.

    `tenant_id` is whose address it is; of a suspended tenant the destinations are known as well.
    """

    outcome: Outcome
    tenant_id: TenantId | None = None
    route: Route | None = None
    mailboxes: tuple[LocalMailbox, ...] = ()
    external: tuple[EmailAddress, ...] = ()
    tag: str = ""  # the subaddress
    routed: tuple[RoutedAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    route: Route
    entry: Entry
    tag: str = ""


@dataclass(slots=True)
class _Expansion:
    """What one resolution has met so far."""

    seen: set[tuple[TenantId, str]] = field(default_factory=set)
    mailboxes: dict[tuple[TenantId, AccountId], LocalMailbox] = field(default_factory=dict)
    external: dict[str, EmailAddress] = field(default_factory=dict)
    routed: dict[str, RoutedAddress] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether it has led anywhere."""
        return bool(self.mailboxes or self.external or self.routed)

    def resolution(self, outcome: Outcome, tenant_id: TenantId, route: Route, tag: str = "") -> Resolution:
        return Resolution(
            outcome if self else Outcome.UNKNOWN,
            tenant_id,
            route,
            tuple(self.mailboxes.values()),
            tuple(self.external.values()),
            tag,
            tuple(self.routed.values()),
        )


class Resolver:
    def __init__(
        self, directory: Directory, postmaster: EmailAddress | None = None, host: Domain | None = None
    ) -> None:
        """`postmaster` is the operator's address, `host` the name of this server."""
        self._directory = directory
        self._postmaster = postmaster
        self._host = host

    def resolve(self, address: EmailAddress) -> Resolution:
        """Where mail to `address` goes."""
        return self._resolve(address, by_route=True)

    def resolve_here(self, address: EmailAddress) -> Resolution:
        """As if the domain had no route: where postmaster and abuse lead if the tenant's server doesn't take them."""
        return self._resolve(address, by_route=False)

    def is_ours(self, domain: Domain) -> bool:
        """Whether it is a verified domain of this installation, or this server's own name."""
        return domain == self._host or self._verified_tenant(domain) is not None

    def owner(self, domain: Domain) -> TenantId | None:
        """Whose a verified domain is, unless that tenant has ended; the server's own name is the oldest tenant's."""
        if domain == self._host:
            return next(self._directory.control.active_tenant_ids(), None)
        tenant_id = self._verified_tenant(domain)
        ended = tenant_id is not None and self._directory.control.tenant_state(tenant_id)[0] is State.ENDED
        return None if ended else tenant_id

    def _resolve(self, address: EmailAddress, *, by_route: bool) -> Resolution:
        tenant_id = self._verified_tenant(address.domain)
        if tenant_id is None:
            return self._of_this_server(address) if address.domain == self._host else Resolution(Outcome.ELSEWHERE)
        state, _ = self._directory.control.tenant_state(tenant_id)
        if state is State.ENDED:
            return Resolution(Outcome.ENDED, tenant_id)
        tenant = self._open(tenant_id)
        if tenant is None:  # it ended this moment
            return Resolution(Outcome.ENDED, tenant_id)
        outcome = Outcome.LOCAL if state is State.ACTIVE else Outcome.SUSPENDED
        resolution = Resolution(Outcome.UNKNOWN, tenant_id)
        for met in self._meets(tenant, address, by_route=by_route):
            expansion = _Expansion()
            if isinstance(met, RoutedAddress):
                expansion.routed[met.address.key] = met
                return expansion.resolution(outcome, tenant_id, Route.SERVER)
            self._follow(tenant, met.entry, expansion)
            resolution = expansion.resolution(outcome, tenant_id, met.route, met.tag)
            if expansion:
                break
        return resolution

    def _of_this_server(self, address: EmailAddress) -> Resolution:
        """Postmaster and abuse of the server's own name (RFC 5321 §4.5.1: a bare postmaster, too)."""
        if not is_role(address):
            return Resolution(Outcome.UNKNOWN)
        owner: TenantId | None = None
        for tenant_id in self._directory.control.active_tenant_ids():
            try:
                tenant = self._directory.tenant(tenant_id)
            except (NotFound, Gone):
                continue
            owner = tenant_id if owner is None else owner
            first = tenant.first_account()
            candidates: list[Target] = [] if self._postmaster is None else [self._postmaster]
            candidates += [] if first is None else [first]
            for target in candidates:
                expansion = _Expansion()
                self._follow(tenant, Entry(address.key, ALIAS, (target,)), expansion)
                if expansion:
                    return expansion.resolution(Outcome.LOCAL, owner, Route.ROLE)
        return Resolution(Outcome.UNKNOWN)

    def may_send_as(self, tenant_id: TenantId, account_id: AccountId, address: EmailAddress) -> bool:
        """Whether it is the account's: own, an alias that leads to it, a subaddress of these, a granted catch-all."""
        if self._verified_tenant(address.domain) != tenant_id:
            return False
        if self._directory.control.tenant_state(tenant_id)[0] is not State.ACTIVE:
            return False
        tenant = self._open(tenant_id)
        if tenant is None:
            return False
        try:
            account = tenant.account(account_id)
        except NotFound:
            return False
        found = find(tenant, address)
        if found is None or account.state is not State.ACTIVE:
            return False
        if found.route is Route.CATCH_ALL and not account.catch_all_sender:
            return False
        return self._leads_to(tenant, found.entry, account_id)

    def _open(self, tenant_id: TenantId) -> Tenant | None:
        """None if it has ended. One whose folder or key is missing has not: nobody may hear that it takes no mail."""
        try:
            return self._directory.tenant(tenant_id)
        except Gone:
            return None
        except NotFound:
            raise Unavailable(detail=f"tenant {tenant_id}: its folder or its key is missing") from None

    def _verified_tenant(self, domain: Domain) -> TenantId | None:
        row = self._directory.control.find_domain(domain)
        return row.tenant_id if row is not None and row.state is DomainState.VERIFIED else None

    def _meets(
        self, tenant: Tenant, address: EmailAddress, *, by_route: bool = True
    ) -> Iterator[Found | RoutedAddress]:
        """What an address meets in its tenant; what follows counts if the one before leads nowhere."""
        route = tenant.routes.find(address.domain) if by_route else None
        found = find(tenant, address)
        if route is not None and route.leads_out:
            # What nobody has here is the server's, so a catch-all has nothing to catch.
            here = route.mode is Mode.SPLIT and found is not None and found.route is not Route.CATCH_ALL
            if not here:
                yield RoutedAddress(address, address.domain, tenant.tenant_id)
                return
        if found is not None:
            yield found
        if is_role(address):
            for target in self._role_targets(tenant):
                yield Found(Route.ROLE, Entry(address.key, ALIAS, (target,)))

    def _role_targets(self, tenant: Tenant) -> Iterator[Target]:
        setting = tenant.setting(POSTMASTER_SETTING)
        if setting is not None:
            with suppress(InvalidInput):  # a setting that is broken must not cost the postmaster his mail
                yield EmailAddress.parse(setting)
        if self._postmaster is not None:
            yield self._postmaster
        first = tenant.first_account()
        if first is not None:
            yield first

    def _follow(self, tenant: Tenant, entry: Entry, expansion: _Expansion) -> None:
        """Depth first, so that destinations come in the order in which people wrote the targets."""
        expansion.seen.add((tenant.tenant_id, entry.key))
        waiting: list[tuple[Tenant, Target]] = [(tenant, target) for target in reversed(entry.targets)]
        while waiting:
            tenant, target = waiting.pop()
            if not isinstance(target, EmailAddress):
                self._reach(tenant, target, expansion)
                continue
            met = self._step(target, expansion)
            if met is not None:
                waiting.extend((met[0], following) for following in reversed(met[1].targets))

    def _step(self, address: EmailAddress, expansion: _Expansion) -> tuple[Tenant, Entry] | None:
        """What a target leads on to; None if it ends here: elsewhere, nowhere, or met before."""
        tenant_id = self._verified_tenant(address.domain)
        if tenant_id is None:
            if address.domain == self._host:  # it would come back to us, and nobody lives there
                return None
            expansion.external.setdefault(address.key, address)
            return None
        tenant = self._open(tenant_id)
        if tenant is None:
            return None
        met = next(self._meets(tenant, address), None)
        if isinstance(met, RoutedAddress):
            expansion.routed.setdefault(address.key, met)
            return None
        if met is None or (tenant_id, met.entry.key) in expansion.seen:
            return None
        expansion.seen.add((tenant_id, met.entry.key))
        if len(expansion.seen) > EXPANSIONS_MAX:
            raise LimitReached("The address leads through too many others.")
        return tenant, met.entry

    def _reach(self, tenant: Tenant, account_id: AccountId, expansion: _Expansion) -> None:
        try:
            state = tenant.account(account_id).state
        except NotFound:
            return
        if state is State.ENDED:
            return
        tenant_state, _ = self._directory.control.tenant_state(tenant.tenant_id)
        if tenant_state is not State.ACTIVE:
            state = tenant_state
        intake = self._directory.control.contracts.intake(tenant.tenant_id)
        mailbox = LocalMailbox(tenant.tenant_id, account_id, state, intake)
        expansion.mailboxes.setdefault((tenant.tenant_id, account_id), mailbox)

    def _leads_to(self, tenant: Tenant, entry: Entry, account_id: AccountId) -> bool:
        waiting, seen = [entry], {entry.key}
        while waiting and len(seen) <= EXPANSIONS_MAX:
            for target in waiting.pop().targets:
                if not isinstance(target, EmailAddress):
                    if target == account_id:
                        return True
                elif self._verified_tenant(target.domain) == tenant.tenant_id:
                    found = find(tenant, target)
                    # Behind an alias a catch-all grants nothing: whoever it leads to was not named by anybody.
                    if found and found.route is not Route.CATCH_ALL and found.entry.key not in seen:
                        seen.add(found.entry.key)
                        waiting.append(found.entry)
        return False


def is_role(address: EmailAddress) -> bool:
    """Whether it is a postmaster's or an abuse desk's, of whatever domain."""
    return address.base.local.casefold() in ROLES


def find(tenant: Tenant, address: EmailAddress, also: Entry | None = None) -> Found | None:
    """The entry that `address` meets in its tenant, by the order of the rules; `also` stands in the table as well."""
    base = address.base
    for route, key in (
        (Route.ACCOUNT, address.key),
        (Route.SUBADDRESS, base.key),
        (Route.CATCH_ALL, catch_all_key(address.domain)),
    ):
        if route is Route.SUBADDRESS and base == address:
            continue
        entry = also if also is not None and also.key == key else tenant.addresses.find(key)
        if entry is None:
            continue
        by = Route.ALIAS if route is Route.ACCOUNT and entry.kind == ALIAS else route
        return Found(by, entry, address.local[len(base.local) + 1 :] if route is Route.SUBADDRESS else "")
    return None


def leads_back(directory: Directory, tenant_id: TenantId, entry: Entry) -> bool:
    """Whether `entry`, once it stands in the tenant, would lead to itself, through whichever tenants.

    Pending domains count as verified: they will be. Raises LimitReached.
    """
    waiting: list[Sequence[Target]] = [entry.targets]
    seen: set[tuple[TenantId, str]] = set()
    while waiting:
        if len(seen) > EXPANSIONS_MAX:
            raise LimitReached("The alias would lead through too many addresses.")
        for target in waiting.pop():
            if not isinstance(target, EmailAddress):
                continue
            domain = directory.control.find_domain(target.domain)
            if domain is None:
                continue
            try:
                tenant = directory.tenant(domain.tenant_id)
            except (NotFound, Gone):
                continue
            ours = domain.tenant_id == tenant_id
            found = find(tenant, target, entry if ours else None)
            if found is None:
                continue
            if ours and found.entry.key == entry.key:
                return True
            mark = (domain.tenant_id, found.entry.key)
            if mark not in seen:
                seen.add(mark)
                waiting.append(found.entry.targets)
    return False

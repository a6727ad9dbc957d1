"""Whether mail for a recipient is taken, as far as it can be said without asking another server. Blocking.

An address that is not ours is refused, never relayed. A look-up that failed for any reason is temporary: nobody hears
that an address does not exist because a database could not be opened. Rewritten paths that come back (SRS) lead to the
original senders.

Raises: Unavailable and other temporary errors of storage.
Standards: RFC 5321 §3.3, §3.6.2 (relaying), RFC 3463 (status codes), RFC 1870 §6.1 (announced sizes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.acceptance.targets import FULL, NOT_NOW, Suspended, refusal
from gateway.mx.srs import Rewriting, is_rewritten
from gateway.relay.outcome import OwnServer, TlsDemand
from gateway.smtp.replies import SmtpReply
from storage.directory.resolve import LocalMailbox, Outcome, Resolution, Resolver, Route, RoutedAddress
from storage.directory.routes import Route as MailRoute
from storage.directory.rows import State
from storage.directory.terms import Intake
from storage.errors import Busy, CleanmailError, Gone, NotFound, Unavailable
from storage.installation import Installation
from storage.values import EmailAddress, TenantId

NOT_OURS = SmtpReply(550, "5.7.1", "Relaying is not permitted; this server takes no mail for that domain")
NO_WAY_BACK = SmtpReply(550, "5.1.1", "The rewritten address is not valid, or not any more")

_STEPS = 16  # looks into tenants' databases, of some 20 microseconds each, that the event loop may take itself

SUSPENDED_SETTING = "suspended_mail"  # of a tenant: take or defer, in place of the installation's


@dataclass(frozen=True, slots=True)
class Asked:
    """A server of a tenant that has to be asked whether it takes mail for an address."""

    routed: RoutedAddress
    server: OwnServer


@dataclass(frozen=True, slots=True)
class LookedUp:
    """`refusal` is None if the recipient is taken, once those of `ask` have taken it."""

    resolution: Resolution
    refusal: SmtpReply | None = None
    ask: tuple[Asked, ...] = ()


class Recipients:
    def __init__(self, installation: Installation, resolver: Resolver, suspended: Suspended = Suspended.TAKE) -> None:
        self._installation = installation
        self._resolver = resolver
        self._suspended = suspended

    def look_up(self, address: EmailAddress, size: int) -> LookedUp:
        """`size` is what the sender announced; 0 if nothing."""
        try:
            original = self._original(address)
            resolution = self._resolver.resolve(original)
            if resolution.outcome is Outcome.ELSEWHERE and original != address:
                whose = self._resolver.owner(address.domain)
                resolution = Resolution(Outcome.LOCAL, whose, Route.RETURN, external=(original,))
            elif is_rewritten(original) and resolution.route in {Route.CATCH_ALL, None}:
                return LookedUp(resolution, NO_WAY_BACK if resolution.tenant_id is not None else NOT_OURS)
            return self._judge(resolution, size)
        except CleanmailError as error:
            if error.temporary:
                raise
            raise Unavailable(detail=f"recipient look-up: {type(error).__name__}") from None

    def look_up_at_once(self, address: EmailAddress, size: int) -> LookedUp | None:
        """`look_up` if it takes some reads of what is open already; None: it belongs into a thread.

        For the event loop. A thread that does the same reads takes five times as long while the loop is busy.
        """
        try:
            with self._installation.at_hand(_STEPS):
                return self.look_up(address, size)
        except Busy:
            return None

    def without_route(self, address: EmailAddress, size: int) -> LookedUp:
        """For postmaster and abuse that the tenant's own server does not take: they always lead to somebody."""
        return self._judge(self._resolver.resolve_here(address), size)

    def rewriting(self, tenant_id: TenantId) -> Rewriting:
        """How the tenant's aliases rewrite reverse-paths today."""
        srs = self._installation.tenant(tenant_id).srs
        return Rewriting(srs.key, srs, self._installation.clock.now() // 86_400)

    def is_ours(self, address: EmailAddress) -> bool:
        return self._resolver.is_ours(address.domain)

    # Inside

    def _original(self, address: EmailAddress) -> EmailAddress:
        """Whom a path that we rewrote stands for, however often we did; any other address is what it is."""
        while is_rewritten(address):
            whose = self._resolver.owner(address.domain)
            back = self.rewriting(whose).back(address) if whose is not None else None
            if back is None:
                break
            address = back
        return address

    def _judge(self, resolution: Resolution, size: int) -> LookedUp:
        if resolution.outcome is Outcome.ELSEWHERE:
            return LookedUp(resolution, NOT_OURS)
        refused = refusal(resolution, Suspended.TAKE)
        # The operator's mailbox reads postmaster's mail of a suspended tenant all the same (RFC 5321 §4.5.1).
        if refused is None and resolution.outcome is Outcome.SUSPENDED and resolution.route is not Route.ROLE:
            refused = NOT_NOW if self._suspended_mail(resolution.tenant_id) is Suspended.DEFER else None
        if refused is not None:
            return LookedUp(resolution, refused)
        taking = replace(resolution, mailboxes=tuple(filter(self._takes_mail, resolution.mailboxes)))
        if not taking.external and not taking.routed:
            if not taking.mailboxes:
                return LookedUp(resolution, NOT_NOW)
            if self._all_full(taking, size):
                return LookedUp(resolution, FULL)
        return LookedUp(taking, None, self._to_ask(taking))

    def _takes_mail(self, mailbox: LocalMailbox) -> bool:
        if mailbox.intake is not Intake.OPEN:
            return False
        if mailbox.state is State.SUSPENDED:
            return self._suspended_mail(mailbox.tenant_id) is Suspended.TAKE
        return mailbox.state is State.ACTIVE

    def _suspended_mail(self, tenant_id: TenantId | None) -> Suspended:
        """What happens to mail of suspended accounts of this tenant."""
        setting = None if tenant_id is None else self._installation.tenant(tenant_id).setting(SUSPENDED_SETTING)
        return next((policy for policy in Suspended if policy.value == setting), self._suspended)

    def _all_full(self, resolution: Resolution, size: int) -> bool:
        """Whether none of the mailboxes has room: what is left must hold the announced size, or one octet."""
        for mailbox in resolution.mailboxes:
            try:
                row = self._installation.tenant(mailbox.tenant_id).account(mailbox.account_id)
            except (NotFound, Gone):
                continue
            if not row.quota_bytes and not row.quota_messages:
                return False
            with self._installation.account(mailbox.tenant_id, mailbox.account_id) as account:
                used = account.usage()
            octets_left = not row.quota_bytes or used.bytes + max(size, 1) <= row.quota_bytes
            if octets_left and (not row.quota_messages or used.messages < row.quota_messages):
                return False
        return True

    def _to_ask(self, resolution: Resolution) -> tuple[Asked, ...]:
        asked = []
        for routed in resolution.routed:
            route = self._installation.tenant(routed.tenant_id).routes.find(routed.domain)
            if route is not None and route.leads_out and route.verify:
                asked.append(Asked(routed, own_server(route)))
        return tuple(asked)


def own_server(route: MailRoute) -> OwnServer:
    """Where a route leads, as the SMTP client takes it."""
    return OwnServer(route.host, route.port, TlsDemand(route.tls.value))

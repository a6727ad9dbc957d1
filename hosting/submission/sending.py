"""What an account may send now: refuses what is too much for now, and freezes an account that suddenly sends masses.

Blocking: for worker threads. When an account is frozen, its queue is held, the operator's log and the metrics say so
with ids only, and the postmasters of its tenant and of this installation find a message that names it. Of two messages
that freeze it at the same moment each may tell.

Raises: Refused, Unavailable.
Standards: RFC 5321 §4.2.3, RFC 3463 §3.8 (4.7.1, 5.7.1).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from gateway.dsn import parts
from gateway.dsn.report import Sending as Written
from gateway.dsn.report import envelope_fields
from gateway.smtp.replies import Refused, SmtpReply
from hosting.auth.signin import Principal
from storage.directory.resolve import Resolver
from storage.errors import CleanmailError, InvalidInput
from storage.installation import Installation
from storage.queue.entries import EnvelopeParameters, NewEntry, NewRecipient, Origin, RecipientParameters, new_queue_id
from storage.sending import Ruling, Sending
from storage.values import EmailAddress, TenantId

log = logging.getLogger(__name__)

FROZEN = SmtpReply(550, "5.7.1", "Sending from this account is stopped; ask your provider")
_LATER = {
    Ruling.LATER_ACCOUNT: SmtpReply(450, "4.7.1", "This account has sent as much as it may for now; try again later"),
    Ruling.LATER_TENANT: SmtpReply(450, "4.7.1", "Your organisation has sent as much as it may for now; try later"),
}

_NOTICE_TIME = 5 * 86_400  # seconds that a notice is tried
_NEVER = RecipientParameters(("NEVER",))


class SendingGate:
    def __init__(self, installation: Installation, resolver: Resolver, sending: Sending, hostname: str) -> None:
        self._installation = installation
        self._resolver = resolver
        self._sending = sending
        self._hostname = hostname
        self.frozen = 0  # accounts that were frozen here, for the metrics

    def check(self, principal: Principal, recipients: int) -> None:
        """Raises Refused unless the account may send to so many recipients elsewhere now; 0: may send at all."""
        ruling = self._sending.admit(principal.tenant_id, principal.account_id, recipients)
        if ruling is Ruling.FREEZE:
            self._freeze(principal, recipients)
        if ruling in {Ruling.FREEZE, Ruling.FROZEN}:
            raise Refused(FROZEN)
        if ruling in _LATER:
            log.info("account %d of tenant %d has to wait: %s", principal.account_id, principal.tenant_id, ruling.value)
            raise Refused(_LATER[ruling])

    def _freeze(self, principal: Principal, recipients: int) -> None:
        tenant_id, account_id = principal.tenant_id, principal.account_id
        reason = f"sent to unusually many recipients within an hour (the last message: {recipients})"
        if not self._sending.freeze(tenant_id, account_id, reason):
            return
        self.frozen += 1
        log.warning("account %d of tenant %d is frozen: %d recipients more", account_id, tenant_id, recipients)
        try:
            self._installation.queue.enqueue(list(self._notices(principal, recipients)))
        except CleanmailError as error:  # it is frozen all the same
            log.error("account %d: nobody could be told: %s", account_id, error.detail or type(error).__name__)

    def _notices(self, principal: Principal, recipients: int) -> Iterator[NewEntry]:
        account = EmailAddress.parse(principal.login)
        told: set[tuple[TenantId, str]] = set()
        for to in (EmailAddress("postmaster", account.domain), self._operator()):
            if to is None:
                continue
            found = self._resolver.resolve(to)
            places = [(box.tenant_id, NewRecipient(to, box.account_id, _NEVER)) for box in found.mailboxes]
            places += [(principal.tenant_id, NewRecipient(address, None, _NEVER)) for address in found.external]
            for tenant_id, recipient in places:
                place = (tenant_id, str(recipient.account_id or recipient.address))
                if place not in told:  # the operator may be the tenant's postmaster too
                    told.add(place)
                    yield self._notice(tenant_id, recipient, account, recipients)

    def _operator(self) -> EmailAddress | None:
        try:
            return EmailAddress.parse(f"postmaster@{self._hostname}")
        except InvalidInput:  # a host without a domain, in test set-ups
            return None

    def _notice(self, tenant_id: TenantId, recipient: NewRecipient, account: EmailAddress, recipients: int) -> NewEntry:
        clock = self._installation.clock
        written = Written(new_queue_id(clock), self._hostname, clock.now(), recipient.address)
        paragraphs = [
            f"This is the mail system at {self._hostname}.",
            parts.wrapped(
                f"The account {parts.one_line(str(account))} has tried to send to unusually many recipients within an"
                f" hour (its last message had {recipients}). It may not send until somebody has looked into it, and"
                " what it has in the queue is held."
            ),
            parts.wrapped(
                "Perhaps its password is known to somebody else: then set a new one, and drop what is not its owner's"
                " from the queue. To let it send again, and the held messages with it:"
            ),
            f"  cleanmail account unfreeze {parts.one_line(str(account))} --reason TEXT",
        ]
        head = envelope_fields(written, "An account was stopped: it sent unusually much", "auto-generated")
        head += (
            "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        )
        return NewEntry(
            written.queue_id,
            tenant_id,
            None,
            Origin.NOTICE,
            None,
            EnvelopeParameters(smtputf8=not account.is_ascii or not recipient.address.is_ascii, body="8BITMIME"),
            (recipient,),
            clock.now() + _NOTICE_TIME,
            head.encode() + parts.text(paragraphs),
        )

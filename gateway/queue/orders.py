"""Reads from storage what an attempt needs: the entry, its content, and where it is to go now. Blocking.

Routes are looked up at the time of the attempt, so a route that was changed counts for what waits already. Where a
route is gone its recipients go on from their addresses, as if they came in now: to mailboxes here, another server,
another address, or back to the sender.

Raises: NotFound (settled meanwhile), Gone (the tenant's contract ended), Corrupt, Unavailable and others of storage.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.acceptance.local import DELIVERED, attempt_here, said
from gateway.dsn.addressed import recipients
from gateway.dsn.parts import header_of
from gateway.mx.recipients import own_server
from gateway.mx.srs import Rewriting
from gateway.queue.attempt import Attempted, Ending, deferred, failed
from gateway.queue.settlement import Settlement, expired
from gateway.queue.transactions import Transaction, transactions
from gateway.relay.outcome import NextHop, OwnServer
from storage.directory.resolve import Outcome, Resolver
from storage.directory.rows import State
from storage.errors import CleanmailError, Corrupt, Gone, NotFound
from storage.installation import Installation
from storage.queue.entries import (
    LOCAL,
    ROUTED,
    Entry,
    NewEntry,
    NewRecipient,
    Origin,
    Recipient,
    RecipientState,
    Reply,
    new_queue_id,
)
from storage.values import Domain, EmailAddress, TenantId

log = logging.getLogger(__name__)

_UNREADABLE = Reply(0, "4.3.0", "The message cannot be read at this moment.")
_NOBODY = Reply(0, "5.1.1", "There is no such mailbox any more.")
_ENDED = Reply(0, "5.2.1", "The mailbox takes no mail any more.")
_REDIRECTED = Reply(0, "2.1.5", "Its domain's mail goes another way now; it was sent on.")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be relayed. `header` are the fields of the message, for reports."""

    entry: Entry
    hop: NextHop
    transactions: tuple[Transaction, ...]
    header: bytes = field(repr=False)
    size: int


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing is left to be relayed: it was delivered here, given up, sent another way, or is no longer there."""

    queued: tuple[NewEntry, ...] = ()  # because of it


@dataclass(frozen=True, slots=True)
class Large:
    size: int


class Orders:
    def __init__(
        self,
        installation: Installation,
        resolver: Resolver,
        settlement: Settlement,
        author: Callable[[Entry, bytes], Domain | None],
    ) -> None:
        """`author` gives the domain that a message may be signed for."""
        self._installation = installation
        self._queue = installation.queue
        self._clock = installation.clock
        self._resolver = resolver
        self._settlement = settlement
        self._author = author

    def take(self, queue_id: str, destination: str, at_most: int) -> Order | Settled | Large:
        """What is to be done for an entry at a destination. What can be done here is done, and settled.

        Nothing is done for an entry of more than `at_most` octets.
        """
        now = self._clock.now()
        entry = self._queue.show(queue_id, destination=destination)
        self._check_not_ended(entry.tenant_id)
        due = tuple(r for r in entry.recipients if r.state is RecipientState.QUEUED and r.next_attempt <= now)
        if now >= entry.expires:
            return self._expire(entry, tuple(r for r in entry.recipients if r.state is RecipientState.QUEUED))
        if not due:
            return Settled()
        if entry.size > at_most:
            return Large(entry.size)
        try:
            content = self._content(entry)
        except Corrupt:  # the operator has an alarm; the sender hears of it at the end
            return self._settled(entry, b"", [deferred(recipient, _UNREADABLE) for recipient in due])
        if destination == LOCAL:
            return self._deliver(entry, due, content)
        header = header_of(content)
        if not destination.startswith(ROUTED):
            return self._order(entry, Domain(destination), due, content, header)
        server = self._server(entry.tenant_id, Domain(destination.removeprefix(ROUTED)))
        if server is None:
            return self._redirect(entry, due, content, header)
        return self._order(entry, server, due, content, header)

    def take_together(
        self, wanted: Sequence[tuple[str, str]], *, at_most: int
    ) -> list[Order | Settled | Large | Exception]:
        """`take` for several entries and destinations; for each what it gave, or what was wrong."""
        taken: list[Order | Settled | Large | Exception] = []
        for queue_id, destination in wanted:
            try:
                taken.append(self.take(queue_id, destination, at_most))
            except Exception as error:  # noqa: BLE001 - it is its own entry's
                taken.append(error)
        return taken

    def expire(self, queue_id: str, busy: frozenset[str]) -> Settled:
        """Gives up what waits of an entry whose time is over, but for the destinations that are just being tried."""
        entry = self._queue.show(queue_id)
        self._check_not_ended(entry.tenant_id)
        waiting = tuple(r for r in entry.recipients if r.state is RecipientState.QUEUED and r.destination not in busy)
        return self._expire(entry, waiting) if self._clock.now() >= entry.expires else Settled()

    def deliver(self, follow_up: NewEntry) -> Settled:
        """What was just queued, to its mailboxes here."""
        entry = self._queue.show(follow_up.queue_id, destination=LOCAL)
        self._check_not_ended(entry.tenant_id)
        waiting = tuple(r for r in entry.recipients if r.state is RecipientState.QUEUED)
        return self._deliver(entry, waiting, follow_up.content) if waiting else Settled()

    def _check_not_ended(self, tenant_id: TenantId) -> None:
        """What an ended tenant has in the queue is withdrawn, and nobody is told: nothing may fail of it."""
        if self._installation.control.tenant_state(tenant_id)[0] is State.ENDED:
            raise Gone("The tenant's contract has ended.")

    def _server(self, tenant_id: TenantId, domain: Domain) -> OwnServer | None:
        """The server that the tenant's route of the domain names; None: there is no such route now."""
        route = self._installation.tenant(tenant_id).routes.find(domain)
        return own_server(route) if route is not None and route.leads_out else None

    def _order(self, entry: Entry, hop: NextHop, due: tuple[Recipient, ...], content: bytes, header: bytes) -> Order:
        author = self._author(entry, content)
        return Order(entry, hop, tuple(transactions(entry, due, content, author)), header, len(content))

    def _deliver(self, entry: Entry, due: tuple[Recipient, ...], content: bytes) -> Settled:
        errors: Mapping[int, CleanmailError | None] = attempt_here(self._installation, entry, content=content)
        attempts = [_delivered(recipient, errors[recipient.position]) for recipient in due]
        return self._settled(entry, header_of(content), attempts)

    def _expire(self, entry: Entry, waiting: tuple[Recipient, ...]) -> Settled:
        if not waiting:
            return Settled()
        try:
            header = header_of(self._content(entry))
        except Corrupt:
            header = b""
        return self._settled(entry, header, [expired(self._with_reason(recipient)) for recipient in waiting])

    def _with_reason(self, recipient: Recipient) -> Recipient:
        """One that was never tried since its destination did not answer has the destination's reply."""
        if recipient.reply is not None:
            return recipient
        state = self._queue.destination_state(recipient.destination)
        return recipient if state is None else replace(recipient, reply=state.reply)

    def _content(self, entry: Entry) -> bytes:
        """Raises NotFound if the entry is gone, Corrupt if only its file is."""
        try:
            return self._queue.content(entry)
        except NotFound:
            self._queue.show(entry.queue_id, destination="")
            log.error("entry %s: its content is missing", entry.queue_id)
            raise Corrupt(detail=f"queue {entry.queue_id}: no content") from None

    def _redirect(self, entry: Entry, due: tuple[Recipient, ...], content: bytes, header: bytes) -> Settled:
        """The route is gone: the recipients go where their addresses lead now."""
        attempts: list[Attempted] = []
        by_tenant: dict[TenantId, list[NewRecipient]] = {}
        for recipient in due:
            resolution = self._resolver.resolve(recipient.address)
            found = recipients(resolution, recipient.address, entry.tenant_id, recipient.parameters)
            for tenant_id, addressed in found.items():
                by_tenant.setdefault(tenant_id, []).extend(self._forwarded(entry, each) for each in addressed)
            if found:
                attempts.append(Attempted(recipient, Ending.RELAYED, _REDIRECTED, passed_on=True))
            else:
                attempts.append(failed(recipient, _ENDED if resolution.outcome is Outcome.ENDED else _NOBODY))
        entries = [
            NewEntry(
                new_queue_id(self._clock),
                tenant_id,
                entry.account_id if tenant_id == entry.tenant_id else None,
                entry.origin,
                entry.reverse_path,
                entry.parameters,
                tuple(addressed),
                entry.expires,
                content,
            )
            for tenant_id, addressed in by_tenant.items()
        ]
        return self._settled(entry, header, attempts, entries)

    def _forwarded(self, entry: Entry, recipient: NewRecipient) -> NewRecipient:
        """Mail from outside that an alias leads outside again gets a reverse-path of ours (SRS)."""
        parameters = recipient.parameters
        leaves = recipient.account_id is None and recipient.routed is None and parameters.original
        if entry.origin is not Origin.MX or entry.reverse_path is None or not leaves:
            return recipient
        domain = EmailAddress.parse(parameters.original).domain
        # The alias may be another tenant's, who led there: the way back is found with the key of its domain's tenant.
        srs = self._installation.tenant(self._resolver.owner(domain) or entry.tenant_id).srs
        path = Rewriting(srs.key, srs, self._clock.now() // 86_400).forward(entry.reverse_path, domain)
        return replace(recipient, parameters=replace(parameters, reverse_path=str(path)))

    def _settled(
        self, entry: Entry, header: bytes, attempts: list[Attempted], follow_ups: list[NewEntry] | None = None
    ) -> Settled:
        return Settled(tuple(self._settlement.record(entry, header, attempts, follow_ups=follow_ups or ())))


def _delivered(recipient: Recipient, error: CleanmailError | None) -> Attempted:
    if error is None:
        return Attempted(recipient, Ending.DELIVERED, DELIVERED)
    if isinstance(error, (Gone, NotFound)):
        return failed(recipient, _ENDED)
    return deferred(recipient, said(error))

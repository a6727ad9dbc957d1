"""Reminds customers of the end of their contract: the contact that was named, and the tenant's postmaster.

A reminder may be sent again at any time and after any crash, and arrives once: its id comes from the end, the number of
days and the reader. Into a mailbox here it is delivered once under that id, in the window before the end too; what
leaves is put into the queue on hold, and let go when it is noted that the reminder was sent. Blocking.

Raises: Unavailable and others of storage that are temporary: the next round goes on.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from gateway.acceptance.keep import Keeping, Message
from gateway.acceptance.targets import Suspended, Targets, targets
from gateway.dsn.report import Sending
from gateway.smtp.address import ForwardPath
from hosting.contracts.notice import EndOfContract, notice
from storage.directory.resolve import Outcome, Resolution, Resolver, Route
from storage.directory.rows import DomainState
from storage.directory.terms import DAY, Contract, Intake
from storage.errors import CleanmailError, NotFound, OverQuota
from storage.installation import Installation
from storage.keys.sealing import keyed_hash
from storage.queue.entries import EnvelopeParameters, Origin, new_queue_id
from storage.values import EmailAddress, TenantId

log = logging.getLogger("contracts")

CONTACT, ADMINISTRATORS = "contact", "administrators"


@dataclass(frozen=True, slots=True)
class _Reader:
    queue_id: str
    address: EmailAddress
    to: Targets


class Reminders:
    def __init__(self, installation: Installation, resolver: Resolver, days: Sequence[int], hostname: str) -> None:
        """`days` before the end on which reminders are sent."""
        self._installation = installation
        self._contracts = installation.control.contracts
        self._resolver = resolver
        self._days = sorted(set(days))
        self._hostname = hostname
        self._keeping = Keeping(installation, installation.traces)

    def due(self, contract: Contract) -> int:
        """Of how many days before the end a reminder has to be sent now; 0: none. Of several missed ones the last."""
        now = self._installation.clock.now()
        if contract.ends is None or contract.is_due(now):
            return 0
        days = next((days for days in self._days if contract.ends - now <= days * DAY), 0)
        return days if days and (not contract.reminded or days < contract.reminded) else 0

    def send_due(self, contract: Contract) -> int:
        """Sends the reminder that is due, and lets go what an interrupted run left on hold; to how many readers."""
        self._release(contract, contract.reminded)
        days = self.due(contract)
        if not days or contract.ends is None:
            return 0
        readers = list(self._readers(contract, days))
        for reader in readers:
            self._send(contract, reader)
        if not readers:
            log.error("the contract of tenant %d ends, and nobody can be told: it has no contact", contract.tenant_id)
        self._contracts.set_reminded(contract.tenant_id, contract.ends, days)
        self._release(contract, days)
        return len(readers)

    def send_now(self, contract: Contract) -> int:
        """Reminds whatever day it is, because somebody said so; to how many readers."""
        readers = [
            replace(reader, queue_id=new_queue_id(self._installation.clock)) for reader in self._readers(contract, 0)
        ]
        for reader in readers:
            self._send(contract, reader)
            with suppress(NotFound):
                self._installation.queue.release(reader.queue_id)
        return len(readers)

    def _release(self, contract: Contract, days: int) -> None:
        if days:
            for whom in (CONTACT, ADMINISTRATORS):
                with suppress(NotFound):  # it was let go before, or nothing left
                    self._installation.queue.release(self._id(contract, days, whom))

    def _id(self, contract: Contract, days: int, whom: str) -> str:
        """An id as a queue id is; of the same reminder always the same."""
        ends = contract.ends or 0
        text = f"contract {contract.tenant_id} {ends} {days} {whom}"
        octets = ((ends - days * DAY) * 1000).to_bytes(6, "big") + keyed_hash(b"reminder", text.encode())[:4]
        return base64.b32hexencode(octets).decode().lower()

    def _readers(self, contract: Contract, days: int) -> Iterator[_Reader]:
        contact = self._contracts.contact(contract.tenant_id)
        if contact is not None:
            resolution = self._resolver.resolve(contact)
            if resolution.outcome is Outcome.ELSEWHERE:
                whose = contract.tenant_id
                resolution = Resolution(Outcome.LOCAL, whose, Route.ALIAS, external=(contact,))
            yield from self._reader(contract, days, CONTACT, contact, resolution)
        postmaster = self._postmaster(contract.tenant_id)
        if postmaster is not None:
            resolution = self._resolver.resolve_here(postmaster)
            yield from self._reader(contract, days, ADMINISTRATORS, postmaster, resolution)

    def _reader(
        self, contract: Contract, days: int, whom: str, address: EmailAddress, resolution: Resolution
    ) -> Iterator[_Reader]:
        """None if it leads nowhere. What we say about the end is stored in the window before it all the same."""
        mailboxes = tuple(replace(mailbox, intake=Intake.OPEN) for mailbox in resolution.mailboxes)
        to = targets([(ForwardPath(address), replace(resolution, mailboxes=mailboxes))], Suspended.TAKE)
        if to.mailboxes or to.remote or to.routed:
            yield _Reader(self._id(contract, days, whom), address, to)

    def _postmaster(self, tenant_id: TenantId) -> EmailAddress | None:
        rows = self._installation.control.domains(tenant_id)
        domain = next((row.domain for row in rows if row.state is DomainState.VERIFIED), None)
        return None if domain is None else EmailAddress("postmaster", domain)

    def _send(self, contract: Contract, reader: _Reader) -> None:
        control, clock = self._installation.control, self._installation.clock
        end = EndOfContract(
            control.tenant(contract.tenant_id).slug,
            tuple(row.domain.unicode for row in control.domains(contract.tenant_id)),
            contract.ends or 0,
            contract.read_only_from or 0,
        )
        data = notice(Sending(reader.queue_id, self._hostname, clock.now(), reader.address), end)
        message = Message(
            reader.queue_id,
            Origin.NOTICE,
            None,
            None,
            EnvelopeParameters(smtputf8=not reader.address.is_ascii, body="7BIT" if data.isascii() else "8BITMIME"),
            data,
            lambda _: b"",
            facts={"origin": Origin.NOTICE.value},
        )
        for to in _steps(reader.to):
            try:
                if to.mailboxes:
                    self._keeping.keep(message, to)
                elif not self._is_queued(reader.queue_id):
                    self._keeping.keep(replace(message, held=True), to)
            except CleanmailError as error:
                if error.temporary and not isinstance(error, OverQuota):
                    raise
                log.warning(
                    "a reminder of tenant %d was not delivered: %s",
                    contract.tenant_id,
                    error.detail or type(error).__name__,
                )

    def _is_queued(self, queue_id: str) -> bool:
        try:
            self._installation.queue.show(queue_id)
        except NotFound:
            return False
        return True


def _steps(to: Targets) -> Iterator[Targets]:
    """Mailboxes one by one: each delivery is unique by itself; then all that leaves."""
    for each in to.mailboxes:
        yield Targets((each,))
    if to.remote or to.routed:
        yield replace(to, mailboxes=())

"""Turns what became of recipients into messages to be queued: reports to senders, notices to administrators.

Everything that a settlement calls for, in as few messages as there are audiences and kinds; nothing is queued here.
Each message is an entry of the tenant whose mailbox it is for, or of the reported entry's tenant if it leaves.

Blocking: addresses are resolved. Raises: Unavailable, LimitReached and others of resolution; then nobody was told.
Standards: RFC 3461 §6.1 (envelope of a report), RFC 5321 §4.5.1 (postmaster).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from gateway.dsn.addressed import recipients
from gateway.dsn.notice import notice
from gateway.dsn.report import About, Sending, Told, report
from gateway.dsn.rules import Audience, audience
from storage.clock import Clock
from storage.directory.control import Control
from storage.directory.resolve import Resolver
from storage.directory.rows import DomainState, State
from storage.errors import InvalidInput
from storage.logs.trace import TraceEvent, TraceKind
from storage.queue.entries import (
    Entry,
    EnvelopeParameters,
    NewEntry,
    NewRecipient,
    Origin,
    Recipient,
    RecipientParameters,
    new_queue_id,
)
from storage.values import Domain, EmailAddress, TenantId

_NEVER = RecipientParameters(("NEVER",))  # RFC 3461 §6.1: no report on a report
_FORGED = "the reverse-path is not known to be the sender's own"


@dataclass(frozen=True, slots=True)
class Case:
    """A recipient, and what there is to tell about it."""

    recipient: Recipient
    told: Told


@dataclass(slots=True)
class FollowUps:
    entries: list[NewEntry] = field(default_factory=list)
    events: list[TraceEvent] = field(default_factory=list)  # to be recorded when the entries are durable


class Telling:
    def __init__(self, resolver: Resolver, control: Control, clock: Clock, hostname: str, retry_time: int) -> None:
        """`retry_time`: seconds that a report is tried."""
        self._resolver = resolver
        self._control = control
        self._clock = clock
        self._hostname = hostname
        self._retry_time = retry_time

    def follow_ups(self, entry: Entry, header: bytes, cases: Iterable[Case]) -> FollowUps:
        """What `cases` of `entry`, whose header fields are `header`, call for."""
        made = FollowUps()
        by: dict[tuple[Audience, str], list[Case]] = {}
        for case in cases:
            action = case.told.action
            who = audience(entry, case.recipient, action)
            by.setdefault((who, "success" if action.is_success else action.value), []).append(case)
        about = About(entry.queue_id, entry.arrived, entry.parameters.envid, entry.parameters.smtputf8, header)
        for (who, _), these in by.items():
            match who:
                case Audience.SENDER:
                    self._report(entry, about, these, made)
                case Audience.ADMINISTRATORS:
                    made.events += self._events(entry, these, TraceKind.SUPPRESSED, {"reason": _FORGED})
                    self._notice(entry, about, these, made)
                case Audience.WITHHELD:
                    made.events += self._events(entry, these, TraceKind.SUPPRESSED, {"reason": _FORGED})
        return made

    def handed_over(self, entry: Entry, content: bytes, failed: Iterable[Recipient]) -> FollowUps:
        """A notice that the tenant's own server does not take goes to the mailboxes that are postmaster's here.

        What it is about failed there as well, as a rule, so nobody would hear of it otherwise.
        """
        made = FollowUps()
        for recipient in failed:
            to = recipient.address
            for mailbox in self._resolver.resolve_here(to).mailboxes:
                if mailbox.state is not State.ENDED:
                    addressed = [NewRecipient(to, mailbox.account_id, _NEVER)]
                    queue_id = new_queue_id(self._clock)
                    self._add(entry, queue_id, mailbox.tenant_id, addressed, entry.parameters, content, to, made)
        return made

    def _report(self, entry: Entry, about: About, cases: Sequence[Case], made: FollowUps) -> None:
        assert entry.reverse_path is not None
        to = entry.reverse_path
        told = [case.told for case in cases]
        where = recipients(self._resolver.resolve(to), to, entry.tenant_id, _NEVER)
        if not where and entry.origin is Origin.SUBMISSION and entry.account_id is not None:
            # The address is gone, or leads nowhere for now; whoever wrote the message has a mailbox all the same.
            where = {entry.tenant_id: [NewRecipient(to, entry.account_id, _NEVER)]}
        if not where:
            reason = "the reverse-path leads nowhere"
            made.events += self._events(entry, cases, TraceKind.SUPPRESSED, {"reason": reason})
        self._queue(entry, cases, to, where, partial(report, about=about, told=told), made)

    def _notice(self, entry: Entry, about: About, cases: Sequence[Case], made: FollowUps) -> None:
        assert entry.reverse_path is not None
        stranger = entry.reverse_path
        by_domain: dict[Domain, list[Case]] = {}
        for case in cases:
            domain = self._domain(entry.tenant_id, case)
            if domain is not None:
                by_domain.setdefault(domain, []).append(case)
        for domain, these in by_domain.items():
            to = EmailAddress("postmaster", domain)
            where = recipients(self._resolver.resolve(to), to, entry.tenant_id, _NEVER)
            build = partial(notice, about=about, reverse_path=stranger, told=[case.told for case in these])
            self._queue(entry, these, to, where, build, made)

    def _domain(self, tenant_id: TenantId, case: Case) -> Domain | None:
        """The domain of the tenant that a case concerns."""
        try:
            domain = EmailAddress.parse(case.told.address).domain
            row = self._control.find_domain(domain)
            if row is not None and row.tenant_id == tenant_id:
                return domain
        except InvalidInput:
            pass
        verified = [row.domain for row in self._control.domains(tenant_id) if row.state is DomainState.VERIFIED]
        return verified[0] if verified else None

    def _queue(
        self,
        entry: Entry,
        cases: Sequence[Case],
        to: EmailAddress,
        where: dict[TenantId, list[NewRecipient]],
        build: Callable[[Sending], bytes],
        made: FollowUps,
    ) -> None:
        now = self._clock.now()
        for tenant_id, addressed in where.items():
            queue_id = new_queue_id(self._clock)
            content = build(Sending(queue_id, self._hostname, now, to))
            utf8 = not to.is_ascii
            parameters = EnvelopeParameters(smtputf8=utf8, body="7BIT" if content.isascii() else "8BITMIME")
            made.events += self._events(entry, cases, TraceKind.NOTIFIED, {"to": str(to), "as": queue_id})
            self._add(entry, queue_id, tenant_id, addressed, parameters, content, to, made)

    def _add(
        self,
        about: Entry,
        queue_id: str,
        tenant_id: TenantId,
        addressed: Sequence[NewRecipient],
        parameters: EnvelopeParameters,
        content: bytes,
        to: EmailAddress,
        made: FollowUps,
    ) -> None:
        now = self._clock.now()
        made.entries.append(
            NewEntry(
                queue_id,
                tenant_id,
                None,
                Origin.NOTICE,
                None,
                parameters,
                tuple(addressed),
                now + self._retry_time,
                content,
            )
        )
        facts = {"origin": Origin.NOTICE.value, "about": about.queue_id, "size": str(len(content))}
        made.events.append(TraceEvent(now, queue_id, TraceKind.RECEIVED, tenant_id, None, "", str(to), facts))

    def _events(
        self, entry: Entry, cases: Sequence[Case], kind: TraceKind, details: dict[str, str]
    ) -> Iterator[TraceEvent]:
        now, sender = self._clock.now(), str(entry.reverse_path or "")
        for case in cases:
            about = {**details, "action": case.told.action.value}
            address = str(case.recipient.address)
            yield TraceEvent(now, entry.queue_id, kind, entry.tenant_id, entry.account_id, sender, address, about)

"""Takes a message from elsewhere for the recipients that were accepted. Blocking: for worker threads.

When `accept` returns, the message is durable for all of them (`gateway.acceptance.keep`). Aliases that lead outside
forward it under a reverse-path of their own domain (SRS), so that the next hop's SPF holds and bounces find back; the
tenant's own server always sees the original one, and so does whoever a bounce goes back to.

Raises: Refused (loops, headers beyond measure), StorageFull, Unavailable and others of delivery: nothing was kept.
Standards: RFC 5321 §4.4, §6.1, §6.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.acceptance.border import without_border
from gateway.acceptance.keep import Keeping, Message
from gateway.acceptance.targets import RemoteTarget, Suspended, Targets, targets
from gateway.mx.header import Client, authentication_results, check_loops, read_arriving_header, received
from gateway.mx.recipients import Recipients
from gateway.mx.sender import SenderFacts
from gateway.smtp.address import ForwardPath, ReversePath
from gateway.smtp.content import Content
from storage.clock import Clock
from storage.directory.resolve import Resolution
from storage.queue.entries import EnvelopeParameters, Origin, new_queue_id
from storage.values import EmailAddress, TenantId


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is to be accepted, beside the content."""

    client: Client
    facts: SenderFacts
    reverse_path: ReversePath
    recipients: Sequence[tuple[ForwardPath, Resolution]]

    @property
    def leaves(self) -> bool:
        """All of it goes elsewhere: nothing is delivered to a mailbox here."""
        return not any(resolution.mailboxes for _, resolution in self.recipients)


class MxAcceptance:
    def __init__(self, keeping: Keeping, recipients: Recipients, clock: Clock, hostname: str, retry_time: int) -> None:
        self._keeping = keeping
        self._recipients = recipients
        self._clock = clock
        self._hostname = hostname
        self._retry_time = retry_time

    def accept(self, arrival: Arrival, data: bytes) -> Mapping[str, TenantId]:
        """The queue ids under which the message was taken, and whose each is."""
        return self._keeping.keep(*self._message(arrival, data))

    def accept_together(self, arrivals: Sequence[tuple[Arrival, Content]]) -> list[Mapping[str, TenantId] | Exception]:
        """`accept` for arrivals of which none has a mailbox here: for each its ids, or why it was not taken."""
        outcomes: list[Mapping[str, TenantId] | Exception | None] = []
        messages: list[tuple[Message, Targets]] = []
        for arrival, content in arrivals:
            try:
                messages.append(self._message(arrival, content.read()))
                outcomes.append(None)
            except Exception as error:  # noqa: BLE001 - it is its own message's
                outcomes.append(error)
        kept = iter(self._keeping.keep_together(messages))
        return [next(kept) if outcome is None else outcome for outcome in outcomes]

    def _message(self, arrival: Arrival, data: bytes) -> tuple[Message, Targets]:
        """What is kept, and where it goes. Raises Refused."""
        header = read_arriving_header(data)
        asked_for = [path.address for path, _ in arrival.recipients]
        check_loops(header, asked_for)
        path, facts = arrival.reverse_path, arrival.facts
        time, single = self._clock.now(), asked_for[0] if len(asked_for) == 1 else None
        results = authentication_results(self._hostname, facts.spf.authentication_result)

        def prefix(queue_id: str) -> bytes:
            return received(arrival.client, self._hostname, queue_id, time, single) + results

        message = Message(
            new_queue_id(self._clock),
            Origin.MX,
            None,
            path.address,
            EnvelopeParameters(path.ret, path.envid, path.smtputf8, path.body, facts.authentic),
            without_border(data, header, self._hostname),
            prefix,
            self._retry_time,
            {
                "client": arrival.client.address,
                "name": arrival.client.name,
                "hello": arrival.client.hello,
                "protocol": arrival.client.protocol,
                "tls": arrival.client.tls,
                "spf": facts.spf.result.value,
            },
        )
        # Who takes no mail was left out at RCPT.
        to = targets(arrival.recipients, Suspended.TAKE)
        return message, self._rewritten(path.address, to, authentic=facts.authentic)

    def _rewritten(self, original: EmailAddress | None, to: Targets, *, authentic: bool) -> Targets:
        """With the reverse-paths under which aliases forward.

        For domains of ours we may send anyway; but whoever only claims to be of one would be vouched for by us.
        """
        if original is None or not to.remote or (authentic and self._recipients.is_ours(original)):
            return to
        return replace(to, remote=tuple(self._forwarded(original, target) for target in to.remote))

    def _forwarded(self, original: EmailAddress, target: RemoteTarget) -> RemoteTarget:
        if target.tenant_id is None or target.returned:
            return target
        rewriting = self._recipients.rewriting(target.tenant_id)
        return replace(target, reverse_path=rewriting.forward(original, target.path.address.domain))

"""An installation whose queue is worked by a runner, over a next hop that does what the test says."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

from submission_town import HOSTNAME, SubmissionTown

from gateway.dsn.follow_ups import Telling
from gateway.queue.orders import Orders
from gateway.queue.runner import Runner
from gateway.queue.schedule import Limits
from gateway.queue.settlement import Settlement
from gateway.relay.outcome import NextHop, RecipientOutcome, RelayMessage, RelayRecipient, Result
from gateway.work import Work
from storage.changes import Subscriber
from storage.directory.resolve import Resolver
from storage.logs.trace import TraceEvent
from storage.queue.entries import (
    Entry,
    EnvelopeParameters,
    NewEntry,
    NewRecipient,
    Origin,
    RecipientParameters,
    Reply,
    new_queue_id,
)
from storage.values import AccountId, Domain, EmailAddress, TenantId

DAY = 86_400

TAKEN = RecipientOutcome(Result.RELAYED, Reply(250, "2.0.0", "Taken", "mx.far.example"))
NO_SUCH_USER = RecipientOutcome(Result.FAILED, Reply(550, "5.1.1", "No such user here", "mx.far.example"))
GREYLISTED = RecipientOutcome(Result.DEFERRED, Reply(451, "4.7.1", "Try again later", "mx.far.example"))
NO_CONNECTION = RecipientOutcome(Result.DEFERRED, Reply(0, "4.4.1", "No connection to the server.", "mx.far.example"))

Behaviour = Callable[[NextHop, RelayMessage, RelayRecipient], RecipientOutcome]


@dataclass
class Sent:
    hop: NextHop
    message: RelayMessage
    outcomes: list[RecipientOutcome] = field(default_factory=list)


class ScriptedRelay:
    """A next hop without a network. `behaviour` answers for each recipient; `before` may make a transaction wait."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.behaviour: Behaviour = lambda hop, message, recipient: TAKEN
        self.before: Callable[[NextHop, RelayMessage], Awaitable[None]] | None = None
        self.open: Counter[NextHop] = Counter()
        self.most_open: Counter[NextHop] = Counter()
        self.closed = False

    async def send(self, hop: NextHop, message: RelayMessage, *, more: bool = False) -> Sequence[RecipientOutcome]:
        self.open[hop] += 1
        self.most_open[hop] = max(self.most_open[hop], self.open[hop])
        try:
            if self.before is not None:
                await self.before(hop, message)
            outcomes = [self.behaviour(hop, message, recipient) for recipient in message.recipients]
            self.sent.append(Sent(hop, message, outcomes))
            return outcomes
        finally:
            self.open[hop] -= 1

    async def close(self) -> None:
        self.closed = True

    def taken(self) -> list[str]:
        """The recipients that were relayed, in order."""
        return [
            str(recipient.address)
            for sent in self.sent
            for recipient, outcome in zip(sent.message.recipients, sent.outcomes, strict=True)
            if outcome.result is Result.RELAYED
        ]


class Traces:
    def __init__(self) -> None:
        self.events: list[TraceEvent] = []

    def record(self, event: TraceEvent) -> None:
        self.events.append(event)

    def kinds(self, queue_id: str) -> list[str]:
        return [event.kind.value for event in self.events if event.id == queue_id]


class RunnerTown(SubmissionTown):
    """alice@ and bob@example.test (tenant one, alias team@ for both), mallory@other.test (tenant two); and a runner."""

    def __init__(self, data: Path, *, limits: Limits | None = None, delay_notice: int = 0) -> None:
        super().__init__(data)
        self.relay = ScriptedRelay()
        self.traces = Traces()
        self.limits = limits or Limits()
        self.queue = self.installation.queue
        resolver = Resolver(self.installation)
        telling = Telling(resolver, self.installation.control, self.clock, HOSTNAME, 5 * DAY)
        self.settlement = Settlement(
            self.queue, telling, self.clock, traces=self.traces, delay_notice=delay_notice, chance=lambda: 0.5
        )
        self.orders = Orders(self.installation, resolver, self.settlement, lambda entry, content: self.author)
        self.author: Domain | None = None
        self.executor = ThreadPoolExecutor(4)

    def close(self) -> None:
        self.executor.shutdown()
        super().close()

    def runner(self, *, feed: Subscriber | None = None, stop_within: float = 5.0) -> Runner:
        work = Work(self.executor)
        return Runner(
            self.queue,
            self.orders,
            self.settlement,
            self.relay,
            work,
            self.clock,
            self.limits,
            feed=feed,
            stop_within=stop_within,
        )

    def run(self, *, later: float = 0.0) -> None:
        """Works the queue with a runner that was just started, until nothing is due; `later` seconds from now."""
        self.clock.advance(later)
        asyncio.run(self._run())

    async def _run(self) -> None:
        runner = self.runner()
        async with asyncio.timeout(30):
            running = asyncio.create_task(runner.run())
            while not runner.is_idle:
                await asyncio.sleep(0.001)
            runner.stop()
            await running

    # What is in the queue

    def submit(
        self,
        *to: str | NewRecipient,
        sender: str = "alice",
        reverse_path: str | None = "",
        origin: Origin = Origin.SUBMISSION,
        parameters: EnvelopeParameters | None = None,
        notify: Sequence[str] = (),
        orcpt: str = "",
        expires: int = 5 * DAY,
        content: bytes = b"",
    ) -> str:
        """Queues a message, as acceptance would; the queue id. A name without a domain is a mailbox of the tenant."""
        tenant_id, account_id = self.accounts[sender]
        domain = "other.test" if sender == "mallory" else "example.test"
        queue_id = new_queue_id(self.clock)
        path = f"{sender}@{domain}" if reverse_path == "" else reverse_path
        recipients = [
            each if isinstance(each, NewRecipient) else self.recipient(each, domain, notify, orcpt) for each in to
        ]
        self.queue.enqueue(
            [
                NewEntry(
                    queue_id,
                    tenant_id,
                    account_id if origin is Origin.SUBMISSION else None,
                    origin,
                    EmailAddress.parse(path) if path is not None else None,
                    parameters or EnvelopeParameters(),
                    tuple(recipients),
                    self.clock.now() + expires,
                    content or message(queue_id),
                )
            ]
        )
        return queue_id

    def recipient(self, to: str, domain: str, notify: Sequence[str], orcpt: str) -> NewRecipient:
        parameters = RecipientParameters(tuple(notify), orcpt)
        if "@" in to:
            return NewRecipient(EmailAddress.parse(to), None, parameters)
        address = EmailAddress.parse(f"{to}@{domain}")
        return NewRecipient(address, self.accounts[to][1], parameters)

    def entry(self, queue_id: str) -> Entry:
        return self.queue.show(queue_id)

    def queued(self) -> list[str]:
        return [summary.queue_id for summary in self.queue.entries()]

    def spooled(self) -> int:
        return sum(1 for path in self.data.glob("tenants/*/spool/*") if path.is_file())

    def reports(self, name: str) -> list[EmailMessage]:
        """The reports and notices in somebody's INBOX."""
        found = [email.message_from_bytes(octets, policy=email.policy.SMTPUTF8) for octets in self.inbox(name)]
        return [each for each in found if isinstance(each, EmailMessage) and each["Auto-Submitted"]]

    def owner(self, name: str) -> tuple[TenantId, AccountId]:
        return self.accounts[name]


def message(token: str) -> bytes:
    return f"From: alice@example.test\r\nSubject: {token}\r\nMessage-ID: <{token}@x>\r\n\r\nsecret body\r\n".encode()


def fields(report: EmailMessage) -> list[dict[str, str]]:
    """The groups of fields of a report's second part: of the message, then of each recipient."""
    part = list(report.iter_parts())[1]
    assert part.get_content_type() == "message/delivery-status"
    payload = part.get_payload()
    assert isinstance(payload, list)
    return [dict(group.items()) for group in payload if group.items()]

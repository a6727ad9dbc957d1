"""Works the queue of the crash town, over a next hop that remembers what it took where no crash reaches it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from crash_town import WHOSE, mail

from gateway.dsn.follow_ups import Telling
from gateway.queue.orders import Orders
from gateway.queue.runner import Runner
from gateway.queue.schedule import Limits
from gateway.queue.settlement import Settlement
from gateway.relay.outcome import NextHop, RecipientOutcome, RelayMessage, Result
from gateway.work import Work
from storage.clock import SystemClock
from storage.directory.resolve import Resolver
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import read_master_file
from storage.keys.source import LocalKeys
from storage.queue.entries import (
    EnvelopeParameters,
    NewEntry,
    NewRecipient,
    Origin,
    Reply,
    new_queue_id,
)
from storage.values import EmailAddress

DAY = 86_400
TAKES, REFUSES = "takes@far.example", "refuses@far.example"


class Peer:
    """Takes mail for everybody but REFUSES; `taken` is told the recipient and the message before we are."""

    def __init__(self, taken: Callable[[str, str], None]) -> None:
        self._taken = taken

    async def send(self, hop: NextHop, message: RelayMessage, *, more: bool = False) -> Sequence[RecipientOutcome]:
        outcomes = []
        for recipient in message.recipients:
            if str(recipient.address) == REFUSES:
                reply = Reply(550, "5.1.1", "No such user", "mx.far.example")
                outcomes.append(RecipientOutcome(Result.FAILED, reply))
                continue
            token = message.content.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
            self._taken(str(recipient.address), token)
            outcomes.append(RecipientOutcome(Result.RELAYED, Reply(250, "2.0.0", "Taken", "mx.far.example")))
        return outcomes

    async def close(self) -> None:
        pass


class ClockAhead(SystemClock):
    def __init__(self, hours: int) -> None:
        self._ahead = hours * 3600

    def now(self) -> int:
        return super().now() + self._ahead


@contextmanager
def opened(data: Path, hours: int) -> Iterator[Installation]:
    """As a process opens it that starts so many hours from now: what was to be tried again meanwhile is due."""
    clock = ClockAhead(hours)
    keys = LocalKeys(KeyStore(data / "keys", read_master_file(data / "master"), clock))
    installation = Installation(data, keys, clock)
    try:
        yield installation
    finally:
        installation.close()


def work_queue(installation: Installation, taken: Callable[[str, str], None]) -> None:
    """As the queue role does, one thing at a time, until nothing is due."""
    with ThreadPoolExecutor(1) as pool:
        resolver = Resolver(installation)
        telling = Telling(resolver, installation.control, installation.clock, "mail.test", 5 * DAY)
        settlement = Settlement(installation.queue, telling, installation.clock)
        orders = Orders(installation, resolver, settlement, lambda entry, content: None)
        runner = Runner(
            installation.queue,
            orders,
            settlement,
            Peer(taken),
            Work(pool),
            installation.clock,
            Limits(1, 1, here=1),
        )
        asyncio.run(_until_idle(runner))


async def _until_idle(runner: Runner) -> None:
    running = asyncio.create_task(runner.run())
    while not runner.is_idle:
        await asyncio.sleep(0.001)
    runner.stop()
    await running


def enqueue(installation: Installation, token: str, *addresses: str) -> str:
    """alice's message in the queue, as an acceptance left it that died right after its commit."""
    tenant_id, account_id = WHOSE["alice@one.test"]
    queue_id = new_queue_id(installation.clock)
    recipients = [
        NewRecipient(EmailAddress.parse(address), WHOSE[address][1] if address in WHOSE else None)
        for address in addresses
    ]
    entry = NewEntry(
        queue_id,
        tenant_id,
        account_id,
        Origin.SUBMISSION,
        EmailAddress.parse("alice@one.test"),
        EnvelopeParameters(),
        tuple(recipients),
        installation.clock.now() + 5 * DAY,
        mail(token),
    )
    installation.queue.enqueue([entry])
    return queue_id

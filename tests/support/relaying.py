"""The SMTP client as the queue's runner has it, with a name server of its own, for tests.

with Relaying({"example.test": {"MX": "10 mx.example.test."}, "mx.example.test": {"A": "127.0.0.1"}}) as client:
    outcomes = client.send(Domain("example.test"), "someone@example.test")
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

import uvloop
from dns_server import DnsServer, Records
from next_hop import NextHop

from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.networks import Reachable, networks
from gateway.relay.callout import Callout
from gateway.relay.next_hops import make_next_hops
from gateway.relay.outcome import NextHop as Hop
from gateway.relay.outcome import OwnServer, RecipientOutcome, RelayMessage, RelayRecipient, Signer, TlsDemand
from gateway.relay.relay import SmtpRelay
from gateway.relay.settings import RelaySettings, Timeouts
from gateway.work import Work
from storage.clock import Clock, SystemClock
from storage.logs.transcripts import TranscriptRecord
from storage.queue.entries import EnvelopeParameters
from storage.values import Domain, EmailAddress

T = TypeVar("T")

MESSAGE = b"From: a@sender.test\r\nTo: b@example.test\r\nSubject: hello\r\n\r\nA line.\r\n.A dot.\r\n"
HOSTNAME = "client.test"


class Relaying:
    def __init__(
        self,
        zone: Mapping[str, Mapping[str, Records]] | None = None,
        *,
        settings: RelaySettings | None = None,
        timeouts: Timeouts | None = None,
        signer: Signer | None = None,
        clock: Clock | None = None,
        allowed: Sequence[str] = ("127.0.0.0/8", "::1/128"),
        own: Sequence[tuple[str, int]] = (),
        own_names: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.transcripts: list[TranscriptRecord] = []
        self.dns_server = DnsServer(zone) if zone is not None else None
        self._settings = settings or RelaySettings(stream_time=0.0)  # a session each, unless a test says so
        self._options = {
            "timeouts": timeouts or Timeouts(quit=1.0),
            "own_names": own_names,
            "transcripts": self,
            **options,
        }
        self._reachable = Reachable(networks(allowed), own)
        self._clock = clock or SystemClock()
        self._signer = signer
        self._executor = ThreadPoolExecutor(2)
        self._loop = uvloop.new_event_loop()

    def record(self, record: TranscriptRecord) -> None:
        self.transcripts.append(record)

    def __enter__(self) -> Relaying:
        if self.dns_server is not None:
            self.dns_server.__enter__()
        self.run(self._build())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.callout.close())
        self.run(self.relay.close())
        if self.dns_server is not None:
            self.dns_server.__exit__(kind, error, trace)
        self._executor.shutdown()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _build(self) -> None:
        self.dns = Resolver(
            DnsSettings(nameservers=("127.0.0.1",), port=self.dns_server.port if self.dns_server else 1, timeout=2.0)
        )
        self.hops = make_next_hops(self._settings, HOSTNAME, self.dns, self._reachable, self._clock, **self._options)
        self.relay = SmtpRelay(self.hops, Work(self._executor), self._signer)
        self.callout = Callout(self.hops, self._clock)

    def run(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(work, 30)

        return self._loop.run_until_complete(bounded())

    def send(self, hop: Hop, *recipients: str, more: bool = False, **changes: Any) -> Sequence[RecipientOutcome]:
        return self.run(self.relay.send(hop, message(*recipients, **changes), more=more))


def message(*recipients: str | RelayRecipient, content: bytes = MESSAGE, **changes: Any) -> RelayMessage:
    parameters = {name: changes.pop(name) for name in ("ret", "envid", "smtputf8", "body") if name in changes}
    whole = RelayMessage(
        "queue-id",
        EmailAddress.parse("a@sender.test"),
        EnvelopeParameters(**parameters),
        tuple(
            RelayRecipient(EmailAddress.parse(recipient)) if isinstance(recipient, str) else recipient
            for recipient in recipients or ("b@example.test",)
        ),
        content,
    )
    return replace(whole, **changes)


def own_server(hop: NextHop, tls: TlsDemand = TlsDemand.OPPORTUNISTIC, host: str = "") -> OwnServer:
    return OwnServer(host or hop.address, hop.port, tls)


def domain(name: str = "example.test") -> Domain:
    return Domain(name)

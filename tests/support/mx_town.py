"""The submission town with an MX in front of it: real keys, databases, files and sockets, and a name server that lies.

Beside the people of the town: forward@example.test leads to far@far.test, both@example.test to alice and far@far.test.
Clients come from 127.0.0.x, which SPF records of the zone may name.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from certificates import write_certificate
from dns_server import DnsServer
from loop_thread import LoopThread
from submission_town import HOSTNAME, SubmissionTown
from wire import SmtpWire

from gateway.dns.resolver import Resolver as DnsResolver
from gateway.dns.settings import DnsSettings
from gateway.mx.own_servers import OwnServers
from gateway.mx.settings import MxSettings
from gateway.networks import Reachable, networks
from gateway.policy.settings import FilterSettings
from gateway.relay.callout import CalloutSettings
from gateway.relay.next_hops import make_next_hops
from gateway.relay.settings import RelaySettings
from gateway.smtp.session import BoundSocket
from gateway.smtp.shared_limits import SharedLimits
from gateway.smtp.tls import ServerCertificate
from hosting.mx.service import MxService, MxServiceSettings
from storage.clock import Clock
from storage.directory.resolve import Resolver
from storage.directory.routes import Mode, Route
from storage.directory.tenant import Tenant
from storage.errors import Unavailable
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import read_master_file
from storage.keys.source import Key, KeySource, LocalKeys
from storage.logs.trace import TraceEvent
from storage.quarantine.store import Quarantine
from storage.quarantine.values import Query, Withheld
from storage.queue.entries import Entry
from storage.values import UID_MAX, Domain, EmailAddress, TenantId

MESSAGE = b"From: someone@far.test\r\nTo: alice@example.test\r\nSubject: hello\r\n\r\nbody\r\n"
FROM = "someone@far.test"
ZONE: dict[str, dict[str, Any]] = {
    "far.test": {"TXT": "v=spf1 ip4:127.0.0.1 -all", "MX": "10 mx.far.test."},
    "mx.far.test": {"A": "127.0.0.1"},
    "nospf.test": {"A": "127.0.0.1"},
    "1.0.0.127.in-addr.arpa": {"PTR": "mx.far.test."},
}


class SilentKeys(LocalKeys):
    """An auth role that does not answer for tenants, as long as `silent`."""

    def __init__(self, data: Path, clock: Clock) -> None:
        super().__init__(KeyStore(data / "keys", read_master_file(data / "master"), clock))
        self.silent = True

    def tenant_key(self, tenant_id: TenantId, purpose: str) -> Key:
        if self.silent:
            raise Unavailable
        return super().tenant_key(tenant_id, purpose)


class MxTown(SubmissionTown):
    def __init__(self, data: Path, *, postmaster: str = "") -> None:
        super().__init__(data)
        operator = EmailAddress.parse(postmaster) if postmaster else None
        self.resolver = Resolver(self.installation, operator, Domain(HOSTNAME))
        one = self.accounts["alice"][0]
        far, alice = EmailAddress.parse("far@far.test"), EmailAddress.parse("alice@example.test")
        self.provisioning.add_alias(one, EmailAddress.parse("forward@example.test"), [far])
        self.provisioning.add_alias(one, EmailAddress.parse("both@example.test"), [alice, far])

    def reopen(self, keys: KeySource) -> None:
        """As a process with other keys at hand opens it."""
        self.installation.close()
        self.installation = Installation(self.data, keys, self.clock)
        self.resolver = Resolver(self.installation, None, Domain(HOSTNAME))

    @property
    def one(self) -> Tenant:
        """The tenant of example.test."""
        return self.installation.tenant(self.accounts["alice"][0])

    def route(self, mode: Mode, port: int, *, verify: bool = True, domain: str = "example.test") -> None:
        self.one.routes.set(Route(Domain.parse(domain), mode, "127.0.0.1", port, verify=verify))

    def queued(self) -> list[Entry]:
        queue = self.installation.queue
        return [queue.show(summary.queue_id) for summary in queue.entries()]

    def filed(self, name: str, mailbox: str) -> list[tuple[bytes, set[str]]]:
        """The messages of somebody's mailbox, and the keywords of each."""
        with self.installation.account(*self.accounts[name]) as account:
            box = account.mailboxes.find(mailbox)
            names = account.mailboxes.keywords(box.id)
            return [
                (account.messages.read_message(message_id), {word for bit, word in names.items() if flags >> bit & 1})
                for message_id, flags in account.messages.fetch_rows(box.id, 1, UID_MAX, ("message_id", "flags"))
            ]

    def withheld(self, name: str = "alice") -> list[Withheld]:
        """What the quarantine holds for somebody's tenant."""
        rows = Quarantine(self.installation).of(self.accounts[name][0])
        return rows.find(Query())

    def traced(self) -> list[TraceEvent]:
        traces = self.installation.traces
        traces.flush()
        return list(traces.read())


class RunningMx(LoopThread):
    """The service on a loop of its own in a thread of its own."""

    def __init__(
        self,
        town: MxTown,
        dns: DnsServer,
        *,
        callout: CalloutSettings | None = None,
        filtering: FilterSettings | None = None,
        proxied: bool = False,
        dns_timeout: float = 2.0,
        **settings: Any,
    ) -> None:
        """`proxied`: clients say with a PROXY header who they are."""
        super().__init__()
        self.town = town
        sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = sock.getsockname()[1]
        self.shared = SharedLimits.of_this_process(town.clock)
        certificate = ServerCertificate(*write_certificate(town.data / "mx-tls"))
        mx = replace(MxSettings(sender_check_timeout=2.0), **settings)

        def make() -> MxService:
            resolver = DnsResolver(DnsSettings(dns.nameservers, dns.port, timeout=dns_timeout), town.clock)
            reachable = Reachable(networks(["127.0.0.0/8"]), [("127.0.0.1", self.port)])
            hops = make_next_hops(RelaySettings(), HOSTNAME, resolver, reachable, town.clock)
            return MxService(
                town.installation,
                town.resolver,
                resolver,
                OwnServers(hops, town.clock, callout),
                self.shared,
                MxServiceSettings(
                    HOSTNAME,
                    mx,
                    filtering or FilterSettings(),
                    tuple(networks(["127.0.0.0/8"])) if proxied else (),
                    stop_within=5.0,
                ),
                [BoundSocket(sock, implicit_tls=False)],
                certificate,
            )

        self.service = self.on_loop(make)
        self.on_loop(self.service.startService)
        self.settled(lambda: self.service.listening)

    def stop(self) -> None:
        if self.service.running:
            self.settled(self.service.stopService)
        super().stop()

    @contextmanager
    def client(self, hello: str = "mx.far.test", client: str = "", **options: Any) -> Iterator[SmtpWire]:
        """`client`: its address, of a service that is `proxied`."""
        ahead = f"PROXY TCP4 {client} 192.0.2.1 1 25\r\n".encode() if client else b""
        wire = SmtpWire(self.port, ahead=ahead, **options)
        try:
            wire.command(f"EHLO {hello}".encode())
            yield wire
        finally:
            wire.close()

    def send(
        self, *recipients: str, message: bytes = MESSAGE, sender: str = FROM, parameters: str = "", **options: Any
    ) -> tuple[int, str]:
        """The reply to the message, or the first refusal on the way."""
        with self.client(**options) as wire:
            commands: Sequence[str] = (
                f"MAIL FROM:<{sender}>{parameters}",
                *(f"RCPT TO:<{recipient}>" for recipient in recipients),
                "DATA",
            )
            for command in commands:
                code, said = wire.command(command.encode())
                if code >= 400:
                    return code, said.decode().split(" ", 1)[1].strip()
            code, said = wire.command(message.replace(b"\r\n.", b"\r\n..") + b".")
            return code, said.decode().split(" ", 1)[1].strip()

    def ask(self, recipient: str, sender: str = FROM, **options: Any) -> tuple[int, str]:
        """The reply to RCPT, with its status code."""
        with self.client(**options) as wire:
            wire.command(f"MAIL FROM:<{sender}>".encode())
            code, said = wire.command(f"RCPT TO:{recipient if recipient[:1] == '<' else f'<{recipient}>'}".encode())
            return code, said.decode().split(" ", 2)[1]

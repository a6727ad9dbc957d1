"""What other domains demand of TLS, kept by the SMTP client on real sockets: DANE, MTA-STS, and what is counted."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop
from authorities import Certified, authority
from dns_server import DnsServer, Lie
from next_hop import EXTENSIONS, NextHop
from policy_host import PolicyHost, http
from queue_place import Place
from relaying import message

from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.networks import Reachable, networks
from gateway.relay.next_hops import make_next_hops
from gateway.relay.outcome import RecipientOutcome, Result
from gateway.relay.relay import SmtpRelay
from gateway.relay.settings import RelaySettings
from gateway.tls_policy.policy import TlsPolicies
from gateway.tls_policy.sts import StsPolicies
from gateway.tls_policy.sts_fetch import StsFetcher
from gateway.work import Work
from storage.clock import SystemClock
from storage.values import Domain

HOST = "mx.example.test"
ROOT = authority()
LEAF = ROOT.issue(HOST)
STRANGER = authority("Stranger").issue(HOST)
POLICY = "version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n"


@dataclass
class World:
    """A domain with its name server, its mail server and its policy host, and ourselves."""

    directory: Path
    server: DnsServer
    hop: NextHop
    host: PolicyHost
    place: Place
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2))

    def show(self, certificate: Certified) -> None:
        self.hop.use(certificate.write(self.directory / "hop"))

    def pin(self, certificate: Certified) -> None:
        digest = hashlib.sha256(certificate.public_key).hexdigest()
        self.server.put(f"_{self.hop.port}._tcp.{HOST}", TLSA=f"3 1 1 {digest}")

    def publish(self, mode: str, mx: str = HOST) -> None:
        self.server.put("_mta-sts.example.test", TXT="v=STSv1; id=one")
        self.host.answers = [http(POLICY.format(mode=mode, mx=mx).encode())]

    def send(self) -> Result:
        (outcome,) = uvloop.run(self._send())
        return outcome.result

    @property
    def counted(self) -> set[tuple[str, str]]:
        """Types of policies and results of sessions with the mail server."""
        results = self.place.queue.tls_results
        return {
            (result.policy_type, result.result_type)
            for day in (SystemClock().now() // 86_400,)
            for result in results.report(day)
            if result.mx_host == HOST
        }

    async def _send(self) -> Sequence[RecipientOutcome]:
        root = self.directory / "root.pem"
        ROOT.write(self.directory)
        root.write_bytes((self.directory / "chain.pem").read_bytes())
        clock, work, store = SystemClock(), Work(self.pool), self.place.queue
        dns = Resolver(DnsSettings(self.server.nameservers, self.server.port, validating=True))
        reachable = Reachable(networks(["127.0.0.1"]))
        fetcher = StsFetcher(dns, reachable, ROOT.client_context(), port=self.host.port)
        sts = StsPolicies(dns, fetcher, store.sts, work, clock, store.tls_results)
        policies = TlsPolicies(dns, sts, clock, store.tls_results)
        settings = RelaySettings(port=self.hop.port, ca_file=str(root), stream_time=0.0)
        relay = SmtpRelay(make_next_hops(settings, "client.test", dns, reachable, clock, policies=policies), work)
        try:
            return await asyncio.wait_for(relay.send(Domain("example.test"), message("b@example.test")), 30)
        finally:
            await relay.close()
            await sts.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    zone = {
        "example.test": {"MX": f"10 {HOST}."},
        HOST: {"A": "127.0.0.1"},
        "mta-sts.example.test": {"A": "127.0.0.1"},
    }
    policy_context = ROOT.issue("mta-sts.example.test").server_context(tmp_path / "policy")
    with (
        DnsServer(zone) as server,
        NextHop(EXTENSIONS, certificate=LEAF.write(tmp_path / "hop")) as hop,
        PolicyHost(policy_context, b"") as host,
    ):
        server.secure = True
        world = World(tmp_path, server, hop, host, Place(tmp_path / "data"))
        yield world
    world.pool.shutdown()
    world.place.close()


def test_without_a_policy_any_certificate_will_do(world: World) -> None:
    world.show(STRANGER)
    assert world.send() is Result.RELAYED
    assert world.hop.messages[0].tls
    assert world.counted == {("no-policy-found", "")}


def test_dane_takes_the_named_certificate_from_whatever_authority(world: World) -> None:
    world.show(STRANGER)
    world.pin(STRANGER)
    assert world.send() is Result.RELAYED
    assert world.hop.messages[0].tls
    assert world.hop.talks[0].server_name == HOST  # RFC 7672 §3.2.1
    assert world.counted == {("tlsa", "")}


def test_dane_refuses_another_certificate(world: World) -> None:
    world.pin(STRANGER)
    world.publish("testing")  # MTA-STS does not help it (RFC 8461 §2)
    assert world.send() is Result.DEFERRED
    assert not world.hop.messages
    assert world.counted == {("tlsa", "tlsa-invalid")}


def test_dane_without_starttls_is_no_plain_text(world: World) -> None:
    """RFC 7672 §2.2: nobody between us and the server can take the offer away."""
    world.pin(LEAF)
    world.hop.script["STARTTLS"] = ["454 4.7.0 not now"]
    assert world.send() is Result.DEFERRED
    assert not world.hop.messages
    assert world.counted == {("tlsa", "starttls-not-supported")}


def test_dane_records_that_do_not_come_defer(world: World) -> None:
    world.server.lie(f"_{world.hop.port}._tcp.{HOST}", Lie(rcode="SERVFAIL"))
    assert world.send() is Result.DEFERRED
    assert not world.hop.talks  # not even connected
    assert world.counted == {("tlsa", "dnssec-invalid")}


def test_records_without_dnssec_are_no_policy(world: World) -> None:
    world.pin(STRANGER)
    world.server.secure = False
    assert world.send() is Result.RELAYED
    assert world.counted == {("no-policy-found", "")}


@pytest.mark.parametrize(
    ("mode", "mx", "certificate", "result", "counted"),
    [
        ("enforce", HOST, LEAF, Result.RELAYED, ""),
        ("enforce", "*.example.test", LEAF, Result.RELAYED, ""),
        ("enforce", HOST, STRANGER, Result.DEFERRED, "certificate-not-trusted"),
        ("enforce", HOST, ROOT.issue("other.test"), Result.DEFERRED, "certificate-host-mismatch"),
        ("enforce", HOST, ROOT.issue(HOST, days=(-9, -1)), Result.DEFERRED, "certificate-expired"),
        ("enforce", "other.test", LEAF, Result.DEFERRED, "validation-failure"),
        ("testing", HOST, LEAF, Result.RELAYED, ""),
        ("testing", HOST, STRANGER, Result.RELAYED, "certificate-not-trusted"),
        ("testing", "other.test", LEAF, Result.RELAYED, "validation-failure"),
    ],
)
def test_mta_sts(world: World, mode: str, mx: str, certificate: Certified, result: Result, counted: str) -> None:
    """RFC 8461 §5."""
    world.show(certificate)
    world.publish(mode, mx)
    assert world.send() is result
    assert [taken.tls for taken in world.hop.messages] == [True] * (result is Result.RELAYED)
    assert world.counted == {("sts", counted)}


def test_mta_sts_in_force_without_starttls_is_no_plain_text(world: World) -> None:
    world.publish("enforce")
    world.hop.script["STARTTLS"] = ["454 4.7.0 not now"]
    assert world.send() is Result.DEFERRED
    assert not world.hop.messages
    assert world.counted == {("sts", "starttls-not-supported")}


def test_a_policy_that_cannot_be_fetched_is_reported_and_does_not_keep_mail(world: World) -> None:
    world.publish("enforce")
    world.host.answers = [http(b"", "404 Not Found")]
    assert world.send() is Result.RELAYED
    assert world.counted == {("no-policy-found", "")}
    day = SystemClock().now() // 86_400
    assert ("sts", "sts-policy-fetch-error") in {
        (result.policy_type, result.result_type) for result in world.place.queue.tls_results.report(day)
    }

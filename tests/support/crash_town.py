"""Two tenants on real storage, for the crash tests: made once, then opened by one process after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.acceptance.keep import RETRY_TIME, Keeping
from gateway.authentication.authorship import Authors
from gateway.authentication.facts import AuthenticationFacts
from gateway.facts.collect import Collected
from gateway.facts.reading import Reading
from gateway.facts.values import ClientFacts, Facts
from gateway.judgement.judge import Judge
from gateway.judgement.records import VerdictRecords
from gateway.learning.corrections import Corrections
from gateway.mx.acceptance import Arrival, MxAcceptance
from gateway.mx.header import Client
from gateway.mx.recipients import Recipients
from gateway.policy.rules import Rules
from gateway.smtp.address import ForwardPath, ReversePath
from gateway.spf import Spf, SpfResult
from hosting.auth.signin import Principal
from hosting.submission.acceptance import Acceptance, Envelope
from storage.clock import SystemClock
from storage.directory.provisioning import Provisioning
from storage.directory.resolve import Resolver
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.quarantine.store import Quarantine
from storage.values import AccountId, Domain, EmailAddress, TenantId

ADDRESSES = ("alice@one.test", "bob@one.test", "mallory@two.test")
FAR = "far@elsewhere.example"
AWAY = "away@one.test"  # an alias that leads to FAR
WHOSE: dict[str, tuple[TenantId, AccountId]] = {
    "alice@one.test": (TenantId(1), AccountId(1)),
    "bob@one.test": (TenantId(1), AccountId(2)),
    "mallory@two.test": (TenantId(2), AccountId(3)),
}


def make(data: Path) -> None:
    clock = SystemClock()
    write_master_file(data / "master", Master.generate())
    keys = LocalKeys(KeyStore.create(data / "keys", read_master_file(data / "master"), clock))
    Installation.create(data, keys, clock)
    installation = Installation(data, keys, clock)
    try:
        provisioning = Provisioning(installation)
        for slug in ("one", "two"):
            tenant_id = provisioning.create_tenant(slug, slug).tenant_id
            installation.control.add_domain(tenant_id, Domain.parse(f"{slug}.test"))
            installation.control.verify_domain(Domain.parse(f"{slug}.test"), None)
            for address in ADDRESSES:
                if address.endswith(f"@{slug}.test"):
                    row = provisioning.create_account(tenant_id, EmailAddress.parse(address))
                    assert (tenant_id, row.account_id) == WHOSE[address]
        provisioning.add_alias(TenantId(1), EmailAddress.parse(AWAY), [EmailAddress.parse(FAR)])
    finally:
        installation.close()


class LaterClock(SystemClock):
    """Two hours ahead: what was postponed is due."""

    def now(self) -> int:
        return super().now() + 7200


@contextmanager
def opened(data: Path, *, later: bool = False) -> Iterator[Installation]:
    """As a process that has just started opens it."""
    clock = LaterClock() if later else SystemClock()
    installation = Installation(
        data, LocalKeys(KeyStore(data / "keys", read_master_file(data / "master"), clock)), clock
    )
    try:
        yield installation
    finally:
        installation.close()


def submit(installation: Installation, recipients: list[str], message: bytes) -> str:
    """alice submits, as the submission service accepts it; the queue id."""
    resolver = Resolver(installation)
    acceptance = Acceptance(installation, resolver, SystemClock(), "mail.test")
    paths = [ForwardPath(EmailAddress.parse(recipient)) for recipient in recipients]
    envelope = Envelope(
        Principal(*WHOSE["alice@one.test"], "alice@one.test", "password", 1, 1, 0, 0),
        "ESMTPSA",
        ReversePath(EmailAddress.parse("alice@one.test")),
        [(path, resolver.resolve(path.address)) for path in paths],
    )
    return acceptance.accept(envelope, message)


def receive(installation: Installation, recipients: list[str], message: bytes) -> list[str]:
    """A stranger's message, as the MX accepts it; the ids."""
    found = Recipients(installation, Resolver(installation))
    acceptance = MxAcceptance(
        Keeping(installation),
        Quarantine(installation),
        Judge(installation, Corrections(), Rules()),
        VerdictRecords(installation),
        found,
        SystemClock(),
        "mail.test",
        RETRY_TIME,
    )
    sender = EmailAddress.parse("someone@stranger.test")
    spf = SpfResult(Spf.NONE, "stranger.test")
    authentication = AuthenticationFacts(Authors(), spf, (), None, None)
    paths = [ForwardPath(EmailAddress.parse(recipient)) for recipient in recipients]
    arrival = Arrival(
        "session",
        Client("192.0.2.1", "mx.stranger.test", "", "ESMTP"),
        Collected(Facts(ClientFacts("192.0.2.1"), sender, (), authentication, None), Reading()),
        ReversePath(sender),
        [(path, found.look_up(path.address, 0).resolution) for path in paths],
    )
    return list(acceptance.accept(arrival, message))


def mail(token: str, size: int = 3000) -> bytes:
    head = f"From: alice@one.test\r\nTo: bob@one.test\r\nSubject: {token}\r\nMessage-ID: <{token}@one.test>\r\n\r\n"
    body = "".join(f"{token} line {n}\r\n" for n in range(size // (len(token) + 12)))
    return (head + body).encode()

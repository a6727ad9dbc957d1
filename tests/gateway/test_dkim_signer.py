"""Whose name a message that leaves is signed in, with real databases and keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.dkim.keys import generate
from gateway.dkim.signer import TenantSigner
from storage.clock import FixedClock
from storage.directory.dkim_keys import DkimAlgorithm, DkimKeys
from storage.directory.provisioning import Provisioning
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.queue.entries import EnvelopeParameters, NewEntry, Origin
from storage.values import Domain, TenantId

ONE, TWO, PENDING = (Domain.parse(text) for text in ("one.test", "two.test", "pending.test"))
PAIRS = {algorithm: generate(algorithm) for algorithm in DkimAlgorithm}


class Town:
    """Two tenants: one.test and pending.test, which is not verified; two.test."""

    def __init__(self, data: Path) -> None:
        self.clock = FixedClock()
        write_master_file(data / "master", Master.generate())
        keys = LocalKeys(KeyStore.create(data / "keys", read_master_file(data / "master"), self.clock))
        Installation.create(data, keys, self.clock)
        self.installation = Installation(data, keys, self.clock)
        self.tenants: dict[Domain, TenantId] = {}
        provisioning, control = Provisioning(self.installation), self.installation.control
        for slug, domains in (("one", (ONE, PENDING)), ("two", (TWO,))):
            tenant_id = provisioning.create_tenant(slug, slug).tenant_id
            for domain in domains:
                self.tenants[domain] = tenant_id
                control.add_domain(tenant_id, domain)
                if domain is not PENDING:
                    control.verify_domain(domain, None)
        self.signer = TenantSigner(self.installation)

    def keys(self, domain: Domain) -> DkimKeys:
        return self.installation.tenant(self.tenants[domain]).dkim_keys

    def add(self, domain: Domain, selector: str, algorithm: DkimAlgorithm, *, seen: bool = True) -> None:
        pair = PAIRS[algorithm]
        self.keys(domain).add(domain, selector, algorithm, private_key=pair.private_key, public_key=pair.public_key)
        if seen:
            self.keys(domain).saw(domain, selector)

    def entry(self, origin: Origin, domain: Domain, content: bytes) -> NewEntry:
        return NewEntry("q", self.tenants[domain], None, origin, None, EnvelopeParameters(), (), 0, content)

    def selectors(self, domain: Domain | None) -> list[str]:
        """The selectors of the signatures that a message gets now."""
        fields = self.signer.sign(message(ONE), domain).decode()
        return [part.split("s=")[1].split(";")[0] for part in fields.split("DKIM-Signature:")[1:]]


def message(domain: Domain | str) -> bytes:
    return f"From: a@{domain}\r\n\r\nx\r\n".encode()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    yield town
    town.installation.close()


@pytest.mark.parametrize(
    ("origin", "tenant", "author", "signed_for"),
    [
        (Origin.SUBMISSION, ONE, "one.test", ONE),
        (Origin.SUBMISSION, ONE, "ONE.Test", ONE),
        (Origin.SUBMISSION, ONE, "two.test", None),  # another tenant's
        (Origin.SUBMISSION, ONE, "elsewhere.test", None),
        (Origin.SUBMISSION, ONE, "sub.one.test", None),
        (Origin.SUBMISSION, ONE, "pending.test", None),
        (Origin.SUBMISSION, ONE, "no domain", None),
        (Origin.MX, ONE, "one.test", None),  # only passed on: From may be a lie
        (Origin.MX, ONE, "elsewhere.test", None),
        (Origin.NOTICE, ONE, "one.test", ONE),
        (Origin.NOTICE, ONE, "two.test", TWO),  # the operator's domain, in whichever tenant it is
        (Origin.NOTICE, ONE, "elsewhere.test", None),
    ],
)
def test_who_may_be_signed_for(
    town: Town, origin: Origin, tenant: Domain, author: str, signed_for: Domain | None
) -> None:
    content = message(author)
    assert town.signer.author(town.entry(origin, tenant, content), content) == signed_for


def test_only_keys_that_were_seen_sign(town: Town) -> None:
    town.add(ONE, "r1", DkimAlgorithm.RSA, seen=False)
    assert town.selectors(ONE) == []
    town.keys(ONE).saw(ONE, "r1")
    assert town.selectors(ONE) == ["r1"]


def test_both_algorithms_sign(town: Town) -> None:
    town.add(ONE, "e1", DkimAlgorithm.ED25519)
    town.add(ONE, "r1", DkimAlgorithm.RSA)
    assert town.selectors(ONE) == ["r1", "e1"]
    assert town.selectors(TWO) == [] and town.selectors(None) == []


def test_a_change_takes_effect_at_once(town: Town) -> None:
    town.add(ONE, "r1", DkimAlgorithm.RSA)
    assert town.selectors(ONE) == ["r1"]
    town.add(ONE, "r2", DkimAlgorithm.RSA)
    town.keys(ONE).begin(ONE, "r2")
    assert town.selectors(ONE) == ["r2"]
    town.keys(ONE).retire(ONE, "r2")
    assert town.selectors(ONE) == []


def test_signing_is_cheap(town: Town) -> None:
    """Keys are loaded once. A bound that a busy machine keeps: loading an RSA key takes longer than this alone."""
    town.add(ONE, "r1", DkimAlgorithm.RSA)
    content = message(ONE) + b"The quick brown fox jumps over the lazy dog, again and again.\r\n" * 160
    town.signer.sign(content, ONE)
    began = time.process_time()
    for _ in range(100):
        town.signer.sign(content, ONE)
    assert (time.process_time() - began) / 100 < 0.005

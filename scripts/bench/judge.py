#!/usr/bin/env python3
"""Shows what judging one message costs in CPU, without DNS and without what storing it costs.

    scripts/bench/judge.py [--messages 400] [--size 10000] [--rounds 3] [--profile] [--json]

Real databases, one thread. Messages look like real ones of about the size: text and HTML side by side, half of them
signed, with the fields that they collect on their way; DNS answers at once that it knows nothing. Prints milliseconds
of CPU for each message, the best round of several, by step: collecting (what the octets show, who stands behind it),
deciding (rules, lists and experience out of the tenant's database), telling (trace, counts, the field).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import cProfile
import json
import pstats
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.acceptance.targets import MailboxTarget
from gateway.classifier.features import features_of
from gateway.classifier.model import BITS, FILE, Learned, Models, SharedModel, write_model
from gateway.dns.answers import Answer, DnsStatus
from gateway.facts.client import ClientChecks
from gateway.facts.collect import Collected, Collector, Scanners, Transaction
from gateway.facts.reading import read
from gateway.facts.sender import SenderChecks
from gateway.judgement.judge import Judge, Judged
from gateway.judgement.records import Told, VerdictRecords
from gateway.learning.corrections import Corrections
from gateway.mx.header import verdict_field
from gateway.policy.rules import Rules
from gateway.smtp.address import ForwardPath
from gateway.smtp.content import Content
from gateway.work import Work
from storage.clock import SystemClock
from storage.directory.provisioning import Provisioning
from storage.filter.rules import WHOLE_TENANT
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.values import Domain, EmailAddress

CLOCK = SystemClock()
WORDS = re.findall(
    r"\w+",
    "the meeting report invoice project about which please attached tomorrow regards customer price order delivery "
    "team would could information service account update thanks question week number",
)


class NoDns:
    """Knows nothing, at once."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def answer(_: str) -> Answer[Any]:
            return Answer(DnsStatus.NO_NAME)

        return answer


def messages(count: int, size: int) -> list[bytes]:
    chance = random.Random(7)
    return [message(chance, number, size) for number in range(count)]


def message(chance: random.Random, number: int, size: int) -> bytes:
    def text(octets: int) -> str:
        words: list[str] = []
        while sum(map(len, words)) + len(words) < octets:
            words.append(chance.choice(WORDS) + chance.choice(("", "", "", ".", ",", f" {chance.randrange(10_000)}")))
        lines, line = [], ""
        for word in words:
            line = f"{line} {word}" if line else word
            if len(line) > 66:
                lines.append(line)
                line = ""
        return "\r\n".join([*lines, line])

    domain = f"sender{number % 50}.example"
    hops = "".join(
        f"Received: from out{hop}.{domain} (out{hop}.{domain} [192.0.2.{hop}])\r\n\tby mx{hop}.{domain} with ESMTPS id "
        f"{chance.getrandbits(64):x};\r\n\tMon, 02 Jun 2025 10:0{hop}:00 +0000\r\n"
        for hop in range(1, 4)
    )
    signed = ""
    if number % 2:
        octets = [base64.b64encode(chance.randbytes(length)).decode() for length in (32, 256)]
        signed = (
            f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s=s1; t=1748858400;\r\n"
            f"\th=from:to:subject:date:message-id:mime-version;\r\n\tbh={octets[0]};\r\n\tb={octets[1]}\r\n"
        )
    body = (
        f'--b{number}\r\nContent-Type: text/plain; charset="utf-8"\r\n\r\n{text(size // 3)}\r\n'
        f'--b{number}\r\nContent-Type: text/html; charset="utf-8"\r\n'
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        f'<html><body><p style=3D"margin:0">{text(size // 2)}</p><a href=3D"https://www.{domain}/x">https://www.{domain}'
        f"</a></body></html>\r\n--b{number}--\r\n"
    )
    head = (
        f"{hops}{signed}From: Somebody <news{number % 9}@{domain}>\r\nTo: alice@here.example\r\n"
        f"Subject: {text(40).splitlines()[0]}\r\nDate: Mon, 02 Jun 2025 10:00:00 +0000\r\n"
        f"Message-ID: <{number}.{chance.getrandbits(40):x}@{domain}>\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/alternative; boundary="b{number}"\r\n\r\n'
    )
    return (head + body).encode()


@dataclass
class Place:
    """An installation with one mailbox, whose owner knows some senders."""

    installation: Installation
    target: MailboxTarget

    @classmethod
    def make(cls, data: Path) -> Place:
        keys = LocalKeys(KeyStore.create(data / "keys", Master.generate(), CLOCK))
        Installation.create(data, keys, CLOCK)
        installation = Installation(data, keys, CLOCK)
        provisioning = Provisioning(installation)
        tenant_id = provisioning.create_tenant("bench", "bench").tenant_id
        domain = Domain("here.example")
        installation.control.add_domain(tenant_id, domain)
        installation.control.verify_domain(domain, None)
        address = EmailAddress.parse("alice@here.example")
        account = provisioning.create_account(tenant_id, address, password_hash="x")
        tenant = installation.tenant(tenant_id)
        tenant.filter_rules.set_rule(WHOLE_TENANT, "junk_at", "5")
        known = [EmailAddress.parse(f"news{number}@sender1.example") for number in range(9)]
        tenant.correspondents.record(account.account_id, known)
        tenant.flush(at_once=True)
        return cls(installation, MailboxTarget(tenant_id, account.account_id, ForwardPath(address)))


class Bench:
    def __init__(self, place: Place, sample: Sequence[bytes]) -> None:
        self.place = place
        self.sample = sample
        weights = np.random.default_rng(7).normal(0, 0.05, 1 << BITS).astype(np.float32)
        self.model = SharedModel(weights, weights, Learned(5000, 5000), 0, {})
        write_model(place.installation.data / FILE, self.model)
        self.models = Models(place.installation.data / FILE, CLOCK)
        self.judge = Judge(place.installation, Corrections(), Rules())
        self.records = VerdictRecords(place.installation, place.installation.traces)
        self.collected: list[Collected] = []
        self.judged: list[Judged] = []

    def reading(self) -> None:
        """A part of collecting."""
        for data in self.sample:
            read(data, self.model, 1_748_858_400)

    def features(self) -> None:
        """A part of collecting."""
        for data in self.sample:
            self.model.score(features_of(data))

    def collecting(self) -> None:
        asyncio.run(self._collecting())

    async def _collecting(self) -> None:
        dns: Any = NoDns()
        clients, senders = ClientChecks(dns), SenderChecks(dns, "mx.here.example")

        collector = Collector(dns, self.models, Scanners(), Work(Executor()), CLOCK, "mx.here.example")
        self.collected = []
        sender = EmailAddress.parse("news1@sender1.example")
        for data in self.sample:
            content = Content("/tmp", len(data))
            content.write(data)
            client = clients.begin("192.0.2.7")
            check = senders.begin("192.0.2.7", "mx.sender1.example", sender)
            transaction = Transaction(
                "192.0.2.7", "mx.sender1.example", sender, [self.place.target.path.address], False, client, check
            )
            self.collected.append(await collector.message(transaction, content))
            content.close()

    def deciding(self) -> None:
        self.judged = [
            self.judge.judge(collected, [self.place.target], data)[0]
            for collected, data in zip(self.collected, self.sample, strict=True)
        ]

    def telling(self) -> None:
        for collected, judged in zip(self.collected, self.judged, strict=True):
            verdict_field(judged.verdict)
            told = [Told("0123456789abcdef", judged.target, judged.verdict)]
            self.records.message(collected.facts.reverse_path, told, collected.facts)


STEPS = ("collecting", "deciding", "telling")
PARTS = ("reading", "features")  # of collecting


def main() -> int:
    parser = argparse.ArgumentParser(description="What judging one message costs in CPU.")
    parser.add_argument("--messages", type=int, default=400)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sample = messages(options.messages, options.size)
    with tempfile.TemporaryDirectory() as folder:
        place = Place.make(Path(folder))
        try:
            bench = Bench(place, sample)
            best = {step: float("inf") for step in (*STEPS, *PARTS)}
            for _ in range(options.rounds):
                for step in (*STEPS, *PARTS):
                    best[step] = min(best[step], _cost(getattr(bench, step)) / len(sample))
            if options.profile:
                profile = cProfile.Profile()
                profile.enable()
                for step in STEPS:
                    getattr(bench, step)()
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        finally:
            place.installation.close()
    reading, features = (best.pop(part) for part in PARTS)
    size = sum(map(len, sample)) / len(sample)
    if options.json:
        print(json.dumps({"octets": size, **best, "reading": reading, "features": features, "all": sum(best.values())}))
        return 0
    print(f"{len(sample)} messages of {size:,.0f} octets; milliseconds of CPU for each")
    for step, cost in best.items():
        note = f"  (reading {reading:.2f}, of which the classifier {features:.2f})" if step == "collecting" else ""
        print(f"  {step:<12}{cost:6.2f}{note}")
    print(f"  {'all':<12}{sum(best.values()):6.2f}")
    return 0


def _cost(step: Callable[[], None]) -> float:
    begun = time.process_time()
    step()
    return (time.process_time() - begun) * 1e3


if __name__ == "__main__":
    sys.exit(main())

"""Seeded fuzzer of what judges who stands behind a message: DKIM, ARC, DMARC, From fields, results of others.

    python scripts/fuzz/authentication.py --seed 1 --seconds 60

What must hold: nothing raises; what is written into our Authentication-Results has no word of a stranger's that could
be taken for another result, and reads back as it was meant; a signed message passes as long as only what relaxed forms
allow was changed, and never once its text was; an organizational domain is the domain or one above it, whatever is
published; and no message asks DNS more than a bounded number of questions, or one of them twice.
The first thing that does not hold is printed with its seed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.arc.results import read_results
from gateway.authentication import AuthenticationFacts, authentication_results, author_is_authentic, collect, prepare
from gateway.dkim.keys import SigningKey, generate, load, record_text
from gateway.dkim.result import Dkim
from gateway.dkim.signature import sign
from gateway.dmarc.tree_walk import TreeWalk
from gateway.dns.answers import Answer, CaaRecord, DnsStatus, MxRecord, SrvRecord, TlsaRecord
from gateway.spf import Spf, SpfResult
from storage.directory.dkim_keys import DkimAlgorithm, DkimPrivateKey
from storage.mime.fields import read_header
from storage.values import Domain

NOW = 1_780_000_000
# Ten keys of signatures and of message signatures each, fifty seals, walks of four authors and for alignment.
QUESTIONS = 10 + 10 + 50 + 4 * 9 + 4 * 11 * 8
DOMAIN = Domain("example.org")

NAMES = [
    "example.org", "a.example.org", "x.a.example.org", "evil.example", "org", "a.b.c.d.e.f.g.h.i.example.org",
    "bücher.example",
]  # fmt: skip
TAGS = [
    "v=1", "v=2", "a=rsa-sha256", "a=ed25519-sha256", "a=rsa-sha1", "c=relaxed/relaxed", "c=simple", "c=x/y",
    "d=example.org", "d=evil.example", "d=", "s=e", "s=r", "s=e e", "h=From:To:Subject", "h=from", "h=To",
    "h=" + "From:" * 50 + "To", "l=3", "l=x", "i=@example.org", "i=1", "i=2", "i=51", "i=x@evil.example", "t=1",
    f"t={NOW * 2}", f"x={NOW + 9}", "x=1", "q=dns/txt", "b=AAAA", "b=", "b=*", "bh=AAAA",
    "bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "cv=none", "cv=pass", "cv=fail", "z=From:x|To:y", "ü=1", "=",
    "x", "",
]  # fmt: skip
RECORDS = [
    "v=DMARC1; p=reject", "v=DMARC1; p=none; sp=reject; np=quarantine; t=y", "v=DMARC1; psd=y",
    "v=DMARC1; psd=n; p=quarantine", "v=DMARC1; rua=mailto:a@example.org", "v=DMARC1",
    "v=DMARC1; p=reject; adkim=s; aspf=s", "v=spf1 -all", "v=DKIM1; p=", "v=DKIM1; p=AAAA",
    "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=; t=y:s", "p=;p=", "\xff\0", "x" * 9000,
    ";" * 300,
]  # fmt: skip
PIECES = [
    "a@", "example.org", "<", ">", ",", ";", ":", '"', "(", ")", "\\", " ", "\r\n ", "=", "spf=pass", "dmarc=pass",
    "header.from=", "header.d=", "none", "i=1;", "mx.example.org", "@", ".", "ü", "\0", "[1.2.3.4]", "xn--",
    "dkim=pass", "reason=", "x" * 300,
]  # fmt: skip
FIELDS = [
    "DKIM-Signature", "ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results", "From", "Subject",
    "Authentication-Results",
]  # fmt: skip
# One text of ours: the method, and of strangers' only what is a token, or quoted and of base64 or of an address.
TEXT = re.compile(
    r"(?:spf|dkim|arc|dmarc)=[a-z]+(?: \(p=[a-z]+(?: dis=[a-z]+)?\))?"
    r'(?: reason="[^"\\\r\n]*")?'
    r'(?: [a-z]+\.[a-z-]+=(?:[A-Za-z0-9_.@+-]+|"[A-Za-z0-9_.@+/=-]+"))*\Z'
)


class RandomDns:
    """Answers the same to the same question, by chance, but the keys of the signers that are given."""

    def __init__(self, rng: random.Random, keys: dict[str, str]) -> None:
        self._rng = rng
        self._keys = keys
        self.asked: list[str] = []

    async def _answer(self, name: str) -> Answer[Any]:
        if self._rng.random() < 0.3:
            await asyncio.sleep(0)
        status = self._rng.choice([DnsStatus.FAILED, DnsStatus.NO_NAME, DnsStatus.NO_DATA])
        return Answer(status)

    async def txt(self, name: str) -> Answer[bytes]:
        self.asked.append(name)
        if name in self._keys:
            return Answer(DnsStatus.FOUND, (self._keys[name].encode(),))
        if self._rng.random() < 0.4:
            return await self._answer(name)
        texts = self._rng.choices(RECORDS, k=self._rng.choice([1, 1, 1, 2, 30]))
        return Answer(DnsStatus.FOUND, tuple(text.encode("latin-1") for text in texts))

    async def mx(self, name: str) -> Answer[MxRecord]:
        return await self._answer(name)

    async def a(self, name: str) -> Answer[str]:
        return await self._answer(name)

    async def aaaa(self, name: str) -> Answer[str]:
        return await self._answer(name)

    async def addresses(self, name: str) -> Answer[str]:
        return await self._answer(name)

    async def tlsa(self, name: str) -> Answer[TlsaRecord]:
        return await self._answer(name)

    async def ptr(self, address: str) -> Answer[str]:
        return await self._answer(address)

    async def srv(self, name: str) -> Answer[SrvRecord]:
        return await self._answer(name)

    async def caa(self, name: str) -> Answer[CaaRecord]:
        return await self._answer(name)


def _signers() -> tuple[list[SigningKey], dict[str, str]]:
    keys: list[SigningKey] = []
    records: dict[str, str] = {}
    for algorithm in DkimAlgorithm:
        pair = generate(algorithm)
        keys.append(load(DkimPrivateKey(DOMAIN, algorithm[0], algorithm, pair.private_key)))
        records[f"{algorithm[0]}._domainkey.{DOMAIN}"] = record_text(algorithm, pair.public_key)
    return keys, records


SIGNERS, KEYS = _signers()


def judge(message: bytes, dns: RandomDns, spf: SpfResult) -> AuthenticationFacts:
    async def told() -> SpfResult:
        return spf

    async def run() -> AuthenticationFacts:
        return await collect(prepare(message, read_header(message)), dns, told(), NOW, 5.0)

    facts = asyncio.run(run())
    assert not facts.unknown, facts.unknown
    assert len(dns.asked) <= QUESTIONS, len(dns.asked)
    assert len(set(dns.asked)) == len(dns.asked), dns.asked
    author_is_authentic(facts)
    texts = authentication_results(facts)
    for text in texts:
        assert TEXT.match(text), text
        assert len(text) < 1200, text
        (read,) = read_results(f"mx.example.org; {text}")
        assert text.startswith(f"{read.method}={read.result}"), text
    return facts


def sender(rng: random.Random) -> SpfResult:
    return SpfResult(rng.choice(list(Spf)), rng.choice([*NAMES, "a b", "x;y=z", ""]))


def fields(rng: random.Random) -> None:
    """A header of such fields as strangers write."""
    lines: list[str] = []
    for _ in range(rng.choice([1, 5, 20, 200])):
        name = rng.choice(FIELDS)
        if name in ("From", "Subject", "Authentication-Results", "ARC-Authentication-Results"):
            value = "".join(rng.choices(PIECES, k=rng.randrange(12)))
        else:
            value = rng.choice(["; ", ";", ";\r\n\t"]).join(rng.choices(TAGS, k=rng.randrange(14)))
        lines.append(f"{name}: {value}\r\n")
    message = "".join(lines).encode() + b"\r\n" + rng.choice([b"", b"\r\n" * 3, b"text\r\n"])
    judge(message, RandomDns(rng, KEYS), sender(rng))


def changes(rng: random.Random) -> None:
    """A signed message on its way."""
    subject = "".join(rng.choices(["a", " ", "\t", "ü", "\r\n ", ":"], k=rng.randrange(8))).strip()
    body = "".join(rng.choices(["word", " ", "\t", "\r\n", ".", "ü"], k=rng.randrange(20)))
    body += "" if body.endswith("\r\n") or not body else "\r\n"
    message = f"From: ada@{DOMAIN}\r\nTo: bob@example.net\r\nSubject: {subject}\r\n\r\n{body}".encode()
    signed = sign(message, SIGNERS, NOW) + message
    harmless = [
        lambda m: b"Received: from x by y; now\r\n" + m,
        lambda m: m.replace(b"To: bob", b"TO :\r\n\t bob"),
        lambda m: m + b"\r\n" * rng.randrange(5),
        lambda m: m.replace(b"From: ada", b"from:  ada"),
    ]
    harmful = [
        lambda m: m.replace(b"ada@", b"eve@"),
        lambda m: m + b"x\r\n",
        lambda m: m.replace(b"bob@example.net", b"bob@example.com"),
        lambda m: m.replace(b"Subject:", b"Subject: Re:"),
        lambda m: b"From: eve@evil.example\r\n" + m,
        lambda m: m.replace(b"\r\n\r\n", b"\r\nSubject: more\r\n\r\n", 1),
        lambda m: m.replace(b"a=rsa-sha256; c=relaxed/relaxed", b"a=rsa-sha256; c=relaxed/relaxed; l=0")
        .replace(b"a=ed25519-sha256; c=relaxed/relaxed", b"a=ed25519-sha256; c=relaxed/relaxed; l=0"),
    ]  # fmt: skip
    for change in rng.choices(harmless, k=rng.randrange(4)):
        signed = change(signed)
    spoiled = rng.random() < 0.5
    if spoiled:
        signed = rng.choice(harmful)(signed)
    facts = judge(signed, RandomDns(rng, KEYS), SpfResult(Spf.NONE, ""))
    assert facts.dkim is not None and len(facts.dkim) == 2
    for result in facts.dkim:
        assert result.passed is not spoiled, (result, signed)
        assert not spoiled or result.result in (Dkim.FAIL, Dkim.POLICY), result


def octets(rng: random.Random) -> None:
    """A signed message with octets that are others by chance."""
    message = b"From: ada@example.org\r\nSubject: x\r\n\r\ntext\r\n"
    signed = bytearray(sign(message, SIGNERS, NOW) + message)
    for _ in range(rng.randrange(1, 4)):
        signed[rng.randrange(len(signed))] = rng.choice(b" ;=:\r\n\t\0a\xff")
    judge(bytes(signed), RandomDns(rng, KEYS), sender(rng))


def walks(rng: random.Random) -> None:
    """Whatever is published, an organizational domain is the domain or one above it."""
    domain = ".".join(rng.choices(["a", "b", "example", "org", "xn--x"], k=rng.randrange(1, 30)))
    dns = RandomDns(rng, {})
    walk = asyncio.run(TreeWalk(dns).walk(domain))
    assert len(dns.asked) <= 8
    organizational = walk.organizational_domain
    assert walk.failed is (not organizational)
    assert not organizational or domain == organizational or domain.endswith("." + organizational)
    assert walk.policy is None or domain == walk.policy.domain or domain.endswith("." + walk.policy.domain)


def fuzz(seed: int, *, seconds: float = 0.0, rounds: int = 0) -> int:
    """Runs for `rounds`, or for `seconds`; the number of rounds. Raises AssertionError, with the seed of the round."""
    started, done = time.monotonic(), 0
    while done < rounds or time.monotonic() - started < seconds:
        for target, times in ((fields, 5), (changes, 5), (octets, 5), (walks, 10)):
            for number in range(times):
                mark = f"{seed}/{done}/{target.__name__}/{number}"
                try:
                    target(random.Random(mark))
                except Exception as error:
                    raise AssertionError(f"round {mark}: {error!r}") from error
        done += 1
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    try:
        print(f"{fuzz(options.seed, seconds=options.seconds)} rounds, nothing found")
    except AssertionError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

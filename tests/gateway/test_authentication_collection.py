"""Collecting who stands behind a message: within the time limit, whatever is late, breaks or lies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from dns_server import DnsServer, Lie
from signing import NOW, TestSigner, seal, sign
from zone_dns import ZoneDns

from gateway.arc.result import Arc
from gateway.authentication import AuthenticationFacts, author_is_authentic, collect, prepare
from gateway.authentication.collection import BROKEN, LATE
from gateway.dkim.result import Dkim
from gateway.dmarc.result import Dmarc, Policy
from gateway.dns.answers import Answer
from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.spf import Spf, SpfResult, check_host
from storage.mime.fields import read_header
from storage.values import EmailAddress

SIGNER = TestSigner()
RELAY = TestSigner("relay.example", "s")
ZONE = {**SIGNER.zone, **RELAY.zone, "_dmarc.example.org": "v=DMARC1; p=reject"}
PLAIN = b"From: Ada <ada@example.org>\r\nTo: b@example.net\r\nSubject: x\r\n\r\nText\r\n"
SIGNED = sign(PLAIN, SIGNER)
SEALED = seal(SIGNED, RELAY)
PASS = SpfResult(Spf.PASS, "example.org")
FAIL = SpfResult(Spf.FAIL, "example.org")


async def at_once(result: SpfResult = FAIL) -> SpfResult:
    return result


async def never() -> SpfResult:
    await asyncio.Event().wait()
    raise AssertionError


async def broken() -> SpfResult:
    raise OSError("a fault of ours")


def collected(
    message: bytes,
    dns: Any,
    spf: Callable[[], Awaitable[SpfResult]] = at_once,
    limit: float = 20.0,
) -> AuthenticationFacts:
    async def run() -> AuthenticationFacts:
        return await collect(prepare(message, read_header(message)), dns, spf(), NOW, limit)

    return asyncio.run(run())


def test_everything_in_time() -> None:
    for turns in (0, 3):
        facts = collected(SEALED, ZoneDns(ZONE, loop_turns=turns))
        assert facts.spf == FAIL and facts.dkim is not None and facts.arc is not None and facts.dmarc is not None
        assert [each.result for each in facts.dkim] == [Dkim.PASS]
        assert (facts.arc.result, facts.dmarc.result) == (Arc.PASS, Dmarc.PASS)
        assert facts.unknown == () and author_is_authentic(facts)


def test_a_message_that_nobody_signed() -> None:
    dns = ZoneDns(ZONE)
    facts = collected(PLAIN, dns)
    assert facts.dkim == () and facts.arc is not None and facts.arc.result is Arc.NONE
    assert facts.dmarc is not None and (facts.dmarc.result, facts.dmarc.policy) == (Dmarc.FAIL, Policy.REJECT)
    assert dns.asked == ["_dmarc.example.org", "_dmarc.org"]


def test_an_author_beside_the_one_who_signs_does_not_hide_behind_him() -> None:
    evil = TestSigner("evil.example")
    zone = {**ZONE, **evil.zone, "_dmarc.evil.example": "v=DMARC1; p=none"}
    message = sign(PLAIN.replace(b"Ada <ada@example.org>", b"eve@evil.example <ada@example.org>"), evil)
    facts = collected(message, ZoneDns(zone))
    assert facts.dkim is not None and facts.dkim[0].passed
    assert facts.dmarc is not None and (facts.dmarc.result, facts.dmarc.policy) == (Dmarc.FAIL, Policy.REJECT)
    assert facts.dmarc.domain == "example.org" and not author_is_authentic(facts)


def test_nothing_is_asked_twice() -> None:
    dns = ZoneDns(ZONE, loop_turns=2)
    collected(SEALED, dns)
    assert len(dns.asked) == len(set(dns.asked))


def test_spf_that_never_ends_takes_nothing_with_it() -> None:
    facts = collected(SIGNED, ZoneDns(ZONE), never, limit=0.1)
    assert facts.spf is None and facts.why_unknown("spf") == LATE
    assert facts.dmarc is not None and facts.dmarc.result is Dmarc.PASS  # by its signature
    facts = collected(PLAIN, ZoneDns(ZONE), never, limit=0.1)
    assert facts.dmarc is not None and facts.dmarc.result is Dmarc.TEMPERROR  # nobody's policy applies to it


def test_a_key_that_is_never_answered() -> None:
    dns = ZoneDns(ZONE)
    dns.endless.add(SIGNER.name)
    facts = collected(SEALED, dns, limit=0.1)
    assert facts.dkim is None and facts.why_unknown("dkim") == LATE
    assert facts.arc is not None and facts.arc.result is Arc.PASS
    assert facts.dmarc is not None and facts.dmarc.result is Dmarc.TEMPERROR
    dns.endless.add(RELAY.name)
    facts = collected(SEALED, dns, lambda: at_once(PASS), limit=0.1)
    assert facts.arc is None and facts.why_unknown("arc") == LATE
    assert facts.dmarc is not None and facts.dmarc.result is Dmarc.PASS


def test_a_signature_of_another_whose_key_is_never_answered_suspends_nobodys_policy() -> None:
    evil = TestSigner("evil.example")
    dns = ZoneDns({**ZONE, **evil.zone})
    dns.endless.add(evil.name)
    facts = collected(sign(PLAIN, evil), dns, limit=0.1)
    assert facts.dkim is None and facts.why_unknown("dkim") == LATE
    assert facts.dmarc is not None and (facts.dmarc.result, facts.dmarc.policy) == (Dmarc.FAIL, Policy.REJECT)


def test_a_policy_that_is_never_answered() -> None:
    dns = ZoneDns(ZONE)
    dns.endless.add("_dmarc.example.org")
    facts = collected(SIGNED, dns, limit=0.1)
    assert facts.dkim is not None and facts.dkim[0].passed
    assert facts.dmarc is None and facts.why_unknown("dmarc") == LATE
    assert author_is_authentic(facts)  # its very own domain signed


def test_no_time_at_all() -> None:
    facts = collected(SEALED, ZoneDns(ZONE, loop_turns=3), never, limit=0.0)
    assert (facts.spf, facts.dkim, facts.arc, facts.dmarc) == (None, None, None, None)
    assert {each.method for each in facts.unknown} == {"spf", "dkim", "arc", "dmarc"}


def test_what_breaks_is_unknown() -> None:
    class BrokenDns(ZoneDns):
        async def txt(self, name: str) -> Answer[bytes]:
            raise RuntimeError("a fault of ours")

    facts = collected(SEALED, BrokenDns(), broken)
    assert (facts.spf, facts.dkim, facts.arc, facts.dmarc) == (None, None, None, None)
    assert {each.method: each.reason for each in facts.unknown} == dict.fromkeys(
        ("spf", "dkim", "arc", "dmarc"), BROKEN
    )


def test_a_future_of_the_callers_goes_on() -> None:
    """SPF began when the reverse-path was known, and others wait for it too."""

    async def run() -> None:
        own: asyncio.Future[SpfResult] = asyncio.get_running_loop().create_future()
        prepared = prepare(SIGNED, read_header(SIGNED))
        facts = await collect(prepared, ZoneDns(ZONE), own, NOW, 0.05)
        assert facts.spf is None and not own.cancelled()
        own.set_result(PASS)
        assert (await collect(prepared, ZoneDns(ZONE), own, NOW)).spf == PASS
        given_up: asyncio.Future[SpfResult] = asyncio.get_running_loop().create_future()
        given_up.cancel()
        facts = await collect(prepared, ZoneDns(ZONE), given_up, NOW)
        assert facts.spf is None and facts.why_unknown("spf") == LATE

    asyncio.run(run())


def test_being_cancelled_leaves_nothing_behind() -> None:
    async def run() -> None:
        dns = ZoneDns(ZONE)
        dns.endless.update((SIGNER.name, "_dmarc.example.org"))
        task = asyncio.create_task(collect(prepare(SEALED, read_header(SEALED)), dns, never(), NOW))
        while len(dns.asked) < 4:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_an_author_who_is_not_clear_does_not_pass() -> None:
    for message in (
        sign(b"From: eve@evil.example\r\n" + PLAIN, SIGNER, h="From:From:To:Subject"),
        sign(PLAIN.replace(b"<ada@example.org>", b"<ada@example.org>, ceo@"), SIGNER),
    ):
        facts = collected(message, ZoneDns(ZONE))
        assert facts.dkim is not None and facts.dkim[0].passed
        assert facts.dmarc is not None and not facts.dmarc.passed
        assert not author_is_authentic(facts)
    facts = collected(PLAIN.replace(b"From:", b"X:"), ZoneDns(ZONE))
    assert facts.dmarc is not None and facts.dmarc.result is Dmarc.PERMERROR


def test_over_a_name_server() -> None:
    """With SPF's own look-ups, and with a server that is silent from one moment on."""
    zone = {name: {"TXT": text} for name, text in ZONE.items()}
    zone["example.org"] = {"TXT": "v=spf1 ip4:192.0.2.1 -all"}
    with DnsServer(zone) as server:

        def run(address: str, limit: float = 20.0) -> AuthenticationFacts:
            resolver = Resolver(DnsSettings(nameservers=server.nameservers, port=server.port, timeout=2, cache=0))
            path = EmailAddress.parse("ada@example.org")
            return collected(SIGNED, resolver, lambda: check_host(resolver, address, "mx.example.org", path), limit)

        facts = run("192.0.2.1")
        assert facts.spf is not None and facts.spf.passed and author_is_authentic(facts)
        assert facts.dmarc is not None and {each.method for each in facts.dmarc.aligned} == {"spf", "dkim"}
        server.lie("example.org", Lie(silent=True), "TXT")
        facts = run("192.0.2.1", limit=0.5)
        assert facts.spf is None and facts.dmarc is not None and facts.dmarc.passed
        server.lie("*", Lie(silent=True))
        facts = run("192.0.2.1", limit=0.5)
        assert {each.method for each in facts.unknown} == {"spf", "dkim", "dmarc"}
        assert not author_is_authentic(facts)


@pytest.mark.parametrize("slow", ["_dmarc.slow.example", "_dmarc.example"])
def test_a_slow_domain_beside_the_author_suspends_no_policy(slow: str) -> None:
    """`begin` waits for it in vain; what others answered meanwhile is kept."""
    for value in (b"Eve <eve@slow.example>, Ada <ada@forged.test>", b"Ada <ada@forged.test>, Eve <eve@slow.example>"):
        dns = ZoneDns({"_dmarc.forged.test": "v=DMARC1; p=reject"})
        dns.endless.add(slow)
        facts = collected(PLAIN.replace(b"Ada <ada@example.org>", value), dns, limit=0.2)
        assert facts.dmarc is not None and (facts.dmarc.result, facts.dmarc.domain) == (Dmarc.FAIL, "forged.test")

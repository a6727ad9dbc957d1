"""Facts about a message are collected in time: what waits or costs too much is unknown, and nothing else with it."""

from __future__ import annotations

import asyncio
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attachments import PE, zipped
from attachments import message as with_attachment
from signing import TestSigner, sign
from zone_dns import Texts, ZoneDns

from gateway.classifier.features import features_of
from gateway.classifier.model import Models, SharedModel
from gateway.classifier.trainer import Trainer
from gateway.content_facts import HelloFinding, Incomplete
from gateway.dmarc.result import Dmarc
from gateway.facts.client import ClientChecks
from gateway.facts.collect import AT_ONCE, Collected, Collector, Scanners, Transaction
from gateway.facts.reading import GLANCE, is_light
from gateway.facts.sender import SenderChecks
from gateway.scanners import Clamd
from gateway.smtp.content import Content
from gateway.spf import Spf
from gateway.work import Work
from storage.clock import FixedClock
from storage.values import EmailAddress

MESSAGE = b"From: Ada <ada@far.test>\r\nTo: bob@here.test\r\nSubject: x\r\n\r\nHello\r\n"
ZONE: dict[str, Texts] = {"far.test": "v=spf1 ip4:192.0.2.1 -all", "_dmarc.far.test": "v=DMARC1; p=reject"}
# An archive that is large when it is unpacked, though small in the message.
HEAVY = zipped({"b.zip": zipped({"zeros": bytes(3 * GLANCE.work), "invoice.exe": PE}, zipfile.ZIP_STORED)})
CLOCK = FixedClock(1_780_000_000)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def collected(tmp_path: Path, pool: ThreadPoolExecutor) -> Callable[..., Collected]:
    def run(
        message: bytes = MESSAGE,
        *,
        dns: ZoneDns | None = None,
        path: str = "ada@far.test",
        hello: str = "mx.far.test",
        limit: float = 10.0,
        scanners: Scanners | None = None,
        heavy_at_once: int = 2,
    ) -> Collected:
        async def collect_all() -> Collected:
            zone = dns or ZoneDns(ZONE)
            models = Models(tmp_path / "model", CLOCK)
            collector = Collector(
                zone,
                models,
                scanners or Scanners(),
                Work(pool),
                CLOCK,
                "mx.here.test",
                limit,
                heavy_at_once=heavy_at_once,
            )
            sender = EmailAddress.parse(path) if path else None
            client = ClientChecks(zone).begin("192.0.2.1")
            check = SenderChecks(zone, "mx.here.test").begin("192.0.2.1", hello, sender)
            to = [EmailAddress.parse("bob@here.test")]
            content = Content(str(tmp_path), 100_000_000)
            content.write(message)
            try:
                return await collector.message(
                    Transaction("192.0.2.1", hello, sender, to, False, client, check), content
                )
            finally:
                content.close()
                client.cancel()
                check.cancel()
                await asyncio.sleep(0)
                assert asyncio.all_tasks() == {asyncio.current_task()}, "something goes on behind our back"

        return asyncio.run(collect_all())

    return run


Collect = Callable[..., Collected]


def test_all_of_them(collected: Collect) -> None:
    found = collected(hello="localhost")
    facts = found.facts
    assert facts.authentication.spf is not None and facts.authentication.spf.result is Spf.PASS
    assert facts.authentication.dmarc is not None and facts.authentication.dmarc.result is Dmarc.PASS
    assert [str(author) for author in facts.authors] == ["ada@far.test"]
    assert facts.client.hello_findings >= {HelloFinding.LOCAL_NAME}
    assert facts.content is not None and facts.content.attachments == ()
    assert facts.size == len(MESSAGE) and facts.unknown == {} and found.authentic
    assert facts.malware is None and facts.rspamd is None and found.reading.shared is None


def test_the_shared_model_scores(collected: Collect, tmp_path: Path) -> None:
    trainer = Trainer(bits=16)
    for _ in range(5):
        trainer.learn(features_of(MESSAGE), True)
    trainer.save(tmp_path / "model", CLOCK.now())
    found = collected()
    assert found.reading.shared is not None and found.reading.shared > 0
    assert found.reading.features is not None


def test_large_archives_are_looked_into_in_a_turn_of_their_own(collected: Collect) -> None:
    facts = collected(with_attachment(("a.zip", HEAVY))).facts
    assert facts.content is not None
    names = [attachment.name for attachment in facts.content.attachments]
    assert "invoice.exe" in names and facts.content.incomplete is None


HEAD, BODY = MESSAGE.split(b"\r\n\r\n")
COSTLY = {
    "fields": b"x:\r\n" * 5000 + MESSAGE,
    "parts": HEAD + b"\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\n" * 5000,
    "encoded words": b"X: " + b"=?utf-8?q?a?= " * 2000 + b"\r\n" + MESSAGE,
    "comments": b"X: " + b"(" * 20_000 + b"\r\n" + MESSAGE,
}


@pytest.mark.parametrize("message", COSTLY.values(), ids=COSTLY)
def test_what_is_made_to_be_expensive_is_no_event_loops_work(
    collected: Collect, pool: ThreadPoolExecutor, message: bytes
) -> None:
    assert len(message) < AT_ONCE and is_light(MESSAGE) and not is_light(message)
    go = threading.Event()
    busy = [pool.submit(go.wait, 20) for _ in range(2)]
    try:
        assert collected(message, limit=0.1).facts.content is None, "no thread was free"
    finally:
        go.set()
    assert all(each.result(20) for each in busy)
    assert collected(message).facts.content is not None


def test_of_a_reading_that_comes_too_late_nothing_is_known(collected: Collect, pool: ThreadPoolExecutor) -> None:
    go = threading.Event()
    busy = [pool.submit(go.wait, 20) for _ in range(2)]
    try:
        facts = collected(MESSAGE + b"and more\r\n" * (AT_ONCE // 10), limit=0.2).facts
    finally:
        go.set()
    assert all(each.result(20) for each in busy)
    assert facts.content is None and facts.authentication.dmarc is None and facts.authors == ()
    assert facts.authentication.spf is not None and facts.authentication.spf.passed
    assert {"content", "dkim", "arc", "dmarc"} <= facts.unknown.keys()


@pytest.mark.parametrize(
    ("silent", "unknown"),
    [
        ("far.test", {"spf": "not known in time"}),
        ("_dmarc.far.test", {"dmarc": "not known in time"}),
        ("s1._domainkey.far.test", {"dkim": "not known in time"}),
    ],
)
def test_one_silent_name_takes_no_other_fact_with_it(collected: Collect, silent: str, unknown: dict[str, str]) -> None:
    signer = TestSigner("far.test", "s1")
    dns = ZoneDns({**ZONE, **signer.zone})
    dns.endless.add(silent)
    facts = collected(sign(MESSAGE, signer), dns=dns, limit=0.4).facts
    assert facts.unknown == unknown
    authentication = facts.authentication
    known = {"spf": authentication.spf, "dkim": authentication.dkim, "dmarc": authentication.dmarc}
    assert {name for name, value in known.items() if value is None} == unknown.keys()


@pytest.mark.parametrize(
    ("path", "hello", "dmarc"),
    [
        ("eve@slow.test", "mx.slow.test", Dmarc.FAIL),
        ("", "slow.test", Dmarc.FAIL),
        ("ada@far.test", "mx.slow.test", Dmarc.TEMPERROR),
    ],
)
def test_a_reverse_path_whose_dns_is_slow_suspends_nobody_elses_policy(
    collected: Collect, path: str, hello: str, dmarc: Dmarc
) -> None:
    """What SPF would say is not known, but whose word it would be: only its own domain's may still pass."""
    dns = ZoneDns(ZONE)
    dns.endless |= {"slow.test", "far.test"}
    facts = collected(dns=dns, path=path, hello=hello, limit=0.4).facts
    assert facts.authentication.spf is None and facts.unknown == {"spf": "not known in time"}
    assert facts.authentication.dmarc is not None and facts.authentication.dmarc.result is dmarc


def test_a_scanner_that_is_not_there_is_unknown(collected: Collect) -> None:
    clamd = Clamd("127.0.0.1:1", 1.0, clock=CLOCK)
    facts = collected(scanners=Scanners(clamd)).facts
    assert facts.malware is not None and facts.malware.unknown == facts.unknown["malware"] != ""
    assert facts.rspamd is None


@pytest.mark.parametrize(
    ("path", "spf", "signed", "authentic"),
    [
        ("ada@far.test", "v=spf1 ip4:192.0.2.1 -all", False, True),
        ("ada@far.test", "v=spf1 -all", False, False),
        ("ada@far.test", "v=spf1 -all", True, True),
        ("bounces@mail.far.test", "", True, True),
        ("ada@other.test", "", True, False),
        ("", "v=spf1 ip4:192.0.2.1 -all", True, False),
    ],
)
def test_whether_a_bounce_may_go_back(collected: Collect, path: str, spf: str, signed: bool, authentic: bool) -> None:
    """RFC 3834 §2: to nobody who only was named."""
    signer = TestSigner("far.test", "s1")
    dns = ZoneDns({**signer.zone, **({"far.test": spf} if spf else {})})
    message = sign(MESSAGE, signer) if signed else MESSAGE
    assert collected(message, dns=dns, path=path).authentic is authentic


def test_while_others_have_their_turns_a_glance_has_to_do(collected: Collect) -> None:
    """What is not looked into then is said to be so."""
    facts = collected(with_attachment(("a.zip", HEAVY)), limit=0.3, heavy_at_once=0).facts
    assert facts.content is not None
    told = {facts.content.incomplete, *(each.incomplete for each in facts.content.attachments)}
    assert Incomplete.TOO_MUCH_WORK in told


def test_who_waits_for_a_turn_with_his_archive_is_authenticated_meanwhile(collected: Collect) -> None:
    """Or nobody's policy would be known of what comes with one, as long as there are enough of them."""
    message = with_attachment(("a.zip", HEAVY), head=b"From: Ada <ada@far.test>\r\n")
    facts = collected(message, dns=ZoneDns(ZONE, loop_turns=3), path="", limit=0.3, heavy_at_once=0).facts
    assert facts.authentication.dmarc is not None and facts.authentication.dmarc.result is Dmarc.FAIL
    assert facts.unknown == {}


def test_no_event_loop_reads_the_file_of_a_new_model(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    loops: list[bool] = []

    class Looked(Models):
        def current(self) -> SharedModel | None:
            if self.due:
                loops.append(asyncio._get_running_loop() is not None)
            return super().current()

    async def collect_twice() -> None:
        clock, zone = FixedClock(), ZoneDns(ZONE)
        collector = Collector(zone, Looked(tmp_path / "model", clock), Scanners(), Work(pool), clock, "mx.here.test")
        sender = EmailAddress.parse("ada@far.test")
        client = ClientChecks(zone).begin("192.0.2.1")
        check = SenderChecks(zone, "mx.here.test").begin("192.0.2.1", "mx.far.test", sender)
        content = Content(str(tmp_path), 100_000)
        content.write(MESSAGE)
        asked = Transaction("192.0.2.1", "mx.far.test", sender, [], False, client, check)
        for _ in range(2):
            assert (await collector.message(asked, content)).facts.content is not None
            clock.advance(60)
        content.close()

    asyncio.run(collect_twice())
    assert loops == [False, False]

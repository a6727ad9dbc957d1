"""The resolver against a name server on loopback: answers, the four kinds of no, lies, the cache, the AD bit."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from dns_server import DnsServer, Lie

from gateway.dns.answers import Answer, CaaRecord, DnsStatus, MxRecord, SrvRecord, TlsaRecord
from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from storage.clock import FixedClock

T = TypeVar("T")
Run = Callable[[Awaitable[T]], T]

ZONE: dict[str, dict[str, Any]] = {
    "example.test": {
        "MX": ["20 Backup.Example.Test.", "10 mx.example.test."],
        "TXT": ["v=spf1 mx -all", '"two " "strings"', "ü"],
        "CAA": ['0 issue "ca.test"'],
        "A": ["192.0.2.7"],
        "AAAA": ["2001:db8::7"],
    },
    "null.test": {"MX": "0 ."},
    "alias.test": {"CNAME": "www.alias.test."},
    "www.alias.test": {"CNAME": "four.test."},
    "four.test": {"A": ["192.0.2.4"]},
    "dangling.test": {"CNAME": "nowhere.test."},
    "loop.test": {"CNAME": "pool.test."},
    "pool.test": {"CNAME": "loop.test."},
    "_25._tcp.mx.example.test": {"TLSA": f"3 1 1 {'ab' * 32}"},
    "_imaps._tcp.example.test": {"SRV": "0 1 993 imap.example.test."},
    "7.2.0.192.in-addr.arpa": {"PTR": "Seven.example.test."},
    "xn--bcher-kva.test": {"A": "192.0.2.9"},
    "_25._tcp.xn--bcher-kva.test": {"TLSA": f"2 0 2 {'cd' * 64}"},
    "big.test": {"TXT": [f"{number:03} " + "x" * 200 for number in range(30)]},
}


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        yield server


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield lambda work: runner.run(_await(work))


async def _await(work: Awaitable[T]) -> T:
    return await work


def resolver(server: DnsServer, **settings: Any) -> Resolver:
    return Resolver(DnsSettings(**{"nameservers": server.nameservers, "port": server.port, "timeout": 5.0, **settings}))


def test_every_kind_of_record(server: DnsServer, run: Run[Any]) -> None:
    dns = resolver(server)

    async def ask() -> None:
        mx = await dns.mx("Example.Test.")
        assert mx.records == (MxRecord(10, "mx.example.test"), MxRecord(20, "backup.example.test"))
        assert mx.status is DnsStatus.FOUND and mx and not mx.secure and mx.name == "example.test"
        assert (await dns.mx("null.test")).records == (MxRecord(0, ""),)  # RFC 7505
        assert (await dns.a("example.test")).records == ("192.0.2.7",)
        assert (await dns.aaaa("example.test")).records == ("2001:db8::7",)
        assert (await dns.addresses("example.test")).records == ("2001:db8::7", "192.0.2.7")
        texts = (await dns.txt("example.test")).records
        assert set(texts) == {b"v=spf1 mx -all", b"two strings", "ü".encode()}
        assert (await dns.tlsa("_25._tcp.mx.example.test")).records == (TlsaRecord(3, 1, 1, b"\xab" * 32),)
        assert (await dns.ptr("192.0.2.7")).records == ("seven.example.test",)
        assert (await dns.srv("_imaps._tcp.example.test")).records == (SrvRecord(0, 1, 993, "imap.example.test"),)
        assert (await dns.caa("example.test")).records == (CaaRecord(0, "issue", "ca.test"),)

    run(ask())


def test_internationalised_names_are_asked_as_a_labels(server: DnsServer, run: Run[Any]) -> None:
    """RFC 5890: also beside labels with an underscore."""
    dns = resolver(server)
    assert run(dns.a("BÜCHER.test")).records == ("192.0.2.9",)
    assert run(dns.tlsa("_25._tcp.bücher.test")).records == (TlsaRecord(2, 0, 2, b"\xcd" * 64),)


def test_nothing_is_asked_any_more_after_the_end(server: DnsServer, run: Run[Any]) -> None:
    """Who asked was cancelled, which does not end the question; the end of whoever owns the resolver does."""
    dns = resolver(server)
    server.lie("example.test", Lie(silent=True))

    async def ask() -> None:
        others = asyncio.all_tasks()  # of the name server
        asking = asyncio.create_task(dns.a("example.test"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert asyncio.all_tasks() > others
        await dns.close()
        assert asyncio.all_tasks() <= others

    run(ask())


def test_the_kinds_of_no(server: DnsServer, run: Run[Any]) -> None:
    dns = resolver(server)
    server.lie("broken.test", Lie(rcode="SERVFAIL"))

    async def statuses() -> list[DnsStatus]:
        names = ("nowhere.test", "four.test", "alias.test", "dangling.test", "broken.test", "in-addr.arpa")
        return [(await dns.aaaa(name)).status for name in names]

    no_name, no_data, failed = DnsStatus.NO_NAME, DnsStatus.NO_DATA, DnsStatus.FAILED
    assert run(statuses()) == [no_name, no_data, no_data, no_name, failed, no_data]
    assert run(dns.addresses("nowhere.test")).status is no_name
    assert run(dns.addresses("null.test")).status is no_data
    assert run(dns.addresses("broken.test")).failed


@pytest.mark.parametrize(
    "name", ["a" * 64 + ".test", "a..test", ".test", ".".join(["abcdefgh"] * 30), "ü" * 64 + ".test", "\ud800.test"]
)
def test_a_name_that_cannot_be_is_not_asked(server: DnsServer, name: str) -> None:
    answer = asyncio.run(resolver(server).a(name))
    assert answer.status is DnsStatus.NO_NAME
    assert not server.questions


@pytest.mark.parametrize("address", ["nonsense", "", "1.2.3", "fe80::1%eth0 x"])
def test_what_is_no_address_has_no_name(server: DnsServer, address: str) -> None:
    assert asyncio.run(resolver(server).ptr(address)).status is DnsStatus.NO_NAME


def test_text_is_no_zone_file(server: DnsServer) -> None:
    """A backslash is an octet: names come from strangers."""
    answer = asyncio.run(resolver(server).a(r"exa\109ple.test"))
    assert answer.status is DnsStatus.NO_NAME
    assert server.asked(r"exa\109ple.test", "A") == 1


def test_cnames_are_followed(server: DnsServer, run: Run[Any]) -> None:
    answer = run(resolver(server).a("alias.test"))
    assert (answer.records, answer.name) == (("192.0.2.4",), "four.test")


@pytest.mark.parametrize("name", ["loop.test", "endless.test"])
def test_cnames_without_end_are_given_up(server: DnsServer, name: str) -> None:
    """RFC 1034 §3.6.2: chains should be followed, loops signalled as an error."""
    server.lie("endless.test", Lie(endless=True))
    assert asyncio.run(resolver(server).a(name)).failed
    assert server.questions.total() <= 8


def test_an_answer_too_large_for_udp_comes_over_tcp(server: DnsServer, run: Run[Any]) -> None:
    """RFC 7766 §5."""
    assert len(run(resolver(server).txt("big.test")).records) == 30
    server.lie("example.test", Lie(truncated=True))
    assert run(resolver(server).a("example.test")).records == ("192.0.2.7",)
    assert server.over_tcp.total() == 2


@pytest.mark.parametrize(
    "lie",
    [
        Lie(silent=True),
        Lie(wrong_id=True),
        Lie(garbage=True),
        Lie(other_question=True),
        Lie(only_truncated=True),
        Lie(delay=5.0),
        Lie(rcode="SERVFAIL"),
        Lie(rcode="REFUSED"),
        Lie(rcode="FORMERR"),
        Lie(rcode="NOTIMP"),
    ],
)
def test_a_lie_is_a_failure_in_time(server: DnsServer, run: Run[Any], lie: Lie) -> None:
    server.lie("*", lie)
    dns = resolver(server, timeout=0.2)

    async def ask() -> Answer[str]:
        async with asyncio.timeout(2):
            return await dns.a("example.test")

    assert run(ask()).failed


def test_garbage_before_the_answer_does_no_harm(server: DnsServer, run: Run[Any]) -> None:
    """A forged datagram with another id, then the right one: the second attempt hears it."""
    server.lie("example.test", Lie(wrong_id=True, times=1))
    assert run(resolver(server, timeout=1.0).a("example.test")).records == ("192.0.2.7",)


@pytest.mark.parametrize("kind", ["mx", "txt", "caa"])
def test_answers_with_wrong_octets(server: DnsServer, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A seeded fuzz: whatever comes is an answer or a failure, and dnspython never surprises us."""
    server.put(
        "*.fuzz.test",
        MX=["10 a.fuzz.test.", "20 b.fuzz.test."],
        TXT=["one", '"two" "three"'],
        CAA=['0 issue "ca.test"'],
    )
    server.lie("*", Lie(scrambled=True))
    dns = resolver(server, timeout=0.5)

    async def ask() -> list[Answer[Any]]:
        return await asyncio.gather(*(getattr(dns, kind)(f"n{number}.fuzz.test") for number in range(100)))

    answers = asyncio.run(ask())
    assert len(answers) == 100
    assert not [line for line in lines(caplog) if "could not be read" in line]


def test_questions_wait_their_turn(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.dns.resolver.AT_ONCE", 2)
    server.put("*.many.test", A="192.0.2.1")
    dns = resolver(server)

    async def ask() -> list[Answer[str]]:
        return await asyncio.gather(*(dns.a(f"n{number}.many.test") for number in range(50)))

    assert all(asyncio.run(ask()))


def test_the_second_name_server_answers_for_the_first(server: DnsServer, run: Run[Any]) -> None:
    dns = resolver(server, nameservers=("127.0.0.2", "127.0.0.1"))  # nobody listens on the first
    assert run(dns.a("example.test")).records == ("192.0.2.7",)


# The cache


def cached(server: DnsServer, clock: FixedClock, **settings: Any) -> Resolver:
    settings = {"nameservers": server.nameservers, "port": server.port, "timeout": 5.0, **settings}
    return Resolver(DnsSettings(**settings), clock)


def test_answers_live_as_long_as_their_ttl(server: DnsServer) -> None:
    clock = FixedClock()
    dns = cached(server, clock)
    for seconds, asked in ((0, 1), (59, 1), (1, 2), (30, 2)):
        clock.advance(seconds)
        assert asyncio.run(dns.a("EXAMPLE.test.")).records == ("192.0.2.7",)
        assert server.asked("example.test", "A") == asked


@pytest.mark.parametrize(
    ("name", "ttl", "lives"),
    [
        ("example.test", 0, 5),
        ("example.test", 1_000_000, 3600),
        ("nowhere.test", 300, 300),  # RFC 2308 §5: the SOA's TTL
        ("nowhere.test", 10_000, 900),
        ("broken.test", 60, 5),
    ],
)
def test_ttls_have_bounds(server: DnsServer, name: str, ttl: int, lives: int) -> None:
    server.ttls[name] = ttl
    server.lie("broken.test", Lie(rcode="SERVFAIL"))
    clock = FixedClock()
    dns = cached(server, clock)
    for seconds, asked in ((0, 1), (lives - 1, 1), (1, 2)):
        clock.advance(seconds)
        asyncio.run(dns.a(name))
        assert server.asked(name, "A") == asked


def test_the_cache_is_bounded_and_keeps_what_is_used(server: DnsServer) -> None:
    server.put("*.many.test", A="192.0.2.1")
    dns = cached(server, FixedClock(), cache=10)

    async def ask() -> None:
        for number in range(50):
            await dns.a("example.test")
            await dns.a(f"n{number}.many.test")

    asyncio.run(ask())
    assert len(dns._cache) == 10
    assert server.asked("example.test", "A") == 1


def test_a_long_answer_weighs_more(server: DnsServer) -> None:
    dns = cached(server, FixedClock(), cache=10)
    asyncio.run(dns.txt("big.test"))  # thirty records
    assert len(dns._cache) == 0


def test_without_a_cache_every_question_is_asked(server: DnsServer) -> None:
    dns = cached(server, FixedClock(), cache=0)
    for _ in range(3):
        asyncio.run(dns.a("example.test"))
    assert server.asked("example.test", "A") == 3


def test_forget_asks_anew(server: DnsServer) -> None:
    dns = cached(server, FixedClock())
    assert asyncio.run(dns.a("new.test")).status is DnsStatus.NO_NAME
    server.put("new.test", A="192.0.2.3")
    dns.forget()
    assert asyncio.run(dns.a("new.test")).records == ("192.0.2.3",)


def test_equal_questions_share_one(server: DnsServer, run: Run[Any]) -> None:
    server.lie("example.test", Lie(delay=0.05))
    dns = resolver(server)

    async def ask() -> list[Answer[str]]:
        return await asyncio.gather(*(dns.a("example.test") for _ in range(100)))

    assert {answer.records for answer in run(ask())} == {("192.0.2.7",)}
    assert server.asked("example.test", "A") == 1


def test_who_gives_up_does_not_take_the_answer_from_others(server: DnsServer, run: Run[Any]) -> None:
    server.lie("example.test", Lie(delay=0.1))
    dns = resolver(server)

    async def ask() -> Answer[str]:
        first = asyncio.ensure_future(dns.a("example.test"))
        second = asyncio.ensure_future(dns.a("example.test"))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert run(ask()).records == ("192.0.2.7",)


# DNSSEC


@pytest.mark.parametrize(
    ("validating", "signed", "secure"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_the_ad_bit_is_believed_where_the_operator_says_so(
    server: DnsServer, validating: bool, signed: bool, secure: bool
) -> None:
    server.secure = signed
    dns = resolver(server, validating=validating)

    async def ask() -> list[bool]:
        answers: list[Answer[Any]] = [await dns.mx("example.test"), await dns.addresses("example.test")]
        answers += [await dns.tlsa("nowhere.test"), await dns.tlsa("example.test")]
        return [answer.secure for answer in answers]

    assert asyncio.run(ask()) == [secure] * 4


def test_addresses_are_secure_only_if_both_answers_are(server: DnsServer) -> None:
    server.secure_names.add("four.test")
    dns = resolver(server, validating=True)
    assert asyncio.run(dns.addresses("four.test")).secure
    assert not asyncio.run(dns.addresses("example.test")).secure


# Without any DNS


def closed_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gateway.dns.resolver"]


@pytest.mark.parametrize("known", [True, False])
def test_without_dns_all_fails_at_once_and_the_log_says_so_once(
    run: Run[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, known: bool
) -> None:
    settings = DnsSettings(nameservers=("127.0.0.1",) if known else (), port=closed_port(), timeout=30.0)
    dns = Resolver(settings, resolv_conf=str(tmp_path / "resolv.conf"))

    async def ask() -> None:
        async with asyncio.timeout(2):
            for number in range(5):
                assert (await dns.addresses(f"n{number}.example.test")).failed

    with caplog.at_level(logging.INFO):
        run(ask())
    assert len(lines(caplog)) == 1
    assert "example" not in lines(caplog)[0]


def test_silence_is_told_and_so_is_its_end(server: DnsServer, caplog: pytest.LogCaptureFixture) -> None:
    server.lie("*", Lie(silent=True))
    dns = resolver(server, timeout=0.1)
    for number in range(4):
        assert asyncio.run(dns.a(f"n{number}.test")).failed
    server.lie("*", None)
    assert asyncio.run(dns.a("example.test"))
    assert ["answers" in line for line in lines(caplog)] == [True, False]


def test_one_name_that_fails_is_nothing_to_log(server: DnsServer, caplog: pytest.LogCaptureFixture) -> None:
    server.lie("broken.test", Lie(rcode="SERVFAIL"))
    dns = resolver(server, cache=0)
    for _ in range(5):
        assert asyncio.run(dns.a("broken.test")).failed
    assert lines(caplog) == []


def test_the_systems_name_servers_are_read_again_when_they_change(server: DnsServer, tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    dns = Resolver(DnsSettings(port=server.port, timeout=5.0, cache=0), resolv_conf=str(path))
    assert asyncio.run(dns.a("example.test")).failed
    path.write_text("search elsewhere.test\nnameserver 127.0.0.1\n")
    assert asyncio.run(dns.a("example.test")).records == ("192.0.2.7",)
    assert asyncio.run(dns.a("nowhere")).status is DnsStatus.NO_NAME
    assert server.asked("nowhere.elsewhere.test") == 0  # mail knows no search list (RFC 5321 §2.3.5)

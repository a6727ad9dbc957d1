"""Where mail for a domain goes: MX records, addresses, loops and networks that are not public (RFC 5321 §5.1)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

import pytest
from dns_server import DnsServer, Lie, Records
from next_hop import CUT, SILENT, NextHop
from relaying import Relaying, domain

from gateway.dns.answers import Answer, DnsStatus, MxRecord
from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.networks import Reachable, networks
from gateway.relay.hosts import Hosts, Place, Unroutable
from gateway.relay.outcome import NextHop as Hop
from gateway.relay.outcome import OwnServer, Result, TlsDemand
from gateway.relay.settings import RelaySettings, Timeouts
from storage.clock import FixedClock

PORT = 2525
Zone = Mapping[str, Mapping[str, Records]]


def found(
    zone: Zone,
    hop: Hop,
    *,
    own: Sequence[tuple[str, int]] = (),
    seed: int = 0,
    lies: Mapping[str, Lie] | None = None,
) -> list[Place]:
    async def walk(port: int) -> list[Place]:
        dns = Resolver(DnsSettings(nameservers=("127.0.0.1",), port=port, timeout=0.5))
        reachable = Reachable(networks(["192.0.2.0/24", "2001:db8::/32"]), own)
        hosts = Hosts(dns, reachable, PORT, ("us.test",), random.Random(seed))
        return [place async for place in hosts.of(hop)]

    with DnsServer(zone) as server:
        for name, lie in (lies or {}).items():
            server.lie(name, lie)
        return asyncio.run(walk(server.port))


def addresses(number: int) -> dict[str, Records]:
    return {"A": f"192.0.2.{number}"}


def places(zone: Zone, name: str = "example.test", **options: object) -> list[tuple[str, str]]:
    return [(place.host, place.address) for place in found(zone, domain(name), **options)]  # type: ignore[arg-type]


def refusal(zone: Zone, name: str = "example.test", **options: object) -> tuple[str, str]:
    with pytest.raises(Unroutable) as caught:
        found(zone, domain(name), **options)  # type: ignore[arg-type]
    return caught.value.outcome.result.value, caught.value.outcome.reply.status


def test_hosts_come_by_preference() -> None:
    zone = {
        "example.test": {"MX": ["30 c.test.", "10 a.test.", "20 b.test."]},
        "a.test": addresses(1),
        "b.test": addresses(2),
        "c.test": addresses(3),
    }
    assert places(zone) == [("a.test", "192.0.2.1"), ("b.test", "192.0.2.2"), ("c.test", "192.0.2.3")]


def test_hosts_of_equal_preference_come_in_any_order() -> None:
    zone = {"example.test": {"MX": [f"10 mx{number}.test." for number in range(4)]}}
    zone |= {f"mx{number}.test": addresses(number) for number in range(4)}
    orders = {tuple(places(zone, seed=seed)) for seed in range(8)}
    assert len(orders) > 3
    assert all(len(order) == 4 for order in orders)


def test_addresses_of_both_families_take_turns() -> None:
    zone = {
        "example.test": {"MX": "10 mx.test."},
        "mx.test": {"A": ["192.0.2.1", "192.0.2.2", "192.0.2.3"], "AAAA": ["2001:db8::1", "2001:db8::2"]},
    }
    families = [":" in address for _, address in places(zone)]
    assert families == [True, False, True, False]  # four are tried at most


def test_the_domain_itself_is_the_host_where_there_is_no_mx() -> None:
    assert places({"example.test": addresses(1)}) == [("example.test", "192.0.2.1")]


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ({"other.test": addresses(1)}, ("failed", "5.1.2")),
        ({"example.test": {"TXT": "hello"}}, ("failed", "5.4.4")),
        ({"example.test": {"MX": "0 ."}}, ("failed", "5.1.10")),  # RFC 7505
        ({"example.test": {"MX": "10 gone.test."}}, ("failed", "5.4.4")),
        ({"example.test": {"MX": "10 mx.test."}, "mx.test": {"A": "127.0.0.1"}}, ("failed", "5.4.4")),
        ({"example.test": {"MX": "10 mx.test."}, "mx.test": {"AAAA": "::ffff:10.0.0.1"}}, ("failed", "5.4.4")),
        ({"example.test": {"A": "10.1.2.3"}}, ("failed", "5.4.4")),
    ],
    ids=["no domain", "no host", "null MX", "no address", "loopback", "mapped", "private"],
)
def test_no_way_at_all(zone: Zone, expected: tuple[str, str]) -> None:
    assert refusal(zone) == expected


def test_a_null_mx_beside_others_is_passed_over() -> None:
    zone = {"example.test": {"MX": ["0 .", "10 mx.test."]}, "mx.test": addresses(1)}
    assert places(zone) == [("mx.test", "192.0.2.1")]


@pytest.mark.parametrize("name", ["example.test", "mx.test"])
@pytest.mark.parametrize(
    "lie", [Lie(rcode="SERVFAIL"), Lie(garbage=True), Lie(silent=True)], ids=["fails", "lies", "silent"]
)
def test_dns_that_does_not_answer_defers(name: str, lie: Lie) -> None:
    zone = {"example.test": {"MX": "10 mx.test."}, "mx.test": addresses(1)}
    assert refusal(zone, lies={name: lie}) == ("deferred", "4.4.3")


def test_a_host_that_dns_does_not_answer_about_does_not_keep_from_others() -> None:
    zone = {"example.test": {"MX": ["10 a.test.", "20 b.test."]}, "a.test": addresses(1), "b.test": addresses(2)}
    assert places(zone, lies={"a.test": Lie(rcode="SERVFAIL")}) == [("b.test", "192.0.2.2")]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (["10 a.test.", "20 us.test.", "30 b.test."], ["a.test"]),
        (["10 a.test.", "20 US.test.", "20 b.test."], ["a.test"]),
        (["10 a.test.", "20 alias.test.", "20 b.test."], ["a.test"]),  # our address under another name
    ],
)
def test_only_hosts_that_are_preferred_to_us(records: list[str], expected: list[str]) -> None:
    zone: Zone = {
        "example.test": {"MX": records},
        "a.test": addresses(1),
        "b.test": addresses(2),
        "us.test": addresses(9),
        "alias.test": addresses(9),
    }
    assert [host for host, _ in places(zone, own=[("192.0.2.9", PORT)])] == expected


@pytest.mark.parametrize(
    "records",
    [{"MX": ["10 us.test.", "20 b.test."]}, {"MX": ["10 alias.test."]}, {"A": "192.0.2.9"}],
    ids=["name", "address", "no MX"],
)
def test_mail_that_leads_back_to_us_fails(records: dict[str, Records]) -> None:
    zone: Zone = {"example.test": records, "alias.test": addresses(9), "us.test": addresses(9), "b.test": addresses(2)}
    assert refusal(zone, own=[("192.0.2.9", PORT)]) == ("failed", "5.4.6")


@pytest.mark.parametrize("records", [["10 a.test.", "20 us.test."], ["10 a.test.", "20 alias.test."]])
def test_a_better_host_that_dns_does_not_answer_about_is_no_loop(records: list[str]) -> None:
    zone: Zone = {
        "example.test": {"MX": records},
        "a.test": addresses(1),
        "us.test": addresses(9),
        "alias.test": addresses(9),
    }
    expected = ("deferred", "4.4.3")
    assert refusal(zone, own=[("192.0.2.9", PORT)], lies={"a.test": Lie(rcode="SERVFAIL")}) == expected


def test_few_of_many_addresses_are_looked_at() -> None:
    """Whether an address is ours is asked of the kernel: thousands of them would hold up everybody."""

    class Counting(Reachable):
        asked = 0

        def is_ourselves(self, address: object, port: int) -> bool:
            self.asked += 1
            return super().is_ourselves(address, port)  # type: ignore[arg-type]

    many = tuple(f"192.0.2.{number}" for number in range(1, 255))
    reachable = Counting(networks(["192.0.2.0/24"]))

    class Answers:
        async def mx(self, name: str) -> Answer[MxRecord]:
            return Answer(DnsStatus.FOUND, tuple(MxRecord(10, f"{number}.test") for number in range(16)))

        async def addresses(self, name: str) -> Answer[str]:
            return Answer(DnsStatus.FOUND, ("2001:db8::1", *many))

    async def walk() -> list[Place]:
        return [place async for place in Hosts(Answers(), reachable, PORT).of(domain())]  # type: ignore[arg-type]

    assert len(asyncio.run(walk())) == 64
    assert reachable.asked <= 16 * 16


def test_a_tenants_own_server() -> None:
    zone = {
        "example.test": {"MX": "10 elsewhere.test."},
        "mail.example.test": addresses(5),
        "inside.test": {"A": "10.0.0.1"},
    }

    def of(host: str, port: int = 2600) -> list[tuple[str, int]]:
        hop = OwnServer(host, port, TlsDemand.OPPORTUNISTIC)
        return [(place.address, place.port) for place in found(zone, hop, own=[("192.0.2.5", 25)])]

    assert of("mail.example.test") == [("192.0.2.5", 2600)]
    assert of("192.0.2.77") == [("192.0.2.77", 2600)]
    for host, port, result, status in (
        ("mail.example.test", 25, Result.FAILED, "5.4.6"),
        ("inside.test", 25, Result.DEFERRED, "4.4.4"),
        ("10.0.0.1", 25, Result.DEFERRED, "4.4.4"),
        ("gone.test", 25, Result.DEFERRED, "4.4.4"),
    ):
        with pytest.raises(Unroutable) as caught:
            of(host, port)
        assert (caught.value.outcome.result, caught.value.outcome.reply.status) == (result, status)


# From one address to the next, with real servers


def town(first: NextHop, second: NextHop) -> Zone:
    return {
        "example.test": {"MX": ["10 one.test.", "20 two.test."]},
        "one.test": {"A": first.address},
        "two.test": {"A": second.address},
    }


@pytest.mark.parametrize(
    ("step", "action"),
    [
        ("greeting", "421 4.3.2 busy"),
        ("greeting", "450 4.3.2 busy"),
        ("greeting", "554 5.7.1 we do not like you"),
        ("greeting", CUT),
        ("greeting", SILENT),
        ("greeting", b"HTTP/1.1 200 OK\r\n"),
        ("EHLO", "421 4.3.2 busy"),
        ("EHLO", CUT),
        ("EHLO", b"250 hop.test\r\n421 4.3.2 after all not\r\n"),
        ("MAIL", "421 4.3.2 busy"),
        ("MAIL", CUT),
        ("RCPT", CUT),
        ("DATA", CUT),
    ],
)
def test_the_next_host_is_tried(step: str, action: object) -> None:
    with NextHop() as first, NextHop(address="127.0.0.2", port=first.port) as second:
        first.script[step] = [action]
        settings, timeouts = RelaySettings(port=first.port), Timeouts(greeting=0.3, quit=1.0)
        with Relaying(town(first, second), settings=settings, timeouts=timeouts) as client:
            (outcome,) = client.send(domain())
            assert (outcome.result, outcome.reply.mta) == (Result.RELAYED, "two.test")
        assert len(second.messages) == 1
        assert first.messages == []


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "content"])
@pytest.mark.parametrize("reply", ["451 4.3.0 later", "550 5.7.1 no"])
def test_an_answer_about_the_message_counts_for_all_hosts(step: str, reply: str) -> None:
    with NextHop() as first, NextHop(address="127.0.0.2", port=first.port) as second:
        first.script[step] = [reply]
        with Relaying(town(first, second), settings=RelaySettings(port=first.port)) as client:
            (outcome,) = client.send(domain())
        assert (outcome.reply.code, outcome.reply.mta) == (int(reply[:3]), "one.test")
        assert second.talks == []


def test_a_host_that_is_down_is_tried_last_for_a_while() -> None:
    clock = FixedClock()
    with NextHop() as first, NextHop(address="127.0.0.2", port=first.port) as second:
        first.script["greeting"] = ["421 4.3.2 busy", "220 well again"]
        with Relaying(
            town(first, second), settings=RelaySettings(port=first.port, stream_time=0.0), clock=clock
        ) as client:
            hosts = []
            for seconds in (0, 30, 40):
                clock.advance(seconds)
                hosts.append(client.send(domain())[0].reply.mta)
        assert hosts == ["two.test", "two.test", "one.test"]


def test_all_hosts_down() -> None:
    with NextHop() as first:
        pass  # its port is closed now
    zone = {
        "example.test": {"MX": ["10 one.test.", "20 two.test."]},
        "one.test": {"A": "127.0.0.1"},
        "two.test": {"A": "127.0.0.2"},
    }
    with Relaying(zone, settings=RelaySettings(port=first.port)) as client:
        (outcome,) = client.send(domain())
        assert (outcome.result, outcome.reply.status) == (Result.DEFERRED, "4.4.1")
        assert len(client.transcripts) == 2


def test_a_limit_of_tries() -> None:
    with NextHop() as first:
        first.script["greeting"] = ["421 busy"]
        zone: dict[str, dict[str, Records]] = {"example.test": {"MX": [f"10 mx{number}.test." for number in range(30)]}}
        zone |= {f"mx{number}.test": {"A": "127.0.0.1"} for number in range(30)}
        with Relaying(zone, settings=RelaySettings(port=first.port)) as client:
            assert client.send(domain())[0].reply.code == 421
        assert len(first.talks) == 8

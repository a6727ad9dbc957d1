"""Who is served: connections and rates by address and network, over all listeners that share their counts."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import pytest

from gateway.smtp import replies
from gateway.smtp.admission import Admission, address_key, network_key
from gateway.smtp.limits import Limits
from gateway.smtp.shared_limits import SharedLimits
from storage.clock import FixedClock

Listen = Callable[..., Any]


@pytest.mark.parametrize(
    ("address", "client", "network"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("", "", ""),
        ("no address", "no address", "no address"),
    ],
)
def test_what_counts_as_one(address: str, client: str, network: str) -> None:
    assert (address_key(address), network_key(address)) == (client, network)


def test_connections_by_address_and_network() -> None:
    limits = Limits(connections=5, connections_per_address=2, connections_per_network=3)
    admission = Admission("mx", limits, SharedLimits.of_this_process(FixedClock()))
    asked = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1", "203.0.113.1", "::1"]
    assert [admission.enter(address) for address in asked] == [
        None,
        None,
        replies.TOO_MANY_CONNECTIONS,
        None,
        replies.NETWORK_CROWDED,
        None,
        None,
        replies.SERVER_BUSY,
    ]
    admission.leave("192.0.2.1")
    assert admission.enter("192.0.2.3") is None
    assert (admission.total, admission.turned_away) == (5, 3)
    admission.leave("198.51.100.1")
    assert admission.enter("192.0.2.1") is replies.NETWORK_CROWDED
    admission.leave("192.0.2.2")
    assert admission.enter("192.0.2.1") is None  # what was refused by its network is not counted for its address


def test_services_are_counted_apart_and_processes_together() -> None:
    shared = SharedLimits.of_this_process(FixedClock())
    limits = Limits(connections_per_address=1)
    one, two, other = Admission("mx", limits, shared), Admission("mx", limits, shared), Admission("x", limits, shared)
    assert one.enter("192.0.2.1") is None
    assert two.enter("192.0.2.1") is replies.TOO_MANY_CONNECTIONS
    assert other.enter("192.0.2.1") is None


def test_rates_by_address() -> None:
    clock = FixedClock(600.0)
    limits = Limits(connections_per_minute=2, messages_per_minute=3, recipients_per_hour=4)
    admission = Admission("mx", limits, SharedLimits.of_this_process(clock))
    for _ in range(2):
        assert admission.enter("192.0.2.1") is None
        admission.leave("192.0.2.1")
    assert admission.enter("192.0.2.1") is replies.TOO_FAST
    assert admission.total == 0
    assert [admission.may_begin("192.0.2.1") for _ in range(4)] == [True, True, True, False]
    assert [admission.may_ask("2001:db8::1") for _ in range(4)] == [True] * 4
    assert not admission.may_ask("2001:db8::2")
    clock.advance(120)
    assert admission.enter("192.0.2.1") is None
    assert admission.may_begin("192.0.2.1")
    assert not admission.may_ask("2001:db8::2")


def test_unlimited_networks() -> None:
    limits = Limits(connections=3, connections_per_address=1, messages_per_minute=1, connections_per_minute=1)
    shared = SharedLimits.of_this_process(FixedClock())
    admission = Admission("mx", limits, shared, (ipaddress.ip_network("192.0.2.0/24"),))
    assert [admission.enter("::ffff:192.0.2.1") for _ in range(4)] == [None, None, None, replies.SERVER_BUSY]
    assert all(admission.may_begin("192.0.2.1") for _ in range(3))
    for _ in range(3):
        admission.leave("::ffff:192.0.2.1")
    assert admission.total == 0


def test_without_limits_nothing_is_counted() -> None:
    shared = SharedLimits.of_this_process(FixedClock())
    admission = Admission("mx", Limits(), shared)
    assert all(admission.may_begin("192.0.2.1") and admission.may_ask("192.0.2.1") for _ in range(5000))


def test_rates_in_the_dialogue(listen: Listen) -> None:
    server = listen(limits=Limits(messages_per_minute=1, recipients_per_hour=2))
    client = server.connect()
    client.ehlo()
    said = [client.say(line) for line in [b"MAIL FROM:<a@b.example>", *[b"RCPT TO:<c@d.example>"] * 3, b"RSET"]]
    assert said == [250, 250, 250, 450, 250]
    client.send(b"MAIL FROM:<a@b.example>\r\n")
    code, texts = client.reply()
    assert (code, texts[0][:5]) == (450, b"4.7.1")
    assert client.say(b"NOOP") == 250


def test_messages_of_a_connection(listen: Listen) -> None:
    server = listen(limits=Limits(messages=2, recipients=10))
    client = server.connect()
    assert b"LIMITS MAILMAX=2 RCPTMAX=10" in client.ehlo()
    for _ in range(2):
        assert client.say(b"MAIL FROM:<a@b.example>") == 250
        assert client.say(b"RSET") == 250
    assert client.say(b"MAIL FROM:<a@b.example>") == 421
    assert client.reply() == (0, [])


def test_listeners_that_share_hold_one_limit(listen: Listen) -> None:
    shared = SharedLimits.of_this_process()
    limits = Limits(connections_per_address=2)
    one, two = listen(limits=limits, shared=shared), listen(limits=limits, shared=shared)
    first = one.connect()
    two.connect()
    refused = two.connect(greet=False)
    assert refused.reply() == (421, [replies.TOO_MANY_CONNECTIONS.encode()[4:].rstrip()])
    assert first.say(b"QUIT") == 221
    assert first.reply() == (0, [])
    while (client := two.connect(greet=False)).reply()[0] != 220:
        client.close()


def test_handshakes_count_as_connections(listen: Listen) -> None:
    """Whoever opens connections to the TLS port and says nothing is limited, too."""
    server = listen(limits=Limits(connections_per_address=3, handshake_timeout=60))
    silent = [socket.create_connection(("127.0.0.1", server.tls_port), timeout=10) for _ in range(3)]
    while server.listener.connections < 3:
        pass
    with socket.create_connection(("127.0.0.1", server.tls_port), timeout=10) as beyond:
        assert beyond.recv(100) == b""
    assert server.connect(greet=False).reply()[0] == 421
    for sock in silent:
        sock.close()
    while server.listener.connections:
        pass
    assert server.connect(tls=True).say(b"NOOP") == 250


def test_a_handshake_that_lasts_too_long_is_counted_no_more(listen: Listen) -> None:
    server = listen(limits=Limits(connections_per_address=1, handshake_timeout=0.2))
    with socket.create_connection(("127.0.0.1", server.tls_port), timeout=10) as silent:
        assert silent.recv(100) == b""
    while server.listener.connections:
        pass
    assert server.connect(tls=True).say(b"NOOP") == 250

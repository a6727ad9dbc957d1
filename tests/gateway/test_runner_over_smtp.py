"""The runner over the real SMTP client: a next hop that fails at each step of the dialogue, and the books balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dns_server import DnsServer, Lie
from next_hop import CUT, RESET, NextHop
from runner_town import RunnerTown

from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.networks import Reachable, networks
from gateway.relay.next_hops import make_next_hops
from gateway.relay.relay import SmtpRelay
from gateway.relay.settings import RelaySettings
from gateway.work import Work

ZONE = {"far.example": {"MX": "10 mx.far.example."}, "mx.far.example": {"A": "127.0.0.1"}}


class SmtpTown(RunnerTown):
    """Each run of the queue has a client of its own, as each start of the role has."""

    def __init__(self, data: Path, hop: NextHop, dns: DnsServer) -> None:
        super().__init__(data)
        self.hop = hop
        self.dns = dns
        self.threads = ThreadPoolExecutor(2)

    def runner(self, **options: Any) -> Any:
        resolver = Resolver(DnsSettings(("127.0.0.1",), self.dns.port, timeout=0.5))
        reachable = Reachable(networks(["127.0.0.0/8"]))
        hops = make_next_hops(RelaySettings(port=self.hop.port), "mail.example.test", resolver, reachable, self.clock)
        self.relay = SmtpRelay(hops, Work(self.threads))  # type: ignore[assignment]
        return super().runner(**options)

    def close(self) -> None:
        self.threads.shutdown()
        super().close()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[SmtpTown]:
    with NextHop() as hop, DnsServer(ZONE) as dns:
        town = SmtpTown(tmp_path, hop, dns)
        yield town
        town.close()


STEPS = ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "content", "QUIT")
LOST = ("amid content",)  # steps at which a reply is out of turn


@pytest.mark.parametrize(
    ("what", "steps"),
    [(CUT, STEPS + LOST), (RESET, STEPS + LOST), ("421 4.3.2 closing", STEPS), ("451 4.3.0 not now", STEPS)],
    ids=["cut", "reset", "421", "451"],
)
def test_trouble_at_any_step_costs_no_message(town: SmtpTown, what: object, steps: tuple[str, ...]) -> None:
    for step in steps:
        for number in range(3):
            town.submit(f"{number}-{step.split()[0]}@far.example")
        town.hop.script[step] = [what, what, what, what]
        town.run()
        town.hop.script.pop(step)
        for pause in (600, 1200, 2400):
            town.run(later=pause)
        assert (town.queued(), town.spooled()) == ([], 0), step
    taken = Counter(recipient for each in town.hop.messages for recipient in each.recipients)
    assert len(taken) == 3 * len(steps)
    assert set(taken.values()) == {1}, "what was not answered was not taken by this next hop"
    assert town.inbox("alice") == []


@pytest.mark.parametrize("reply", ["554 5.7.1 no mail from you", "450 4.7.1 later", "421 4.3.2 busy"])
@pytest.mark.parametrize("step", ["greeting", "EHLO"])
def test_a_host_that_wants_no_mail_at_all_is_left_alone(town: SmtpTown, step: str, reply: str) -> None:
    town.hop.script[step] = [reply]
    town.hop.script["HELO"] = [reply]
    for number in range(5):
        town.submit(f"{number}@far.example")
    town.run()
    assert len(town.queued()) == 5
    state = town.queue.destination_state("far.example")
    assert state is not None and (state.failures, state.reply.code, state.reply.text) == (1, int(reply[:3]), "")
    asked = len(town.hop.talks)
    town.run()
    assert len(town.hop.talks) == asked
    for what in (step, "HELO"):
        town.hop.script.pop(what)
    town.run(later=600)
    town.run(later=600)
    assert town.queued() == [] and town.queue.destination_state("far.example") is None


def test_replies_for_each_recipient_are_told_apart(town: SmtpTown) -> None:
    town.hop.script["RCPT"] = ["250 ok", "550 5.1.1 no such user", "450 4.2.1 later", "250 ok"]
    queue_id = town.submit("a@far.example", "b@far.example", "c@far.example")
    town.run()
    assert [each.state.value for each in town.entry(queue_id).recipients] == ["relayed", "failed", "queued"]
    town.run(later=300)
    assert town.queued() == [] and len(town.reports("alice")) == 1
    assert [len(each.recipients) for each in town.hop.messages] == [1, 1]


def test_without_dns_everything_waits(town: SmtpTown) -> None:
    town.dns.lie("far.example", Lie(rcode="SERVFAIL"))
    town.submit("x@far.example")
    town.submit("y@far.example")
    town.run()
    assert town.hop.messages == [] and len(town.queued()) == 2
    state = town.queue.destination_state("far.example")
    assert state is not None and state.reply.status == "4.4.3"
    town.dns.lie("far.example", None)
    town.run(later=300)
    town.run(later=300)
    assert town.queued() == [] and len(town.hop.messages) == 2


def test_a_domain_that_does_not_exist_comes_back_at_once(town: SmtpTown) -> None:
    town.submit("x@nowhere.example")
    town.run()
    assert town.queued() == [] and "no such domain" in str(town.reports("alice")[0].get_body())

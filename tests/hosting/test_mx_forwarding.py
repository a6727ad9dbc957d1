"""Mail at MX that goes on: to the tenant's own server, outside by an alias with SRS, and back to whom it came from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from dns_server import DnsServer, Lie
from mx_town import FROM, MESSAGE, ZONE, MxTown, RunningMx
from next_hop import CUT, NextHop

from gateway.relay.callout import CalloutSettings
from storage.directory.routes import Mode
from storage.directory.rows import State
from storage.logs.trace import TraceKind
from storage.queue.entries import Entry, Origin
from storage.values import EmailAddress


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        yield server


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MxTown]:
    town = MxTown(tmp_path)
    yield town
    town.close()


@pytest.fixture
def mx(town: MxTown, dns: DnsServer) -> Iterator[RunningMx]:
    running = RunningMx(town, dns, callout=CalloutSettings(timeout=5.0, silent=0.0))
    yield running
    running.stop()


@pytest.fixture
def server() -> Iterator[NextHop]:
    """The tenant's own."""
    with NextHop() as server:
        yield server


def only(town: MxTown) -> Entry:
    [entry] = town.queued()
    return entry


class TestRoutes:
    def test_all_mail_goes_to_the_tenants_server_once_it_took_the_recipient(
        self, town: MxTown, mx: RunningMx, server: NextHop
    ) -> None:
        town.route(Mode.SERVER, server.port)
        assert mx.send("alice@example.test", "who.ever@example.test")[0] == 250
        assert town.inbox("alice") == []
        entry = only(town)
        assert entry.origin is Origin.MX and entry.tenant_id == town.accounts["alice"][0]
        assert str(entry.reverse_path) == FROM  # the tenant's server always sees the original
        assert [(str(r.address), r.destination, r.parameters.reverse_path) for r in entry.recipients] == [
            ("alice@example.test", "route:example.test", ""),
            ("who.ever@example.test", "route:example.test", ""),
        ]
        asked = [command for talk in server.talks for command in talk.commands]
        assert "RCPT TO:<who.ever@example.test>" in asked and "DATA" not in asked

    def test_what_the_server_refuses_is_refused(self, town: MxTown, mx: RunningMx, server: NextHop) -> None:
        town.route(Mode.SERVER, server.port)
        server.script["RCPT"] = ["550 5.1.1 alice@example.test is not one of ours, says mail.internal"]
        with mx.client() as client:
            client.command(b"MAIL FROM:<someone@far.test>")
            code, said = client.command(b"RCPT TO:<alice@example.test>")
        assert code == 550 and said.startswith(b"550 5.1.1 ") and b"internal" not in said
        assert town.traced()[-1].kind is TraceKind.REFUSED

    @pytest.mark.parametrize("trouble", ["450 4.2.0 not now", "silence", CUT])
    def test_nobody_is_accepted_whom_nobody_could_ask_for(
        self, town: MxTown, mx: RunningMx, server: NextHop, trouble: object
    ) -> None:
        town.route(Mode.SERVER, server.port if trouble != "silence" else 1)
        server.script["RCPT"] = [trouble]
        assert mx.ask("alice@example.test") == (450, "4.1.1")

    def test_an_answer_is_remembered(self, town: MxTown, mx: RunningMx, server: NextHop) -> None:
        town.route(Mode.SERVER, server.port)
        for _ in range(3):
            assert mx.ask("alice@example.test")[0] == 250
        assert sum(command.startswith("RCPT") for talk in server.talks for command in talk.commands) == 1
        server.script["greeting"] = server.script["RCPT"] = ["421 4.3.2 closed"]
        town.clock.advance(3 * 86_400)
        assert mx.ask("alice@example.test")[0] == 250  # it was there this week

    def test_without_verification_everything_is_taken(self, town: MxTown, mx: RunningMx) -> None:
        town.route(Mode.SERVER, 1, verify=False)
        assert mx.ask("alice@example.test")[0] == 250

    def test_split_by_recipient(self, town: MxTown, mx: RunningMx, server: NextHop) -> None:
        town.route(Mode.SPLIT, server.port)
        assert mx.send("alice@example.test", "sales@example.test", "carol@example.test")[0] == 250
        assert len(town.inbox("alice")) == 1
        assert [(str(r.address), r.destination) for r in only(town).recipients] == [
            ("alice@example.test", "local"),
            ("carol@example.test", "route:example.test"),
        ]

    def test_an_alias_into_a_routed_domain(self, town: MxTown, mx: RunningMx, server: NextHop) -> None:
        mallory = town.accounts["mallory"][0]
        town.provisioning.add_alias(
            mallory,
            EmailAddress.parse("mixed@other.test"),
            [EmailAddress.parse("mallory@other.test"), EmailAddress.parse("bob@example.test")],
        )
        town.route(Mode.SERVER, server.port)
        assert mx.send("mixed@other.test")[0] == 250
        entries = {entry.tenant_id: entry for entry in town.queued()}
        assert len(town.inbox("mallory")) == 1 and len(entries) == 1
        [routed] = entries[town.accounts["alice"][0]].recipients
        assert (str(routed.address), routed.parameters.original) == ("bob@example.test", "mixed@other.test")
        # Who is gone there is left out; the others have theirs.
        server.script["RCPT"] = ["550 5.1.1 gone"]
        town.clock.advance(8 * 86_400)
        assert mx.send("mixed@other.test")[0] == 250
        assert len(town.inbox("mallory")) == 2 and len(town.queued()) == 1

    @pytest.mark.parametrize("role", ["postmaster", "abuse"])
    @pytest.mark.parametrize("says", ["550 5.1.1 nobody", "450 4.2.1 not now"])
    def test_somebody_reads_postmaster_though_the_server_does_not_take_it(
        self, town: MxTown, mx: RunningMx, server: NextHop, role: str, says: str
    ) -> None:
        town.route(Mode.SERVER, server.port)
        server.script["RCPT"] = [says]
        assert mx.send(f"{role}@example.test")[0] == 250
        assert len(town.inbox("alice")) == 1


class TestForwarding:
    def test_outside_under_a_path_of_the_aliass_domain(self, town: MxTown, mx: RunningMx) -> None:
        assert mx.send("forward@example.test", sender="someone@nospf.test")[0] == 250
        [recipient] = only(town).recipients
        assert str(recipient.address) == "far@far.test"
        assert recipient.parameters.original == "forward@example.test"
        path = recipient.parameters.reverse_path
        assert path.startswith("SRS0=") and path.endswith("=nospf.test=someone@example.test")
        assert str(only(town).reverse_path) == "someone@nospf.test"  # whom a bounce of ours goes to

    def test_and_the_mailbox_beside_it_gets_the_original_one(self, town: MxTown, mx: RunningMx) -> None:
        assert mx.send("both@example.test")[0] == 250
        [message] = town.inbox("alice")
        assert message.startswith(b"Return-Path: <someone@far.test>\r\n")
        here, there = only(town).recipients
        assert here.parameters.reverse_path == "" and there.parameters.reverse_path.startswith("SRS0=")

    @pytest.mark.parametrize("sender", ["", "bob@example.test", "mallory@other.test"])
    def test_nothing_and_domains_of_ours_are_not_rewritten(
        self, town: MxTown, mx: RunningMx, dns: DnsServer, sender: str
    ) -> None:
        for domain in ("example.test", "other.test"):
            dns.put(domain, TXT="v=spf1 ip4:127.0.0.1 -all")
        assert mx.send("forward@example.test", sender=sender)[0] == 250
        assert only(town).recipients[0].parameters.reverse_path == ""

    def test_who_only_claims_to_be_of_a_domain_of_ours_gets_no_word_of_ours(
        self, town: MxTown, mx: RunningMx, dns: DnsServer
    ) -> None:
        """The next hop would find that we may send for that domain: its SPF, and DMARC with it, would pass."""
        dns.put("other.test", TXT="v=spf1 ip4:192.0.2.1 -all")
        assert mx.send("forward@example.test", sender="mallory@other.test")[0] == 250
        path = only(town).recipients[0].parameters.reverse_path
        assert path.startswith("SRS0=") and path.endswith("=other.test=mallory@example.test")
        assert mx.send(path, sender="")[0] == 250
        assert len(town.inbox("mallory")) == 1

    def test_a_path_that_we_rewrote_twice_finds_back(self, town: MxTown, mx: RunningMx, dns: DnsServer) -> None:
        """Out of one domain of ours, on by somebody who rewrites nothing, and out of another."""
        for domain in ("example.test", "other.test"):
            dns.put(domain, TXT="v=spf1 ip4:192.0.2.1 -all")
        assert mx.send("forward@example.test", sender="someone@nospf.test")[0] == 250
        [entry] = town.queued()
        first = entry.recipients[0].parameters.reverse_path
        far = EmailAddress.parse("other@far.test")
        town.provisioning.add_alias(town.accounts["mallory"][0], EmailAddress.parse("on@other.test"), [far])
        assert mx.send("on@other.test", sender=first)[0] == 250
        [again] = [each for each in town.queued() if each.queue_id != entry.queue_id]
        second = again.recipients[0].parameters.reverse_path
        assert second.startswith("SRS1=") and second.endswith("@other.test")
        assert mx.send(second, sender="")[0] == 250
        ids = {entry.queue_id, again.queue_id}
        [bounce] = [each for each in town.queued() if each.queue_id not in ids]
        assert str(bounce.recipients[0].address) == "someone@nospf.test"
        town.clock.advance(22 * 86_400)
        assert mx.ask(second, sender="") == (550, "5.1.1")  # the first of the two is not good any more

    def test_a_path_of_a_tenant_that_ended_has_no_way_back(self, town: MxTown, mx: RunningMx) -> None:
        assert mx.send("forward@example.test", sender="someone@nospf.test")[0] == 250
        path = only(town).recipients[0].parameters.reverse_path
        town.installation.control.change_tenant_state(town.accounts["alice"][0], State.ENDED)
        assert mx.ask(path, sender="") == (550, "5.1.1")

    def test_letters_that_only_look_like_a_hash(self, mx: RunningMx) -> None:
        """RFC 6531: a local part may have any letters."""
        with mx.client() as client:
            client.command(b"MAIL FROM:<> SMTPUTF8")
            code, said = client.command("RCPT TO:<SRS0=ſabcdefg=aa=far.test=x@example.test>".encode())
            assert (code, said[4:9]) == (550, b"5.1.1")

    @pytest.mark.parametrize("sender", ["someone@nospf.test", f"{'long' * 15}@{'name' * 15}.test", '"a b"@nospf.test'])
    def test_a_bounce_finds_back(self, town: MxTown, mx: RunningMx, sender: str) -> None:
        assert mx.send("forward@example.test", sender=sender)[0] == 250
        [entry] = town.queued()
        path = entry.recipients[0].parameters.reverse_path
        local, _, _ = path.rpartition("@")
        assert len(local.strip('"')) <= 64
        for way_back in (path, path.upper(), path.lower()):
            assert mx.send(way_back, sender="")[0] == 250
            [bounce] = [each for each in town.queued() if each.queue_id != entry.queue_id]
            assert str(bounce.recipients[0].address).lower() == sender.lower()
            assert bounce.reverse_path is None and bounce.recipients[0].parameters.reverse_path == ""
            town.installation.queue.withdraw(bounce.queue_id)

    def test_a_path_that_is_forged_or_old_has_no_way_back(self, town: MxTown, mx: RunningMx) -> None:
        assert mx.send("forward@example.test", sender="someone@nospf.test")[0] == 250
        path = only(town).recipients[0].parameters.reverse_path
        forged = path.replace("someone", "somebody")
        assert mx.ask(forged, sender="") == (550, "5.1.1")
        assert mx.ask(path.replace("@example.test", "@other.test"), sender="") == (550, "5.1.1")
        town.clock.advance(21 * 86_400)
        assert mx.ask(path, sender="")[0] == 250
        town.clock.advance(86_400)
        assert mx.ask(path, sender="") == (550, "5.1.1")

    def test_a_catch_all_catches_no_forged_path(self, town: MxTown, mx: RunningMx) -> None:
        tenant_id = town.accounts["alice"][0]
        bob = EmailAddress.parse("bob@example.test")
        town.provisioning.set_catch_all(tenant_id, bob.domain, [bob])
        assert mx.ask("anything@example.test")[0] == 250
        assert mx.ask("SRS0=abcdefgh=aa=far.test=x@example.test", sender="") == (550, "5.1.1")


class TestAuthenticity:
    @pytest.mark.parametrize(
        ("sender", "spf", "authentic"),
        [
            ("someone@far.test", "pass", True),
            ("someone@nospf.test", "none", True),  # the client is the domain's own host
            ("someone@fails.test", "fail", False),
            ("someone@soft.test", "softfail", False),
            ("someone@elsewhere.test", "none", False),
            ("someone@slow.test", "temperror", False),
            ("", "none", False),
        ],
    )
    def test_decides_whether_a_bounce_may_go_back(
        self, town: MxTown, mx: RunningMx, dns: DnsServer, sender: str, spf: str, authentic: bool
    ) -> None:
        dns.put("fails.test", TXT="v=spf1 -all")
        dns.put("soft.test", TXT="v=spf1 ~all")
        dns.put("elsewhere.test", A="192.0.2.7")
        dns.put("hello.test", A="127.0.0.1")
        dns.put("slow.test", TXT="v=spf1 +all")
        dns.lie("slow.test", Lie(rcode="SERVFAIL"))
        assert mx.send("forward@example.test", sender=sender, hello="hello.test")[0] == 250
        entry = only(town)
        assert entry.parameters.authentic is authentic
        content = town.installation.queue.content(entry)
        assert f"\r\n\tspf={spf}".encode() in content

    def test_dead_dns_costs_no_message(self, town: MxTown, mx: RunningMx, dns: DnsServer) -> None:
        dns.lie("*", Lie(silent=True))
        try:
            assert mx.send("alice@example.test", sender="someone@silent.test")[0] == 250
        finally:
            dns.lie("*", None)
        [message] = town.inbox("alice")
        assert b"spf=temperror" in message and b"(unknown [127.0.0.1])" in message

    def test_who_only_tries_addresses_costs_no_question_about_the_sender(self, mx: RunningMx, dns: DnsServer) -> None:
        assert mx.ask("nobody@example.test", sender="someone@never.test") == (550, "5.1.1")
        assert not any(dns.asked("never.test", rdtype) for rdtype in ("TXT", "A", "MX"))


def test_a_session_has_one_check_of_its_sender_at_a_time(mx: RunningMx, dns: DnsServer) -> None:
    def checks() -> int:
        return sum("check_host" in repr(task.get_coro()) for task in asyncio.all_tasks())

    dns.lie("*", Lie(silent=True))
    try:
        with mx.client() as client:
            for number in range(5):
                client.command(b"MAIL FROM:<someone@silent%d.test>" % number)
                assert client.command(b"RCPT TO:<alice@example.test>")[0] == 250
                client.command(b"RSET")
            assert mx.on_loop(checks) == 1
    finally:
        dns.lie("*", None)


def test_loops(town: MxTown, mx: RunningMx) -> None:
    """RFC 5321 §6.3."""
    hops = b"".join(b"Received: from a by b; Mon, 1 Jan 2024 00:00:0%d +0000\r\n" % (n % 10) for n in range(100))
    assert mx.send("alice@example.test", message=hops + MESSAGE)[0] == 250
    code, said = mx.send("alice@example.test", message=b"Received: from x by y\r\n" + hops + MESSAGE)
    assert (code, said.split(" ")[0]) == (554, "5.4.6")
    been = b"Delivered-To: <Forward@Example.test>\r\n" + MESSAGE
    code, said = mx.send("forward@example.test", message=been)
    assert (code, said.split(" ")[0]) == (554, "5.4.6")
    assert mx.send("alice@example.test", message=been)[0] == 250
    assert town.queued() == []

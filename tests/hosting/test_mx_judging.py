"""Mail is judged at the MX: each recipient by its own rules, one reply, nothing lost whatever is slow or fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attachments import PE
from attachments import message as with_attachment
from dns_server import DnsServer, Lie
from loop_thread import LoopThread
from mx_town import FROM, MESSAGE, ZONE, MxTown, RunningMx, SilentKeys
from scanner_host import ScannerHost, read_instream
from signing import TestSigner, sign
from submission_town import HOSTNAME
from whole_server import until

from gateway.acceptance.placement import JUNK_KEYWORD
from gateway.greylist import GreylistSettings
from gateway.policy.rules import Rules
from gateway.policy.settings import FilterSettings
from gateway.scanners import ScannerSettings
from storage.database.database import Transaction
from storage.directory.routes import Mode
from storage.filter.counts import Counted
from storage.filter.rules import WHOLE_TENANT, ListKind, of_account, of_domain
from storage.logs.trace import TraceEvent, TraceKind
from storage.logs.traces import TraceQuery
from storage.mime.fields import read_header
from storage.quarantine.store import Quarantine
from storage.values import Domain, EmailAddress

STRICT = b"From: boss@strict.test\r\nTo: alice@example.test\r\nSubject: forged\r\n\r\npay\r\n"
SET_ASIDE = STRICT.replace(b"strict.test", b"aside.test")
PROGRAM = with_attachment(("invoice.exe", PE), head=b"From: someone@far.test\r\nTo: a@example.test\r\n")
CLIENT = "9.8.7.6"
POLICIES = {
    **ZONE,
    "_dmarc.strict.test": {"TXT": "v=DMARC1; p=reject"},
    "_dmarc.aside.test": {"TXT": "v=DMARC1; p=quarantine"},
    "6.7.8.9.bl.test": {"A": "127.0.0.2"},
}


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer(POLICIES) as server:
        yield server


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MxTown]:
    town = MxTown(tmp_path)
    yield town
    town.close()


Start = Callable[..., RunningMx]


@pytest.fixture
def start(town: MxTown, dns: DnsServer) -> Iterator[Start]:
    with ExitStack() as running:

        def begin(*, rules: Rules | None = None, proxied: bool = False, **settings: Any) -> RunningMx:
            filtering = FilterSettings(rules=rules or Rules(), **settings)
            mx = RunningMx(town, dns, filtering=filtering, proxied=proxied)
            running.callback(mx.stop)
            return mx

        yield begin


def verdicts(town: MxTown) -> list[TraceEvent]:
    return [event for event in town.traced() if event.kind is TraceKind.VERDICT]


def refusals(town: MxTown) -> list[TraceEvent]:
    return [event for event in town.traced() if event.kind is TraceKind.REFUSED]


def counted(town: MxTown, name: str = "alice") -> dict[str, int]:
    """The verdicts of somebody's tenant."""
    town.installation.counts.flush()
    sums = town.installation.control.judged.sums(1, town.accounts[name][0])
    return {what.value: count for what, count in sums.items() if count}


class TestOneReply:
    def test_what_all_refuse_is_refused_with_the_reason(self, town: MxTown, start: Start) -> None:
        code, said = start().send("alice@example.test", "bob@example.test", message=STRICT)
        assert code == 550
        assert said == (
            "5.7.1 The sender's domain strict.test asks to refuse mail that fails its checks, and this one failed."
        )
        assert town.inbox("alice") == town.inbox("bob") == town.queued() == town.withheld() == []
        told = verdicts(town)
        assert [(event.recipient, event.details["verdict"]) for event in told] == [
            ("alice@example.test", "reject"),
            ("bob@example.test", "reject"),
        ]
        assert told[0].details["reason"] == "dmarc-reject" and told[0].details["dmarc"] == "fail"
        assert "with a valid DKIM signature of strict.test" in told[0].details["otherwise"]
        refused = [event for event in town.traced() if event.kind is TraceKind.REFUSED]
        assert {event.id for event in refused} == {event.id for event in told}
        assert counted(town) == {"reject": 2}

    def test_what_some_refuse_is_quarantined_for_them(self, town: MxTown, start: Start) -> None:
        """RFC 5321 §6.1: no bounce to strangers, and the others get it."""
        other = town.installation.tenant(town.accounts["mallory"][0])
        other.filter_rules.set_rule(WHOLE_TENANT, "dmarc_reject", "tag")
        code, said = start().send("alice@example.test", "bob@example.test", "mallory@other.test", message=STRICT)
        assert code == 250, said
        [withheld] = town.withheld()
        assert [str(each.address) for each in withheld.recipients] == ["alice@example.test", "bob@example.test"]
        assert withheld.reason == "dmarc-reject" and withheld.facts["dmarc"] == "fail"
        [message] = town.inbox("mallory")
        assert b"X-Cleanmail-Verdict: tag; reason=dmarc-reject;\r\n" in message
        assert town.inbox("alice") == town.inbox("bob") == town.queued() == town.withheld("mallory") == []
        assert counted(town) == {"quarantine": 2} and counted(town, "mallory") == {"tag": 1}
        ids = {event.recipient: event.id for event in verdicts(town)}
        assert ids["alice@example.test"] == ids["bob@example.test"] == withheld.quarantine_id
        assert said.endswith(ids["mallory@other.test"])

    def test_what_is_withheld_for_all_is_accepted(self, town: MxTown, start: Start) -> None:
        code, said = start().send("alice@example.test", message=PROGRAM)
        [withheld] = town.withheld()
        assert (code, said) == (250, f"2.6.0 Accepted as {withheld.quarantine_id}")
        assert withheld.reason == "forbidden-attachment" and withheld.facts["client"] == "127.0.0.1"
        assert withheld.expires == town.clock.now() + 30 * 86_400
        assert town.inbox("alice") == []
        [trace] = town.installation.traces.find(TraceQuery(verdict="quarantine"))
        assert trace.id == withheld.quarantine_id

    def test_names_of_files_are_content_and_stand_in_no_record(self, town: MxTown, start: Start) -> None:
        """Whoever reviews what is withheld sees header lines, whoever reads a trace what was decided."""
        assert start().send("alice@example.test", message=PROGRAM)[0] == 250
        [withheld] = town.withheld()
        header = Quarantine(town.installation).header(town.accounts["alice"][0], withheld)
        told = [repr(event) for event in town.traced()]
        said = [
            withheld.recipients[0].sentence,
            withheld.recipients[0].counterfactual,
            header.pack().decode("latin-1"),
            *told,
        ]
        assert not any("invoice" in text for text in said)
        assert header.sentence == "It has a program attached (.exe)."

    def test_what_is_sent_again_while_it_is_held_is_held_once(self, town: MxTown, start: Start) -> None:
        mx = start()
        said = {mx.send("alice@example.test", message=PROGRAM)[1] for _ in range(2)}
        assert len(said) == 1 and len(town.withheld()) == 1

    def test_each_account_by_its_own_rules(self, town: MxTown, start: Start) -> None:
        rules = town.one.filter_rules
        rules.set_rule(of_domain(Domain("example.test")), "attachment_executable", "junk")
        rules.set_rule(WHOLE_TENANT, "denied", "quarantine")
        author = EmailAddress.parse(FROM)
        rules.add(of_account(town.accounts["bob"][1]), str(author), ListKind.DENY)
        assert start().send("alice@example.test", "bob@example.test", message=PROGRAM)[0] == 250
        [(message, keywords)] = town.filed("alice", "Junk")
        assert keywords == {JUNK_KEYWORD} and b"X-Cleanmail-Verdict: junk;" in message
        [withheld] = town.withheld()
        assert [(str(each.address), each.reason) for each in withheld.recipients] == [("bob@example.test", "denied")]


class TestPlaces:
    def test_junk(self, town: MxTown, start: Start) -> None:
        assert start().send("alice@example.test", message=SET_ASIDE)[0] == 250
        [(message, keywords)] = town.filed("alice", "Junk")
        assert keywords == {JUNK_KEYWORD}
        assert b"X-Cleanmail-Verdict: junk; reason=dmarc-quarantine;\r\n" in message
        assert b"\tdmarc=fail (p=quarantine) reason=" in message
        assert town.inbox("alice") == []
        assert counted(town) == {"junk": 1}

    def test_where_mailboxes_are_elsewhere_the_quarantine_takes_the_place_of_junk(
        self, town: MxTown, start: Start
    ) -> None:
        town.route(Mode.SERVER, 1, verify=False)
        assert start().send("alice@example.test", message=SET_ASIDE)[0] == 250
        [withheld] = town.withheld()
        assert withheld.recipients[0].onward.domain == Domain("example.test")
        assert town.queued() == []

    def test_an_alias_to_a_mailbox_and_elsewhere(self, town: MxTown, start: Start) -> None:
        assert start().send("both@example.test", message=SET_ASIDE)[0] == 250
        assert len(town.filed("alice", "Junk")) == 1
        [withheld] = town.withheld()
        assert str(withheld.recipients[0].onward.to) == "far@far.test"

    def test_a_report_is_not_refused_for_its_author(self, town: MxTown, start: Start) -> None:
        """Servers seldom sign their reports (RFC 3464), and SPF speaks for the name of their hello alone."""
        assert start().send("alice@example.test", message=STRICT, sender="")[0] == 250
        [(message, _)] = town.filed("alice", "Junk")
        assert b"X-Cleanmail-Verdict: junk; reason=dmarc-reject;" in message

    def test_postmaster_gets_what_is_harmless(self, town: MxTown, start: Start) -> None:
        """RFC 5321 §4.5.1."""
        mx = start()
        assert mx.send("postmaster@example.test", message=STRICT)[0] == 250
        assert mx.send("postmaster@example.test", message=PROGRAM)[0] == 250
        [message] = town.inbox("alice")
        assert b"X-Cleanmail-Verdict: tag; reason=role-address;\r\n" in message
        assert len(town.withheld()) == 1


class TestNothingIsLost:
    def test_what_cannot_be_kept_is_not_withheld_either(self, town: MxTown, start: Start) -> None:
        """The sender sends it again, to all of them; meanwhile nobody has it."""
        tenant_id, account_id = town.accounts["mallory"]
        town.installation.tenant(tenant_id).filter_rules.set_rule(WHOLE_TENANT, "dmarc_reject", "tag")
        folder = town.data / "tenants" / str(tenant_id) / "accounts" / str(account_id)
        elsewhere = folder.rename(folder.with_name("not mounted"))
        mx, recipients = start(), ("alice@example.test", "mallory@other.test")
        code, said = mx.send(*recipients, message=STRICT)
        assert (code, said.split(" ")[0]) == (451, "4.3.0")
        assert town.withheld() == town.queued() == verdicts(town) == []
        assert not [path for path in town.data.glob("tenants/*/quarantine/*") if path.is_file()]
        elsewhere.rename(folder)
        assert mx.send(*recipients, message=STRICT)[0] == 250
        assert len(town.withheld()) == len(town.inbox("mallory")) == 1

    def test_a_quarantine_that_is_full_lets_the_sender_wait(self, town: MxTown, start: Start) -> None:
        mx = start(quarantine_messages=1)
        assert mx.send("alice@example.test", message=PROGRAM)[0] == 250
        assert mx.send("bob@example.test", message=PROGRAM)[0] == 452
        assert mx.send("bob@example.test")[0] == 250
        assert len(town.withheld()) == len(town.inbox("bob")) == 1

    def test_rules_that_cannot_be_read_let_nothing_through(self, town: MxTown, dns: DnsServer) -> None:
        town.reopen(SilentKeys(town.data, town.clock))
        mx = RunningMx(town, dns)
        try:
            assert mx.ask("alice@example.test") == (451, "4.3.0")
        finally:
            mx.stop()

    def test_a_large_message_is_judged_as_a_small_one(self, town: MxTown, start: Start) -> None:
        mx = start()
        filler = b"Many words of no meaning at all, one line of them after the other.\r\n" * 25_000
        assert mx.send("alice@example.test", message=SET_ASIDE + filler)[0] == 250
        assert mx.send("alice@example.test", message=with_attachment(("a.exe", PE), ("b.txt", filler)))[0] == 250
        assert len(town.filed("alice", "Junk")) == len(town.withheld()) == 1


class TestBeforeTheMessage:
    def test_deny_lists(self, town: MxTown, start: Start) -> None:
        town.one.filter_rules.add(WHOLE_TENANT, "@far.test", ListKind.DENY)
        town.one.filter_rules.add(of_account(town.accounts["bob"][1]), FROM, ListKind.ALLOW)
        mx = start()
        assert mx.ask("alice@example.test") == (550, "5.7.1")
        assert mx.ask("alice@example.test", "someone@near.test")[0] == 250
        assert mx.ask("mallory@other.test")[0] == 250
        assert mx.ask("bob@example.test")[0] == 250  # he may yet prove who he is
        assert mx.ask("team@example.test")[0] == 250  # bob is there
        assert mx.ask("postmaster@example.test")[0] == 250
        [told] = verdicts(town)
        assert (told.details["verdict"], told.details["reason"]) == ("reject", "denied")
        assert counted(town) == {"reject": 1}
        code, said = mx.send("alice@example.test")
        assert (code, said) == (550, "5.7.1 Mail of this sender is not taken here.")

    def test_networks_of_the_deny_list(self, town: MxTown, start: Start) -> None:
        town.one.filter_rules.add(WHOLE_TENANT, "9.8.0.0/16", ListKind.DENY)
        mx = start(proxied=True)
        assert mx.ask("alice@example.test", client=CLIENT) == (550, "5.7.1")
        assert mx.ask("alice@example.test", client="9.9.9.9")[0] == 250

    def test_dns_lists_that_refuse(self, town: MxTown, start: Start) -> None:
        mx = start(proxied=True, dns_lists=("bl.test:reject",), trusted_networks=("9.8.7.5/32",))
        assert mx.ask("alice@example.test", client=CLIENT) == (550, "5.7.1")
        assert mx.ask("alice@example.test", client="9.9.9.9")[0] == 250
        town.one.filter_rules.add(of_account(town.accounts["bob"][1]), CLIENT, ListKind.ALLOW)
        assert mx.ask("bob@example.test", client=CLIENT)[0] == 250

    def test_a_dns_list_that_is_silent_refuses_nobody(self, town: MxTown, start: Start, dns: DnsServer) -> None:
        dns.lie("6.7.8.9.bl.test", Lie(silent=True))
        mx = start(proxied=True, dns_lists=("bl.test:reject",), dns_list_timeout=0.2)
        assert mx.send("alice@example.test", client=CLIENT)[0] == 250
        [told] = verdicts(town)
        assert "dns-lists: not known in time" in told.details["unknown"]

    def test_greylisting(self, town: MxTown, start: Start) -> None:
        """RFC 6647."""
        (town.data / "run").mkdir(exist_ok=True)
        mx = start(greylist=GreylistSettings(enabled=True, delay=120))
        stranger = "someone@nospf.test"
        assert mx.ask("alice@example.test", stranger) == (450, "4.7.1")
        assert mx.ask("postmaster@example.test", stranger)[0] == 250
        town.one.filter_rules.set_rule(of_account(town.accounts["bob"][1]), "greylisting", "off")
        assert mx.ask("bob@example.test", stranger)[0] == 250
        assert mx.ask("team@example.test", stranger)[0] == 250  # bob is there, and does not want to wait
        town.one.correspondents.record(town.accounts["alice"][1], [EmailAddress.parse("known@nospf.test")])
        town.one.correspondents.flush()
        assert mx.ask("alice@example.test", "known@nospf.test")[0] == 250
        town.clock.advance(60)
        assert mx.ask("alice@example.test", stranger) == (450, "4.7.1")
        town.clock.advance(61)
        assert mx.ask("alice@example.test", stranger)[0] == 250
        assert counted(town) == {"defer": 2}

    def test_whoever_sends_for_a_domain_may_try_again_from_elsewhere(
        self, town: MxTown, start: Start, dns: DnsServer
    ) -> None:
        (town.data / "run").mkdir(exist_ok=True)
        dns.put("many.test", TXT="v=spf1 ip4:9.0.0.0/8 -all")
        mx = start(proxied=True, greylist=GreylistSettings(enabled=True, delay=120))
        assert mx.ask("alice@example.test", "news@many.test", client="9.1.1.1") == (450, "4.7.1")
        town.clock.advance(121)
        assert mx.ask("alice@example.test", "news@many.test", client="9.2.2.2")[0] == 250
        assert mx.ask("alice@example.test", "news@nospf.test", client="9.1.1.1") == (450, "4.7.1")
        town.clock.advance(121)
        assert mx.ask("alice@example.test", "news@nospf.test", client="9.2.2.2") == (450, "4.7.1")


class TestTrust:
    def test_a_network_that_filters_itself(self, town: MxTown, start: Start) -> None:
        mx = start(trusted_networks=("127.0.0.0/8",))
        assert mx.send("alice@example.test", message=SET_ASIDE)[0] == 250
        [message] = town.inbox("alice")
        assert b"X-Cleanmail-Verdict: deliver; reason=trusted-client;\r\n" in message
        assert mx.send("alice@example.test", message=PROGRAM)[0] == 250
        assert len(town.withheld()) == 1

    def test_a_signature_speaks_for_a_reverse_path_that_spf_does_not_know(
        self, town: MxTown, start: Start, dns: DnsServer
    ) -> None:
        """So that a bounce may go there."""
        signer = TestSigner("strict.test", "s1")
        dns.put(signer.name, TXT=signer.record)
        town.route(Mode.SERVER, 1, verify=False)
        mx = start()
        signed = sign(STRICT, signer)
        assert mx.send("alice@example.test", message=signed, sender="bounces@strict.test")[0] == 250
        assert mx.send("alice@example.test", message=signed, sender="someone@sub.strict.test")[0] == 250
        assert mx.send("alice@example.test", message=signed, sender="someone@elsewhere.test")[0] == 250
        assert mx.send("alice@example.test", message=MESSAGE, sender="bounces@strict.test")[0] == 250
        authentic = {(str(entry.reverse_path), entry.parameters.authentic) for entry in town.queued()}
        assert authentic == {
            ("bounces@strict.test", True),
            ("someone@sub.strict.test", True),
            ("someone@elsewhere.test", False),
            ("bounces@strict.test", False),
        }
        assert any(b"\tdkim=pass header.d=strict.test" in town.installation.queue.content(e) for e in town.queued())

    @pytest.mark.parametrize(
        "forged",
        [
            f"Authentication-Results: {HOSTNAME}; dmarc=pass header.from=strict.test\r\n",
            f"AUTHENTICATION-RESULTS : (x) {HOSTNAME.upper()} 1; dmarc=pass header.from=strict.test\r\n",
            f"Authentication-Results:\r\n\t{HOSTNAME}.;\r\n\tdmarc=pass header.from=strict.test\r\n",
            f'Authentication-Results: "{HOSTNAME}"; dmarc=pass\r\n' * 50,
            " dmarc=pass header.from=strict.test\r\n",
            "X-Cleanmail-Verdict: deliver; reason=allowed\r\nX-Cleanmail-Released: by administrator\r\n",
        ],
    )
    def test_no_field_that_comes_in_speaks_for_us(self, town: MxTown, start: Start, forged: str) -> None:
        town.one.filter_rules.set_rule(WHOLE_TENANT, "dmarc_reject", "tag")
        assert start().send("alice@example.test", message=forged.encode() + STRICT)[0] == 250
        [message] = town.inbox("alice")
        header = read_header(message)
        ours = [field for field in header.values(b"authentication-results") if HOSTNAME.encode() in field.lower()]
        assert len(ours) == 1 and b"dmarc=fail" in ours[0] and b"dmarc=pass" not in ours[0]
        [verdict] = header.values(b"x-cleanmail-verdict")
        assert verdict.startswith(b"tag; reason=dmarc-reject;") and b"pass header" not in verdict
        assert header.first(b"x-cleanmail-released") is None


class TestSlowFacts:
    def test_one_that_waits_delays_no_other(self, town: MxTown, start: Start, dns: DnsServer) -> None:
        """By the order in which they end."""
        dns.lie("_dmarc.silent.test", Lie(silent=True))
        mx = start()
        slow = MESSAGE.replace(FROM.encode(), b"someone@silent.test")
        with mx.client() as waiting:
            for command in (f"MAIL FROM:<{FROM}>", "RCPT TO:<alice@example.test>", "DATA"):
                waiting.command(command.encode())
            waiting.send(slow + b".\r\n")
            until(lambda: dns.asked("_dmarc.silent.test"), "the question about its policy")
            for _ in range(5):
                assert mx.send("bob@example.test")[0] == 250
            assert town.inbox("alice") == [] and len(town.inbox("bob")) == 5
            assert waiting.reply()[0] == 250
        [message] = town.inbox("alice")
        assert b"dmarc=temperror" in message

    def test_all_that_is_late_is_unknown_and_the_message_goes_on(
        self, town: MxTown, start: Start, dns: DnsServer
    ) -> None:
        dns.lie("*", Lie(silent=True))
        signed = sign(STRICT, TestSigner("strict.test", "s1"))
        assert start(time_limit=0.3).send("alice@example.test", message=signed)[0] == 250
        [message] = town.inbox("alice")
        for method in (b"spf", b"dkim", b"dmarc"):
            assert method + b"=temperror" in message
        [told] = verdicts(town)
        assert told.details["verdict"] == "deliver" and "name: not known in time" in told.details["unknown"]

    def test_a_client_that_leaves_takes_its_questions_with_it(self, town: MxTown, start: Start, dns: DnsServer) -> None:
        dns.lie("*", Lie(silent=True))
        mx = start(proxied=True, dns_lists=("bl.test",))

        def asked() -> int:
            names = ("ClientChecks", "check_host", "SenderChecks", "DnsLists")
            return sum(any(name in repr(task.get_coro()) for name in names) for task in asyncio.all_tasks())

        with mx.client(client=CLIENT) as client:
            client.command(b"MAIL FROM:<someone@silent.test>")
            assert client.command(b"RCPT TO:<alice@example.test>")[0] == 250
            assert mx.on_loop(asked) == 4
        until(lambda: mx.on_loop(asked) == 0, "the end of all questions")


class TestBusyTenant:
    def test_what_waits_for_its_quarantine_holds_up_nothing_else_that_leaves(self, town: MxTown, start: Start) -> None:
        town.route(Mode.SERVER, 1, verify=False)
        mx, taken, go = start(), threading.Event(), threading.Event()

        def hold(_: Transaction) -> None:
            taken.set()
            assert go.wait(30)

        with ThreadPoolExecutor(2) as pool:
            holding = pool.submit(town.one.quarantine._database.write, hold)
            assert taken.wait(10)
            waiting = pool.submit(mx.send, "alice@example.test", message=SET_ASIDE)
            try:
                until(lambda: any((town.data / "tenants").glob("*/quarantine/*.body")), "the withheld message's files")
                assert mx.send("bob@example.test")[0] == 250
                assert not waiting.done() and len(town.queued()) == 1
            finally:
                go.set()
            holding.result(10)
            assert waiting.result(30)[0] == 250
        assert len(town.withheld()) == 1


class TestFullQuarantine:
    def test_one_that_is_full_lets_the_sender_wait(self, town: MxTown, start: Start) -> None:
        mx = start(quarantine_messages=1)
        assert mx.send("alice@example.test", message=PROGRAM)[0] == 250
        code, said = mx.send("bob@example.test", message=PROGRAM)
        assert (code, said) == (452, "4.3.1 The message cannot be taken for the moment; try again later.")
        assert len(town.withheld()) == 1
        assert [told.details["reason"] for told in refusals(town)] == ["the quarantine is full"]

    def test_it_keeps_no_message_from_others(self, town: MxTown, start: Start) -> None:
        """They have done nothing to it, and a message has one reply."""
        other = town.installation.tenant(town.accounts["mallory"][0])
        other.filter_rules.set_rule(WHOLE_TENANT, "attachment_executable", "tag")
        mx = start(quarantine_messages=1)
        assert mx.send("alice@example.test", message=PROGRAM)[0] == 250
        assert mx.send("bob@example.test", "mallory@other.test", message=PROGRAM)[0] == 250
        assert len(town.withheld()) == 2 and len(town.inbox("mallory")) == 1
        other.filter_rules.set_rule(WHOLE_TENANT, "attachment_executable", "quarantine")
        assert mx.send("bob@example.test", "mallory@other.test", message=PROGRAM + b"2\r\n")[0] == 452
        assert len(town.withheld()) == 2 and town.withheld("mallory") == []
        told = {event.recipient: event.details["reason"] for event in refusals(town)}
        assert told == {
            "bob@example.test": "the quarantine is full",
            "mallory@other.test": "the copy of another recipient has to wait",
        }


class Clamd:
    """On a loop of its own."""

    def __init__(self, answer: bytes) -> None:
        self.loop = LoopThread()

        async def serve(host: ScannerHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            host.received.append(await read_instream(reader))
            if answer:
                writer.write(answer)
                await writer.drain()
            else:
                await asyncio.Event().wait()

        self.host = ScannerHost(serve)

    def __enter__(self) -> str:
        self.loop.run(self.host.__aenter__())
        return f"127.0.0.1:{self.host.port}"

    def __exit__(self, *_: object) -> None:
        self.loop.run(self.host.__aexit__())
        self.loop.stop()


class TestScanners:
    def test_malware(self, town: MxTown, start: Start) -> None:
        with Clamd(b"stream: Eicar-Test FOUND\0") as address:
            mx = start(scanners=ScannerSettings(clamd=address))
            assert mx.send("alice@example.test")[0] == 250
        [withheld] = town.withheld()
        assert withheld.reason == "malware" and withheld.facts["malware"] == "Eicar-Test"

    @pytest.mark.parametrize("answer", [b"", b"nonsense\0"])
    def test_a_scanner_that_fails_stops_no_mail(self, town: MxTown, start: Start, answer: bytes) -> None:
        with Clamd(answer) as address:
            mx = start(scanners=ScannerSettings(clamd=address, clamd_timeout=0.2))
            assert mx.send("alice@example.test")[0] == 250
            [told] = verdicts(town)
            assert told.details["verdict"] == "deliver" and "malware: clamd" in told.details["unknown"]
            town.one.filter_rules.set_rule(WHOLE_TENANT, "malware_unknown", "quarantine")
            assert mx.send("alice@example.test")[0] == 250
        assert [each.reason for each in town.withheld()] == ["unscanned"]

    def test_one_that_hangs_is_soon_passed_over_though_messages_have_less_time_than_it(
        self, town: MxTown, start: Start
    ) -> None:
        with Clamd(b"") as address:
            mx = start(time_limit=0.4, scanners=ScannerSettings(clamd=address, clamd_timeout=10.0))
            for _ in range(4):
                assert mx.send("alice@example.test")[0] == 250
        late, last = verdicts(town)[:3], verdicts(town)[3]
        assert all("malware: clamd did not answer in time" in told.details["unknown"] for told in late)
        assert "is not asked for the moment" in last.details["unknown"]

    def test_how_they_do_is_counted(self, town: MxTown, start: Start) -> None:
        assert start().service.scans == {}
        with Clamd(b"stream: OK\0") as address:
            mx = start(scanners=ScannerSettings(clamd=address))
            assert mx.send("alice@example.test")[0] == 250
        assert mx.service.scans == {"clamd_scans": 1, "clamd_failed": 0, "clamd_skipped": 0}
        for _ in range(4):  # it is gone
            assert mx.send("alice@example.test")[0] == 250
        assert mx.service.scans == {"clamd_scans": 1, "clamd_failed": 3, "clamd_skipped": 1}
        mx = start(scanners=ScannerSettings(rspamd="http://127.0.0.1:1"))
        assert mx.send("alice@example.test")[0] == 250
        assert mx.service.scans == {"rspamd_scans": 0, "rspamd_failed": 1, "rspamd_skipped": 0}


def test_reputation_is_what_was_delivered(town: MxTown, start: Start) -> None:
    assert start().send("alice@example.test", "bob@example.test", "mallory@other.test")[0] == 250
    town.installation.flush_tenants()
    for name in ("alice", "mallory"):
        reputation = town.installation.tenant(town.accounts[name][0]).reputation
        reputation.flush()
        domain, network = reputation.look(Domain("far.test"), "127.0.0.1")
        assert (domain.ham, domain.spam) == (network.ham, network.spam) == (pytest.approx(0.1), 0)


def test_the_counters_are_those_of_the_report(town: MxTown, start: Start) -> None:
    mx = start()
    assert mx.send("alice@example.test", "bob@example.test")[0] == 250
    assert mx.send("alice@example.test", message=STRICT)[0] == 550
    assert {what: count for what, count in mx.service.verdicts.actions.items() if count} == {"deliver": 2, "reject": 1}
    assert counted(town) == {Counted.DELIVER.value: 2, Counted.REJECT.value: 1}

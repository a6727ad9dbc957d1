"""Call-outs: what a tenant's own server says about a recipient, how long that is believed, and what is never asked."""

from __future__ import annotations

import asyncio

import pytest
from next_hop import CUT, SILENT, NextHop
from relaying import Relaying, own_server

from gateway.relay.callout import DAY, Callout, CalloutResult, CalloutSettings, Verdict
from gateway.relay.outcome import OwnServer, TlsDemand
from gateway.relay.settings import Timeouts
from storage.clock import FixedClock
from storage.values import EmailAddress

ADDRESS = EmailAddress.parse("b@example.test")


def ask(client: Relaying, hop: NextHop, address: EmailAddress = ADDRESS) -> CalloutResult:
    return client.run(client.callout.check(own_server(hop), address))


@pytest.mark.parametrize(
    ("step", "action", "verdict", "status"),
    [
        ("RCPT", "250 2.1.5 ok", Verdict.TAKEN, "2.1.5"),
        ("RCPT", "251 will forward", Verdict.TAKEN, "2.0.0"),
        ("RCPT", "550 5.1.1 no such user", Verdict.REFUSED, "5.1.1"),
        ("RCPT", "554 5.7.1 never", Verdict.REFUSED, "5.7.1"),
        ("RCPT", "450 4.2.0 greylisted", Verdict.UNKNOWN, "4.2.0"),
        ("RCPT", "421 4.3.2 closing", Verdict.UNKNOWN, "4.3.2"),
        ("RCPT", CUT, Verdict.UNKNOWN, "4.4.2"),
        ("RCPT", SILENT, Verdict.UNKNOWN, "4.4.2"),
        ("RCPT", b"what?\r\n", Verdict.UNKNOWN, "4.5.0"),
        ("MAIL", "550 5.7.1 no bounces here", Verdict.UNKNOWN, "5.7.1"),
        ("MAIL", "451 4.3.0 later", Verdict.UNKNOWN, "4.3.0"),
        ("greeting", "554 5.7.1 go away", Verdict.UNKNOWN, "5.7.1"),
        ("greeting", SILENT, Verdict.UNKNOWN, "4.4.2"),
    ],
)
def test_only_a_refused_recipient_is_refused(step: str, action: object, verdict: Verdict, status: str) -> None:
    with NextHop() as hop, Relaying(timeouts=Timeouts(greeting=0.3, recipient=0.3, quit=1.0)) as client:
        hop.script[step] = [action]
        result = ask(client, hop)
        assert (result.verdict, result.reply.status) == (verdict, status)
        assert hop.contents == []
        assert "DATA" not in hop.commands


def test_the_question_is_a_bounce_without_a_message() -> None:
    with NextHop() as hop, Relaying() as client:
        ask(client, hop)
        assert hop.commands == ["EHLO client.test", "MAIL FROM:<>", "RCPT TO:<b@example.test>"]


def test_a_session_is_used_for_several_questions() -> None:
    with NextHop() as hop, Relaying() as client:
        for number in range(3):
            ask(client, hop, EmailAddress.parse(f"user{number}@example.test"))
        assert len(hop.talks) == 1
        assert hop.commands.count("RSET") == 2


def test_answers_are_believed_for_a_while() -> None:
    clock = FixedClock()
    with NextHop() as hop, Relaying(clock=clock) as client:

        def asked() -> int:
            before = len(hop.commands)
            ask(client, hop)
            return len(hop.commands) - before

        assert asked()
        clock.advance(DAY - 1)
        assert not asked()
        clock.advance(2)
        assert asked()
        hop.script["RCPT"] = ["550 5.1.1 gone"]
        clock.advance(DAY + 1)
        assert asked()
        for fresh in (300, 600, 1200, 2400, 3600, 3600):  # longer each time, to an hour
            clock.advance(fresh - 1)
            assert not asked()
            clock.advance(2)
            assert asked()
        hop.script["RCPT"] = ["250 ok"]
        clock.advance(3601)
        assert asked()
        assert ask(client, hop).verdict is Verdict.TAKEN


def test_what_was_taken_once_counts_while_the_server_is_away() -> None:
    clock = FixedClock()
    with NextHop() as hop, Relaying(clock=clock) as client:
        assert ask(client, hop).verdict is Verdict.TAKEN
        hop.script["greeting"] = [CUT]
        hop.script["RCPT"] = ["451 4.3.0 later"]
        clock.advance(7 * DAY - 1)
        assert ask(client, hop).verdict is Verdict.TAKEN
        assert ask(client, hop, EmailAddress.parse("other@example.test")).verdict is Verdict.UNKNOWN
        clock.advance(2)
        assert ask(client, hop).verdict is Verdict.UNKNOWN


def test_a_server_that_is_away_is_left_alone_for_a_moment() -> None:
    clock = FixedClock()
    with NextHop() as hop, Relaying(clock=clock) as client:
        hop.script["greeting"] = ["421 4.3.2 busy"]
        results = [ask(client, hop, EmailAddress.parse(f"user{number}@example.test")) for number in range(5)]
        assert {(result.verdict, result.reply.status) for result in results} == {(Verdict.UNKNOWN, "4.3.2")}
        assert len(hop.talks) == 1
        hop.script["greeting"] = ["220 back"]
        clock.advance(31)
        assert ask(client, hop).verdict is Verdict.TAKEN


@pytest.mark.parametrize("action", [CUT, SILENT, "421 4.3.2 closing"])
def test_one_recipient_who_breaks_it_does_not_keep_others_from_an_answer(action: object) -> None:
    with NextHop() as hop, Relaying(timeouts=Timeouts(recipient=0.2, quit=1.0)) as client:
        hop.script["RCPT"] = [action, "250 ok"]
        assert ask(client, hop, EmailAddress.parse("poison@example.test")).verdict is Verdict.UNKNOWN
        assert ask(client, hop).verdict is Verdict.TAKEN


def test_equal_questions_at_the_same_moment_are_asked_once() -> None:
    async def several(client: Relaying, hop: NextHop) -> list[CalloutResult]:
        return await asyncio.gather(*(client.callout.check(own_server(hop), ADDRESS) for _ in range(20)))

    with NextHop() as hop, Relaying() as client:
        assert {result.verdict for result in client.run(several(client, hop))} == {Verdict.TAKEN}
        assert hop.commands.count("RCPT TO:<b@example.test>") == 1


def test_one_who_gives_up_does_not_take_the_answer_from_others() -> None:
    async def two(client: Relaying, hop: NextHop) -> CalloutResult:
        first = asyncio.ensure_future(client.callout.check(own_server(hop), ADDRESS))
        second = asyncio.ensure_future(client.callout.check(own_server(hop), ADDRESS))
        await asyncio.get_running_loop().run_in_executor(None, hop.wait_for, lambda: len(hop.talks) == 1)
        first.cancel()
        return await second

    with NextHop() as hop, Relaying() as client:
        assert client.run(two(client, hop)).verdict is Verdict.TAKEN


def test_so_many_questions_at_once_and_no_more() -> None:
    async def several(callout: Callout, hop: NextHop) -> list[CalloutResult]:
        addresses = [EmailAddress.parse(f"user{number}@example.test") for number in range(12)]
        return await asyncio.gather(*(callout.check(own_server(hop), address) for address in addresses))

    with NextHop() as hop, Relaying() as client:
        callout = Callout(client.hops, FixedClock(), CalloutSettings(at_once=3))
        assert {result.verdict for result in client.run(several(callout, hop))} == {Verdict.TAKEN}
        assert len(hop.talks) == 3


def test_a_question_ends_in_time() -> None:
    with NextHop() as hop, Relaying() as client:
        hop.script["RCPT"] = [SILENT]
        callout = Callout(client.hops, FixedClock(), CalloutSettings(timeout=0.3))
        result = client.run(callout.check(own_server(hop), ADDRESS))
        assert (result.verdict, result.reply.status) == (Verdict.UNKNOWN, "4.4.2")


def test_memory_is_bounded_and_guesses_do_not_push_out_what_is_real() -> None:
    with NextHop() as hop, Relaying() as client:
        callout = Callout(client.hops, FixedClock(), CalloutSettings(taken_max=2, refused_max=2))
        server = own_server(hop)
        client.run(callout.check(server, ADDRESS))
        hop.script["RCPT"] = ["550 5.1.1 no"]
        for number in range(5):
            client.run(callout.check(server, EmailAddress.parse(f"guess{number}@example.test")))
        before = len(hop.commands)
        assert client.run(callout.check(server, ADDRESS)).verdict is Verdict.TAKEN
        assert client.run(callout.check(server, EmailAddress.parse("guess4@example.test"))).verdict is Verdict.REFUSED
        assert len(hop.commands) == before
        client.run(callout.check(server, EmailAddress.parse("guess0@example.test")))
        assert len(hop.commands) > before


def test_internationalised_recipients() -> None:
    address = EmailAddress.parse("grüße@example.test")
    with NextHop() as hop, Relaying() as client:
        assert ask(client, hop, address).verdict is Verdict.TAKEN
        assert hop.commands[1:] == ["MAIL FROM:<> SMTPUTF8", "RCPT TO:<grüße@example.test>"]
    with NextHop(("8BITMIME",)) as hop, Relaying() as client:
        result = ask(client, hop, address)
        assert (result.verdict, result.reply.code, result.reply.status) == (Verdict.REFUSED, 553, "5.6.7")


def test_networks_that_are_not_public_are_not_asked() -> None:
    with NextHop() as hop, Relaying(allowed=()) as client:
        server = OwnServer("127.0.0.1", hop.port, TlsDemand.OPPORTUNISTIC)
        result = client.run(client.callout.check(server, ADDRESS))
        assert (result.verdict, result.reply.status) == (Verdict.UNKNOWN, "4.4.4")
        assert hop.talks == []

"""Next hops that break, hang and babble at each step: nobody is told that his message arrived when it did not."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import pytest
from dns_server import Records
from next_hop import CUT, ENDLESS, EXTENSIONS, RESET, SILENT, NextHop
from relaying import MESSAGE, Relaying, message, own_server

from gateway.relay.outcome import OwnServer, Result, TlsDemand
from gateway.relay.settings import RelaySettings, Timeouts
from storage.errors import Unavailable
from storage.values import Domain

STEPS = ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "amid content", "content"]
SHORT = Timeouts(*[0.15] * 10)
FAULTS = {"cut": CUT, "reset": RESET, "silent": SILENT, "endless": ENDLESS, "garbage": b"\xff\x00what?\r\n"}
LARGE = MESSAGE + b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab\r\n" * 50_000


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelining", "one by one"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_each_step_defers(extensions: tuple[str, ...], step: str, fault: str) -> None:
    with NextHop(extensions) as hop, Relaying(timeouts=SHORT) as client:
        hop.script[step] = [FAULTS[fault]]
        begun = time.monotonic()
        outcomes = client.send(own_server(hop), "a@example.test", "b@example.test")
        assert time.monotonic() - begun < 5.0
        assert [outcome.result for outcome in outcomes] == [Result.DEFERRED] * 2
        if (fault, step) != ("garbage", "amid content"):  # what it babbled stood where its reply was to be
            assert hop.messages == []
        assert outcomes[0].reply.status[0] == "4"
        assert "example.test" not in outcomes[0].reply.text


@pytest.mark.parametrize("fault", FAULTS)
def test_only_the_lost_reply_to_the_content_may_mean_twice(fault: str) -> None:
    """The server has the message; nobody else is given it in the same attempt (RFC 5321 §4.5.3.2.6)."""
    with NextHop() as first, NextHop(address="127.0.0.2", port=first.port) as second:
        first.script["content"] = [FAULTS[fault]]
        zone = {
            "example.test": {"MX": ["10 one.test.", "20 two.test."]},
            "one.test": {"A": "127.0.0.1"},
            "two.test": {"A": "127.0.0.2"},
        }
        with Relaying(zone, settings=RelaySettings(port=first.port), timeouts=SHORT) as client:
            (outcome,) = client.send(Domain("example.test"))
        assert outcome.result is Result.DEFERRED
        assert len(first.contents) == 1
        assert second.talks == []


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelining", "one by one"])
def test_recipients_who_were_answered_keep_their_answer(extensions: tuple[str, ...]) -> None:
    with NextHop(extensions) as hop, Relaying() as client:
        hop.script["RCPT"] = ["550 5.1.1 no", "250 ok", CUT]
        outcomes = client.send(own_server(hop), *(f"user{number}@example.test" for number in range(4)))
        assert [outcome.result.value for outcome in outcomes] == ["failed", "deferred", "deferred", "deferred"]


def test_421_in_the_middle_ends_the_session() -> None:
    with NextHop() as hop, Relaying() as client:
        hop.script["RCPT"] = ["250 ok", "550 5.1.1 no", "421 4.3.2 closing"]
        outcomes = client.send(own_server(hop), *(f"user{number}@example.test" for number in range(4)))
        assert [outcome.result.value for outcome in outcomes] == ["deferred", "failed", "deferred", "deferred"]
        assert outcomes[3].reply.status == "4.3.2"


def test_a_reply_in_the_middle_of_the_content_is_heard() -> None:
    """A server that has seen enough says so and closes; what it said counts."""
    with NextHop() as hop, Relaying() as client:
        hop.script["amid content"] = ["552 5.3.4 too large", CUT]
        (outcome,) = client.send(own_server(hop), content=LARGE)
        assert (outcome.result, outcome.reply.status) in ((Result.FAILED, "5.3.4"), (Result.DEFERRED, "4.4.2"))
        assert hop.messages == []


def test_a_large_message_arrives_whole() -> None:
    with NextHop(("PIPELINING", "8BITMIME")) as hop, Relaying() as client:
        (outcome,) = client.send(own_server(hop), content=LARGE)
        assert outcome.result is Result.RELAYED
        assert hop.messages[0].content == LARGE


def test_a_reply_that_comes_octet_by_octet_has_to_end_in_time() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(100):
            writer.write(b"2")
            try:
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0.02)  # the server's pace, not the test's
        writer.close()

    async def attempt(client: Relaying) -> float:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        begun = asyncio.get_running_loop().time()
        (outcome,) = await client.relay.send(OwnServer("127.0.0.1", port, TlsDemand.OPPORTUNISTIC), message())
        assert outcome.result is Result.DEFERRED
        server.close()
        return asyncio.get_running_loop().time() - begun

    with Relaying(timeouts=SHORT) as client:
        assert client.run(attempt(client)) < 1.5


def test_servers_that_are_always_just_in_time_do_not_hold_a_connection_for_hours() -> None:
    """None of them is late by itself, but all of them together are."""
    timeouts = Timeouts(greeting=0.3, quit=1.0, opening=0.5)
    with NextHop() as hop:
        hop.script["greeting"] = [SILENT]
        zone: dict[str, dict[str, Records]] = {"example.test": {"MX": [f"10 mx{number}.test." for number in range(8)]}}
        zone |= {f"mx{number}.test": {"A": "127.0.0.1"} for number in range(8)}
        with Relaying(zone, settings=RelaySettings(port=hop.port), timeouts=timeouts) as client:
            begun = time.monotonic()
            (outcome,) = client.send(Domain("example.test"))
            assert (outcome.result, outcome.reply.status) == (Result.DEFERRED, "4.4.2")
            assert time.monotonic() - begun < 1.5
        assert len(hop.talks) == 2


def test_a_server_that_breaks_after_each_recipient_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.relay.relay.SENDING", 0.0)
    with NextHop(()) as hop, Relaying() as client:
        hop.script["RCPT"] = ["550 5.1.1 no", CUT] * 10
        outcomes = client.send(own_server(hop), *(f"user{number}@example.test" for number in range(9)))
        assert [outcome.result.value for outcome in outcomes] == ["failed"] + ["deferred"] * 8
        assert len(hop.talks) == 1


def test_a_transaction_as_a_whole_has_to_end_in_time() -> None:
    timeouts = Timeouts(transaction=0.3)
    with NextHop() as hop, Relaying(timeouts=timeouts) as client:
        hop.script["RCPT"] = ["550 5.1.1 no", SILENT]
        outcomes = client.send(own_server(hop), "a@example.test", "b@example.test")
        assert [outcome.result.value for outcome in outcomes] == ["failed", "deferred"]


REPLIES: dict[str, list[object]] = {
    "greeting": [*["220 hi"] * 9, "421 4.3.2 busy", CUT],
    "EHLO": ["250 hop.test\nPIPELINING\nLIMITS MAILMAX=2 RCPTMAX=2", "250 hop.test", "502 5.5.1 what?"],
    "MAIL": [*["250 ok"] * 9, "451 4.3.0 later", "550 5.7.1 no", "421 4.3.2 closing", CUT],
    "RCPT": [*["250 ok"] * 9, "450 4.2.0 later", "550 5.1.1 no", "452 4.5.3 too many", "421 4.3.2 closing", CUT],
    "DATA": [*["354 go"] * 9, "451 4.3.0 later", "554 5.5.1 no", CUT],
    "content": [*["250 ok"] * 9, "451 4.3.0 later", "554 5.6.0 no", "421 4.3.2 closing", CUT],
    "RSET": ["250 ok", "250 ok", CUT],
}


def test_the_books_balance_whatever_servers_do() -> None:
    """RELAYED if and only if the server has said so; everybody else hears that it did not arrive."""
    chance = random.Random(5321)
    seen: Counter[Result] = Counter()
    with NextHop() as hop, Relaying(timeouts=SHORT) as client:
        for turn in range(400):
            hop.script = {step: chance.choices(replies, k=4) for step, replies in REPLIES.items()}
            hop.messages.clear()
            recipients = [f"user{number}@turn{turn}.test" for number in range(chance.randrange(1, 6))]
            outcomes = client.send(own_server(hop), *recipients, more=chance.random() < 0.5)
            taken = [line[9:-1] for message in hop.messages for line in message.recipients if f"@turn{turn}." in line]
            relayed = [
                recipient
                for recipient, outcome in zip(recipients, outcomes, strict=True)
                if outcome.result is Result.RELAYED
            ]
            assert sorted(taken) == relayed  # each of them once
            seen.update(outcome.result for outcome in outcomes)
            assert all(
                outcome.reply.status[0] in {"relayed": "2", "failed": "5", "deferred": "4"}[outcome.result.value]
                for outcome in outcomes
            )
    assert min(seen[result] for result in Result) > 100, seen


def test_being_cancelled_closes_the_connection() -> None:
    async def attempt(client: Relaying, hop: NextHop) -> None:
        task = asyncio.ensure_future(client.relay.send(own_server(hop), message()))
        await asyncio.get_running_loop().run_in_executor(None, hop.wait_for, lambda: len(hop.commands) >= 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with NextHop() as hop, Relaying() as client:
        hop.script["RCPT"] = [SILENT]
        client.run(attempt(client, hop))
        hop.wait_for(lambda: hop.talks[0].closed)
        assert hop.messages == []
        assert len(client.transcripts) == 1


def test_a_server_that_does_not_answer_quit_keeps_nobody_waiting() -> None:
    with NextHop() as hop:
        hop.script["QUIT"] = [SILENT]
        begun = time.monotonic()
        with Relaying(timeouts=SHORT) as client:
            assert client.send(own_server(hop))[0].result is Result.RELAYED
        assert time.monotonic() - begun < 5.0


class Keys:
    """A signer whose keys are there, or not."""

    def __init__(self, failing: Exception | None = None) -> None:
        self.failing = failing
        self.signed: list[bytes] = []

    def sign(self, content: bytes, author: Domain | None) -> bytes:
        if self.failing is not None:
            raise self.failing
        self.signed.append(content)
        return b"DKIM-Signature: v=1; d=%s\r\n" % (author or Domain("none.test")).name.encode()


def test_the_signature_covers_what_is_sent() -> None:
    keys = Keys()
    content = "From: a@sender.test\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nViele Grüße an alle\r\n".encode()
    with NextHop(("PIPELINING",)) as hop, Relaying(signer=keys) as client:
        (outcome,) = client.send(own_server(hop), content=content, author=Domain("sender.test"))
        assert outcome.result is Result.RELAYED
        sent = hop.messages[0].content
        assert sent == b"DKIM-Signature: v=1; d=sender.test\r\n" + keys.signed[0]
        assert b"Gr=C3=BC=C3=9Fe" in sent  # after every conversion


@pytest.mark.parametrize("error", [Unavailable("keys"), RuntimeError("of ours")], ids=["keys away", "our fault"])
def test_nothing_leaves_unsigned(error: Exception) -> None:
    with NextHop() as hop, Relaying(signer=Keys(error)) as client:
        (outcome,) = client.send(own_server(hop), author=Domain("sender.test"))
        assert (outcome.result, outcome.reply.status) == (Result.DEFERRED, "4.3.0")
        assert hop.contents == []

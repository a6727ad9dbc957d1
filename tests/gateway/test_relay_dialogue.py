"""What the SMTP client says, and what it makes of each reply: against a server that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from next_hop import CUT, EXTENSIONS, NextHop
from relaying import MESSAGE, Relaying, message, own_server

from gateway.relay.outcome import RelayRecipient, Result
from gateway.relay.settings import RelaySettings
from storage.values import EmailAddress


def results(outcomes: object) -> list[str]:
    return [outcome.result.value for outcome in outcomes]  # type: ignore[attr-defined]


def test_a_message_arrives_as_it_is() -> None:
    with NextHop() as hop, Relaying() as client:
        (outcome,) = client.send(own_server(hop))
        assert outcome.result is Result.RELAYED
        assert (outcome.reply.code, outcome.reply.status, outcome.reply.text) == (250, "2.0.0", "taken")
        assert outcome.reply.mta == "127.0.0.1"
        (taken,) = hop.messages
        assert taken.content == MESSAGE
        assert taken.mail == f"MAIL FROM:<a@sender.test> SIZE={len(MESSAGE)}"
        assert taken.recipients == ["RCPT TO:<b@example.test>"]
        assert hop.commands[0] == "EHLO client.test"


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelining", "one by one"])
def test_each_recipient_has_an_outcome_of_its_own(extensions: tuple[str, ...]) -> None:
    with NextHop(extensions) as hop, Relaying() as client:
        hop.script["RCPT"] = ["250 ok", "550 5.1.1 no such user", "451 4.2.1 come back", "250 ok", "550 nobody"]
        outcomes = client.send(own_server(hop), *(f"user{number}@example.test" for number in range(5)))
        assert results(outcomes) == ["relayed", "failed", "deferred", "relayed", "failed"]
        assert [outcome.reply.status for outcome in outcomes] == ["2.0.0", "5.1.1", "4.2.1", "2.0.0", "5.0.0"]
        assert [outcome.reply.text for outcome in outcomes][1:3] == ["no such user", "come back"]
        assert len(hop.messages[0].recipients) == 2


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelining", "one by one"])
@pytest.mark.parametrize(
    ("step", "reply", "result", "status"),
    [
        ("MAIL", "550 5.7.1 go away", "failed", "5.7.1"),
        ("MAIL", "451 4.7.1 later", "deferred", "4.7.1"),
        ("MAIL", "552 5.3.4 too big", "failed", "5.3.4"),
        ("RCPT", "550 5.1.1 unknown", "failed", "5.1.1"),
        ("RCPT", "450 4.2.0 greylisted", "deferred", "4.2.0"),
        ("RCPT", "452 4.2.2 full", "deferred", "4.2.2"),
        ("RCPT", "552 5.2.2 full", "failed", "5.2.2"),
        ("RCPT", "550 4.1.1 classes differ", "failed", "5.1.1"),
        ("DATA", "451 4.3.0 not now", "deferred", "4.3.0"),
        ("DATA", "554 5.5.1 no", "failed", "5.5.1"),
        ("DATA", "250 what", "deferred", "4.5.0"),
        ("content", "451 4.3.0 disk full", "deferred", "4.3.0"),
        ("content", "554 5.6.0 spam", "failed", "5.6.0"),
        ("content", "421 4.3.2 closing", "deferred", "4.3.2"),
    ],
)
def test_replies_decide(extensions: tuple[str, ...], step: str, reply: str, result: str, status: str) -> None:
    with NextHop(extensions) as hop, Relaying() as client:
        hop.script[step] = [reply]
        outcomes = client.send(own_server(hop), "a@example.test", "b@example.test")
        assert results(outcomes) == [result, result]
        assert {outcome.reply.status for outcome in outcomes} == {status}
        assert {outcome.reply.code for outcome in outcomes} == {int(reply[:3])}
        assert hop.messages == []


@pytest.mark.parametrize(
    ("step", "reply", "unwilling"),
    [
        ("greeting", "554 5.7.1 no mail from you", True),
        ("greeting", "450 4.7.1 later", True),
        ("EHLO", "450 4.7.1 later", True),
        ("MAIL", "421 4.3.2 closing", True),
        ("content", "421 4.3.2 closing", True),
        ("MAIL", "451 4.7.1 later", False),
        ("RCPT", "450 4.2.0 greylisted", False),
        ("content", "452 4.3.1 disk full", False),
    ],
)
def test_what_is_said_of_the_host_as_a_whole(step: str, reply: str, unwilling: bool) -> None:
    with NextHop() as hop, Relaying() as client:
        hop.script[step] = [reply]
        (outcome,) = client.send(own_server(hop))
        assert (outcome.result, outcome.host_unwilling) == (Result.DEFERRED, unwilling)


def test_no_recipient_but_354_gets_no_content() -> None:
    """RFC 2920 §3.1."""
    with NextHop() as hop, Relaying() as client:
        hop.script |= {"RCPT": ["550 5.1.1 no"], "DATA": ["354 go ahead"], "content": ["554 5.5.1 nothing"]}
        assert results(client.send(own_server(hop), more=True)) == ["failed"]
        assert [taken.content for taken in hop.contents] == [b""]
        hop.script.clear()
        assert results(client.send(own_server(hop))) == ["relayed"]  # the session goes on
        assert len(hop.talks) == 1


def test_envelope_and_data_go_in_one_group_if_the_server_takes_it() -> None:
    with NextHop() as hop, Relaying() as client:
        client.send(own_server(hop), "a@example.test", "b@example.test", "c@example.test")
        hop.wait_for(lambda: hop.talks[0].closed)
        assert hop.talks[0].chunks <= 4  # EHLO, the group, the content, QUIT
        assert hop.talks[0].commands[-1] == "QUIT"


def test_parameters_are_passed_on_where_they_are_understood() -> None:
    recipient = RelayRecipient(
        EmailAddress.parse("b@example.test"), ("SUCCESS", "FAILURE"), "rfc822;b+2Bx@example.test"
    )
    with NextHop() as hop, Relaying() as client:
        sent = message(recipient, ret="HDRS", envid="QQ314159")
        (outcome,) = client.run(client.relay.send(own_server(hop), sent))
        assert outcome.notify_passed_on
        assert hop.messages[0].mail.endswith(" RET=HDRS ENVID=QQ314159")
        assert hop.messages[0].recipients == [
            "RCPT TO:<b@example.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+2Bx@example.test"
        ]
    with NextHop(("8BITMIME",)) as hop, Relaying() as client:
        (outcome,) = client.run(client.relay.send(own_server(hop), sent))
        assert not outcome.notify_passed_on
        assert (hop.messages[0].mail, hop.messages[0].recipients) == (
            "MAIL FROM:<a@sender.test>",
            ["RCPT TO:<b@example.test>"],
        )


def test_the_null_reverse_path() -> None:
    with NextHop() as hop, Relaying() as client:
        client.send(own_server(hop), reverse_path=None)
        assert hop.messages[0].mail.startswith("MAIL FROM:<> ")


def test_a_message_larger_than_the_server_takes_is_not_tried() -> None:
    with NextHop(("SIZE 50",)) as hop, Relaying() as client:
        (outcome,) = client.send(own_server(hop))
        assert (outcome.result, outcome.reply.status) == (Result.FAILED, "5.3.4")
        hop.wait_for(lambda: hop.talks[0].closed)
        assert hop.talks[0].commands == ["EHLO client.test", "QUIT"]


def test_internationalised_addresses() -> None:
    sender = EmailAddress.parse("jürgen@sender.test")
    with NextHop() as hop, Relaying() as client:
        assert results(client.send(own_server(hop), "grüße@example.test", reverse_path=sender)) == ["relayed"]
        assert hop.messages[0].mail.startswith("MAIL FROM:<jürgen@sender.test> ")
        assert hop.messages[0].mail.endswith(" SMTPUTF8")
        assert hop.messages[0].recipients == ["RCPT TO:<grüße@example.test>"]
    with NextHop(("8BITMIME", "DSN")) as hop, Relaying() as client:
        outcomes = client.send(own_server(hop), "grüße@example.test", "b@example.test")
        assert [(outcome.result.value, outcome.reply.status) for outcome in outcomes] == [
            ("failed", "5.6.7"),  # RFC 6531 §3.5
            ("relayed", "2.0.0"),
        ]
        recipient = RelayRecipient(EmailAddress.parse("b@example.test"), (), "utf-8;grüße@example.test")
        client.run(client.relay.send(own_server(hop), message(recipient)))
        assert hop.messages[1].recipients == [r"RCPT TO:<b@example.test> ORCPT=utf-8;gr\x{FC}\x{DF}e@example.test"]
        (outcome,) = client.send(own_server(hop), "b@example.test", reverse_path=sender)
        assert (outcome.result, outcome.reply.status) == (Result.FAILED, "5.6.7")


def test_internationalised_headers() -> None:
    content = "From: a@sender.test\r\nSubject: Grüße\r\n\r\ntext\r\n".encode()
    with NextHop() as hop, Relaying() as client:
        assert results(client.send(own_server(hop), content=content, smtputf8=True)) == ["relayed"]
        assert hop.messages[0].mail.endswith(" BODY=8BITMIME SMTPUTF8")
        client.send(own_server(hop), smtputf8=True)  # it was allowed, but nothing needs it
        assert "SMTPUTF8" not in hop.messages[1].mail
    with NextHop(("8BITMIME",)) as hop, Relaying() as client:
        (outcome,) = client.send(own_server(hop), content=content, smtputf8=True)
        assert (outcome.result, outcome.reply.status) == (Result.FAILED, "5.6.7")
        assert results(client.send(own_server(hop), content=content)) == ["relayed"]  # as it came, it goes
        assert hop.messages[0].content == content


def test_more_than_a_hundred_recipients_go_in_several_transactions() -> None:
    with NextHop() as hop, Relaying() as client:
        outcomes = client.send(own_server(hop), *(f"user{number}@example.test" for number in range(250)))
        assert results(outcomes) == ["relayed"] * 250
        assert [len(taken.recipients) for taken in hop.messages] == [100, 100, 50]
        assert len(hop.talks) == 1


def test_a_server_that_takes_few_recipients_at_a_time() -> None:
    """RFC 5321 §4.5.3.1.10."""
    with NextHop() as hop, Relaying() as client:
        hop.script["RCPT"] = [*["250 ok"] * 2, *["452 4.5.3 too many"] * 3, *["250 ok"] * 2, "552 too many", "250 ok"]
        outcomes = client.send(own_server(hop), *(f"user{number}@example.test" for number in range(5)))
        assert results(outcomes) == ["relayed"] * 5
        assert [len(taken.recipients) for taken in hop.messages] == [2, 2, 1]


def test_limits_that_the_server_tells_are_kept() -> None:
    """RFC 9422."""
    recipients = [f"user{number}@{name}.test" for name in ("one", "two") for number in range(3)]
    with NextHop((*EXTENSIONS, "LIMITS RCPTMAX=2 MAILMAX=2")) as hop, Relaying() as client:
        assert results(client.send(own_server(hop), *recipients)) == ["relayed"] * 6
        assert [(taken.connection, len(taken.recipients)) for taken in hop.messages] == [(1, 2), (1, 2), (2, 2)]
    with NextHop((*EXTENSIONS, "LIMITS RCPTDOMAINMAX=1")) as hop, Relaying() as client:
        assert results(client.send(own_server(hop), *recipients)) == ["relayed"] * 6
        assert [len(taken.recipients) for taken in hop.messages] == [3, 3]


def test_helo_where_ehlo_is_not_known() -> None:
    with NextHop() as hop, Relaying() as client:
        hop.script["EHLO"] = ["502 5.5.1 not here"]
        assert results(client.send(own_server(hop))) == ["relayed"]
        assert hop.messages[0].mail == "MAIL FROM:<a@sender.test>"


def test_a_session_is_kept_while_more_is_waiting() -> None:
    with NextHop() as hop, Relaying() as client:
        for number in range(3):
            client.send(own_server(hop), more=number < 2)
        hop.wait_for(lambda: hop.talks[0].closed)
        assert len(hop.talks) == 1
        assert [taken.connection for taken in hop.messages] == [1, 1, 1]
        assert hop.commands.count("RSET") == 0  # the end of a message ends its transaction
        assert hop.commands[-1] == "QUIT"


def test_messages_that_follow_one_another_share_a_session() -> None:
    with NextHop() as hop, Relaying(settings=RelaySettings(stream_time=60.0)) as client:
        for _ in range(4):
            client.send(own_server(hop))
        assert [taken.connection for taken in hop.messages] == [1, 2, 2, 2]  # one message alone leaves nothing open
        hop.wait_for(lambda: hop.talks[0].closed)


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelining", "one by one"])
def test_what_a_refused_transaction_left_is_reset(extensions: tuple[str, ...]) -> None:
    with NextHop(extensions) as hop, Relaying() as client:
        hop.script["RCPT"] = ["550 5.1.1 no", "250 ok"]
        client.send(own_server(hop), more=True)
        client.send(own_server(hop))
        assert len(hop.messages) == 1
        assert len(hop.talks) == 1
        assert hop.commands.count("RSET") == 1


def test_a_kept_session_that_the_server_closed_is_replaced() -> None:
    with NextHop() as hop, Relaying() as client:
        hop.script["MAIL"] = ["250 ok", CUT, "250 ok", "421 4.3.2 tired", "250 ok"]
        for _ in range(3):
            assert results(client.send(own_server(hop), more=True)) == ["relayed"]
        assert [taken.connection for taken in hop.messages] == [1, 2, 3]


def test_how_long_sessions_are_kept() -> None:
    with NextHop() as one, NextHop() as other:
        settings = RelaySettings(messages_per_connection=2, idle_time=0.05, connections=1)
        with Relaying(settings=settings) as client:
            for _ in range(4):
                client.send(own_server(one), more=True)
            assert [taken.connection for taken in one.messages] == [1, 1, 2, 2]  # so many messages
            client.send(own_server(one), more=True)
            client.send(own_server(other), more=True)
            # The one that waited longer gives way; the other runs out by itself.
            client.run(in_a_thread(lambda: one.wait_for(lambda: all(talk.closed for talk in one.talks))))
            client.run(in_a_thread(lambda: other.wait_for(lambda: other.talks[0].closed)))
            assert one.talks[-1].commands[-1] == other.talks[-1].commands[-1] == "QUIT"


async def in_a_thread(work: Callable[[], None]) -> None:
    """While the client's loop runs."""
    await asyncio.get_running_loop().run_in_executor(None, work)


def test_connections_come_from_the_address_that_is_configured() -> None:
    settings = RelaySettings(source_addresses=("127.0.0.9", "::1"))
    with NextHop() as hop, Relaying(settings=settings) as client:
        assert results(client.send(own_server(hop))) == ["relayed"]
        assert hop.talks[0].peer == "127.0.0.9"


def test_words_that_nobody_asked_for_end_a_kept_session() -> None:
    with NextHop() as hop, Relaying() as client:
        hop.script["content"] = [b"250 taken\r\n421 4.4.2 idle for too long\r\n", "250 ok"]
        assert results(client.send(own_server(hop), more=True)) == ["relayed"]
        assert results(client.send(own_server(hop), more=True)) == ["relayed"]
        assert len(hop.talks) == 2


def test_a_transcript_has_commands_and_replies_but_no_content() -> None:
    with NextHop() as hop, Relaying() as client:
        client.send(own_server(hop), tenants=(7,))
        client.run(client.relay.close())
        (record,) = client.transcripts
        assert record.queue_ids == ("queue-id",)
        assert record.tenants == (7,)
        assert record.peer == f"127.0.0.1 [127.0.0.1]:{hop.port}"
        said = [line.split(" ", 1)[1] for line in record.text.split("\n")]
        assert said[:2] == ["< 220 hop.test ESMTP", "> EHLO client.test"]
        assert "> RCPT TO:<b@example.test>" in said
        assert "< 250 2.0.0 taken" in said
        assert "A line." not in record.text
        assert said[-2:] == ["> QUIT", "< 221 2.0.0 bye"]

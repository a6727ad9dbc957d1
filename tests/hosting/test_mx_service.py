"""MX dialogues on sockets: which recipients, what is kept of a message and where, and how it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dns_server import DnsServer
from mx_town import FROM, MESSAGE, ZONE, MxTown, RunningMx, SilentKeys
from pending import deliver_pending
from submission_town import HOSTNAME

from storage.directory.rows import State
from storage.logs.trace import TraceKind
from storage.logs.traces import TraceQuery
from storage.queue.entries import RecipientState
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
    running = RunningMx(town, dns)
    yield running
    running.stop()


def test_extensions(mx: RunningMx) -> None:
    with mx.client() as client:
        said = client.command(b"EHLO there.test")[1].decode().split("\r\n")
        offered = {line[4:].split(" ")[0] for line in said[1:-1]}
        assert offered >= {
            *("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "STARTTLS", "CHUNKING", "LIMITS")
        }
        assert not offered & {"AUTH", "DSN"}
        assert client.command(b"AUTH PLAIN AGEAYg==")[0] >= 500


def test_one_mailbox_is_delivered_directly(town: MxTown, mx: RunningMx) -> None:
    code, said = mx.send("alice@example.test")
    assert code == 250, said
    [message] = town.inbox("alice")
    head, _, rest = message.partition(MESSAGE)
    assert rest == b""
    lines = head.decode().split("\r\n")
    queue_id = said.split()[-1]
    assert lines[0] == f"Return-Path: <{FROM}>"
    assert lines[1] == "Received: from mx.far.test (mx.far.test [127.0.0.1])"
    assert lines[2] == f"\tby {HOSTNAME} with ESMTP id {queue_id}"
    assert lines[3] == "\tfor <alice@example.test>;"
    assert lines[5] == f"Authentication-Results: {HOSTNAME};"
    assert lines[6:9] == [
        "\tspf=pass smtp.mailfrom=far.test;",
        "\tdkim=none;",
        '\tdmarc=none reason="there is no policy" header.from=far.test',
    ]
    assert lines[9:] == [
        "X-Cleanmail-Verdict: deliver; reason=nothing-against-it;",
        '\t"Nothing speaks against it."',
        "",
    ]
    assert town.queued() == []
    [trace] = town.installation.traces.find(TraceQuery(id=queue_id))
    assert [event.kind for event in trace.events] == [TraceKind.RECEIVED, TraceKind.VERDICT, TraceKind.DELIVERED]
    received, verdict, _ = trace.events
    assert received.details["spf"] == "pass" and received.details["client"] == "127.0.0.1"
    assert (verdict.details["verdict"], verdict.details["reason"]) == ("deliver", "nothing-against-it")
    assert [verdict.details[name] for name in ("spf", "dkim", "dmarc", "arc")] == ["pass", "none", "none", "none"]


def test_several_tenants_and_one_copy_each(town: MxTown, mx: RunningMx) -> None:
    recipients = ("alice@example.test", "sales@example.test", "team@example.test", "mallory@other.test")
    assert mx.send(*recipients)[0] == 250
    for name in ("alice", "bob", "mallory"):
        [message] = town.inbox(name)
        assert message.endswith(MESSAGE)
        assert b"for <" not in message  # nobody learns of the others
    assert town.queued() == []
    ids = {event.id for event in town.traced() if event.kind is TraceKind.RECEIVED}
    assert len(ids) == 2  # an entry for each tenant, with a trace of its own


RECIPIENTS = [
    ("alice@example.test", 250, "2.1.5"),
    ("ALICE+news@Example.Test", 250, "2.1.5"),
    ("team@example.test", 250, "2.1.5"),
    ("forward@example.test", 250, "2.1.5"),
    ("nobody@example.test", 550, "5.1.1"),
    ("someone@far.test", 550, "5.7.1"),
    ("alice%far.test@elsewhere.test", 550, "5.7.1"),
    ("<postmaster>", 250, "2.1.5"),
    ("<Postmaster>", 250, "2.1.5"),
    ("postmaster@example.test", 250, "2.1.5"),
    ("abuse@other.test", 250, "2.1.5"),
    (f"abuse@{HOSTNAME}", 250, "2.1.5"),
    (f"alice@{HOSTNAME}", 550, "5.1.1"),
]


@pytest.mark.parametrize(("recipient", "code", "status"), RECIPIENTS)
def test_recipients(mx: RunningMx, recipient: str, code: int, status: str) -> None:
    """RFC 5321 §3.3 (unknown, relaying), §4.5.1 (postmaster)."""
    assert mx.ask(recipient) == (code, status)


def test_bare_postmaster_is_the_operators(tmp_path: Path, dns: DnsServer) -> None:
    town = MxTown(tmp_path, postmaster="bob@example.test")
    mx = RunningMx(town, dns)
    try:
        assert mx.send("postmaster@other.test")[0] == 250
        with mx.client() as client:
            for command in (b"MAIL FROM:<>", b"RCPT TO:<postmaster>", b"DATA"):
                assert client.command(command)[0] < 400
            assert client.command(MESSAGE + b".")[0] == 250
        assert len(town.inbox("bob")) == 2
    finally:
        mx.stop()
        town.close()


def test_a_bounce_has_one_recipient(mx: RunningMx) -> None:
    with mx.client() as client:
        client.command(b"MAIL FROM:<>")
        assert client.command(b"RCPT TO:<alice@example.test>")[0] == 250
        assert client.command(b"RCPT TO:<bob@example.test>")[0] >= 400


def test_recipients_that_lead_to_thousands_take_turns(town: MxTown, mx: RunningMx) -> None:
    """RFC 5321 §4.5.3.1.10: the rest comes in another transaction; nobody fills our memory with one large alias."""
    tenant_id, teams = town.accounts["alice"][0], [EmailAddress.parse(f"team{n}@example.test") for n in range(5)]
    for number, team in enumerate(teams):
        members = [EmailAddress.parse(f"member{number}-{n}@far.test") for n in range(180)]
        town.provisioning.add_alias(tenant_id, team, members)
    town.provisioning.add_alias(tenant_id, EmailAddress.parse("everybody@example.test"), teams)
    with mx.client() as client:
        client.command(f"MAIL FROM:<{FROM}>".encode())
        said = [client.command(b"RCPT TO:<everybody+%d@example.test>" % number) for number in range(7)]
    assert [code for code, _ in said] == [250] * 5 + [452] * 2
    assert said[-1][1][4:9] == b"4.5.3"


class TestStates:
    def test_suspended_accounts_take_mail(self, town: MxTown, mx: RunningMx) -> None:
        town.provisioning.suspend_account(*town.accounts["alice"])
        assert mx.send("alice@example.test")[0] == 250
        assert len(town.inbox("alice")) == 1
        town.provisioning.suspend_tenant(town.accounts["bob"][0])
        assert mx.send("bob@example.test")[0] == 250
        assert len(town.inbox("bob")) == 1

    def test_or_not_by_policy_of_the_tenant(self, town: MxTown, mx: RunningMx) -> None:
        town.provisioning.suspend_account(*town.accounts["alice"])
        town.one.set_setting("suspended_mail", "defer")
        assert mx.ask("alice@example.test") == (450, "4.2.1")
        assert mx.ask("bob@example.test")[0] == 250
        assert mx.ask("team@example.test")[0] == 250  # bob is there
        town.provisioning.suspend_tenant(town.accounts["bob"][0])
        assert mx.ask("bob@example.test") == (450, "4.2.1")
        assert mx.ask("nobody@example.test") == (550, "5.1.1")

    def test_or_not_by_policy_of_the_installation(self, town: MxTown, dns: DnsServer) -> None:
        town.provisioning.suspend_account(*town.accounts["alice"])
        mx = RunningMx(town, dns, suspended="defer")
        try:
            assert mx.ask("alice@example.test") == (450, "4.2.1")
            town.one.set_setting("suspended_mail", "take")
            assert mx.ask("alice@example.test")[0] == 250
        finally:
            mx.stop()

    def test_the_operator_reads_postmaster_of_a_suspended_tenant(self, tmp_path: Path, dns: DnsServer) -> None:
        town = MxTown(tmp_path, postmaster="bob@example.test")
        town.provisioning.suspend_tenant(town.accounts["mallory"][0])
        mx = RunningMx(town, dns, suspended="defer")
        try:
            assert mx.ask("mallory@other.test") == (450, "4.2.1")
            assert mx.send("postmaster@other.test")[0] == 250
            assert len(town.inbox("bob")) == 1
        finally:
            mx.stop()
            town.close()

    def test_ended(self, town: MxTown, mx: RunningMx) -> None:
        town.installation.control.change_tenant_state(town.accounts["mallory"][0], State.ENDED)
        assert mx.ask("mallory@other.test") == (550, "5.2.1")

    def test_a_look_up_that_fails_is_temporary(self, town: MxTown, dns: DnsServer) -> None:
        """Never 550: the key of a tenant is not to be had for the moment."""
        keys = SilentKeys(town.data, town.clock)
        town.reopen(keys)
        mx = RunningMx(town, dns)
        try:
            assert mx.ask("alice@example.test") == (451, "4.3.0")
            assert mx.ask("someone@far.test") == (550, "5.7.1")
            keys.silent = False
            assert mx.ask("alice@example.test")[0] == 250
        finally:
            mx.stop()

    @pytest.mark.parametrize("lost", ["tenants/{t}", "tenants/{t}/tenant.db", "keys/{t}/tenant.key"])
    def test_a_tenant_whose_files_are_missing_has_not_ended(self, town: MxTown, dns: DnsServer, lost: str) -> None:
        """As after a restart of the machine without one of its file systems."""
        mallory = EmailAddress.parse("mallory@other.test")
        town.provisioning.add_alias(
            town.accounts["alice"][0],
            EmailAddress.parse("far@example.test"),
            [mallory, EmailAddress.parse("alice@example.test")],
        )
        town.installation.close()
        (town.data / lost.format(t=int(town.accounts["mallory"][0]))).rename(town.data / "elsewhere")
        town.reopen(town.keys)
        mx = RunningMx(town, dns)
        try:
            assert mx.ask("mallory@other.test") == (451, "4.3.0")
            assert mx.ask("far@example.test") == (451, "4.3.0")
            assert mx.ask("alice@example.test")[0] == 250
        finally:
            mx.stop()


class TestQuota:
    def fill(self, town: MxTown, *, messages: int = 0, octets: int = 0) -> None:
        tenant_id, account_id = town.accounts["alice"]
        town.provisioning.set_quota(tenant_id, account_id, quota_bytes=octets, quota_messages=messages)

    def test_over_quota_is_said_at_rcpt(self, town: MxTown, mx: RunningMx) -> None:
        assert mx.send("alice@example.test")[0] == 250
        self.fill(town, messages=1)
        assert mx.ask("alice@example.test") == (452, "4.2.2")
        assert mx.ask("sales@example.test") == (452, "4.2.2")
        self.fill(town, octets=100)
        assert mx.ask("alice@example.test") == (452, "4.2.2")

    def test_an_announced_size_must_fit(self, town: MxTown, mx: RunningMx) -> None:
        self.fill(town, octets=10_000)
        assert mx.send("alice@example.test", parameters=" SIZE=20000")[0] == 452
        assert mx.send("alice@example.test", parameters=" SIZE=5000")[0] == 250

    def test_one_message_may_overrun(self, town: MxTown, mx: RunningMx) -> None:
        self.fill(town, octets=1000)
        large = MESSAGE + b"x" * 5000 + b"\r\n"
        assert mx.send("alice@example.test", message=large)[0] == 250
        assert mx.send("alice@example.test", message=large)[0] == 452
        assert len(town.inbox("alice")) == 1

    def test_a_full_member_of_an_alias_waits_in_the_queue(self, town: MxTown, mx: RunningMx) -> None:
        assert mx.send("alice@example.test")[0] == 250
        self.fill(town, messages=1)
        assert mx.send("team@example.test")[0] == 250
        assert len(town.inbox("bob")) == 1
        [entry] = town.queued()
        assert {r.state for r in entry.recipients} == {RecipientState.QUEUED, RecipientState.DELIVERED}
        self.fill(town)
        town.clock.advance(3600)
        assert deliver_pending(town.installation) == 1
        assert len(town.inbox("alice")) == 2 and town.queued() == []


def test_one_sender_may_be_limited(town: MxTown, dns: DnsServer) -> None:
    mx = RunningMx(town, dns, messages_per_sender=2)
    try:
        for sender in ("a@far.test", "A@far.test", "b@far.test", "", "", ""):
            assert mx.send("alice@example.test", sender=sender)[0] == 250
        code, said = mx.send("alice@example.test", sender="a@far.test")
        assert (code, said[:5]) == (450, "4.7.1")
        town.clock.advance(120)
        assert mx.send("alice@example.test", sender="a@far.test")[0] == 250
    finally:
        mx.stop()


def test_a_header_beyond_measure_is_refused(town: MxTown, mx: RunningMx) -> None:
    code, said = mx.send("alice@example.test", "bob@example.test", message=b"X: y\r\n" * 6000 + MESSAGE)
    assert (code, said[:5]) == (554, "5.6.0")
    assert town.inbox("alice") == [] and town.queued() == []
    refused = [event for event in town.traced() if event.kind is TraceKind.REFUSED]
    assert {event.recipient for event in refused} == {"alice@example.test", "bob@example.test"}


def test_what_only_we_may_say_is_taken_out(town: MxTown, mx: RunningMx) -> None:
    forged = f"Return-Path: <x@y.test>\r\nX-Cleanmail-Verdict: good\r\nAuthentication-Results: {HOSTNAME}; spf=pass\r\n"
    assert mx.send("alice@example.test", message=forged.encode() + MESSAGE)[0] == 250
    [message] = town.inbox("alice")
    assert message.endswith(b'\t"Nothing speaks against it."\r\n' + MESSAGE)
    assert message.count(b"Authentication-Results:") == 1 and b"\tspf=pass smtp.mailfrom=far.test;\r\n" in message
    assert message.count(b"X-Cleanmail-Verdict:") == 1 and b"good" not in message


def test_dsn_is_announced_by_option_only(town: MxTown, mx: RunningMx, dns: DnsServer) -> None:
    """RFC 3461 §4: without the keyword its parameters are not taken."""
    asking = (b"MAIL FROM:<someone@far.test> RET=HDRS ENVID=x", b"RCPT TO:<forward@example.test> NOTIFY=SUCCESS")
    with mx.client() as client:
        assert client.command(asking[0])[0] == 555
    option = RunningMx(town, dns, offers_dsn=True)
    try:
        with option.client() as client:
            assert b"DSN" in client.command(b"EHLO mx.far.test")[1]
            assert [client.command(line)[0] for line in (*asking, b"DATA")] == [250, 250, 354]
            assert client.command(MESSAGE + b".")[0] == 250
    finally:
        option.stop()
    [entry] = town.queued()
    assert entry.parameters.envid == "x" and entry.recipients[0].parameters.notify == ("SUCCESS",)


def test_line_ends_of_listed_networks_are_normalised(town: MxTown, mx: RunningMx, dns: DnsServer) -> None:
    bare = MESSAGE + b"one\ntwo\rthree\r\n"
    assert mx.send("alice@example.test", message=bare)[0] == 554
    listed = RunningMx(town, dns, normalise=("127.0.0.1/32",))
    try:
        assert listed.send("alice@example.test", message=bare)[0] == 250
        with listed.client() as client:
            assert client.submit_in_chunks(FROM, ["alice@example.test"], bare)[0] == 250
        with listed.client(source="127.0.0.2") as client:
            assert client.submit_in_chunks(FROM, ["alice@example.test"], bare)[0] == 554
    finally:
        listed.stop()
    assert [message.endswith(b"body\r\none\r\ntwo\r\nthree\r\n") for message in town.inbox("alice")] == [True, True]

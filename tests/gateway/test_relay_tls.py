"""TLS with a next hop: taken where it is offered, and never given up where it is demanded."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from authorities import Certified, authority, self_signed
from next_hop import CUT, EXTENSIONS, RESET, SILENT, NextHop
from relaying import Relaying, own_server

from gateway.relay.callout import Verdict
from gateway.relay.outcome import OwnServer, RecipientOutcome, Result, TlsDemand
from gateway.relay.settings import RelaySettings, Timeouts
from storage.errors import InvalidInput
from storage.values import EmailAddress

HOST = "mail.tenant.test"
ROOT = authority()
CERTIFICATES: dict[str, Certified] = {
    "right": ROOT.issue(HOST),
    "any host": ROOT.issue("*.tenant.test"),
    "other host": ROOT.issue("other.test"),
    "expired": ROOT.issue(HOST, days=(-9, -1)),
    "stranger": authority("Stranger").issue(HOST),
    "its own": self_signed(HOST),
}
SHORT = Timeouts(handshake=0.5, quit=1.0)


@pytest.fixture
def hop(tmp_path: Path) -> Iterator[NextHop]:
    with NextHop(certificate=CERTIFICATES["stranger"].write(tmp_path / "hop")) as hop:
        yield hop


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Relaying]:
    root, _ = ROOT.write(tmp_path / "root")
    zone = {HOST: {"A": "127.0.0.1"}}
    with Relaying(zone, settings=RelaySettings(ca_file=str(root), stream_time=0.0), timeouts=SHORT) as client:
        yield client


def send(client: Relaying, hop: NextHop, tls: TlsDemand, host: str = HOST, **options: bool) -> RecipientOutcome:
    (outcome,) = client.send(OwnServer(host, hop.port, tls), **options)
    return outcome


@pytest.mark.parametrize("certificate", CERTIFICATES)
@pytest.mark.parametrize("tls", TlsDemand)
def test_which_certificate_will_do(
    hop: NextHop, client: Relaying, tmp_path: Path, tls: TlsDemand, certificate: str
) -> None:
    hop.use(CERTIFICATES[certificate].write(tmp_path / "hop"))
    outcome = send(client, hop, tls)
    if tls is TlsDemand.VERIFIED and certificate not in ("right", "any host"):
        assert (outcome.result, outcome.reply.status) == (Result.DEFERRED, "4.7.5")
        assert hop.contents == []
        assert "MAIL" not in " ".join(hop.commands)  # not even an address
    else:
        assert outcome.result is Result.RELAYED
        assert hop.messages[0].tls
        assert hop.talks[0].server_name == HOST
        assert hop.commands[:3] == ["EHLO client.test", "STARTTLS", "EHLO client.test"]  # RFC 3207 §4.2


FAULTS = {"refused": "454 4.7.0 not now", "cut": CUT, "reset": RESET, "silent": SILENT, "garbage": b"250 what\r\n"}


# A silent STARTTLS has the five minutes of RFC 5321; test_relay_faults.py has silences with short ones.
@pytest.mark.parametrize(
    ("step", "fault"),
    [
        (step, fault)
        for step in ("STARTTLS", "handshake")
        for fault in FAULTS
        if (step, fault) != ("STARTTLS", "silent")
    ],
)
@pytest.mark.parametrize("tls", TlsDemand)
def test_tls_that_fails(hop: NextHop, client: Relaying, step: str, fault: str, tls: TlsDemand) -> None:
    """Opportunistic TLS falls back to plain text; the others send nothing."""
    hop.script[step] = [FAULTS[fault]]
    outcome = send(client, hop, tls)
    if tls is not TlsDemand.OPPORTUNISTIC:
        assert outcome.result is Result.DEFERRED
        assert outcome.reply.status in ("4.7.4", "4.7.5", "4.4.2")
        assert hop.contents == []
    elif step == "STARTTLS" and fault in ("cut", "reset"):
        assert outcome.result is Result.DEFERRED  # a server that ends the connection is down, not without TLS
    else:
        assert outcome.result is Result.RELAYED
        assert not hop.messages[0].tls


@pytest.mark.parametrize("tls", [TlsDemand.ENCRYPTED, TlsDemand.VERIFIED])
def test_a_server_without_tls_where_it_is_demanded(client: Relaying, tls: TlsDemand) -> None:
    with NextHop(EXTENSIONS) as hop:
        outcome = send(client, hop, tls)
        assert (outcome.result, outcome.reply.status) == (Result.DEFERRED, "4.7.4")
        assert hop.commands == ["EHLO client.test"]
    with NextHop() as hop:
        hop.script["EHLO"] = ["502 5.5.1 what?"]  # HELO offers nothing
        assert send(client, hop, tls).reply.status == "4.7.4"


def test_replies_sent_ahead_of_the_handshake_count_for_nothing(hop: NextHop, client: Relaying) -> None:
    """RFC 3207 §4.2: somebody in the middle could have said them; EHLO is asked again."""
    injected = b"220 go ahead\r\n250-hop.test\r\n250 SIZE 1\r\n250 ok\r\n550 5.1.1 no such user\r\n"
    hop.script["STARTTLS"] = [injected]
    outcome = send(client, hop, TlsDemand.ENCRYPTED)
    assert outcome.result is Result.RELAYED
    assert hop.messages[0].tls


def test_what_the_server_offered_in_plain_text_is_forgotten(hop: NextHop, client: Relaying) -> None:
    plain, encrypted = "250 hop.test\nSTARTTLS\nSIZE 1\nDSN", "250 hop.test\n250 SIZE 999999"
    hop.script["EHLO"] = [plain.replace("\n", "\n250 "), encrypted]
    assert send(client, hop, TlsDemand.OPPORTUNISTIC).result is Result.RELAYED


def test_a_certificate_for_an_address(client: Relaying, hop: NextHop) -> None:
    assert send(client, hop, TlsDemand.VERIFIED, "127.0.0.1").reply.status == "4.7.5"
    assert send(client, hop, TlsDemand.ENCRYPTED, "127.0.0.1").result is Result.RELAYED


def test_a_session_is_never_used_for_a_higher_demand(hop: NextHop, client: Relaying) -> None:
    assert send(client, hop, TlsDemand.OPPORTUNISTIC, more=True).result is Result.RELAYED
    assert send(client, hop, TlsDemand.VERIFIED, more=True).result is Result.DEFERRED
    assert len(hop.messages) == 1


def test_many_messages_over_one_handshake(hop: NextHop, client: Relaying) -> None:
    for _ in range(5):
        assert send(client, hop, TlsDemand.ENCRYPTED, more=True).result is Result.RELAYED
    assert len(hop.talks) == 1


def test_handshakes_are_shortened_where_certificates_decide_nothing(
    hop: NextHop, client: Relaying, tmp_path: Path
) -> None:
    hop.use(CERTIFICATES["right"].write(tmp_path / "hop"))
    for tls in (TlsDemand.ENCRYPTED, TlsDemand.ENCRYPTED, TlsDemand.VERIFIED, TlsDemand.VERIFIED):
        assert send(client, hop, tls).result is Result.RELAYED
        hop.wait_for(lambda: all(talk.closed for talk in hop.talks))
    client.run(client.relay.close())
    assert [", resumed" in record.text for record in client.transcripts] == [False, True, False, False]


def test_a_large_message_over_tls(hop: NextHop, client: Relaying) -> None:
    content = b"From: a@sender.test\r\n\r\n" + b"0123456789abcdef" * 4 * 20 + b"\r\n"
    content += (b"x" * 70 + b"\r\n") * 30_000
    (outcome,) = client.send(own_server(hop, TlsDemand.ENCRYPTED), content=content)
    assert outcome.result is Result.RELAYED
    assert len(hop.messages[0].content) > 2_000_000


def test_nothing_older_than_tls_1_2(hop: NextHop, client: Relaying, tmp_path: Path) -> None:
    files = CERTIFICATES["right"].write(tmp_path / "hop")
    hop.use(files, maximum_version=ssl.TLSVersion.TLSv1_2)
    assert send(client, hop, TlsDemand.VERIFIED).result is Result.RELAYED
    client.run(client.relay.close())
    assert "* TLSv1.2 with " in client.transcripts[0].text
    with pytest.warns(DeprecationWarning):
        hop.use(files, minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)
    assert send(client, hop, TlsDemand.ENCRYPTED).reply.status == "4.7.5"
    assert send(client, hop, TlsDemand.OPPORTUNISTIC).result is Result.RELAYED
    assert [taken.tls for taken in hop.messages] == [True, False]


def test_call_outs_keep_the_demand_too(hop: NextHop, client: Relaying) -> None:
    address = EmailAddress.parse("b@tenant.test")
    verified = OwnServer(HOST, hop.port, TlsDemand.VERIFIED)
    assert client.run(client.callout.check(verified, address)).verdict is Verdict.UNKNOWN
    assert hop.commands == ["EHLO client.test", "STARTTLS"]


def test_a_file_of_authorities_has_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(InvalidInput), Relaying(settings=RelaySettings(ca_file=str(tmp_path / name))):
            pass

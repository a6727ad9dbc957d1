"""The IMAP service on sockets: TLS, signing in, IDLE across connections, limits, hostile input, PROXY, a clean stop."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import SocketClient, play
from imap_server import RunningServer, in_reactor, running_server
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.limits import Limits
from hosting.imap.shell import service as imap_service
from storage.installation import Installation
from storage.mail.view import MailboxView
from storage.values import FLAGGED, UidSet

PLAIN = base64.b64encode(f"\0alice@example.test\0{PASSWORD}".encode()).decode()
LIMITS = Limits(message=4_000_000, connections_per_account=3, connections_per_address=6, swallowed=100_000)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path, LIMITS) as made:
        yield made


@pytest.fixture
def server(town: MailTown) -> Iterator[RunningServer]:
    with running_server(town) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[SocketClient]:
    made = connect(server)
    yield made
    made.close()


def connect(server: RunningServer, user: str = "alice@example.test", *, select: str = "") -> SocketClient:
    made = SocketClient(server.tls_address, tls=server.client_context)
    play(made, f'S: * OK …\nC: x LOGIN {user} "{PASSWORD}"\nS: x OK …')
    if select:
        made.send(f"y SELECT {select}\r\n".encode())
        made.until("y")
    return made


# --- TLS and signing in ---


def test_starttls_discards_what_was_pipelined(server: RunningServer) -> None:
    """RFC 9051 §6.2.1: else an attacker's commands would count as protected."""
    client = SocketClient(server.address)
    play(client, "S: * OK [CAPABILITY IMAP4rev1 … STARTTLS LOGINDISABLED] …")
    play(client, "C: a LOGIN alice@example.test x\nS: a NO [PRIVACYREQUIRED] …")
    play(client, "C: b AUTHENTICATE PLAIN\nS: b NO [PRIVACYREQUIRED] …")
    play(client, "C> c STARTTLS\\r\\nd CREATE injected\\r\\n\nS: c OK …")
    client.start_tls(server.client_context)
    play(client, "C: e CAPABILITY\nS: * CAPABILITY IMAP4rev1 … AUTH=PLAIN AUTH=LOGIN\nS: e OK …")
    play(client, f'C: f LOGIN alice@example.test "{PASSWORD}"\nS: f OK [CAPABILITY …')
    play(client, 'C: g LIST "" injected\nS: g OK …\nC: h STARTTLS\nS: h BAD …')
    client.close()


SIGN_INS = [
    ("PLAIN with an initial response", f"C: a AUTHENTICATE PLAIN {PLAIN}\nS: a OK [CAPABILITY …"),
    ("PLAIN", f"C: a AUTHENTICATE PLAIN\nS: +…\nC: {PLAIN}\nS: a OK [CAPABILITY …"),
    (
        "LOGIN",
        "C: a AUTHENTICATE LOGIN\nS: + VXNlcm5hbWU6\n"
        f"C: {base64.b64encode(b'alice@example.test').decode()}\nS: + UGFzc3dvcmQ6\n"
        f"C: {base64.b64encode(PASSWORD.encode()).decode()}\nS: a OK [CAPABILITY …",
    ),
    ("cancelled", "C: a AUTHENTICATE PLAIN\nS: +…\nC: *\nS: a BAD …"),
    ("no base64", "C: a AUTHENTICATE PLAIN !!!!\nS: a BAD …"),
    ("not PLAIN's form", "C: a AUTHENTICATE PLAIN YWJj\nS: a BAD …"),
    (
        "for somebody else",
        f"C: a AUTHENTICATE PLAIN {base64.b64encode(b'bob@example.test' + base64.b64decode(PLAIN)).decode()}\n"
        "S: a NO [AUTHORIZATIONFAILED] …",
    ),
    ("an unknown mechanism", "C: a AUTHENTICATE GSSAPI\nS: a NO [CANNOT] …"),
    ("a wrong password", "C: a LOGIN alice@example.test wrong\nS: a NO [AUTHENTICATIONFAILED] …"),
    ("nobody", "C: a LOGIN nobody@example.test wrong\nS: a NO [AUTHENTICATIONFAILED] …"),
    ("ID first (Outlook)", 'C: a ID ("name" "x")\nS: * ID (…)\nS: a OK …'),
    ("too early", "C: a SELECT INBOX\nS: a BAD …"),
]


@pytest.mark.parametrize("dialogue", [row[1] for row in SIGN_INS], ids=[row[0] for row in SIGN_INS])
def test_signing_in(server: RunningServer, dialogue: str) -> None:
    client = SocketClient(server.tls_address, tls=server.client_context)
    play(client, "S: * OK [CAPABILITY IMAP4rev1 … AUTH=PLAIN AUTH=LOGIN] …")
    play(client, dialogue)
    play(client, "C: z NOOP\nS: z OK …")
    client.close()


def test_tls_to_a_plain_port_and_plain_to_a_tls_port(server: RunningServer) -> None:
    with socket.create_connection(server.tls_address, timeout=20) as plain:
        plain.sendall(b"a NOOP\r\n" * 100)
        while plain.recv(1000):
            pass
    client = SocketClient(server.address)
    client.receive(1)
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n")
    assert client.receive(1)[0].startswith("* BAD")
    client.close()


# --- IDLE and the change feed ---


def test_a_delivery_reaches_a_session_in_idle(town: MailTown, server: RunningServer) -> None:
    idle, other = connect(server, select="INBOX"), connect(server)
    play(idle, "C: a IDLE\nS: + idling")
    other.send(b"b APPEND INBOX {3+}\r\nabc\r\n")
    play(idle, "S: * 1 EXISTS\nS: * 1 RECENT")
    play(other, "S: b OK …")
    other.send(b"c SELECT INBOX\r\n")
    other.until("c")
    play(other, "C: d STORE 1 +FLAGS.SILENT (\\Deleted)\nS: d OK …")
    play(idle, "S: * 1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))")
    play(other, "C: e EXPUNGE\nS: * 1 EXPUNGE\nS: e OK …")
    play(idle, "S: * 1 EXPUNGE\nC> DONE\\r\\nf NOOP\\r\\n\nS: a OK …\nS: f OK …")


def test_what_was_told_at_rest_is_recent_to_no_other_process(town: MailTown, server: RunningServer) -> None:
    """RFC 3501 §2.3.2: it is kept in the database, not only in the view that sessions of one process share."""
    client = connect(server, select="INBOX")
    play(client, "C: a IDLE\nS: + idling")
    with town.account() as account:
        inbox = account.mailboxes.find("INBOX")
        account.messages.append(inbox.id, mail("news"))
        assert client.receive(2)[1] == "* 1 RECENT"
        in_reactor(lambda: server.service.end_silent(60))
        account.background.settle(account.account_id)
        assert account.mailboxes.recent_from(inbox.id) == inbox.uidnext + 1
    play(client, "C: DONE\nS: a OK …")


def test_what_comes_while_idle_begins_is_told_where_others_watch_the_account(
    town: MailTown, server: RunningServer
) -> None:
    """RFC 2177: the feed told of it before this session could be told, and not again since."""
    clients = [connect(server, select=name) for name in ("INBOX", "Sent")]
    for client in clients:
        play(client, "C: a IDLE\nS: + idling")
    service = server.service
    with town.account() as account:
        sent = account.mailboxes.find("Sent")

        def commit_between() -> None:
            [connection] = [each for each, key in service._watching.items() if key == (account.account_id, sent.id)]
            service.unwatch(connection)
            account.messages.append(sent.id, mail("news"))
            assert service._subscriber is not None
            service._changed(service._subscriber.drain())  # type: ignore[arg-type]
            service.watch(connection)

        in_reactor(commit_between)
    assert clients[1].receive(1) == ["* 1 EXISTS"]


def test_very_many_changes_of_another_process_are_read_beside_the_event_loop(
    town: MailTown, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with town.account() as account:
        account.messages.append(account.mailboxes.find("INBOX").id, mail("one"))
    idle, readers = connect(server, select="INBOX"), []
    prepare = MailboxView.prepare_changes

    def noted(view: MailboxView) -> None:
        readers.append(threading.get_ident())
        prepare(view)

    monkeypatch.setattr(MailboxView, "prepare_changes", noted)
    play(idle, "C: a IDLE\nS: + idling")
    elsewhere = Installation(town.data, town.keys, town.clock)

    def commit_many() -> int:
        with elsewhere.account(*town.accounts["alice@example.test"]) as account:
            inbox = account.mailboxes.find("INBOX").id
            for _ in range(12):
                account.messages.store(inbox, UidSet.of([1]), "add", FLAGGED)
                account.messages.store(inbox, UidSet.of([1]), "remove", FLAGGED)
            account.messages.append(inbox, mail("two"))
        return threading.get_ident()

    loop = in_reactor(commit_many)
    assert idle.receive(2)[0] == "* 2 EXISTS"
    assert readers and loop not in readers
    elsewhere.close()


def test_commands_behind_idle_wait_for_done(client: SocketClient) -> None:
    play(client, "C> a IDLE\\r\\nDONE\\r\\nb NOOP\\r\\n\nS: + idling\nS: a OK …\nS: b OK …")


def test_a_new_password_ends_open_sessions(town: MailTown, server: RunningServer) -> None:
    mine, idle, other = connect(server), connect(server, select="INBOX"), connect(server, "bob@example.test")
    play(idle, "C: a IDLE\nS: + idling")
    tenant_id, account_id = town.accounts["alice@example.test"]
    town.provisioning.set_password(tenant_id, account_id, "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$c29tZWhhc2g")
    assert mine.receive_all().startswith(b"* BYE")
    assert idle.receive_all().startswith(b"* BYE")
    play(other, "C: a NOOP\nS: a OK …")


# --- limits and hostile input ---


def test_connections_of_an_account_and_of_an_address(server: RunningServer) -> None:
    held = [connect(server) for _ in range(3)]
    fourth = SocketClient(server.tls_address, tls=server.client_context)
    play(fourth, f'S: * OK …\nC: a LOGIN alice@example.test "{PASSWORD}"\nS: a NO [LIMIT] …')
    held += [SocketClient(server.address) for _ in range(2)]
    for one in held[3:]:
        one.receive(1)
    seventh = SocketClient(server.address)
    assert seventh.receive_all() == b"* BYE Too many connections.\r\n"
    held[0].send(b"z LOGOUT\r\n")
    held[0].receive_all()
    play(fourth, f'C: b LOGIN alice@example.test "{PASSWORD}"\nS: b OK …')


def test_silence_ends_a_connection(town: MailTown, server: RunningServer) -> None:
    signed_in, greeted = connect(server), SocketClient(server.address)
    greeted.receive(1)
    in_reactor(lambda: server.service.end_silent(LIMITS.sign_in_timeout + 1))
    assert greeted.receive_all().startswith(b"* BYE")
    play(signed_in, "C: a NOOP\nS: a OK …")
    in_reactor(lambda: server.service.end_silent(LIMITS.idle_timeout + 1))
    assert signed_in.receive_all().startswith(b"* BYE")


def test_very_many_silent_connections_are_looked_at_in_pieces(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, others_turn = [connect(server) for _ in range(3)], []
    service = server.service
    monkeypatch.setattr(imap_service, "_BURST", 0.0)

    def look() -> None:
        service.end_silent(LIMITS.idle_timeout + 1)
        others_turn.append(sum(not each.ended for each in service._connections))

    in_reactor(look)
    assert others_turn == [2]
    assert all(each.receive_all().startswith(b"* BYE") for each in silent)


HOSTILE = [
    ("4 GB by LITERAL+", b"a APPEND INBOX {4294967296+}\r\n", b"* BYE"),
    ("a line without end", b"a " + b"x" * 300_000, b"* BYE"),
    ("4 GB announced", b"a APPEND INBOX {4294967296}\r\nz LOGOUT\r\n", b"a NO [TOOBIG]"),
    ("a million ranges", b"a UID FETCH " + b"1," * 1_000_000 + b"1 UID\r\nz LOGOUT\r\n", b"* BYE"),
    ("NUL", b"a LOGIN \0 x\r\nz LOGOUT\r\n", b"a BAD"),
    ("deep", b"a SEARCH " + b"(" * 30_000 + b"\r\nz LOGOUT\r\n", b"a BAD"),
    ("binary", bytes(range(256)) * 10 + b"\r\nz LOGOUT\r\n", b"* BAD"),
]


@pytest.mark.parametrize(("octets", "answer"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_hostile_input_gets_an_answer_and_hurts_nobody(server: RunningServer, octets: bytes, answer: bytes) -> None:
    client, bystander = connect(server), connect(server)
    with contextlib.suppress(OSError):  # it may hang up on us
        client.send(octets)
    assert client.receive_all().startswith(answer)
    play(bystander, "C: a NOOP\nS: a OK …")


def test_half_a_command_and_gone(server: RunningServer) -> None:
    for octets in (b"a APPEND INBOX {100+}\r\nabc", b"a UID FETCH 1:", b"a IDLE\r\n", b"a AUTHENTICATE PLAIN\r\n"):
        client = connect(server)
        client.send(octets)
        client.close()
    play(connect(server), 'C: a STATUS INBOX (MESSAGES)\nS: * STATUS "INBOX" (MESSAGES 0)\nS: a OK …')


# --- a lot of output ---


def test_a_large_message_comes_back_in_pieces(client: SocketClient) -> None:
    data = mail(body="0123456789abcdef\r\n" * 200_000)
    client.send(b"a APPEND INBOX {%d+}\r\n" % len(data) + data + b"\r\nb SELECT INBOX\r\n")
    client.until("b")
    client.send(b"c UID FETCH 1 (BODY.PEEK[] UID)\r\n")
    head, octets = client.literal()
    assert head == f"* 1 FETCH (BODY[] {{{len(data)}}}"
    assert octets == data
    client.until("c")
    client.send(b"d FETCH 1 (BODY.PEEK[TEXT]<1800000.5000000> BINARY.SIZE[1])\r\n")
    _, octets = client.literal()
    text = data.partition(b"\r\n\r\n")[2]
    assert octets == text[1_800_000:]
    client.until("d")


def test_a_client_that_does_not_read_stops_only_itself(town: MailTown, server: RunningServer) -> None:
    data = mail(body="x" * 70 + "\r\n" + "0123456789abcdef\r\n" * 10_000)
    slow, other = connect(server), connect(server)
    for _ in range(20):
        slow.send(b"a APPEND INBOX {%d+}\r\n" % len(data) + data + b"\r\n")
        slow.until("a")
    slow.send(b"b SELECT INBOX\r\n")
    slow.until("b")
    slow.send(b"c FETCH 1:20 BODY.PEEK[]\r\n" * 3 + b"d NOOP\r\n")
    play(other, "C: a NOOP\nS: a OK …")
    found = slow.until("d")
    assert sum(line.startswith("c OK") for line in found) == 3


# --- PROXY, stopping ---


def test_proxy_header(town: MailTown) -> None:
    with running_server(town, proxies=[ipaddress.ip_network("127.0.0.0/8")]) as server:
        client = SocketClient(server.address)
        client.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 143\r\na NOOP\r\n")
        play(client, "S: * OK …\nS: a OK …")
        assert in_reactor(server.service.addresses) == {"203.0.113.9": 1}
        forged = SocketClient(server.address)
        forged.send(b"a NOOP this is no PROXY header\r\n")
        assert forged.receive_all() == b""
        client.close()


def test_proxy_header_before_tls(town: MailTown) -> None:
    with running_server(town, proxies=[ipaddress.ip_network("127.0.0.0/8")]) as server:
        client = SocketClient(server.tls_address)
        client.send(b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 993\r\n")
        client.start_tls(server.client_context)
        play(client, "S: * OK …\nC: a NOOP\nS: a OK …")
        client.close()


def test_stopping_says_bye_and_finishes_commands(town: MailTown) -> None:
    with running_server(town) as server:
        idle, busy = connect(server), connect(server)
        play(idle, "C: a IDLE\nS: + idling")
        busy.send(b"a APPEND INBOX {3+}\r\nabc\r\n")
        busy.receive(1)
    assert idle.receive_all().startswith(b"* BYE")
    with town.account() as account:
        assert account.mailboxes.find("INBOX").messages == 1

"""Signing in to IMAP by SCRAM and by tokens, on the core; channel binding on a socket, where it is what it is."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from imap_play import Client, CoreClient, SocketClient, play
from imap_server import in_reactor, running_server
from imap_town import PASSWORD, MailTown, new_mail_town
from OpenSSL import SSL
from scram_client import ScramClient

from hosting.auth.local import LocalAuth
from hosting.auth.sasl import read_bearer
from hosting.auth.signin import BearerOffer, Offers
from hosting.auth.tokens import Claims, ProviderSignIns
from hosting.imap.session import Services
from hosting.imap.signin import _opened
from storage.errors import InvalidInput, Unavailable
from storage.mail.account import Account
from storage.mail.views import Views

ALICE, BOB = "alice@example.test", "bob@example.test"


@dataclass
class SignInTown:
    town: MailTown
    app_password: str
    number: int

    def client(self, *, channel: bytes = b"", secure: bool = True) -> CoreClient:
        self.town.clock.advance(4000)  # failures of the test before are forgotten
        client = CoreClient(self.town.services, secure=secure)
        client.session.channel = channel
        client.receive(1)
        return client


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignInTown]:
    with new_mail_town(tmp_path_factory.mktemp("town")) as town:
        local = LocalAuth(town.keys, town.verifier, offers=Offers(scram_told=True))
        town.services = replace(town.services, authenticator=local)
        town.authenticator = local
        row, text = town.provisioning.create_app_password(*town.accounts[ALICE], "phone", ["imap"])
        yield SignInTown(town, text, row.app_password_id)


def b64(octets: bytes) -> str:
    return b64encode(octets).decode()


def said(line: str) -> bytes:
    assert line.startswith("+ "), line
    return b64decode(line[2:], validate=True)


def exchange(client: Client, scram: ScramClient, mechanism: str = "SCRAM-SHA-256") -> str:
    """The last line."""
    client.send(f"a AUTHENTICATE {mechanism} {b64(scram.first())}\r\n".encode())
    (line,) = client.receive(1)
    if not line.startswith("+"):
        return line
    client.send(b64(scram.final(said(line))).encode() + b"\r\n")
    (line,) = client.receive(1)
    if not line.startswith("+"):
        return line
    assert scram.believes(said(line))
    client.send(b"\r\n")
    return client.receive(1)[0]


# SCRAM


@pytest.mark.parametrize("typed", ["as shown", "without hyphens"])
def test_scram_sha_256_rfc_5802(signing: SignInTown, typed: str) -> None:
    """RFC 7677 §3: as RFC 5802 §5 has it, with SHA-256 and 4,096 rounds."""
    password = signing.app_password if typed == "as shown" else signing.app_password.replace("-", "")
    client = signing.client()
    client.send(b"c CAPABILITY\r\n")
    told = client.receive(2)[0]
    assert " AUTH=SCRAM-SHA-256 " in told
    assert "PLUS" not in told
    scram = ScramClient(ALICE, password)
    assert exchange(client, scram).startswith("a OK [CAPABILITY IMAP4rev1")
    assert scram.rounds == 4096
    user = client.session.user
    assert (user.login, user.credential) == (ALICE, f"app:{signing.number}")
    assert signing.town.authenticator.still_valid(user)
    client.close()


def test_scram_without_an_initial_response_rfc_4422(signing: SignInTown) -> None:
    client, scram = signing.client(), ScramClient(ALICE, signing.app_password, acting_as=ALICE)
    client.send(b"a AUTHENTICATE SCRAM-SHA-256\r\n")
    assert client.receive(1) == ["+ "]
    client.send(b64(scram.first()).encode() + b"\r\n")
    client.send(b64(scram.final(said(client.receive(1)[0]))).encode() + b"\r\n")
    assert scram.believes(said(client.receive(1)[0]))
    client.send(b"=\r\n")
    assert client.receive(1)[0].startswith("a OK")
    client.close()


def test_main_password_is_none_of_scram_unless_the_operator_says_so(signing: SignInTown) -> None:
    assert exchange(signing.client(), ScramClient(ALICE, "correct horse")).startswith("a NO [AUTHENTICATIONFAILED]")


def test_unknown_names_and_accounts_without_keys_get_what_others_get(signing: SignInTown) -> None:
    """The same shape, a salt that stays, and the same refusal (RFC 5802 §9)."""
    answers: dict[str, set[tuple[bytes, int]]] = {}
    for login in (ALICE, BOB, "nobody@example.test", "nobody@far.test", "no address", "x" * 600):
        for _ in range(2):
            scram = ScramClient(login, "wrong")
            line = exchange(signing.client(), scram)
            assert line == "a NO [AUTHENTICATIONFAILED] The user name or the password is wrong."
            answers.setdefault(login, set()).add((scram.salt, scram.rounds))
    assert all(len(each) == 1 for each in answers.values())
    salts = [next(iter(each)) for each in answers.values()]
    assert len(set(salts)) == len(salts)
    assert {(len(salt), rounds) for salt, rounds in salts} == {(16, 4096)}


@pytest.mark.parametrize(
    "change",
    [
        {"acting_as": BOB},
        {"extension": "m=must,"},
        {"flag": "p=tls-exporter", "channel": b"c" * 32},  # without -PLUS
    ],
)
def test_what_fails_whoever_it_is(signing: SignInTown, change: dict[str, object]) -> None:
    scram = ScramClient(ALICE, signing.app_password, **change)  # type: ignore[arg-type]
    assert exchange(signing.client(), scram).startswith("a NO [AUTHENTICATIONFAILED]")


def test_rounds_that_somebody_lowered_under_way_do_not_sign_in(signing: SignInTown) -> None:
    """And his proof is worth nothing elsewhere: what was said is part of it (RFC 5802 §3)."""
    client, scram = signing.client(), ScramClient(ALICE, signing.app_password)
    client.send(f"a AUTHENTICATE SCRAM-SHA-256 {b64(scram.first())}\r\n".encode())
    lowered = said(client.receive(1)[0]).replace(b"i=4096", b"i=1")
    client.send(b64(scram.final(lowered)).encode() + b"\r\n")
    assert client.receive(1)[0].startswith("a NO [AUTHENTICATIONFAILED]")


def test_nonce_of_another_exchange_is_not_taken(signing: SignInTown) -> None:
    """RFC 5802 §5.1: a whole exchange that was seen, said again."""
    seen = ScramClient(ALICE, signing.app_password, nonce="fixed-nonce")
    client = signing.client()
    client.send(f"a AUTHENTICATE SCRAM-SHA-256 {b64(seen.first())}\r\n".encode())
    challenge = said(client.receive(1)[0])
    final = seen.final(challenge)
    client.send(b64(final).encode() + b"\r\n")
    client.receive(1)
    client.send(b"\r\n")
    assert client.receive(1)[0].startswith("a OK")
    client.close()
    again = signing.client()
    again.send(f"a AUTHENTICATE SCRAM-SHA-256 {b64(seen.first())}\r\n".encode())
    other = said(again.receive(1)[0])
    assert other != challenge
    again.send(b64(final).encode() + b"\r\n")
    assert again.receive(1)[0].startswith("a NO [AUTHENTICATIONFAILED]")
    own = signing.client()
    own.send(f"a AUTHENTICATE SCRAM-SHA-256 {b64(seen.first())}\r\n".encode())
    own.receive(1)
    own.send(b64(seen.proof(challenge, "fixed-nonce" + "A" * 32)).encode() + b"\r\n")
    assert own.receive(1)[0].startswith("a NO [AUTHENTICATIONFAILED]")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n",
        b"n,,",
        b"n,,n=alice",
        b"n,,n=alice,r=",
        b"n,,n=alice,r=with space",
        b"x,,n=alice,r=abc",
        b"n,a=,b,n=alice,r=abc",
        b"p=,,n=alice,r=abc",
        b"n,,n=al=2Dice,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,,n=a\0b,r=abc",
        b"n,,r=abc,n=alice",
        b"n,,n=alice,r=" + b"a" * 513,
        b"n,,n=" + b"a" * 4096 + b",r=abc",
    ],
)
def test_what_is_no_first_message(signing: SignInTown, first: bytes) -> None:
    client = signing.client()
    client.send(f"a AUTHENTICATE SCRAM-SHA-256 {b64(first) or '='}\r\n".encode())
    assert client.receive(1) == ["a BAD This is no first message of SCRAM."]


@pytest.mark.parametrize(
    "final",
    [b"", b"c=biws", b"c=biws,r=abc", b"r=abc,c=biws,p=AAAA", b"c=biws,r=abc,p=A", b"c=biws,r=abc,p=AAAA,x=y", b"\0"],
)
def test_what_is_no_final_message(signing: SignInTown, final: bytes) -> None:
    client, scram = signing.client(), ScramClient(ALICE, signing.app_password)
    client.send(f"a AUTHENTICATE SCRAM-SHA-256 {b64(scram.first())}\r\n".encode())
    client.receive(1)
    client.send(b64(final).encode() + b"\r\n")
    assert client.receive(1) == ["a BAD This is no final message of SCRAM."]


def test_exchanges_that_are_broken_off(signing: SignInTown) -> None:
    """Nothing is kept of them, and no event is left; the connection goes on."""
    town, scram = signing.town, ScramClient(ALICE, signing.app_password)
    before = len(events(town))
    client = signing.client()
    for _ in range(20):
        client.send(f"a AUTHENTICATE SCRAM-SHA-256 {b64(scram.first())}\r\n".encode())
        assert client.receive(1)[0].startswith("+ ")
        client.send(b"*\r\n")
        assert client.receive(1) == ["a BAD The exchange was cancelled."]
    client.send(f"a AUTHENTICATE SCRAM-SHA-256 {b64(scram.first())}\r\n".encode())
    client.receive(1)
    client.send(b"not base64!\r\n")
    assert client.receive(1) == ["a BAD The response is not base64."]
    assert len(events(town)) == before
    assert exchange(client, ScramClient(ALICE, signing.app_password)).startswith("a OK")
    client.close()


def test_something_after_the_last_message(signing: SignInTown) -> None:
    client, scram = signing.client(), ScramClient(ALICE, signing.app_password)
    client.send(f"a AUTHENTICATE SCRAM-SHA-256 {b64(scram.first())}\r\n".encode())
    client.send(b64(scram.final(said(client.receive(1)[0]))).encode() + b"\r\n")
    assert scram.believes(said(client.receive(1)[0]))
    client.send(b"AAAA\r\n")
    assert client.receive(1)[0].startswith("a BAD")
    assert client.session.principal is None


def test_nothing_is_offered_or_taken_before_tls_rfc_9051_section_6_2_3(signing: SignInTown) -> None:
    client = signing.client(secure=False)
    client.send(b"c CAPABILITY\r\n")
    assert "AUTH=" not in client.receive(2)[0]
    for mechanism in ("SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"):
        client.send(f"a AUTHENTICATE {mechanism} biws\r\n".encode())
        assert client.receive(1)[0].startswith("a NO [PRIVACYREQUIRED]")


def test_once_signed_in_nobody_signs_in_again_rfc_9051_section_6_2(signing: SignInTown) -> None:
    """In rev2 and with QRESYNC too; and the mechanism's name is one in any letters."""
    client = signing.client()
    assert exchange(client, ScramClient(ALICE, signing.app_password), "scram-sha-256").startswith("a OK")
    client.send(b"e ENABLE IMAP4rev2 QRESYNC\r\n")
    assert client.receive(2)[-1].startswith("e OK")
    for mechanism in ("SCRAM-SHA-256", "OAUTHBEARER", "PLAIN"):
        client.send(f"b AUTHENTICATE {mechanism} biws\r\n".encode())
        assert client.receive(1) == ["b BAD This command is not possible in this state."]
    client.close()


def test_mechanisms_that_are_not_offered(signing: SignInTown) -> None:
    client = signing.client()
    for mechanism in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "OAUTHBEARER", "XOAUTH2", "GSSAPI"):
        client.send(f"a AUTHENTICATE {mechanism} biws\r\n".encode())
        assert client.receive(1) == ["a NO [CANNOT] This mechanism is not offered."]


def events(town: MailTown) -> list[str]:
    return [each.result for each in town.installation.access_log.read(0, town.clock.now() + 1)]


# Channel binding (RFC 5802 §6, RFC 9266)

CHANNEL = b"what TLS exports, 32 octets of it"


@pytest.mark.parametrize(
    ("mechanism", "flag", "channel", "ok"),
    [
        ("SCRAM-SHA-256-PLUS", "p=tls-exporter", CHANNEL, True),
        ("SCRAM-SHA-256-PLUS", "p=tls-exporter", b"of another connection", False),
        ("SCRAM-SHA-256-PLUS", "p=tls-exporter", b"", False),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique", CHANNEL, False),
        ("SCRAM-SHA-256-PLUS", "n", b"", False),
        ("SCRAM-SHA-256-PLUS", "y", b"", False),
        ("SCRAM-SHA-256", "n", b"", True),
        ("SCRAM-SHA-256", "y", b"", False),  # somebody took -PLUS out of what the client saw
        ("SCRAM-SHA-256", "p=tls-exporter", CHANNEL, False),
        ("SCRAM-SHA-256", "n", CHANNEL, False),
    ],
)
def test_what_a_client_says_of_channel_binding_rfc_5802_section_6(
    signing: SignInTown, mechanism: str, flag: str, channel: bytes, ok: bool
) -> None:
    client = signing.client(channel=CHANNEL)
    client.send(b"c CAPABILITY\r\n")
    assert " AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 " in client.receive(2)[0]
    line = exchange(client, ScramClient(ALICE, signing.app_password, flag, channel), mechanism)
    assert line.startswith("a OK" if ok else "a NO [AUTHENTICATIONFAILED]"), line
    client.close()


def test_clients_that_saw_no_plus_may_say_so_where_there_is_none(signing: SignInTown) -> None:
    client = signing.client()
    assert exchange(client, ScramClient(ALICE, signing.app_password, "y")).startswith("a OK")
    client.close()


class PyOpenSslClient:
    """A TLS client that knows its exporter, which Python's ssl does not give."""

    def __init__(self, address: tuple[str, int], *, newest: int = SSL.TLS1_3_VERSION, starttls: bool = False) -> None:
        self._plain = socket.create_connection(address, timeout=20)
        if starttls:
            self._plain.recv(4096)
            self._plain.sendall(b"s STARTTLS\r\n")
            assert b"s OK" in self._plain.recv(4096)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(newest)
        self._plain.setblocking(True)
        self.connection = SSL.Connection(context, self._plain)
        self.connection.set_tlsext_host_name(b"localhost")
        self.connection.set_connect_state()
        self.connection.do_handshake()
        self._buffer = b""

    def send(self, octets: bytes) -> None:
        self.connection.sendall(octets)

    def receive(self, lines: int) -> list[str]:
        while self._buffer.count(b"\r\n") < lines:
            self._buffer += self.connection.recv(65536)
        *taken, self._buffer = self._buffer.split(b"\r\n", lines)
        return [line.decode() for line in taken]

    def close(self) -> None:
        self._plain.close()


@pytest.fixture(scope="module")
def sockets(signing: SignInTown) -> Iterator[tuple[tuple[str, int], tuple[str, int], ssl.SSLContext]]:
    with running_server(signing.town) as server:
        yield server.address, server.tls_address, server.client_context


@pytest.mark.parametrize("starttls", [False, True])
def test_scram_sha_256_plus_rfc_9266_over_tls_1_3(
    signing: SignInTown, sockets: tuple[tuple[str, int], tuple[str, int], ssl.SSLContext], starttls: bool
) -> None:
    """RFC 7677 §3, RFC 9266: told when TLS is active; both ends export the same, and no other connection does."""
    address = sockets[0] if starttls else sockets[1]
    client = PyOpenSslClient(address, starttls=starttls)
    if starttls:
        client.send(b"c CAPABILITY\r\n")
    greeting = client.receive(2 if starttls else 1)[0]
    assert " AUTH=SCRAM-SHA-256-PLUS " in greeting
    exported = client.connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    wrong = ScramClient(ALICE, signing.app_password, "p=tls-exporter", bytes(32))
    assert exchange(client, wrong, "SCRAM-SHA-256-PLUS").startswith("a NO")
    right = ScramClient(ALICE, signing.app_password, "p=tls-exporter", exported)
    assert exchange(client, right, "SCRAM-SHA-256-PLUS").startswith("a OK")
    client.close()


def test_tls_1_2_has_nothing_to_bind_to_rfc_9266_section_3(
    signing: SignInTown, sockets: tuple[tuple[str, int], tuple[str, int], ssl.SSLContext]
) -> None:
    client = PyOpenSslClient(sockets[1], newest=SSL.TLS1_2_VERSION)
    greeting = client.receive(1)[0]
    assert " AUTH=SCRAM-SHA-256 " in greeting
    assert "PLUS" not in greeting
    client.close()


def test_mbsync_signs_in_by_scram(
    signing: SignInTown, sockets: tuple[tuple[str, int], tuple[str, int], ssl.SSLContext], tmp_path: Path
) -> None:
    """A client of somebody else's, over Cyrus SASL, which refuses more than 65,536 rounds."""
    program = shutil.which("mbsync")
    if program is None:
        pytest.skip("mbsync is not installed")
    settings = tmp_path / "mbsyncrc"
    settings.write_text(
        f"IMAPAccount a\nHost localhost\nPort {sockets[1][1]}\nUser {ALICE}\nPass {signing.app_password}\n"
        f"SSLType IMAPS\nCertificateFile {signing.town.data}/tls/ca.pem\nAuthMechs SCRAM-SHA-256\n\n"
        f"IMAPStore far\nAccount a\n\nMaildirStore near\nPath {tmp_path}/\nInbox {tmp_path}/INBOX\n\n"
        "Channel c\nFar :far:\nNear :near:\nPatterns *\n"
    )
    command = [program, "-D", "-c", str(settings), "-l", "c"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    if "no mechanism available" in done.stdout + done.stderr:
        pytest.skip("mbsync has no SCRAM-SHA-256 (libsasl2-modules)")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SASL mechanism SCRAM-SHA-256" in done.stdout + done.stderr
    assert "INBOX" in done.stdout


# Tokens (RFC 7628)


class Provider:
    """Says what it is told of each token."""

    def __init__(self) -> None:
        self.logins = {"good": ALICE, "bobs": BOB, "strangers": "nobody@far.test"}
        self.asked: list[str] = []
        self.until: float | None = None

    def look_up(self, token: str) -> Claims | None:
        self.asked.append(token)
        if token == "down":
            raise Unavailable(detail="OpenID provider: it cannot be reached")
        login = self.logins.get(token)
        return Claims(login, self.until) if login is not None else None


@dataclass
class TokenTown:
    signing: SignInTown
    provider: Provider
    services: Services

    def client(self) -> CoreClient:
        self.signing.town.clock.advance(4000)
        client = CoreClient(self.services)
        client.receive(1)
        return client


@pytest.fixture
def tokens(signing: SignInTown) -> Iterator[TokenTown]:
    town, provider = signing.town, Provider()
    verifier = town.verifier
    sign_ins = ProviderSignIns(verifier, provider)
    offers = Offers(
        scram=False, bearer=BearerOffer("mail openid", "https://id.example.test/.well-known/openid-configuration")
    )
    authenticator = LocalAuth(town.keys, verifier, offers=offers, tokens=sign_ins)
    yield TokenTown(signing, provider, replace(town.services, authenticator=authenticator))
    sign_ins.close()


def bearer(token: str, login: str = ALICE) -> str:
    acting = f"a={login}" if login else ""
    return b64(f"n,{acting},\x01host=localhost\x01port=993\x01auth=Bearer {token}\x01\x01".encode())


def xoauth2(token: str, login: str = ALICE) -> str:
    return b64(f"user={login}\x01auth=Bearer {token}\x01\x01".encode())


@pytest.mark.parametrize("login", [ALICE, "", "ALICE@Example.TEST"])
def test_oauthbearer_rfc_7628(tokens: TokenTown, login: str) -> None:
    client = tokens.client()
    client.send(b"c CAPABILITY\r\n")
    assert " AUTH=OAUTHBEARER AUTH=XOAUTH2 " in client.receive(2)[0]
    client.send(f"a AUTHENTICATE OAUTHBEARER {bearer('good', login)}\r\n".encode())
    assert client.receive(1)[0].startswith("a OK [CAPABILITY ")
    assert (client.session.user.login, client.session.user.credential) == (ALICE, "token")
    client.close()


def test_a_session_ends_with_its_token_rfc_5530_section_3(tokens: TokenTown, monkeypatch: pytest.MonkeyPatch) -> None:
    town = tokens.signing.town
    town.clock.advance(4000)
    tokens.provider.until = town.clock.now() + 60
    monkeypatch.setattr(town, "authenticator", tokens.services.authenticator)
    with running_server(town) as server:
        of_token, of_password = (SocketClient(server.tls_address, tls=server.client_context) for _ in range(2))
        play(of_token, f"S: * OK …\nC: a AUTHENTICATE XOAUTH2 {xoauth2('good')}\nS: a OK …\nC: b IDLE\nS: + …")
        play(of_password, f'S: * OK …\nC: a LOGIN {ALICE} "{PASSWORD}"\nS: a OK …')
        town.clock.advance(59)
        in_reactor(server.service.end_silent)
        play(of_token, "C> DONE\\r\\n\nS: b OK …\nC: c IDLE\nS: + …")
        town.clock.advance(1)
        in_reactor(server.service.end_silent)
        assert of_token.receive_all() == b"* BYE [EXPIRED] The token has expired; sign in with a new one.\r\n"
        play(of_password, "C: b NOOP\nS: b OK …")


def test_no_command_begins_with_a_token_that_has_expired_and_none_is_cut(
    tokens: TokenTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 5530 §3: whoever always has a command at work, or reads slowly, is told when that is done."""
    town = tokens.signing.town
    town.clock.advance(4000)
    tokens.provider.until = town.clock.now() + 60
    monkeypatch.setattr(town, "authenticator", tokens.services.authenticator)
    octets = b"Subject: x\r\n\r\n" + (b"x" * 998 + b"\r\n") * 200
    told = b"[EXPIRED] The token has expired; sign in with a new one.\r\n"
    with running_server(town) as server:
        client = SocketClient(server.tls_address, tls=server.client_context)
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        play(client, f"S: * OK …\nC: a AUTHENTICATE XOAUTH2 {xoauth2('good')}\nS: a OK …")
        client.send(b"b APPEND INBOX {%d+}\r\n%b\r\n" % (len(octets), octets))
        play(client, "S: b OK …\nC: c SELECT INBOX")
        client.until("c")
        client.send(b"d FETCH 1 (%b)\r\n" % b" ".join(b"BODY[]<%d.200000>" % start for start in range(40)))
        while not in_reactor(lambda: any(each._full for each in server.service._connections)):
            pass  # until what the client does not read has filled its socket
        town.clock.advance(60)
        in_reactor(server.service.end_silent)
        client.send(b"e NOOP\r\n")
        got = client.receive_all()
        assert got.partition(b"\r\nd OK ")[2].partition(b"\r\n")[2] == b"e NO " + told + b"* BYE " + told
        assert got.count(b"x" * 900) >= 40 * 199  # all of the answer


def test_xoauth2(tokens: TokenTown) -> None:
    """RFC 7628 §3 in the form that was there before: the server asks first, with nothing."""
    client = tokens.client()
    client.send(b"a AUTHENTICATE XOAUTH2\r\n")
    assert client.receive(1) == ["+ "]
    client.send(xoauth2("good").encode() + b"\r\n")
    assert client.receive(1)[0].startswith("a OK")
    client.close()


@pytest.mark.parametrize("token", ["bad", "bobs", "strangers"])
@pytest.mark.parametrize("answer", ["AQ==", "", "*"])
def test_refused_token_is_told_why_rfc_7628_section_3_2_2(tokens: TokenTown, token: str, answer: str) -> None:
    """The same for a token that is not good, one of somebody else and one of nobody here."""
    client = tokens.client()
    client.send(f"a AUTHENTICATE OAUTHBEARER {bearer(token)}\r\n".encode())
    assert json.loads(said(client.receive(1)[0])) == {
        "status": "invalid_token",
        "scope": "mail openid",
        "openid-configuration": "https://id.example.test/.well-known/openid-configuration",
    }
    client.send(answer.encode() + b"\r\n")
    wanted = "a BAD The exchange" if answer == "*" else "a NO [AUTHENTICATIONFAILED]"
    assert client.receive(1)[0].startswith(wanted)
    assert client.session.principal is None


def test_refused_token_of_xoauth2(tokens: TokenTown) -> None:
    client = tokens.client()
    client.send(f"a AUTHENTICATE XOAUTH2 {xoauth2('bad')}\r\n".encode())
    assert json.loads(said(client.receive(1)[0]))["status"] == "400"
    client.send(b"\r\n")
    assert client.receive(1)[0].startswith("a NO [AUTHENTICATIONFAILED]")


def test_provider_that_is_down_is_no_wrong_password(tokens: TokenTown) -> None:
    client = tokens.client()
    client.send(f"a AUTHENTICATE OAUTHBEARER {bearer('down')}\r\n".encode())
    assert client.receive(1)[0].startswith("a NO [UNAVAILABLE]")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,",
        b"n,a=x,\x01\x01",
        b"n,a=x,\x01auth=Basic abc\x01\x01",
        b"n,a=x,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
        b"n,a=x,\x01auth=Bearer a b\x01\x01",
        b"n,a=x,\x01auth=Bearer a\x01",
        b"p=tls-exporter,a=x,\x01auth=Bearer a\x01\x01",
        b"n,a=\xff,\x01auth=Bearer a\x01\x01",
        b"n,a=x,\x01auth=Bearer " + b"a" * 12_289 + b"\x01\x01",
    ],
)
def test_what_is_no_bearer_message(tokens: TokenTown, message: bytes) -> None:
    client = tokens.client()
    client.send(f"a AUTHENTICATE OAUTHBEARER {b64(message) or '='}\r\n".encode())
    assert client.receive(1)[0].startswith("a BAD")
    assert tokens.provider.asked == []
    with pytest.raises(InvalidInput):
        read_bearer(b"user=\x01auth=Bearer a\x01\x01", old=True)


def test_client_that_asks_what_it_needs_rfc_7628_section_4_3(tokens: TokenTown) -> None:
    client = tokens.client()
    client.send(f"a AUTHENTICATE OAUTHBEARER {b64(b'n,,' + bytes([1]) + b'auth=' + bytes([1, 1]))}\r\n".encode())
    assert json.loads(said(client.receive(1)[0]))["openid-configuration"].startswith("https://")
    client.send(b"AQ==\r\n")
    assert client.receive(1)[0].startswith("a NO [AUTHENTICATIONFAILED]")
    assert tokens.provider.asked == []


def test_names_in_oauthbearer_are_escaped_rfc_5801_section_4() -> None:
    assert read_bearer(b"n,a=a=2Cb=3D2C,\x01AUTH=bearer t-o.k~e+n/==\x01\x01", old=False) == ("a,b=2C", "t-o.k~e+n/==")


def test_long_tokens_fit_rfc_7628(tokens: TokenTown) -> None:
    """An AUTHENTICATE line of 12,288 octets."""
    token = "g" * 8000
    tokens.provider.logins[token] = ALICE
    client = tokens.client()
    client.send(f"a AUTHENTICATE XOAUTH2 {xoauth2(token)}\r\n".encode())
    assert client.receive(1)[0].startswith("a OK")
    client.close()


def test_scram_that_is_taken_but_not_told_of(signing: SignInTown) -> None:
    """The default: programs that take it wherever they see it go on with PLAIN; -PLUS none takes that cannot bind."""
    town = signing.town
    quiet = LocalAuth(town.keys, town.verifier)
    services = replace(town.services, authenticator=quiet)
    town.clock.advance(4000)
    for channel in (b"", CHANNEL):
        client = CoreClient(services)
        client.session.channel = channel
        client.send(b"c CAPABILITY\r\n")
        told = client.receive(3)[1].split()
        assert "AUTH=SCRAM-SHA-256" not in told
        assert ("AUTH=SCRAM-SHA-256-PLUS" in told) is bool(channel)
        assert exchange(client, ScramClient(ALICE, signing.app_password)).startswith("a OK")
        client.close()
    off = replace(town.services, authenticator=LocalAuth(town.keys, town.verifier, offers=Offers(scram=False)))
    client = CoreClient(off)
    client.session.channel = CHANNEL
    client.receive(1)
    assert exchange(client, ScramClient(ALICE, signing.app_password)).startswith("a NO [CANNOT]")


def test_an_account_is_let_go_of_when_something_unexpected_ends_the_sign_in(
    signing: SignInTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = 0

    @contextmanager
    def leased() -> Iterator[Account]:
        nonlocal ended
        with signing.town.account() as account:
            try:
                yield account
            finally:
                ended += 1

    def failing(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(Views, "quickly", failing)
    lease = leased()
    with pytest.raises(OSError):
        _opened(lease)
    assert ended == 1

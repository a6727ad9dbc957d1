"""Tokens of an OpenID provider: what is asked, what is believed, and one that is slow, lies or is somebody else."""

from __future__ import annotations

import json
import logging
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from auth_town import AuthTown, new_auth_town
from openid_provider import AUDIENCE, SCOPE, OpenIdProvider, Request, active, http, openid_provider

from hosting.auth.client import TOKENS_AT_ONCE, AuthClient
from hosting.auth.frames import FrameReader, encode
from hosting.auth.grants import Role
from hosting.auth.introspection import HEAD_OCTETS, OCTETS, Introspection, trusting
from hosting.auth.oauth_settings import ClientSecret, OAuthSettings
from hosting.auth.signin import Principal, TokenSignIn
from hosting.auth.tokens import NO_TOKENS, TOKEN_MAX, Claims, ProviderSignIns, Silent
from hosting.config import parse
from storage.clock import FixedClock
from storage.errors import AuthenticationFailed, InvalidInput, NotPermitted, Suspended, Throttled, Unavailable
from storage.values import AccountId, TenantId

HOME = "192.0.2.1"
ANN, BOB = "ann@acme.test", "bob@acme.test"
TOKEN, SECRET = "token-u7Qx.unique~1", "secret&of=ours+1"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenIdProvider]:
    with openid_provider(tmp_path_factory.mktemp("provider")) as provider:
        yield provider


@pytest.fixture
def provider(running: OpenIdProvider) -> OpenIdProvider:
    running.tokens, running.answer, running.requests = {TOKEN: active(ANN)}, None, []
    return running


class Asking:
    def __init__(self, provider: OpenIdProvider, folder: Path, **settings: Any) -> None:
        self.clock = FixedClock()
        (folder / "secret").write_text(f"{SECRET}\n")
        (folder / "secret").chmod(0o600)
        self.settings = replace(
            OAuthSettings(
                introspection=provider.address,
                client_id="cleanmail:1",
                client_secret_file="secret",
                audience=AUDIENCE,
                scope=SCOPE,
                timeout=5.0,
            ),
            **settings,
        )
        context = trusting(settings.get("certificate_authority", str(provider.authority)))
        self.introspection = Introspection(self.settings, ClientSecret(self.settings, folder), context, self.clock)

    def look_up(self, token: str = TOKEN) -> Claims | None:
        return self.introspection.look_up(token)

    def fails(self, why: str) -> None:
        with pytest.raises(Unavailable) as failed:
            self.look_up()
        assert why in failed.value.detail
        assert failed.value.public == Unavailable.default
        assert TOKEN not in str(failed.value)
        assert SECRET not in str(failed.value)


@pytest.fixture
def asking(provider: OpenIdProvider, tmp_path: Path) -> Iterator[Asking]:
    asking = Asking(provider, tmp_path)
    yield asking
    asking.introspection.close()


# What is asked


def test_the_question_rfc_7662_section_2_1(provider: OpenIdProvider, asking: Asking) -> None:
    assert asking.look_up() == Claims(ANN, None)
    (request,) = provider.requests
    assert request.token == TOKEN
    lines = request.head.split("\r\n")
    assert lines[0] == "POST /introspect?realm=a HTTP/1.1"
    (basic,) = [line for line in lines if line.lower().startswith("authorization: basic ")]
    client_id, secret = b64decode(basic[21:]).decode().split(":")
    assert (unquote_plus(client_id), unquote_plus(secret)) == ("cleanmail:1", SECRET)
    assert TOKEN not in request.head


def test_connections_are_kept_and_one_that_was_closed_is_replaced(provider: OpenIdProvider, asking: Asking) -> None:
    before = provider.connections
    for _ in range(3):
        assert asking.look_up()
    assert provider.connections == before + 1
    provider.answer = lambda _: http(json.dumps(active(ANN)).encode(), "200 OK", "Connection: close")
    assert asking.look_up()
    assert asking.look_up()
    assert provider.connections == before + 2


def test_a_token_of_strange_letters_is_a_token(provider: OpenIdProvider, asking: Asking) -> None:
    assert asking.look_up("a&token=b\udcff +") is None
    assert provider.requests[0].token == "a&token=b? +"


# What is believed

NOW = FixedClock().now()


@pytest.mark.parametrize(
    "said",
    [
        {"active": False},
        {"active": "true"},
        {},
        active(ANN, active=1),
        active(ANN, exp=NOW),
        active(ANN, exp=NOW - 1000),
        active(ANN, exp="tomorrow"),
        active(ANN, exp=True),
        active(ANN, nbf=NOW + 100),
        active(ANN, aud="calendar.example.test"),
        active(ANN, aud=["calendar.example.test", "other"]),
        active(ANN, aud=None),
        active(ANN, scope="openid mailing"),
        active(ANN, scope=None),
        active(ANN, scope=["mail"]),
        active(ANN, token_use="refresh_token"),
        active(""),
        active("x" * 600),
        active(ANN, username=7),
        active(ANN, username=None),
    ],
)
def test_what_is_not_good_for_us(provider: OpenIdProvider, asking: Asking, said: dict[str, Any]) -> None:
    """Ended, not begun, for another audience, without the scope, of nobody."""
    provider.tokens[TOKEN] = said
    assert asking.look_up() is None


@pytest.mark.parametrize(
    "said",
    [
        active(ANN, exp=NOW + 1.5),
        active(ANN, aud=["other", AUDIENCE]),
        active(ANN, nbf=NOW + 5),
        active(ANN, scope="mail"),
    ],
)
def test_what_is_good_for_us(provider: OpenIdProvider, asking: Asking, said: dict[str, Any]) -> None:
    provider.tokens[TOKEN] = said
    assert asking.look_up() == Claims(ANN, said.get("exp"))


@pytest.mark.parametrize(
    ("issuer", "good"), [("https://id.example.test", True), ("https://other.test", False), ("", False)]
)
def test_issuer_that_is_demanded(provider: OpenIdProvider, tmp_path: Path, issuer: str, good: bool) -> None:
    asking = Asking(provider, tmp_path, issuer="https://id.example.test")
    provider.tokens[TOKEN] = active(ANN, iss=issuer)
    assert (asking.look_up() is not None) is good
    asking.introspection.close()


@pytest.mark.parametrize(
    ("claims", "good"), [({}, True), ({"email_verified": True}, True), ({"email_verified": False}, False)]
)
def test_an_address_that_nobody_verified_is_nobodys(
    provider: OpenIdProvider, tmp_path: Path, claims: dict[str, Any], good: bool
) -> None:
    asking = Asking(provider, tmp_path, login_claim="email")
    provider.tokens[TOKEN] = active("u-17", email=BOB, **claims)
    assert asking.look_up() == (Claims(BOB, None) if good else None)
    asking.introspection.close()


# A provider that means no good, or is ill


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http(b"{}", "302 Found", "Location: https://localhost:1/elsewhere"), "status 302"),
        (http(b"{}", "307 Temporary Redirect", "Location: http://localhost/"), "status 307"),
        (http(b"{}", "401 Unauthorized"), "status 401"),
        (http(b"{}", "500 Oops"), "status 500"),
        (http(b"[]"), "no JSON object"),
        (http(b"{" * 30_000), "no JSON object"),
        (http(b"[" * 60_000), "no JSON object"),
        (http(b"\xff\xfe"), "no JSON object"),
        (http(b"{}", "200 OK", "Content-Encoding: gzip"), "compressed"),
        (http(b" " * (10 << 20)), "too large"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b" " * 0x8000 + b"\r\n", "too large"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_OCTETS * 2), "not HTTP"),
        (b"* OK [CAPABILITY IMAP4rev1] ready\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "not HTTP"),
    ],
)  # fmt: skip
def test_answers_that_are_none(provider: OpenIdProvider, asking: Asking, answer: bytes, why: str) -> None:
    """Nobody signs in, nobody is refused for good, redirects lead nowhere, memory stays small."""
    chunked = b"chunked" in answer
    provider.answer = lambda _: answer * 4 if chunked and b"HTTP" not in answer else answer
    if chunked:
        piece = answer.partition(b"\r\n\r\n")[2]
        provider.answer = lambda _: answer + piece * (2 * OCTETS // 0x8000)
    asking.fails(why)
    assert len(provider.requests) == 1


def test_secret_is_read_again_when_the_provider_did_not_take_it(
    provider: OpenIdProvider, asking: Asking, tmp_path: Path
) -> None:
    provider.answer = lambda _: http(b"{}", "401 Unauthorized")
    asking.fails("status 401")
    (tmp_path / "secret").write_text("another")
    provider.answer = None
    assert asking.look_up()
    (basic,) = [each for each in provider.requests[-1].head.split("\r\n") if each.lower().startswith("authorization:")]
    assert b64decode(basic.split()[-1]).endswith(b":another")


def test_silent_provider(provider: OpenIdProvider, tmp_path: Path) -> None:
    held = threading.Event()

    def hold(_: Request) -> bytes:
        held.wait(20)
        return b""

    provider.answer = hold
    asking = Asking(provider, tmp_path, timeout=0.2)
    try:
        asking.fails("no answer in time")
    finally:
        held.set()
        asking.introspection.close()


def test_provider_that_is_not_there(provider: OpenIdProvider, tmp_path: Path) -> None:
    Asking(provider, tmp_path, introspection="https://localhost:1/introspect").fails("cannot be reached")


def test_certificate_of_nobody_we_trust(provider: OpenIdProvider, tmp_path: Path) -> None:
    """The machine's authorities do not know the provider's; nothing is asked."""
    Asking(provider, tmp_path, certificate_authority="").fails("certificate is not valid")
    assert provider.requests == []


def test_certificate_for_another_name(provider: OpenIdProvider, tmp_path: Path) -> None:
    address = provider.address.replace("localhost", "127.0.0.1")
    Asking(provider, tmp_path, introspection=address).fails("certificate is not valid")
    assert provider.requests == []


def test_secret_that_others_can_read_or_that_is_not_there(provider: OpenIdProvider, tmp_path: Path) -> None:
    asking = Asking(provider, tmp_path)
    (tmp_path / "secret").chmod(0o644)
    asking.fails("mode 0600")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "secret").write_text("\n")
    asking.fails("no line of text")
    (tmp_path / "secret").unlink()
    asking.fails("errno 2")


def test_secret_of_a_command(provider: OpenIdProvider, tmp_path: Path) -> None:
    asking = Asking(provider, tmp_path, client_secret_file="", client_secret_command=("/bin/echo", "printed"))
    assert asking.look_up()
    asking.introspection.close()
    Asking(provider, tmp_path, client_secret_command=("/bin/false",)).fails("client_secret_command failed")


# Sign-ins


class Sayings:
    """A provider in memory."""

    def __init__(self) -> None:
        self.said: dict[str, Claims | None] = {TOKEN: Claims(ANN, None)}
        self.asked: list[str] = []
        self.hold: threading.Event | None = None
        self.down = False

    def look_up(self, token: str) -> Claims | None:
        self.asked.append(token)
        if self.hold is not None:
            self.hold.wait(20)
        if self.down:
            raise Silent(detail="OpenID provider: it cannot be reached")
        return self.said.get(token)


class TokenTown:
    def __init__(self, town: AuthTown) -> None:
        self.town = town
        self.acme: TenantId = town.tenant("acme", "acme.test")
        self.ann: AccountId = town.account_with(self.acme, ANN, "correct horse")
        self.bob: AccountId = town.account_with(self.acme, BOB, "correct horse")
        self.provider = Sayings()
        self.sign_ins = ProviderSignIns(town.verifier, self.provider)

    def begin(self, token: str = TOKEN, login: str = ANN, address: str = HOME) -> Future[Principal]:
        return self.sign_ins.begin(TokenSignIn("imap", login, token, address, "s1"))

    def sign_in(self, token: str = TOKEN, login: str = ANN, address: str = HOME) -> Principal:
        return self.begin(token, login, address).result(20)

    def results(self) -> list[str]:
        return [event.result for event in self.town.events()]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[TokenTown]:
    with new_auth_town(tmp_path) as town:
        tokens = TokenTown(town)
        yield tokens
        tokens.sign_ins.close()


@pytest.mark.parametrize("login", [ANN, "ANN@acme.test", ""])
def test_the_account_that_the_provider_names(town: TokenTown, login: str) -> None:
    principal = town.sign_in(login=login)
    assert (principal.account_id, principal.credential, principal.credential_version) == (town.ann, "token", 1)
    (event,) = town.town.events()
    assert (event.result, event.account_id, event.address) == ("success", town.ann, HOME)
    assert town.town.passwords.runs == 0


def test_token_of_somebody_else_or_of_nobody(town: TokenTown) -> None:
    town.provider.said |= {"bobs": Claims(BOB, None), "strangers": Claims("eve@far.test", None)}
    for token, login in (
        ("bobs", ANN),
        ("bobs", "nobody@acme.test"),
        ("strangers", ""),
        ("strangers", ANN),
        ("bad", ""),
    ):
        with pytest.raises(AuthenticationFailed) as refused:
            town.sign_in(token, login)
        assert refused.value.public == AuthenticationFailed.default
    assert town.results() == ["wrong_password", "unknown", "unknown", "wrong_password", "unknown"]


def test_answers_are_remembered_for_a_minute_and_never_beyond_the_tokens_end(town: TokenTown) -> None:
    clock = town.town.clock
    town.provider.said |= {"short": Claims(ANN, clock.now() + 20.0), "over": Claims(ANN, float(clock.now()))}
    for _ in range(5):
        town.sign_in()
        town.sign_in("short")
        with pytest.raises(AuthenticationFailed):
            town.sign_in("bad")
    with pytest.raises(AuthenticationFailed):
        town.sign_in("over")
    assert sorted(town.provider.asked) == ["bad", "over", "short", TOKEN]
    clock.advance(21)
    town.sign_in()
    with pytest.raises(AuthenticationFailed):
        town.sign_in("short")
    assert town.provider.asked.count(TOKEN) == 1
    assert town.provider.asked.count("short") == 2
    clock.advance(40)
    town.sign_in()
    assert town.provider.asked.count(TOKEN) == 2


def test_a_token_that_was_taken_back_is_known_for_a_minute_at_most(town: TokenTown) -> None:
    principal = town.sign_in()
    town.provider.said[TOKEN] = None
    town.sign_in()
    town.town.clock.advance(61)
    with pytest.raises(AuthenticationFailed):
        town.sign_in()
    assert town.town.verifier.still_valid(principal)


def test_many_with_one_token_ask_once(town: TokenTown) -> None:
    town.provider.hold = threading.Event()
    answers = [town.begin() for _ in range(10)]
    assert not any(answer.done() for answer in answers)
    town.provider.hold.set()
    assert {answer.result(20).account_id for answer in answers} == {town.ann}
    assert town.provider.asked == [TOKEN]


def test_provider_that_is_down_refuses_nobody_for_good(town: TokenTown) -> None:
    town.provider.down = True
    for _ in range(30):
        with pytest.raises(Unavailable):
            town.sign_in()
    assert set(town.results()) == {"unavailable"}
    assert town.provider.asked == [TOKEN]  # and the others, who would wait for it, are told at once
    town.provider.down = False
    town.town.clock.advance(6)
    assert town.sign_in()


def test_provider_that_was_silent_is_asked_by_one_at_a_time(town: TokenTown) -> None:
    town.provider.down = True
    with pytest.raises(Unavailable):
        town.sign_in()
    town.town.clock.advance(6)
    town.provider.hold = threading.Event()
    probe = town.begin()
    for login in ("", BOB):
        with pytest.raises(Unavailable):
            town.sign_in("another", login)
    town.provider.down = False
    town.provider.hold.set()
    assert probe.result(20).account_id == town.ann
    with pytest.raises(AuthenticationFailed):
        town.sign_in("another", BOB)
    assert town.provider.asked == [TOKEN, TOKEN, "another"]


def test_answer_that_cannot_be_understood_is_no_silence(town: TokenTown) -> None:
    """Else who makes the provider stumble over his token would keep everybody out."""

    def stumble(token: str) -> Claims | None:
        if token == "stumble":
            raise Unavailable(detail="OpenID provider: it answers with status 400")
        return Claims(ANN, None)

    town.provider.look_up = stumble  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        town.sign_in("stumble")
    assert town.sign_in()


def test_more_than_wait_are_told_at_once(town: TokenTown) -> None:
    town.provider.hold = threading.Event()
    answers = [town.begin(f"t{number}", "", f"10.{number // 250}.{number % 250}.1") for number in range(300)]
    full = [answer for answer in answers if answer.done()]
    assert len(full) >= 300 - 256 - 8
    for answer in full:
        with pytest.raises(Unavailable):
            answer.result(0)
    town.provider.hold.set()
    for answer in answers:
        assert isinstance(answer.exception(20), (Unavailable, AuthenticationFailed))


def test_throttle_counts_each_token_that_is_not_good(town: TokenTown) -> None:
    """By the name that was given; without one by the address, so that no stranger shuts everybody out."""
    abroad = "198.51.100.7"
    for number in range(11):
        with pytest.raises(AuthenticationFailed):
            town.sign_in(f"bad{number}", ANN, abroad)
    with pytest.raises(Throttled):
        town.sign_in(TOKEN, ANN, abroad)
    for number in range(10):
        with pytest.raises(AuthenticationFailed):
            town.sign_in(f"bad{number}", "", abroad)
    with pytest.raises(Throttled):
        town.sign_in(TOKEN, "", abroad)
    assert town.sign_in(TOKEN, "", HOME)
    assert town.results()[-1] == "success"


def test_states_of_the_account_count_as_for_passwords(town: TokenTown) -> None:
    provisioning = town.town.provisioning
    principal = town.sign_in()
    provisioning.suspend_account(town.acme, town.ann)
    assert not town.town.verifier.still_valid(principal)
    with pytest.raises(Suspended):
        town.sign_in()
    provisioning.resume_account(town.acme, town.ann)
    principal = town.sign_in()
    provisioning.set_password(town.acme, town.ann, None)
    assert not town.town.verifier.still_valid(principal)
    assert town.sign_in()


def test_tokens_that_are_none_cost_the_provider_nothing(town: TokenTown) -> None:
    for token in ("", "x" * (TOKEN_MAX + 1)):
        with pytest.raises(AuthenticationFailed):
            town.sign_in(token)
    assert town.provider.asked == []
    assert len(town.results()) == 2


def test_where_no_provider_is_configured_nobody_signs_in_with_tokens() -> None:
    with pytest.raises(NotPermitted):
        NO_TOKENS.begin(TokenSignIn("imap", ANN, TOKEN, HOME))


def test_no_token_reaches_a_log_or_an_event(
    town: TokenTown, asking: Asking, provider: OpenIdProvider, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        asking.look_up()
        town.sign_in()
        provider.answer = lambda _: http(TOKEN.encode())
        asking.fails("no JSON object")
        with pytest.raises(AuthenticationFailed):
            town.sign_in(TOKEN, BOB)
    told = (
        caplog.text + repr(town.town.events()) + repr(TokenSignIn("imap", ANN, TOKEN, HOME)) + repr(Claims(ANN, None))
    )
    assert TOKEN not in told
    assert SECRET not in told
    assert ANN not in told


def test_waiting_for_a_slow_provider_leaves_threads_for_others(tmp_path: Path) -> None:
    """A process has few threads for what blocks: the next sign-in with a token is told at once, others go on."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "auth.sock"))
    listening.listen(64)
    asked = threading.Semaphore(0)
    connections: list[socket.socket] = []

    def answer(connection: socket.socket) -> None:
        reader = FrameReader()
        with suppress(OSError):  # until the test closes it
            while data := connection.recv(65536):
                reader.feed(data)
                while (fields := reader.next()) is not None:
                    if fields["op"] == "verify_token":
                        asked.release()
                    else:
                        connection.sendall(encode({"ok": {"valid": True}}))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connections.append(listening.accept()[0])
                threading.Thread(target=answer, args=(connections[-1],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    client = AuthClient(tmp_path / "auth.sock", Role.IMAP, patience=0.0)
    sign_in = TokenSignIn("imap", ANN, TOKEN, HOME)
    with ThreadPoolExecutor(TOKENS_AT_ONCE) as threads:
        waiting = [threads.submit(client.verify_token, sign_in) for _ in range(TOKENS_AT_ONCE)]
        assert all(asked.acquire(timeout=20) for _ in waiting)
        with pytest.raises(Unavailable):
            client.verify_token(sign_in)
        assert client.still_valid(Principal(TenantId(1), AccountId(1), ANN, "token", 1, 1, 0, 0))
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for connection in connections:
            connection.shutdown(socket.SHUT_RDWR)
        assert all(isinstance(each.exception(20), Unavailable) for each in waiting)
    client.close()
    for connection in connections:
        connection.close()


# Configuration

GOOD = '[oauth]\nintrospection = "https://id.test/i"\nclient_id = "c"\nclient_secret_file = "s"\naudience = "a"\n'


def test_configuration_of_a_provider() -> None:
    assert parse(GOOD).oauth.offer is not None
    assert parse("").oauth.offer is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("https:", "http:"), "is no https address"),
        (GOOD.replace("id.test/i", "us:pw@id.test/i"), "is no https address"),
        (GOOD.replace("id.test/i", "id.test:x/i"), "is no https address"),
        (GOOD.replace('audience = "a"', ""), "needs an audience or a scope"),
        (GOOD.replace('audience = "a"', 'scope = " "'), "needs an audience or a scope"),
        (GOOD.replace('client_id = "c"', ""), "client_id is missing"),
        (GOOD.replace('client_secret_file = "s"', ""), "needs one of client_secret_file and client_secret_command"),
        (GOOD + 'client_secret_command = ["x"]\n', "needs one of client_secret_file and client_secret_command"),
        (GOOD + 'configuration = "ftp://x"\n', "configuration is no https address"),
        (GOOD + "remembered_for = 4000\n", "at most 300"),
        ('[oauth]\nclient_id = "c"\n', "means nothing without oauth.introspection"),
    ],
)
def test_mistakes_in_the_configuration(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(text)

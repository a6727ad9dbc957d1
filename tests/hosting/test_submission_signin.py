"""Signing in to submission by SCRAM and by tokens (RFC 4954), over TLS on a socket; with msmtp where it is there."""

from __future__ import annotations

import json
import logging
import shutil
import smtplib
import ssl
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from scram_client import ScramClient
from submission_town import RunningService, SubmissionTown

from hosting.auth.local import LocalAuth
from hosting.auth.signin import BearerOffer, Offers
from hosting.auth.tokens import Claims, ProviderSignIns
from storage.errors import Unavailable

ALICE = "alice@example.test"


class Provider:
    until: float | None = None

    def look_up(self, token: str) -> Claims | None:
        if token == "down":
            raise Unavailable(detail="OpenID provider: it cannot be reached")
        return Claims(ALICE, self.until) if token.startswith("good") else None


class Place:
    def __init__(self, data: Path) -> None:
        self.town = SubmissionTown(data)
        verifier = self.town.authenticator._verifier
        self.provider = Provider()
        self.tokens = ProviderSignIns(verifier, self.provider)
        self.town.authenticator = LocalAuth(
            self.town.keys, verifier, offers=Offers(scram_told=True, bearer=BearerOffer("mail")), tokens=self.tokens
        )
        _, self.app_password = self.town.provisioning.create_app_password(
            *self.town.accounts["alice"], "laptop", ["submission"]
        )
        self.service = RunningService(self.town)

    def close(self) -> None:
        self.service.stop()
        self.tokens.close()
        self.town.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("submission"))
    yield place
    place.close()


@pytest.fixture
def client(place: Place) -> Iterator[smtplib.SMTP]:
    place.town.clock.advance(4000)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = smtplib.SMTP_SSL("127.0.0.1", place.service.tls_port, context=context, timeout=20)
    client.ehlo("client.test")
    yield client
    client.close()


def b64(octets: bytes) -> str:
    return b64encode(octets).decode()


def bearer(token: str, login: str = ALICE) -> str:
    return b64(f"n,a={login},\x01host=localhost\x01port=465\x01auth=Bearer {token}\x01\x01".encode())


def scram(client: smtplib.SMTP, password: str, *, initial: bool = True, flag: str = "n") -> tuple[int, bytes]:
    ours = ScramClient(ALICE, password, flag)
    if initial:
        code, said = client.docmd("AUTH", f"SCRAM-SHA-256 {b64(ours.first())}")
    else:
        assert client.docmd("AUTH", "SCRAM-SHA-256")[0] == 334
        code, said = client.docmd(b64(ours.first()))
    if code != 334:
        return code, said
    code, said = client.docmd(b64(ours.final(b64decode(said))))
    if code != 334:
        return code, said
    assert ours.believes(b64decode(said))
    return client.docmd("")


def test_ehlo_tells_what_can_be_used_rfc_4954_section_3(place: Place, client: smtplib.SMTP) -> None:
    """No -PLUS: there is nothing to bind to under asyncio. Nothing at all before TLS."""
    assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"]
    with smtplib.SMTP("127.0.0.1", place.service.port, timeout=20) as plain:
        plain.ehlo("client.test")
        assert "auth" not in plain.esmtp_features
        assert plain.docmd("AUTH", "SCRAM-SHA-256")[0] in (530, 538)


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("flag", ["n", "y"])
def test_scram_sha_256(place: Place, client: smtplib.SMTP, initial: bool, flag: str) -> None:
    assert scram(client, place.app_password, initial=initial, flag=flag) == (235, b"2.7.0 Authentication successful")
    code, _ = client.docmd("MAIL", f"FROM:<{ALICE}>")
    assert code == 250


@pytest.mark.parametrize("password", ["wrong", "correct horse"])
def test_scram_of_who_does_not_know_an_app_password(client: smtplib.SMTP, password: str) -> None:
    assert scram(client, password) == (535, b"5.7.8 The user name or the password is wrong.")
    assert client.docmd("MAIL", f"FROM:<{ALICE}>")[0] == 530


def test_messages_that_are_none_and_exchanges_that_are_broken_off(place: Place, client: smtplib.SMTP) -> None:
    assert client.docmd("AUTH", f"SCRAM-SHA-256 {b64(b'nonsense')}")[0] == 501
    assert client.docmd("AUTH", "SCRAM-SHA-256 not!base64")[0] == 501
    assert client.docmd("AUTH", f"SCRAM-SHA-256 {b64(ScramClient(ALICE, '').first())}")[0] == 334
    assert client.docmd("*") == (501, b"5.7.0 Auth aborted")
    assert client.docmd("AUTH", "SCRAM-SHA-256-PLUS")[0] == 504
    assert client.docmd("AUTH", "SCRAM-SHA-1")[0] == 504
    assert scram(client, place.app_password)[0] == 235


def test_failed_exchanges_are_counted_as_other_sign_ins_are(place: Place, client: smtplib.SMTP) -> None:
    codes = [scram(client, "wrong")[0] for _ in range(2)]
    assert codes == [535, 535]
    ours = ScramClient(ALICE, "wrong")
    _, challenge = client.docmd("AUTH", f"SCRAM-SHA-256 {b64(ours.first())}")
    assert client.docmd(b64(ours.final(b64decode(challenge))))[0] == 535
    assert client.getreply()[0] == 421


def test_oauthbearer_rfc_7628(client: smtplib.SMTP) -> None:
    assert client.docmd("AUTH", f"OAUTHBEARER {bearer('good')}")[0] == 235
    assert client.docmd("MAIL", f"FROM:<{ALICE}>")[0] == 250


def test_a_session_ends_with_its_token(place: Place, client: smtplib.SMTP, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, service = place.town.clock, place.service
    monkeypatch.setattr(place.provider, "until", clock.now() + 60)
    assert client.docmd("AUTH", f"OAUTHBEARER {bearer('good-for-a-minute')}")[0] == 235
    clock.advance(59)
    service.on_loop(service.service.end_expired)
    assert client.noop()[0] == 250
    clock.advance(1)
    service.on_loop(service.service.end_expired)
    assert client.getreply() == (421, b"4.7.0 Your access has changed; sign in again")


def test_xoauth2(client: smtplib.SMTP) -> None:
    assert client.docmd("AUTH", "XOAUTH2")[0] == 334
    assert client.docmd(b64(f"user={ALICE}\x01auth=Bearer good\x01\x01".encode()))[0] == 235


def test_refused_token_is_told_why_rfc_7628_section_3_2_2(client: smtplib.SMTP) -> None:
    code, said = client.docmd("AUTH", f"OAUTHBEARER {bearer('bad')}")
    assert code == 334
    assert json.loads(b64decode(said)) == {"status": "invalid_token", "scope": "mail"}
    assert client.docmd("AQ==")[0] == 535


def test_provider_that_is_down_is_temporary(client: smtplib.SMTP) -> None:
    code, _ = client.docmd("AUTH", f"OAUTHBEARER {bearer('down')}")
    assert 400 <= code < 500


@pytest.mark.parametrize(("size", "code"), [(3000, 235), (8000, 235), (9200, 500)])
def test_auth_lines_to_12288_octets_rfc_4954_section_4(client: smtplib.SMTP, size: int, code: int) -> None:
    """As an initial response and as an answer; other commands stay short."""
    token = "good" + "x" * size
    assert client.docmd("AUTH", f"OAUTHBEARER {bearer(token)}")[0] == code
    if code == 235:
        return
    assert client.docmd("NOOP", "x" * 3000)[0] == 500
    assert client.docmd("AUTHx", "x" * 3000)[0] == 500
    assert client.docmd("AUTH", "OAUTHBEARER")[0] == 334
    assert client.docmd(bearer("good" + "x" * 8000))[0] == 235


def test_no_secret_reaches_a_transcript_or_a_log(
    place: Place, client: smtplib.SMTP, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        client.docmd("AUTH", f"OAUTHBEARER {bearer('bad-unique-token')}")
        client.docmd("AQ==")
        scram(client, place.app_password)
    assert "unique-token" not in caplog.text
    assert b64(b"bad-unique")[:12] not in caplog.text
    assert "alice" not in caplog.text


def test_msmtp_signs_in_by_scram(place: Place, tmp_path: Path) -> None:
    """A client of somebody else's, over GNU SASL."""
    program = shutil.which("msmtp")
    if program is None:
        pytest.skip("msmtp is not installed")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    if "scram-sha-256" not in version.lower():
        pytest.skip("msmtp is built without SCRAM-SHA-256")
    place.town.clock.advance(4000)
    before = len(place.town.inbox("bob"))
    settings = tmp_path / "msmtprc"
    settings.write_text(
        f"defaults\nhost 127.0.0.1\nport {place.service.tls_port}\ntls on\ntls_starttls off\ntls_certcheck off\n"
        f"timeout 20\nauth scram-sha-256\nuser {ALICE}\npassword {place.app_password}\nfrom {ALICE}\naccount default\n"
    )
    settings.chmod(0o600)
    done = subprocess.run(
        [program, "-C", str(settings), "bob@example.test"],
        input=f"From: {ALICE}\nTo: bob@example.test\nSubject: by SCRAM\n\nText.\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(place.town.inbox("bob")) == before + 1

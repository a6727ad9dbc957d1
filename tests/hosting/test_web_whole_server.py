"""The whole server over HTTPS: signing in with what the auth role knows, names of certificates, a worker that dies."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection

import pytest
from OpenSSL import SSL
from whole_server import WholeServer, running, until

from hosting import tls

pytestmark = pytest.mark.slow

ALICE = "alice@one.test"
PROPFIND = b'<propfind xmlns="DAV:"><prop><current-user-principal/><resourcetype/></prop></propfind>'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeServer]:
    server = WholeServer(tmp_path_factory.mktemp("web"))
    tls.make_self_signed(server.data / "tls" / "names" / "customer", ["dav.customer.test"])
    with running(server):
        yield server


class Answer:
    def __init__(self, status: int, fields: dict[str, str], body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body


def ask(
    server: WholeServer,
    method: str,
    path: str,
    password: str | None = None,
    body: bytes = b"",
    *,
    login: str = ALICE,
    client: HTTPConnection | None = None,
) -> Answer:
    own = client or HTTPSConnection("localhost", server.ports["https"], timeout=30, context=server.client_tls)
    headers = {"Depth": "0"}
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()
    own.request(method, path, body or None, headers)
    answer = own.getresponse()
    found = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    if client is None:
        own.close()
    return found


def test_signing_in_over_https(server: WholeServer) -> None:
    right = server.passwords[ALICE]
    assert ask(server, "PROPFIND", "/dav/").status == 401
    assert ask(server, "PROPFIND", "/dav/", "wrong password").status == 401
    assert ask(server, "PROPFIND", "/.well-known/caldav").fields["location"] == "/dav/"
    found = ask(server, "PROPFIND", "/dav/", right, PROPFIND)
    assert found.status == 207 and b"/dav/principals/alice@one.test/" in found.body
    assert ask(server, "PROPFIND", "/dav/calendars/alice@one.test/", right, PROPFIND).status == 207
    client = HTTPConnection("127.0.0.1", server.ports["http"], timeout=30)  # plain text, as the test server allows it
    assert [ask(server, "PROPFIND", "/dav/", right, PROPFIND, client=client).status for _ in range(3)] == [207] * 3
    client.close()

    def told() -> bool:
        shown = server.cleanmail("log", "access", ALICE, "--json").stdout
        return shown.count('"dav"') >= 4 and '"wrong_password"' in shown

    until(told, "the access events of the sign-ins")
    log = server.log()
    assert "/dav/" not in log and "alice" not in log and "127.0.0.1" not in log


def test_an_app_password_for_another_protocol_is_no_password(server: WholeServer) -> None:
    made = server.cleanmail("app-password", "create", ALICE, "tablet", "--protocol", "imap", "--json")
    assert made.returncode == 0, made.stderr
    text = json.loads(made.stdout)["password"]
    assert ask(server, "PROPFIND", "/dav/", text, PROPFIND).status == 401
    assert ask(server, "PROPFIND", "/dav/", server.accounts[ALICE]["app_password"], PROPFIND).status == 207


def test_guesses_count_for_all_protocols_together(server: WholeServer) -> None:
    bob = "bob@one.test"
    statuses = [ask(server, "GET", "/dav/", f"guess {number}", login=bob).status for number in range(12)]
    assert statuses[0] == 401 and statuses[-1] == 429
    with server.imap(None) as client:
        answer = client.login(bob, server.passwords[bob])
        assert not answer.ok


def shown(server: WholeServer, port: str, name: str) -> set[str]:
    """The names in the certificate that a client is shown which asks for `name`."""
    with socket.create_connection(("127.0.0.1", server.ports[port]), timeout=30) as sock:
        sock.settimeout(None)
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), sock)
        client.set_tlsext_host_name(name.encode())
        client.set_connect_state()
        client.do_handshake()
        certificate = client.get_peer_certificate()
        assert certificate is not None
        extensions = certificate.to_cryptography().extensions
        names = extensions.get_extension_for_class(tls.x509.SubjectAlternativeName).value
        return set(names.get_values_for_type(tls.x509.DNSName))


def test_the_certificate_of_the_name_that_is_asked_for(server: WholeServer) -> None:
    for port in ("https", "imaps", "submissions"):
        for name, expected in (
            ("localhost", "localhost"),
            ("dav.customer.test", "dav.customer.test"),
            ("dav.customer.test.", "dav.customer.test"),
            ("other.test", "localhost"),
        ):
            assert shown(server, port, name) == {expected}, (port, name)
    tls.make_self_signed(server.data / "tls" / "names" / "another", ["new.customer.test"])
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGHUP)
    for port in ("https", "imaps", "submissions"):
        until(
            lambda port=port: shown(server, port, "new.customer.test") == {"new.customer.test"}, "the new certificate"
        )
    context = ssl.create_default_context(cafile=str(server.data / "tls" / "ca.pem"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", server.ports["https"]), timeout=30) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as client,
    ):
        assert client.selected_alpn_protocol() == "http/1.1" and client.version() == "TLSv1.3"


def test_a_worker_that_is_killed_comes_back(server: WholeServer) -> None:
    right = server.passwords[ALICE]
    (before,) = server.pids("web")
    os.kill(before, signal.SIGKILL)
    until(lambda: server.pids("web") not in ([before], []), "the next worker")
    assert ask(server, "PROPFIND", "/dav/", right, PROPFIND).status == 207

    def counted() -> str:
        metrics = HTTPConnection("127.0.0.1", server.ports["operations"], timeout=30)
        metrics.request("GET", "/metrics")
        text = metrics.getresponse().read().decode()
        metrics.close()
        return text if 'cleanmail_connections{protocol="web"}' in text else ""

    text = until(counted, "the metrics of the next worker")
    assert 'cleanmail_process_restarts{role="web"} 1.0' in text
    assert 'cleanmail_sign_ins_total{protocol="dav",result="throttled"}' in text
    assert 'cleanmail_events_total{kind="answer_2xx",protocol="web"}' in text

"""The whole server as processes: started, killed in parts, reloaded, administered while it runs, stopped."""

from __future__ import annotations

import base64
import imaplib
import json
import os
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from command_host import run_in_fork
from OpenSSL import SSL

from hosting import tls

PASSWORD = "correct horse battery"
NAMES = ("imap", "imaps", "submission", "submissions", "https", "http", "operations")
ROLES = ("auth", "imap", "smtp", "queue", "web", "jobs")
PATIENCE = 60.0
PRINCIPAL = b'<propfind xmlns="DAV:"><prop><current-user-principal/></prop></propfind>'

pytestmark = pytest.mark.slow


class Server:
    """`cleanmail serve` on an installation of its own, with one account."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        tls.make_self_signed(data / "tls", ["localhost", "127.0.0.1"])
        self.configure("")
        self.cleanmail("init")
        self.cleanmail("tenant", "create", "acme")
        self.cleanmail("domain", "add", "acme", "acme.test", "--verified")
        self.cleanmail("account", "create", "ada@acme.test", "--password-stdin", stdin=PASSWORD)
        self.process: subprocess.Popen[str] | None = None

    def configure(self, more: str) -> None:
        ports = "".join(f"{name} = {port}\n" for name, port in self.ports.items())
        (self.data / "cleanmail.toml").write_text(
            '[server]\nhostname = "localhost"\nimap_workers = 2\nsmtp_workers = 1\nweb_workers = 1\n'
            f'[listen]\naddresses = ["127.0.0.1"]\n{ports}'
            f"[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n{more}"
        )

    def cleanmail(self, *arguments: str, stdin: str = "", status: int = 0) -> str:
        done = run_in_fork("cleanmail", ["--data", str(self.data), *arguments], environment(), stdin)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout or done.stderr

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "hosting.cli", "--data", str(self.data), "serve", *options]
        log = (self.data.parent / "serve.log").open("a")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment())
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("READY"), (self.data.parent / "serve.log").read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def workers(self, role: str) -> list[int]:
        """The processes of a role, by looking at the machine."""
        assert self.process is not None
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, IndexError):
                continue
            if parent == self.process.pid and b"hosting.roles" in command and role.encode() in command:
                found.append(int(entry.name))
        return sorted(found)

    def fork_server(self) -> int | None:
        return next(iter(self.workers("forkserver")), None)

    def imap(self, password: str = PASSWORD) -> imaplib.IMAP4:
        context = ssl.create_default_context(cafile=str(self.data / "tls" / "ca.pem"))
        client = imaplib.IMAP4_SSL("localhost", self.ports["imaps"], ssl_context=context, timeout=PATIENCE)
        client.login("ada@acme.test", password)
        return client

    def dav(
        self, method: str, path: str, password: str | None = PASSWORD, *, login: str = "ada@acme.test"
    ) -> tuple[int, bytes, str]:
        """Status, body and Location of one request over HTTPS."""
        context = ssl.create_default_context(cafile=str(self.data / "tls" / "ca.pem"))
        client = HTTPSConnection("localhost", self.ports["https"], timeout=PATIENCE, context=context)
        field = "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()
        try:
            client.request(
                method, path, PRINCIPAL, {"Depth": "0"} | ({"Authorization": field} if password is not None else {})
            )
            answer = client.getresponse()
            return answer.status, answer.read(), answer.getheader("location", "")
        finally:
            client.close()

    def shown(self, port: str, name: str) -> set[str]:
        """The names in the certificate that a client is shown which asks for `name`, as it stands."""
        with socket.create_connection(("127.0.0.1", self.ports[port]), timeout=PATIENCE) as sock:
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

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.ports['operations']}{path}", timeout=PATIENCE
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def log(self) -> str:
        return (self.data.parent / "serve.log").read_text()


def environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def until(holds: Callable[[], Any], what: str) -> Any:
    """Looks again until it holds."""
    import time

    end = time.monotonic() + PATIENCE
    waiting = socket.socketpair()[0]
    waiting.settimeout(0.05)
    while time.monotonic() < end:
        if value := holds():
            return value
        try:
            waiting.recv(1)
        except TimeoutError:
            continue
    raise AssertionError(f"{what} never came to hold")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("serve") / "data"
    data.mkdir(mode=0o700)
    running = Server(data)
    running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def test_every_role_has_its_processes_and_health_says_so(server: Server) -> None:
    assert [len(server.workers(role)) for role in ROLES] == [1, 2, 1, 1, 1, 1]
    assert server.get("/health") == (200, '{"status": "ok"}\n')
    _, metrics = server.get("/metrics")
    assert 'cleanmail_process_up{index="1",role="imap"} 1.0' in metrics


def test_a_message_goes_in_by_submission_and_comes_out_by_imap(server: Server) -> None:
    message = EmailMessage()
    message["From"] = message["To"] = "ada@acme.test"
    message["Subject"] = "end to end"
    message.set_content("through every process\n")
    context = ssl.create_default_context(cafile=str(server.data / "tls" / "ca.pem"))
    with smtplib.SMTP("localhost", server.ports["submission"], timeout=PATIENCE) as client:
        client.starttls(context=context)
        client.login("ada@acme.test", PASSWORD)
        client.send_message(message)
    with server.imap() as client:
        client.select("INBOX")
        _, found = client.search(None, "SUBJECT", '"end to end"')
        assert len(found[0].split()) == 1
    _, metrics = server.get("/metrics")
    assert 'cleanmail_sign_ins_total{protocol="submission",result="success"} 1.0' in metrics
    assert "acme" not in metrics and "ada" not in metrics


def test_a_killed_worker_is_started_again_and_nobody_is_refused(server: Server) -> None:
    before = server.workers("imap")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    with server.imap() as client:  # waits in the listening socket's queue
        assert client.noop()[0] == "OK"
    until(lambda: server.get("/health")[0] == 200, "health")
    assert not set(server.workers("imap")) & set(before)
    assert 'cleanmail_process_restarts{role="imap"} 2.0' in server.get("/metrics")[1]


def layout(pid: int) -> str:
    """Where a process has its program: at random, unless it was forked from one that has it there."""
    return Path(f"/proc/{pid}/maps").read_text().partition(" ")[0]


def locked(pid: int) -> int:
    """KiB that are never written to swap."""
    found = re.search(r"^VmLck:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_processes_are_forked_and_differ_from_executed_ones_in_nothing_else(server: Server) -> None:
    origin = server.fork_server()
    assert origin is not None
    workers = [pid for role in ROLES for pid in server.workers(role)]
    assert {layout(pid) for pid in workers} == {layout(origin)}
    pipes: set[str] = set()
    titles = []
    for pid in workers:
        proc = Path(f"/proc/{pid}")
        words = (proc / "cmdline").read_text().rstrip("\0").split("\0")
        assert words[1:3] == ["-m", "hosting.roles"] and words[6:] == ["--data", str(server.data)]
        titles.append(" ".join(words[3:6]))
        assert "Umask:\t0077" in (proc / "status").read_text()
        assert locked(pid) >= locked(origin)  # SQLCipher's heap for keys
        assert re.search(r"Max core file size +0 +0 ", (proc / "limits").read_text())
        channel = {os.readlink(proc / "fd" / number) for number in ("0", "3")}
        assert len(channel) == 2 and not channel & pipes, "a worker holds another's channel"
        pipes |= {os.readlink(each) for each in (proc / "fd").iterdir()}
        assert os.readlink(proc / "fd" / "1") == os.readlink(proc / "fd" / "2")
    assert sorted(titles) == sorted([*(f"{role} --index 0" for role in ROLES), "imap --index 1"])


def test_what_is_done_in_the_background_lets_the_others_go_first(server: Server) -> None:
    def how_nice(role: str) -> set[int]:
        tasks = Path(f"/proc/{server.workers(role)[0]}/task").iterdir()
        return {os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in tasks}

    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert {role: how_nice(role) for role in ROLES} == {role: {own + (5 if role == "jobs" else 0)} for role in ROLES}


def test_workers_live_on_without_the_fork_server_and_the_next_one_forks(server: Server) -> None:
    before, smtp = server.fork_server(), server.workers("smtp")
    assert before is not None
    session = server.imap()
    os.kill(before, signal.SIGKILL)
    until(lambda: server.fork_server() not in (before, None), "another fork server")
    assert session.noop()[0] == "OK"
    session.logout()
    os.kill(smtp[0], signal.SIGTERM)
    until(lambda: server.workers("smtp") not in (smtp, []) and server.get("/health")[0] == 200, "the next worker")
    origin = server.fork_server()
    assert origin is not None and layout(server.workers("smtp")[0]) == layout(origin) != layout(
        server.workers("web")[0]
    )


def test_who_comes_after_a_crash_has_other_addresses(server: Server) -> None:
    (crashed,) = server.workers("queue")
    before = layout(crashed)
    os.kill(crashed, signal.SIGSEGV)
    until(lambda: server.workers("queue") not in ([crashed], []) and server.get("/health")[0] == 200, "the next worker")
    assert layout(server.workers("queue")[0]) != before


def test_sessions_live_on_when_the_auth_role_is_killed(server: Server) -> None:
    with server.imap() as client:
        os.kill(server.workers("auth")[0], signal.SIGKILL)
        assert client.select("INBOX")[0] == "OK"
    until(lambda: server.get("/health")[0] == 200, "health")
    with server.imap() as client:
        assert client.noop()[0] == "OK"


def test_a_new_password_ends_sessions_at_once(server: Server) -> None:
    client = server.imap()
    server.cleanmail("account", "passwd", "ada@acme.test", "--password-stdin", stdin="another password\n")
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        until(lambda: client.noop()[0] != "OK", "the end of the session")
    with pytest.raises(imaplib.IMAP4.error):
        server.imap()
    server.imap("another password").logout()
    server.cleanmail("account", "passwd", "ada@acme.test", "--password-stdin", stdin=PASSWORD)


def test_access_events_are_shown(server: Server) -> None:
    server.imap().logout()

    def events() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(server.cleanmail("log", "access", "ada@acme.test", "--json"))
        return [event for event in found if event["protocol"] == "imap" and event["result"] == "success"]

    event = until(events, "an access event")[-1]
    assert (event["account"], event["address"]) == ("ada@acme.test", "127.0.0.1")


def test_signing_in_over_https(server: Server) -> None:
    assert server.dav("PROPFIND", "/dav/", None)[0] == 401
    assert server.dav("PROPFIND", "/dav/", "wrong password")[0] == 401
    assert server.dav("PROPFIND", "/.well-known/caldav", None)[::2] == (301, "/dav/")
    status, body, _ = server.dav("PROPFIND", "/dav/")
    assert status == 207 and b"/dav/principals/ada@acme.test/" in body
    made = ["app-password", "create", "ada@acme.test", "tablet", "--json"]
    for protocols, expected in ((["--protocol", "imap"], 401), ([], 207)):
        password = json.loads(server.cleanmail(*made, *protocols))["password"]
        assert server.dav("PROPFIND", "/dav/", password)[0] == expected

    def results() -> set[str]:
        found: list[dict[str, Any]] = json.loads(server.cleanmail("log", "access", "ada@acme.test", "--json"))
        return {event["result"] for event in found if event["protocol"] == "dav"}

    until(lambda: results() == {"success", "wrong_password"}, "the access events")


def test_guesses_count_for_all_protocols_together(server: Server) -> None:
    nobody = "nobody@acme.test"
    statuses = [server.dav("GET", "/dav/", f"guess {number}", login=nobody)[0] for number in range(11)]
    assert statuses == [401] * 11
    assert server.dav("GET", "/dav/", "another guess", login=nobody)[0] == 429
    assert server.dav("PROPFIND", "/dav/")[0] == 207
    client = imaplib.IMAP4("localhost", server.ports["imap"], timeout=PATIENCE)
    client.starttls(ssl.create_default_context(cafile=str(server.data / "tls" / "ca.pem")))
    with pytest.raises(imaplib.IMAP4.error, match="Too many"):
        client.login(nobody, "guess")
    client.shutdown()


def test_without_tls_http_leads_to_https(server: Server) -> None:
    client = HTTPConnection("127.0.0.1", server.ports["http"], timeout=PATIENCE)
    client.request("GET", "/dav/calendars/?a")
    answer = client.getresponse()
    there = f"https://localhost:{server.ports['https']}/dav/calendars/?a"
    assert (answer.status, answer.getheader("location")) == (308, there)
    client.close()


def test_the_certificate_of_the_name_that_is_asked_for(server: Server) -> None:
    tls.make_self_signed(server.data / "tls" / "names" / "customer", ["dav.customer.test"])
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    for port in ("https", "imaps", "submissions"):
        until(lambda port=port: server.shown(port, "dav.customer.test") == {"dav.customer.test"}, "the certificate")
        assert server.shown(port, "dav.customer.test.") == {"dav.customer.test"}  # some clients send the dot
        assert server.shown(port, "localhost") == server.shown(port, "other.test") == {"localhost"}


def test_a_web_worker_that_is_killed_comes_back(server: Server) -> None:
    (before,) = server.workers("web")
    os.kill(before, signal.SIGKILL)
    until(lambda: server.workers("web") not in ([before], []), "the next worker")
    assert server.dav("PROPFIND", "/dav/")[0] == 207

    def counted() -> str:
        _, text = server.get("/metrics")
        return text if 'cleanmail_events_total{kind="answer_2xx",protocol="web"}' in text else ""

    metrics = until(counted, "the metrics")
    assert 'cleanmail_process_restarts{role="web"} 1.0' in metrics
    assert 'cleanmail_sign_ins_total{protocol="dav",result="throttled"} 1.0' in metrics


def test_reload_takes_a_new_certificate_and_keeps_sessions(server: Server) -> None:
    def serial() -> Any:
        context = ssl.create_default_context(cafile=str(server.data / "tls" / "ca.pem"))
        try:
            with (
                socket.create_connection(("localhost", server.ports["imaps"])) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as connection,
            ):
                return (connection.getpeercert() or {})["serialNumber"]
        except ssl.SSLError:
            return None  # the old certificate does not verify against the new CA

    session = server.imap()
    before = serial()
    tls.make_self_signed(server.data / "tls", ["localhost", "127.0.0.1"])
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    until(lambda: (now := serial()) is not None and now != before, "the new certificate")
    assert session.noop()[0] == "OK"
    session.logout()


def test_reload_refuses_a_configuration_with_a_mistake(server: Server) -> None:
    workers = server.workers("imap")
    server.configure("[imap]\nidle_timout = 3\n")
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    until(lambda: "did you mean 'idle_timeout'" in server.log(), "the line in the log")
    assert server.workers("imap") == workers


def test_reload_replaces_the_processes_whose_settings_changed(server: Server) -> None:
    imap, smtp, origin = server.workers("imap"), server.workers("smtp"), server.fork_server()
    server.configure("[imap]\nidle_timeout = 1900\n")
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    until(lambda: len(set(server.workers("imap")) - set(imap)) == 2 and server.get("/health")[0] == 200, "new workers")
    assert server.workers("smtp") == smtp
    assert server.fork_server() not in (origin, None)  # which has loaded the program as it is now


def test_a_second_server_is_refused(server: Server) -> None:
    assert "another program listens there" in server.cleanmail("serve", status=3)


def test_the_operational_log_holds_no_address(server: Server) -> None:
    assert "acme.test" not in server.log() and "127.0.0.1" not in server.log().replace("on 127.0.0.1", "")


def test_sigterm_stops_everything_and_the_data_is_whole(server: Server) -> None:
    pids = [pid for role in (*ROLES, "forkserver") for pid in server.workers(role)]
    assert server.stop() == 0
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert json.loads(server.cleanmail("check", "--json")) == []


def test_single_serves_the_same_from_one_process(server: Server) -> None:
    if server.process is not None and server.process.poll() is None:
        server.stop()
    server.start("--single")
    try:
        assert server.workers("imap") == []
        with server.imap() as client:
            assert client.select("INBOX")[0] == "OK"
        assert "ada@acme.test" in server.cleanmail("account", "list")
        assert server.get("/health")[0] == 200
    finally:
        assert server.stop() == 0


EXECUTED = """
import os, sys
from pathlib import Path
from hosting.roles import reactors
reactors.install("epoll")
from twisted.internet import reactor
from hosting.roles.process import WorkerProcess
from hosting.roles.spawning import Spawner
from hosting.roles.table import spec

data = Path(sys.argv[1])
spawner = Spawner(reactor, data)
spawner.preload(False)
worker = WorkerProcess(reactor, spec("auth"), 0, data, [], spawner, ended=print, failed=print)
worker.configuration = (data / "cleanmail.toml").read_text()

def ready(_):
    print(Path(f"/proc/{worker.pid}/cmdline").read_bytes().split(b"\\0")[3].decode(), flush=True)
    worker.stop(30).addCallback(lambda _: reactor.stop())

worker.start().addCallback(ready)
reactor.run()
"""


def test_without_preload_a_process_loads_the_program_by_itself(server: Server) -> None:
    if server.process is not None and server.process.poll() is None:
        server.stop()
    command = [sys.executable, "-c", EXECUTED, str(server.data)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, "auth\n"), done.stderr


def test_all_processes_end_with_the_supervisor(server: Server) -> None:
    if server.process is not None and server.process.poll() is None:
        server.stop()
    server.start()
    assert server.process is not None
    pids = [pid for role in (*ROLES, "forkserver") for pid in server.workers(role)]
    server.process.kill()
    server.process.wait()
    until(lambda: [pid for pid in pids if Path(f"/proc/{pid}").exists()] == [], "the end of all")

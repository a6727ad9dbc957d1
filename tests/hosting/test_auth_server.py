"""The auth role as a process, over its socket: keys by role, sign-ins, restarts, and clients that mean no good."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import auth_town
import pytest
from auth_town import CHEAP
from directory_premises import DirectoryPremises, Town
from scram_client import ScramClient

from hosting.auth.client import AuthClient
from hosting.auth.frames import FRAME_MAX, FrameReader, encode
from hosting.auth.grants import Role
from hosting.auth.messages import VERSION
from hosting.auth.signin import ScramOpening, SignIn, TokenSignIn
from hosting.auth.sockets import connect
from storage.errors import (
    AuthenticationFailed,
    Gone,
    InvalidInput,
    NotFound,
    NotPermitted,
    Suspended,
    Throttled,
    Unavailable,
)
from storage.keys.files import KeyFiles
from storage.values import AccountId, EmailAddress, TenantId

SCRIPT = Path(auth_town.__file__).with_name("auth_role_process.py")
ANN, PASSWORD = "ann@acme.test", "correct horse"
HELLO = encode({"op": "hello", "version": VERSION, "role": "smtp"})


class AuthRole:
    """One process of the role over a data directory."""

    def __init__(self, data: Path) -> None:
        self._errors = (data / "auth.err").open("ab")
        path = os.pathsep.join(sys.path)
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(data)],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()
        return code


class World:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.path = data / "auth.sock"
        premises = DirectoryPremises(data)
        town = Town(premises)
        self.acme = town.tenant("acme", "acme.test")
        row = town.provisioning.create_account(self.acme, EmailAddress.parse(ANN), password_hash=CHEAP.hash(PASSWORD))
        self.ann = row.account_id
        self.town = town
        self.role = AuthRole(data)
        assert self.role.said == "listening"

    def restart(self, number: int = signal.SIGKILL) -> None:
        self.role.end(number)
        self.role = AuthRole(self.data)
        assert self.role.said == "listening"

    def log(self) -> str:
        return (self.data / "auth.err").read_text()

    def close(self) -> None:
        if self.role.process.returncode is None:
            self.role.end(signal.SIGTERM)
        self.town.premises.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    deep = tmp_path_factory.mktemp("auth") / ("deeper" * 20)  # longer than a socket's address may be
    deep.mkdir()
    world = World(deep)
    yield world
    world.close()


@contextmanager
def client(world: World, role: Role, patience: float = 30.0) -> Iterator[AuthClient]:
    asking = AuthClient(world.path, role, patience=patience)
    try:
        yield asking
    finally:
        asking.close()


def sign_in(login: str = ANN, password: str = PASSWORD, address: str = "192.0.2.1") -> SignIn:
    return SignIn("imap", login, password, address, "s1")


class TestKeys:
    def test_are_the_keys_of_the_store(self, world: World) -> None:
        keys = world.town.premises.keys
        with client(world, Role.ADMIN) as asking:
            for name in ("control", "queue", "audit", "directory", "logs"):
                assert asking.service_key(name) == keys.service_key(name)
            assert asking.tenant_key(world.acme, "test") == keys.tenant_key(world.acme, "test")
            assert asking.account_key(world.acme, world.ann, "test") == keys.account_key(world.acme, world.ann, "test")
            assert "secret" not in repr(asking.tenant_key(world.acme, "test"))

    def test_are_made_and_destroyed(self, world: World) -> None:
        with client(world, Role.ADMIN) as asking:
            tenant_id, account_id = TenantId(700), AccountId(701)
            key = asking.create_tenant_key(tenant_id)
            assert asking.create_tenant_key(tenant_id) == key == asking.tenant_key(tenant_id, "test")
            account_key = asking.create_account_key(tenant_id, account_id)
            assert asking.account_key(tenant_id, account_id, "test") == account_key
            asking.destroy_account_key(tenant_id, account_id)
            asking.destroy_account_key(tenant_id, account_id)
            with pytest.raises(Gone):
                asking.account_key(tenant_id, account_id, "test")
            with pytest.raises(NotFound):
                asking.tenant_key(TenantId(999), "test")
            asking.forget(tenant_id)

    def test_are_given_to_roles_that_may_hold_them(self, world: World) -> None:
        with client(world, Role.IMAP) as asking:
            assert asking.account_key(world.acme, world.ann, "imap session").secret
            for refused in (
                lambda: asking.tenant_key(world.acme, "curiosity"),
                lambda: asking.service_key("control"),
                lambda: asking.create_tenant_key(TenantId(800)),
                lambda: asking.destroy_account_key(world.acme, world.ann),
            ):
                with pytest.raises(NotPermitted):
                    refused()
        with client(world, Role.QUEUE) as asking:
            assert asking.tenant_key(world.acme, "relay").secret
            with pytest.raises(NotPermitted):
                asking.verify(sign_in())

    def test_leases_are_logged_by_ids_with_their_purpose(self, world: World) -> None:
        with client(world, Role.SMTP) as asking:
            key = asking.account_key(world.acme, world.ann, "delivery")
            asking.verify(sign_in())
            with pytest.raises(AuthenticationFailed):
                asking.verify(sign_in(password="a-password-nobody-has"))
            with pytest.raises(InvalidInput):
                asking.tenant_key(world.acme, "ann@acme.test\n")
        log = world.log()
        line = (
            f"lease tenant={world.acme} account={world.ann} key={key.id} purpose=delivery role=smtp pid={os.getpid()}"
        )
        assert line in log
        for secret in (ANN, "acme.test", PASSWORD, "a-password-nobody-has", key.secret.hex()):
            assert secret not in log


class TestSignIns:
    def test_answers_and_refusals_cross_the_socket(self, world: World) -> None:
        provisioning = world.town.provisioning
        with client(world, Role.IMAP) as asking:
            principal = asking.verify(sign_in())
            assert (principal.tenant_id, principal.account_id, principal.login) == (world.acme, world.ann, ANN)
            assert asking.still_valid(principal)
            with pytest.raises(AuthenticationFailed):
                asking.verify(sign_in(password="wrong horse"))
            provisioning.suspend_account(world.acme, world.ann)
            with pytest.raises(Suspended):
                asking.verify(sign_in())
            assert not asking.still_valid(principal)
            provisioning.resume_account(world.acme, world.ann)
            asking.verify(sign_in())

    def test_one_throttle_counts_for_all_processes_and_protocols(self, world: World) -> None:
        with client(world, Role.IMAP) as imap, client(world, Role.SMTP) as smtp:
            for number in range(11):
                asking = (imap, smtp)[number % 2]
                with pytest.raises(AuthenticationFailed):
                    asking.verify(sign_in("guessed@acme.test", f"guess {number}", f"203.0.{number}.1"))
            for asking in (imap, smtp):
                with pytest.raises(Throttled):
                    asking.verify(sign_in("guessed@acme.test", "guess again", "203.0.99.1"))

    def test_hundred_at_once(self, world: World) -> None:
        with client(world, Role.IMAP) as asking, ThreadPoolExecutor(100) as threads:
            principals = list(threads.map(lambda _: asking.verify(sign_in()), range(100)))
        assert {principal.account_id for principal in principals} == {world.ann}


class TestRestart:
    def test_requests_wait_for_an_auth_role_that_comes_back(self, world: World) -> None:
        with client(world, Role.IMAP, patience=30.0) as asking, ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: asking.verify(sign_in()), range(8)))
            world.role.end(signal.SIGKILL)
            waiting = [threads.submit(asking.verify, sign_in()) for _ in range(8)]
            world.role = AuthRole(world.data)
            assert {answer.result(30).account_id for answer in waiting} == {world.ann}

    def test_idle_connections_of_before_cost_nothing(self, world: World) -> None:
        with client(world, Role.IMAP) as asking:
            asking.verify(sign_in())
            world.restart()
            asking.verify(sign_in())

    def test_without_it_they_fail_in_time(self, world: World) -> None:
        with client(world, Role.IMAP, patience=0.2) as asking:
            asking.verify(sign_in())
            world.role.end(signal.SIGTERM)
            assert not world.path.exists()
            for _ in range(2):
                with pytest.raises(Unavailable):
                    asking.verify(sign_in())
            world.role = AuthRole(world.data)
            asking.verify(sign_in())

    def test_second_auth_role_is_refused(self, world: World) -> None:
        second = AuthRole(world.data)
        assert second.said == "Another auth role serves this data directory."
        assert second.process.wait(20) == 1
        assert second.process.stdout is not None
        second.process.stdout.close()
        with client(world, Role.IMAP) as asking:
            asking.verify(sign_in())

    def test_clean_stop_answers_what_is_under_way(self, world: World) -> None:
        begun = threading.Barrier(9)

        def ask(asking: AuthClient, number: int) -> bool:
            begun.wait(10)
            try:
                asking.verify(sign_in(password=f"stop {number}", address=f"10.1.{number}.1"))
            except AuthenticationFailed:
                return True
            except Unavailable:
                return True  # it came after the end
            return False

        with client(world, Role.IMAP, patience=0.2) as asking, ThreadPoolExecutor(8) as threads:
            answers = [threads.submit(ask, asking, number) for number in range(8)]
            begun.wait(10)
            assert world.role.end(signal.SIGTERM) == 0
            assert all(answer.result(30) for answer in answers)
        world.role = AuthRole(world.data)

    def test_while_it_is_replaced_nobody_fails(self, world: World) -> None:
        """As after a contract's end: whoever signs in or needs a key meanwhile waits for the next one."""
        ending, begun = threading.Event(), threading.Barrier(5)
        answered = [0] * 4

        def ask(asking: AuthClient, number: int) -> None:
            begun.wait(10)
            while not ending.is_set():
                assert asking.verify(sign_in(address=f"10.2.{number}.1")).account_id == world.ann
                assert asking.account_key(world.acme, world.ann, "test").id
                answered[number] += 1

        with (
            client(world, Role.SMTP) as asking,
            client(world, Role.JOBS) as jobs,
            client(world, Role.IMAP) as imap,
            ThreadPoolExecutor(4) as threads,
        ):
            running = [threads.submit(ask, asking, number) for number in range(4)]
            begun.wait(10)
            try:
                with pytest.raises(NotPermitted):
                    imap.retire()
                assert jobs.retire()
                assert world.role.process.wait(20) == 0
                world.role.end(signal.SIGTERM)
                before = list(answered)
                world.role = AuthRole(world.data)
                assert world.role.said == "listening"
                assert jobs.verifying_key("manifest")
                while any(now <= then for now, then in zip(answered, before, strict=True)):
                    assert not any(each.done() for each in running)
                    ending.wait(0.005)
            finally:
                ending.set()
            for each in running:
                each.result(30)


def test_who_signs_in_does_not_wait_for_changes_of_keys(world: World) -> None:
    """As many of them as there could be threads wait for somebody who has the files of keys/ to himself."""
    with ExitStack() as held:
        held.enter_context(KeyFiles(world.data / "keys").locked())
        waiting = [held.enter_context(connect(world.path, 30)) for _ in range(16)]
        for connection in waiting:
            connection.sendall(encode({"op": "hello", "version": VERSION, "role": "admin"}))
            connection.sendall(encode({"op": "create_account_key", "tenant": world.acme, "account": world.ann}))
        asking = AuthClient(world.path, Role.SMTP, timeout=10)
        held.callback(asking.close)
        assert asking.verify(sign_in()).account_id == world.ann
        assert asking.account_key(world.acme, world.ann, "test").id


class TestHostileClients:
    def ended(self, connection: socket.socket) -> bytes:
        """What is said until the end of the connection."""
        said = b""
        try:
            while data := connection.recv(65536):
                said += data
        except ConnectionResetError:
            pass
        return said

    def error(self, said: bytes) -> str:
        reader = FrameReader()
        reader.feed(said)
        frames = []
        while (frame := reader.next()) is not None:
            frames.append(frame)
        return str(frames[-1].get("error"))

    @pytest.mark.parametrize(
        "octets",
        [
            b"\xff\xff\xff\xff",
            struct.pack(">I", FRAME_MAX + 1) + b"x" * 1000,
            b"GET / HTTP/1.0\r\n\r\n",
            HELLO + struct.pack(">I", 3) + b"[1]",
            encode({"op": "hello", "version": 99, "role": "smtp"}),
            encode({"op": "verify"}),
            encode({}),
        ],
    )
    def test_nonsense_is_refused_and_ended(self, world: World, octets: bytes) -> None:
        with connect(world.path, 10) as connection:
            connection.sendall(octets)
            assert self.error(self.ended(connection)) == "InvalidInput"

    @pytest.mark.parametrize("role", ["auth", "master", "root", "", None, 7])
    def test_roles_that_there_are_not(self, world: World, role: object) -> None:
        with connect(world.path, 10) as connection:
            connection.sendall(encode({"op": "hello", "version": VERSION, "role": role}))
            assert self.error(self.ended(connection)) == "NotPermitted"

    @pytest.mark.parametrize("octets", [b"", b"\0", HELLO[:-1], HELLO + b"\0\0", HELLO + struct.pack(">I", 99) + b"{"])
    def test_silence_is_ended_while_others_are_served(self, world: World, octets: bytes) -> None:
        with ExitStack() as stack, client(world, Role.SMTP) as asking:
            silent = [stack.enter_context(connect(world.path, 10)) for _ in range(20)]
            for connection in silent:
                connection.sendall(octets)
            asking.verify(sign_in())
            for connection in silent:
                self.ended(connection)

    def test_idle_connection_may_stay(self, world: World) -> None:
        with connect(world.path, 1.5) as connection:
            connection.sendall(HELLO)
            assert b"ok" in connection.recv(65536)
            with pytest.raises(TimeoutError):
                connection.recv(1)

    def test_client_that_asks_without_reading_is_ended_and_others_are_served(self, world: World) -> None:
        with connect(world.path, 10) as connection, client(world, Role.SMTP) as asking:
            connection.sendall(HELLO)
            request = encode({"op": "tenant_key", "tenant": world.acme, "purpose": "flood"}) * 100
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                while True:
                    connection.sendall(request)
            asking.verify(sign_in())

    def test_connections_of_one_process_are_limited(self, world: World) -> None:
        with ExitStack() as stack:
            held = [stack.enter_context(connect(world.path, 10)) for _ in range(39)]
            for connection in held:
                connection.sendall(HELLO)
                assert b"ok" in connection.recv(65536)
            probes = [stack.enter_context(connect(world.path, 10)) for _ in range(5)]
            assert self.error(self.ended(probes[-1])) == "LimitReached"
        with client(world, Role.SMTP) as asking:
            asking.verify(sign_in())

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"op": 7},
            {"op": "hello"},
            {"op": "close"},
            {"op": "verify", "protocol": "pop3", "login": "", "password": "", "address": "", "session": ""},
            {"op": "verify", "protocol": "imap", "login": 7},
            {"op": "tenant_key", "tenant": "1", "purpose": "x"},
            {"op": "tenant_key", "tenant": True, "purpose": "x"},
            {"op": "tenant_key", "tenant": -1, "purpose": "x"},
            {"op": "tenant_key", "tenant": 1 << 70, "purpose": "x"},
            {"op": "tenant_key", "tenant": 1},
            {"op": "tenant_key", "tenant": 1, "purpose": "x" * 65},
            {"op": "still_valid", "principal": [1]},
            {"op": "still_valid", "principal": {}},
        ],
    )
    def test_requests_that_are_none_are_told_so(self, world: World, fields: dict[str, object]) -> None:
        with client(world, Role.SMTP) as asking, pytest.raises(InvalidInput):
            asking._ask(fields)

    def test_unknown_service_key(self, world: World) -> None:
        with client(world, Role.ADMIN) as asking, pytest.raises(NotPermitted):
            asking._ask({"op": "service_key", "name": "master"})

    def test_socket_is_for_our_user_alone(self, world: World) -> None:
        assert world.path.stat().st_mode & 0o777 == 0o600

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
    def test_other_users_are_refused_even_if_the_file_system_lets_them(self, world: World) -> None:
        directory = os.open(world.data, os.O_PATH | os.O_DIRECTORY)
        world.path.chmod(0o666)
        try:
            code = (
                "import socket; s = socket.socket(socket.AF_UNIX);"
                f"s.connect('/proc/self/fd/{directory}/auth.sock'); print(s.recv(4096))"
            )
            done = subprocess.run(
                ["/usr/bin/env", "python3", "-c", code],
                user=65534,
                pass_fds=[directory],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
        finally:
            world.path.chmod(0o600)
            os.close(directory)
        assert "NotPermitted" in done.stdout, done.stderr


class TestScram:
    """Exchanges over the socket: the process in between holds a box that it cannot open."""

    def test_exchange_and_who_may_ask(self, world: World) -> None:
        row, text = world.town.provisioning.create_app_password(world.acme, world.ann, "phone")
        ours = ScramClient(ANN, text, "p=tls-exporter", b"c" * 32)
        opening = ScramOpening("imap", True, ours.first(), b"c" * 32, "192.0.2.1", "s1")
        with client(world, Role.IMAP) as asking:
            challenge = asking.scram_begin(opening)
            done = asking.scram_finish(challenge, ours.final(challenge.message))
            assert ours.believes(done.message)
            assert done.principal.credential == f"app:{row.app_password_id}"
            assert asking.still_valid(done.principal)
            with pytest.raises(NotPermitted):  # no provider is configured
                asking.verify_token(TokenSignIn("imap", ANN, "token", "192.0.2.1"))
        with client(world, Role.QUEUE) as asking:
            for ask in (
                lambda: asking.scram_begin(opening),
                lambda: asking.scram_finish(challenge, b""),
                lambda: asking.verify_token(TokenSignIn("imap", ANN, "token", "192.0.2.1")),
            ):
                with pytest.raises(NotPermitted):
                    ask()
        assert text not in world.log()

    def test_auth_role_that_was_replaced_knows_no_exchange_of_before(self, world: World) -> None:
        ours = ScramClient(ANN, "wrong")
        with client(world, Role.IMAP) as asking:
            challenge = asking.scram_begin(ScramOpening("imap", False, ours.first(), b"", "192.0.2.1"))
            world.restart()
            with pytest.raises(AuthenticationFailed, match="begin it anew"):
                asking.scram_finish(challenge, ours.final(challenge.message))

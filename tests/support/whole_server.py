"""`cleanmail serve` with all its processes, on an installation and free ports of its own, for tests from outside.

The town is made by a process of its own (`provision_town.py`), so whoever uses this holds neither keys nor databases.
Everything that was started is in one process group and ends with `stop` or `kill`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from command_host import run_in_fork
from http_wire import HttpWire
from wire import ImapWire, SmtpWire

from gateway.smtp.limit_files import remove_folder
from hosting import metrics, tls

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
PORTS = ("mx", "imap", "imaps", "submission", "submissions", "https", "http", "operations")
ROLES = ("auth", "imap", "smtp", "queue", "web", "jobs")
PASSWORD = "correct horse battery"
TOWN: Mapping[str, Any] = {
    "tenants": {
        "one": {
            "domains": {"one.test": True},
            "accounts": {
                "alice@one.test": {"password": PASSWORD, "app_password": "phone"},
                "bob@one.test": {"password": PASSWORD},
            },
            "aliases": {"info@one.test": ["alice@one.test"]},
        },
        "two": {
            "domains": {"two.test": True, "pending.test": False},
            "accounts": {"mallory@two.test": {"password": PASSWORD + " two", "app_password": "phone"}},
        },
    }
}
_ports_taken: set[int] = set()


class WholeServer:
    """Passwords are cheap to verify; PLAIN sign-ins are taken without TLS, so that tests speak by hand."""

    def __init__(
        self,
        folder: Path,
        town: Mapping[str, Any] = TOWN,
        *,
        settings: str = "",
        workers: int = 1,
        smtp_workers: int = 1,
        web: bool = True,
        web_workers: int = 1,
    ) -> None:
        """`web`: HTTP is served; a process less for tests that don't ask for it."""
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.log_path = folder / "serve.log"
        self.ports = free_ports()
        self.process: subprocess.Popen[bytes] | None = None
        listened = {name: port if web or name not in ("https", "http") else 0 for name, port in self.ports.items()}
        ports = "".join(f"{name} = {port}\n" for name, port in listened.items())
        (self.data / "cleanmail.toml").write_text(
            f'[server]\nhostname = "localhost"\nimap_workers = {workers}\nsmtp_workers = {smtp_workers}\n'
            f"web_workers = {web_workers}\nstop_within = 10\n"
            f'[listen]\naddresses = ["127.0.0.1"]\nplain_text_sign_in = true\n{ports}'
            f"[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n{settings}"
        )
        tls.make_self_signed(self.data / "tls", ["localhost", "127.0.0.1"])
        made = run_in_fork("provision_town", [str(self.data)], environment(), json.dumps(town), PATIENCE)
        assert made.returncode == 0, made.stderr
        self.accounts: dict[str, dict[str, Any]] = json.loads(made.stdout)
        self.passwords = {
            address: options["password"]
            for tenant in town["tenants"].values()
            for address, options in tenant["accounts"].items()
        }
        self.client_tls = ssl.create_default_context(cafile=str(self.data / "tls" / "ca.pem"))

    # Processes

    def start(self) -> None:
        """Everything is ready when it returns."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hosting.cli", "--data", str(self.data), "serve"],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )
        atexit.register(self.kill)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self._copy_stdout(line)
        assert line.startswith(b"READY"), self.log()[-4000:]
        threading.Thread(target=self._drain, args=(self.process.stdout,), daemon=True).start()

    def _drain(self, stdout: Any) -> None:
        for line in stdout:
            self._copy_stdout(line)

    def _copy_stdout(self, line: bytes) -> None:
        with (self.folder / "serve.out").open("ab") as out:
            out.write(line)

    def stop(self) -> int:
        """As SIGTERM ends it; the exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL for the whole group; nothing of it is left when it returns."""
        if self.process is None:
            return
        group = self.process.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        self.process.wait(PATIENCE)
        until(lambda: not group_members(group), "the end of the process group")
        self.process = None
        metrics.remove_directory(self.data / "run" / "metrics")
        remove_folder(self.data / "run" / "limits")
        atexit.unregister(self.kill)

    def pids(self, role: str) -> list[int]:
        """The processes of a role that live now."""
        assert self.process is not None
        found = []
        for pid in group_members(self.process.pid):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"hosting.roles" in command and role.encode() in command:
                    found.append(pid)
        return sorted(found)

    def cleanmail(
        self, *arguments: str, stdin: str = "", patience: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """A run of the command line beside the server, as a process of its own."""
        return run_in_fork("cleanmail", ["--data", str(self.data), *arguments], environment(), stdin, patience)

    def check(self, *arguments: str) -> list[dict[str, Any]]:
        """What `cleanmail check` finds; empty if all is well."""
        done = self.cleanmail("check", "--json", *arguments)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.stdout, done.stderr
        findings: list[dict[str, Any]] = json.loads(done.stdout)
        return findings

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    # Clients

    def imap(self, address: str | None = "alice@one.test", password: str | None = None, **options: Any) -> ImapWire:
        """Signed in, unless the address is None."""
        client = ImapWire(self.ports["imap"], **options)
        if address is not None:
            answer = client.login(address, password or self.passwords[address])
            assert answer.ok, answer.tagged
        return client

    def smtp(self, address: str | None = "alice@one.test", password: str | None = None, **options: Any) -> SmtpWire:
        client = SmtpWire(self.ports["submission"], **options)
        if address is not None:
            code, said = client.login(address, password or self.passwords[address])
            assert code == 235, said
        return client

    def dav(self, address: str | None = "alice@one.test", password: str | None = None, **options: Any) -> HttpWire:
        """Without TLS; who it is stands in each request."""
        if address is None:
            return HttpWire(self.ports["http"], **options)
        return HttpWire(self.ports["http"], address, password or self.passwords[address], **options)


@contextlib.contextmanager
def running(server: WholeServer) -> Iterator[WholeServer]:
    """Started, and ended whatever happens."""
    try:
        server.start()
        yield server
    finally:
        server.kill()


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def free_ports() -> dict[str, int]:
    """Ports outside of the range that outgoing connections take, so that nobody gets one before the server does."""
    found: dict[str, int] = {}
    candidate = 21_000 + os.getpid() % 500 * 20
    for name in PORTS:
        while True:
            candidate += 1
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", candidate)):
                if candidate not in _ports_taken:
                    break
        found[name] = candidate
        _ports_taken.add(candidate)
    return found


def group_members(group: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def until(holds: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Looks again, twenty times a second, until it holds."""
    end = time.monotonic() + patience
    pause = threading.Event()
    while True:
        if value := holds():
            return value
        assert time.monotonic() < end, f"{what} never came to hold"
        pause.wait(0.05)


def peak_memory(pid: int) -> int:
    """The most octets that the process held in memory at once since `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def forget_peak(pid: int) -> int:
    """Begins `peak_memory` anew; returns what is held now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_memory(pid)

"""Debian's Postfix (package postfix) with a folder of its own on loopback, and its smtp-sink: other people's servers.

    with Postfix(directory, certificate=..., onward={"example.test": port}) as postfix:
        postfix.port          # takes mail for the domains of `onward`, offers STARTTLS
        postfix.encrypted     # the same, demands it
        postfix.plain         # offers neither 8BITMIME nor SMTPUTF8, PIPELINING, DSN or STARTTLS

Postfix wants to be started by root; `missing()` says why it cannot be used here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

MAIN = """\
compatibility_level = 3.6
queue_directory = {d}/queue
data_directory = {d}/data
maillog_file = {d}/mail.log
maillog_file_prefixes = {d}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.test
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
local_recipient_maps =
relay_domains = {domains}
relay_recipient_maps = inline:{{ {recipients} }}
transport_maps = inline:{{ {transports} }}
smtpd_recipient_restrictions = permit_auth_destination, reject
smtpd_reject_unlisted_recipient = yes
smtpd_tls_security_level = may
smtpd_tls_chain_files = {key}, {chain}
smtp_tls_security_level = {outgoing}
smtp_tls_CAfile = {authorities}
smtp_tls_verify_cert_match = hostname
smtp_tls_loglevel = 1
smtpd_tls_loglevel = 1
smtpd_error_sleep_time = 0
message_size_limit = 3000000
minimal_backoff_time = 3600s
smtp_skip_5xx_greeting = no
smtp_host_lookup = native
local_header_rewrite_clients =
bounce_queue_lifetime = 0
"""

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{encrypted} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt
127.0.0.1:{plain} inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=8bitmime,smtputf8,pipelining,dsn,starttls
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def missing() -> str:
    """Why Postfix cannot be used here; empty if it can."""
    if not shutil.which("postfix") or not shutil.which("smtp-sink"):
        return "Postfix is not installed: apt-get install --no-install-recommends postfix"
    return "Postfix has to be started by root" if os.geteuid() else ""


class Postfix:
    """`onward`: where the mail of each domain goes, a port of loopback; `unknown`@ any of them does not exist."""

    def __init__(
        self,
        certificate: tuple[Path, Path],
        onward: Mapping[str, int],
        *,
        outgoing: str = "may",
        authorities: str = "",
        recipients: tuple[str, ...] = (),
    ) -> None:
        # Not below pytest's folder: only its owner may enter that, and Postfix has users of its own.
        self.folder = Path(tempfile.mkdtemp(prefix="postfix-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.port, self.encrypted, self.plain = free_ports(3)
        chain, key = (shutil.copy(path, self.folder) for path in certificate)
        if authorities:
            authorities = shutil.copy(authorities, self.folder / "authorities.pem")
        for name, owner in (("queue", "root"), ("data", "postfix")):
            (self.folder / name).mkdir()
            shutil.chown(self.folder / name, owner)
        (self.folder / "main.cf").write_text(
            MAIN.format(
                d=self.folder,
                domains=", ".join(onward),
                recipients=", ".join(f"{recipient}=x" for recipient in recipients),
                transports=", ".join(f"{domain}=smtp:[127.0.0.1]:{port}" for domain, port in onward.items()),
                chain=chain,
                key=key,
                outgoing=outgoing,
                authorities=authorities,
            )
        )
        (self.folder / "master.cf").write_text(
            MASTER.format(port=self.port, encrypted=self.encrypted, plain=self.plain)
        )

    def __enter__(self) -> Postfix:
        self._run("check")
        self._process = subprocess.Popen(
            ["postfix", "-c", self.folder, "start-fg"], stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for_port(self.port, self._process)
        return self

    def __exit__(self, *_: object) -> None:
        self._run("stop", check=False)
        end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> str:
        try:
            return (self.folder / "mail.log").read_text()
        except FileNotFoundError:
            return ""

    def _run(self, command: str, *, check: bool = True) -> None:
        done = subprocess.run(["postfix", "-c", self.folder, command], check=False, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr


@contextlib.contextmanager
def smtp_sink(*options: str) -> Iterator[int]:
    """Postfix's smtp-sink, which takes everything and keeps nothing, but for what `options` say; its port."""
    [port] = free_ports(1)
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    process = subprocess.Popen(
        ["smtp-sink", *user, *options, f"127.0.0.1:{port}", "1000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for_port(port, process)
        yield port
    finally:
        end(process)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """Until something accepts there: there is nothing else to wait for in a program that is not ours."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")


def end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

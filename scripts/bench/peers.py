"""Starts the servers that are measured, each on loopback with a folder of its own, and ends them again.

Cleanmail is started with the README's command; the peers are Debian's Dovecot with Maildir (packages dovecot-core and
dovecot-imapd) and Debian's Postfix (package postfix), which also brings the sink that takes what is relayed. Cleanmail
and Dovecot keep plain-text sign-in for the load generator, on loopback only.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from process_costs import (
    cpu_seconds,
    cpu_seconds_of,
    processes,
    proportional_kib,
    proportional_kib_of,
    title,
)

# What the benchmarks ask for here besides what is defined here.
__all__ = ["cpu_seconds", "cpu_seconds_of", "processes", "proportional_kib", "proportional_kib_of", "title"]

PASSWORD = "correct-horse-battery"
RELAYED, PARKED, KEPT = "relayed.test", "parked.test", "kept.test"  # where the mail of each domain goes
MAILBOXES = 10  # u0 to u9 of KEPT
ROOT = Path(__file__).resolve().parents[2]

DOVECOT = """\
base_dir = {d}/run
state_dir = {d}/state
log_path = {d}/dovecot.log
listen = 127.0.0.1
protocols = imap
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
mail_location = maildir:{d}/mail/%u
mail_uid = {user}
mail_gid = {user}
mail_privileged_group =
first_valid_uid = 1
mail_max_userip_connections = 2000
auth_cache_size = 10M
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {d}/users
}}
userdb {{
  driver = static
  args = uid={user} gid={user} home={d}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  # one process for each connection over TLS, for as long as it lasts; by default 100
  process_limit = 2000
  process_min_avail = 2
  client_limit = 2000
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service imap {{
  process_limit = 2000
  # a mailbox of 200,000 messages takes more than the 256 MB that it may use by default
  vsz_limit = 2 G
}}
service anvil {{
  client_limit = 5000
}}
service auth {{
  client_limit = 5000
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens in plain and over TLS, its first process, and a user pattern with %d."""

    name: str
    port: int
    tls_port: int
    pid: int
    user: str
    users: str
    folder: Path


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Returns when something accepts on `port`; ends the benchmark with a sentence if it never does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"The server ended with status {process.returncode} before it listened on port {port}.")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"Nothing listens on 127.0.0.1:{port} after {seconds:.0f} s.")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A throwaway certificate for localhost."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "30", "-keyout", key, "-out", cert, "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@contextlib.contextmanager
def dovecot(folder: Path, users: int) -> Iterator[Server]:
    """Debian's Dovecot with Maildir and `users` users; in a folder that it was in before, with the mail of then."""
    if not shutil.which("dovecot"):
        sys.exit("Dovecot is not installed: apt-get install --no-install-recommends dovecot-imapd")
    folder.mkdir(parents=True, exist_ok=True)
    for parent in (folder, *folder.parents):
        if not os.stat(parent).st_mode & 0o001:
            sys.exit(f"Dovecot's own users cannot enter {parent}; give another --work folder.")
    port, tls_port = free_ports(2)
    cert, key = certificate(folder)
    owner = "mail" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    names = ["alice@example.test", *(f"u{n}@example.test" for n in range(1, users + 1))]
    (folder / "users").write_text("".join(f"{name}:{PASSWORD}\n" for name in names))
    (folder / "mail").mkdir(exist_ok=True)
    shutil.chown(folder / "mail", owner, owner)
    (folder / "users").chmod(0o644)
    config = folder / "dovecot.conf"
    config.write_text(DOVECOT.format(d=folder, cert=cert, key=key, user=owner, port=port, tls_port=tls_port))
    process = subprocess.Popen(["dovecot", "-F", "-c", config], start_new_session=True)
    try:
        wait_for_port(port, process)
        yield Server("dovecot", port, tls_port, process.pid, "alice@example.test", "u%d@example.test", folder)
    finally:
        end(process)


def _environment() -> dict[str, str]:
    """As an installation has it: where Python may not keep what it compiled, every process compiles all anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def wait_until_quiet(pid: int, seconds: float = 60) -> None:
    """Returns when the processes that were just started have nothing left to do: it would count as the first row's."""
    end, before = time.monotonic() + seconds, cpu_seconds(pid)
    while time.monotonic() < end:
        time.sleep(1)
        now = cpu_seconds(pid)
        if now - before < 0.05:
            return
        before = now


@contextlib.contextmanager
def cleanmail(
    folder: Path, users: int, *, plain: bool = True, app_passwords: Path | None = None, main_passwords: int = 0
) -> Iterator[Server]:
    """Cleanmail as `scripts/serve` starts it, with `users` more accounts; `plain` takes passwords without TLS.

    In a folder that it was in before, with the mail of then. With `app_passwords` the accounts are many, and have
    nothing but what is written to this table (`many_accounts.py`); `main_passwords` of them have the benchmark's too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with free_offset() as offset:
        data = folder / "data"
        known = (folder / "accounts.csv").exists()
        with (folder / "serve.log").open("wb") as log:
            process = subprocess.Popen(
                [ROOT / "scripts" / "serve", "--data", data, "--port-offset", str(offset), "--demo-password", PASSWORD,
                 *(["--plain"] if plain else [])],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=_environment(),
            )  # fmt: skip
        try:
            wait_for_port(offset + 143, process, 300)
            if app_passwords is not None:
                provision_many(data, users, app_passwords, main_passwords)
            elif not known:
                provision(data, [f"u{n}@example.test" for n in range(1, users + 1)])
            yield Server(
                "cleanmail", offset + 143, offset + 993, process.pid, "alice@example.test", "u%d@example.test", data
            )
        finally:
            end(process)


POSTFIX = """\
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
relay_domains = {relayed}, {parked}
transport_maps = inline:{{ {relayed}=smtp:[127.0.0.1]:{sink}, {parked}=parked:[127.0.0.1]:{sink} }}
defer_transports = parked
virtual_mailbox_domains = {kept}
virtual_mailbox_base = {d}/mail
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
message_size_limit = 60000000
virtual_mailbox_limit = 0
in_flow_delay = 0
"""


@dataclass(frozen=True, slots=True)
class MailServer:
    """An SMTP server that takes mail for RELAYED (to the sink), PARKED (nobody takes it) and KEPT (its mailboxes)."""

    name: str
    port: int
    pid: int
    folder: Path


@contextlib.contextmanager
def sink(port: int) -> Iterator[None]:
    """Postfix's smtp-sink, which takes everything and keeps nothing."""
    process = subprocess.Popen(
        ["smtp-sink", *(["-u", "nobody"] if os.geteuid() == 0 else []), f"127.0.0.1:{port}", "1000"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for_port(port, process)
        yield
    finally:
        end(process)


@contextlib.contextmanager
def postfix(folder: Path, sink_port: int) -> Iterator[MailServer]:
    """Debian's Postfix. It wants to be started by root."""
    if not shutil.which("postfix"):
        sys.exit("Postfix is not installed: apt-get install --no-install-recommends postfix")
    if os.geteuid():
        sys.exit("Postfix has to be started by root; run this as root, or with --only cleanmail.")
    folder.mkdir(parents=True)
    for name, owner in (("queue", "root"), ("data", "postfix"), ("mail", "mail")):
        (folder / name).mkdir()
        shutil.chown(folder / name, owner)
    [port] = free_ports(1)
    mail = pwd.getpwnam("mail")
    mailboxes = ", ".join(f"u{n}@{KEPT}=u{n}/" for n in range(MAILBOXES))
    places = {"d": folder, "sink": sink_port, "uid": mail.pw_uid, "gid": mail.pw_gid, "mailboxes": mailboxes}
    domains = {"relayed": RELAYED, "parked": PARKED, "kept": KEPT}
    (folder / "main.cf").write_text(POSTFIX.format(**places, **domains))
    services = Path("/usr/share/postfix/master.cf.dist").read_text()
    services = services.replace("\nsmtp      inet  n ", f"\n127.0.0.1:{port} inet n ").replace(
        " y       -  ", " n       -  "
    )
    (folder / "master.cf").write_text(f"{services}\nparked unix - - n - - smtp\n")
    subprocess.run(["postfix", "-c", folder, "check"], check=True, capture_output=True)
    process = subprocess.Popen(["postfix", "-c", folder, "start-fg"], stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for_port(port, process)
        yield MailServer("postfix", port, process.pid, folder)
    finally:
        subprocess.run(["postfix", "-c", folder, "stop"], check=False, capture_output=True)
        end(process)


@contextlib.contextmanager
def mail_server(folder: Path) -> Iterator[MailServer]:
    """Cleanmail with its MX, as `scripts/serve` starts it."""
    with cleanmail(folder, 0) as server:
        yield MailServer("cleanmail", server.port - 143 + 25, server.pid, server.folder)


def provision(data: Path, addresses: list[str]) -> None:
    """Accounts with the benchmark's password in the demo tenant."""
    table = data.with_name("accounts.csv")
    table.write_text("address,password\n" + "".join(f"{address},{PASSWORD}\n" for address in addresses))
    python = Path(cleanmail_command()).with_name("python")
    done = subprocess.run(
        [python, ROOT / "scripts" / "provision_csv.py", "--data", data, "--tenant", "example", table],
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"The accounts could not be made: {done.stderr.strip()}")


def provision_many(data: Path, count: int, table: Path, main_passwords: int = 0) -> None:
    """As many accounts of the demo tenant at least, each with a line `address TAB app password` in `table`.

    The first `main_passwords` of them have the benchmark's password, too.
    """
    python = Path(cleanmail_command()).with_name("python")
    script = Path(__file__).with_name("many_accounts.py")
    # -P: or Python would take the queue.py that is here for its own.
    command: list[str | Path] = [python, "-P", script, "--data", data, "--count", str(count), "--table", table]
    if main_passwords:
        command += ["--main-passwords", str(main_passwords), "--password", PASSWORD]
    if subprocess.run(command, check=False).returncode:
        sys.exit("The accounts could not be made.")


def administer(data: Path, *command: str, stdin: str = "") -> str:
    """Runs `cleanmail` on the running installation; its output."""
    done = subprocess.run(
        [cleanmail_command(), "--data", str(data), *command],
        input=stdin, text=True, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"cleanmail {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def cleanmail_command() -> str:
    """The installed command of this checkout's environment, else the one on PATH."""
    for candidate in (ROOT / ".venv" / "bin" / "cleanmail", Path(sys.executable).with_name("cleanmail")):
        if candidate.exists():
            return str(candidate)
    return "cleanmail"


@contextlib.contextmanager
def free_offset() -> Iterator[int]:
    """A port offset whose IMAP, IMAPS and submission ports are free.

    Meanwhile no other benchmark of this machine is given it: both would speak with the server that listens first, and
    each would find the other's mailboxes.
    """
    for offset in range(21000, 60000, 1000):
        with socket.socket(socket.AF_UNIX) as claim:
            try:
                claim.bind(f"\0cleanmail-bench-{offset}")  # the kernel forgets the name with the process
                for port in (143, 993, 587, 465, 25, 443):
                    socket.create_server(("127.0.0.1", offset + port)).close()
            except OSError:
                continue
            yield offset
            return
    sys.exit("No free range of ports was found on 127.0.0.1.")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a server and everything that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

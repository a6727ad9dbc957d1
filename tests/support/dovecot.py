"""Debian's Dovecot (packages dovecot-core and dovecot-imapd) with a folder of its own on loopback: another provider.

    with Dovecot(directory, ["ada"]) as dovecot:
        dovecot.port, dovecot.tls   # plain with STARTTLS, and TLS from the first octet
        with dovecot.client("ada") as client: ...   # IMAPClient, signed in
        dovecot.fill("ada", "INBOX", messages)      # straight into its Maildir, thousands in a second

Users sign in with PASSWORD; `boss`, a master user, with MASTER_PASSWORD as anybody. `missing()` says why it cannot be
used here.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from certificates import write_certificate
from imapclient import IMAPClient
from postfix import end, free_ports, wait_for_port

PASSWORD, MASTER, MASTER_PASSWORD = "geheim-Ü1", "boss", "master-secret"

CONFIG = """\
base_dir = {d}/run
state_dir = {d}/state
log_path = {d}/dovecot.log
listen = 127.0.0.1
protocols = imap
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_master_user_separator = *
mail_location = maildir:{d}/mail/%u:LAYOUT={layout}
mail_uid = {user}
mail_gid = {user}
mail_privileged_group =
first_valid_uid = 1
default_internal_user = {internal}
default_login_user = {login}
default_vsz_limit = 512M
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {d}/masters
  master = yes
}}
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
  separator = {separator}
  prefix = {prefix}
  mailbox Papierkorb {{
    special_use = \\Trash
  }}
  mailbox Gesendet {{
    special_use = \\Sent
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls}
    ssl = yes
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
  chroot =
}}
service stats {{
  chroot =
}}
"""


def missing() -> str:
    """Why Dovecot cannot be used here; empty if it can."""
    if not shutil.which("dovecot"):
        return "Dovecot is not installed: apt-get install --no-install-recommends dovecot-imapd"
    return ""


class Dovecot:
    def __init__(self, users: Iterable[str], *, separator: str = ".", prefix: str = "") -> None:
        # Not below pytest's folder: only its owner may enter that, and Dovecot has users of its own.
        self.folder = Path(tempfile.mkdtemp(prefix="dovecot-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.port, self.tls = free_ports(2)
        self.certificate, key = write_certificate(self.folder / "tls")
        root = os.geteuid() == 0
        me = pwd.getpwuid(os.geteuid()).pw_name
        self._owner = "mail" if root else me
        (self.folder / "users").write_text("".join(f"{user}:{PASSWORD}\n" for user in users))
        (self.folder / "masters").write_text(f"{MASTER}:{MASTER_PASSWORD}\n")
        (self.folder / "mail").mkdir()
        shutil.chown(self.folder / "mail", self._owner, self._owner)
        self._config = self.folder / "dovecot.conf"
        self._config.write_text(
            CONFIG.format(
                d=self.folder,
                cert=self.certificate,
                key=key,
                user=self._owner,
                port=self.port,
                tls=self.tls,
                layout="fs" if separator == "/" else "maildir++",
                separator=separator,
                prefix=prefix,
                internal="dovecot" if root else me,
                login="dovenull" if root else me,
            )
        )

    def __enter__(self) -> Dovecot:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                ["dovecot", "-F", "-c", self._config], start_new_session=True, stdout=output, stderr=output
            )
        wait_for_port(self.port, self._process)

    def stop(self) -> None:
        end(self._process)

    def client(self, user: str) -> IMAPClient:
        client = IMAPClient("127.0.0.1", self.port, ssl=False, timeout=30)
        client.plain_login(user, PASSWORD)
        return client

    def fill(self, user: str, messages: Iterable[bytes], *, name: str = "", since: int = 1_700_000_000) -> None:
        """Into its INBOX, or the Maildir++ folder `name`; a second between two dates, each second one \\Seen."""
        root = self.folder / "mail" / user
        maildir = root / f".{name}" if name else root
        for each in ("cur", "new", "tmp"):
            (maildir / each).mkdir(parents=True, exist_ok=True)
        if name:
            (maildir / "maildirfolder").touch()
        for number, message in enumerate(messages):
            text = message.replace(b"\r\n", b"\n")
            file = maildir / "cur" / f"{since + number}.M{number}P1.host,S={len(text)}:2,{'S' if number % 2 else ''}"
            file.write_bytes(text)
            os.utime(file, (since + number, since + number))
        for path in (root, *root.rglob("*")):
            shutil.chown(path, self._owner, self._owner)

    @property
    def log(self) -> str:
        path = self.folder / "dovecot.log"
        return path.read_text() if path.exists() else ""


def letter(number: int, octets: int = 300) -> bytes:
    head = (
        f"From: s{number % 7}@elsewhere.test\r\nTo: ada@old.test\r\nSubject: token-{number}\r\n"
        f"Date: Tue, 1 Jul 2025 12:{number % 60:02}:00 +0000\r\nMessage-ID: <{number}@elsewhere.test>\r\n\r\n"
    )
    return (head + f"{number} " * (max(0, octets - len(head)) // (len(str(number)) + 1)) + "\r\n").encode()

#!/usr/bin/env python3
"""Shows how fast an account moves in from Debian's Dovecot: messages and megabytes a second.

    scripts/bench/migrate.py [--messages 10000] [--from MAIL] [--work DIR] [--json]

--from takes real mail, whatever `cleanmail import` reads (its messages are repeated up to --messages); otherwise
messages of about 5 kB are made up. Rows: the first pull over TLS, a second one when nothing is new, and the peer in the
same run: isync's mbsync, which pulls the same account into a Maildir (neither encrypted, nor indexed, nor counted).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from archive import made_up
from peers import PASSWORD, dovecot

from hosting.migration.account import migrate
from hosting.migration.run import Orders
from hosting.migration.source import Login, Source
from storage.archives.archive import Found
from storage.clock import SystemClock
from storage.directory.provisioning import Provisioning
from storage.importing import open_archive
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.values import Domain, EmailAddress

CLOCK = SystemClock()
USER = "alice@example.test"
MBSYNC = """\
IMAPAccount there
Host localhost
Port {port}
User {user}
PassCmd "cat {password}"
SSLType IMAPS
CertificateFile {ca}
AuthMechs PLAIN

IMAPStore there
Account there

MaildirStore here
Path {target}/
Inbox {target}/INBOX
SubFolders Verbatim

Channel all
Far :there:
Near :here:
Patterns *
Create Near
Sync Pull
SyncState *
CopyArrivalDate yes
"""


def messages(count: int, source: Path | None) -> Iterator[bytes]:
    if source is None:
        yield from (made_up(number) for number in range(count))
        return
    real = [found.octets for found in open_archive(source).messages() if isinstance(found, Found)]
    yield from islice(cycle(real), count)


def fill(maildir: Path, found: Iterator[bytes]) -> tuple[int, int]:
    for each in ("cur", "new", "tmp"):
        (maildir / each).mkdir(parents=True, exist_ok=True)
    count = octets = 0
    for count, message in enumerate(found, start=1):
        text = message.replace(b"\r\n", b"\n")
        octets += len(text)
        (maildir / "cur" / f"{1_700_000_000 + count}.M{count}P1.bench:2,S").write_bytes(text)
    owner = "mail" if os.geteuid() == 0 else None
    for path in (maildir, *maildir.rglob("*")):
        if owner:
            shutil.chown(path, owner, owner)
    return count, octets


def ours(work: Path, port: int) -> list[tuple[str, float]]:
    keys = LocalKeys(KeyStore.create(work / "data" / "keys", Master.generate(), CLOCK))
    Installation.create(work / "data", keys, CLOCK)
    installation = Installation(work / "data", keys, CLOCK)
    try:
        provisioning = Provisioning(installation)
        tenant = provisioning.create_tenant("bench", "Bench").tenant_id
        installation.control.add_domain(tenant, Domain.parse("bench.test"))
        whose = provisioning.create_account(tenant, EmailAddress.parse("a@bench.test")).account_id
        source = Source("127.0.0.1", port, verify=False)
        rows = []
        for name in ("first pull", "nothing new"):
            started = time.perf_counter()
            with installation.account(tenant, whose) as account:
                report = migrate(account, source, Login(USER, lambda: PASSWORD), Orders(), run=work / "data" / "run")
            rows.append((name, time.perf_counter() - started))
            if not report.is_complete:
                sys.exit(f"The move was not complete: {report.values()}")
        return rows
    finally:
        installation.close()


def mbsync(work: Path, port: int, ca: Path) -> list[tuple[str, float]]:
    if not shutil.which("mbsync"):
        print("  no peer: mbsync is not installed (apt-get install isync)", file=sys.stderr)
        return []
    target = work / "mbsync"
    target.mkdir()
    (work / "password").write_text(PASSWORD)
    config = work / "mbsyncrc"
    config.write_text(MBSYNC.format(port=port, user=USER, password=work / "password", ca=ca, target=target))
    rows = []
    for name in ("peer: mbsync, first", "peer: mbsync, nothing new"):
        started = time.perf_counter()
        done = subprocess.run(["mbsync", "-q", "-c", config, "all"], check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"mbsync: {done.stderr[-500:]}")
        rows.append((name, time.perf_counter() - started))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--from", dest="source", type=Path, help="an mbox file, a Maildir or a folder of messages")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="cleanmail-migrate-", dir=a.work))
    work.chmod(0o755)
    try:
        with dovecot(work / "dovecot", 0) as server:
            count, octets = fill(work / "dovecot" / "mail" / USER, messages(a.messages, a.source))
            subprocess.run(["sync"], check=True)
            peers = mbsync(work, server.tls_port, work / "dovecot" / "cert.pem")  # first: it warms Dovecot's index
            rows = [*ours(work, server.tls_port), *peers]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    peer = {name.rpartition(", ")[2]: seconds for name, seconds in peers}
    values = [
        {
            "row": name,
            "seconds": seconds,
            "messages_per_second": count / seconds,
            "megabytes_per_second": octets / 1e6 / seconds,
            "times_peer": peer["first" if "first" in name else "nothing new"] / seconds if peer else None,
        }
        for name, seconds in rows
    ]
    if a.json:
        print(json.dumps({"messages": count, "octets": octets, "rows": values}))
        return
    print(f"{count:,} messages, {octets / 1e6:.1f} MB")
    print(f"{'':28}{'seconds':>9}{'messages/s':>12}{'MB/s':>8}{'x mbsync':>10}")
    for value in values:
        times = f"{value['times_peer']:>10.2f}" if value["times_peer"] else f"{'-':>10}"
        print(
            f"{value['row']:28}{value['seconds']:>9.2f}{value['messages_per_second']:>12,.0f}"
            f"{value['megabytes_per_second']:>8.1f}{times}"
        )


if __name__ == "__main__":
    main()

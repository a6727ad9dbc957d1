#!/usr/bin/env python3
"""Shows how fast an account is taken along and comes back: messages and megabytes a second, in one process.

    scripts/bench/archive.py [--messages 5000] [--from MAIL] [--rounds 2] [--work DIR] [--json]

A real account on a real disk: encrypted message files, a database with search rows. --from takes real mail, whatever
`cleanmail import` reads; otherwise messages of about 5 kB are made up. Rows, the best round of several: export as a
Maildir and as mbox files, an update when nothing changed, verifying, and importing what was exported into an empty
account. Peers in the same run, on the same messages: Python's mailbox.Maildir reading one Maildir and adding to
another, which parses each message and brings each to the disk by itself; and `cp -r` with one `sync`, the least that
moving the octets costs. Neither hashes anything, keeps an index, or encrypts.
"""

from __future__ import annotations

import argparse
import json
import mailbox
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storage.clock import SystemClock
from storage.directory.provisioning import Provisioning
from storage.export.account import export_account
from storage.export.restore import restore_archive
from storage.export.verify import verify_archive
from storage.importing import import_archive, open_archive
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.mail.messages import NewMessage
from storage.values import AccountId, Domain, EmailAddress, TenantId

CLOCK = SystemClock()
WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "for",
    "is",
    "on",
    "that",
    "by",
    "this",
    "with",
    "you",
    "it",
    "not",
    "or",
    "be",
)


class Row(NamedTuple):
    name: str
    seconds: float
    cpu: float


class Bench:
    def __init__(self, work: Path, messages: int, source: Path | None, rounds: int) -> None:
        self._work = work
        self._rounds = rounds
        keys = LocalKeys(KeyStore.create(work / "data" / "keys", Master.generate(), CLOCK))
        Installation.create(work / "data", keys, CLOCK)
        self._installation = Installation(work / "data", keys, CLOCK)
        self._provisioning = Provisioning(self._installation)
        self._tenant: TenantId = self._provisioning.create_tenant("bench", "Bench").tenant_id
        self._installation.control.add_domain(self._tenant, Domain.parse("bench.test"))
        self._number = 0
        self._account = self._new_account()
        with self._installation.account(self._tenant, self._account) as account:
            if source is not None:
                import_archive(account, open_archive(source))
            else:
                inbox = account.mailboxes.find("INBOX").id
                for first in range(0, messages, 200):
                    new = [NewMessage(made_up(n)) for n in range(first, min(first + 200, messages))]
                    account.messages.append_many(inbox, new, many=True)
            usage = account.usage()
        self.messages, self.octets = usage.messages, usage.bytes

    def close(self) -> None:
        self._installation.close()

    def _new_account(self) -> AccountId:
        self._number += 1
        address = EmailAddress.parse(f"u{self._number}@bench.test")
        return self._provisioning.create_account(self._tenant, address).account_id

    def rows(self) -> list[Row]:
        maildir, mbox = self._work / "maildir", self._work / "mbox"
        installation, tenant, account = self._installation, self._tenant, self._account
        return [
            self._best("export, Maildir", lambda: export_account(installation, tenant, account, maildir), maildir),
            self._best("export, mbox", lambda: export_account(installation, tenant, account, mbox, "mbox"), mbox),
            self._best(
                "update, nothing new", lambda: export_account(installation, tenant, account, maildir, update=True)
            ),
            self._best("verify", lambda: verify_archive(maildir)),
            self._best("import", lambda: restore_archive(installation, tenant, self._new_account(), maildir)),
            self._best("peer: mailbox.Maildir", self._peer_maildir, self._work / "peer"),
            self._best("peer: cp -r, sync", self._peer_cp, self._work / "copy"),
        ]

    def _best(self, name: str, step: Callable[[], object], target: Path | None = None) -> Row:
        """The best of several; `target` is made anew by each."""
        found = []
        for _ in range(self._rounds):
            if target is not None:
                shutil.rmtree(target, ignore_errors=True)
            os.sync()
            started, cpu = time.perf_counter(), time.process_time()
            step()
            found.append(Row(name, time.perf_counter() - started, time.process_time() - cpu))
            print(f"  {name}: {found[-1].seconds:.2f} s", file=sys.stderr)
        return min(found, key=lambda row: row.seconds)

    def _peer_maildir(self) -> None:
        source, target = self._work / "maildir" / "Maildir", self._work / "peer"
        boxes = [(mailbox.Maildir(source), mailbox.Maildir(target))]
        boxes += [(boxes[0][0].get_folder(name), boxes[0][1].add_folder(name)) for name in boxes[0][0].list_folders()]
        for one, other in boxes:
            for key in one.iterkeys():
                other.add(one.get_message(key))

    def _peer_cp(self) -> None:
        subprocess.run(["cp", "-r", self._work / "maildir" / "Maildir", self._work / "copy"], check=True)
        os.sync()


def made_up(number: int) -> bytes:
    """A message of about 5 kB whose text is no other's."""
    generator = random.Random(number)
    lines = [" ".join(generator.choices(WORDS, k=12)) for _ in range(70)]
    head = (
        f"Received: from mx{number}.example.test by bench.test; Tue, 1 Jul 2025 12:00:00 +0000\r\n"
        f"From: Somebody <s{number % 50}@example.test>\r\nTo: u1@bench.test\r\nSubject: {lines[0]}\r\n"
        f"Date: Tue, 1 Jul 2025 12:00:00 +0000\r\nMessage-ID: <{number}@example.test>\r\n"
    )
    return (head + "\r\n" + "\r\n".join(lines) + "\r\n").encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--from", dest="source", type=Path, help="an mbox file, a Maildir or a folder of messages")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="cleanmail-archive-", dir=a.work))
    try:
        bench = Bench(work, a.messages, a.source, a.rounds)
        try:
            rows = bench.rows()
        finally:
            bench.close()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    peer = next(row.seconds for row in rows if row.name.startswith("peer: mailbox"))
    values = [
        {
            "row": row.name,
            "messages_per_second": bench.messages / row.seconds,
            "megabytes_per_second": bench.octets / 1e6 / row.seconds,
            "cpu_seconds": row.cpu,
            "times_peer": peer / row.seconds,
        }
        for row in rows
    ]
    if a.json:
        print(json.dumps({"messages": bench.messages, "octets": bench.octets, "rows": values}))
        return
    print(f"{bench.messages:,} messages, {bench.octets / 1e6:.1f} MB")
    print(f"{'':24}{'messages/s':>12}{'MB/s':>8}{'CPU s':>8}{'x mailbox.Maildir':>20}")
    for value in values:
        print(
            f"{value['row']:24}{value['messages_per_second']:>12,.0f}{value['megabytes_per_second']:>8.1f}"
            f"{value['cpu_seconds']:>8.2f}{value['times_peer']:>20.2f}"
        )


if __name__ == "__main__":
    main()

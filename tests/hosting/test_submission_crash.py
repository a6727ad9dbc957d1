"""Killed at any step of taking a message: what was acknowledged is there once, and nothing is there twice."""

from __future__ import annotations

import signal
import sys
import textwrap
from pathlib import Path

import pytest
from command_host import run_in_fork
from pending import deliver_pending
from submission_town import HOSTNAME, SubmissionTown
from whole_server import environment

from gateway.smtp.address import ForwardPath, ReversePath
from hosting.submission.acceptance import Envelope
from storage.values import EmailAddress

ONE_MAILBOX = ["bob@example.test"]
MANY = ["bob@example.test", "team@example.test", "mallory@other.test", "x@far.example"]
# How many calls of open, write, fsync, rename … there are until the kill: spread over three messages.
KILLS = [(ONE_MAILBOX, step) for step in (0, 2, 5, 8, 10, 12, 14, 16, 19, 22, 24, 28)]
KILLS += [(MANY, step) for step in (0, 4, 9, 15, 21, 28, 35, 42, 49, 56, 60, 70, 85, 101, 125)]
MESSAGE = b"From: alice@example.test\r\nSubject: %d\r\n\r\nbody\r\n"

SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    sys.path[:0] = {path!r}
    from gateway.smtp.address import ForwardPath, ReversePath
    from hosting.auth.signin import Principal
    from hosting.submission.acceptance import Acceptance, Envelope
    from storage.clock import SystemClock
    from storage.directory.resolve import Resolver
    from storage.installation import Installation
    from storage.keys.keystore import KeyStore
    from storage.keys.master import read_master_file
    from storage.keys.source import LocalKeys
    from storage.values import EmailAddress
    data = Path({data!r})
    clock = SystemClock()
    keys = LocalKeys(KeyStore(data / "keys", read_master_file(data / "master"), clock))
    installation = Installation(data, keys, clock)
    resolver = Resolver(installation)
    acceptance = Acceptance(installation, resolver, clock, {hostname!r})
    recipients = [ForwardPath(EmailAddress.parse(text)) for text in {recipients!r}]
    envelope = Envelope(
        Principal({tenant}, {account}, "alice@example.test", "password", 1, 1, 0, 0),
        "ESMTPSA",
        ReversePath(EmailAddress.parse("alice@example.test")),
        [(path, resolver.resolve(path.address)) for path in recipients],
    )
    left = {step}
    def counting(function):
        def call(*arguments, **named):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)
        return call
    for name in ("fsync", "write", "open", "close", "rename", "replace", "unlink", "link"):
        setattr(os, name, counting(getattr(os, name)))
    for number in range(3):
        acceptance.accept(envelope, {message!r} % number)
        sys.stdout.write(f"{{number}}\\n"); sys.stdout.flush()
    os._exit(0)
"""


@pytest.mark.parametrize(("recipients", "step"), KILLS)
def test_killed_at_any_step(tmp_path: Path, recipients: list[str], step: int) -> None:
    town = SubmissionTown(tmp_path)
    tenant_id, account_id = town.accounts["alice"]
    try:
        script = textwrap.dedent(SCRIPT).format(
            path=sys.path,
            data=str(tmp_path),
            hostname=HOSTNAME,
            recipients=recipients,
            tenant=tenant_id,
            account=account_id,
            step=step,
            message=MESSAGE,
        )
        run = run_in_fork("python", [script], environment())
        assert run.returncode in {0, -signal.SIGKILL}, run.stderr
        acknowledged = [f"Subject: {number}".encode() for number in run.stdout.split()]
        town.clock.advance(10**10)
        deliver_pending(town.installation)
        expected = {"bob": True, "alice": "team@example.test" in recipients}
        expected["mallory"] = "mallory@other.test" in recipients
        for name, gets_it in expected.items():
            subjects = [
                line for message in town.inbox(name) for line in message.split(b"\r\n") if line.startswith(b"Subject: ")
            ]
            assert len(subjects) == len(set(subjects))
            if gets_it:
                assert subjects[: len(acknowledged)] == acknowledged
        if "x@far.example" in recipients:
            queue = town.installation.queue
            contents = [queue.content(queue.show(summary.queue_id)) for summary in queue.entries()]
            for subject in acknowledged:
                assert sum(subject in content for content in contents) == 1
    finally:
        town.close()


def test_delivery_may_be_repeated(tmp_path: Path) -> None:
    town = SubmissionTown(tmp_path)
    try:
        paths = [ForwardPath(EmailAddress.parse(text)) for text in ("bob@example.test", "x@far.example")]
        sender = ReversePath(EmailAddress.parse("alice@example.test"))
        resolved = [(path, town.resolver.resolve(path.address)) for path in paths]
        town.acceptance().accept(Envelope(town.principal("alice"), "ESMTPSA", sender, resolved), MESSAGE % 1)
        [summary] = town.installation.queue.entries()
        entry = town.installation.queue.show(summary.queue_id)
        assert entry.recipients[0].state == "delivered"
        deliver_pending(town.installation)
        assert len(town.inbox("bob")) == 1
    finally:
        town.close()

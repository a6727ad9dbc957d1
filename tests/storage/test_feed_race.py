"""Two processes: what one commits while the other begins to watch is told, or found by looking, or both."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from storage.changes import Change, Gap, Subscriber
from storage.clock import SystemClock
from storage.values import AccountId, MailboxId, ModSeq

ACCOUNT = AccountId(77)
ROUNDS = 300

PUBLISHER = """
import os, random, sys, time
from pathlib import Path
from storage.changes import Change, Publisher
from storage.clock import SystemClock
from storage.values import AccountId, MailboxId, ModSeq

data, rounds = Path(sys.argv[1]), int(sys.argv[2])
committed = os.open(data / "committed", os.O_RDWR)
publisher, chance = Publisher(data, SystemClock()), random.Random(1)
for number in range(1, rounds + 1):
    os.read(0, 1)
    until = time.perf_counter() + chance.random() * 1e-4
    while time.perf_counter() < until:
        pass
    os.pwrite(committed, number.to_bytes(8), 0)
    publisher.publish(Change(AccountId(77), MailboxId(1), ModSeq(number)))
    os.write(1, b".")
publisher.close()
"""


def pause(chance: random.Random) -> None:
    """Up to a tenth of a millisecond, which no sleep is short enough for."""
    until = time.perf_counter() + chance.random() * 1e-4
    while time.perf_counter() < until:
        pass


def test_nothing_is_missed_between_looking_and_watching(tmp_path: Path) -> None:
    committed = os.open(tmp_path / "committed", os.O_RDWR | os.O_CREAT, 0o600)
    subscriber = Subscriber(tmp_path, SystemClock(), only_watched=True)
    command = [sys.executable, "-c", PUBLISHER, str(tmp_path), str(ROUNDS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    chance, watching, known = random.Random(2), False, 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment) as other:
        assert other.stdin is not None and other.stdout is not None
        for number in range(1, ROUNDS + 1):
            if watching and chance.random() < 0.5:
                subscriber.unwatch(ACCOUNT)
                watching = False
            other.stdin.write(b".")
            pause(chance)
            if not watching:
                subscriber.watch(ACCOUNT)
                watching = True
                pause(chance)
                known = int.from_bytes(os.pread(committed, 8, 0))
            assert other.stdout.read(1) == b"."
            news = subscriber.drain()
            assert Gap() not in news
            told = [change for change in news if isinstance(change, Change)]
            assert all(change == Change(ACCOUNT, MailboxId(1), ModSeq(number)) for change in told)
            assert told or known == number, "neither told nor found"
    subscriber.close()
    os.close(committed)

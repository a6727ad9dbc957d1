#!/usr/bin/env python3
"""Measures whether one client of the IMAP server holds up another: what NOOP takes beside each kind of long command.

    scripts/bench/imap_fairness.py [--messages 200000] [--mailboxes 5000] [--seconds 10] [--work DIR] [--json]

One client works: it fetches, searches, sorts, threads, stores, copies, lists or selects, again and again for so many
seconds, in a mailbox of so many messages and beside so many mailboxes. Others, at least one of them in each worker,
look for news every few milliseconds. Prints what NOOP took when nobody worked, and beside each command: median, p99,
p99.9, the longest, and how many were above 20 ms; at the end all of them together. What NOOP takes beside nothing says
how much of that is the machine's. With --work the mailboxes are kept there and used again by the next run, also by one
that wants more messages.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import imap_rows
import peers
from imap import SHARED, unpacked
from imap_wire import Imap

_OTHERS = 6  # connections that look for news: with two workers all in one in 1 of 32 runs
_PAUSE = 0.003  # seconds between two looks
_FIRST = 500  # messages that are appended; the rest are copies, which are rows of their own
_COPIED = 20_000  # … by one command
_TARGET = b"copies"
_LISTENERS = 2  # connections that are told of what the one that works changes
_LIMIT = 20.0  # milliseconds that a NOOP may take
_AHEAD = 50  # commands that are sent before their answers are read


TOLD = "STORE of all, others told"


def commands(messages: int) -> dict[str, list[bytes]]:
    """Each long command; what has several is repeated in turn."""
    half = messages // 2
    return {
        "nothing": [],
        "FETCH of all flags": [b"UID FETCH 1:* (FLAGS)"],
        "FETCH of all headers": [b"UID FETCH 1:* " + imap_rows.THUNDERBIRD],
        "FETCH of envelopes": [b"UID FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE)"],
        "FETCH of bodies": [b"FETCH 1:10000 (UID BODY.PEEK[])"],
        "SEARCH of flags": [b"UID SEARCH UNSEEN NOT FLAGGED"],
        "SEARCH by size and date": [b"UID SEARCH LARGER 3000 SINCE 1-Jan-2002"],
        "SEARCH of text, index": [b'UID SEARCH TEXT "linux kernel"'],
        "SEARCH of text, no index": [b'UID SEARCH 1:20000 HEADER X-Mailer "ab"'],
        "SORT by date": [b"UID SORT (REVERSE DATE) UTF-8 ALL"],
        "SORT by subject": [b"UID SORT (SUBJECT) UTF-8 ALL"],
        "THREAD": [b"UID THREAD REFERENCES UTF-8 ALL"],
        "STORE of all": [b"UID STORE 1:* +FLAGS.SILENT (\\Flagged)", b"UID STORE 1:* -FLAGS.SILENT (\\Flagged)"],
        "COPY of many": [b"COPY 1:%d %b" % (min(half, _COPIED), _TARGET)],
        "LIST": [b'LIST "" "*"', b'LIST "" "*" RETURN (STATUS (MESSAGES UNSEEN))'],
        "SELECT": [b"SELECT bench", b"SELECT INBOX"],
        "SEARCH, saved and in part": [
            b"UID SEARCH RETURN (SAVE COUNT) LARGER 3000",
            b"UID SEARCH RETURN (PARTIAL -1:-100) $ UNSEEN",
        ],
        "FETCH of what changed": [b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)"],
        TOLD: [b"UID STORE 1:* +FLAGS.SILENT (\\Answered)", b"UID STORE 1:* -FLAGS.SILENT (\\Answered)"],
        "MOVE of many": [
            b"MOVE 1:%d %b" % (min(half, _COPIED), _TARGET),
            b"SELECT " + _TARGET,
            b"UID MOVE 1:* bench",
            b"SELECT bench",
        ],
    }


def fill(server: peers.Server, a: argparse.Namespace) -> None:
    """The mailbox `bench` and the other mailboxes, as far as they are not there yet."""
    box = Imap(server, tls=False)
    listed = set(re.findall(rb'"/" "?([^"\r]+)', box.command(b'LIST "" "*"')))
    if b"bench" not in listed:
        box.command(b"CREATE bench")
    have = held(box, b"bench")
    if have < _FIRST:
        texts = imap_rows.corpus(a.corpus, _FIRST)
        for at in range(have, len(texts), 50):
            box.append(b"bench", texts[at : at + 50])
        have = held(box, b"bench")
    box.command(b"SELECT bench")
    while have < a.messages:
        more = min(have, a.messages - have, _COPIED)
        box.command(b"COPY 1:%d bench" % more)
        have += more
        print(f"\r  {have:,} messages", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    names = [b"many/%05d" % number for number in range(a.mailboxes)]
    missing = [name for name in (*names, _TARGET) if name not in listed]
    for at in range(0, len(missing), _AHEAD):
        tags = [box.begin(b"CREATE " + name) for name in missing[at : at + _AHEAD]]
        box.drain(tags[-1])
    box.close()


def held(box: Imap, mailbox: bytes) -> int:
    """How many messages are in it."""
    found = re.search(rb"MESSAGES (\d+)", box.command(b"STATUS %b (MESSAGES)" % mailbox))
    return int(found[1]) if found else 0


def beside(
    server: peers.Server, long: list[bytes], seconds: float, *, tls: bool, told: bool = False
) -> tuple[list[float], int]:
    """Milliseconds of each NOOP while `long` is carried out again and again, and how often it was.

    `told`: others have the mailbox open, and ask for news after each command.
    """
    others = [Imap(server, tls=tls) for _ in range(_OTHERS)]
    for other in others:
        other.command(b"SELECT INBOX")
    worker = Imap(server, tls=tls)
    if long:
        worker.command(b"SELECT bench")
    listeners = [Imap(server, tls=tls) for _ in range(_LISTENERS if told else 0)]
    for listener in listeners:
        listener.command(b"SELECT bench")
    until, finished, done = time.monotonic() + seconds, threading.Event(), 0

    def work() -> None:
        nonlocal done
        while time.monotonic() < until:
            for command in long:
                worker.drain(worker.begin(command))
                done += 1
                for listener in listeners:
                    listener.drain(listener.begin(b"NOOP"))
            if not long:
                time.sleep(0.1)
        finished.set()

    thread = threading.Thread(target=work)
    thread.start()
    taken: list[float] = []
    while not finished.is_set():
        for other in others:
            taken.append(other.timed(b"NOOP") * 1e3)
            time.sleep(_PAUSE)
    thread.join()
    for connection in (*others, *listeners, worker):
        connection.close()
    return sorted(taken), done


def measure(server: peers.Server, a: argparse.Namespace) -> Iterator[dict[str, float | str]]:
    together: list[float] = []
    for name, long in commands(a.messages).items():
        if a.only and not any(word in name for word in a.only.split(",")):
            continue
        taken, done = beside(server, long, a.seconds, tls=not a.plain, told=name == TOLD)
        if long:
            together += taken
        yield row(name, taken, done)
        if name in ("COPY of many", "MOVE of many"):
            box = Imap(server, tls=not a.plain)
            box.command(b"DELETE " + _TARGET)
            box.command(b"CREATE " + _TARGET)
            box.close()
    if together:
        yield row("all of them", sorted(together), 0)


def row(name: str, taken: list[float], done: int) -> dict[str, float | str]:
    """`taken` ascends."""
    return {
        "beside": name,
        "median": taken[len(taken) // 2],
        "p99": taken[int(len(taken) * 0.99) - 1],
        "p99.9": taken[int(len(taken) * 0.999) - 1],
        "most": taken[-1],
        "over 20 ms": sum(each > _LIMIT for each in taken),
        "times": len(taken),
        "commands": done,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--mailboxes", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=10, help="for each command")
    parser.add_argument("--only", default="", help="words, parted by commas, of the names of commands to measure")
    parser.add_argument("--plain", action="store_true", help="without TLS")
    parser.add_argument("--work", type=Path, help="a folder that is kept")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--corpus", type=Path, default=SHARED / "corpora" / "spamassassin-public.tar.xz")
    a = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kept = a.work is not None
    a.work = a.work or Path(tempfile.mkdtemp(prefix="cleanmail-bench-"))
    try:
        a.corpus = unpacked(a)
        with peers.cleanmail(a.work / "server", 0) as server:
            fill(server, a)
            for line in measure(server, a):
                if a.json:
                    print(json.dumps(line), flush=True)
                    continue
                print(
                    f"NOOP beside {line['beside']:26}{line['median']:8.2f} ms median{line['p99']:9.2f} p99"
                    f"{line['p99.9']:9.2f} p99.9{line['most']:9.2f} at most{line['over 20 ms']:5} of {line['times']:6}"
                    f" above 20 ms{line['commands']:5} commands",
                    flush=True,
                )
    finally:
        if not kept:
            shutil.rmtree(a.work, ignore_errors=True)


if __name__ == "__main__":
    main()

"""What is measured of one IMAP server: the load generator's scenarios, a server that was just started, its index.

Every row has, beside its figure, the processor time of all processes of the server for one run of its scenario: on a
machine that does other things at the same time that is the number to compare.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import peers
from imap_wire import Imap

Row = dict[str, float | str]

THUNDERBIRD = (
    b"(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date "
    b"Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])"
)
_FILLED_BY_ONE = 10_000  # messages that the load generator appends on one connection; the rest comes in other ways
_BATCH = 50  # messages of one APPEND where the server takes several
_FILLERS = 4
_CATCH_UP = 3600.0  # seconds
_SEARCHES = (
    ("search_to", b'TO "zzzteana"'),
    ("search_bcc", b'BCC "list"'),
    ("search_list_id", b'HEADER List-Id "fork"'),
    ("search_x_mailer", b'HEADER X-Mailer "Outlook"'),
    ("search_in_reply_to", b'HEADER In-Reply-To "<20020822103543.A5580@localhost>"'),
    ("search_from_since", b'FROM "john" SINCE 1-Jan-2020'),
    ("search_unseen_subject", b'UNSEEN SUBJECT "meeting"'),
    ("search_sent_since", b"SENTSINCE 1-Sep-2002"),
)
_WORDS = (b"free", b"perl", b"razor", b"money", b"kernel")
_NAMES = (b"mary", b"peter", b"dave", b"mark", b"paul")
_COLD = (  # in this order on one connection to a server that was just started
    ("cold_select", b"SELECT bench"),
    ("cold_fetch_flags", b"UID FETCH 1:* (FLAGS)"),
    ("cold_thunderbird", b"UID FETCH 1:* " + THUNDERBIRD),
    ("cold_fetch_one", b"FETCH * (BODY.PEEK[])"),
    ("cold_search_unseen", b"UID SEARCH UNSEEN"),
    ("cold_sort", b"UID SORT (REVERSE DATE) UTF-8 ALL"),
)


def sign_in_all(server: peers.Server, a: argparse.Namespace) -> None:
    """Everybody once. A password costs 0.15 s of the processor at first, and nothing while it is remembered.

    Dovecot compares the text that it has in a file; it is not the password scheme that is measured.
    """
    for number in range(1, a.users + 1):
        Imap(server, tls=a.tls, user=server.users % number).close()


def warm(server: peers.Server, a: argparse.Namespace, scenarios: str, messages: int, *more: str) -> Iterator[Row]:
    """Runs the load generator on one server; one row a scenario, as it comes."""
    command = [
        sys.executable, str(a.load_tool), "--name", server.name, "--user", server.user, "--users", server.users,
        "--user-count", str(a.users), "--password", peers.PASSWORD, "--timeout", "3600",
        "--corpus", str(a.corpus), "--messages", str(messages),
        "--pid", str(server.pid), "--scenarios", scenarios, "--repeat", str(a.repeat), "--idle", str(a.idle),
        "--seconds", str(a.seconds),
        "--port", str(server.tls_port if a.tls else server.port), *(["--tls"] if a.tls else []), *more,
    ]  # fmt: skip
    spent = peers.cpu_seconds(server.pid)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            row: Row = json.loads(line)
            now = peers.cpu_seconds(server.pid)
            once = row["scenario"] in ("append_1conn", "mixed", "idle_push_20", "idle_memory")
            yield {**row, "cpu": (now - spent) / (1 if once else a.repeat)}
            spent = now
    if process.returncode:
        print(f"The load generator failed on {server.name}; its rows up to there count.", file=sys.stderr)


def searches(server: peers.Server, a: argparse.Namespace, messages: int) -> Iterator[Row]:
    """Searches that the load generator does not have, as it measures: the median of some runs of one command.

    Where a row has several commands each is asked once: nobody has looked for these words before.
    """
    connection = Imap(server, tls=a.tls)
    connection.command(b"SELECT bench")
    listed = connection.command(b"FETCH 1:%d (BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])" % min(messages, 1000))
    ids = re.findall(rb"(?i)\nmessage-id:\s*(<[^>\s\"]+>)", listed)
    for name, commands in (
        *((name, [command] * a.repeat) for name, command in _SEARCHES),
        ("search_message_id", [b'HEADER Message-ID "%b"' % each for each in ids[:: len(ids) // 5][: a.repeat]]),
        ("search_new_subjects", [b'SUBJECT "%b"' % word for word in _WORDS[: a.repeat]]),
        ("search_new_senders", [b'FROM "%b"' % word for word in _NAMES[: a.repeat]]),
    ):
        spent = peers.cpu_seconds(server.pid)
        seconds = statistics.median([connection.timed(b"UID SEARCH " + command) for command in commands])
        cpu = (peers.cpu_seconds(server.pid) - spent) / len(commands)
        yield {"scenario": name, "n": messages, "seconds": seconds, "rate": messages / seconds, "cpu": cpu}
    connection.close()


def fill(server: peers.Server, a: argparse.Namespace, messages: int) -> Iterator[Row]:
    """Puts so many messages into the mailbox `bench`; the row tells how fast one connection appends."""
    by_one = min(messages, _FILLED_BY_ONE)
    yield from warm(server, a, "none", by_one)
    rest = messages - by_one
    if not rest:
        return
    texts = corpus(a.corpus, messages)
    probe = Imap(server, tls=a.tls)
    size = _BATCH if b"MULTIAPPEND" in probe.command(b"CAPABILITY") else 1
    probe.close()
    numbers = iter(range(by_one, messages))
    guard, failed = threading.Lock(), []

    def work() -> None:
        connection = Imap(server, tls=a.tls)
        try:
            while True:
                with guard:
                    batch = [texts[number % len(texts)] for number, _ in zip(numbers, range(size), strict=False)]
                if not batch:
                    break
                connection.append(b"bench", batch)
        except (OSError, EOFError, RuntimeError) as error:
            failed.append(error)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(_FILLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(f"{server.name} could not be filled: {failed[0]}")


def corpus(folder: Path, most: int) -> list[bytes]:
    """Real messages as the load generator takes them: of usual size, with CRLF."""
    texts: list[bytes] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        octets = path.read_bytes()
        if 200 < len(octets) < 200_000 and b"\0" not in octets:
            if octets.startswith(b"From "):
                octets = octets.split(b"\n", 1)[1]
            texts.append(re.sub(rb"\r?\n", b"\r\n", octets))
        if len(texts) >= most:
            break
    return texts


def cold(server: peers.Server, a: argparse.Namespace) -> Iterator[Row]:
    """A server that was just started: its first SELECT of the mailbox and what follows, each once."""
    connection = Imap(server, tls=a.tls)
    for name, command in _COLD:
        spent = peers.cpu_seconds(server.pid)
        seconds = connection.timed(command)
        yield {"scenario": name, "ms": seconds * 1e3, "cpu": peers.cpu_seconds(server.pid) - spent}
    connection.close()


def median_of(runs: list[list[Row]]) -> list[Row]:
    """The same rows, measured several times."""
    return [
        {
            "scenario": same[0]["scenario"],
            **{key: statistics.median(float(row[key]) for row in same) for key in ("ms", "cpu")},
        }
        for same in zip(*runs, strict=True)
    ]


def index_catch_up(server: peers.Server, messages: int, started: float) -> Row:
    """How fast the background search index took up what was appended since `started`."""
    spent = peers.cpu_seconds(server.pid)
    while time.monotonic() - started < _CATCH_UP:
        state = json.loads(peers.administer(server.folder, "account", "show", server.user, "--json"))
        if not state["unindexed"]:
            now = time.monotonic()
            return {
                "scenario": "index_catch_up",
                "rate": messages / (now - started),
                "cpu": peers.cpu_seconds(server.pid) - spent,
            }
        time.sleep(1)
    sys.exit("The search index did not catch up within an hour.")

"""The whole server with real clamd and Rspamd: what they find counts, and mail flows when they hang or are killed."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from scanner_host import CLAMD, EICAR, GTUBE, RSPAMD, real_clamd, real_rspamd
from whole_server import WholeServer, running, until
from wire import SmtpWire

ALICE, MALLORY = "alice@one.test", "mallory@two.test"
SENDER = "someone@far.test"
LIMIT = 8.0  # seconds for all facts; and for each of the scanners less
INFECTED = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nLook at this.\r\n--b\r\n"
    b"Content-Type: application/octet-stream; name=notes.dat\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename=notes.dat\r\n\r\n%s\r\n--b--\r\n"
) % base64.b64encode(EICAR)
HARMLESS = b"\r\nText.\r\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CLAMD is None or RSPAMD is None, reason="clamav-daemon and rspamd are not installed"),
]


@dataclass(frozen=True)
class Place:
    server: WholeServer
    groups: tuple[int, ...]  # of processes: clamd's and Rspamd's

    def signal(self, which: signal.Signals) -> None:
        for group in self.groups:
            os.killpg(group, which)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folders: list[Path] = [tmp_path_factory.mktemp(name) for name in ("clamd", "rspamd")]
    with real_clamd(folders[0]) as clamd, real_rspamd(folders[1]) as rspamd:
        settings = (
            f"[filter]\ntime_limit = {LIMIT}\n[filter.scanners]\n"
            f'clamd = "{clamd}"\nclamd_timeout = 3.0\nrspamd = "{rspamd}"\nrspamd_timeout = 3.0\n'
        )
        groups = tuple(int((folder / "group").read_text()) for folder in folders)
        with running(WholeServer(tmp_path_factory.mktemp("scanned"), settings=settings, web=False)) as server:
            yield Place(server, groups)


def send(server: WholeServer, subject: str, rest: bytes, recipient: str = ALICE) -> tuple[int, bytes]:
    """The client's patience is that of clients, far above the time limit; the server's answer comes within it."""
    message = f"From: {SENDER}\r\nTo: {recipient}\r\nSubject: {subject}\r\n".encode() + rest
    with SmtpWire(server.ports["mx"], patience=3 * LIMIT) as client:
        client.command(b"EHLO mx.far.test")
        return client.submit(SENDER, [recipient], message)


def verdict(server: WholeServer, said: bytes) -> dict[str, str]:
    """Of the message that this reply acknowledged."""

    def told() -> list[dict[str, str]]:
        found = json.loads(server.cleanmail("trace", said.split()[-1].decode(), "--json").stdout or "[]")
        return [event["details"] for trace in found for event in trace["events"] if event["kind"] == "verdict"]

    [details] = until(told, "the verdict in the trace")
    return dict(details)


def subjects(server: WholeServer, mailbox: str) -> list[str]:
    with server.imap(ALICE) as imap:
        assert imap.command(b"EXAMINE " + mailbox.encode()).ok
        text = imap.command(b"FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]").text
    return [found.decode() for found in re.findall(rb"Subject: ([\w-]+)", text)]


def test_what_they_find_counts(place: Place) -> None:
    server = place.server
    code, said = send(server, "harmless", HARMLESS)
    assert code == 250 and "unknown" not in (found := verdict(server, said))
    assert found["verdict"] == "deliver" and found["rspamd"].startswith("no action ")
    code, said = send(server, "infected", INFECTED)
    assert code == 250
    found = verdict(server, said)
    assert (found["verdict"], found["reason"]) == ("quarantine", "malware")
    assert found["malware"].startswith("Eicar-Test")
    [withheld] = json.loads(server.cleanmail("quarantine", "list", "--json").stdout)
    assert (withheld["reason"], withheld["to"]) == ("malware", [ALICE])
    code, said = send(server, "unwanted", b"\r\n" + GTUBE + b"\r\n")
    assert code == 250 and verdict(server, said)["reason"] == "scanner"
    assert subjects(server, "INBOX") == ["harmless"] and subjects(server, "Junk") == ["unwanted"]


def test_malware_is_refused_where_the_policy_says_so(place: Place) -> None:
    assert place.server.cleanmail("filter", "policy", "set", "malware", "reject", "--tenant", "two").returncode == 0
    before = place.server.cleanmail("quarantine", "list", "--json").stdout
    code, said = send(place.server, "infected-too", INFECTED, MALLORY)
    assert (code, said[:9]) == (550, b"550 5.7.1")
    assert place.server.cleanmail("quarantine", "list", "--json").stdout == before
    assert send(place.server, "harmless-too", HARMLESS, MALLORY)[0] == 250


def test_mail_flows_when_they_hang_and_they_are_asked_again_afterwards(place: Place) -> None:
    server = place.server
    place.signal(signal.SIGSTOP)
    try:
        sent = [f"hanging-{n}" for n in range(3)]
        with ThreadPoolExecutor(len(sent)) as threads:  # so that all hang at the same time
            replies = list(threads.map(lambda subject: send(server, subject, HARMLESS), sent))
        assert [code for code, _ in replies] == [250] * 3
        unknown = verdict(server, replies[0][1])["unknown"]
        assert "clamd did not answer in time" in unknown and "Rspamd did not answer in time" in unknown
        # Three failures in a row: from now on nobody waits for them.
        assert all(f"{name} fails; messages are judged without it" in server.log() for name in ("clamd", "Rspamd"))
        code, said = send(server, "hanging-3", HARMLESS)
        assert code == 250 and "is not asked for the moment" in verdict(server, said)["unknown"]
    finally:
        place.signal(signal.SIGCONT)

    def asked_again() -> bool:
        assert send(server, "again", HARMLESS)[0] == 250
        return all(f"{name} answers again" in server.log() for name in ("clamd", "Rspamd"))

    until(asked_again, "answers of the scanners")
    assert {*sent, "hanging-3"} <= set(subjects(server, "INBOX"))


def test_mail_flows_when_they_are_killed_amid_it(place: Place) -> None:
    """The last: they are gone."""
    server = place.server
    replies: dict[str, int] = {}
    some = threading.Event()

    def session(name: str) -> None:
        for number in range(15):
            subject = f"{name}-{number}"
            replies[subject] = send(server, subject, HARMLESS)[0]
            if len(replies) > 10:
                some.set()

    threads = [threading.Thread(target=session, args=(f"killed{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    assert some.wait(60)
    place.signal(signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert len(replies) == 60 and set(replies.values()) == {250}
    arrived = [subject for subject in subjects(server, "INBOX") if subject.startswith("killed")]
    assert sorted(arrived) == sorted(replies)
    code, said = send(server, "without-them", HARMLESS)
    found = verdict(server, said)
    assert code == 250 and found["verdict"] == "deliver" and "malware" in found["unknown"]
    # Malware that nobody can know of is delivered by default; where unscanned mail is not wanted it is withheld.
    policy = ("filter", "policy", "set", "malware_unknown", "quarantine", "--tenant", "two")
    assert server.cleanmail(*policy).returncode == 0
    code, said = send(server, "unscanned", HARMLESS, MALLORY)
    found = verdict(server, said)
    assert code == 250 and (found["verdict"], found["reason"]) == ("quarantine", "unscanned")

"""Ends accounts and contracts of the whole server under load, and kills it amid endings: what must hold afterwards.

    scripts/erasure_check [--rounds N] [--seed S] [--data DIR]

Each round: a new installation; an account is deleted while IMAP, submission, mail from outside, import, export and
backup are at work on it and on others; then the contract of its tenant ends under the same load; then the contracts of
three others are ended, and the whole server is killed with SIGKILL at a random moment of each. Looked at afterwards:
nobody waited for ever, nothing was acknowledged after the keys were destroyed, who stays lost nothing that was
acknowledged to him, no file and no row is left over, processes that held keys were replaced, the server is healthy; the
ending goes on by itself after the kill, its certificate is there once and is verified with the public key alone.

Exits with 1 at the first thing that is wrong, and says with which --seed it happens.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_host import run_in_fork
from dns_server import DnsServer
from ending_load import BUSY, KILLED, STAYS, TOWN, Ledger, Load, is_healthy, mbox, tokens_of
from next_hop import NextHop
from whole_server import PATIENCE, WholeServer, environment, running, until

from hosting.data_register import REGISTER

ZONE = {"elsewhere.test": {"MX": "10 mx.elsewhere.test."}, "mx.elsewhere.test": {"A": "127.0.0.1"}}
HOLDERS = ("auth", "imap", "smtp", "web", "queue", "jobs")  # roles that hold keys
WARM = 12  # writes acknowledged to each account before anything ends
_OLD = 300  # messages that are imported again and again


def check_in_turn(log: str) -> None:
    """Of the processes that serve people and mail, never two are away at the same time."""
    away: set[str] = set()
    replaced: set[str] = set()
    for name, what in re.findall(r"\b((?:imap|smtp|queue)\[\d+\]) (ended|is ready)", log):
        if what == "ended":
            away.add(name)
        else:
            away.discard(name)
            replaced.add(name.partition("[")[0])
        assert len(away) <= 1, log[-4000:]
    assert replaced == {"imap", "smtp", "queue"} and not away


@contextmanager
def premises(folder: Path) -> Iterator[Rounds]:
    """A running server."""
    with DnsServer(ZONE) as dns, NextHop() as hop:
        hop.script["RCPT"] = ["450 4.2.0 not now"]
        settings = (
            f'[dns]\nnameservers = ["127.0.0.1"]\nport = {dns.port}\n'
            f'[relay]\nport = {hop.port}\nprivate_networks = ["127.0.0.0/8"]\n'
            "[sending]\naccount_per_hour = 0\naccount_per_day = 0\nfreeze_above = 0\n"
            "[jobs]\nindex_pause = 0.2\n"
        )
        server = WholeServer(folder, TOWN, settings=settings)
        with running(server):
            yield Rounds(server, hop, folder)


@dataclass
class Rounds:
    server: WholeServer
    hop: NextHop
    folder: Path

    def play(self, seed: int) -> Iterator[str]:
        """One line for each ending. Raises AssertionError."""
        yield self.delete_account(seed)
        yield self.end_tenant(seed)
        yield from self.kill(seed)

    def delete_account(self, seed: int) -> str:
        """One of the busiest accounts goes; its tenant's others go on. A line about it."""
        gone, colleague = BUSY[2], BUSY[0]
        commands = [
            ("import", gone, str(mbox(self.folder / "old.mbox", _OLD))),
            ("export", "archive", gone, str(self.folder / "account-{number}")),
            ("backup", "to", str(self.folder / "backups")),
        ]
        ledger, certificate = self._end(seed, [gone, colleague, STAYS], commands, "account", "delete", gone)
        self._check_refused(ledger, [gone], certificate)
        self._check_kept(ledger, [colleague, STAYS])
        number = self.server.accounts[gone]
        folder = f"tenants/{number['tenant']}/accounts/{number['account']}"
        self._check_clean(folder)
        return _told("account", ledger, certificate)

    def end_tenant(self, seed: int) -> str:
        gone = list(BUSY[:2])
        before = {role: set(self.server.pids(role)) for role in HOLDERS}
        logged = len(self.server.log())
        commands = [
            ("import", gone[0], str(self.folder / "old.mbox")),
            ("export", "archive", "--tenant", "busy", str(self.folder / "tenant-{number}")),
            ("backup", "to", str(self.folder / "backups")),
        ]
        ledger, certificate = self._end(seed, [*gone, STAYS], commands, "tenant", "end", "busy")
        self._check_refused(ledger, gone, certificate)
        self._check_kept(ledger, [STAYS])
        for role in HOLDERS:
            until(lambda role=role: self._is_new(role, before[role]), f"a new process of {role}")  # type: ignore[misc]
        check_in_turn(self.server.log()[logged:])
        self._check_clean(f"tenants/{self.server.accounts[gone[0]]['tenant']}")
        waiting = json.loads(self.server.cleanmail("queue", "list", "--json").stdout)
        assert {each["tenant"] for each in waiting} == {"stay"}, waiting
        return _told("tenant", ledger, certificate)

    def _is_new(self, role: str, before: set[int]) -> bool:
        """What held keys of what ended has gone, and there is another."""
        now = set(self.server.pids(role))
        return bool(now) and not before & now

    def kill(self, seed: int, slugs: Sequence[str] = KILLED) -> Iterator[str]:
        """Each of the others ends, and everything is killed at some moment of it."""
        chance = random.Random(seed)
        for slug in slugs:
            account = f"ann@{slug}.test"
            done = self.server.cleanmail("import", account, str(mbox(self.folder / "old.mbox", _OLD)))
            assert done.returncode == 0, done.stderr
            ordered = self.server.cleanmail("--json", "tenant", "end", slug, "--yes", "--no-wait")
            assert ordered.returncode == 0, ordered.stderr
            number = json.loads(ordered.stdout)["ending"]
            wait = chance.uniform(0.0, 0.9)
            threading.Event().wait(wait)
            self.server.kill()
            at = self._step(number)
            self.server.start()
            until(lambda number=number: self._row(number)["finished"], "the end of an ending")  # type: ignore[misc]
            certificate = self._certificate(number)
            assert certificate["scope"]["name"] == slug
            self._check_clean(f"tenants/{self.server.accounts[account]['tenant']}")
            yield f"killed {wait:.2f} s after the order ({at}): certified, {certificate['counts']['messages']} messages"

    # What is done

    def _end(
        self, seed: int, accounts: list[str], commands: list[tuple[str, ...]], *ending: str
    ) -> tuple[Ledger, dict[str, Any]]:
        ledger = Ledger()
        with Load(self.server, ledger, seed).running(accounts, commands):
            until(
                lambda: (
                    ledger.wrong
                    or (min(len(ledger.of(each)) for each in accounts) >= WARM and len(ledger.commands) >= 1)
                ),
                "work",
            )
            begun = time.monotonic()
            done = self.server.cleanmail("--json", *ending, "--yes", "--reason", "a test")
            assert done.returncode == 0, done.stderr
            assert time.monotonic() - begun < PATIENCE
            number = json.loads(done.stdout)["ending"]
            since = time.time()

            def goes_on() -> bool:
                """Who stays is served again, by each of his ways."""
                ways = {write.token.rpartition("-")[0] for write in ledger.of(STAYS) if write.begun > since}
                return bool(ledger.wrong) or len(ways) >= 4

            until(goes_on, "service of those who stay")
        assert not ledger.wrong, ledger.wrong
        for name, status, errors, seconds in ledger.commands:
            assert status in (0, 1, 3, 5, 6) and "Traceback" not in errors, (name, status, errors)
            assert seconds < PATIENCE, (name, seconds)
        for said in ledger.refusals:
            assert said.startswith((b"4", b"5", b"NO")), ledger.refusals
        until(lambda: is_healthy(self.server), "health")
        return ledger, self._certificate(number)

    def _row(self, number: str) -> dict[str, Any]:
        shown = self.server.cleanmail("--json", "ending", "show", number)
        values: dict[str, Any] = json.loads(shown.stdout) if shown.returncode == 0 else {"finished": None}
        return values

    def _step(self, number: str) -> str:
        return str(self._row(number).get("step"))

    def _certificate(self, number: str) -> dict[str, Any]:
        """The one that there is, verified with nothing but the key."""
        listed = json.loads(self.server.cleanmail("--json", "certificate", "list").stdout)
        assert [each["certificate"] for each in listed].count(number) == 1, listed
        path = self.server.data / "certificates" / f"{number}.json"
        key = self.server.cleanmail("certificate", "key").stdout.strip()
        for file in (path, path.with_suffix(".pdf")):
            arguments = ["--data", str(self.folder / "nothing"), "certificate", "verify", str(file), "--key", key]
            done = run_in_fork("cleanmail", arguments, environment(), "", PATIENCE)
            assert done.returncode == 0, done.stderr
        certificate: dict[str, Any] = json.loads(path.read_text())["certificate"]
        return certificate

    # What must hold

    def _check_refused(self, ledger: Ledger, accounts: list[str], certificate: dict[str, Any]) -> None:
        """Nothing that began after the keys were destroyed was acknowledged; who waited was told that it is over."""
        for account in accounts:
            late = [write for write in ledger.of(account) if write.begun >= certificate["unreadable"] + 1]
            assert not late, late
            words = [said for whom, _, said in ledger.last_words if whom == account]
            assert words and words[-1].startswith(b"* BYE"), words

    def _check_kept(self, ledger: Ledger, accounts: list[str]) -> None:
        """Everything that was acknowledged is there, once."""
        for account in accounts:
            tokens = {write.token for write in ledger.of(account)}

            def all_there(account: str = account, tokens: set[str] = tokens) -> bool:
                found = tokens_of(self.server, account)
                assert not (twice := [token for token in tokens if found[token] > 1]), twice
                return all(found[token] for token in tokens)

            until(all_there, f"everything that was acknowledged to {account}")

    def _check_clean(self, folder: str) -> None:
        data = self.server.data
        assert not (data / folder).exists()
        assert not list((data / "erasing").glob("*"))
        assert not list((data / "run" / "endings").glob("*"))
        assert not list((data / "keys" / "endings").glob("*"))
        assert (found := self.server.check()) == [], found
        assert (undeclared := REGISTER.undeclared(data)) == [], undeclared


def _told(what: str, ledger: Ledger, certificate: dict[str, Any]) -> str:
    unreadable = certificate["unreadable"] - certificate["begun"]
    whole = certificate["finished"] - certificate["begun"]
    return (
        f"{what}: {len(ledger.writes)} writes acknowledged, {sum(ledger.refusals.values())} refused, "
        f"unreadable after {unreadable} s, certified after {whole} s, {certificate['processes_killed']} killed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/erasure_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--data", type=Path, default=None, help="where it is done; the system's folder for such things")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.randrange(1 << 30)
    try:
        for number in range(asked.rounds):
            folder = tempfile.TemporaryDirectory(prefix="erasure-", dir=asked.data)
            with folder as path, premises(Path(path)) as rounds:
                print(f"round {number + 1}, --seed {seed + number}", flush=True)
                for line in rounds.play(seed + number):
                    print(f"  {line}", flush=True)
    except AssertionError as error:
        print(f"WRONG: {error} (--rounds 1 --seed {seed + number})", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

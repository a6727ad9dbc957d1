"""A reviewer's process against the auth role over its real socket: headers, each with its record, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import review_town
from command_host import run_in_fork
from review_town import BODY, SUBJECT, ask_for_review, withhold
from whole_server import WholeServer, running, until

from hosting import composition
from hosting.auth.persons import person_of
from hosting.config import Config
from hosting.review.desk import DECIDE, VIEW
from storage.directory.reviews import ReviewState
from storage.filter.counts import Counted
from storage.installation import Installation
from storage.values import Domain, EmailAddress, TenantId

SUPPORT = Path(review_town.__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
ME = person_of().name
TENANT = TenantId(1)


@contextmanager
def opened(data: Path) -> Iterator[Installation]:
    with composition.administration(data, Config()) as administration:
        yield administration.installation


class Place:
    def __init__(self, data: Path) -> None:
        self.data = data
        composition.create(data, Config())
        with composition.administration(data, Config()) as administration:
            provisioning, control = administration.provisioning, administration.control
            for slug in ("acme", "zeta"):
                provisioning.create_tenant(slug, slug.title())
            control.add_domain(TENANT, Domain("acme.test"))
            control.verify_domain(Domain("acme.test"), None)
            ann = provisioning.create_account(TENANT, EmailAddress.parse("ann@acme.test"))
            self.number = withhold(administration.installation, TENANT, ann.account_id, "ann@acme.test")
            ask_for_review(administration.installation, TENANT, self.number)

    def agree(self) -> None:
        with opened(self.data) as installation:
            agreements = installation.control.agreements
            agreements.record(ME, bytes(32), signed=installation.clock.now(), recorded_by="adam-of-another-desk")

    def records(self) -> list[tuple[str, str, dict[str, str]]]:
        with opened(self.data) as installation:
            installation.audit.verify()
            return [(each.action, each.actor, dict(each.details or {})) for each in installation.audit.read()]

    @contextmanager
    def auth_role(self, *, user: str = "the-servers-own-user") -> Iterator[Path]:
        """Gives the file with what it logs."""
        log = self.data.parent / "auth.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, str(SUPPORT / "review_auth_process.py"), str(self.data), user],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=ENVIRONMENT,
            )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "listening\n", log.read_text()
            yield log
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)

    def review(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, as a process of its own."""
        return run_in_fork("cleanmail", ["--data", str(self.data), "review", *arguments], ENVIRONMENT, "", 60)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    return Place(data)


def occurs(pid: int, *tokens: str) -> list[bool]:
    """Which of the tokens stand in the memory of a process."""
    found = [False] * len(tokens)
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_, last = line.split()
            if "r" not in rights or last in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            begin, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(begin)
                octets = memory.read(end - begin)
            except (OSError, OverflowError, ValueError):
                continue
            found = [seen or token.encode() in octets for seen, token in zip(found, tokens, strict=True)]
    return found


def test_a_reviewers_process_comes_to_no_body(place: Place) -> None:
    place.agree()
    with place.auth_role() as log:
        process = subprocess.Popen(
            [sys.executable, str(SUPPORT / "reviewer_process.py"), str(place.data), place.number],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            said = process.stdout.readline()
            assert said, process.stderr.read()
            in_memory = occurs(process.pid, SUBJECT, BODY)
        finally:
            rest, errors = process.communicate(timeout=30)
    told: dict[str, Any] = json.loads(said)
    attempts = told["attempts"]
    assert attempts.pop("body") == "Corrupt", "the header key does not open it"
    assert len(attempts) == 15
    assert set(attempts.values()) == {"NotPermitted"}, attempts
    assert any(SUBJECT in value for _, value in told["lines"])
    assert BODY not in said + rest + errors
    assert in_memory == [True, False]
    assert place.records() == [(VIEW, ME, {"message": place.number, "reason": "ticket 5"})]
    logged = log.read_text()
    assert "purpose=audit record 1 role=reviewer" in logged
    assert SUBJECT not in logged and BODY not in logged and "far.test" not in logged


def test_the_command_reviews_through_the_running_auth_role(place: Place) -> None:
    with place.auth_role():
        said = place.review("list")
        assert said.returncode == 1 and "secrecy agreement" in said.stderr
        place.agree()
        assert place.number in place.review("list").stdout
        shown = place.review("show", place.number, "--reason", "ticket 5")
        assert shown.returncode == 0, shown.stderr
        assert SUBJECT in shown.stdout and BODY not in shown.stdout + shown.stderr
        assert "audit record 1" in shown.stderr
        decided = place.review("decide", place.number, "wrong", "--reason", "an invoice", "--json")
        assert json.loads(decided.stdout)["state"] == "wrong"
        [first, second] = place.records()
        assert (first[0], first[1], second[0], second[1]) == (VIEW, ME, DECIDE, ME)
        with opened(place.data) as installation:
            assert installation.control.reviews.find(place.number).state is ReviewState.WRONG
            installation.control.agreements.end(ME)
        assert place.review("show", place.number, "--reason", "again").returncode == 1
    assert len(place.records()) == 2


def test_who_the_server_runs_as_is_refused_by_the_auth_role(place: Place) -> None:
    place.agree()
    with place.auth_role(user=ME):
        for arguments in (["list"], ["show", place.number, "--reason", "x"]):
            said = place.review(*arguments)
            assert (said.returncode, said.stdout) == (1, "") and "somebody else" in said.stderr
    assert place.records() == []


def test_a_whole_server_takes_none_of_its_own_for_a_reviewer(whole_server: WholeServer, tmp_path: Path) -> None:
    """The tests and their server run as the same user, whom nobody can record an agreement for."""
    document = tmp_path / "signed"
    document.write_text("I keep secret what I see.")
    for arguments in (["list"], ["agreement", "record", ME, "--document", str(document)]):
        said = whole_server.cleanmail("review", *arguments)
        assert said.returncode == 1 and f"runs as '{ME}'" in said.stderr


def test_the_jobs_role_releases_what_was_found_wrong_and_shows_the_shares(tmp_path: Path) -> None:
    server = WholeServer(tmp_path, web=False)
    with opened(server.data) as installation:
        control = installation.control
        tenant_id = control.tenant_by_slug("one").tenant_id
        alice = installation.tenant(tenant_id).account_by_address(EmailAddress.parse("alice@one.test"))
        number = withhold(installation, tenant_id, alice.account_id, "alice@one.test")
        installation.tenant(tenant_id).quarantine.report(number, [0])
        ask_for_review(installation, tenant_id, number)
        control.reviews.view(tenant_id, number)
        control.reviews.decide(tenant_id, number, wrong=True, person="rita")
        installation.counts.add(tenant_id, Counted.DELIVER, 999)
        installation.counts.add(tenant_id, Counted.QUARANTINE, 1)
    with running(server):

        def released() -> bool:
            with opened(server.data) as installation:
                return installation.control.reviews.find(number).state is ReviewState.RELEASED

        def metrics() -> str:
            with urlopen(f"http://127.0.0.1:{server.ports['operations']}/metrics", timeout=30) as answer:
                return str(answer.read().decode())

        until(released, "the release")
        with server.imap() as imap:
            assert imap.command(b"SELECT INBOX").ok
            fetched = imap.command(b"FETCH 1 BODY[]").text.decode()
            assert SUBJECT in fetched and BODY in fetched and "X-Cleanmail-Released: by review;" in fetched
        until(lambda: "cleanmail_filter_wrong_share 0.001\n" in metrics(), "the gauge")
        assert "cleanmail_filter_reviewed_share 0.001\n" in metrics()
        until(lambda: "people looked at 1 (0.1000 %)" in server.log(), "the warning")
        assert number in server.log() and "alice" not in server.log() and SUBJECT not in server.log()

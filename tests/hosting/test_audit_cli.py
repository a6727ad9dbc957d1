"""cleanmail audit: lists, proofs and the owner's view; each command that shows data of others leaves a record."""

from __future__ import annotations

import io
import json
import os
import pwd
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hosting import cli, composition, config
from hosting.access.actions import COMMANDS, Action
from hosting.journal_round import JournalRound
from storage.audit import SCHEMA, AuditRecord
from storage.clock import SystemClock
from storage.database.database import Database
from storage.directory.approvals import Kind
from storage.logs.access import AccessEvent
from storage.logs.trace import TraceEvent, TraceKind
from storage.mail import journal
from storage.values import AccountId, TenantId

ME = pwd.getpwuid(os.getuid()).pw_name
CHEAP = f'[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n[logs]\nauditors = ["{ME}"]\n'
TENANT, ADA, BO = TenantId(1), AccountId(1), AccountId(2)


class Said:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


class Place:
    def __init__(self, data: Path, run: Callable[..., Said]) -> None:
        self.data = data
        self.run = run

    def opened(self) -> Any:
        return composition.administration(self.data, config.load(self.data / "cleanmail.toml"))

    def records(self, after: int = 0) -> list[AuditRecord]:
        with self.opened() as administration:
            return list(administration.installation.audit.read(after=after))

    def count(self) -> int:
        with self.opened() as administration:
            return int(administration.installation.audit.head().number)

    def change(self, *statements: str) -> None:
        with composition.key_source(self.data, config.load(self.data / "cleanmail.toml")) as keys:
            key = keys.service_key("audit")
        database = Database.open(self.data / "audit.db", key, SCHEMA, SystemClock())
        for statement in statements:
            change: Callable[..., object] = lambda t, s=statement: t.driver.execute(s)  # noqa: E731
            database.write(change)
        database.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("audit") / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CHEAP)
    for arguments in (
        ["init"],
        ["tenant", "create", "acme"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ada@acme.test", "--without-password"],
        ["account", "create", "bo@acme.test", "--without-password"],
    ):
        assert cli.run(["--data", str(data), *arguments]) == 0
    now = int(time.time()) - 100
    with composition.administration(data, config.load(data / "cleanmail.toml")) as administration:
        installation = administration.installation
        for account in (ADA, BO):
            event = AccessEvent(now, "sign_in", "success", "imap", TENANT, account, b"", "192.0.2.1")
            installation.access_log.record(event)
        installation.traces.record(
            TraceEvent(now, "q1", TraceKind.DELIVERED, TENANT, ADA, "x@far.test", "ada@acme.test")
        )
        approvals = administration.control.approvals
        asked = approvals.ask(Kind.BODY_ACCESS, {"account": "1"}, "he asked", "eve", TENANT, ADA)
    (data.parent / "request").write_text(asked.approval_id)
    (data.parent / "message.eml").write_bytes(b"From: x@far.test\r\nSubject: x\r\n\r\nx\r\n")
    return data


@pytest.fixture
def place(template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    data = tmp_path / "data"
    shutil.copytree(template, data)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        capsys.readouterr()
        there = {MESSAGE: str(template.parent / "message.eml"), REQUEST: (template.parent / "request").read_text()}
        status = cli.run(["--data", str(data), *(there.get(each, each) for each in arguments)])
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return Place(data, run)


# What each command that shows data of persons records: its arguments, the action, and of whom the records are.
MESSAGE, REQUEST = "{message}", "{request}"  # stand for what a place has
EVERYBODY, OF_TENANT, OF_ADA, OF_BOTH = (
    {(None, None)},
    {(TENANT, None)},
    {(TENANT, ADA)},
    {(TENANT, ADA), (TENANT, BO), (None, None)},
)
READINGS: dict[str, tuple[list[str], str, set[tuple[TenantId | None, AccountId | None]]]] = {
    "account list": ([], "account.list", OF_TENANT),
    "account show": (["ada@acme.test"], "account.show", OF_ADA),
    "alias list": ([], "alias.list", OF_TENANT),
    "app-password list": (["ada@acme.test"], "app_password.list", OF_ADA),
    "filter allow list": (["--account", "ada@acme.test"], "senders.list", OF_ADA),
    "filter deny list": (["--tenant", "acme"], "senders.list", OF_TENANT),
    "quarantine list": (["--tenant", "acme"], "quarantine.list", OF_TENANT),
    "quarantine search": (["word", "--tenant", "acme"], "quarantine.list", OF_TENANT),
    "trace": (["--to", "ada@acme.test"], "trace.read", OF_ADA),
    "log access": ([], "log.access", OF_BOTH),
    "log transcripts": (["--reason", "x", "--address", "ada@acme.test"], "transcripts.read", OF_ADA),
    "log audit": ([], "audit.read", EVERYBODY),
    "audit list": (["--tenant", "acme"], "audit.read", OF_TENANT),
    "audit show": (["1"], "audit.read", EVERYBODY),
    "audit mine": (["ada@acme.test"], "journal.read", OF_ADA),
    "filter explain": ([MESSAGE, "--to", "ada@acme.test", "--offline"], "filter.explain", OF_ADA),
    "person report": (["ada@acme.test", "-"], "person.report", OF_ADA),
    "person requests": (["ada@acme.test"], "audit.read", OF_ADA),
    "request list": ([], "approval.list", EVERYBODY),
    "request show": ([REQUEST], "approval.show", OF_ADA),
    "disclosure list": ([], "disclosure-case.list", EVERYBODY),
    "contract show": (["acme"], "contract.show", OF_TENANT),
}

# Shown elsewhere, since they need more than this place has; and what shows nothing of a person.
ELSEWHERE = {
    "queue show": "test_cli_queue",
    "quarantine show": "test_cli_quarantine",
    "review list": "the desk shows what waits, without any header",
    "review show": "test_cli_review",
    "review decide": "test_cli_review",
    "message show": "test_staff_cli",
    "queue list": "addresses stay sealed",
    "queue destinations": "other servers",
    "quarantine summary": "counts",
    "filter policy show": "rules, without senders",
    "filter report": "counts",
    "disclosure show": "test_disclosure_cli",
    "disclosure report": "counts",
    "contract list": "limits and ends, without contacts",
    "audit verify": "hashes",
    "audit anchor": "hashes",
}
_READING = {
    Action.ACCOUNT_SEE,
    Action.QUEUE_SEE,
    Action.QUARANTINE_SEE,
    Action.REVIEW,
    Action.MESSAGE_READ,
    Action.FILTER_SEE,
    Action.TRACE_SEE,
    Action.ACCESS_SEE,
    Action.AUDIT_SEE,
    Action.JOURNAL_SEE,
    Action.TRANSCRIPTS_READ,
    Action.FILTER_EXPLAIN,
    Action.PERSON_SEE,
    Action.REQUEST_SEE,
    Action.DISCLOSURE_SEE,
    Action.CONTRACT_SEE,
}


def test_each_command_that_shows_data_of_persons_is_known_here() -> None:
    reading = {command for command, action in COMMANDS.items() if action in _READING}
    assert reading == READINGS.keys() | ELSEWHERE.keys()


def test_each_of_them_leaves_its_record(place: Place) -> None:
    for command, (arguments, action, whom) in READINGS.items():
        before = place.count()
        said = place.run(*command.split(), *arguments)
        assert said.status == 0, (command, said.err)
        left = place.records(after=before)
        assert {record.action for record in left} == {action}, command
        assert {(record.tenant_id, record.account_id) for record in left} == whom, command
        assert {record.actor for record in left} == {ME}, command
        assert all(record.role in {"operator", "auditor"} for record in left), (command, left)


def test_nothing_is_shown_without_its_record(place: Place) -> None:
    (place.data / "audit.db").rename(place.data / "audit.db.away")
    (place.data / "audit.db").mkdir()
    for command, (arguments, _, _) in READINGS.items():
        said = place.run(*command.split(), *arguments)
        assert said.status != 0 and said.out == "", command


def test_who_is_asked_for_ends_with_his_account(place: Place) -> None:
    before = place.count()
    place.run("trace", "--to", "ada@acme.test", "--from", "bo@acme.test", "--since", "3h")
    with place.opened() as administration:
        administration.installation.keys.destroy_account_key(TENANT, ADA)
    found = [(record.account_id, record.details) for record in place.records(after=before)]
    assert found == [(BO, {"sender": "bo@acme.test", "since": "3h"}), (ADA, None)]


def test_what_is_left_of_an_ended_contract_is_shown_without_its_keys(place: Place) -> None:
    assert place.run("tenant", "end", "acme", "--yes").status == 0
    for command in (["trace", "--since", "3h"], ["log", "access"]):
        before = place.count()
        said = place.run(*command)
        assert said.status == 0 and said.out, said.err
        assert {(record.tenant_id, record.account_id) for record in place.records(after=before)} == EVERYBODY


class TestProofs:
    def test_a_whole_chain(self, place: Place, tmp_path: Path) -> None:
        anchor = tmp_path / "anchor.json"
        anchor.write_text(place.run("audit", "anchor").out)
        place.run("account", "show", "ada@acme.test")
        said = place.run("audit", "verify", "--anchor", str(anchor))
        assert said.status == 0 and "fit together" in said.out and "They are those of the anchor." in said.out
        found = place.run("audit", "verify", "--anchor", str(anchor), "--anchor", str(anchor), "--json").json
        assert (found["anchors"], found["first"], found["signatures"]) == (2, 1, 1)
        assert found["records"] == found["signed"] + 1 == place.count()

    @pytest.mark.parametrize(
        ("statement", "said"),
        [
            ("UPDATE record SET actor = 'eve' WHERE number = 2", "broken at record 2."),
            ("DELETE FROM record WHERE number = 3", "broken at record 3."),
            ("DELETE FROM record WHERE number > 4", "cut off: record 5 is missing"),
        ],
    )
    def test_a_broken_one(self, place: Place, tmp_path: Path, statement: str, said: str) -> None:
        anchor = tmp_path / "anchor.json"
        anchor.write_text(place.run("audit", "anchor").out)
        place.change("DELETE FROM checkpoint", statement)
        answer = place.run("audit", "verify", "--anchor", str(anchor))
        assert (answer.status, answer.out) == (4, "") and said in answer.err
        answer = place.run("audit", "verify", "--anchor", str(anchor), "--json")
        assert answer.status == 4 and json.loads(answer.err)["error"]

    def test_what_is_no_anchor(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / "other").write_text("{}")
        assert "no anchor" in place.run("audit", "verify", "--anchor", str(tmp_path / "other")).err
        assert place.run("audit", "verify", "--anchor", str(tmp_path / "nothing")).status == 1
        anchor = json.loads(place.run("audit", "anchor").out)
        (tmp_path / "foreign").write_text(json.dumps({**anchor, "installation": "0" * 32}))
        assert "another installation" in place.run("audit", "verify", "--anchor", str(tmp_path / "foreign")).err


def test_the_owners_view(place: Place) -> None:
    place.run("account", "freeze", "ada@acme.test", "--reason", "sends spam")
    place.run("log", "access", "bo@acme.test")
    said = place.run("audit", "mine", "ada@acme.test", "--json").json
    assert [(each["who"], each["what"], each["reason"]) for each in said[-1:]] == [
        ("An operator", "stopped your sending", "sends spam")
    ]
    assert not any("read your access events" in each["what"] for each in said)
    lines = place.run("audit", "mine", "ada@acme.test").out
    assert "stopped your sending" in lines and ME not in lines.replace(f"/{ME}", "")


def test_one_record_with_all_that_it_says(place: Place) -> None:
    place.run("account", "freeze", "ada@acme.test", "--reason", "sends spam")
    number = place.count()
    said = place.run("audit", "show", str(number), "--json").json
    assert (said["action"], said["account"], said["role"]) == ("account.freeze", "ada@acme.test", "operator")
    assert said["details"] == {"reason": "sends spam"} and said["actor"] == ME
    assert "sends spam" in place.run("audit", "show", str(number)).out
    assert place.run("audit", "show", "9999").status == 1
    [read] = place.records(after=number)[:1]
    assert (read.action, read.account_id, read.details) == ("audit.read", ADA, {"number": str(number)})


def test_from_a_command_to_the_owners_mailbox(place: Place) -> None:
    place.run("log", "access", "ada@acme.test")
    with place.opened() as administration:
        JournalRound(administration.installation, "mail.example.test").run()
        with administration.installation.account(TENANT, ADA) as account:
            found = journal.find(account)
            assert found is not None
            rows = account.messages.fetch_rows(found.id, 1, 100, ("message_id",))
            texts = [account.messages.read_message(row[-1]) for row in rows]
    assert b"Subject: An operator read your access events\r\n" in texts[-1]

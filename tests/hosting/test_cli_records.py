"""Traces, transcripts and audit records at the command line, and accounts that may not send."""

from __future__ import annotations

import io
import json
import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hosting import cli, composition, config
from storage.installation import Installation
from storage.logs.trace import TraceEvent, TraceKind
from storage.logs.transcripts import Direction, TranscriptRecord
from storage.values import AccountId, TenantId

ME = pwd.getpwuid(os.getuid()).pw_name
CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"
TENANT = TenantId(1)


class Said:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Said]


class Place:
    """An installation with a tenant and an account, and somebody at its command line."""

    def __init__(self, data: Path, run: Run) -> None:
        self.data = data
        self.run = run

    def configure(self, *auditors: str) -> None:
        (self.data / "cleanmail.toml").write_text(f"{CHEAP}[logs]\nauditors = {json.dumps(auditors)}\n")

    @contextmanager
    def installation(self) -> Iterator[Installation]:
        with composition.administration(self.data, config.load(self.data / "cleanmail.toml")) as administration:
            yield administration.installation


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; every test works on a copy."""
    data = tmp_path_factory.mktemp("records") / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CHEAP)
    for arguments in (
        ["init"],
        ["tenant", "create", "acme"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ada@acme.test", "--without-password"],
    ):
        assert cli.run(["--data", str(data), *arguments]) == 0
    return data


@pytest.fixture
def place(template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    data = tmp_path / "data"
    shutil.copytree(template, data)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return Place(data, run)


@pytest.fixture
def traced(place: Place) -> Place:
    now = int(time.time()) - 4000
    details = {"peer": "192.0.2.1", "size": "1234"}
    with place.installation() as installation:
        for event in (
            TraceEvent(now, "q1", TraceKind.RECEIVED, TENANT, None, "x@far.test", "", details),
            TraceEvent(now + 2, "q1", TraceKind.DELIVERED, TENANT, AccountId(1), "x@far.test", "ada@acme.test"),
            TraceEvent(
                now + 3900, "q1", TraceKind.DEFERRED, TENANT, None, "x@far.test", "bo@b.test", {"reply": "450 4.2.0 no"}
            ),
            TraceEvent(now + 10, "s5", TraceKind.REFUSED, None, None, "", "no@acme.test", {"reply": "550 5.1.1 no"}),
            TraceEvent(now - 3 * 86_400, "q0", TraceKind.RECEIVED, TENANT, None, "x@far.test"),
        ):
            installation.traces.record(event)
    return place


def test_a_trace_is_a_block_of_lines(traced: Place) -> None:
    said = traced.run("trace", "q1")
    lines = said.out.splitlines()
    assert said.status == 0 and len(lines) == 4
    assert lines[0].startswith("q1  20") and lines[0].endswith("  acme  from x@far.test")
    assert lines[1].split() == ["+0s", "received", "peer", "192.0.2.1,", "size", "1234"]
    assert lines[2].split() == ["+2s", "delivered", "ada@acme.test"]
    assert lines[3].split() == ["+1h05m", "deferred", "bo@b.test", "reply", "450", "4.2.0", "no"]


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ([], ["q1", "s5"]),
        (["--since", "5d"], ["q0", "q1", "s5"]),
        (["--since", "5d", "--until", "1d"], ["q0"]),
        (["--to", "ADA@acme.test"], ["q1"]),
        (["--to", "@acme.test"], ["q1", "s5"]),
        (["--from", "<>"], ["s5"]),
        (["--from", "x@far.test", "--result", "deferred"], ["q1"]),
        (["--result", "failed"], []),
        (["--tenant", "acme", "--since", "5d"], ["q0", "q1"]),
        (["--limit", "1"], ["s5"]),
        (["q0"], ["q0"]),
    ],
)
def test_traces_are_found(traced: Place, arguments: list[str], ids: list[str]) -> None:
    assert [trace["id"] for trace in traced.run("trace", *arguments, "--json").json] == ids


def test_nobody_is_shown_an_older_trace(traced: Place) -> None:
    said = traced.run("trace", "--since", "15d")
    assert (said.status, said.out) == (1, "") and "14 days" in said.err
    assert traced.run("trace", "--since", "5d", "--until", "20d").status == 1
    assert traced.run("trace", "nothing").err == "There is no trace of such a message.\n"


class TestTranscripts:
    @pytest.fixture
    def place(self, place: Place) -> Place:
        with place.installation() as installation:
            for number, peer in enumerate(("192.0.2.1", "192.0.2.2")):
                text = "0.000 > 220 mx\n0.010 < MAIL FROM:<x@far.test>"
                record = TranscriptRecord(
                    int(time.time()) - 60 + number, Direction.IN, f"s{number}", peer, (f"q{number}",), (1,), text
                )
                installation.transcripts.record(record)
        return place

    def audited(self, place: Place) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = place.run("log", "audit", "--action", "transcripts", "--json").json
        return records

    def test_are_for_auditors_only_and_a_refusal_reads_nothing(self, place: Place) -> None:
        place.configure("somebody-else")
        said = place.run("log", "transcripts", "--reason", "curiosity")
        assert (said.status, said.out) == (1, "") and "for log auditors only" in said.err and ME in said.err
        assert self.audited(place) == []

    def test_each_reading_is_an_audit_record(self, place: Place) -> None:
        place.configure(ME)
        arguments = ["log", "transcripts", "--reason", "complaint 7", "--address", "192.0.2.2"]
        said = place.run(*arguments)
        lines = said.out.splitlines()
        assert lines[0].startswith("s1  20") and lines[0].endswith("  from 192.0.2.2  q1")
        assert lines[1:] == ["  0.000 > 220 mx", "  0.010 < MAIL FROM:<x@far.test>"]
        [found] = place.run(*arguments, "--json").json
        assert found["queue_ids"] == ["q1"] and len(found["lines"]) == 2
        first, second = self.audited(place)
        assert second["number"] > first["number"]
        assert (first["action"], first["actor"]) == ("transcripts.read", ME)
        assert (first["details"]["reason"], first["details"]["address"]) == ("complaint 7", "192.0.2.2")

    def test_the_words_of_strangers_do_nothing_to_a_terminal(self, place: Place) -> None:
        place.configure(ME)
        text = "0.000 < NOOP \x1b]0;title\x07\x1b[2J\r\x9b0m\x850.000 > 250 ok"
        with place.installation() as installation:
            record = TranscriptRecord(int(time.time()) - 9, Direction.IN, "s\x1b[1m", "192.0.2.9", ("q9",), (1,), text)
            installation.transcripts.record(record)
        said = place.run("log", "transcripts", "--reason", "x", "--queue-id", "q9")
        heading, line = said.out.splitlines()
        assert heading.startswith("s\\x1b[1m  ")
        assert line == r"  0.000 < NOOP \x1b]0;title\x07\x1b[2J\r\x9b0m\x850.000 > 250 ok"

    def test_a_reason_is_needed(self, place: Place) -> None:
        place.configure(ME)
        assert place.run("log", "transcripts").status == 2
        assert place.run("log", "transcripts", "--reason", " ").status == 1
        assert self.audited(place) == []

    def test_nothing_is_read_without_its_record(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        place.configure(ME)
        (place.data / "audit.db").rename(place.data / "audit.db.away")
        (place.data / "audit.db").mkdir()
        said = place.run("log", "transcripts", "--reason", "x")
        assert said.status != 0 and said.out == ""


def test_the_chain_is_verified(place: Place) -> None:
    before = place.run("log", "audit", "--verify", "--json").json["records"]
    place.run("account", "freeze", "ada@acme.test", "--reason", "x")
    said = place.run("log", "audit", "--verify", "--json").json
    assert said["records"] == before + 1 and len(bytes.fromhex(said["hash"])) == 32


def test_an_account_is_frozen_and_let_go_with_a_reason(place: Place) -> None:
    assert place.run("account", "freeze", "ada@acme.test", "--reason", "").status == 1
    assert place.run("account", "freeze", "nobody@acme.test", "--reason", "x").status == 1
    assert place.run("account", "freeze", "ada@acme.test", "--reason", "sends spam", "--json").json["changed"]
    assert "already" in place.run("account", "freeze", "ada@acme.test", "--reason", "again").out
    assert "sends spam" in place.run("account", "show", "ada@acme.test", "--json").json["frozen"]
    said = place.run("account", "unfreeze", "ada@acme.test", "--reason", "new password", "--json").json
    assert said == {"address": "ada@acme.test", "frozen": False, "released": 0}
    assert place.run("account", "show", "ada@acme.test", "--json").json["frozen"] is None
    audited = place.run("log", "audit", "--action", "account", "--json").json
    changes = [each for each in audited if "freeze" in each["action"]]
    assert [(each["action"], each["account"], each["details"]["reason"]) for each in changes] == [
        ("account.freeze", "ada@acme.test", "sends spam"),
        ("account.freeze", "ada@acme.test", "again"),
        ("account.unfreeze", "ada@acme.test", "new password"),
    ]


def test_a_tenant_gets_limits_of_its_own(place: Place) -> None:
    assert place.run("tenant", "sending", "acme", "--json").json["account_per_hour"] == 1000
    said = place.run("tenant", "sending", "acme", "--account-per-hour", "20", "--freeze-above", "0", "--json").json
    assert (said["account_per_hour"], said["freeze_above"], said["account_per_day"]) == (20, 0, 5000)
    assert place.run("tenant", "sending", "acme", "--reset", "--json").json["account_per_hour"] == 1000
    assert place.run("tenant", "sending", "acme", "--freeze-factor", "0").status == 1
    actions = [record["details"] for record in place.run("log", "audit", "--action", "tenant.sending", "--json").json]
    assert actions[0] == {"account_per_hour": "20", "freeze_above": "0"}


def test_a_tenant_says_who_is_postmaster_and_what_becomes_of_mail_during_a_suspension(place: Place) -> None:
    assert place.run("tenant", "mail", "acme", "--json").json == {
        "postmaster": "the first account",
        "suspended_mail": "take",
    }
    said = place.run("tenant", "mail", "acme", "--suspended", "defer", "--postmaster", "desk@other.test", "--json")
    assert said.json == {"postmaster": "desk@other.test", "suspended_mail": "defer"}
    with place.installation() as installation:
        tenant = installation.tenant(TENANT)
        assert (tenant.setting("postmaster"), tenant.setting("suspended_mail")) == ("desk@other.test", "defer")
    assert place.run("tenant", "mail", "acme", "--postmaster", "nobody").status == 1
    assert place.run("tenant", "mail", "acme", "--suspended", "drop").status == 2
    assert place.run("tenant", "mail", "acme", "--reset", "--json").json["suspended_mail"] == "take"
    audited = [record for record in place.run("log", "audit", "--json").json if record["action"] == "tenant.mail"]
    assert [record["details"] for record in audited] == [
        {"postmaster": "desk@other.test", "suspended_mail": "defer"},
        {"postmaster": "default", "suspended_mail": "default"},
    ]

"""cleanmail privacy, retention, clock and account folders on a real installation."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from hosting import cli
from hosting.data_register import REGISTER
from hosting.metrics import Metrics
from hosting.retention_round import ClockWatch, RetentionRound
from storage.clock import FixedClock
from storage.clock_guard import FILE
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys

CONFIG = """
[auth.argon2]
time_cost = 1
memory_kib = 64
lanes = 1
[privacy]
controller = "Mail Ltd, 1 High Street"
contact = "privacy@mail.test"
[retention]
preset = "short_transcripts"
access = 90
folders = ["Trash=30"]
"""


@dataclass
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CONFIG)

    def run(*arguments: str, stdin: str = "") -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    assert run("init").status == 0
    return run


@pytest.fixture
def acme(run: Run) -> Run:
    for arguments in (
        ["tenant", "create", "acme", "--name", "ACME Ltd"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ada@acme.test", "--generate"],
    ):
        assert run(*arguments).status == 0
    return run


def test_the_statement_and_the_records_have_the_periods_of_the_configuration(run: Run) -> None:
    for form in ("md", "txt", "json"):
        said = run("privacy", "statement", "--format", form)
        assert said.status == 0 and said.err == ""
        assert "Mail Ltd, 1 High Street" in said.out and "privacy@mail.test" in said.out
        assert all(of.title in " ".join(said.out.split()) for of in REGISTER.classes)
        assert "185 days" in said.out and "90 days" in said.out and "365 days" not in said.out
    assert run("--json", "privacy", "statement").json["language"] == "en"
    records = run("privacy", "records", "--format", "json").json
    assert {each["name"]: each["ceiling_days"] for each in records["activities"]}["access_events"] == 90
    assert run("privacy", "records").out.startswith("# Records of processing activities\n")
    assert run("privacy", "statement", "--language", "tlh").status == 1
    rows = run("--json", "privacy", "register", "--class", "withheld").json
    assert {row["class"] for row in rows} == {"withheld"} and len(rows) > 5
    assert run("privacy", "register", "--class", "nothing").status == 1


def test_periods_out_of_bounds_are_refused_with_their_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "cleanmail.toml").write_text('[retention]\ntraces = 15\nfolders = ["INBOX=3"]\n')
    said = run("retention", "periods")
    assert said.status == 1
    assert "cleanmail.toml:2: retention.traces: 'traces' must be 2 to 14 days, not 15" in said.err
    assert "cleanmail.toml:3: retention.folders: Only its owner" in said.err


def test_backups_that_would_live_longer_than_the_period_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "cleanmail.toml").write_text("[backup]\nmonthly = 12\n[keys]\nbackup_days = 30\n")
    said = run("retention", "periods")
    assert "cleanmail.toml:4: keys.backup_days must be below the period" in said.err
    assert said.status == 1 and "for up to 372 days, but nothing of them may be older than 219" in said.err


def test_a_run_leaves_receipts_and_status_says_that_all_is_kept(run: Run) -> None:
    before = run("--json", "retention", "status")
    assert before.status == 0 and {row["last_run"] for row in before.json} == {None}
    assert run("retention", "run").status == 0
    after = run("--json", "retention", "status").json
    assert None not in {row["last_run"] for row in after} and {row["state"] for row in after} == {"kept"}
    receipts = run("--json", "retention", "receipts", "--class", "traces", "--since", "1d").json
    assert len(receipts) == 1 and receipts[0]["removed"] == 0 and not receipts[0]["overdue"]
    unknown = run("retention", "receipts", "--class", "bogus")
    assert unknown.status == 1 and "no class of data 'bogus'" in unknown.err
    periods = {row["period"]: row for row in run("--json", "retention", "periods").json}
    assert periods["access"]["ceiling_days"] == 90 and periods["account"]["ceiling_days"] is None
    assert [row["action"] for row in run("--json", "log", "audit").json] == ["retention.run"]


def test_tables_of_retention_fit_a_terminal_of_80_columns(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert run("retention", "run").status == 0
    monkeypatch.setenv("COLUMNS", "80")
    for command, last in (("status", "withheld"), ("periods", "installation")):
        terminal = Terminal()
        with monkeypatch.context() as shown:
            shown.setattr("sys.stdout", terminal)
            assert cli.run(["--data", str(tmp_path / "data"), "retention", command]) == 0
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in terminal.getvalue().splitlines()]
        assert max(map(len, lines)) <= 80 and any(last in line for line in lines), lines
    assert "The last run was at 20" in run("retention", "status").err


def test_a_clock_that_is_not_believed_is_confirmed_by_a_person_and_recorded(run: Run, tmp_path: Path) -> None:
    assert run("clock", "show").status == 0
    (tmp_path / "data" / FILE).unlink()
    shown = run("--json", "clock", "show")
    assert shown.status == 1 and shown.json["doubt"] == "missing"
    refused = run("retention", "run")
    assert refused.status == 3 and "cleanmail clock confirm" in refused.err
    status = run("retention", "status")
    assert status.status == 1 and "cleanmail clock confirm" in status.err
    asked = run("clock", "confirm", stdin="n\n")
    assert asked.status != 0 and run("clock", "show").status == 1
    assert run("clock", "confirm", stdin="y\n").status == 0
    assert run("clock", "show").status == 0 and run("retention", "run").status == 0
    [record] = [row for row in run("--json", "log", "audit").json if row["action"] == "clock.confirm"]
    assert record["details"]["doubt"] == "missing" and record["details"]["clock"] != "None"


def test_folders_are_kept_as_their_owner_wants(acme: Run) -> None:
    def chosen() -> dict[str, tuple[str, int | None]]:
        rows = acme("--json", "account", "folders", "ada@acme.test").json
        return {row["name"]: (row["chosen"], row["days"]) for row in rows}

    assert chosen()["Trash"] == ("", 30) and chosen()["INBOX"] == ("", None)
    said = acme("account", "folders", "ada@acme.test", "--keep", "Trash=never", "--keep", "Junk=14")
    assert said.status == 0 and "Junk" in said.out
    assert chosen()["Trash"] == ("never", None) and chosen()["Junk"] == ("14", 14)
    assert acme("account", "folders", "ada@acme.test", "--keep", "Trash=default").status == 0
    assert chosen()["Trash"] == ("", 30)


@pytest.mark.parametrize("keep", ["INBOX=3", "Junk=0", "Junk"])
def test_rules_that_are_refused_change_nothing(acme: Run, keep: str) -> None:
    said = acme("account", "folders", "ada@acme.test", "--keep", "Junk=3", "--keep", keep)
    assert said.status == 1 and said.err.startswith("cleanmail: ")
    rows = acme("--json", "account", "folders", "ada@acme.test").json
    assert {row["chosen"] for row in rows} == {""}
    if keep.startswith("INBOX"):
        assert acme("account", "folders", "ada@acme.test", "--keep", keep, "--inbox").status == 0


def test_a_folder_that_is_not_there_keeps_the_others_as_they_are(acme: Run) -> None:
    assert acme("account", "folders", "ada@acme.test", "--keep", "Junk=3", "--keep", "Nope=3").status == 1
    assert {row["chosen"] for row in acme("--json", "account", "folders", "ada@acme.test").json} == {""}


# What the jobs role does


def test_the_round_shows_what_is_overdue_and_stops_with_the_clock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FixedClock()
    keys = LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))
    Installation.create(tmp_path, keys, clock)
    installation = Installation(tmp_path, keys, clock)
    metrics = Metrics(CollectorRegistry())
    removing, watch = RetentionRound(installation, metrics), ClockWatch(installation, metrics)
    try:
        removing.run()
        watch.look()
        assert metrics.registry.get_sample_value("cleanmail_retention_overdue", {"class": "traces"}) == 0
        assert metrics.registry.get_sample_value("cleanmail_retention_last_run_seconds") == clock.now()
        assert metrics.registry.get_sample_value("cleanmail_clock_doubted") == 0
        damaged = tmp_path / "certificates" / "damaged.json"  # how old it is cannot be found out
        damaged.parent.mkdir(exist_ok=True)
        damaged.write_text("damaged")
        removing.run()
        assert metrics.registry.get_sample_value("cleanmail_retention_overdue", {"class": "erasures"}) == 1
        damaged.unlink()
        removing.run()
        assert metrics.registry.get_sample_value("cleanmail_retention_overdue", {"class": "erasures"}) == 0
        (tmp_path / "logs" / "traces" / "2020-01-01").mkdir(parents=True)
        clock.jump(400 * 86_400)
        ran = clock.now()
        removing.run()
        watch.look()
        watch.look()
        assert metrics.registry.get_sample_value("cleanmail_clock_doubted") == 1
        assert metrics.registry.get_sample_value("cleanmail_retention_last_run_seconds") == ran - 400 * 86_400
        assert "nothing was removed by time: clock ahead" in caplog.text
        assert caplog.text.count("days ahead of what it should show") == 1
        assert (tmp_path / "logs" / "traces" / "2020-01-01").exists()
        installation.clock_guard.confirm()
        removing.run()
        watch.look()
        assert metrics.registry.get_sample_value("cleanmail_clock_doubted") == 0
        assert not (tmp_path / "logs" / "traces" / "2020-01-01").exists()
        removing.stop()
        clock.advance(3600)
        removing.run()
        assert metrics.registry.get_sample_value("cleanmail_retention_last_run_seconds") == clock.now() - 3600
    finally:
        installation.close()

"""cleanmail tenant end, account delete, ending: the typed name, the second person, and what is printed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hosting import cli

CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"
Run = Callable[..., Any]


@pytest.fixture
def cleanmail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command on an installation with one customer; gives its status, JSON and errors."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "cleanmail.toml").write_text(CHEAP)

    def run(*arguments: str) -> tuple[int, Any, str]:
        status = cli.run(["--data", str(data), "--json", *arguments])
        out, err = capsys.readouterr()
        return status, json.loads(out) if out else None, err

    for command in (
        ["init"],
        ["tenant", "create", "zebrafink"],
        ["domain", "add", "zebrafink", "zebrafink.test", "--verified"],
        ["account", "create", "ann@zebrafink.test", "--without-password"],
    ):
        status, _, err = run(*command)
        assert status == 0, err
    return run


def test_the_help_says_how_many_persons_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tenant", "end", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "A contract that runs on needs a second person first" in said
    assert "Where nothing was agreed (cleanmail contract set), one operator ends it, also while the clock" in said


def test_a_contract_is_ended_by_a_command(cleanmail: Run, tmp_path: Path) -> None:
    status, _, err = cleanmail("tenant", "end", "zebrafink")
    assert status != 0
    assert "--yes" in err
    status, done, err = cleanmail("tenant", "end", "zebrafink", "--yes", "--reason", "gave notice")
    assert status == 0, err
    assert Path(done["json"]).exists()
    assert Path(done["pdf"]).exists()
    status, listed, _ = cleanmail("ending", "list", "--all")
    assert [(row["ending"], row["step"]) for row in listed] == [(done["ending"], "certified")]
    assert cleanmail("ending", "list")[1] == []
    status, shown, _ = cleanmail("ending", "show", done["ending"])
    assert (shown["reason"], shown["accounts"]) == ("gave notice", 1)
    number = shown["tenant"]
    status, again, err = cleanmail("tenant", "end", str(number), "--yes")  # it is over: the same certificate
    assert (status, again) == (0, done), err
    status, tenants, _ = cleanmail("tenant", "list")
    assert [(row["state"], row["accounts"]) for row in tenants] == [("ended", 0)]
    assert cleanmail("account", "list")[:2] == (0, [])
    assert cleanmail("tenant", "create", "zebrafink")[0] == 0
    assert cleanmail("ending", "show", "none")[0] != 0


def test_an_account_is_deleted_with_a_certificate(cleanmail: Run) -> None:
    status, done, err = cleanmail("account", "delete", "ann@zebrafink.test", "--yes")
    assert status == 0, err
    status, shown, _ = cleanmail("certificate", "show", done["certificate"])
    assert status == 0
    assert cleanmail("account", "list")[1] == []
    assert cleanmail("ending", "resume", done["ending"])[0] == 0
    assert cleanmail("account", "create", "ann@zebrafink.test", "--without-password")[0] == 0
    assert shown


@pytest.mark.parametrize("stored", [False, True])
def test_whoever_keeps_copies_of_the_master_is_told_to_replace_them(
    cleanmail: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], stored: bool
) -> None:
    """Not where a key store keeps it."""
    data, kept = tmp_path / "data", tmp_path / "kept"
    if stored:
        (data / "keys" / "master").rename(kept)
        keys = f'[keys]\nmaster_command = ["cat", "{kept}"]\nmaster_store_command = ["tee", "{kept}"]\n'
        (data / "cleanmail.toml").write_text(CHEAP + keys)
    assert cli.run(["--data", str(data), "account", "delete", "ann@zebrafink.test", "--yes"]) == 0
    assert ("cleanmail keys saved" in capsys.readouterr().err) is not stored
    assert cleanmail("tenant", "end", "zebrafink", "--yes")[1]["save_master"] is not stored
    assert cleanmail("keys", "status")[1]["master_generation"] == 3


def test_a_contract_that_runs_on_needs_a_second_person(cleanmail: Run) -> None:
    status, _, err = cleanmail("contract", "set", "zebrafink", "--accounts", "5")
    assert status == 0, err
    status, _, err = cleanmail("tenant", "end", "zebrafink", "--yes")
    assert status != 0
    said = json.loads(err)["message"]
    assert said.endswith("cleanmail request ask early_erasure --tenant zebrafink --reason 'say why here'")
    _, _, err = cleanmail("tenant", "end", "zebrafink", "--yes", "--reason", "they're gone")
    command = shlex.split(json.loads(err)["message"].partition(": cleanmail ")[2])
    assert command[-1] == "they're gone"
    asked = cleanmail(*command)
    assert asked[0] == 0
    _, _, err = cleanmail("tenant", "end", "zebrafink", "--yes")
    assert f"Request {asked[1]['id']} waits for a second person" in err
    assert [row["state"] for row in cleanmail("tenant", "list")[1]] == ["active"]

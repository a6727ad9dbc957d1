"""cleanmail disclosure: a case from its record to the report, by two people at the command line."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pwd
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hosting import cli, composition, config
from storage.directory.approvals import Approvals

ME = pwd.getpwuid(os.getuid()).pw_name
CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"
ACCOUNT = "ada@acme.test"


class Place:
    def __init__(self, data: Path, run: Callable[..., tuple[int, str, str]]) -> None:
        self.data = data
        self.letter = data.parent / "letter.pdf"
        self.letter.write_bytes(b"We demand ...")
        self.run = run

    def json(self, *arguments: str) -> Any:
        status, out, err = self.run(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    def record(self, **options: str) -> tuple[int, str, str]:
        given = {
            "authority": "District court",
            "kind": "court",
            "legal-basis": "Art. 269 StPO",
            "document": str(self.letter),
            "account": ACCOUNT,
            "scope": "account,access",
            "from": "2026-01-01",
            "to": "2027-01-01",
            "reason": "valid",
        } | {name.replace("_", "-"): value for name, value in options.items()}
        arguments = [each for name, value in given.items() if value for each in (f"--{name}", value)]
        return self.run("disclosure", "record", *arguments, "--json")

    def approve(self, request: str) -> None:
        """By another person, who is none of this machine's users."""
        with composition.administration(self.data, config.load(self.data / "cleanmail.toml")) as administration:
            approvals: Approvals = administration.control.approvals
            approvals.decide(request, "somebody-else", True, unix="somebody-else")


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CHEAP)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        return status, *capsys.readouterr()

    for arguments in (
        ["init"],
        ["tenant", "create", "acme"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", ACCOUNT, "--without-password"],
    ):
        assert run(*arguments)[0] == 0
    return Place(data, run)


def test_from_the_letter_to_the_report(place: Place, tmp_path: Path) -> None:
    status, out, err = place.record()
    assert status == 0, err
    made = json.loads(out)
    assert made["document_sha256"] == hashlib.sha256(b"We demand ...").hexdigest() and made["state"] == "recorded"
    target = tmp_path / "handed"
    status, _, err = place.run("disclosure", "extract", made["case"], str(target))
    assert status == 1 and f"Request {made['request']} waits for a second person" in err and not target.exists()
    assert place.run("request", "withdraw", made["request"])[0] == 0
    _, _, err = place.run("disclosure", "extract", made["case"], str(target))
    command = shlex.split(err.partition(": cleanmail ")[2])
    assert command[2:7] == ["disclosure", "--case", made["case"], "--account", ACCOUNT]
    made["request"] = place.json(*command)["id"]
    assert place.run("request", "approve", made["request"])[0] == 1  # who asked is not the second person
    place.approve(made["request"])
    done = place.json("disclosure", "extract", made["case"], str(target))
    assert (done["state"], done["items"], done["accounts"]) == ("disclosed", 1, 1)
    assert done["manifest_sha256"] == hashlib.sha256((target / "manifest.json").read_bytes()).hexdigest()
    (line,) = (target / "extract.jsonl").read_text().splitlines()
    assert json.loads(line)["account"] == ACCOUNT
    told = place.json("audit", "mine", ACCOUNT)
    assert "handed data about you to an authority" in {each["what"] for each in told}
    assert [each["case"] for each in place.json("disclosure", "list")] == [made["case"]]
    shown = place.json("disclosure", "show", made["case"])
    assert "disclosure-case.show" in {each["action"] for each in place.json("audit", "list", "--account", ACCOUNT)}
    assert shown["what"] == ["access", "account"] and shown["from"].startswith("2026-01-01")
    assert shown["to"] == "2027-01-02T00:00:00Z"  # the last day is included
    year = str(time.gmtime().tm_year)
    assert place.json("disclosure", "report", "--year", year)["by_outcome"]["disclosed"] == 1
    text = place.run("disclosure", "report", "--year", year)[1]
    assert "| Art. 269 StPO | 1 |" in text and "District court" not in text


def test_the_last_day_of_secrecy_is_secret(place: Place) -> None:
    status, out, err = place.record(secret_until="2099-05-31")
    assert status == 0 and json.loads(out)["secret_until"] == "2099-06-01T00:00:00Z", err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scope": "everything"}, "no class of data"),
        ({"scope": "messages"}, "message by message"),
        ({"scope": "messages", "message": "INBOX"}, "names no message"),
        ({"scope": "messages", "message": "INBOX/1", "account": "", "tenant": "acme"}, "name the account"),
        ({"message": "INBOX/1"}, "and no others"),
        ({"to": "2025-01-01"}, "ends after it begins"),
        ({"tenant": "acme"}, "either the --account or the --tenant"),
        ({"account": "nobody@acme.test"}, "no account"),
        ({"legal_basis": " "}, "legal basis is needed"),
        ({"authority": "two\nlines"}, "authority is needed"),
        ({"secret_until": "2020-01-01"}, "over already"),
        ({"reason": " "}, "reason is needed"),
    ],
)
def test_what_is_no_demand(place: Place, options: dict[str, str], said: str) -> None:
    status, _, err = place.record(**options)
    assert status == 1 and said in err
    assert place.json("disclosure", "list") == []


def test_refused(place: Place) -> None:
    made = json.loads(place.record()[1])
    assert place.json("disclosure", "challenge", made["case"], "--reason", "too wide")["state"] == "challenged"
    resumed = place.json("disclosure", "resume", made["case"], "--reason", "confirmed")
    assert resumed["state"] == "recorded" and resumed["request"] != made["request"]
    # Asked for by hand, since a request expires, it is for the case as it went on.
    again = place.json(
        "request", "ask", "disclosure", "--case", made["case"], "--account", ACCOUNT, "--reason", "once more"
    )
    assert again["scope"] == place.json("request", "show", resumed["request"])["scope"]
    assert place.json("disclosure", "refuse", made["case"], "--reason", "no basis")["state"] == "refused"
    status, _, err = place.run("disclosure", "extract", made["case"], str(place.data.parent / "out"))
    assert status == 1 and "refused" in err
    assert place.run("disclosure", "show", "none")[0] == 1

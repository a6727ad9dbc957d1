"""The command line on a real installation: what it prints, what it answers to scripts, and its exit status."""

from __future__ import annotations

import io
import json
import mailbox
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hosting import cli
from hosting.cli.output import Output

Run = Callable[..., Any]

MESSAGE = (
    b"From: a@example.org\r\nTo: ada@acme.test\r\nSubject: %d\r\nDate: Mon, 4 May 2026 08:00:00 +0200\r\n\r\nText\r\n"
)
CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"


class Outcome:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def cleanmail(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command on an installation of its own."""
    data = tmp_path / "data"

    def run(*arguments: str, stdin: str = "") -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    return run


@pytest.fixture
def acme(cleanmail: Run, tmp_path: Path) -> Run:
    """With a tenant, a verified domain and an account."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "cleanmail.toml").write_text(CHEAP)
    for arguments in (
        ["init"],
        ["tenant", "create", "acme", "--name", "ACME Ltd"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ada@acme.test", "--name", "Ada", "--generate"],
    ):
        assert cleanmail(*arguments).status == 0
    return cleanmail


def test_before_init_one_sentence_says_what_to_do(cleanmail: Run) -> None:
    found = cleanmail("tenant", "list")
    assert (found.status, found.out) == (3, "")
    assert found.err.startswith("cleanmail: There is no installation in ") and found.err.count("\n") == 1


def test_init_twice_is_refused(acme: Run) -> None:
    assert acme("init").status == 1


def test_json_may_stand_anywhere(acme: Run) -> None:
    first = acme("--json", "tenant", "list").json
    assert first == acme("tenant", "list", "--json").json
    assert first[0]["slug"] == "acme" and first[0]["accounts"] == 1 and first[0]["state"] == "active"


def test_tables_are_aligned_and_without_colour_outside_a_terminal(acme: Run) -> None:
    lines = acme("account", "list").out.splitlines()
    assert "\x1b" not in "".join(lines)
    assert lines[0].index("address") == lines[1].index("ada@acme.test")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["account", "show", "nobody@acme.test"], 1, "not-found"),
        (["account", "show", "ada@elsewhere.test"], 1, "not-found"),
        (["account", "show", "no address"], 1, "invalid-input"),
        (["tenant", "create", "acme"], 1, "already-exists"),
        (["tenant", "create", "Not A Slug"], 1, "invalid-input"),
        (["tenant", "show", "nobody"], 1, "not-found"),
        (["domain", "add", "acme", "acme.test"], 1, "already-exists"),
        (["alias", "remove", "info@acme.test"], 1, "not-found"),
        (["account", "quota", "ada@acme.test", "--storage", "much"], 1, "invalid-input"),
        (["account", "delete", "ada@acme.test"], 1, "invalid-input"),
        (["account", "passwd", "ada@acme.test", "--password-stdin"], 1, "invalid-input"),
        (["log", "access", "--since", "yesterday"], 1, "invalid-input"),
        (["import", "ada@acme.test", "/nonexistent"], 1, "invalid-input"),
    ],
)
def test_an_error_is_one_sentence_with_a_status_and_a_code(
    acme: Run, arguments: list[str], status: int, code: str
) -> None:
    found = acme(*arguments)
    assert (found.status, found.out) == (status, "")
    assert found.err.startswith("cleanmail: ") and "Traceback" not in found.err
    assert json.loads(acme(*arguments, "--json").err)["error"] == code


@pytest.mark.parametrize(
    "arguments", [["account", "crate"], ["account", "create"], ["--nonsense"], ["queue", "list", "--limit", "0"]]
)
def test_wrong_usage_has_a_status_of_its_own(cleanmail: Run, arguments: list[str]) -> None:
    found = cleanmail(*arguments)
    assert found.status == 2 and "Error:" in found.err


def test_a_broken_configuration_is_told_with_its_line(acme: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "cleanmail.toml").write_text("[imap]\nidle_timout = 3\n")
    found = acme("tenant", "list")
    assert found.status == 1 and "cleanmail.toml:2: unknown key 'idle_timout'" in found.err


def test_passwords_come_from_standard_input_or_are_shown_once(acme: Run) -> None:
    shown = acme("account", "passwd", "ada@acme.test", "--generate", "--json").json
    assert len(shown["password"]) >= 20
    quiet = acme("account", "passwd", "ada@acme.test", "--password-stdin", stdin="correct horse battery\n")
    assert quiet.status == 0 and "horse" not in quiet.out + quiet.err
    short = acme("account", "passwd", "ada@acme.test", "--password-stdin", stdin="short\n")
    assert short.status == 1 and "at least" in short.err


def test_a_domain_is_pending_until_somebody_vouches_for_it(acme: Run) -> None:
    added = acme("domain", "add", "acme", "Bücher.example", "--json").json
    assert added["state"] == "pending" and added["record"].startswith("_cleanmail.xn--bcher-kva.example ")
    assert acme("domain", "verify", "bücher.example", "--verified", "--json").json["state"] == "verified"
    assert [row["state"] for row in acme("domain", "list", "acme", "--json").json] == ["verified", "verified"]


def test_aliases_and_catch_alls(acme: Run) -> None:
    assert acme("alias", "add", "info@acme.test", "ada@acme.test", "boss@elsewhere.test").status == 0
    assert acme("alias", "add", "@acme.test", "ada@acme.test").status == 0
    listed = {row["alias"]: row["targets"] for row in acme("alias", "list", "--json").json}
    assert listed == {
        "info@acme.test": ["ada@acme.test", "boss@elsewhere.test"],
        "@acme.test": ["ada@acme.test"],
    }
    assert acme("alias", "remove", "info@acme.test").status == 0
    assert [row["alias"] for row in acme("alias", "list", "--json").json] == ["@acme.test"]


def test_quota_is_set_and_shown_with_what_is_used(acme: Run) -> None:
    assert acme("account", "quota", "ada@acme.test", "--storage", "5G", "--messages", "100").status == 0
    shown = acme("account", "quota", "ada@acme.test", "--json").json
    assert (shown["storage_limit"], shown["messages_limit"], shown["storage_used"]) == (5 * 10**9, 100, 0)
    assert "5.0 GB" in acme("account", "quota", "ada@acme.test").out


def test_app_passwords_are_shown_once_and_revoked(acme: Run) -> None:
    made = acme("app-password", "create", "ada@acme.test", "phone", "--protocol", "imap", "--json").json
    assert made["password"] and made["protocols"] == ["imap"]
    assert made["password"] not in acme("app-password", "list", "ada@acme.test").out
    assert acme("app-password", "list", "ada@acme.test", "--json").json[0]["scram"] is True
    assert acme("app-password", "revoke", "ada@acme.test", str(made["number"])).status == 0
    assert acme("app-password", "list", "ada@acme.test", "--json").json[0]["revoked"]
    assert acme("app-password", "revoke", "ada@acme.test", "99").status == 1


def test_import_twice_brings_everything_once(acme: Run, tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "old.mbox")
    for number in range(3):
        box.add(MESSAGE % number)
    box.flush()
    first = acme("import", "ada@acme.test", str(tmp_path / "old.mbox"), "--mailbox", "Old", "--json").json
    assert (first["imported"], first["present"], first["failed"]) == (3, 0, [])
    again = acme("import", "ada@acme.test", str(tmp_path / "old.mbox"), "--mailbox", "Old", "--json").json
    assert (again["imported"], again["present"]) == (0, 3)
    assert acme("account", "quota", "ada@acme.test", "--json").json["messages_used"] == 3
    assert acme("check", "--json").json == []
    assert acme("check", "ada@acme.test", "--contents").status == 0


def test_suspend_and_resume(acme: Run) -> None:
    assert acme("tenant", "suspend", "acme", "--json").json["state"] == "suspended"
    assert acme("tenant", "resume", "acme", "--json").json["state"] == "active"
    assert acme("account", "suspend", "ada@acme.test", "--json").json["state"] == "suspended"
    assert acme("account", "resume", "ada@acme.test", "--json").json["state"] == "active"


def test_delete_leaves_nothing_of_the_account(acme: Run, tmp_path: Path) -> None:
    number = acme("account", "show", "ada@acme.test", "--json").json["number"]
    assert acme("account", "delete", "ada@acme.test", "--yes").status == 0
    assert acme("account", "list", "--json").json == []
    left = [
        path for path in (tmp_path / "data").rglob("*") if path.parent.name == "accounts" and path.name == str(number)
    ]
    assert left == []
    assert acme("check", "--json").json == []


def test_empty_lists_say_so(acme: Run) -> None:
    assert "The queue is empty." in acme("queue", "list").err
    assert acme("queue", "list", "--json").json == []
    assert acme("log", "access", "--json").json == []
    assert acme("upgrade", "--check", "--json").json == []


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_a_narrow_terminal_cuts_nothing_off(monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", width)
    row = {
        "id": "06h17tu1l487qek8",
        "from": "2026-11-25T18:28:53Z",
        "until": "2026-11-25T19:05:19Z",
        "note": "a few words",
    }
    Output(as_json=False).rows({name: name for name in row}, [row], "")
    said = terminal.getvalue()
    for whole in ("06h17tu1l487qek8", "2026-11-25T18:28:53Z", "2026-11-25T19:05:19Z", "words"):
        assert whole in said

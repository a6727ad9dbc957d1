"""cleanmail filter policy, allow and deny on a real installation: what is set, shown and refused; audit records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hosting import cli

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def cleanmail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(
        '[server]\nhostname = "mx.provider.test"\n[listen]\naddresses = ["127.0.0.1"]\n'
        '[dns]\nnameservers = ["127.0.0.1"]\nport = 9\n[filter.rules]\njunk_at = 4.5\n'
    )

    def run(*arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        status = cli.run(["--data", str(data), "--json", *arguments])
        said = capsys.readouterr()
        return status, json.loads(said.out) if said.out else None, said.err

    for arguments in (
        ["init"],
        ["tenant", "create", "acme"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ada@acme.test", "--without-password"],
    ):
        assert run(*arguments)[0] == 0
    return run


def rules(cleanmail: Run, *whose: str) -> dict[str, tuple[str, str]]:
    status, rows, _ = cleanmail("filter", "policy", "show", *whose)
    assert status == 0
    return {row["rule"]: (row["value"], row["set_by"]) for row in rows}


def test_the_nearest_value_counts_until_it_is_unset(cleanmail: Run) -> None:
    assert rules(cleanmail)["junk_at"] == ("4.5", "installation")
    for value, *whose in (
        ["5", "--tenant", "acme"],
        ["6", "--domain", "acme.test"],
        ["7", "--account", "ada@acme.test"],
    ):
        assert cleanmail("filter", "policy", "set", "junk-at", value, *whose)[0] == 0
    assert rules(cleanmail)["junk_at"] == ("4.5", "installation")
    assert rules(cleanmail, "--tenant", "acme")["junk_at"] == ("5", "tenant")
    assert rules(cleanmail, "--domain", "acme.test")["junk_at"] == ("6", "domain")
    assert rules(cleanmail, "--account", "ada@acme.test")["junk_at"] == ("7", "account")
    assert rules(cleanmail, "--account", "ada@acme.test", "--changed") == {"junk_at": ("7", "account")}
    status, said, _ = cleanmail("filter", "policy", "unset", "junk_at", "--account", "ada@acme.test")
    assert (status, said["value"]) == (0, "6")
    assert cleanmail("filter", "policy", "unset", "junk_at", "--account", "ada@acme.test")[0] == 1
    assert rules(cleanmail, "--account", "ada@acme.test")["junk_at"] == ("6", "domain")
    audit = [(each["action"], each["details"]) for each in cleanmail("log", "audit")[1]]
    assert ("filter.policy-set", {"of": "acme.test", "rule": "junk_at", "value": "6"}) in audit
    assert ("filter.policy-unset", {"of": "ada@acme.test", "rule": "junk_at"}) in audit


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["policy", "set", "junk_at", "many", "--tenant", "acme"], "is a number from 0.1 to 100"),
        (["policy", "set", "junk_att", "5", "--tenant", "acme"], "did you mean junk_at?"),
        (["policy", "set", "malware", "reject", "--account", "ada@acme.test"], "not for accounts"),
        (["policy", "set", "trusted_sealers", "a.test", "--tenant", "acme"], "in its configuration"),
        (["policy", "set", "junk_at", "5"], "one of --tenant, --domain and --account"),
        (["policy", "set", "junk_at", "5", "--tenant", "acme", "--domain", "acme.test"], "one of --tenant"),
        (["policy", "set", "junk_at", "5", "--tenant", "nobody"], "no tenant"),
        (["policy", "unset", "junk_at", "--tenant", "acme"], "is not set for tenant acme"),
        (["policy", "unset", "jnk_at", "--tenant", "acme"], "did you mean junk_at?"),
        (["allow", "add", "example.org", "--tenant", "acme"], "no address, @domain"),
        (["deny", "add", "0.0.0.0/0", "--tenant", "acme"], "too large"),
        (["deny", "remove", "@example.org", "--tenant", "acme"], "is not on the deny list of tenant acme"),
        (["deny", "list"], "one of --tenant"),
        (["allow", "add", "@example.org", "--account", "bob@acme.test"], "no account"),
    ],
)
def test_what_is_refused(cleanmail: Run, arguments: list[str], why: str) -> None:
    status, said, error = cleanmail("filter", *arguments)
    assert (status, said) == (1, None) and why in error
    assert cleanmail("filter", "policy", "show", "--tenant", "acme", "--changed")[1] == []
    assert cleanmail("filter", "deny", "list", "--tenant", "acme")[1] == []
    assert not [each for each in cleanmail("log", "audit")[1] if each["action"].startswith("filter.")]


def test_lists(cleanmail: Run) -> None:
    assert cleanmail("filter", "allow", "add", "@Example.org", "--tenant", "acme", "--unproven")[0] == 0
    assert cleanmail("filter", "allow", "add", "ann@example.net", "--account", "ada@acme.test")[0] == 0
    assert cleanmail("filter", "deny", "add", "192.0.2.1", "--domain", "acme.test")[0] == 0
    status, _, error = cleanmail("filter", "deny", "add", "@example.org", "--tenant", "acme")
    assert status == 1 and "is on the allow list" in error
    listed = cleanmail("filter", "allow", "list", "--tenant", "acme")[1]
    assert [(row["pattern"], row["of"], row["unproven"]) for row in listed] == [
        ("@example.org", "tenant acme", True),
        ("ann@example.net", "ada@acme.test", False),
    ]
    [denied] = cleanmail("filter", "deny", "list", "--domain", "acme.test")[1]
    assert (denied["pattern"], denied["of"], denied["list"]) == ("192.0.2.1/32", "acme.test", "deny")
    assert cleanmail("filter", "allow", "remove", "@EXAMPLE.org", "--tenant", "acme")[0] == 0
    assert len(cleanmail("filter", "allow", "list", "--tenant", "acme")[1]) == 1
    actions = [each["action"] for each in cleanmail("log", "audit")[1]]
    assert [each for each in actions if each.startswith("filter.")] == [
        "filter.allow-add",
        "filter.allow-add",
        "filter.deny-add",
        "filter.allow-remove",
    ], "what was refused left no record"


def test_people_read_sentences_and_tables(cleanmail: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = ["--data", str(tmp_path / "data"), "filter"]
    assert cli.run([*program, "allow", "add", "@example.org", "--tenant", "acme", "--unproven"]) == 0
    said = capsys.readouterr()
    assert said.out == "@example.org is on the allow list of tenant acme.\n"
    assert "nothing has to prove it" in said.err
    assert cli.run([*program, "policy", "set", "spam_here", "tag", "--domain", "acme.test"]) == 0
    assert capsys.readouterr().out == "The rule spam_here of acme.test is tag.\n"
    assert cli.run([*program, "policy", "show", "--domain", "acme.test", "--changed"]) == 0
    assert capsys.readouterr().out.split()[-4:] == ["spam_here", "tag", "domain", "account"]
    assert cli.run([*program, "deny", "list", "--tenant", "acme"]) == 0
    assert "Nobody is on the deny list" in capsys.readouterr().err

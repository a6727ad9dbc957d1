"""cleanmail account calendar: whose invitations by mail go into a calendar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hosting import cli


def test_whose_invitations_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text("[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n")

    def run(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        status = cli.run(["--data", str(data), "--json", *arguments])
        said = capsys.readouterr()
        return status, json.loads(said.out) if status == 0 and said.out else said.err

    assert run("init")[0] == 0
    assert run("tenant", "create", "acme", "--name", "Acme")[0] == 0
    assert run("domain", "add", "acme", "acme.test", "--verified")[0] == 0
    assert run("account", "create", "eva@acme.test", "--without-password")[0] == 0
    chosen = {"address": "eva@acme.test", "invitations": "known"}
    assert run("account", "calendar", "eva@acme.test") == (0, chosen)
    chosen["invitations"] = "nobody"
    assert run("account", "calendar", "eva@acme.test", "--invitations", "nobody") == (0, chosen)
    assert run("account", "calendar", "eva@acme.test") == (0, chosen)
    status, said = run("account", "calendar", "eva@acme.test", "--invitations", "some")
    assert status != 0 and "known, everybody, nobody" in str(said)

"""A contract ends after a backup was made: whatever keys are brought back, nothing of it comes back; the rest does."""

from __future__ import annotations

import io
import json
import mailbox
import os
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hosting import cli

CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"
TOKEN = b"heron-token-8841"


@dataclass
class Town:
    folder: Path

    def run(self, data: str, *arguments: str) -> tuple[int, Any, str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = cli.run(["--data", str(self.folder / data), "--json", *arguments])
        return status, json.loads(out.getvalue()) if out.getvalue() else None, err.getvalue()

    def data(self, name: str, master: str) -> Path:
        """A data directory whose master lives in a file beside."""
        data = self.folder / name
        data.mkdir(mode=0o700)
        settings = f'[keys]\nmaster_file = "{self.folder / master}"\n'
        (data / "cleanmail.toml").write_text(CHEAP + settings)
        return data

    def did(self, *arguments: str, data: str = "data") -> Any:
        status, out, err = self.run(data, *arguments)
        assert status == 0, err
        return out


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    """Two customers, a backup and a copy of the keys with its master; then one of the contracts ended."""
    tmp_path = tmp_path_factory.mktemp("town")
    town = Town(tmp_path)
    archive = mailbox.mbox(tmp_path / "mail.mbox")
    for number in range(3):
        archive.add(b"From: a@example.org\r\nSubject: %d %b\r\n\r\nText\r\n" % (number, TOKEN))
    archive.close()
    town.data("data", "master")
    town.did("init")
    for slug in ("heron", "stork"):
        town.did("tenant", "create", slug)
        town.did("domain", "add", slug, f"{slug}.test", "--verified")
        town.did("account", "create", f"ann@{slug}.test", "--without-password")
        town.did("import", f"ann@{slug}.test", str(tmp_path / "mail.mbox"))
    town.did("backup", str(tmp_path / "to"))
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    town.did("keys", "backup", str(tmp_path / "before"), "--days", "5")
    shutil.copy(tmp_path / "master", tmp_path / "master-before")
    town.did("tenant", "end", "heron", "--yes")
    town.did("keys", "backup", str(tmp_path / "after"), "--days", "5")
    return town


def copy_of_keys(town: Town, when: str) -> str:
    [name] = os.listdir(town.folder / when)
    return str(town.folder / when / name)


def look(town: Town, data: str) -> None:
    """Heron is gone, stork is whole."""
    assert [(row["slug"], row["state"]) for row in town.did("tenant", "list", data=data)] == [
        ("ended-1", "ended"),
        ("stork", "active"),
    ]
    assert [row["address"] for row in town.did("account", "list", data=data)] == ["ann@stork.test"]
    assert [row["domain"] for row in town.did("domain", "list", data=data)] == ["stork.test"]
    assert os.listdir(town.folder / data / "tenants") == ["2"]
    assert not (town.folder / data / "keys" / "1").exists()
    assert town.did("check", "--contents", data=data) in ([], None)
    out = town.folder / f"{data}-stork"
    town.did("export", "ann@stork.test", str(out), data=data)
    assert sum(TOKEN in path.read_bytes() for path in out.rglob("*") if path.is_file()) == 3
    town.did("tenant", "create", "heron", data=data)  # and the name is free


def test_with_the_keys_of_after(town: Town) -> None:
    town.data("new", "master")
    town.did("keys", "restore", copy_of_keys(town, "after"), data="new")
    found = town.did("restore", str(town.folder / "to"), "--installation", str(town.folder / "new"))
    assert (found["tenants"], found["erased_tenants"], found["keys_destroyed"], found["without_key"]) == (1, 1, 0, [])
    look(town, "new")


def test_with_the_keys_of_before(town: Town) -> None:
    old = town.data("old", "master")
    status, _, err = town.run("old", "keys", "restore", copy_of_keys(town, "before"))
    assert status != 0
    assert "The master key does not open this copy" in err
    assert "Nothing was changed" in err
    arguments = ["restore", str(town.folder / "to"), "--installation", str(old)]
    status, _, err = town.run("data", *arguments)
    assert status != 0
    assert "There are no keys in" in err.replace("\n", " ")
    assert os.listdir(old) == ["cleanmail.toml"]

    # With an old copy of the master too everything opens: then the certificates say what may not come back.
    (old / "cleanmail.toml").unlink()
    old.rmdir()
    old = town.data("old", "master-before")
    town.did("keys", "restore", copy_of_keys(town, "before"), data="old")
    assert (old / "keys" / "1").exists()
    shutil.copytree(town.folder / "data" / "certificates", old / "certificates")
    status, found, err = town.run("data", *arguments)
    assert status == 0, err
    assert (found["tenants"], found["erased_tenants"], found["keys_destroyed"], found["without_key"]) == (1, 1, 1, [])
    look(town, "old")
    assert town.did("ending", "list", "--all", data="old")[0]["step"] == "certified"

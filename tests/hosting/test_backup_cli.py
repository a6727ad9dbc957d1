"""cleanmail backup and cleanmail restore: what they print, what they refuse; backups that are made by themselves."""

from __future__ import annotations

import json
import mailbox
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hosting import cli, composition
from hosting.backup_round import BackupRound
from hosting.config import parse
from storage.backup.place import Place
from storage.directory.rows import State

Run = Callable[..., Any]
CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"
MESSAGE = b"From: a@example.org\r\nSubject: %d\r\nDate: Mon, 4 May 2026 08:00:00 +0200\r\n\r\nText\r\n"


class Outcome:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with a tenant, an account and three messages."""
    folder = tmp_path_factory.mktemp("template")
    data = folder / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CHEAP)
    archive = mailbox.mbox(folder / "mail.mbox")
    for number in range(3):
        archive.add(MESSAGE % number)
    archive.close()
    for arguments in (
        ["init"],
        ["tenant", "create", "acme", "--name", "ACME Ltd"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ada@acme.test", "--generate"],
        ["alias", "add", "info@acme.test", "ada@acme.test"],
        ["import", "ada@acme.test", str(folder / "mail.mbox")],
    ):
        assert cli.run(["--data", str(data), *arguments]) == 0
    return data


@pytest.fixture
def cleanmail(tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command on a copy of it."""
    data = tmp_path / "data"
    shutil.copytree(template, data, symlinks=True)

    def run(*arguments: str, data: Path = data) -> Outcome:
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    return run


def test_a_backup_is_made_listed_verified_and_restored(cleanmail: Run, tmp_path: Path) -> None:
    to = str(tmp_path / "to")
    made = cleanmail("backup", to, "--json").json
    assert made["files"] >= 8 and made["missing"] == made["skipped"] == []
    assert not list(Path(made["path"]).rglob("master")) and (Path(made["path"]) / "data/cleanmail.toml").exists()
    [row] = cleanmail("backup", "list", to, "--json").json
    assert row["name"] == made["name"] and row["verified"] is None
    verified = cleanmail("backup", "verify", to, "--all", "--json").json
    assert verified["right"] and verified["read"] == made["files"] and verified["messages"] == 3
    assert cleanmail("backup", "list", to, "--json").json[0]["verified"] is not None

    restored = cleanmail("restore", to, "--folder", "ada@acme.test", "INBOX")
    assert restored.status == 0 and "3 messages" in restored.out and "Restored/" in restored.out
    again = cleanmail("restore", made["path"], "--account", "ada@acme.test", "--json").json
    assert (again["messages"], again["present"], again["stopped"]) == (0, 3, None)

    assert cleanmail("alias", "remove", "info@acme.test").status == 0
    tenant = cleanmail("restore", to, "--tenant", "acme", "--json").json
    assert tenant["aliases"] == ["info@acme.test"] and not tenant["made_again"] and len(tenant["accounts"]) == 1
    assert cleanmail("restore", to, "--tenant", "acme", "--yes", "--json").json["made_again"]
    assert "info@acme.test" in cleanmail("alias", "list").out

    target = tmp_path / "new"
    target.mkdir()
    shutil.copytree(tmp_path / "data/keys", target / "keys")
    whole = cleanmail("restore", to, "--installation", str(target), "--json").json
    assert (whole["tenants"], whole["accounts"], whole["without_key"]) == (1, 1, [])
    assert cleanmail("check", "--contents", data=target).out == "" and (target / "cleanmail.toml").exists()
    records = cleanmail("restore", to, "--installation", str(target))
    assert records.status == 1 and "is not empty" in records.err


def test_what_is_refused_is_said_in_one_sentence(cleanmail: Run, tmp_path: Path) -> None:
    to = str(tmp_path / "to")
    for arguments, status, sentence in (
        (["backup", str(tmp_path / "data/backups")], 1, "lie in each other"),
        (["backup", "/proc/backups"], 3, "cannot be written to"),
        (["backup", "verify"], 1, "has no [backup] directory"),
        (["backup", "list", to], 1, "There are no backups in"),
        (["restore", to, "--account", "ada@acme.test"], 1, "There are no backups in"),
        (["restore", to], 2, "one of --tenant, --account, --folder and"),
        (["restore", to, "--tenant", "acme", "--folder", "ada@acme.test", "INBOX"], 2, "one of --tenant"),
        (["restore", to, "--tenant", "acme", "--queue"], 2, "--queue needs --installation"),
        (["restore", to, "--tenant", "acme", "--at", "yesterday"], 1, "is no time"),
    ):
        outcome = cleanmail(*arguments)
        assert outcome.status == status and sentence in outcome.err.replace("\n", " "), (arguments, outcome.err)
    assert cleanmail("backup", to).status == 0
    before = cleanmail("restore", to, "--account", "ada@acme.test", "--at", "2020-01-01")
    assert before.status == 1 and "was made later" in before.err
    with Place(Path(to)).alone():
        assert "Another backup" in cleanmail("backup", to).err
    name = os.listdir(tmp_path / "to/" / sorted(os.listdir(to))[-1] / "data/tenants/1/accounts/1/Maildir/cur")[0]
    next((tmp_path / "to").rglob(name)).unlink()
    wrong = cleanmail("backup", "verify", to)
    assert wrong.status == 6 and name in wrong.err and "wrong" in wrong.out


def test_a_deleted_account_is_said_to_be_gone_for_good(cleanmail: Run, tmp_path: Path) -> None:
    to = str(tmp_path / "to")
    assert cleanmail("backup", to).status == 0
    with composition.administration(tmp_path / "data", parse("")) as administration:
        installation, tenant_id = administration.installation, administration.control.tenants()[0].tenant_id
        [row] = installation.tenant(tenant_id).accounts()
        installation.keys.destroy_account_key(tenant_id, row.account_id)
    outcome = cleanmail("restore", to, "--account", "ada@acme.test")
    assert outcome.status == 1 and "never be read again" in outcome.err
    with composition.administration(tmp_path / "data", parse("")) as administration:
        tenant = administration.installation.tenant(tenant_id)
        tenant.change_state(row.account_id, State.ENDED)
        tenant.remove_account(row.account_id)
    outcome = cleanmail("restore", to, "--account", "ada@acme.test")
    assert outcome.status == 1 and "never be read again" in outcome.err
    outcome = cleanmail("restore", to, "--account", "bob@acme.test")
    assert outcome.status == 1 and "There was no account bob@acme.test" in outcome.err


def test_backups_are_made_by_themselves_and_those_that_had_their_time_go(cleanmail: Run, tmp_path: Path) -> None:
    del cleanmail
    config = parse(CHEAP + f'[backup]\ndirectory = "{tmp_path / "to"}"\nevery_hours = 2\n')
    with composition.administration(tmp_path / "data", config) as administration:
        round_ = BackupRound(administration.installation, config)
        round_.look()
        round_.look()  # it is not time
        names = Place(tmp_path / "to").names()
        assert len(names) == 1
        BackupRound(administration.installation, parse("")).look()  # nothing is configured
        assert Place(tmp_path / "to").names() == names
        round_.stop()
        round_.look()
        assert Place(tmp_path / "to").names() == names

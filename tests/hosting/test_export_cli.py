"""cleanmail export and import: what people type, and what they are told."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from hosting import cli, composition, config
from storage.installation import Installation
from storage.schema.account import mailbox
from storage.values import SEEN, AccountId, TenantId

CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"
LETTER = b"From: a@b.test\r\nSubject: token-%d\r\n\r\nbody\r\n"


class Said:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("exports") / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CHEAP)
    for arguments in (
        ["init"],
        ["tenant", "create", "acme"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ada@acme.test", "--without-password", "--name", "Ada", "--storage", "1G"],
        ["account", "create", "bob@acme.test", "--without-password"],
        ["alias", "add", "hello@acme.test", "ada@acme.test"],
        ["alias", "add", "all@acme.test", "hello@acme.test", "bob@acme.test", "ada@elsewhere.test"],
        ["app-password", "create", "ada@acme.test", "phone"],
        ["tenant", "mail", "acme", "--postmaster", "bob@acme.test"],
    ):
        assert cli.run(["--data", str(data), *arguments]) == 0, arguments
    with (
        composition.administration(data, config.load(data / "cleanmail.toml")) as administration,
        administration.installation.account(TenantId(1), AccountId(1)) as account,
    ):
        inbox = account.mailboxes.find("INBOX").id
        for number in range(3):
            account.messages.append(inbox, LETTER % number, flags=SEEN)
    return data


class Place:
    def __init__(self, data: Path, run: Callable[..., Said]) -> None:
        self.data = data
        self.run = run

    def audited(self) -> list[tuple[str, AccountId | None]]:
        with composition.administration(self.data, config.load(self.data / "cleanmail.toml")) as administration:
            installation: Installation = administration.installation
            return [(each.action, each.account_id) for each in installation.audit.read()]


@pytest.fixture
def place(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    data = tmp_path / "data"
    shutil.copytree(template, data)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    yield Place(data, run)


def test_an_account_goes_out_is_verified_offline_and_comes_back(place: Place, tmp_path: Path) -> None:
    to = str(tmp_path / "ada")
    said = place.run("export", "ada@acme.test", to)
    assert said.status == 0 and "3 messages" in said.out and "complete" in said.out
    assert place.audited()[-1] == ("account.export", AccountId(1))
    account = json.loads((tmp_path / "ada" / "account.json").read_text())
    assert (account["address"], account["name"], account["quota_bytes"]) == ("ada@acme.test", "Ada", 10**9)
    assert [each["address"] for each in account["aliases"]] == ["all@acme.test", "hello@acme.test"]
    assert account["forwardings"] == ["ada@elsewhere.test"]
    assert [each["name"] for each in account["app_passwords"]] == ["phone"]
    key = place.run("export", "key", "--json").json["public_key"]
    elsewhere = ["--data", str(tmp_path / "no installation")]
    for more in ([], ["--key", key]):
        assert cli.run([*elsewhere, "export", "verify", to, *more]) == 0
    assert cli.run([*elsewhere, "export", "verify", to, "--key", "0" * 64]) == 1
    again = place.run("export", "ada@acme.test", to)
    assert again.status == 1 and "--update" in again.err
    assert place.run("export", "ada@acme.test", to, "--update").status == 0
    dry = place.run("import", "bob@acme.test", to, "--dry-run", "--json").json
    assert (dry["imported"], dry["present"], dry["folders"]) == (3, 0, 0)
    back = place.run("import", "bob@acme.test", to, "--json").json
    assert (back["imported"], back["present"], back["notes"]) == (3, 0, [])
    assert place.run("import", "bob@acme.test", to, "--json").json["imported"] == 0
    assert place.audited()[-1] == ("account.import", AccountId(2))


def test_calendars_and_contacts_come_and_go(place: Place, tmp_path: Path) -> None:
    event = b"BEGIN:VEVENT\r\nUID:%s\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20260102T100000Z\r\nEND:VEVENT\r\n"
    head, tail = b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n", b"END:VCALENDAR\r\n"
    events = tmp_path / "events.ics"
    events.write_bytes(head + event % b"a" + event % b"b" + (event % b"c").replace(b"20260102", b"never") + tail)
    dry = place.run("import", "ada@acme.test", str(events), "--collection", "Work", "--dry-run", "--json")
    assert dry.status == 5 and (json.loads(dry.out)["imported"], json.loads(dry.out)["made"]) == (2, ["Work"])
    said = place.run("import", "ada@acme.test", str(events), "--collection", "Work")
    assert said.status == 5 and "2 entries" in said.out and "events.ics, line 14:" in said.err
    assert "'Work' was made." in said.err
    assert place.audited()[-1] == ("account.import", AccountId(1))
    again = place.run("import", "ada@acme.test", str(events), "--collection", "Work", "--replace", "--json")
    assert json.loads(again.out)["present"] == 2
    shown = place.run("account", "quota", "ada@acme.test", "--json").json
    assert shown["entries"] == 2 and 0 < shown["entries_used"] < shown["storage_used"]
    to = tmp_path / "work.ics"
    said = place.run("export", "collection", "ada@acme.test", "Work", str(to))
    assert said.status == 0 and "2 entries of Work" in said.out and to.read_bytes().count(b"BEGIN:VEVENT") == 2
    assert to.stat().st_mode & 0o777 == 0o600 and place.audited()[-1] == ("account.export", AccountId(1))
    assert place.run("export", "collection", "ada@acme.test", "Work", str(to)).status == 1
    assert place.run("import", "bob@acme.test", str(to), "--json").json["imported"] == 2
    archive = place.run("export", "ada@acme.test", str(tmp_path / "all"))
    assert "2 entries in 7 collections" in archive.out and (tmp_path / "all" / "calendars" / "Work" / "a.ics").exists()
    back = place.run("import", "bob@acme.test", str(tmp_path / "all"), "--json").json
    assert (back["objects"], back["collections"], back["imported"]) == (2, 1, 3)


def write_journal(data: Path) -> None:
    """A folder that the server writes, with a message: nothing of it is imported."""
    with (
        composition.administration(data, config.load(data / "cleanmail.toml")) as administration,
        administration.installation.account(TenantId(1), AccountId(1)) as account,
    ):
        journal = account.mailboxes.create("Access journal").id
        account.messages.append(journal, LETTER % 99)
        statement = update(mailbox).where(mailbox.c.mailbox_id == journal).values(read_only=1)
        account.database.write(lambda transaction: transaction.execute(statement))


def test_a_tenant_comes_back_with_accounts_aliases_and_settings(place: Place, tmp_path: Path) -> None:
    to = str(tmp_path / "acme")
    write_journal(place.data)
    assert place.run("export", "--tenant", "acme", to, "--format", "mbox").status == 0
    actions = [action for action, _ in place.audited()]
    assert actions[-3:] == ["tenant.export", "account.export", "account.export"]
    assert place.run("export", "verify", to).status == 0
    assert place.run("tenant", "create", "new").status == 0
    refused = place.run("import", "--tenant", "new", to)
    assert refused.status == 1 and "another tenant" in refused.err
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    (other / "cleanmail.toml").write_text(CHEAP)
    place.run("--version")  # drops what was printed
    for arguments in (["init"], ["tenant", "create", "new"]):
        assert cli.run(["--data", str(other), *arguments]) == 0
    moved = Place(other, lambda *arguments: place.run("--data", str(other), *arguments))
    dry = moved.run("import", "--tenant", "new", to, "--dry-run", "--json").json
    assert (dry["imported"], dry["made"], dry["domains"]) == (
        3,
        ["ada@acme.test", "bob@acme.test"],
        ["acme.test"],
    )
    said = moved.run("import", "--tenant", "new", to)
    assert said.out.startswith("3 messages")
    assert said.status == 0 and "cleanmail account passwd ada@acme.test" in said.err and "domain verify" in said.err
    again = moved.run("import", "--tenant", "new", to, "--json").json
    assert (again["imported"], again["present"], again["made"], again["aliases"]) == (0, 3, [], 0)
    assert moved.run("tenant", "mail", "new", "--json").json["postmaster"] == "bob@acme.test"
    aliases = moved.run("alias", "list", "new", "--json").json
    assert sorted(each["alias"] for each in aliases) == ["all@acme.test", "hello@acme.test"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export", "ada@acme.test"], "Say: cleanmail export"),
        (["export", "--tenant", "acme", "ada@acme.test", "x"], "Say: cleanmail export"),
        (["export", "nobody@acme.test", "{tmp}/x"], "no account"),
        (["export", "ada@acme.test", "{data}/tenants/x"], "outside of the data directory"),
        (["export", "ada@acme.test", "{data}/cleanmail.toml"], "outside of the data directory"),
        (["export", "verify", "{tmp}/nothing"], "There is no archive"),
        (["import", "ada@acme.test", "{tmp}/nothing", "--kind", "export"], "There is no archive"),
        (["import", "ada@acme.test"], "Say: cleanmail import"),
        (["import", "ada@acme.test", "{tmp}", "--dry-run"], "this is none"),
        (["import", "ada@acme.test", "{tmp}", "--replace"], "for .ics and .vcf files"),
        (["import", "ada@acme.test", "{tmp}", "--kind", "entries", "--mailbox", "x"], "to no mailbox"),
        (["export", "collection", "ada@acme.test", "Nowhere", "{tmp}/x.ics"], "There is no calendar"),
        (["export", "collection", "ada@acme.test", "Contacts", "{tmp}/x.ICS"], "a file that ends in .vcf"),
        (["export", "collection", "ada@acme.test", "calendar", "{tmp}/x.vcf"], "a file that ends in .ics"),
    ],
)
def test_what_cannot_be_is_one_sentence(place: Place, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    said = place.run(*(each.format(tmp=tmp_path, data=place.data) for each in arguments))
    assert said.status == 1 and sentence in said.err and said.err.count("\n") == 1

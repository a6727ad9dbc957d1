"""cleanmail migrate: what people type, what they are told, and what is on record."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from other_server import Box, OtherServer, held, letters

from hosting import cli, composition, config
from hosting.migration import account as moves
from storage.clock import SystemClock
from storage.values import AccountId, TenantId

CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("moves") / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CHEAP)
    for arguments in (
        ["init"],
        ["tenant", "create", "acme"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ada@acme.test", "--without-password"],
        ["account", "create", "bob@acme.test", "--without-password"],
    ):
        assert cli.run(["--data", str(data), *arguments]) == 0, arguments
    return data


class Place:
    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str], server: OtherServer) -> None:
        self.data = data
        self.server = server
        self.url = f"imap://127.0.0.1:{server.port}"
        self.password = data.parent / "password"
        self.password.write_text("secret\n")
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        status = cli.run(["--data", str(self.data), *arguments])
        said = self._capsys.readouterr()
        assert "secret" not in said.out + said.err
        return status, said.out, said.err

    def move(self, *arguments: str, file: Path | None = None) -> tuple[int, str, str]:
        account = ("migrate", "ada@acme.test", "--from", self.url, "--user", "ada")
        return self.run(*account, "--password-file", str(file or self.password), *arguments)

    def audited(self) -> list[Any]:
        with composition.administration(self.data, config.load(self.data / "cleanmail.toml")) as administration:
            return [each for each in administration.installation.audit.read() if each.action == "account.migrate"]

    def held(self, number: int) -> int:
        with (
            composition.administration(self.data, config.load(self.data / "cleanmail.toml")) as administration,
            administration.installation.account(TenantId(1), AccountId(number)) as account,
        ):
            return len(held(account))


@pytest.fixture
def place(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    data = tmp_path / "data"
    shutil.copytree(template, data)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr(moves, "PAUSES", ())
    boxes = {b"INBOX": Box(7, letters(6)), b"Work": Box(8, letters(2)), b"All": Box(9, letters(8), "\\All")}
    with OtherServer(boxes) as server:
        yield Place(data, capsys, server)


def test_a_move_is_told_recorded_and_repeated(place: Place) -> None:
    status, out, _ = place.move("--dry-run", "--json")
    told = json.loads(out)
    assert (status, told["pending"], told["pulled"], place.held(1)) == (0, 8, 0, 0)
    status, out, err = place.move()
    assert status == 0 and "There 8, here 8, missing 0." in out
    assert "All stays: it shows messages of other folders." in err
    status, out, _ = place.move("--json", "--final")
    told = json.loads(out)
    assert (status, told["complete"], told["pulled"], told["there"], told["final"]) == (0, True, 0, 8, True)
    assert place.held(1) == 6
    records = place.audited()
    assert [each.account_id for each in records] == [AccountId(1)] * 3
    assert [each.details["dry_run"] for each in records] == ["yes", "no", "no"]
    assert records[0].details["from"] == f"127.0.0.1:{place.server.port}"


def test_what_only_all_mail_shows_comes_without_the_rest(place: Place) -> None:
    assert place.move()[0] == 0
    place.server.boxes[b"All"].messages = letters(8)
    status, out, _ = place.move("--folder", "All", "--json")
    told = json.loads(out)
    assert (status, told["pulled"], told["present"]) == (0, 2, 6)
    assert [each["mailbox"] for each in told["folders"] if each["pulled"]] == ["Archive"]


def test_what_is_missing_gives_a_status_of_its_own(place: Place) -> None:
    def nil(command: bytes, answers: list[bytes]) -> list[bytes]:
        return [b"* 3 FETCH (UID 3 BODY[] NIL)\r\n" if b"UID 3 BODY" in each else each for each in answers]

    place.server.lie = nil
    status, out, err = place.move()
    assert status == 5 and "missing 1." in out and "INBOX: 1 messages are missing: the server says" in err
    place.server.drop_after = 3
    status, _, err = place.move("--json")
    assert status == 3 and "It ended the connection" in err
    assert not place.server.asked(b"secret")


def test_a_server_that_cannot_be_reached_is_told_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for minutes because of a wrong port."""
    monkeypatch.setattr(moves, "PAUSES", (600.0,))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    place.url = f"imap://127.0.0.1:{port}"
    status, out, err = place.move()
    assert (status, out) == (3, "")
    assert err == f"cleanmail: 127.0.0.1:{port} cannot be used: Connection refused.\n"


def test_a_descriptor_has_no_number_unless_one_is_given(place: Place) -> None:
    assert "[default: -1]" not in place.run("migrate", "--help")[1]


def test_passwords_come_from_files_and_descriptors_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"secret\n")
    os.close(writer)
    asked = ("migrate", "bob@acme.test", "--from", place.url, "--user", "ada")
    assert place.run(*asked, "--password-fd", str(reader))[0] == 0
    os.close(reader)
    assert place.held(2) == 6
    assert "no terminal" in place.run(*asked)[2]
    key = place.data / "keys" / "master"
    key.touch()
    assert "No file of the data directory" in place.move(file=key)[2]
    assert "cannot be read" in place.move(file=place.data.parent / "none")[2]
    for url in ("http://x", "imaps://", "imaps://ada:secret@x", "imaps://x:99999", "imaps://x/y"):
        status, _, err = place.run("migrate", "ada@acme.test", "--from", url, "--user", "ada",
                                   "--password-file", str(place.password))  # fmt: skip
        assert status == 1 and err.startswith("cleanmail: ")
    status, _, err = place.run("migrate", "ada@acme.test", "--from", "imaps://elsewhere.test", "--user", "ada",
                               "--insecure-tls", "--password-file", str(place.password))  # fmt: skip
    assert status == 1 and "on this machine" in err


def test_a_list_of_accounts(place: Place) -> None:
    table = place.data.parent / "list.csv"
    table.write_text(
        f"address,user,password,from\nada@acme.test,ada,secret,{place.url}\nbob@acme.test,ada,wrong,{place.url}\n"
        "nobody@acme.test,ada,secret,imap://127.0.0.1\n"
    )
    table.chmod(0o644)
    assert "chmod 600" in place.run("migrate", "--list", str(table))[2]
    table.chmod(0o600)
    status, out, _ = place.run("migrate", "--list", str(table), "--json")
    told = {each["address"]: each for each in json.loads(out)}
    assert status == 5
    assert told["ada@acme.test"]["complete"] and told["ada@acme.test"]["here"] == 8
    assert told["bob@acme.test"]["error"] or told["bob@acme.test"]["stopped"]
    assert told["nobody@acme.test"]["error"]
    assert (place.held(1), place.held(2)) == (6, 0)
    (place.data.parent / "p").write_text("secret\n")
    table.write_text("address,user,password_file\nada@acme.test,ada,p\nbob@acme.test,ada,p\n")
    status, out, _ = place.run("migrate", "--list", str(table), "--from", place.url)
    assert status == 0 and out.count("complete") == 2
    for text in ("", "address,user\nx,y\n", "address,user,password\na@b.test,x,y\nA@b.test,x,y\n", "a,b\n"):
        table.write_text(text)
        assert place.run("migrate", "--list", str(table), "--from", place.url)[0] == 1


def test_nothing_moves_in_while_the_contract_ends(place: Place) -> None:
    with composition.administration(place.data, config.load(place.data / "cleanmail.toml")) as administration:
        contracts = administration.control.contracts
        contracts.set_terms(TenantId(1), read_only_days=30)
        contracts.set_end(TenantId(1), SystemClock().now() + 86_400, "somebody")
    status, _, err = place.move()
    assert status == 1 and "The contract ends" in err
    assert place.server.connections == 0 and place.held(1) == 0

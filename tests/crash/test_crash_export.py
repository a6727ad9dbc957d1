"""Export and import are killed at their steps, and find the disk full there; run again, the result is the same.

They die in forks of a process without connections, as in test_crash_steps. An archive that was broken off has no
manifest; the run that goes on leaves what a run without a break leaves, file by file.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crash_town
import pytest
from crash_town import WHOSE, mail
from entries_place import fill
from export_place import index_of
from whole_server import environment

from storage.errors import InvalidInput
from storage.export.values import ACCOUNT, INDEX, MANIFEST, Form
from storage.export.verify import verify_archive
from storage.files.durable import EXIT_FSYNC_FAILED
from storage.values import SEEN, UidSet

STEPS_MAX = 400  # a bound for the test
STRIDE = {"export": 29, "import": 17}  # steps between two deaths: every one would take minutes


class Writer:
    def __init__(self, data: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("export_child.py")), str(data)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
        self._accounts = 0

    def run(self, operation: str, stop: int = 0, at: str = "kill", **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        words = {"operation": operation, "stop": stop, "at": at, **request}
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()
        said: dict[str, Any] = {}
        while "ended" not in said:
            said |= json.loads(self._process.stdout.readline())
        assert said["ended"] in (0, -signal.SIGKILL, EXIT_FSYNC_FAILED), said
        return said

    def new_account(self) -> int:
        self._accounts += 1
        return int(self.run("make", number=self._accounts)["done"]["account"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    data = tmp_path_factory.mktemp("crash") / "data"
    data.mkdir()
    crash_town.make(data)
    with crash_town.opened(data) as installation, installation.account(*WHOSE["alice@one.test"]) as account:
        inbox, work = account.mailboxes.find("INBOX").id, account.mailboxes.create("Work/x").id
        for number in range(4):
            account.messages.append(inbox, mail(f"token{number}", 500), flags=SEEN, keywords=["k"])
        account.messages.copy(inbox, UidSet(((2, 3),)), work)
        account.messages.append(work, mail("last", 500))
        fill(account)
    writer = Writer(data)
    yield writer
    writer.close()


def files_of(archive: Path) -> dict[str, bytes]:
    """All files but those that say when they were made."""
    return {
        str(path.relative_to(archive)): path.read_bytes()
        for path in archive.rglob("*")
        if path.is_file() and path.name not in (MANIFEST, ACCOUNT)
    }


@pytest.mark.parametrize("at", ["kill", "full"])
@pytest.mark.parametrize("form", Form)
def test_an_export_that_dies_anywhere_goes_on(writer: Writer, tmp_path: Path, form: Form, at: str) -> None:
    whole = tmp_path / "whole"
    writer.run("export", form=form, to=str(whole), update=False)
    wanted = files_of(whole)
    for stop in range(1, STEPS_MAX, STRIDE["export"] + 8 * (at == "full")):
        archive = tmp_path / str(stop)
        request = {"form": form, "to": str(archive), "update": False}
        said = writer.run("export", stop, at, **request)
        if "done" in said:
            break
        if not (archive / MANIFEST).exists():
            with pytest.raises(InvalidInput):
                verify_archive(archive)
            assert "done" in writer.run("export", **request)
        assert verify_archive(archive).strange == []
        assert files_of(archive) == wanted
        # An update that dies leaves an archive that says so, or the one that was there, whole.
        request["update"] = True
        said = writer.run("export", stop, at, **request)
        if "done" not in said and not (archive / MANIFEST).exists():
            assert "done" in writer.run("export", **request)
        assert verify_archive(archive).strange == []
        assert files_of(archive) == wanted
    else:
        pytest.fail("the export never ended")
    assert stop > 20 and (whole / INDEX).stat().st_size > 1000


def test_an_import_that_dies_anywhere_goes_on(writer: Writer, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    writer.run("export", form="maildir", to=str(archive), update=False)
    wanted = writer.run("look", account=1)["done"]
    for stop in range(1, STEPS_MAX, STRIDE["import"]):
        request = {"account": writer.new_account(), "source": str(archive)}
        said = writer.run("import", stop, **request)
        again = writer.run("import", **request)["done"]
        assert again["imported"] + again["present"] == 8  # one of them is a note
        assert again["objects"] + again["objects_present"] == 18
        found = writer.run("look", account=request["account"])["done"]
        assert (found["view"], found["messages"]) == (wanted["view"], wanted["messages"])
        assert found["held"] == wanted["held"]
        if "done" in said:
            break
    else:
        pytest.fail("the import never ended")
    assert stop > 25 and len(index_of(archive)) > 10

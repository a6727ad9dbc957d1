"""What backups do not take for theirs, what damage does not stop, and what ends while it is copied."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from backup_town import ALICE, BOB, ONE, BackupTown
from test_backup_restore import enqueue
from whole_server import environment

from storage.backup import backup, files, lease, manifest
from storage.backup.backup import Progress
from storage.backup.place import Keep
from storage.backup.pruning import due, prune
from storage.backup.verifying import verify
from storage.ending.ending import carry_out
from storage.ending.orders import order_account, order_tenant
from storage.ending.processes import Nobody
from storage.errors import Unavailable
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.register.periods import Periods
from storage.register.values import Kept
from storage.values import UidSet

SHORT = Keep(daily=1, weekly=0, monthly=0)
WEEK = 7 * 86_400
INBOX = "tenants/1/accounts/1/Maildir/cur"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[BackupTown]:
    town = BackupTown(tmp_path)
    try:
        yield town
    finally:
        town.close()


# What is not ours


def test_folders_of_others_beside_backups_stay(town: BackupTown) -> None:
    town.backup()
    for name in ("film.incomplete", "20200101T000000Z.removing.txt", "my.removing"):
        (town.to / name).mkdir()
    town.backup()
    prune(town.installation, town.place)
    assert {"film.incomplete", "20200101T000000Z.removing.txt", "my.removing"} <= set(os.listdir(town.to))


def test_backups_of_another_installation_are_not_removed_as_ours(town: BackupTown, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = BackupTown(tmp_path / "other", another=True)
    try:
        theirs = other.backup(SHORT).stored
    finally:
        other.close()
    mine = [town.backup(SHORT).stored.name, town.backup(SHORT).stored.name]
    shutil.copytree(theirs.root, town.to / "20200101T000000Z")
    town.clock.advance(WEEK)
    assert prune(town.installation, town.place) == mine[:1]
    assert sorted(os.listdir(town.to))[1:] == ["20200101T000000Z", mine[1]]


def test_a_damaged_backup_goes_when_its_time_is_over(town: BackupTown) -> None:
    names = [town.backup(SHORT).stored.name, town.backup(SHORT).stored.name]
    (town.to / names[0] / manifest.FILE).write_bytes(b"{")
    assert prune(town.installation, town.place) == []
    town.clock.advance(WEEK)
    assert prune(town.installation, town.place) == names[:1]
    assert [row.name for row in town.installation.control.backups.all()] == names[1:]


def test_a_shorter_period_counts_for_backups_that_were_made_before(town: BackupTown) -> None:
    """What was erased must not live on for longer than the certificates say."""
    names = [town.backup().stored.name, town.backup().stored.name]
    (town.to / names[1] / manifest.FILE).write_bytes(b"{")
    town.clock.advance(6 * 86_400)
    assert due(town.installation) == set()
    assert prune(town.installation, town.place) == []
    town.installation.periods = Periods.of_preset("standard", {Kept.BACKUPS: 5})
    assert due(town.installation) == {str(town.to.resolve())}
    assert prune(town.installation, town.place) == names


def test_nothing_is_shared_with_a_backup_that_somebody_else_signed(town: BackupTown, tmp_path: Path) -> None:
    """Whoever can write where backups are has no say in what the next one holds."""
    town.settle()
    stored = town.backup().stored
    part, path = stored.root / "parts/tenant-1.jsonl", stored.path("tenants/1/accounts/1/account.db")
    path.write_bytes(b"of somebody else")
    entries = [
        manifest.Entry(
            entry.path,
            *((16, "0" * 64) if entry.path.endswith("1/account.db") else (entry.size, entry.digest)),
            entry.mark,
        )
        for entry in stored.entries("tenant-1")
    ]
    part.unlink()
    forged = manifest.write_part(stored.root, "tenant-1", entries)
    parts = tuple(forged if each.name == "tenant-1" else each for each in stored.manifest.parts)
    other = LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), town.clock))
    values = {name: getattr(stored.manifest, name) for name in manifest.Manifest.__dataclass_fields__}
    manifest.write(
        stored.root,
        manifest.Manifest(**values | {"parts": parts}),
        lambda text: other.sign("manifest", text),
        other.verifying_key("manifest"),
    )
    made = town.backup()
    assert made.linked == 0 and made.stored.manifest.previous == ""
    assert verify(town.installation, made.stored, every=True).is_right


def test_only_files_are_taken_for_files(town: BackupTown) -> None:
    """Neither what a link leads to, which may be anything of this machine, nor a pipe, which nobody ever ends."""
    stored = town.backup().stored
    first, second, _ = sorted(stored.path(INBOX).iterdir())
    shutil.copy(first, town.to / "elsewhere")
    for path in (first, second):
        path.unlink()
    first.symlink_to(town.to / "elsewhere")
    os.mkfifo(second)
    for path in (first, second):
        with pytest.raises(Unavailable, match="cannot be copied"):
            files.measure(str(path))
        with pytest.raises(Unavailable, match="cannot be copied"):
            files.copy_hashed(str(path), str(town.to / "copy"))
    assert not (town.to / "copy").exists()


def test_a_link_in_the_data_directory_is_told(town: BackupTown, caplog: pytest.LogCaptureFixture) -> None:
    (town.data / "tls").mkdir()
    (town.data / "tls" / "key.pem").symlink_to("/etc/hostname")
    made = town.backup()
    assert "tls/key.pem is a link" in caplog.text
    assert not os.path.lexists(made.stored.path("tls/key.pem"))


# Damage


def test_a_damaged_database_keeps_nothing_else_from_being_copied(town: BackupTown) -> None:
    town.installation.close()
    for name in ("tenants/1/accounts/1/account.db", "tenants/2/tenant.db"):
        octets = bytearray((town.data / name).read_bytes())
        octets[5 * 4096 : 6 * 4096] = bytes(4096)
        (town.data / name).write_bytes(octets)
    town.installation = town.open()
    made = town.backup()
    assert made.stored.manifest.skipped == ("account 1 of tenant 1", "tenant-2")
    assert made.stored.manifest.missing == ()
    wrong = verify(town.installation, made.stored).wrong
    assert [sentence.partition(":")[0] for sentence in wrong] == ["account 1 of tenant 1", "tenant-2"]
    paths = {entry.path for entry in made.stored.entries("tenant-1")}
    assert "tenants/1/accounts/2/account.db" in paths and "tenants/1/accounts/1/account.db" not in paths
    assert not made.stored.path("tenants/1/accounts/1").exists() and not made.stored.path("tenants/2").exists()


def test_lists_of_files_are_read_one_line_after_the_other(tmp_path: Path) -> None:
    (tmp_path / manifest.PARTS).mkdir()
    entries = [manifest.Entry(f"tenants/1/accounts/1/Maildir/cur/{n:040d}", n, f"{n:064x}") for n in range(20_000)]
    part = manifest.write_part(tmp_path, "tenant-1", entries)
    tracemalloc.start()
    try:
        assert sum(entry.size for entry in manifest.read_part(tmp_path, part)) == part.bytes == sum(range(20_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000  # all of them are ten times as much


# Removal while a backup begins


def test_what_was_named_before_a_backup_began_is_all_that_goes(
    town: BackupTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup begins, and a message of its snapshot is expunged, just when a remover asks for the lease."""
    scope, opened = lease.scope_of_account(ONE, ALICE), os.open
    with town.installation.account(ONE, ALICE) as account, ExitStack() as held:
        inbox = account.mailboxes.find("INBOX").id
        asked: list[str] = []

        def open_(path: Any, *arguments: Any, **options: Any) -> int:
            if str(path).endswith(f"run/backup/{scope}") and not asked:
                asked.append(str(path))
                try:
                    return opened(path, *arguments, **options)
                finally:
                    held.enter_context(lease.hold(town.data, scope))
                    account.messages.expunge(inbox, UidSet.of([2]), only_deleted=False)
            return opened(path, *arguments, **options)

        monkeypatch.setattr(os, "open", open_)
        account.messages.expunge(inbox, UidSet.of([1]), only_deleted=False)
        town.installation.background.settle()
        assert asked and len(list(account.maildir.names())) == 2


def test_a_lease_ends_with_the_process_that_holds_it(town: BackupTown) -> None:
    scope = lease.scope_of_account(ONE, ALICE)
    words = (
        "import sys, pathlib\nfrom storage.backup import lease\n"
        "with lease.hold(pathlib.Path(sys.argv[1]), sys.argv[2]):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    command = [sys.executable, "-c", words, str(town.data), scope]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert lease.is_held(town.data, scope)
        process.kill()
        process.wait(30)
        assert not lease.is_held(town.data, scope)
    with town.installation.account(ONE, ALICE) as account:
        account.messages.expunge(account.mailboxes.find("INBOX").id, UidSet.of([1, 2]), only_deleted=False)
        town.installation.background.settle()
        assert len(list(account.maildir.names())) == 1


# What ends meanwhile


def test_a_tenant_whose_contract_ends_while_it_is_copied_is_in_no_backup(
    town: BackupTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real ending, at the same time: it gets the lease within its patience, and its certificate."""
    monkeypatch.setattr(backup, "_LOOK", 0.0)
    enqueue(town)
    endings: list[threading.Thread] = []
    finished: list[int] = []

    def end() -> None:
        other = town.open()
        try:
            ending_id = order_tenant(other, ONE, "root", "gave notice")
            ordered.set()
            finished.append(carry_out(other, ending_id, people=Nobody()).scope.tenant_id)
        finally:
            ordered.set()
            other.close()

    ordered = threading.Event()

    def look() -> None:
        if not endings and next(iter(town.to.glob(f"*.incomplete/data/{INBOX}/*")), None):
            endings.append(threading.Thread(target=end))
            endings[0].start()
            ordered.wait(60)

    made = town.backup(look=look)
    endings[0].join(60)
    assert finished == [ONE]
    found = made.stored.manifest
    assert (found.tenants(), found.missing, found.skipped) == ([2], (), ())
    assert sorted(os.listdir(made.stored.path("tenants"))) == ["2"]
    assert not [entry for entry in made.stored.entries("queue") if "/spool/" in entry.path]
    assert not (town.data / "tenants/1").exists()
    assert verify(town.installation, made.stored, every=True).is_right


def test_the_process_that_copied_a_tenant_does_not_outlive_its_end_for_long(
    town: BackupTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_LOOK", 0.0)
    started, popen = [], subprocess.Popen

    def start(command: Any, **options: Any) -> Any:
        process = popen(command, **options)
        if command[-1] == "storage.backup.snapshot":
            started.append(process)
        return process

    def progress(progress: Progress) -> None:
        if progress.done == 1:
            assert len(started) == 1
            order_tenant(town.installation, ONE, "root", "left")

    monkeypatch.setattr(subprocess, "Popen", start)
    town.backup(progress=progress, whole=True)
    assert len(started) == 2 and all(process.poll() is not None for process in started)


def test_an_account_that_ends_while_it_is_copied_is_in_no_backup(
    town: BackupTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_LOOK", 0.0)
    done: list[str] = []

    def look() -> None:
        if not done and next(iter(town.to.glob(f"*.incomplete/data/{INBOX}/*")), None):
            done.append(order_account(town.installation, ONE, ALICE, "root", "left"))
            carry_out(town.installation, done[0], people=Nobody())

    made = town.backup(look=look)
    assert done and (made.stored.manifest.missing, made.stored.manifest.skipped) == ((), ())
    paths = {entry.path for entry in made.stored.entries("tenant-1")}
    assert not any(path.startswith(f"tenants/1/accounts/{ALICE}/") for path in paths)
    assert f"tenants/1/accounts/{BOB}/account.db" in paths
    assert sorted(os.listdir(made.stored.path("tenants/1/accounts"))) == [str(BOB)]


def test_a_tenant_that_ended_after_its_spool_was_copied_leaves_nothing_missing(town: BackupTown) -> None:
    enqueue(town)
    next((town.data / "tenants/1/spool").iterdir()).unlink()  # as its folder is taken away while it is being linked

    def progress(progress: Progress) -> None:
        if progress.done == 1:
            carry_out(town.installation, order_tenant(town.installation, ONE, "root", "left"), people=Nobody())

    made = town.backup(progress=progress)
    assert made.stored.manifest.missing == () and made.stored.manifest.tenants() == [2]
    assert json.loads((made.stored.root / manifest.FILE).read_bytes())["manifest"]["missing"] == []

"""Backups: complete, without keys, sharing what has not changed; and what becomes of them when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from backup_town import ALICE, BOB, MALLORY, ONE, TWO, BackupTown, contents

from storage.backup import backup, lease, manifest
from storage.backup.backup import BackupRun, Progress
from storage.backup.place import Keep, Place, alone_in
from storage.backup.pruning import prune
from storage.backup.verifying import verify
from storage.clock import FixedClock
from storage.directory.rows import State
from storage.errors import Conflict, InvalidInput, NotFound, StorageFull, Unavailable
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.sweep import Swept, sweep_account
from storage.values import UidSet

INBOX = "tenants/1/accounts/1/Maildir/cur"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[BackupTown]:
    town = BackupTown(tmp_path)
    try:
        yield town
    finally:
        town.close()


def files_of(folder: Path) -> dict[str, int]:
    """Every file below, with its inode."""
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_a_backup_holds_everything_but_keys_and_what_runs(town: BackupTown) -> None:
    made = town.backup()
    found = files_of(made.stored.root / manifest.DATA)
    listed = [entry for part in made.stored.manifest.parts for entry in made.stored.entries(part.name)]
    assert sorted(found) == sorted(entry.path for entry in listed)
    assert {"control.db", "queue.db", "audit.db", "tenants/1/tenant.db", "tenants/2/tenant.db"} <= set(found)
    assert sum("Maildir/cur/" in path for path in found) == 9
    assert not any(path.startswith(("keys", "run")) or "master" in path for path in found)
    secret = town.keys().tenant_key(ONE, "test").secret
    assert not any(secret in path.read_bytes() for path in made.stored.root.rglob("*") if path.is_file())
    assert made.stored.manifest.tenants() == [1, 2]
    assert town.installation.control.backups.all()[0].backup_id == made.stored.manifest.id
    assert verify(town.installation, made.stored, every=True).is_right
    assert town.installation.control.backups.all()[0].verified == town.clock.now()


def test_message_files_are_links_and_databases_are_not(town: BackupTown) -> None:
    made = town.backup()
    live, saved = files_of(town.data / INBOX), files_of(made.stored.path(INBOX))
    assert live == saved
    for name in ("control.db", "tenants/1/tenant.db"):
        assert (town.data / name).stat().st_ino != made.stored.path(name).stat().st_ino


def test_what_has_not_changed_is_shared_with_the_backup_before(town: BackupTown) -> None:
    town.settle()
    first = town.backup()
    second = town.backup()
    assert second.snapshots == 1  # control.db: the first backup is recorded there
    assert second.linked == second.stored.manifest.files - 1 and second.taken == 0
    assert files_of(second.stored.path("tenants")) == files_of(first.stored.path("tenants"))
    town.fill((ONE, BOB), "new", 2)
    third = town.backup()
    assert (third.snapshots, third.taken) == (2, 2)
    assert verify(town.installation, third.stored, every=True).is_right
    shutil.rmtree(first.stored.root)  # each is whole by itself
    shutil.rmtree(second.stored.root)
    assert verify(town.installation, third.stored, every=True).is_right


def test_a_whole_backup_shares_nothing_but_the_living_files(town: BackupTown) -> None:
    town.settle()
    town.backup()
    again = town.backup(whole=True)
    assert again.linked == 0 and again.snapshots == 8


def test_a_write_within_the_step_of_a_file_systems_clock_is_not_overlooked(town: BackupTown) -> None:
    town.settle()
    town.backup()
    town.fill((ONE, ALICE), "quick", 1)
    second = town.backup()
    town.fill((ONE, ALICE), "quick", 1)  # the same size of log, and maybe the same time
    third = town.backup()
    counts = [sum(INBOX in entry.path for entry in made.stored.entries("tenant-1")) for made in (second, third)]
    assert counts == [4, 5]


def test_where_links_are_impossible_files_are_copied(town: BackupTown, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    made = town.backup()
    assert set(files_of(town.data / INBOX)) == set(files_of(made.stored.path(INBOX)))
    assert not set(files_of(town.data / INBOX).values()) & set(files_of(made.stored.path(INBOX)).values())
    assert verify(town.installation, made.stored, every=True).is_right


def test_a_tenant_that_ends_in_the_middle_is_in_no_backup(town: BackupTown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "_LOOK", 0.0)
    seen: list[Path] = []

    def look() -> None:
        linked = [*town.to.glob("*.incomplete/data/tenants/1/accounts/1/Maildir/cur/*")]
        if linked and not seen:
            seen.extend(linked)
            town.installation.control.change_tenant_state(ONE, State.ENDED)

    made = town.backup(look=look)
    assert len(seen) == 1 and made.stored.manifest.tenants() == [2]
    assert sorted(os.listdir(made.stored.path("tenants"))) == ["2"]


def test_a_tenant_that_ended_after_its_part_was_copied_is_in_no_backup(town: BackupTown) -> None:
    def progress(progress: Progress) -> None:
        if progress.done == 1:
            town.installation.control.change_tenant_state(ONE, State.ENDED)

    made = town.backup(progress=progress)
    assert made.stored.manifest.tenants() == [2]
    assert not made.stored.path("tenants/1").exists()
    names = ["installation.jsonl", "queue.jsonl", "tenant-2.jsonl"]
    assert sorted(os.listdir(made.stored.root / manifest.PARTS)) == names


def test_an_account_whose_key_is_destroyed_is_left_out(town: BackupTown) -> None:
    town.installation.keys.destroy_account_key(ONE, BOB)
    made = town.backup()
    paths = [entry.path for entry in made.stored.entries("tenant-1")]
    assert not any(path.startswith("tenants/1/accounts/2/") for path in paths)
    assert any(path.startswith("tenants/1/accounts/1/") for path in paths)


def test_files_that_rows_name_and_that_are_gone_are_told(town: BackupTown) -> None:
    gone = next(iter((town.data / INBOX).iterdir()))
    gone.unlink()
    made = town.backup()
    assert made.stored.manifest.missing == (f"{INBOX}/{gone.name}",)
    town.settle()
    assert town.backup().stored.manifest.missing == made.stored.manifest.missing
    assert [sentence for sentence in verify(town.installation, made.stored).wrong if gone.name in sentence]


# Removal waits


def test_nothing_is_removed_while_a_backup_copies_it(town: BackupTown) -> None:
    with town.installation.account(ONE, ALICE) as account:
        inbox = account.mailboxes.find("INBOX").id
        names = set(account.maildir.names())
        with lease.hold(town.data, lease.scope_of_account(ONE, ALICE)):
            account.messages.expunge(inbox, UidSet.of([1, 2]), only_deleted=False)
            town.installation.background.settle()
            assert set(account.maildir.names()) == names
            assert sweep_account(account, town.installation.incarnation) == Swept()
            assert set(account.maildir.names()) == names
        assert sweep_account(account, town.installation.incarnation).unlinked == 2
        assert len(list(account.maildir.names())) == 1


def test_a_lease_ends_with_its_time(town: BackupTown) -> None:
    scope = lease.scope_of_account(ONE, ALICE)
    with lease.hold(town.data, scope, longest=0.0) as held:
        assert held.is_over and not lease.is_held(town.data, scope)
    with lease.hold(town.data, scope) as held:
        assert not held.is_over and lease.is_held(town.data, scope)
        assert not lease.is_held(town.data, lease.scope_of_account(ONE, BOB))
    assert not lease.is_held(town.data, scope)


def test_a_snapshot_is_taken_again_if_files_went_since_it_took_too_long(
    town: BackupTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_LOOK", 0.0)
    expunged: list[int] = []

    def look() -> None:
        if not expunged and next(iter(town.to.glob(f"*.incomplete/data/{INBOX}/*")), None):
            with town.installation.account(ONE, ALICE) as account:
                done = account.messages.expunge(account.mailboxes.find("INBOX").id, None, only_deleted=False)
                expunged.extend(done.uids)
                town.installation.background.settle()
            town.fill((ONE, ALICE), "later", 2)

    made = town.backup(look=look, longest=0.0)
    assert expunged == [1, 2, 3] and made.stored.manifest.missing == ()
    assert len(os.listdir(made.stored.path(INBOX))) == 2
    assert verify(town.installation, made.stored, every=True).is_right


# What goes wrong


@pytest.mark.parametrize("where", ["data", "data/backups", ""])
def test_a_place_in_or_around_the_data_is_refused(town: BackupTown, where: str) -> None:
    with pytest.raises(InvalidInput, match="lie in each other"):
        BackupRun(town.installation, Place(town.data.parent / where)).make()


def test_a_place_that_cannot_be_written_is_refused(town: BackupTown) -> None:
    town.to.write_bytes(b"a file")
    with pytest.raises(InvalidInput, match="not a folder"):
        town.backup()
    with pytest.raises(Unavailable, match="cannot be written to"):
        BackupRun(town.installation, Place(Path("/proc/backups"))).make()


def test_two_at_once_are_refused(town: BackupTown) -> None:
    town.backup()
    with town.place.alone(), pytest.raises(Conflict, match="Another backup is being made"):
        town.backup()
    with alone_in(town.data), pytest.raises(Conflict, match="Another backup or restore"):
        town.backup()


def test_a_full_disk_leaves_nothing(town: BackupTown, monkeypatch: pytest.MonkeyPatch) -> None:
    first = town.backup()

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(StorageFull, match="no space left"):
        town.backup()
    assert town.place.names() == [first.stored.name] and town.place.incomplete() == []
    assert len(town.installation.control.backups.all()) == 1


def test_backups_of_another_installation_are_not_touched(town: BackupTown, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = BackupTown(tmp_path / "other", another=True)
    try:
        other.backup()
        with pytest.raises(Conflict, match="another installation"):
            BackupRun(town.installation, other.place).make()
        public = town.keys().verifying_key("manifest")
        with pytest.raises(InvalidInput, match="another installation"):
            other.place.at(None, public)
    finally:
        other.close()


def test_torn_and_changed_manifests_are_no_backups(town: BackupTown) -> None:
    made = town.backup()
    path = made.stored.root / manifest.FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="torn"):
        town.place.at(None)
    document = json.loads(whole)
    document["manifest"]["expires"] += 1
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match="changed after it was written"):
        town.place.at(None)
    path.write_bytes(whole)
    part = made.stored.root / manifest.PARTS / "tenant-1.jsonl"
    part.write_bytes(part.read_bytes().replace(b"account.db", b"accounb.db", 1))
    with pytest.raises(InvalidInput, match="changed or is torn"):
        town.place.at(None).entries("tenant-1")
    path.unlink()
    with pytest.raises(NotFound):
        town.place.at(None)


def test_verify_finds_a_changed_octet_a_missing_file_and_another_size(town: BackupTown) -> None:
    made = town.backup(whole=True)
    names = sorted(os.listdir(made.stored.path(INBOX)))
    changed, missing, longer = (made.stored.path(f"{INBOX}/{name}") for name in names)
    for path in (changed, longer):  # not the living files, which have the same inodes
        octets = path.read_bytes()
        path.unlink()
        path.write_bytes(octets)
    changed.write_bytes(bytes([changed.read_bytes()[0] ^ 1]) + changed.read_bytes()[1:])
    missing.unlink()
    longer.write_bytes(longer.read_bytes() + b"x")
    found = verify(town.installation, made.stored, every=True)
    wrong = "\n".join(found.wrong)
    assert f"{changed.name}: its octets" in wrong and f"{missing.name}: it is missing" in wrong
    assert f"{longer.name}: its size" in wrong and not found.is_right
    assert town.installation.control.backups.all()[0].verified is None


def test_the_proof_finds_a_message_that_does_not_open(town: BackupTown) -> None:
    """Hashes say that the file is as it was when it was copied; only restoring it says that it is a message."""
    name = sorted(os.listdir(town.data / "tenants/2/accounts/3/Maildir/cur"))[0]
    path = town.data / "tenants/2/accounts/3/Maildir/cur" / name
    octets = bytearray(path.read_bytes())
    octets[-1] ^= 1
    path.write_bytes(octets)
    made = town.backup()
    drawn = [verify(town.installation, made.stored, chance=random.Random(seed)) for seed in range(6)]
    proven = {found.mailbox: found for found in drawn}
    bad = [found for found in proven.values() if "account 3" in found.mailbox]
    assert bad and not bad[0].is_right and name in bad[0].wrong[0]
    assert all(found.is_right and found.messages == 3 for found in proven.values() if "account 3" not in found.mailbox)


def test_keys_that_do_not_fit_are_told(town: BackupTown, tmp_path: Path) -> None:
    made = town.backup()
    other = LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), FixedClock()))
    with pytest.raises(InvalidInput, match="another installation"):
        town.place.open(made.stored.name, other.verifying_key("manifest"))


def test_what_a_crash_left_is_no_backup_and_goes_with_the_next(town: BackupTown) -> None:
    made = town.backup()
    for name in ("20200101T000000Z.incomplete", "20200102T000000Z.removing"):
        shutil.copytree(made.stored.root, town.to / name)
    (town.to / "20200103T000000Z").mkdir()  # without a manifest
    assert town.place.names() == [made.stored.name] and len(town.place.incomplete()) == 2
    again = town.backup()
    assert town.place.names() == [made.stored.name, again.stored.name] and town.place.incomplete() == []


def test_a_backup_without_its_row_gets_one_and_a_row_without_its_backup_goes(town: BackupTown) -> None:
    first = town.backup()
    second = town.backup()
    town.installation.control.backups.removed(first.stored.manifest.id)
    shutil.rmtree(second.stored.root)
    third = town.backup()
    ids = [row.backup_id for row in town.installation.control.backups.all()]
    assert ids == [first.stored.manifest.id, third.stored.manifest.id]


# How long they are kept


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("made", "earlier", "days"),
    [
        ("2026-05-01", [], 186),  # the first of all is the first of its month
        ("2026-05-02", ["2026-05-01"], 7),  # the same month, the same week
        ("2026-05-04", ["2026-05-01", "2026-05-02"], 28),  # a Monday
        ("2026-06-01", ["2026-05-30"], 186),
        ("2026-12-31", ["2026-12-29"], 7),
        ("2027-01-01", ["2026-12-31"], 186),  # another month in the same week of the ISO
        ("2026-05-01", ["2025-05-01"], 186),
    ],
)
def test_the_first_of_a_month_is_kept_longest(made: str, earlier: list[str], days: int) -> None:
    keep = Keep(daily=7, weekly=4, monthly=6)
    assert (keep.until(at(made), [at(each) for each in earlier]) - at(made)) / 86_400 == days


def test_backups_that_had_their_time_go_and_the_newest_last(town: BackupTown) -> None:
    keep = Keep(daily=1, weekly=0, monthly=0)
    first, second = town.backup(keep), town.backup(keep)
    town.clock.advance(86_000)
    assert prune(town.installation, town.place) == []
    town.clock.advance(86_400)

    def doubt() -> None:
        raise Unavailable("The clock is not believed.")

    with pytest.raises(Unavailable):
        prune(town.installation, town.place, check=doubt)
    assert prune(town.installation, town.place) == [first.stored.name]
    assert town.place.names() == [second.stored.name]
    assert [row.backup_id for row in town.installation.control.backups.all()] == [second.stored.manifest.id]
    assert len(town.with_account((TWO, MALLORY), contents)["INBOX"]) == 3  # the living files are untouched
    town.clock.advance(219 * 86_400)  # nobody made another one: what was erased since would live on in it for too long
    assert prune(town.installation, town.place) == [second.stored.name]

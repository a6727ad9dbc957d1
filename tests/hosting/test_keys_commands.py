"""cleanmail keys, and the round that looks after copies: made, renewed, removed, restored, and what is told of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from hosting import cli, composition, config, keys_round
from hosting.config import Keys
from hosting.metrics import Metrics
from storage.clock import FixedClock
from storage.clock_guard import ClockGuard
from storage.directory.endings import new_ending_id
from storage.directory.provisioning import Provisioning
from storage.ending.steps import Step
from storage.errors import CleanmailError, Conflict, Gone, InvalidInput, StorageFull, Unavailable
from storage.installation import Installation
from storage.keys import copies
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, write_master_file
from storage.keys.places import MasterFile
from storage.keys.source import LocalKeys
from storage.values import Domain, EmailAddress, TenantId

Run = Callable[..., Any]
DAY = 86_400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with a mirror, made once."""
    base = tmp_path_factory.mktemp("made")
    (base / "disk").mkdir()
    data = base / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(f'[keys]\nbackup = "{base}/disk/mirror"\n')
    assert cli.run(["--data", str(data), "init"]) == 3  # as where the mirror's disk is not mounted
    assert not (base / "disk" / "mirror").exists()
    (base / "disk" / "mirror").mkdir()
    assert cli.run(["--data", str(data), "init"]) == 0
    return base


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "base")
    text = (tmp_path / "base" / "data" / "cleanmail.toml").read_text().replace(str(made), str(tmp_path / "base"))
    (tmp_path / "base" / "data" / "cleanmail.toml").write_text(text)
    return tmp_path / "base"


@pytest.fixture
def run(base: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def running(*arguments: str, fails: int = 0) -> Any:
        capsys.readouterr()
        status = cli.run(["--data", str(base / "data"), "keys", *arguments, "--json"])
        out, err = capsys.readouterr()
        assert status == fails, err
        return json.loads(out if not fails else err)

    return running


def test_the_state_of_the_keys(run: Run, base: Path) -> None:
    state = run("status")
    assert state["master_generation"] == 1 and state["master"].endswith("keys/master")
    assert state["destroying_reaches"] == "clear" and state["mirror"].startswith("the same in")
    assert state["newest_copy"] is None and state["alarms"] == []
    (base / "disk" / "mirror" / "groups.key").unlink()
    assert "differ" in run("status")["alarms"][0]
    assert run("rotate")["generation"] == 2
    assert run("status")["mirror"].startswith("the same in")
    (base / "disk" / "mirror").rename(base / "away")
    state = run("status")
    assert len(state["alarms"]) == 1 and state["mirror"].startswith("missing")
    assert "[keys] backup" in str(run("rotate", fails=3))


def test_a_saved_master_is_said_to_be_saved(run: Run, base: Path) -> None:
    assert run("status")["saved"].startswith("never; not the one in use")
    assert run("saved", "1")["generation"] == 1
    assert run("status")["saved"].startswith("generation 1, 20") and "not the one" not in run("status")["saved"]
    run("rotate")
    assert "not the one in use" in run("status")["saved"]
    assert "save generation 2" in str(run("saved", "1", fails=1))
    said = run("saved")
    assert said["generation"] == 2 and said["master"].endswith("keys/master")
    data = base / "data"
    with composition.administration(data, config.load(data / "cleanmail.toml")) as administration:
        records = list(administration.installation.audit.read())
    assert [record.action for record in records] == ["keys.saved", "keys.rotate", "keys.saved"]
    master = base / "master"
    shutil.move(data / "keys" / "master", master)
    (data / "cleanmail.toml").write_text(
        f'[keys]\nmaster_command = ["cat", "{master}"]\nmaster_store_command = ["tee", "{master}"]\n'
    )
    assert "nobody has to save it" in str(run("saved", fails=1))
    assert run("status")["saved"] == "by the key store that it comes from"
    assert run("rotate")["generation"] == 3
    (data / "cleanmail.toml").write_text(f'[keys]\nmaster_command = ["cat", "{master}"]\n')
    assert "no new one can be stored" in str(run("rotate", fails=1))


def test_copies_are_made_listed_and_come_back(run: Run, base: Path) -> None:
    copied = run("backup", str(base / "disk"), "--days", "3")
    folder = Path(copied["folder"])
    assert folder.parent == base / "disk" and copied["master"] == 1 and not list(folder.glob("**/*aster"))
    assert [each["id"] for each in run("backups")] == [copied["id"]]
    assert run("status")["newest_copy"] == str(folder)
    data = base / "data"
    shutil.copy(data / "keys" / "master", base / "master")
    shutil.rmtree(data / "keys")
    run("restore", str(folder), fails=3)  # there is no master
    (data / "keys").mkdir(mode=0o700)
    shutil.copy(base / "master", data / "keys" / "master")
    assert run("restore", str(folder))["files"] >= 2
    assert run("restore", str(folder))["master"] == 1  # the same again
    rotated = run("rotate")
    assert rotated["before"] == 1 and rotated["copy"] is None
    assert not folder.exists() and run("backups")[0]["removed"] is not None
    run("restore", str(folder), fails=1)
    with composition.administration(data, config.load(data / "cleanmail.toml")) as administration:
        actions = [record.action for record in administration.installation.audit.read()]
    assert actions == ["keys.backup", "keys.restore", "keys.restore", "keys.rotate"]


def test_what_was_destroyed_since_does_not_come_back(run: Run, base: Path) -> None:
    """The master cannot be replaced here, so a copy of before opens with it."""
    data, master = base / "data", base / "master"
    shutil.move(data / "keys" / "master", master)
    (data / "cleanmail.toml").write_text(f'[keys]\nmaster_command = ["cat", "{master}"]\n')
    settings = config.load(data / "cleanmail.toml")
    gone: dict[str, TenantId] = {}
    with composition.administration(data, settings) as administration:
        installation, provisioning = administration.installation, administration.provisioning
        for slug in ("acme", "bolt", "kept"):
            gone[slug] = provisioning.create_tenant(slug, slug).tenant_id
            installation.control.add_domain(gone[slug], Domain.parse(f"{slug}.test"))
            installation.control.verify_domain(Domain.parse(f"{slug}.test"), None)
        account = provisioning.create_account(gone["bolt"], EmailAddress.parse("ben@bolt.test")).account_id
    folder = run("backup", str(base / "disk"))["folder"]
    with composition.administration(data, settings) as administration:
        installation, endings = administration.installation, administration.control.endings
        assert installation.keys.destroy_tenant_key(gone["acme"]).old_master_destroyed is False
        installation.keys.destroy_account_key(gone["bolt"], account)
        for row in (
            endings.order_tenant(gone["acme"], "anna", "", new_ending_id(), b""),
            endings.order_account(gone["bolt"], account, "anna", "", new_ending_id(), b""),
        ):
            endings.advance(row, Step.KEYS_DESTROYED, {}, None)
    shutil.rmtree(data / "keys")
    run("restore", folder)
    with composition.administration(data, settings) as administration:
        keys = administration.installation.keys
        assert keys.tenant_key(gone["kept"], "test").id and keys.tenant_key(gone["bolt"], "test").id
        with pytest.raises(Gone):
            keys.tenant_key(gone["acme"], "test")
        with pytest.raises(Gone):
            keys.account_key(gone["bolt"], account, "test")


def test_what_is_refused(run: Run, base: Path) -> None:
    assert "another disk" in str(run("backup", str(base / "data" / "here"), fails=1))
    assert "mount its disk" in str(run("backup", str(base / "nowhere"), fails=3))
    assert "no copy of keys" in str(run("restore", str(base), fails=1))
    assert "at most 29 days" in str(run("backup", str(base / "disk"), "--days", "30", fails=1))
    assert run("backups") == []


class Place:
    """An installation whose scheduled copies are looked after."""

    def __init__(self, base: Path) -> None:
        self.copies, self.mirror = base / "copies", base / "mirror"
        for folder in (self.copies, self.mirror, base / "data"):
            folder.mkdir()
        self.clock = FixedClock()
        self.data = base / "data"
        self.settings = Keys(backup=str(self.mirror), backup_copies=str(self.copies))
        write_master_file(self.data / "keys" / "master", Master.generate())
        place = MasterFile(self.data / "keys" / "master")
        self.store = KeyStore.create(self.data / "keys", place, self.clock, mirror=self.mirror)
        keys = LocalKeys(self.store)
        Installation.create(self.data, keys, self.clock)
        self.installation = Installation(self.data, keys, self.clock)
        keys.copies_until(self.installation.control.key_backups.until)
        self.metrics = Metrics(CollectorRegistry())
        self.round = keys_round.KeysRound(self.installation, self.settings, self.metrics)
        self.look()

    def look(self) -> None:
        self.round.look()

    def pass_days(self, days: float) -> None:
        """As they pass for a server that runs: its clock is looked at again and again."""
        for _ in range(int(days * 4)):
            self.clock.advance(DAY / 4)
            ClockGuard(self.data, self.clock).check()

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.copies.iterdir())

    def metric(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"cleanmail_key_backup_{name}")


@pytest.fixture
def place(tmp_path: Path) -> Any:
    place = Place(tmp_path)
    yield place
    place.installation.close()


def test_a_copy_is_renewed_in_time_and_the_old_one_removed(place: Place) -> None:
    first = place.folders()
    assert len(first) == 1 and place.metric("seconds_left") == 7 * DAY and place.metric("alarms") == 0
    place.look()
    assert place.folders() == first
    place.pass_days(4)
    place.look()
    assert len(place.folders()) == 2 and place.metric("seconds_left") == 7 * DAY
    place.pass_days(3.25)
    place.look()
    assert first[0] not in place.folders() and len(place.folders()) == 1
    assert [backup.removed is None for backup in place.installation.control.key_backups.all()] == [False, True]


def test_a_new_generation_makes_old_copies_useless(place: Place) -> None:
    provisioning = Provisioning(place.installation)
    tenant_id = provisioning.create_tenant("acme", "Acme").tenant_id
    until = place.installation.control.key_backups.until()
    place.clock.advance(5)
    facts = place.installation.keys.destroy_tenant_key(tenant_id)
    assert facts.backups_until == until
    before = place.folders()
    place.look()
    assert len(place.folders()) == 1 and place.folders() != before
    assert place.installation.control.key_backups.left()[0].master == 2


def test_somebody_is_told_while_no_copy_can_be_made(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    away = place.copies.with_name("away")
    place.copies.rename(away)
    place.store.rotate()
    for _ in range(2):
        place.look()
    assert place.metric("seconds_left") == 0 and place.metric("alarms") == 1
    assert caplog.text.count("No copy of the keys opens with the master of now") == 1
    assert len(place.installation.control.key_backups.left()) == 1  # which may still exist
    place.pass_days(8)
    place.look()
    assert place.metric("alarms") == 2 and place.installation.control.key_backups.until() is not None
    away.rename(place.copies)
    place.look()
    assert len(place.folders()) == 1 and place.metric("alarms") == 0
    assert len(place.installation.control.key_backups.left()) == 1


def test_with_a_clock_that_is_not_believed_nothing_is_removed(place: Place) -> None:
    first = place.folders()
    place.clock.jump(3650 * DAY)
    place.look()
    assert first[0] in place.folders()


def test_a_master_that_nobody_saved_is_told_each_hour(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Also where a new generation came each day: the time counts from the first that nobody saved."""
    marks = place.installation.control.marks

    def warnings(rounds: int = 1) -> list[str]:
        caplog.clear()
        for _ in range(rounds):
            place.round.look()
        return [record.message for record in caplog.records if "keys saved" in record.message]

    def seconds() -> float | None:
        return place.metrics.registry.get_sample_value("cleanmail_master_unsaved_seconds")

    assert warnings() == [] and seconds() == 0
    for _ in range(3):
        place.pass_days(1)
        place.store.rotate()
        assert warnings() == []
    assert seconds() == 3 * DAY
    place.clock.advance(1)
    assert len(warnings(60)) == 1 and len(warnings(60)) == 1
    [alarm] = warnings(60)
    assert "generation 4" in alarm and "the last one: none" in alarm
    with pytest.raises(Conflict):
        marks.save_master(3, 4)
    marks.save_master(4, 4)
    assert warnings(60) == [] and seconds() == 0
    place.store.rotate()
    place.clock.advance(5)
    assert warnings() == [] and seconds() == 0  # seen now
    place.pass_days(4)
    assert "4, which opens nothing any more" in warnings()[0]


def test_the_mirror_is_made_whole_each_hour(place: Place) -> None:
    (place.mirror / "service.key").unlink()
    for _ in range(keys_round.MIRROR_EVERY):
        place.look()
    assert (place.mirror / "service.key").exists()
    assert keys_round.repair_mirror(place.data / "keys", place.mirror.with_name("none")) == -1
    place.store.create_tenant(TenantId(5))
    assert keys_round.repair_mirror(place.data / "keys", place.mirror) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[keys]\nmaster_store_command = ["x"]', "master_command"),
        ('[keys]\nbackup = "relative"', "absolute"),
        ('[keys]\nbackup = "/a"\nbackup_copies = "/a"', "another folder"),
        ("[keys]\nbackup_days = 0", "backup_days"),
        ("[keys]\nbackup_days = 30", "below the period"),
        ("[keys]\nbackup_days = 7\n[retention]\nkey_backups = 7", "below the period"),
    ],
)
def test_settings_that_cannot_be_meant(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        config.parse(text)
    assert replace(Keys(), backup_days=3).backup_days == 3


def test_what_is_left_of_a_copy_that_was_not_finished_counts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its octets may be keys: until they are gone, a certificate names when they expire."""
    backups = place.installation.control.key_backups
    before = {backup.backup_id for backup in backups.left()}
    place.clock.advance(60)
    folder = copies.folder_of(place.copies, place.clock.now())
    partial = folder.with_name(f".{folder.name}")

    def full(*_: object, **__: object) -> None:
        raise StorageFull

    with monkeypatch.context() as patched:
        patched.setattr(copies, "_write", full)
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)  # a disk that went away
        with pytest.raises(StorageFull):
            keys_round.make(place.data / "keys", backups, place.copies, 7, place.clock)
    assert partial.is_dir()
    [left] = [backup for backup in backups.left() if backup.backup_id not in before]
    place.pass_days(8)
    place.look()
    assert not partial.exists() and left.backup_id not in {backup.backup_id for backup in backups.left()}


def test_a_copy_that_cannot_be_made_is_recorded_as_none(place: Place) -> None:
    backups = place.installation.control.key_backups
    with pytest.raises(Unavailable):
        keys_round.make(place.data / "keys", backups, place.copies / "none", 7, place.clock)
    with pytest.raises(CleanmailError):  # there is one of this second already
        keys_round.make(place.data / "keys", backups, place.copies, 7, place.clock)
    assert len(place.folders()) == 1

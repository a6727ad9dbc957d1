"""The mirror of keys/, dated copies and what comes back of them, and the places where a master lives."""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest
from key_tree import ACCOUNT, FAR, NEIGHBOUR, OTHER, TENANT, KeyPlace, every_key, openable

from storage.clock import FixedClock
from storage.errors import AlreadyExists, CleanmailError, Corrupt, Gone, InvalidInput, NotFound, Unavailable
from storage.keys import copies, signing, unfinished
from storage.keys.files import KeyFiles
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, write_master_file
from storage.keys.mirror import Mirror
from storage.keys.places import MasterCommand, MasterFile, disks_of, shred
from storage.keys.source import LocalKeys
from storage.keys.unfinished import Change
from storage.values import TenantId

NEVER = 4_000_000_000
OTHER_TENANT = TenantId(9)


@pytest.fixture
def place(tmp_path: Path) -> KeyPlace:
    place = KeyPlace(tmp_path, mirror=True)
    for tenant in (TENANT, NEIGHBOUR, FAR):
        place.store.create_tenant(tenant)
        place.store.create_account(tenant, ACCOUNT)
    return place


def same(place: KeyPlace) -> bool:
    assert place.mirror is not None
    return Mirror(place.mirror).differences(place.keys) == []


class TestMirror:
    def test_has_every_key_and_never_the_master(self, place: KeyPlace) -> None:
        assert same(place) and place.mirror is not None
        place.store.destroy_account(TENANT, ACCOUNT)
        assert same(place)
        facts = place.store.destroy_tenant(FAR)
        assert same(place) and facts.mirrors == (str(place.mirror),)
        place.store.rotate()
        assert same(place)
        kept = {key.secret for key in every_key(place.store).values()}
        assert kept <= set(openable(place.mirror, place.place.read()))
        octets = b"".join(path.read_bytes() for path in place.mirror.rglob("*") if path.is_file())
        assert not any(s.hex().encode() in octets for s in place.place.read().secrets.values())
        assert not list(place.mirror.rglob("unfinished*")) and not list(place.mirror.rglob(".lock"))
        assert all(path.stat().st_mode & 0o077 == 0 for path in place.mirror.rglob("*"))

    def test_nothing_new_is_made_without_it(self, place: KeyPlace, tmp_path: Path) -> None:
        away = tmp_path / "away"
        assert place.mirror is not None
        place.mirror.rename(away)  # as a disk that is not mounted
        for make in (
            lambda: place.store.create_tenant(OTHER_TENANT),
            lambda: place.store.create_account(TENANT, OTHER),
            place.store.rotate,
        ):
            with pytest.raises(Unavailable, match=r"\[keys\] backup"):
                make()
        assert place.store.tenants() == [TENANT, FAR, NEIGHBOUR] and not place.mirror.exists()
        assert place.store.accounts(TENANT) == [ACCOUNT] and place.store.generation == 1
        away.rename(place.mirror)
        place.store.create_account(TENANT, OTHER)
        assert same(place)

    def test_what_has_to_end_ends_without_it_and_it_is_made_whole_afterwards(
        self, place: KeyPlace, tmp_path: Path
    ) -> None:
        assert place.mirror is not None
        place.mirror.rename(tmp_path / "away")
        facts = place.store.destroy_tenant(TENANT)
        assert facts.old_master_destroyed and facts.mirrors == ()
        (tmp_path / "away").rename(place.mirror)
        assert not same(place)
        place.store.create_account(NEIGHBOUR, OTHER)
        assert same(place)

    def test_a_master_that_stays_waits_for_it(self, tmp_path: Path) -> None:
        mirror, away = tmp_path / "mirror", tmp_path / "away"
        mirror.mkdir()
        store = KeyStore.create(tmp_path / "keys", Master.generate(), FixedClock(), mirror=mirror)
        store.create_tenant(TENANT)
        mirror.rename(away)
        with pytest.raises(Unavailable, match="goes on when the mirror is back"):
            store.destroy_tenant(TENANT)
        with pytest.raises(Gone):
            store.tenant(TENANT)
        away.rename(mirror)
        assert store.destroy_tenant(TENANT).mirrors == (str(mirror),)
        assert not (mirror / "1").exists() and Mirror(mirror).differences(tmp_path / "keys") == []

    def test_a_mirror_that_was_changed_is_repaired(self, place: KeyPlace) -> None:
        assert place.mirror is not None
        (place.mirror / "1" / "11.key").write_text("{")
        (place.mirror / "groups.key").unlink()
        (place.mirror / "77.destroyed").write_text("5")
        mirror = Mirror(place.mirror)
        assert mirror.differences(place.keys) == ["1/11.key", "77.destroyed", "groups.key"]
        assert mirror.follow(place.keys) == 3 and same(place) and mirror.follow(place.keys) == 0


class TestCopies:
    def copy(self, place: KeyPlace, name: str = "elsewhere") -> Path:
        (place.base / name).mkdir()
        folder = copies.folder_of(place.base / name, place.clock.now())
        copies.make_copy(place.keys, folder, made=place.clock.now(), expires=NEVER)
        return folder

    def test_say_what_they_are(self, place: KeyPlace) -> None:
        folder = self.copy(place)
        assert folder.name == "keys-20250615T150640Z" and not (folder / "master").exists()
        manifest = copies.verify(folder)
        assert (manifest.made, manifest.expires, manifest.master) == (place.clock.now(), NEVER, 1)
        assert {"service.key", "groups.key", "1/tenant.key", "1/11.key", "groups/1.key"} <= set(manifest.files)
        assert copies.master_generation(place.keys) == 1
        with pytest.raises(AlreadyExists):
            copies.make_copy(place.keys, folder, made=1, expires=2)
        with pytest.raises(Unavailable, match="mount its disk"):
            copies.make_copy(place.keys, place.base / "none" / "keys-20250615T150640Z", made=1, expires=2)

    def test_come_back(self, place: KeyPlace) -> None:
        before, folder, told = every_key(place.store), self.copy(place), list[int]()
        lost = place.base / "lost"
        place.keys.rename(lost)

        def restore() -> copies.Manifest:
            return copies.restore(folder, place.keys, place.place, place.clock, tell=lambda: told.append(1))

        restore()
        assert every_key(place.reopen()) == before and told == [1]
        assert restore().master == 1 and told == [1]  # the same again
        place.store.create_account(TENANT, OTHER)
        with pytest.raises(AlreadyExists, match="nothing was changed"):
            restore()
        assert sorted(path.name for path in place.base.iterdir()) == ["elsewhere", "keys", "lost", "master", "mirror"]

    def test_are_refused_with_another_master(self, place: KeyPlace) -> None:
        folder = self.copy(place)
        place.keys.rename(place.base / "lost")
        other = MasterFile(place.base / "other")
        write_master_file(other.path, Master.generate())
        with pytest.raises(Corrupt, match="does not open this copy"):
            copies.restore(folder, place.keys, other, place.clock, tell=lambda: None)
        assert not place.keys.exists() and not list(place.base.glob(".keys*"))

    def test_open_nothing_after_a_key_was_destroyed(self, place: KeyPlace) -> None:
        folder = self.copy(place)
        place.store.destroy_account(TENANT, ACCOUNT)
        place.keys.rename(place.base / "lost")
        with pytest.raises(Corrupt, match="does not open"):
            copies.restore(folder, place.keys, place.place, place.clock, tell=lambda: None)

    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            (lambda f: (f / "1" / "11.key").write_text("{}"), Corrupt, "was changed"),
            (lambda f: (f / "service.key").unlink(), Corrupt, "not whole"),
            (lambda f: (f / "manifest.json").unlink(), InvalidInput, "no copy of keys"),
            (lambda f: (f / "manifest.json").write_text("[]"), InvalidInput, "no copy of keys"),
            (lambda f: rename_entry(f, "1/11.key", "../../11.key"), Corrupt, "none of keys"),
            (lambda f: rename_entry(f, "1/11.key", "master"), Corrupt, "none of keys"),
            (lambda f: set_field(f, "format", 2), Unavailable, "newer format"),
        ],
    )
    def test_that_are_not_as_they_were_made(
        self, place: KeyPlace, change: object, error: type[CleanmailError], match: str
    ) -> None:
        folder = self.copy(place)
        place.keys.rename(place.base / "lost")
        assert callable(change)
        change(folder)
        with pytest.raises(error, match=match):
            copies.restore(folder, place.keys, place.place, place.clock, tell=lambda: None)
        assert not place.keys.exists()

    def test_are_removed(self, place: KeyPlace) -> None:
        folder = self.copy(place)
        with (folder / "service.key").open("rb") as file:
            before = file.read()
            copies.remove_copy(folder)
            file.seek(0)
            assert file.read() != before
        assert not folder.exists()
        copies.remove_copy(folder)
        with pytest.raises(InvalidInput):
            copies.remove_copy(place.keys)
        with pytest.raises(Unavailable):
            copies.remove_copy(place.base / "none" / folder.name)


def rename_entry(folder: Path, old: str, new: str) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    document["files"][new] = document["files"].pop(old)
    (folder / "manifest.json").write_text(json.dumps(document))


def set_field(folder: Path, name: str, value: object) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**document, name: value}))


def test_no_keys_no_generation(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        copies.master_generation(tmp_path)


class TestPlaces:
    def test_an_environment_file_stays_one(self, tmp_path: Path) -> None:
        master = Master.generate()
        path = tmp_path / "env"
        path.write_text(f"# of the mail server\nCLEANMAIL_MASTER_KEY={master.text()}")
        path.chmod(0o600)
        place = MasterFile(path)
        place.store(master.succeeded())
        lines = path.read_text().splitlines()
        assert lines[0] == "# of the mail server" and len(lines) == 3
        assert all(line.startswith("CLEANMAIL_MASTER_KEY=") for line in lines[1:])
        assert sorted(place.read().secrets) == [1, 2]

    def test_a_link_leads_to_the_file_that_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        write_master_file(tmp_path / "real" / "key", Master.generate())
        (tmp_path / "link").symlink_to("real/key")
        place = MasterFile(tmp_path / "link")
        place.store(place.read().succeeded().newest_only())
        assert (tmp_path / "link").is_symlink() and list(place.read().secrets) == [2]

    def test_what_a_killed_run_left_is_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "master"
        write_master_file(path, Master.generate())
        os.link(path, tmp_path / ".master.old")  # killed before the new one took its place
        (tmp_path / ".master.new").write_text("1:secret")
        place = MasterFile(path)
        known = place.read()
        place.store(known.succeeded())
        (tmp_path / ".master.old").write_text(known.text())  # killed before it was overwritten
        with (tmp_path / ".master.old").open("rb") as file:
            place.store(known.succeeded())
            assert known.text().encode() not in file.read()
        assert [entry.name for entry in tmp_path.iterdir()] == ["master"]

    def test_a_file_that_cannot_be_replaced(self, tmp_path: Path) -> None:
        place = MasterFile(tmp_path / "none" / "master")
        assert not place.can_store()
        with pytest.raises(Unavailable):
            place.store(Master.generate())
        assert shred(tmp_path / "none") is False

    def test_where_it_lives_says_what_is_reached(self, tmp_path: Path) -> None:
        keys = tmp_path / "data" / "keys"
        keys.mkdir(parents=True)
        for path, said in (
            (keys / "master", "in the data directory"),
            (tmp_path / "data" / "master", "in the data directory"),
            (tmp_path / "master", "outside of the data directory"),
        ):
            place, level = MasterFile(path).describe(keys)
            assert said in place and level == "clear"
        assert MasterCommand(["x"]).describe(keys)[1] == "clear"
        assert MasterCommand(["x"], ["y"]).describe(keys)[1] == "purge"

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no file system in memory")
    def test_a_file_in_memory_is_not_replaced(self) -> None:
        """At the next start of the machine it holds the old generation again, which would open nothing any more."""
        with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, tempfile.TemporaryDirectory(dir="/var/tmp") as disk:
            path, keys = Path(memory) / "master", Path(disk) / "keys"
            write_master_file(path, Master.generate())
            at_boot = path.read_text()
            keystore = KeyStore.create(keys, MasterFile(path, keys), FixedClock())
            key = keystore.create_tenant(FAR)
            keystore.create_tenant(TENANT)
            facts = keystore.destroy_tenant(TENANT)
            assert (facts.old_master_destroyed, facts.master_after, facts.sanitization) == (False, None, "clear")
            assert "in memory" in facts.master_place
            path.write_text(at_boot)
            again = KeyStore(keys, MasterFile(path, keys), FixedClock())
            assert again.tenant(FAR) == key
            assert MasterFile(path, Path(memory) / "keys").can_store()  # where the data are in memory, too

    def test_disks_below_file_systems(self, tmp_path: Path) -> None:
        """What is another file system may be the same disk: then it is no other medium."""
        blocks, devices = tmp_path / "blocks", tmp_path / "devices"
        for number, device, slaves in (
            ("8:1", "pci/sda/sda1", ()),
            ("8:2", "pci/sda/sda2", ()),
            ("8:16", "pci/sdb", ()),
            ("253:0", "virtual/dm-0", ("pci/sda/sda2",)),
            ("253:1", "virtual/dm-1", ("virtual/dm-0", "pci/sdb")),
            ("7:0", "virtual/loop0", ()),
        ):
            place = devices / device
            (place / "slaves").mkdir(parents=True)
            if "sda/" in device:
                (place / "partition").touch()
            for slave in slaves:
                (place / "slaves" / slave.rpartition("/")[2]).symlink_to(devices / slave)
            blocks.mkdir(exist_ok=True)
            (blocks / number).symlink_to(place)

        def below(major: int, minor: int) -> set[str]:
            return {Path(disk).name for disk in disks_of(os.makedev(major, minor), blocks)}

        assert below(8, 1) == below(8, 2) == below(253, 0) == {"sda"}
        assert below(253, 1) == {"sda", "sdb"} and below(8, 16) == {"sdb"}
        assert below(7, 0) == below(0, 40) == set()  # nobody knows

    def test_a_command_takes_the_new_text_on_standard_input(self, tmp_path: Path) -> None:
        """And nothing of it stands among the arguments, which everybody on the machine can see."""
        text, arguments = tmp_path / "text", tmp_path / "arguments"
        text.write_text(Master.generate().text())
        store = tmp_path / "store"
        store.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"open({str(arguments)!r}, 'a').write(repr(sys.argv))\nopen({str(text)!r}, 'w').write(sys.stdin.read())\n"
        )
        store.chmod(stat.S_IRWXU)
        place = MasterCommand(["cat", str(text)], [str(store)])
        keystore = KeyStore.create(tmp_path / "keys", place, FixedClock())
        keystore.create_tenant(TENANT)
        keystore.create_account(TENANT, ACCOUNT)
        facts = keystore.destroy_account(TENANT, ACCOUNT)
        assert (facts.master_after, facts.old_master_destroyed, facts.sanitization) == (2, True, "purge")
        assert list(place.read().secrets) == [2] and place.read().secrets[2].hex() not in arguments.read_text()

    @pytest.mark.parametrize("broken", [["false"], ["/does/not/exist"], ["true"]])  # "true" forgets what it was given
    def test_a_command_that_does_not_keep_the_key_changes_nothing(self, tmp_path: Path, broken: list[str]) -> None:
        text = tmp_path / "text"
        text.write_text(Master.generate().text())
        place = MasterCommand(["cat", str(text)], broken)
        keystore = KeyStore.create(tmp_path / "keys", place, FixedClock())
        key = keystore.create_tenant(TENANT)
        with pytest.raises(Unavailable):
            keystore.rotate()
        assert copies.master_generation(tmp_path / "keys") == 1
        again = KeyStore(tmp_path / "keys", place, FixedClock())
        assert again.tenant(TENANT) == key
        with pytest.raises(Unavailable):
            again.destroy_tenant(TENANT)
        with pytest.raises(Gone):
            again.tenant(TENANT)
        assert again.create_tenant(FAR) == again.tenant(FAR)  # what waits keeps nobody from going on


def test_who_makes_keys_does_not_wait_for_a_key_store_again_and_again(tmp_path: Path) -> None:
    text, runs = tmp_path / "text", tmp_path / "runs"
    text.write_text(Master.generate().text())
    place = MasterCommand(["cat", str(text)], ["sh", "-c", f"echo >> {runs}; exit 1"])  # or hangs, for half a minute
    keystore = KeyStore.create(tmp_path / "keys", place, FixedClock())
    keystore.create_tenant(TENANT)
    with pytest.raises(Unavailable):
        keystore.destroy_tenant(TENANT)
    keystore.create_tenant(FAR)  # tries once
    tried = runs.read_text()
    for account in (ACCOUNT, OTHER):
        keystore.create_account(FAR, account)
    assert runs.read_text() == tried
    with pytest.raises(Unavailable):
        keystore.destroy_tenant(TENANT)  # who asks for it is not put off
    assert len(runs.read_text()) > len(tried)


def test_signatures_are_the_same_whatever_wraps_the_keys(place: KeyPlace) -> None:
    keys = LocalKeys(place.store)
    public = {purpose: keys.verifying_key(purpose) for purpose in ("certificate", "audit", "manifest")}
    assert len(set(public.values())) == 3 and all(len(key) == 32 for key in public.values())
    signature = keys.sign("certificate", b"erased")
    place.store.rotate()
    assert LocalKeys(place.reopen()).verifying_key("certificate") == public["certificate"]
    signing.verify(public["certificate"], b"erased", signature)
    for wrong, message, forged in (
        (public["audit"], b"erased", signature),
        (public["certificate"], b"kept", signature),
        (public["certificate"], b"erased", signature[:-1]),
        (b"short", b"erased", signature),
    ):
        with pytest.raises(Corrupt):
            signing.verify(wrong, message, forged)


class TestCopiesAndDestructions:
    """Until when a copy could exist that holds what is destroyed: the certificate says it."""

    def test_copies_are_asked_for_when_no_other_can_be_made(self, place: KeyPlace) -> None:
        """One that is recorded later waits for the lock, and does not find the key any more."""
        alone: list[bool] = []

        def until() -> int:
            with KeyFiles(place.keys).locked(wait=False) as free:
                alone.append(not free)
            return 4711

        place.store.backups_until = until
        assert place.store.destroy_account(TENANT, ACCOUNT).backups_until == 4711
        assert place.store.destroy_tenant(FAR).backups_until == 4711
        assert alone == [True, True]

    @pytest.mark.parametrize("change", [Change("destroy_tenant", 1), Change("destroy_account", 1, int(ACCOUNT))])
    def test_none_is_made_of_a_key_that_is_to_go(self, place: KeyPlace, tmp_path: Path, change: Change) -> None:
        copied = tmp_path / "keys-20260101T000000Z"
        unfinished.add(place.keys, change)  # killed before the first step
        with pytest.raises(Unavailable, match="to be destroyed"):
            copies.make_copy(place.keys, copied, made=1, expires=2)
        assert not copied.exists() and not copied.with_name(f".{copied.name}").exists()
        place.reopen()
        copies.make_copy(place.keys, copied, made=1, expires=2)

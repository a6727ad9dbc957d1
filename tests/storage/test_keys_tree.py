"""The key tree: what destroying a key costs, what nobody opens afterwards, what moves into it, who changes it."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from key_tree import KeyPlace, every_key, fill, old_layout, openable

from storage.clock import FixedClock
from storage.errors import AlreadyExists, CleanmailError, Conflict, Corrupt, Gone, NotFound
from storage.keys import unfinished
from storage.keys.destruction import Destroyed
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.places import MasterFile
from storage.keys.source import LocalKeys
from storage.keys.unfinished import Change
from storage.values import AccountId, TenantId

ONE, TWO, FAR = TenantId(1), TenantId(2), TenantId(257)  # the first and the last share a group
ANN, BOB, EVE = AccountId(11), AccountId(12), AccountId(13)


@pytest.fixture
def place(tmp_path: Path) -> KeyPlace:
    place = KeyPlace(tmp_path)
    for tenant in (ONE, TWO, FAR):
        place.store.create_tenant(tenant)
        for account in (ANN, BOB):
            place.store.create_account(tenant, account)
    return place


DESTROY: list[tuple[Callable[[KeyStore], Destroyed], set[tuple[TenantId, AccountId | None]]]] = [
    (lambda s: s.destroy_tenant(ONE), {(ONE, None), (ONE, ANN), (ONE, BOB)}),
    (lambda s: s.destroy_account(ONE, ANN), {(ONE, ANN)}),
]


@pytest.mark.parametrize(("destroy", "gone"), DESTROY, ids=["tenant", "account"])
class TestDestroying:
    def test_takes_one_and_leaves_the_others(
        self,
        place: KeyPlace,
        destroy: Callable[[KeyStore], Destroyed],
        gone: set[tuple[TenantId, AccountId | None]],
    ) -> None:
        before = every_key(place.store)
        facts = destroy(place.store)
        left = {whose: key for whose, key in before.items() if whose not in gone}
        assert every_key(place.store) == left == every_key(place.reopen())
        assert set(facts.key_ids) == {before[whose].id for whose in gone}
        assert (facts.master_before, facts.master_after) == (1, 2) and facts.old_master_destroyed
        assert facts.sanitization == "clear" and facts.master_place == "a file in the data directory"
        assert destroy(place.store) == facts == destroy(place.reopen())
        assert list(read_master_file(place.place.path).secrets) == [2]
        with pytest.raises(Gone):
            place.store.account(ONE, ANN)

    def test_no_copy_from_before_opens_it_again(
        self,
        place: KeyPlace,
        destroy: Callable[[KeyStore], Destroyed],
        gone: set[tuple[TenantId, AccountId | None]],
    ) -> None:
        """Every wrapped file of before and after, mixed in both ways, with the master of after."""
        old_master = read_master_file(place.place.path)
        before = every_key(place.store)
        copied = place.copy("copied")
        secrets = {before[whose].secret for whose in gone}
        assert secrets <= set(openable(copied, old_master))
        destroy(place.store)
        new_master = read_master_file(place.place.path)
        assert not set(openable(copied, new_master)) & {key.secret for key in before.values()}
        for first, second in ((copied, place.keys), (place.keys, copied)):
            mixed = Path(shutil.copytree(first, place.base / f"mixed {first.name}"))
            for path in second.rglob("*.key"):
                target = mixed / path.relative_to(second)
                if not target.exists():
                    target.parent.mkdir(exist_ok=True)
                    shutil.copy(path, target)
            assert not secrets & set(openable(mixed, new_master))
        assert not secrets & set(openable(place.keys, Master({**old_master.secrets, **new_master.secrets})))
        # nor does it stand in any file, the master's included
        octets = b"".join(p.read_bytes() for p in place.base.rglob("*") if p.is_file() and "mixed" not in str(p))
        for secret in secrets | set(old_master.secrets.values()):
            assert secret not in octets and secret.hex().encode() not in octets

    def test_the_old_file_of_the_master_is_overwritten(
        self,
        place: KeyPlace,
        destroy: Callable[[KeyStore], Destroyed],
        gone: set[tuple[TenantId, AccountId | None]],
    ) -> None:
        old = read_master_file(place.place.path).secrets[1].hex().encode()
        with place.place.path.open("rb") as file:  # whoever has the inode, as an undelete has its blocks
            destroy(place.store)
            assert old not in file.read()
        assert sorted(p.name for p in place.base.iterdir()) == ["keys", "master"]
        assert place.place.path.stat().st_mode & 0o777 == 0o600


def count_calls(patched: pytest.MonkeyPatch, name: str) -> list[object]:
    """Grows by one with each call of a function of the operating system."""
    calls: list[object] = []
    function = getattr(os, name)

    def counted(*arguments: object) -> object:
        calls.append(arguments)
        return function(*arguments)

    patched.setattr(os, name, counted)
    return calls


def test_it_costs_the_same_among_ten_thousand_tenants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[list[int]] = []
    for tenants in (10, 10_000):
        base = tmp_path / str(tenants)
        base.mkdir()
        place = KeyPlace(base)
        fill(place.keys, read_master_file(place.place.path), tenants)
        place.reopen().create_account(TenantId(7), ANN)
        with monkeypatch.context() as patched:
            counts = [count_calls(patched, name) for name in ("fsync", "replace")]
            place.store.destroy_account(TenantId(7), ANN)
            place.store.destroy_tenant(TenantId(7))
        counted.append([len(calls) for calls in counts])
        with pytest.raises(Gone):
            place.store.tenant(TenantId(7))
        assert len(place.reopen().tenant(TenantId(8)).secret) == 32
    few, many = counted
    assert abs(many[0] - few[0]) <= 2 and abs(many[1] - few[1]) <= 2
    assert many[0] < 100


def test_what_is_not_there(place: KeyPlace) -> None:
    with pytest.raises(NotFound):
        place.store.destroy_account(TenantId(99), ANN)
    never_made = place.store.destroy_account(ONE, EVE)
    assert never_made.key_ids == () and place.store.destroy_account(ONE, EVE) == never_made
    with pytest.raises(Gone):
        place.store.create_account(ONE, EVE)
    with_tenant = place.store.destroy_tenant(ONE)
    assert place.store.destroy_account(ONE, ANN) == with_tenant


def test_facts_say_until_when_a_copy_could_exist(place: KeyPlace) -> None:
    keys = LocalKeys(place.store)
    keys.copies_until(lambda: 1_800_000_000)
    assert keys.destroy_tenant_key(ONE).backups_until == 1_800_000_000
    facts = keys.destroy_account_key(TWO, ANN)
    assert Destroyed.from_fields(facts.fields()) == facts
    with pytest.raises(Corrupt):
        Destroyed.from_fields({**facts.fields(), "sanitization": "promised"})


def test_what_is_ended_at_the_next_start_knows_of_copies_too(place: KeyPlace) -> None:
    """Which stand in a database that nobody has opened by then."""
    for change in (Change("destroy_account", ONE, ANN, 1_800_000_000), Change("destroy_tenant", TWO, until=5)):
        assert unfinished.add(place.keys, change) is change
    store = place.reopen()
    assert store.destroy_account(ONE, ANN).backups_until == 1_800_000_000
    assert store.destroy_tenant(TWO).backups_until == 5
    (place.keys / "unfinished.json").write_text('[{"what": "destroy_everything", "tenant": 1, "account": 1}]')
    with pytest.raises(Corrupt):
        place.reopen()


def reachable(root: object) -> set[bytes]:
    """All octets that an object leads to."""
    seen, waiting, found = {id(root)}, [root], set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, bytes):
            found.add(each)
        for other in gc.get_referents(each):
            if id(other) not in seen and not isinstance(other, (type, ModuleType, FunctionType)):
                seen.add(id(other))
                waiting.append(other)
    return found


def test_this_process_forgets_what_wrapped_it(place: KeyPlace) -> None:
    old = [place.place.read().secrets[1], place.store.tenant(ONE).secret]
    old += [key.secret for keys in place.store._tree.groups().values() for key in keys]
    rings = place.store._tree.rings(1)
    assert {place.place.read().secrets[1], rings[ONE][0].secret} <= reachable(place.store)
    old.append(rings[ONE][0].secret)
    del rings
    place.store.destroy_tenant(ONE)
    place.store.destroy_account(FAR, ANN)
    assert place.store.tenant(TWO).secret and place.store.tenant(FAR).secret
    kept = reachable(place.store)
    # the group of the second tenant was wrapped anew, but is the same
    assert len([secret for secret in old if secret in kept]) == 1
    assert place.place.read().secrets[3] in kept


def test_a_master_that_cannot_be_replaced_stays_and_that_is_said(tmp_path: Path) -> None:
    store = KeyStore.create(tmp_path / "keys", Master.generate(), FixedClock())
    store.create_tenant(ONE)
    facts = store.destroy_tenant(ONE)
    assert (facts.master_before, facts.master_after, facts.old_master_destroyed) == (1, None, False)
    assert facts.sanitization == "clear" and store.tenants() == []
    with pytest.raises(Conflict, match="master_store_command"):
        store.rotate()


def test_a_new_generation_and_nothing_of_the_old_one(place: KeyPlace) -> None:
    before, copied = every_key(place.store), place.copy("copied")
    service = place.store.service
    assert place.store.rotate() == 2 == place.store.generation
    assert every_key(place.store) == before == every_key(place.reopen())
    assert place.store.service == service
    assert set(openable(copied, read_master_file(place.place.path))) == {read_master_file(place.place.path).secrets[2]}


def test_another_process_sees_what_was_wrapped_anew(place: KeyPlace) -> None:
    other = KeyStore(place.keys, place.place, place.clock)
    before = every_key(other)
    place.store.rotate()
    place.store.destroy_account(ONE, ANN)
    del before[ONE, ANN]
    assert every_key(other) == before
    assert other.generation == 3  # and knows no older one any more
    assert other.create_tenant(TenantId(3)) == place.store.tenant(TenantId(3))


def test_readers_never_see_a_half_state(place: KeyPlace) -> None:
    """Another store, as another process has it, reads all the time while one changes keys again and again."""
    other = KeyStore(place.keys, place.place, place.clock)
    kept = {whose: key for whose, key in every_key(other).items() if whose[0] is FAR}
    wrong: list[object] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                found = {(t, a): other.account(t, a) if a else other.tenant(t) for t, a in kept}
            except CleanmailError as error:
                wrong.append(error)
                return
            if found != kept:
                wrong.append(found)
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        place.store.destroy_account(ONE, ANN)
        place.store.create_account(FAR, EVE)
        place.store.destroy_account(FAR, EVE)
        place.store.destroy_tenant(ONE)
        place.store.rotate()
    finally:
        over.set()
        reader.join()
    assert wrong == []


def test_two_who_change_keys_at_once_both_succeed(place: KeyPlace) -> None:
    stores = [KeyStore(place.keys, place.place, place.clock) for _ in range(2)]
    failed: list[BaseException] = []

    def work(store: KeyStore, tenant: int) -> None:
        try:
            for number in range(tenant, tenant + 3):
                store.create_tenant(TenantId(number))
                store.create_account(TenantId(number), ANN)
            store.destroy_tenant(TenantId(tenant))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(store, 256 * (index + 2))) for index, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert {513, 514, 769, 770} <= set(place.reopen().tenants()) and len(every_key(place.store)) == 9 + 8


class TestOldLayout:
    @pytest.fixture
    def old(self, tmp_path: Path) -> tuple[KeyStore, dict[tuple[int, int], bytes]]:
        place = MasterFile(tmp_path / "master")
        write_master_file(place.path, Master.generate())
        made = old_layout(tmp_path / "keys", place.read(), {1: [11, 12], 2: [11], 300: []})
        store = KeyStore(tmp_path / "keys", place, FixedClock())
        return store, {whose: key.secret for whose, key in made.items()}

    def secrets(self, store: KeyStore) -> dict[tuple[int, int], bytes]:
        return {(int(t), int(a or 0)): key.secret for (t, a), key in every_key(store).items()}

    def test_is_read_as_it_is(self, old: tuple[KeyStore, dict[tuple[int, int], bytes]]) -> None:
        store, made = old
        assert self.secrets(store) == made and store.tenants() == [1, 2, 300]

    def test_moves_with_the_first_change(
        self, old: tuple[KeyStore, dict[tuple[int, int], bytes]], tmp_path: Path
    ) -> None:
        store, made = old
        new = store.create_account(ONE, EVE)
        assert self.secrets(store) == {**made, (1, 13): new.secret}
        assert '"ring:' in (tmp_path / "keys" / "1" / "11.key").read_text()
        assert '"master:' in (tmp_path / "keys" / "2" / "tenant.key").read_text()
        store.destroy_tenant(TWO)
        del made[2, 0], made[2, 11]
        assert self.secrets(store) == {**made, (1, 13): new.secret}
        assert '"ring:' in (tmp_path / "keys" / "300" / "tenant.key").read_text()

    def test_rotating_moves_everything(self, old: tuple[KeyStore, dict[tuple[int, int], bytes]]) -> None:
        store, made = old
        assert store.rotate() == 2 and self.secrets(store) == made

    def test_an_account_that_was_under_its_tenants_key_has_no_better_end_than_it_can_have(
        self, old: tuple[KeyStore, dict[tuple[int, int], bytes]]
    ) -> None:
        store, _ = old
        store.rotate()
        facts = store.destroy_account(ONE, ANN)
        assert not facts.old_master_destroyed and facts.sanitization == "clear"
        assert store.destroy_tenant(ONE).old_master_destroyed

    def test_a_damaged_tenant_keeps_nobody_from_being_destroyed(
        self, old: tuple[KeyStore, dict[tuple[int, int], bytes]], tmp_path: Path
    ) -> None:
        store, made = old
        (tmp_path / "keys" / "300" / "tenant.key").write_text("{")
        (tmp_path / "keys" / "1" / "12.key").write_text("{")
        assert store.destroy_tenant(TWO).old_master_destroyed
        assert store.account(ONE, ANN).secret == made[1, 11]
        assert store.destroy_account(ONE, EVE).key_ids == ()
        with pytest.raises(Corrupt):
            store.account(ONE, BOB)


def test_a_lost_file_of_groups_is_told_and_not_made_anew(place: KeyPlace) -> None:
    (place.keys / "groups.key").unlink()
    for ask in (lambda: place.store.create_tenant(TenantId(9)), lambda: place.store.tenant(ONE), place.store.rotate):
        with pytest.raises(Corrupt):
            ask()
    assert not (place.keys / "groups.key").exists() and not (place.keys / "9").exists()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_happens_in_whatever_order(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Keys that were made and not destroyed are the same for ever; the others are Gone."""
    place = KeyPlace(tmp_path_factory.mktemp("keys"))
    tenants, accounts = st.sampled_from([ONE, TWO, FAR]), st.sampled_from([ANN, BOB])
    alive: dict[tuple[TenantId, AccountId | None], object] = {}
    gone: set[tuple[TenantId, AccountId | None]] = set()
    for _ in range(data.draw(st.integers(3, 9))):
        store, tenant, account = place.store, data.draw(tenants), data.draw(accounts)
        match data.draw(st.sampled_from(["tenant", "account", "end", "end account", "rotate", "reopen"])):
            case "tenant":
                if (tenant, None) in gone:
                    with pytest.raises(Gone):
                        store.create_tenant(tenant)
                elif (tenant, None) in alive:
                    with pytest.raises(AlreadyExists):
                        store.create_tenant(tenant)
                else:
                    alive[tenant, None] = store.create_tenant(tenant)
            case "account" if (tenant, None) in alive and (tenant, account) not in alive:
                if (tenant, account) in gone:
                    with pytest.raises(Gone):
                        store.create_account(tenant, account)
                else:
                    alive[tenant, account] = store.create_account(tenant, account)
            case "end":
                store.destroy_tenant(tenant)
                gone |= {(tenant, None), (tenant, ANN), (tenant, BOB)}
                alive = {whose: key for whose, key in alive.items() if whose[0] != tenant}
            case "end account" if (tenant, None) in alive:
                store.destroy_account(tenant, account)
                gone.add((tenant, account))
                alive.pop((tenant, account), None)
            case "rotate":
                store.rotate()
            case "reopen":
                place.reopen()
    assert every_key(place.store) == alive == every_key(place.reopen())
    for ended, number in gone:
        with pytest.raises(Gone):
            place.store.account(ended, number) if number else place.store.tenant(ended)

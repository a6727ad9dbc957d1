"""Boxes, derived keys, and the key store: generations, wrong masters, destroyed and swapped key files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.clock import FixedClock, boot_id
from storage.errors import AlreadyExists, CleanmailError, Corrupt, Gone, NotFound, Unavailable
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, run_master_command, write_master_file
from storage.keys.sealing import Key, derive, keyed_hash, open_sealed, seal
from storage.keys.source import LocalKeys
from storage.values import AccountId, TenantId

TENANT, OTHER = TenantId(7), TenantId(8)
ACCOUNT, SECOND = AccountId(31), AccountId(32)


@pytest.fixture
def master() -> Master:
    return Master.generate()


@pytest.fixture
def store(tmp_path: Path, master: Master) -> KeyStore:
    return KeyStore.create(tmp_path / "keys", master, FixedClock())


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_a_box_opens_with_its_key_and_context_only(plain: bytes, context: bytes) -> None:
    key, other = b"k" * 32, b"o" * 32
    box = seal(key, plain, context)
    assert open_sealed(key, box, context) == plain
    for wrong_key, wrong_context in ((other, context), (key, context + b"x")):
        with pytest.raises(Corrupt):
            open_sealed(wrong_key, box, wrong_context)


@given(st.data())
def test_a_changed_or_cut_box_does_not_open(data: st.DataObject) -> None:
    box = seal(b"k" * 32, b"some text", b"here")
    position = data.draw(st.integers(0, len(box) - 1))
    changed = bytearray(box)
    changed[position] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(changed), box[:position]):
        with pytest.raises(Corrupt):
            open_sealed(b"k" * 32, damaged, b"here")


def test_derive_is_hkdf_expand_and_keeps_labels_apart() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

    info = b"\x00\x00\x00\x02ab\x00\x00\x00\x01c"
    assert derive(b"k" * 32, "ab", b"c") == HKDFExpand(SHA256(), 32, info).derive(b"k" * 32)
    assert derive(b"k" * 32, "ab", "c") != derive(b"k" * 32, "a", "bc") != derive(b"k" * 32, "abc")
    assert keyed_hash(b"a" * 32, b"x") != keyed_hash(b"b" * 32, b"x")


def test_a_key_shows_its_id_and_never_its_secret() -> None:
    assert "secret" not in repr(Key("id", b"secret")) and "secret" not in repr(Master({1: b"secret"}))


def test_keys_come_back_the_same(store: KeyStore, tmp_path: Path, master: Master) -> None:
    tenant, account = store.create_tenant(TENANT), store.create_account(TENANT, ACCOUNT)
    again = KeyStore(tmp_path / "keys", master, FixedClock())
    assert (again.tenant(TENANT), again.account(TENANT, ACCOUNT)) == (tenant, account)
    assert again.service == store.service
    assert tenant.secret != account.secret and len(account.secret) == 32
    assert (again.tenants(), again.accounts(TENANT)) == ([TENANT], [ACCOUNT])


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda s: s.tenant(OTHER), NotFound),
        (lambda s: s.account(TENANT, SECOND), NotFound),
        (lambda s: s.account(OTHER, ACCOUNT), NotFound),
        (lambda s: s.create_account(OTHER, ACCOUNT), NotFound),
        (lambda s: s.create_tenant(TENANT), AlreadyExists),
        (lambda s: s.create_account(TENANT, ACCOUNT), AlreadyExists),
    ],
)
def test_what_is_missing_or_there_already(
    store: KeyStore, ask: Callable[[KeyStore], object], error: type[CleanmailError]
) -> None:
    store.create_tenant(TENANT)
    store.create_account(TENANT, ACCOUNT)
    with pytest.raises(error):
        ask(store)


def test_a_wrong_master_is_told_at_once(store: KeyStore, tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="master key does not fit"):
        KeyStore(tmp_path / "keys", Master.generate(), FixedClock())


def test_a_missing_generation_is_named(store: KeyStore, tmp_path: Path, master: Master) -> None:
    only_second = master.succeeded().newest_only()
    with pytest.raises(Unavailable, match="Generation 1"):
        KeyStore(tmp_path / "keys", only_second, FixedClock())


def test_no_keys_yet(tmp_path: Path, master: Master) -> None:
    with pytest.raises(Unavailable, match="no keys"):
        KeyStore(tmp_path, master, FixedClock())


def test_two_generations_of_the_master_and_back_to_one(store: KeyStore, tmp_path: Path, master: Master) -> None:
    before = [store.create_tenant(TENANT), store.create_account(TENANT, ACCOUNT), store.service]
    both = master.succeeded()
    middle = KeyStore(tmp_path / "keys", both, FixedClock())
    middle.create_tenant(OTHER)
    assert middle.rewrap() == 2  # service.key and the first tenant
    assert middle.rewrap() == 0
    after = KeyStore(tmp_path / "keys", both.newest_only(), FixedClock())
    assert [after.tenant(TENANT), after.account(TENANT, ACCOUNT), after.service] == before


def test_a_destroyed_tenant_stays_destroyed(store: KeyStore, tmp_path: Path) -> None:
    store.create_tenant(TENANT)
    store.create_account(TENANT, ACCOUNT)
    store.destroy_tenant(TENANT)
    store.destroy_tenant(TENANT)
    for ask in (store.tenant, store.create_tenant):
        with pytest.raises(Gone):
            ask(TENANT)
    with pytest.raises(Gone):
        store.account(TENANT, ACCOUNT)
    assert store.tenants() == [] and not (tmp_path / "keys" / "7").exists()


def test_a_destroyed_account_stays_destroyed(store: KeyStore) -> None:
    store.create_tenant(TENANT)
    store.create_account(TENANT, ACCOUNT)
    store.create_account(TENANT, SECOND)
    keys = LocalKeys(store)
    keys.destroy_account_key(TENANT, ACCOUNT)
    keys.destroy_account_key(TENANT, ACCOUNT)
    for ask in (store.account, store.create_account):
        with pytest.raises(Gone):
            ask(TENANT, ACCOUNT)
    assert store.accounts(TENANT) == [SECOND] and len(store.account(TENANT, SECOND).secret) == 32


def test_key_files_cannot_be_swapped(store: KeyStore, tmp_path: Path) -> None:
    for tenant in (TENANT, OTHER):
        store.create_tenant(tenant)
        store.create_account(tenant, ACCOUNT)
    store.create_account(TENANT, SECOND)
    keys = tmp_path / "keys"
    shutil.copy(keys / "7" / "31.key", keys / "7" / "32.key")
    shutil.copy(keys / "7" / "31.key", keys / "8" / "31.key")
    shutil.copy(keys / "7" / "tenant.key", keys / "8" / "tenant.key")
    asked: tuple[Callable[[], Key], ...] = (
        lambda: store.account(TENANT, SECOND),
        lambda: store.account(OTHER, ACCOUNT),
        lambda: store.tenant(OTHER),
    )
    for ask in asked:
        with pytest.raises(Corrupt):
            ask()


@pytest.mark.parametrize("field", ["id", "generation", "created", "box"])
def test_a_changed_field_of_a_key_file_is_seen(store: KeyStore, tmp_path: Path, field: str) -> None:
    store.create_tenant(TENANT)
    path = tmp_path / "keys" / "7" / "tenant.key"
    document = json.loads(path.read_text())
    entry = document["keys"][0]
    entry[field] = entry[field] + 1 if isinstance(entry[field], int) else "00" + entry[field][2:]
    path.write_text(json.dumps(document))
    with pytest.raises(Corrupt):
        store.tenant(TENANT)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "keys": []}', '{"format":1,"keys":[{}]}']
)
def test_an_unreadable_key_file(store: KeyStore, tmp_path: Path, text: str) -> None:
    store.create_tenant(TENANT)
    (tmp_path / "keys" / "7" / "tenant.key").write_text(text)
    with pytest.raises(Corrupt):
        store.tenant(TENANT)


def test_a_key_file_of_a_newer_format_is_refused(store: KeyStore, tmp_path: Path) -> None:
    store.create_tenant(TENANT)
    (tmp_path / "keys" / "7" / "tenant.key").write_text('{"format": 2, "keys": []}')
    with pytest.raises(Unavailable, match="newer format"):
        store.tenant(TENANT)


def test_local_keys_give_what_is_there_when_asked_to_create_again(store: KeyStore) -> None:
    keys = LocalKeys(store)
    assert keys.create_tenant_key(TENANT) == keys.create_tenant_key(TENANT) == keys.tenant_key(TENANT, "test")
    assert keys.create_account_key(TENANT, ACCOUNT) == keys.create_account_key(TENANT, ACCOUNT)
    assert keys.service_key("control") != keys.service_key("queue")


HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "generations"),
    [
        (f"1:{HEX}\n", [1]),
        (f"# comment\n\n2:{HEX}\n1:{HEX}", [1, 2]),
        (f'CLEANMAIL_MASTER_KEY="3:{HEX}"\n', [3]),
        ("", None),
        (HEX, None),
        (f"1:{HEX}ab", None),
        (f"0:{HEX}", None),
        (f"1:{HEX}\n1:{HEX}", None),
    ],
)
def test_the_text_of_a_master(text: str, generations: list[int] | None) -> None:
    if generations is None:
        with pytest.raises(Unavailable):
            Master.parse(text)
    else:
        master = Master.parse(text)
        assert sorted(master.secrets) == generations and master.generation == generations[-1]


def test_the_master_in_a_file(tmp_path: Path, master: Master) -> None:
    path = tmp_path / "new" / "master"
    write_master_file(path, master)
    assert read_master_file(path) == master and path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyExists):
        write_master_file(path, master)
    write_master_file(path, master.succeeded(), replace=True)
    assert read_master_file(path).generation == 2
    path.chmod(0o640)
    with pytest.raises(Unavailable, match="0600"):
        read_master_file(path)
    with pytest.raises(Unavailable, match="does not exist"):
        read_master_file(tmp_path / "none")


def test_the_master_from_a_command() -> None:
    assert run_master_command(["echo", f"4:{HEX}"]).generation == 4
    for command in (["false"], ["/does/not/exist"], ["echo", "nothing"]):
        with pytest.raises(Unavailable):
            run_master_command(command)


def test_boot_id() -> None:
    assert len(boot_id()) == 36 and boot_id() == boot_id()

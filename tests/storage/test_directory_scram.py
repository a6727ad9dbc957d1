"""Keys for SCRAM: how they are made, that they tell nobody who exists, and that they go with their credential."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises, Town

from storage.directory.rows import State
from storage.directory.scram import FEW_ROUNDS, MAIN, MANY_ROUNDS, ScramKey, make_key, salt_of, saslprep
from storage.directory.tenant import Tenant
from storage.errors import NotFound
from storage.values import AccountId, TenantId

SALT, CHEAP = b"sixteen octets..", 4096


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    premises = DirectoryPremises(tmp_path)
    yield Town(premises)
    premises.close()


@pytest.fixture
def acme(town: Town) -> TenantId:
    return town.tenant("acme", "acme.test")


@pytest.fixture
def ann(town: Town, acme: TenantId) -> AccountId:
    return town.account(acme, "ann@acme.test").account_id


def test_keys_are_those_of_rfc_7677_section_3() -> None:
    """The example's proof and signature, from its password, salt and rounds."""
    key = make_key("pencil", b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    assert key is not None
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}".encode()
    proof = b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(key.stored, message, "sha256")
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == key.stored
    assert hmac.digest(key.server, message, "sha256") == b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),  # RFC 4013 §3, one after the other
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", None),
        ("\u0627\u0031", None),
        ("two\u00a0words", "two words"),
        ("\ud800", None),
        ("", ""),
    ],
)
def test_saslprep_rfc_4013_section_3(text: str, prepared: str | None) -> None:
    assert saslprep(text) == prepared


def test_texts_that_cannot_be_passwords_have_no_key() -> None:
    assert make_key("", SALT, CHEAP) is None
    assert make_key("a\u0007b", SALT, CHEAP) is None


def test_keys_do_not_show_themselves() -> None:
    assert "\\x" not in repr(ScramKey(CHEAP, b"\xff" * 32, b"\xff" * 32))


def test_salts_tell_nobody_who_exists(town: Town, acme: TenantId) -> None:
    """The same before there is an account, while it has no keys, and when it has."""
    login_hash = town.control.login_hash("bob@acme.test")
    before = salt_of(login_hash)
    assert len(before) == 16
    assert (
        salt_of(town.control.login_hash("BOB@acme.test")) == before != salt_of(town.control.login_hash("bab@acme.test"))
    )
    bob = town.account(acme, "bob@acme.test").account_id
    scram = town.premises.tenant(acme).scram
    assert scram.salt(bob) is None
    town.provisioning.create_app_password(acme, bob, "phone")
    assert scram.salt(bob) == before


def test_app_password_has_keys_for_both_ways_of_writing_it(town: Town, acme: TenantId, ann: AccountId) -> None:
    row, text = town.provisioning.create_app_password(acme, ann, "phone")
    scram = town.premises.tenant(acme).scram
    salt = scram.salt(ann)
    assert salt is not None
    for rounds in (FEW_ROUNDS, MANY_ROUNDS):
        credentials = scram.credentials(ann, rounds)
        assert [each.app_password_id for each in credentials] == [row.app_password_id] * 2
        assert [each.key for each in credentials] == [
            make_key(written, salt, rounds) for written in (text, text.replace("-", ""))
        ]
    assert scram.credentials(ann, 10_000) == []
    assert FEW_ROUNDS >= 4096
    assert MANY_ROUNDS >= 100_000
    assert row.scram


def test_revoked_app_password_loses_its_keys_in_the_same_commit(town: Town, acme: TenantId, ann: AccountId) -> None:
    row, _ = town.provisioning.create_app_password(acme, ann, "phone")
    tenant = town.premises.tenant(acme)
    with pytest.raises(NotFound):
        tenant.app_passwords.revoke(AccountId(ann + 1), row.app_password_id)
    assert tenant.scram.having(ann) == {row.app_password_id}
    tenant.app_passwords.revoke(ann, row.app_password_id)
    assert tenant.scram.having(ann) == frozenset()
    assert [each.scram for each in tenant.app_passwords.list(ann)] == [False]


def test_list_says_which_app_passwords_scram_knows(town: Town, acme: TenantId, ann: AccountId) -> None:
    """One from before SCRAM was there has no keys; it goes on with PLAIN."""
    tenant = town.premises.tenant(acme)
    old, _ = tenant.app_passwords.create(ann, "from before")
    town.provisioning.create_app_password(acme, ann, "phone")
    assert not old.scram
    assert [(each.name, each.scram) for each in tenant.app_passwords.list(ann)] == [
        ("from before", False),
        ("phone", True),
    ]


def with_main_key(tenant: Tenant, account_id: AccountId) -> None:
    tenant.set_password(account_id, "hash one")
    assert tenant.set_scram_key(account_id, "hash one", SALT, make_key("one", SALT, CHEAP))
    assert tenant.scram.having(account_id) == {MAIN}


@pytest.mark.parametrize("following", ["hash two", None])
def test_new_password_takes_the_keys_of_the_old_one_along(
    town: Town, acme: TenantId, ann: AccountId, following: str | None
) -> None:
    tenant = town.premises.tenant(acme)
    with_main_key(tenant, ann)
    tenant.set_password(ann, following)
    assert tenant.scram.having(ann) == frozenset()


def test_key_of_a_password_that_was_changed_meanwhile_is_not_kept(town: Town, acme: TenantId, ann: AccountId) -> None:
    tenant = town.premises.tenant(acme)
    tenant.set_password(ann, "hash two")
    assert not tenant.set_scram_key(ann, "hash one", SALT, make_key("one", SALT, CHEAP))
    assert not tenant.set_scram_key(AccountId(ann + 1), "hash one", SALT, make_key("one", SALT, CHEAP))
    assert tenant.scram.having(ann) == frozenset()


def test_keys_under_another_salt_than_the_accounts_are_not_kept(town: Town, acme: TenantId, ann: AccountId) -> None:
    tenant = town.premises.tenant(acme)
    with_main_key(tenant, ann)
    other = b"another salt...."
    assert not tenant.set_scram_key(ann, "hash one", other, make_key("one", other, CHEAP))
    assert tenant.scram.having(ann) == frozenset()
    assert tenant.scram.salt(ann) == SALT


def test_key_of_the_main_password_can_be_taken_away(town: Town, acme: TenantId, ann: AccountId) -> None:
    tenant = town.premises.tenant(acme)
    with_main_key(tenant, ann)
    assert tenant.set_scram_key(ann, "hash one", SALT, None)
    assert tenant.scram.having(ann) == frozenset()


def test_removed_account_leaves_neither_keys_nor_salt(town: Town, acme: TenantId, ann: AccountId) -> None:
    tenant = town.premises.tenant(acme)
    with_main_key(tenant, ann)
    tenant.change_state(ann, State.ENDED)
    tenant.remove_account(ann)
    assert tenant.scram.having(ann) == frozenset()
    assert tenant.scram.salt(ann) is None

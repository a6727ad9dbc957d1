"""Accounts and their credentials: made, changed, deleted, with what is announced and what is gone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from directory_premises import Town, new_town

from storage.changes import AccountChanged
from storage.directory.app_passwords import PER_ACCOUNT, is_generated
from storage.directory.rows import State
from storage.directory.tenant import Tenant
from storage.errors import (
    AlreadyExists,
    CleanmailError,
    Conflict,
    Gone,
    InvalidInput,
    LimitReached,
    NotFound,
    NotPermitted,
)
from storage.values import AccountId, Domain, EmailAddress, TenantId

ANN = EmailAddress.parse("Ann@acme.test")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with new_town(tmp_path) as town:
        yield town


@pytest.fixture
def acme(town: Town) -> TenantId:
    return town.tenant("acme", "acme.test")


def version(town: Town, tenant_id: TenantId, account_id: AccountId) -> int:
    return town.premises.tenant(tenant_id).account(account_id).credential_version


def test_new_account_has_key_folder_login_and_row(town: Town, acme: TenantId) -> None:
    row = town.provisioning.create_account(
        acme, ANN, name="Ann", password_hash="$argon2id$x", quota_bytes=1 << 30, quota_messages=1000
    )
    tenant = town.premises.tenant(acme)
    assert tenant.account(row.account_id) == row == tenant.account_by_address(EmailAddress.parse("ann@ACME.test"))
    assert (str(row.login), row.name, row.state, row.quota_bytes, row.quota_messages) == (
        "Ann@acme.test",
        "Ann",
        State.ACTIVE,
        1 << 30,
        1000,
    )
    credentials = tenant.credentials(row.account_id)
    assert credentials is not None
    assert credentials.password_hash == "$argon2id$x"
    assert "argon2" not in repr(credentials)
    assert (town.premises.folder(acme) / str(row.account_id)).is_dir()
    assert town.premises.keys.account_key(acme, row.account_id, "test").secret
    login = town.control.find_login(town.control.login_hash("ANN@acme.test"))
    assert login is not None
    assert (login.tenant_id, login.account_id) == (acme, row.account_id)


def test_addresses_that_no_account_can_have(town: Town, acme: TenantId) -> None:
    zebra = town.tenant("zebra", "zebra.test")
    town.account(acme, "ann@acme.test")
    town.alias(acme, "sales@acme.test", "ann@acme.test")
    for error, tenant_id, address in (
        (AlreadyExists, acme, "ANN@acme.test"),
        (AlreadyExists, acme, "sales@acme.test"),
        (InvalidInput, acme, "ann+tag@acme.test"),
        (NotPermitted, zebra, "bob@acme.test"),
        (NotFound, acme, "bob@unknown.test"),
    ):
        with pytest.raises(error):
            town.account(tenant_id, address)
    with pytest.raises(InvalidInput):
        town.provisioning.create_account(acme, EmailAddress.parse("bob@acme.test"), quota_bytes=-1)
    assert [str(row.login) for row in town.premises.tenant(acme).accounts()] == ["ann@acme.test"]


def test_who_wins_the_address_signs_in_with_it(town: Town, acme: TenantId) -> None:
    def create(_: int) -> AccountId | None:
        try:
            return town.account(acme, "ann@acme.test").account_id
        except CleanmailError:
            return None

    town.premises.tenant(acme)
    with ThreadPoolExecutor(6) as threads:
        winners = [account_id for account_id in threads.map(create, range(6)) if account_id is not None]
    login = town.control.find_login(town.control.login_hash("ann@acme.test"))
    assert login is not None
    assert winners == [login.account_id] == [row.account_id for row in town.premises.tenant(acme).accounts()]


def test_interrupted_creation_is_made_good_by_the_next(town: Town, acme: TenantId) -> None:
    left_behind = town.control.next_account_id()
    town.premises.make_account(acme, left_behind)
    town.control.claim_login(ANN, acme, left_behind)
    row = town.provisioning.create_account(acme, ANN)
    login = town.control.find_login(town.control.login_hash(str(ANN)))
    assert login is not None
    assert login.account_id == row.account_id != left_behind


def test_changes_raise_the_version_and_are_announced(town: Town, acme: TenantId) -> None:
    account_id = town.account(acme, "ann@acme.test").account_id
    town.provisioning.set_password(acme, account_id, "$argon2id$y")
    assert version(town, acme, account_id) == 2
    assert town.provisioning.suspend_account(acme, account_id).state is State.SUSPENDED
    assert version(town, acme, account_id) == 3
    town.provisioning.resume_account(acme, account_id)
    changed = town.provisioning.set_quota(acme, account_id, quota_bytes=5, quota_messages=6)
    assert (changed.quota_bytes, changed.quota_messages, changed.credential_version) == (5, 6, 4)
    assert town.premises.announced == [AccountChanged(acme, account_id)] * 4


def test_rehash_raises_no_version_and_never_undoes_a_new_password(town: Town, acme: TenantId) -> None:
    account_id = town.provisioning.create_account(acme, ANN, password_hash="old").account_id
    tenant = town.premises.tenant(acme)
    tenant.replace_hash(account_id, "old", "same, stronger")
    assert version(town, acme, account_id) == 1
    town.provisioning.set_password(acme, account_id, "new")
    tenant.replace_hash(account_id, "same, stronger", "must not come back")
    credentials = tenant.credentials(account_id)
    assert credentials is not None
    assert credentials.password_hash == "new"


def test_what_is_not_there(town: Town, acme: TenantId) -> None:
    provisioning, nobody = town.provisioning, AccountId(99)
    for act in (
        lambda: provisioning.set_password(acme, nobody, "x"),
        lambda: provisioning.set_quota(acme, nobody, quota_bytes=0, quota_messages=0),
        lambda: provisioning.suspend_account(acme, nobody),
        lambda: provisioning.allow_catch_all_sender(acme, nobody, True),
        lambda: provisioning.create_app_password(acme, nobody, "phone"),
        lambda: provisioning.revoke_app_password(acme, nobody, 1),
        lambda: provisioning.suspend_account(TenantId(99), nobody),
    ):
        with pytest.raises(NotFound):
            act()
    assert town.premises.tenant(acme).credentials(nobody) is None


class TestDelete:
    def test_leaves_no_key_row_or_login(self, town: Town, acme: TenantId) -> None:
        account_id = town.account(acme, "ann@acme.test").account_id
        town.provisioning.create_app_password(acme, account_id, "phone")
        town.premises.end_account(acme, account_id)
        tenant = town.premises.tenant(acme)
        assert tenant.accounts() == []
        assert tenant.app_passwords.list(account_id) == []
        assert tenant.addresses.find("ann@acme.test") is None
        assert town.control.find_login(town.control.login_hash("ann@acme.test")) is None
        with pytest.raises(Gone):
            town.premises.keys.account_key(acme, account_id, "test")
        assert town.premises.announced[-1] == AccountChanged(acme, account_id)

    def test_id_is_never_used_again(self, town: Town, acme: TenantId) -> None:
        first = town.account(acme, "ann@acme.test").account_id
        town.premises.end_account(acme, first)
        assert town.account(acme, "ann@acme.test").account_id > first

    def test_is_final_before_its_rows_are_gone(self, town: Town, acme: TenantId) -> None:
        account_id = town.account(acme, "ann@acme.test").account_id
        tenant = town.premises.tenant(acme)
        tenant.change_state(account_id, State.ENDED)
        with pytest.raises(AlreadyExists):
            town.account(acme, "ann@acme.test")
        with pytest.raises(Conflict):
            town.provisioning.resume_account(acme, account_id)
        with pytest.raises(Conflict):
            town.provisioning.create_app_password(acme, account_id, "phone")
        assert [row.state for row in tenant.accounts()] == [State.ENDED]
        town.premises.end_account(acme, account_id)
        assert tenant.accounts() == []

    def test_rows_of_an_account_in_use_stay(self, town: Town, acme: TenantId) -> None:
        account_id = town.account(acme, "ann@acme.test").account_id
        with pytest.raises(Conflict):
            town.premises.tenant(acme).remove_account(account_id)


class TestAppPasswords:
    @pytest.fixture
    def account_id(self, town: Town, acme: TenantId) -> AccountId:
        return town.account(acme, "ann@acme.test").account_id

    def test_matches_however_it_is_typed_and_for_its_account_only(
        self, town: Town, acme: TenantId, account_id: AccountId
    ) -> None:
        bob = town.account(acme, "bob@acme.test").account_id
        row, text = town.provisioning.create_app_password(acme, account_id, "phone", ["imap"])
        passwords = town.premises.tenant(acme).app_passwords
        assert len(text.replace("-", "")) == 28
        for typed in (text, text.upper(), text.replace("-", ""), text.replace("-", " ")):
            assert passwords.match(account_id, typed) == row and is_generated(typed)
        for typed in ("", text[:-1], text + "a", "\udcff" * 28, "\u00e4" * 28):
            assert passwords.match(account_id, typed) is None and not is_generated(typed)
        assert not is_generated("correct horse battery staples ok")  # 28 letters, but a person's
        assert passwords.match(bob, text) is None
        assert (row.allows("imap"), row.allows("submission")) == (True, False)

    def test_every_one_is_another(self, town: Town, acme: TenantId, account_id: AccountId) -> None:
        passwords = town.premises.tenant(acme).app_passwords
        texts = {passwords.create(account_id, "phone")[1] for _ in range(20)}
        assert len(texts) == 20

    def test_revoked_one_matches_no_more_and_loses_its_verifier(
        self, town: Town, acme: TenantId, account_id: AccountId
    ) -> None:
        row, text = town.provisioning.create_app_password(acme, account_id, "phone")
        other, other_text = town.provisioning.create_app_password(acme, account_id, "laptop")
        town.provisioning.revoke_app_password(acme, account_id, row.app_password_id)
        passwords = town.premises.tenant(acme).app_passwords
        assert passwords.match(account_id, text) is None
        assert passwords.match(account_id, other_text) == other
        first, second = passwords.list(account_id)
        assert (first.revoked, first.version, second.revoked) == (town.premises.clock.now(), 2, None)
        assert town.premises.announced[-1] == AccountChanged(acme, account_id)
        with pytest.raises(NotFound):
            town.provisioning.revoke_app_password(acme, account_id, row.app_password_id)

    def test_another_accounts_cannot_be_revoked(self, town: Town, acme: TenantId, account_id: AccountId) -> None:
        bob = town.account(acme, "bob@acme.test").account_id
        row, _ = town.provisioning.create_app_password(acme, bob, "phone")
        with pytest.raises(NotFound):
            town.provisioning.revoke_app_password(acme, account_id, row.app_password_id)

    def test_limits(self, town: Town, acme: TenantId, account_id: AccountId) -> None:
        with pytest.raises(InvalidInput):
            town.provisioning.create_app_password(acme, account_id, "phone", ["pop3"])
        for number in range(PER_ACCOUNT):
            town.premises.tenant(acme).app_passwords.create(account_id, str(number))
        with pytest.raises(LimitReached):
            town.provisioning.create_app_password(acme, account_id, "one more")


def test_settings_are_kept(town: Town, acme: TenantId) -> None:
    tenant = town.premises.tenant(acme)
    assert tenant.setting("postmaster") is None
    tenant.set_setting("postmaster", "a@acme.test")
    tenant.set_setting("postmaster", "b@acme.test")
    assert tenant.setting("postmaster") == "b@acme.test"


def test_everything_is_there_after_opening_again(town: Town, acme: TenantId) -> None:
    account_id = town.account(acme, "ann@acme.test").account_id
    _, text = town.provisioning.create_app_password(acme, account_id, "phone")
    key = town.premises.keys.tenant_key(acme, "test")
    again = Tenant.open(town.premises.folder(acme) / "tenant.db", acme, key, town.premises.clock)
    assert again.accounts() == town.premises.tenant(acme).accounts()
    assert again.app_passwords.match(account_id, text) is not None
    again.close()


def test_first_account_is_the_oldest_active_one(town: Town, acme: TenantId) -> None:
    tenant = town.premises.tenant(acme)
    assert tenant.first_account() is None
    first, second = town.account(acme, "b@acme.test").account_id, town.account(acme, "a@acme.test").account_id
    assert tenant.first_account() == first
    town.provisioning.suspend_account(acme, first)
    assert tenant.first_account() == second


def test_domain_of_an_account_may_be_pending(town: Town, acme: TenantId) -> None:
    town.control.add_domain(acme, Domain.parse("pending.test"))
    assert town.account(acme, "ann@pending.test").state is State.ACTIVE

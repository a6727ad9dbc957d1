"""Who signs in: every way an attempt can end, what it costs, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from auth_town import CHEAP, AuthTown, new_auth_town

from hosting.auth.passwords import Passwords
from hosting.auth.recall import recall
from hosting.auth.signin import Principal
from hosting.auth.throttle import Throttle
from storage.directory.tenant import Tenant
from storage.errors import AuthenticationFailed, CleanmailError, Suspended, Throttled, Unavailable
from storage.values import AccountId, EmailAddress, TenantId

HOME, ABROAD = "192.0.2.1", "198.51.100.7"
ANN, PASSWORD, WRONG = "ann@acme.test", "correct horse", "wrong horse"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[AuthTown]:
    with new_auth_town(tmp_path) as town:
        yield town


@pytest.fixture
def acme(town: AuthTown) -> TenantId:
    return town.tenant("acme", "acme.test")


@pytest.fixture
def ann(town: AuthTown, acme: TenantId) -> AccountId:
    return town.account_with(acme, ANN, PASSWORD)


def test_right_password_is_the_account(town: AuthTown, acme: TenantId, ann: AccountId) -> None:
    principal = town.sign_in("ANN@Acme.test", PASSWORD)
    assert principal == Principal(acme, ann, ANN, "password", 1, 1, 0, 0)
    (event,) = town.events()
    assert (event.type, event.result, event.protocol, event.tenant_id, event.account_id, event.address) == (
        "sign_in",
        "success",
        "imap",
        acme,
        ann,
        HOME,
    )


def test_principal_carries_the_quota(town: AuthTown, acme: TenantId, ann: AccountId) -> None:
    town.provisioning.set_quota(acme, ann, quota_bytes=7, quota_messages=8)
    principal = town.sign_in(ANN, PASSWORD)
    assert (principal.quota_bytes, principal.quota_messages) == (7, 8)


def test_wrong_password_and_unknown_name_are_one_answer_at_one_cost(town: AuthTown, ann: AccountId) -> None:
    answers = []
    for login in (ANN, "nobody@acme.test", "nobody@far.test", "no address", "", PASSWORD):
        before = town.passwords.runs
        with pytest.raises(AuthenticationFailed) as refused:
            town.sign_in(login, WRONG)
        answers.append((refused.value.public, town.passwords.runs - before))
    assert set(answers) == {(AuthenticationFailed.default, 1)}
    results = [(event.result, event.account_id) for event in town.events()]
    assert results == [("wrong_password", ann)] + [("unknown", None)] * 5


def test_unknown_names_are_recorded_as_keyed_hashes_only(town: AuthTown) -> None:
    """People type passwords there."""
    with pytest.raises(AuthenticationFailed):
        town.sign_in("my-other-password", WRONG)
    (event,) = town.events()
    assert "my-other-password" not in repr(event)
    assert event.login_hash == town.control.login_hash("my-other-password")


def test_remembered_answers_cost_no_argon2_for_their_time(town: AuthTown, ann: AccountId) -> None:
    town.sign_in(ANN, PASSWORD)
    for login in (ANN, "nobody@acme.test"):
        with pytest.raises(AuthenticationFailed):
            town.sign_in(login, WRONG)
    runs = town.passwords.runs
    for _ in range(20):
        town.sign_in(ANN, PASSWORD)
        for login in (ANN, "nobody@acme.test"):
            with pytest.raises(AuthenticationFailed):
                town.sign_in(login, WRONG)
    assert town.passwords.runs == runs
    town.clock.advance(301)
    town.sign_in(ANN, PASSWORD)
    assert town.passwords.runs == runs + 1


def test_new_password_counts_at_once(town: AuthTown, acme: TenantId, ann: AccountId) -> None:
    town.sign_in(ANN, PASSWORD)
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, "another horse")
    town.provisioning.set_password(acme, ann, CHEAP.hash("another horse"))
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, PASSWORD)
    assert town.sign_in(ANN, "another horse").credential_version == 2


def test_password_changed_while_the_old_one_was_compared(town: AuthTown, acme: TenantId, ann: AccountId) -> None:
    with town.passwords.held() as held, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(town.sign_in, ANN, PASSWORD)
        assert held.begun.wait(10)
        town.provisioning.set_password(acme, ann, CHEAP.hash("another horse"))
        held.go_on.set()
        with pytest.raises(AuthenticationFailed):
            answer.result(10)


def test_suspension_counts_at_once_and_is_told_only_to_who_knows_the_password(
    town: AuthTown, acme: TenantId, ann: AccountId
) -> None:
    for suspend, resume in (
        (lambda: town.provisioning.suspend_tenant(acme), lambda: town.provisioning.resume_tenant(acme)),
        (lambda: town.provisioning.suspend_account(acme, ann), lambda: town.provisioning.resume_account(acme, ann)),
    ):
        town.sign_in(ANN, PASSWORD)
        suspend()
        with pytest.raises(Suspended):
            town.sign_in(ANN, PASSWORD)
        with pytest.raises(AuthenticationFailed):
            town.sign_in(ANN, WRONG)
        resume()
        town.sign_in(ANN, PASSWORD)
    assert [event.result for event in town.events()] == ["success", "suspended", "wrong_password", "success"] * 2


def test_deleted_account_is_unknown(town: AuthTown, acme: TenantId, ann: AccountId) -> None:
    town.sign_in(ANN, PASSWORD)
    town.premises.end_account(acme, ann)
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, PASSWORD)


def test_account_without_a_password_signs_in_with_app_passwords_only(town: AuthTown, acme: TenantId) -> None:
    account_id = town.account(acme, "bob@acme.test").account_id
    _, text = town.provisioning.create_app_password(acme, account_id, "phone")
    for password in ("", "None", PASSWORD):
        with pytest.raises(AuthenticationFailed):
            town.sign_in("bob@acme.test", password)
    assert town.sign_in("bob@acme.test", text).account_id == account_id


class TestAppPasswords:
    def test_cost_no_argon2_and_hold_for_their_protocols(self, town: AuthTown, acme: TenantId, ann: AccountId) -> None:
        row, text = town.provisioning.create_app_password(acme, ann, "phone", ["imap"])
        principal = town.sign_in(ANN, text)
        assert (principal.credential, principal.credential_version) == (f"app:{row.app_password_id}", 1)
        with pytest.raises(AuthenticationFailed):
            town.sign_in(ANN, text, protocol="submission")
        assert town.passwords.runs == 0

    def test_revoked_one_fails_at_once_and_the_others_stay(
        self, town: AuthTown, acme: TenantId, ann: AccountId
    ) -> None:
        row, text = town.provisioning.create_app_password(acme, ann, "phone")
        _, other = town.provisioning.create_app_password(acme, ann, "laptop")
        town.sign_in(ANN, text)
        town.provisioning.revoke_app_password(acme, ann, row.app_password_id)
        with pytest.raises(AuthenticationFailed):
            town.sign_in(ANN, text)
        town.sign_in(ANN, other)
        town.sign_in(ANN, PASSWORD)

    def test_is_of_no_use_for_another_account(self, town: AuthTown, acme: TenantId, ann: AccountId) -> None:
        town.account_with(acme, "bob@acme.test", PASSWORD)
        _, text = town.provisioning.create_app_password(acme, ann, "phone")
        with pytest.raises(AuthenticationFailed):
            town.sign_in("bob@acme.test", text)


class TestThrottle:
    def test_guesses_are_refused_unread_and_alike_for_unknown_names(self, town: AuthTown, ann: AccountId) -> None:
        for login in (ANN, "nobody@acme.test"):
            for number in range(11):
                with pytest.raises(AuthenticationFailed):
                    town.sign_in(login, f"guess {number}", address=f"198.51.{number}.1")
            runs = town.passwords.runs
            with pytest.raises(Throttled):
                town.sign_in(login, PASSWORD, address="203.0.113.1")
            assert town.passwords.runs == runs
            assert town.events()[-1].result == "throttled"

    def test_owner_who_signed_in_lately_is_never_locked_out(self, town: AuthTown, ann: AccountId) -> None:
        town.sign_in(ANN, PASSWORD)
        town.clock.advance(86400)
        for number in range(11):
            with pytest.raises(AuthenticationFailed):
                town.sign_in(ANN, f"guess {number}", address=f"198.51.{number}.1")
        with pytest.raises(Throttled):
            town.sign_in(ANN, PASSWORD, address=ABROAD)
        assert town.sign_in(ANN, PASSWORD).account_id == ann

    def test_device_with_an_old_password_locks_nobody_out(self, town: AuthTown, ann: AccountId) -> None:
        for _ in range(100):
            with pytest.raises(AuthenticationFailed):
                town.sign_in(ANN, "last year's horse")
        town.sign_in(ANN, PASSWORD)

    def test_guessing_an_app_password_is_throttled_too(self, town: AuthTown, ann: AccountId) -> None:
        alphabet = "abcdefghijk"
        for letter in alphabet:
            with pytest.raises(AuthenticationFailed):
                town.sign_in(ANN, letter * 28)
        with pytest.raises(Throttled):
            town.sign_in(ANN, PASSWORD)


def test_verifier_made_with_older_parameters_is_renewed(town: AuthTown, acme: TenantId, ann: AccountId) -> None:
    older = Passwords(time_cost=2, memory_kib=8, lanes=1).hash(PASSWORD)
    town.provisioning.set_password(acme, ann, older)
    principal = town.sign_in(ANN, PASSWORD)
    credentials = town.premises.tenant(acme).credentials(ann)
    assert credentials is not None
    assert credentials.password_hash is not None
    assert credentials.password_hash != older
    assert not CHEAP.needs_rehash(credentials.password_hash)
    assert CHEAP.verify(credentials.password_hash, PASSWORD)
    assert town.verifier.still_valid(principal)


@pytest.mark.parametrize(
    ("login", "password"), [("a" * 600 + "@acme.test", WRONG), (ANN, "x" * 5000), (ANN, "\udcff\0"), ("\udcff@\0", "")]
)
def test_odd_input_is_merely_wrong(town: AuthTown, ann: AccountId, login: str, password: str) -> None:
    with pytest.raises(AuthenticationFailed):
        town.sign_in(login, password)
    assert town.passwords.runs == 1


class TestManyAtOnce:
    def test_same_password_is_compared_once(self, town: AuthTown, ann: AccountId) -> None:
        with town.passwords.held() as held, ThreadPoolExecutor(100) as threads:
            answers = [threads.submit(town.sign_in, ANN, PASSWORD, address=f"10.0.0.{n}") for n in range(100)]
            assert held.begun.wait(10)
            held.go_on.set()
            assert {answer.result(30).account_id for answer in answers} == {ann}
        assert town.passwords.runs == 1
        assert [event.result for event in town.events()] == ["success"] * 100

    def test_argon2_never_runs_in_more_threads_than_the_pool_has(self, town: AuthTown, acme: TenantId) -> None:
        logins = [f"user{number}@acme.test" for number in range(100)]
        for login in logins:
            town.account_with(acme, login, PASSWORD)
        with ThreadPoolExecutor(100) as threads:
            principals = list(threads.map(lambda login: town.sign_in(login, PASSWORD), logins))
        assert len({principal.account_id for principal in principals}) == 100
        assert town.passwords.runs == 100
        assert 1 <= town.passwords.most_at_once <= 2

    def test_a_thousand_guesses_at_once_get_no_further_than_in_a_row(self, town: AuthTown, ann: AccountId) -> None:
        def guess(number: int) -> type[CleanmailError]:
            try:
                town.sign_in(ANN, f"guess {number}", address=f"10.{number % 250}.0.{number // 250}")
            except CleanmailError as error:
                return type(error)
            return CleanmailError

        with ThreadPoolExecutor(50) as threads:
            results = list(threads.map(guess, range(1000)))
        assert set(results) == {AuthenticationFailed, Throttled}
        assert town.passwords.runs <= 26  # 10 free and 16 under way


class TestStillValid:
    @pytest.fixture
    def principal(self, town: AuthTown, ann: AccountId) -> Principal:
        return town.sign_in(ANN, PASSWORD)

    @pytest.fixture
    def device(self, town: AuthTown, acme: TenantId, ann: AccountId) -> Principal:
        _, text = town.provisioning.create_app_password(acme, ann, "phone")
        return town.sign_in(ANN, text)

    def valid(self, town: AuthTown, *principals: Principal) -> list[bool]:
        return [town.verifier.still_valid(principal) for principal in principals]

    def test_passwd_ends_the_passwords_sessions(
        self, town: AuthTown, acme: TenantId, ann: AccountId, principal: Principal, device: Principal
    ) -> None:
        assert self.valid(town, principal, device) == [True, True]
        town.provisioning.set_password(acme, ann, CHEAP.hash("another horse"))
        assert self.valid(town, principal, device) == [False, True]

    def test_revoke_ends_the_devices_sessions(
        self, town: AuthTown, acme: TenantId, ann: AccountId, principal: Principal, device: Principal
    ) -> None:
        town.provisioning.revoke_app_password(acme, ann, int(device.credential.removeprefix("app:")))
        assert self.valid(town, principal, device) == [True, False]

    def test_suspend_and_delete_end_all(
        self, town: AuthTown, acme: TenantId, ann: AccountId, principal: Principal, device: Principal
    ) -> None:
        town.provisioning.suspend_account(acme, ann)
        assert self.valid(town, principal, device) == [False, False]
        town.provisioning.resume_account(acme, ann)
        assert self.valid(town, principal) == [False]  # suspension ended it for good
        town.premises.end_account(acme, ann)
        assert self.valid(town, principal, device) == [False, False]

    def test_suspended_tenant_ends_all(
        self, town: AuthTown, acme: TenantId, principal: Principal, device: Principal
    ) -> None:
        town.provisioning.suspend_tenant(acme)
        assert self.valid(town, principal, device) == [False, False]

    def test_made_up_principals_are_not(self, town: AuthTown, principal: Principal) -> None:
        made_up = [
            replace(principal, account_id=AccountId(99)),
            replace(principal, tenant_id=TenantId(99)),
            replace(principal, credential="app:99"),
            replace(principal, credential="app:x"),
            replace(principal, credential_version=9),
            replace(principal, state_version=9),
        ]
        assert self.valid(town, *made_up) == [False] * len(made_up)


def test_store_that_does_not_answer_is_temporary_and_counts_no_failure(
    town: AuthTown, acme: TenantId, ann: AccountId
) -> None:
    class Broken:
        control = town.control

        def tenant(self, tenant_id: TenantId) -> Tenant:
            raise Unavailable(detail=f"tenant {tenant_id}")

    broken = town.verifier_over(Broken())
    for _ in range(50):
        with pytest.raises(Unavailable):
            town.sign_in(ANN, PASSWORD, verifier=broken)
    assert {event.result for event in town.events()} == {"unavailable"}


def test_passwords_do_not_stay_in_memory_of_the_verifier(town: AuthTown, ann: AccountId) -> None:
    secret = "a password of its own"
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, secret)
    assert secret not in repr([vars(town.verifier), vars(town.cache), vars(town.throttle), town.events()])


def test_claims_of_one_address_never_open_another_account(town: AuthTown, acme: TenantId, ann: AccountId) -> None:
    zebra = town.tenant("zebra", "zebra.test")
    town.account_with(zebra, "ann@zebra.test", "zebra horse")
    with pytest.raises(AuthenticationFailed):
        town.sign_in("ann@zebra.test", PASSWORD)
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, "zebra horse")
    town.provisioning.add_alias(acme, EmailAddress.parse("alias@acme.test"), [EmailAddress.parse(ANN)])
    with pytest.raises(AuthenticationFailed):
        town.sign_in("alias@acme.test", PASSWORD)


def test_known_addresses_are_recalled_after_a_restart(town: AuthTown, ann: AccountId) -> None:
    town.sign_in(ANN, PASSWORD)
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, WRONG, address=ABROAD)
    town.clock.advance(86400)
    throttle = Throttle(town.clock)
    assert recall(throttle, town.access_log, town.control, town.clock) == 1
    login_hash = town.control.login_hash(ANN)
    assert throttle.is_known(login_hash, HOME)
    assert not throttle.is_known(login_hash, ABROAD)
    town.clock.advance(30 * 86400 - 86400)
    assert not throttle.is_known(login_hash, HOME)
    assert recall(Throttle(town.clock), town.access_log, town.control, town.clock) == 0

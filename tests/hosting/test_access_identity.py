"""Who somebody is: the Unix user, or who signed in, with which roles, under every setting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises

from hosting.access.actions import Action
from hosting.access.decide import permits, roles_in_force
from hosting.access.identity import Premises
from hosting.access.roles import StaffRole
from hosting.access.totp import new_secret
from hosting.auth.persons import Person
from hosting.config import Staff
from storage.errors import NotPermitted
from storage.values import TenantId

ROOT, MAIL, ALICE = Person(0, "root"), Person(101, "mail"), Person(1001, "alice")
HOUR = 3600
OPERATOR, SUPPORT, REVIEWER, AUDITOR = StaffRole.OPERATOR, StaffRole.SUPPORT, StaffRole.REVIEWER, StaffRole.AUDITOR


@pytest.fixture
def place(tmp_path: Path) -> Iterator[DirectoryPremises]:
    premises = DirectoryPremises(tmp_path)
    yield premises
    premises.close()


def premises(place: DirectoryPremises, *, required: bool = False, **unix: str) -> Premises:
    return Premises(place.control, Staff(required=required, unix=unix), {"mail"}, {"carol"})


def roles(place: DirectoryPremises, person: Person, *, required: bool = False, **unix: str) -> set[StaffRole]:
    return set(roles_in_force(premises(place, required=required, **unix).by_token(person, "", machine=True)))


def join(place: DirectoryPremises, name: str = "anna", *given: str, tenant: TenantId | None = None) -> None:
    place.control.staff.add(name, given or ("support",), tenant, "", new_secret())


def agree(place: DirectoryPremises, name: str) -> None:
    digest = hashlib.sha256(b"signed").digest()
    place.control.agreements.record(name, digest, signed=5, recorded_by="somebody")


@pytest.mark.parametrize("required", [False, True])
def test_before_anybody_is_staff(place: DirectoryPremises, required: bool) -> None:
    for person in (ROOT, MAIL, ALICE):
        assert roles(place, person, required=required) == {OPERATOR}
        assert not premises(place, required=required).unix(person, machine=True).must_sign_in
    assert roles(place, Person(7, "carol")) == {OPERATOR, AUDITOR}
    agree(place, "alice")
    agree(place, "mail")
    assert roles(place, ALICE) == {OPERATOR, REVIEWER}
    assert roles(place, MAIL) == {OPERATOR}  # whoever that is


def test_unix_users_once_there_are_staff(place: DirectoryPremises) -> None:
    join(place)
    assert (roles(place, ROOT), roles(place, MAIL), roles(place, ALICE)) == ({OPERATOR}, {OPERATOR}, set())
    assert roles(place, ALICE, alice="support auditor") == {SUPPORT, AUDITOR}
    assert roles(place, ROOT, root="support") == {SUPPORT}
    assert roles(place, MAIL, mail="operator auditor reviewer") == {OPERATOR}
    assert roles(place, Person(7, "carol")) == {AUDITOR}
    agree(place, "alice")
    assert roles(place, ALICE) == {REVIEWER}


def test_with_another_configuration_roles_are_not_unlearned(place: DirectoryPremises) -> None:
    premises(place).remember()  # nobody has a role yet
    assert roles(place, ALICE) == {OPERATOR}
    premises(place, alice="support").remember()
    assert roles(place, ALICE) == roles(place, ALICE, bob="operator") == set()
    assert (roles(place, ROOT), roles(place, MAIL)) == ({OPERATOR}, {OPERATOR})
    assert roles(place, ALICE, alice="operator") == {OPERATOR}  # as the configuration of the installation says again
    assert roles(place, Person(7, "carol")) == {AUDITOR}


def test_a_session_is_demanded(place: DirectoryPremises) -> None:
    join(place)
    for person in (ROOT, MAIL, ALICE):
        who = premises(place, required=True, alice="operator").by_token(person, "", machine=True)
        assert who.must_sign_in
        assert not permits(who, Action.TENANT_SEE)
        assert permits(who, Action.STAFF_CHANGE) is (person is ROOT)
    place.control.staff.end(place.control.staff.find("anna"))  # the last one
    assert premises(place, required=True).unix(ALICE, machine=True).must_sign_in
    assert roles(place, ALICE) == set()


def test_who_signed_in_has_the_roles_of_the_account(place: DirectoryPremises) -> None:
    join(place, "tina", "tenant_administrator", tenant=TenantId(3))
    staff = place.control.staff
    token = staff.begin_session(staff.find("tina"), ALICE.uid, HOUR)
    who = premises(place, required=True, alice="operator").by_token(ALICE, token, machine=True)
    assert (who.name, who.unix, who.roles, who.tenant_id) == ("tina", "alice", {StaffRole.TENANT_ADMINISTRATOR}, 3)
    assert (who.signed_in, who.must_sign_in) == (True, False)
    other = premises(place).by_token(MAIL, token, machine=True)
    assert (other.name, other.signed_in) == ("mail", False)
    place.clock.advance(HOUR)
    assert not premises(place).by_token(ALICE, token, machine=True).signed_in


def test_a_role_that_this_version_does_not_know_gives_nothing(place: DirectoryPremises) -> None:
    join(place, "anna", "support", "astronaut")
    join(place, "olga", "operator", "astronaut")
    staff = place.control.staff
    for name, expected in (("anna", {SUPPORT}), ("olga", set())):
        token = staff.begin_session(staff.find(name), ALICE.uid, HOUR)
        assert premises(place).by_token(ALICE, token, machine=True).roles == expected


def test_what_the_kernel_says_is_enough_where_the_role_counts_alone(place: DirectoryPremises) -> None:
    join(place, "anna", "auditor")
    rules = premises(place, required=True)
    with pytest.raises(NotPermitted, match="Sign in first"):
        rules.check(ALICE, Action.TRANSCRIPTS_READ)
    staff = place.control.staff
    staff.begin_session(staff.find("anna"), ALICE.uid, HOUR)
    rules.check(ALICE, Action.TRANSCRIPTS_READ)
    with pytest.raises(NotPermitted):
        rules.check(ALICE, Action.REVIEW)
    with pytest.raises(NotPermitted):
        rules.check(Person(1002, "bob"), Action.TRANSCRIPTS_READ)
    staff.begin_session(staff.find("anna"), MAIL.uid, HOUR)
    with pytest.raises(NotPermitted):  # the server's own user is no auditor
        rules.check(MAIL, Action.TRANSCRIPTS_READ)


def test_a_reviewer_has_an_agreement_of_either_name(place: DirectoryPremises) -> None:
    join(place, "rita", "reviewer")
    staff = place.control.staff
    staff.begin_session(staff.find("rita"), ALICE.uid, HOUR)
    with pytest.raises(NotPermitted):
        premises(place).check(ALICE, Action.REVIEW)
    agree(place, "rita")
    premises(place, required=True).check(ALICE, Action.REVIEW)

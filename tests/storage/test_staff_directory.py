"""Staff and their sessions: factors are sealed, codes work once, sessions end by time, by change and by leaving."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises

from storage.directory.staff import NEVER, SESSIONS_MAX, Factors, StaffDirectory, StaffMember
from storage.errors import AlreadyExists, Conflict, InvalidInput, LimitReached, NotFound
from storage.values import TenantId

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
DAY, IDLE = 86_400, 3600


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[DirectoryPremises]:
    premises = DirectoryPremises(tmp_path)
    yield premises
    premises.close()


@pytest.fixture
def staff(premises: DirectoryPremises) -> StaffDirectory:
    directory: StaffDirectory = premises.control.staff
    return directory


@pytest.fixture
def anna(staff: StaffDirectory) -> StaffMember:
    return staff.add("anna", ("support",), None, "verifier", SECRET)


def test_people_and_what_they_sign_in_with(
    premises: DirectoryPremises, staff: StaffDirectory, anna: StaffMember
) -> None:
    assert staff.exist()
    assert (anna.roles, anna.confirmed, anna.created, anna.ended) == (("support",), False, premises.clock.now(), None)
    assert staff.factors(anna) == Factors("verifier", SECRET)
    assert SECRET not in repr(staff.factors(anna))
    bert = staff.add("bert", ("tenant_administrator",), TenantId(3), "other", SECRET, 7)
    assert (bert.confirmed, bert.tenant_id) == (True, 3)
    assert staff.all() == [anna, bert]
    with pytest.raises(AlreadyExists):
        staff.add("anna", ("support",), None, "verifier", SECRET)
    with pytest.raises(NotFound):
        staff.find("eve")


@pytest.mark.parametrize("name", ["", "Anna", "a b", "-a", "a" * 65, "ä", "a\n"])
def test_wrong_names(staff: StaffDirectory, name: str) -> None:
    with pytest.raises(InvalidInput):
        staff.add(name, ("support",), None, "verifier", SECRET)


def test_people_are_bounded(staff: StaffDirectory, anna: StaffMember, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.directory.staff.STAFF_MAX", 1)
    with pytest.raises(LimitReached):
        staff.add("bert", ("support",), None, "verifier", SECRET)
    staff.end(anna)
    staff.add("bert", ("support",), None, "verifier", SECRET)


def test_a_code_works_once_and_none_before_it_any_more(staff: StaffDirectory, anna: StaffMember) -> None:
    assert [staff.use_step(anna, step) for step in (10, 10, 9, 11, 11)] == [True, False, False, True, False]
    assert staff.find("anna").confirmed


def test_failures_are_counted_until_a_sign_in(
    premises: DirectoryPremises, staff: StaffDirectory, anna: StaffMember
) -> None:
    staff.note_failure(anna)
    premises.clock.advance(5)
    staff.note_failure(anna)
    noted = staff.find("anna")
    assert (noted.failures, noted.failed) == (2, premises.clock.now())
    staff.use_step(anna, 5)
    assert (staff.find("anna").failures, staff.find("anna").failed) == (0, 0)


def test_a_session_is_of_one_unix_user_and_ends_by_time(
    premises: DirectoryPremises, staff: StaffDirectory, anna: StaffMember
) -> None:
    token = staff.begin_session(anna, 1001, 3 * IDLE)
    assert staff.session(token, 1001, IDLE) == anna
    assert staff.signed_in_as(1001, IDLE) == [anna]
    for wrong, uid in ((token, 1002), (token[:-1], 1001), ("", 1001), ("\udc80", 1001)):
        assert staff.session(wrong, uid, IDLE) is None
    assert staff.signed_in_as(1002, IDLE) == []
    for _ in range(2):  # used, it goes on …
        premises.clock.advance(IDLE - 1)
        assert staff.session(token, 1001, IDLE) == anna
    premises.clock.advance(IDLE - 1)
    assert staff.session(token, 1001, IDLE) == anna
    premises.clock.advance(3)  # … until its absolute end
    assert staff.session(token, 1001, IDLE) is None
    idle = staff.begin_session(anna, 1001, 3 * IDLE)
    premises.clock.advance(IDLE)
    assert staff.session(idle, 1001, IDLE) is None
    assert staff.signed_in_as(1001, IDLE) == []
    kept = staff.begin_session(anna, 1001, 3 * IDLE)
    assert staff.session(kept, 1001, IDLE) == anna
    assert [staff.end_session(kept), staff.end_session(kept)] == [True, False]


def test_a_clock_that_went_back_ends_sessions(
    premises: DirectoryPremises, staff: StaffDirectory, anna: StaffMember
) -> None:
    token = staff.begin_session(anna, 1001, IDLE)
    premises.clock.advance(-10)
    assert staff.session(token, 1001, IDLE) is None


@pytest.mark.parametrize("change", ["password", "totp", "roles", "end"])
def test_sessions_end_with_every_change(staff: StaffDirectory, anna: StaffMember, change: str) -> None:
    token = staff.begin_session(anna, 1001, IDLE)
    if change == "password":
        staff.set_password(anna, "new")
    elif change == "totp":
        staff.set_totp(anna, SECRET[::-1])
    elif change == "roles":
        assert staff.set_roles(anna, ("billing", "support"), None).roles == ("billing", "support")
    else:
        staff.end(anna)
    assert staff.session(token, 1001, IDLE) is None
    assert staff.find("anna").credential_version == anna.credential_version + 1


def test_a_session_of_credentials_that_changed_meanwhile_is_none(staff: StaffDirectory, anna: StaffMember) -> None:
    staff.set_password(anna, "new")
    assert staff.session(staff.begin_session(anna, 1001, IDLE), 1001, IDLE) is None


def test_who_has_left_has_no_factors_and_comes_not_back(
    premises: DirectoryPremises, staff: StaffDirectory, anna: StaffMember
) -> None:
    staff.use_step(anna, 5)
    ended = staff.end(anna)
    assert (ended.ended, staff.factors(ended), staff.exist()) == (premises.clock.now(), Factors(None, None), True)
    for again in (
        lambda: staff.end(anna),
        lambda: staff.set_password(anna, "new"),
        lambda: staff.set_totp(anna, SECRET),
        lambda: staff.set_roles(anna, ("operator",), None),
        lambda: staff.begin_session(anna, 1001, IDLE),
    ):
        with pytest.raises(Conflict, match="left"):
            again()
    assert not staff.use_step(anna, 50)
    with pytest.raises(AlreadyExists):
        staff.add("anna", ("support",), None, "verifier", SECRET)


def test_sessions_of_a_person_are_bounded(
    premises: DirectoryPremises, staff: StaffDirectory, anna: StaffMember
) -> None:
    tokens = []
    for _ in range(SESSIONS_MAX + 2):
        tokens.append(staff.begin_session(anna, 1001, IDLE))
        premises.clock.advance(1)
    assert [staff.session(token, 1001, IDLE) is not None for token in tokens] == [False] * 2 + [True] * SESSIONS_MAX


def test_the_second_factor_is_sealed(premises: DirectoryPremises, staff: StaffDirectory, anna: StaffMember) -> None:
    with premises.control._database.reading() as connection:
        rows = connection.driver.execute("SELECT totp, totp_used FROM staff").fetchall()
    assert rows[0][1] == NEVER
    assert SECRET.encode() not in rows[0][0]

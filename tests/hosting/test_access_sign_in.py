"""Signing in as staff: two factors, guesses that are slowed down, codes that work once, and what is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from directory_premises import DirectoryPremises

from hosting.access import totp
from hosting.access.identity import Premises
from hosting.auth.frames import Fields
from hosting.auth.grants import Role
from hosting.auth.holders import Holders
from hosting.auth.messages import error_of
from hosting.auth.passwords import Passwords
from hosting.auth.persons import Person, person_of
from hosting.auth.pool import HashingPool
from hosting.auth.requests import Caller, Requests
from hosting.auth.staff import LocalEntrance, SignedIn, StaffEntrance, signed_in_of
from hosting.auth.throttle import Throttle, ThrottlePolicy
from hosting.config import Staff
from storage.errors import AuthenticationFailed, InvalidInput, NotPermitted, Throttled

ALICE, BOB = Person(1001, "alice"), Person(1002, "bob")
PASSWORD = "correct horse battery"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
CHEAP = Passwords(time_cost=1, memory_kib=64, lanes=1)
POLICY = ThrottlePolicy()


class Door:
    """The entrance, which may be opened anew as each command does where no server runs."""

    def __init__(self, place: DirectoryPremises) -> None:
        self.place = place
        self.pool = HashingPool(1)
        self.open()
        place.control.staff.add("anna", ("support",), None, CHEAP.hash(PASSWORD), SECRET)

    def open(self) -> None:
        premises = Premises(self.place.control, Staff(), {"mail"})
        throttle = Throttle(self.place.clock, POLICY)
        clock = self.place.clock
        self.entrance = StaffEntrance(premises, self.place.audit, CHEAP, self.pool, throttle, POLICY, clock)

    def code(self, offset: int = 0) -> str:
        return pyotp.TOTP(SECRET).generate_otp(self.place.clock.now() // totp.SECONDS + offset)

    def enter(
        self, name: str = "anna", password: str = PASSWORD, code: str | None = None, person: Person = ALICE
    ) -> SignedIn:
        given = self.code() if code is None else code
        return LocalEntrance(self.entrance, person).staff_sign_in(name, password, given)

    def wrong_code(self) -> str:
        """Of no step near this one."""
        near = {self.code(offset) for offset in range(-3, 4)}
        return next(code for code in map("{:06}".format, range(10)) if code not in near)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    place = DirectoryPremises(tmp_path)
    door = Door(place)
    yield door
    door.pool.close()
    place.close()


def test_both_factors_make_a_session(door: Door) -> None:
    signed = door.enter()
    assert (signed.name, signed.roles, signed.failures) == ("anna", ("support",), 0)
    assert signed.expires == door.place.clock.now() + 8 * 3600
    staff = door.place.control.staff
    assert staff.session(signed.token, ALICE.uid, 3600) is not None
    assert staff.session(signed.token, BOB.uid, 3600) is None
    assert signed.token not in repr(signed)
    assert [(r.action, r.actor) for r in door.place.audit.read()] == [("staff.sign_in", "anna")]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"name": name} for name in ("eve", "", "anna\0", "x" * 5000, "\udc80")),
        *({"password": password} for password in ("wrong", "", "x" * 5000, "\udc80")),
        *({"code": code} for code in ("wrong", "", "12345", "1234567", "١٢٣٤٥٦", "      ")),
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_one_wrong_thing_is_enough_and_is_not_named(door: Door, wrong: dict[str, str]) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        door.enter(**wrong)  # type: ignore[arg-type]
    assert caught.value.public == "The name, the password or the code is wrong."


def test_a_code_is_taken_a_step_early_or_late_and_once(door: Door) -> None:
    for offset, taken in ((-2, False), (-1, True), (-1, False), (0, True), (-1, False), (1, True), (0, False)):
        if taken:
            door.enter(code=door.code(offset))
        else:
            with pytest.raises(AuthenticationFailed):
                door.enter(code=door.code(offset))
    door.open()  # another process
    with pytest.raises(AuthenticationFailed):
        door.enter(code=door.code(1))


def test_a_code_is_not_used_up_without_the_password(door: Door) -> None:
    with pytest.raises(AuthenticationFailed):
        door.enter(password="wrong")
    assert door.enter().failures == 1


@pytest.mark.parametrize("anew", [False, True])
def test_guessing_codes_is_slowed_down(door: Door, anew: bool) -> None:
    """Also by who starts the program for each guess, and from one Unix user after the other."""
    tried = refused = 0
    for number in range(300):
        if anew:
            door.open()
        try:
            door.enter(code=door.wrong_code(), person=Person(2000 + number, "eve"))
        except Throttled:
            refused += 1
        except AuthenticationFailed:
            tried += 1
        door.place.clock.advance(1)
    assert tried + refused == 300
    assert tried <= POLICY.login.free + 6  # 10 s, doubled each time
    with pytest.raises(Throttled):  # also with the right one, until the pause is over
        door.enter(person=Person(9, "eve"))
    door.place.clock.advance(POLICY.login.longest_pause + 1)
    assert door.enter().failures == tried


def test_a_clock_that_went_back_locks_nobody_out(door: Door) -> None:
    for _ in range(POLICY.login.free):
        with pytest.raises(AuthenticationFailed):
            door.enter(code=door.wrong_code())
    door.open()
    door.place.clock.advance(-30 * 86_400)
    door.enter()


def test_who_has_left_does_not_come_in(door: Door) -> None:
    staff = door.place.control.staff
    staff.end(staff.find("anna"))
    with pytest.raises(AuthenticationFailed):
        door.enter()
    assert list(door.place.audit.read()) == []


def test_failures_of_known_names_are_recorded(door: Door) -> None:
    for name in ("anna", "eve"):
        with pytest.raises(AuthenticationFailed):
            door.enter(name, code=door.wrong_code())
    (record,) = door.place.audit.read()
    assert (record.action, record.actor, record.details) == ("staff.sign_in_failed", "alice", {"name": "anna"})


class TestAtTheAuthRole:
    def answer(self, door: Door, role: Role, **fields: str) -> Fields:
        requests = Requests(None, door.place.keys, Holders(), entrance=door.entrance)  # type: ignore[arg-type]
        reply: Future[Fields] = requests.answer(Caller(0, role), {"op": "staff_sign_in", **fields})
        return reply.result(timeout=30)

    def test_the_session_is_of_whom_the_kernel_names(self, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
        me = person_of()
        monkeypatch.setattr("hosting.auth.requests.person_of", lambda pid: me)
        given = {"name": "anna", "password": PASSWORD, "code": door.code()}
        signed = signed_in_of(self.answer(door, Role.ADMIN, **given)["ok"])
        assert door.place.control.staff.session(signed.token, me.uid, 3600) is not None
        with pytest.raises(AuthenticationFailed):
            raise error_of(self.answer(door, Role.ADMIN, **given))

    @pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
    def test_other_roles_cannot_ask(self, door: Door, role: Role) -> None:
        with pytest.raises(NotPermitted, match="may not ask"):
            raise error_of(self.answer(door, role, name="anna", password=PASSWORD, code=door.code()))

    def test_a_broken_answer(self) -> None:
        with pytest.raises(InvalidInput):
            signed_in_of({"token": 5})


def test_the_secret_as_programs_read_it() -> None:
    parts = urlsplit(totp.uri(SECRET, "anna", "Cleanmail mx.acme.test"))
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert parse_qs(parts.query)["secret"] == [SECRET]
    assert len({totp.new_secret() for _ in range(50)}) == 50
    assert totp.picture("otpauth://totp/x").count("\n") > 5


@pytest.mark.parametrize(
    ("now", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_codes_of_the_standard(now: int, code: str) -> None:
    """RFC 6238 appendix B, the last six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert totp.step_of(secret, f" {code[:3]} {code[3:]} ", now) == now // 30
    assert totp.step_of(secret, code, now + 30) == now // 30
    assert totp.step_of(secret, code, now + 90) is None

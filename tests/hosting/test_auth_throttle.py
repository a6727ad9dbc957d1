"""The throttle: allowances, pauses that double, attempts under way, and addresses that are known at an account."""

from __future__ import annotations

import pytest

from hosting.auth.throttle import Allowance, Attempt, Throttle, ThrottlePolicy
from storage.clock import FixedClock
from storage.errors import Throttled

ANN, BOB = b"ann", b"bob"
HOME, ABROAD = "192.0.2.1", "198.51.100.7"
DAY = 86400

POLICY = ThrottlePolicy(
    login=Allowance(3, 2, 10.0, 60.0, 600.0),
    address=Allowance(5, 4, 10.0, 60.0, 600.0),
    network=Allowance(8, 8, 10.0, 60.0, 600.0),
    pair=Allowance(3, 2, 10.0, 60.0, 600.0),
    known_for=30 * DAY,
    remembered=1000,
)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def throttle(clock: FixedClock) -> Throttle:
    return Throttle(clock, POLICY)


def fail(throttle: Throttle, login: bytes, address: str, times: int = 1) -> None:
    for _ in range(times):
        throttle.admit(login, address).failed()


def refused(throttle: Throttle, login: bytes, address: str) -> bool:
    try:
        throttle.check(login, address)
    except Throttled:
        return True
    return False


@pytest.mark.parametrize(("failures", "pause"), [(0, 0), (3, 0), (4, 10), (5, 20), (6, 40), (7, 60), (1000, 60)])
def test_pause_doubles_beyond_the_allowance_up_to_its_longest(failures: int, pause: float) -> None:
    assert POLICY.login.pause(failures) == pause


def test_account_is_paused_for_strangers_wherever_they_are(throttle: Throttle, clock: FixedClock) -> None:
    for network in range(4):
        fail(throttle, ANN, f"198.51.{network}.1")
    assert refused(throttle, ANN, "203.0.113.9")
    assert not refused(throttle, BOB, "203.0.113.9")
    clock.advance(10)
    assert not refused(throttle, ANN, "203.0.113.9")


def test_account_limit_never_locks_out_an_address_that_signed_in_lately(throttle: Throttle, clock: FixedClock) -> None:
    throttle.admit(ANN, HOME).succeeded()
    clock.advance(29 * DAY)
    for network in range(4):
        fail(throttle, ANN, f"198.51.{network}.1")
    assert refused(throttle, ANN, "203.0.113.9")
    assert not refused(throttle, ANN, HOME)
    throttle.admit(ANN, HOME).succeeded()


def test_known_address_is_forgotten_in_time(throttle: Throttle, clock: FixedClock) -> None:
    throttle.admit(ANN, HOME).succeeded()
    clock.advance(30 * DAY)
    assert not throttle.is_known(ANN, HOME)
    for network in range(4):
        fail(throttle, ANN, f"198.51.{network}.1")
    assert refused(throttle, ANN, HOME)


def test_known_address_has_an_allowance_of_its_own_at_that_account(throttle: Throttle, clock: FixedClock) -> None:
    throttle.admit(ANN, HOME).succeeded()
    fail(throttle, ANN, HOME, 4)
    assert refused(throttle, ANN, HOME)
    assert not refused(throttle, BOB, HOME)
    assert not refused(throttle, ANN, ABROAD)
    clock.advance(10)
    assert not refused(throttle, ANN, HOME)


def test_neighbour_behind_the_same_address_does_not_lock_a_known_account_out(throttle: Throttle) -> None:
    throttle.admit(ANN, HOME).succeeded()
    for number in range(6):
        fail(throttle, b"guess%d" % number, HOME)
    assert refused(throttle, BOB, HOME)
    assert not refused(throttle, ANN, HOME)


def test_address_that_tries_many_names_is_paused(throttle: Throttle) -> None:
    for number in range(6):
        fail(throttle, b"guess%d" % number, ABROAD)
    assert refused(throttle, ANN, ABROAD)
    assert not refused(throttle, ANN, HOME)


@pytest.mark.parametrize(
    ("addresses", "other", "apart"),
    [
        ([f"198.51.100.{n}" for n in range(9)], "198.51.100.200", "198.51.101.1"),
        ([f"2001:db8:1:{n}::1" for n in range(9)], "2001:db8:1:ffff::1", "2001:db8:2::1"),
    ],
)
def test_network_is_paused_as_one(throttle: Throttle, addresses: list[str], other: str, apart: str) -> None:
    for number, address in enumerate(addresses):
        fail(throttle, b"guess%d" % number, address)
    assert refused(throttle, ANN, other)
    assert not refused(throttle, ANN, apart)


def test_ipv6_subscriber_is_a_64_and_a_mapped_address_is_ipv4(throttle: Throttle) -> None:
    throttle.admit(ANN, "2001:db8::1").succeeded()
    throttle.admit(BOB, "::ffff:192.0.2.1").succeeded()
    assert throttle.is_known(ANN, "2001:db8::ffff:1")
    assert not throttle.is_known(ANN, "2001:db8:0:1::1")
    assert throttle.is_known(BOB, "192.0.2.1")


def test_success_clears_nobody_elses_failures(throttle: Throttle) -> None:
    for number in range(5):
        fail(throttle, b"guess%d" % number, ABROAD)
    throttle.admit(BOB, ABROAD).succeeded()
    fail(throttle, b"guess6", ABROAD)
    assert refused(throttle, ANN, ABROAD)


def test_attempts_under_way_count(throttle: Throttle) -> None:
    under_way: list[Attempt] = [throttle.admit(ANN, f"198.51.{n}.1") for n in range(5)]  # 3 free + 2 in parallel
    with pytest.raises(Throttled):
        throttle.admit(ANN, ABROAD)
    under_way.pop().abandoned()
    throttle.admit(ANN, ABROAD).abandoned()
    for attempt in under_way:
        attempt.failed()
    assert refused(throttle, ANN, ABROAD)


def test_at_the_end_of_the_allowance_attempts_go_one_at_a_time(throttle: Throttle) -> None:
    fail(throttle, ANN, HOME, 3)
    only = throttle.admit(ANN, HOME)
    with pytest.raises(Throttled):
        throttle.admit(ANN, HOME)
    only.abandoned()
    throttle.admit(ANN, HOME).abandoned()


def test_failures_are_forgotten_in_time(throttle: Throttle, clock: FixedClock) -> None:
    fail(throttle, ANN, HOME, 3)
    clock.advance(600)
    fail(throttle, ANN, HOME, 3)
    assert not refused(throttle, ANN, HOME)


def test_memory_is_bounded(clock: FixedClock) -> None:
    throttle = Throttle(clock, ThrottlePolicy(remembered=50))
    for number in range(500):
        fail(throttle, b"name%d" % number, f"10.{number % 250}.{number // 250}.1")
        throttle.remember(b"name%d" % number, HOME, clock.now())
    assert len(throttle._login._records) == 50
    assert len(throttle._known) == 50


def test_address_that_is_none_is_a_subject_like_any_other(throttle: Throttle) -> None:
    fail(throttle, ANN, "unix", 4)
    assert refused(throttle, ANN, "unix")

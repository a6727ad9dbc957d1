"""A wall clock that jumps stops what removes by time, until a person says that it is right."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.clock import FixedClock
from storage.clock_guard import AHEAD, BEHIND, FILE, ClockGuard, Doubt, Noted
from storage.errors import StorageFull, Unavailable

HOUR, DAY = 3600.0, 86_400.0
YEARS = 10 * 365.25 * DAY


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def guard(tmp_path: Path, clock: FixedClock) -> ClockGuard:
    ClockGuard.begin(tmp_path, clock)
    return ClockGuard(tmp_path, clock)


def doubt(guard: ClockGuard) -> Doubt | None:
    found = guard.reading().doubt
    if found is None:
        guard.check()
    else:
        with pytest.raises(Unavailable, match="cleanmail clock confirm"):
            guard.check()
    return found


def test_a_new_installation_believes_its_clock(guard: ClockGuard) -> None:
    assert doubt(guard) is None


def test_time_that_passes_is_believed_however_long(guard: ClockGuard, clock: FixedClock) -> None:
    for seconds in (1.0, HOUR, DAY, 400 * DAY, YEARS):
        clock.advance(seconds)
        assert doubt(guard) is None


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (YEARS, Doubt.AHEAD),
        (-YEARS, Doubt.BEHIND),
        (AHEAD + 1, Doubt.AHEAD),
        (AHEAD - 1, None),
        (-BEHIND - 1, Doubt.BEHIND),
        (1.0 - BEHIND, None),
    ],
)
def test_jumps_within_a_boot(guard: ClockGuard, clock: FixedClock, seconds: float, expected: Doubt | None) -> None:
    clock.advance(3 * HOUR)
    clock.jump(seconds)
    assert doubt(guard) is expected


def test_a_doubt_stays_until_it_is_confirmed_and_no_longer(guard: ClockGuard, clock: FixedClock) -> None:
    clock.jump(YEARS)
    clock.advance(30 * DAY)
    assert doubt(guard) is Doubt.AHEAD
    before = guard.confirm()
    assert before.doubt is Doubt.AHEAD and before.last is not None and before.now - before.last > YEARS
    assert doubt(guard) is None
    clock.jump(-YEARS)
    assert doubt(guard) is Doubt.BEHIND
    clock.jump(YEARS)  # set right by itself
    assert doubt(guard) is None


def test_many_small_steps_are_a_large_one(guard: ClockGuard, clock: FixedClock) -> None:
    """Each of them alone would be believed."""
    believed = 0
    for _ in range(10):
        clock.advance(HOUR)
        clock.jump(AHEAD / 4)
        if guard.reading().doubt is not None:
            break
        guard.check()
        believed += 1
    assert believed == 4


@pytest.mark.parametrize(
    ("off", "jump", "expected"),
    [
        (HOUR, 0.0, None),
        (DAY - 60, 0.0, None),
        (2 * DAY, 0.0, Doubt.AHEAD),  # nobody knows that the machine was off for so long
        (HOUR, YEARS, Doubt.AHEAD),
        (HOUR, -YEARS, Doubt.BEHIND),
        (HOUR, -HOUR, None),  # behind by less than the time that it was off: nothing shows it
        (HOUR, -2 * HOUR, Doubt.BEHIND),
    ],
)
def test_jumps_over_a_boot(
    guard: ClockGuard, clock: FixedClock, off: float, jump: float, expected: Doubt | None
) -> None:
    clock.advance(DAY)
    guard.check()
    clock.reboot(off)
    clock.jump(jump)
    assert doubt(guard) is expected


def test_after_a_boot_that_was_believed_its_own_time_counts(guard: ClockGuard, clock: FixedClock) -> None:
    clock.reboot(off=HOUR)
    guard.check()
    clock.advance(100 * DAY)
    assert doubt(guard) is None
    clock.jump(-HOUR)
    assert doubt(guard) is Doubt.BEHIND


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"[1]", b"\xff\x00", b"[" * 100_000, None])
def test_a_file_that_is_damaged_or_missing_vouches_for_nothing(
    tmp_path: Path, guard: ClockGuard, content: bytes | None
) -> None:
    path = tmp_path / FILE
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert doubt(guard) is (Doubt.MISSING if content is None else Doubt.DAMAGED)
    assert ("missing" if content is None else "damaged") in guard.reading().sentence
    guard.confirm()
    assert doubt(guard) is None


def test_a_changed_octet_is_seen(tmp_path: Path, guard: ClockGuard) -> None:
    path = tmp_path / FILE
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1750", b"1650", 1))
    assert doubt(guard) is Doubt.DAMAGED


def test_it_is_written_once_a_minute_at_most(tmp_path: Path, guard: ClockGuard, clock: FixedClock) -> None:
    path = tmp_path / FILE
    first = path.read_bytes()
    clock.advance(59)
    guard.check()
    assert path.read_bytes() == first
    clock.advance(1)
    guard.check()
    assert path.read_bytes() != first and not list(tmp_path.glob(".*"))


def test_a_full_disk_keeps_nothing_from_being_removed(
    tmp_path: Path, guard: ClockGuard, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (tmp_path / FILE).read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    clock.advance(HOUR)
    guard.check()
    assert (tmp_path / FILE).read_bytes() == before
    with pytest.raises(StorageFull):
        guard.confirm()


def test_to_begin_again_changes_nothing(tmp_path: Path, guard: ClockGuard, clock: FixedClock) -> None:
    clock.jump(YEARS)
    ClockGuard.begin(tmp_path, clock)
    assert doubt(guard) is Doubt.AHEAD


def test_sentences_name_how_much(guard: ClockGuard, clock: FixedClock) -> None:
    clock.jump(10 * DAY)
    assert "10 days ahead" in guard.reading().sentence
    clock.jump(-10 * DAY - 5 * HOUR)
    assert "5 hours behind" in guard.reading().sentence


times = st.floats(min_value=0, max_value=4e9, allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(st.builds(Noted, times, st.text(max_size=40), times, times, times))
def test_what_is_noted_is_read_again(noted: Noted) -> None:
    assert Noted.unpack(noted.pack()) == noted

"""Which accounts have their databases open: no more than so many, unless all of them are in use."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from storage.awake import Awake
from storage.background import Background


class House:
    """Somebody who can rest: as an account does, unless it was looked at since it was last asked."""

    def __init__(self, awake: Awake) -> None:
        self.awake = awake
        self.is_awake = False
        self.used = False
        self.held = False

    def look(self) -> None:
        self.used = True
        if not self.is_awake:
            self.is_awake = True
            self.awake.woke(self)

    def rest(self) -> bool:
        if self.used or self.held:
            self.used = False
            return False
        self.is_awake = False
        return True


@pytest.fixture
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.close()


def _look_at(houses: list[House], background: Background) -> None:
    for house in houses:
        house.look()
        background.settle()


def test_of_many_that_are_looked_at_only_so_many_stay_awake(background: Background) -> None:
    awake = Awake(background, count().__next__, most=10)
    houses = [House(awake) for _ in range(1000)]
    for house in houses:
        house.look()
    background.settle()
    assert len(awake) == 10 == sum(house.is_awake for house in houses)
    assert not awake.many_rested(991)
    assert awake.many_rested(990)
    assert not awake.many_rested(1)


def test_one_that_was_looked_at_again_has_a_second_chance(background: Background) -> None:
    awake = Awake(background, count().__next__, most=10)
    houses = [House(awake) for _ in range(12)]
    _look_at(houses[:11], background)
    assert [house.is_awake for house in houses] == [False] + 10 * [True] + [False]
    _look_at(houses[1:2] + houses[11:], background)
    assert [house.is_awake for house in houses] == [False, True, False] + 9 * [True]


def test_who_was_opened_this_second_is_spared_unless_they_are_a_crowd(background: Background) -> None:
    time = 5.0
    awake = Awake(background, lambda: time, most=10)
    houses = [House(awake) for _ in range(42)]
    _look_at(houses[:40], background)
    assert len(awake) == 40
    _look_at(houses[40:41], background)
    assert len(awake) == 40
    time += 1.0
    _look_at(houses[41:], background)
    assert len(awake) < 40


def test_where_all_are_in_use_all_stay_and_nobody_asks_for_ever(background: Background) -> None:
    awake = Awake(background, count().__next__, most=10)
    houses = [House(awake) for _ in range(30)]
    for house in houses:
        house.held = True
    _look_at(houses, background)
    assert len(awake) == 30
    for house in houses:
        house.held = False
    houses.append(House(awake))
    _look_at(houses[-1:], background)
    assert len(awake) == 10 == sum(house.is_awake for house in houses)


def test_each_is_asked_once_in_a_while_though_there_are_few(background: Background) -> None:
    awake = Awake(background, count().__next__, most=10)
    houses = [House(awake) for _ in range(3)]
    _look_at(houses, background)
    awake.rest()
    assert len(awake) == 3
    houses[1].look()
    awake.rest()
    assert [house.is_awake for house in houses] == [False, True, False]
    assert len(awake) == 1


def test_one_that_woke_while_it_was_let_rest_is_still_counted(background: Background) -> None:
    awake = Awake(background, count().__next__, most=10)

    class Woken(House):
        def rest(self) -> bool:
            super().rest()
            self.look()  # another thread, in the meantime
            return True

    Woken(awake).look()
    awake.rest()
    assert len(awake) == 1


def test_one_that_was_closed_is_forgotten(background: Background) -> None:
    awake = Awake(background, count().__next__, most=10)
    house = House(awake)
    house.look()
    awake.forget(house)
    assert len(awake) == 0
    awake.rest()
    assert house.is_awake  # nobody asked it

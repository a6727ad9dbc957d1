"""Positions are put together in slices, and come out as sets would."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hosting.imap.searching import merging
from hosting.imap.searching.merging import common, either, within, without


def carried_out(flow: Any) -> tuple[list[int], int]:
    """What a flow comes to, and how often others might have gone first."""
    turns = 0
    try:
        while True:
            assert next(flow) == b""
            turns += 1
    except StopIteration as end:
        return list(end.value), turns


def _kinds(numbers: set[int]) -> list[Sequence[int]]:
    """The sequences that searches use."""
    ascending = sorted(numbers)
    kinds: list[Sequence[int]] = [ascending, array("I", ascending)]
    if ascending == list(range(len(ascending))):
        kinds.append(range(len(ascending)))
    return kinds


_POSITIONS = st.one_of(
    st.sets(st.integers(0, 40), max_size=12), st.integers(0, 40).map(lambda count: set(range(count)))
)


@settings(max_examples=80)
@given(_POSITIONS, _POSITIONS, st.integers(1, 9))
def test_positions_are_put_together_as_sets_are(left: set[int], right: set[int], size: int) -> None:
    with patch.object(merging, "_SLICE", size), patch.object(merging, "_SPARSE", 3):
        for one in _kinds(left):
            for other in _kinds(right):
                assert carried_out(common(one, other))[0] == sorted(left & right)
                assert list(within(one, other)) == sorted(left & right)
            for found in _kinds(left & right):
                assert carried_out(without(one, found))[0] == sorted(left - right)
                rest = sorted(left - right)
                assert carried_out(either(one, found, rest))[0] == sorted(left)
                assert carried_out(either(one, found, rest[::2]))[0] == sorted((left & right) | set(rest[::2]))


@pytest.mark.parametrize(
    "merged",
    [
        lambda all_, some, few: common(all_, some),
        lambda all_, some, few: common(some, all_),
        lambda all_, some, few: without(all_, some),
        lambda all_, some, few: without(all_, few),
        either,
    ],
)
def test_each_slice_is_of_a_bounded_number_of_positions(merged: Callable[..., Any]) -> None:
    every = array("I", range(100_000))
    some, few = array("I", range(0, 100_000, 2)), array("I", [1, 50_001, 99_999])
    _found, turns = carried_out(merged(every, some, few))
    assert turns >= len(every) // merging._SLICE

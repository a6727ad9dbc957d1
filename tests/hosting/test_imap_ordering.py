"""Long lists are sorted in pieces: as one stable sort does, and no call sorts many at once (RFC 5256 §3)."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosting.imap.searching import ordering
from hosting.imap.searching.ordering import by_number, spread, stable


@given(st.lists(st.integers(0, 20), max_size=200), st.integers(1, 9), st.booleans())
def test_pieces_are_ordered_as_one_stable_sort_does(keys: list[int], piece: int, reverse: bool) -> None:
    known, ordering._PIECE = ordering._PIECE, piece
    try:
        values = range(len(keys))
        assert stable(values, keys.__getitem__, reverse=reverse) == sorted(
            values, key=keys.__getitem__, reverse=reverse
        )
    finally:
        ordering._PIECE = known


@given(
    st.lists(st.one_of(st.integers(0, 90), st.integers(-(2**40), 2**40)), max_size=300),
    st.integers(1, 9),
    st.booleans(),
)
def test_numbers_put_into_ranges_are_ordered_as_one_stable_sort_does(
    numbers: list[int], piece: int, reverse: bool
) -> None:
    known = ordering._PIECE, ordering._SAMPLE, ordering._TOGETHER
    ordering._PIECE, ordering._SAMPLE, ordering._TOGETHER = piece, 1, 2
    try:
        values = range(len(numbers))
        assert spread(values, numbers.__getitem__, reverse=reverse) == sorted(
            values, key=numbers.__getitem__, reverse=reverse
        )
    finally:
        ordering._PIECE, ordering._SAMPLE, ordering._TOGETHER = known


@given(st.lists(st.integers(50, 90), max_size=40), st.integers(0, 40))
def test_numbers_close_together_are_put_where_they_belong(numbers: list[int], count: int) -> None:
    numbers, count = list(dict.fromkeys(numbers)), min(count, len(set(numbers)))
    expected = sorted(range(count), key=numbers.__getitem__)
    some = numbers[:count]
    assert by_number(numbers, count) == (None if some and max(some) - min(some) >= 2 * count else expected)
    if count:
        assert by_number([*some, some[0]], count + 1) is None  # the same message twice


@pytest.mark.parametrize(
    "keys",
    [
        range(3000),
        range(3000, 0, -1),
        [number % 2 for number in range(3000)],
        [0] * 3000,
        [*range(0, 3000, 2), *range(1, 3000, 2)],
        [(number * 7919) % 3001 for number in range(3000)],
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_no_call_sorts_more_than_two_pieces(keys: list[int], reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "_PIECE", 100)
    values = range(len(keys))
    expected = sorted(values, key=keys.__getitem__, reverse=reverse)
    sizes: list[int] = []

    def counted(values: list[int], *, key: Callable[[int], Any], sort: Callable[..., list[int]] = sorted) -> list[int]:
        sizes.append(len(values))
        return sort(values, key=key)

    monkeypatch.setattr(builtins, "sorted", counted)  # where the module finds it when it is compiled, too
    result = stable(values, keys.__getitem__, reverse=reverse)
    monkeypatch.undo()
    assert result == expected
    assert max(sizes) <= 200

"""Periods are a policy within bounds: what the provider promises cannot be configured away."""

from __future__ import annotations

import pytest

from storage.errors import InvalidInput
from storage.register.classes import GROUPS
from storage.register.folder_rules import NEVER, UNSET, FolderRules, parse_rule
from storage.register.periods import BOUNDS, DAY, PRESETS, STANDARD, Period, Periods
from storage.register.values import Kept
from storage.register.words import how_long


def test_the_promises() -> None:
    assert {kept.value: STANDARD.of(kept).ceiling_days for kept in (Kept.TRACES, Kept.TRANSCRIPTS, Kept.ACCESS)} == {
        "traces": 14,
        "transcripts": 365,
        "access": 365,
    }
    short = Periods.of_preset("short_transcripts")
    assert short.of(Kept.TRANSCRIPTS).ceiling_days == 185 and short.of(Kept.ACCESS).ceiling_days == 365
    assert STANDARD.of(Kept.BUSINESS).floor_days == 3653  # ten years, three of them leap


def test_every_kept_has_a_period_and_words() -> None:
    assert {period.kept for period in STANDARD} == set(Kept)
    for _, members in GROUPS:
        for of in members:
            words = how_long(of, STANDARD)
            assert words and "{" not in words and words.strip() == words
            if STANDARD.of(of.kept).bounded:
                assert str(STANDARD.of(of.kept).ceiling_days) in words


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_to_the_bounds(preset: str) -> None:
    for kept, days in PRESETS[preset].items():
        assert BOUNDS[kept].least <= days <= BOUNDS[kept].most
    assert set(PRESETS[preset]) == set(BOUNDS)


@pytest.mark.parametrize("kept", BOUNDS)
def test_what_is_out_of_bounds_is_refused_with_the_reason(kept: Kept) -> None:
    bounds = BOUNDS[kept]
    for days in (bounds.least, bounds.most):
        period = Periods.of_preset("standard", {kept: days}).of(kept)
        assert (period.floor_days, period.ceiling_days) == (days - 1, days)
    for days in (bounds.least - 1, bounds.most + 1):
        with pytest.raises(InvalidInput) as refused:
            Periods.of_preset("standard", {kept: days})
        assert bounds.why in refused.value.public and str(days) in refused.value.public


def test_what_nobody_chooses() -> None:
    with pytest.raises(InvalidInput, match="not to be chosen"):
        Periods.of_preset("standard", {Kept.ACCOUNT: 5})
    with pytest.raises(InvalidInput, match="no preset 'forever'"):
        Periods.of_preset("forever")


def test_cut_off_and_limit() -> None:
    period = Period(Kept.TRACES, 13, 14)
    assert (period.cut_off(100 * DAY), period.limit(100 * DAY)) == (87 * DAY, 86 * DAY)
    assert not Period(Kept.WORK).bounded and Period(Kept.WORK).cut_off(7) == 7
    for floor, ceiling in ((5, 5), (6, 5), (None, 5), (5, None)):
        with pytest.raises(ValueError):
            Period(Kept.TRACES, floor, ceiling)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("Trash=30", ("Trash", 30)),
        (" Junk = never", ("Junk", NEVER)),
        ("Old/a=b=7", ("Old/a=b", 7)),
        ("Trash=default", ("Trash", UNSET)),
    ],
)
def test_rules_of_folders(rule: str, expected: tuple[str, int]) -> None:
    assert parse_rule(rule) == expected


@pytest.mark.parametrize(
    "rule", ["", "Trash", "=3", "Trash=", "Trash=0", "Trash=-1", "Trash=36501", "Trash=٣", "T=1.5"]
)
def test_rules_that_are_none(rule: str) -> None:
    with pytest.raises(InvalidInput):
        parse_rule(rule)


def test_whose_rule_counts() -> None:
    rules = FolderRules.parse(["Trash=30", "Junk=14", "Old=never"])
    assert rules.of("Trash", (), UNSET) == 30
    assert rules.of("Papierkorb", ("\\Trash",), UNSET) == 30  # by its special use
    assert rules.of("trash", (), 5) == 5 and rules.of("Trash", (), NEVER) == 0  # its owner's choice
    assert rules.of("Old", (), UNSET) == 0 and rules.of("Other", ("\\Sent",), UNSET) == 0
    assert rules.of("INBOX", (), UNSET) == 0 and rules.of("INBOX", (), 90) == 90
    with pytest.raises(InvalidInput, match="INBOX"):
        FolderRules.parse(["inbox=3"])

"""How full quarantines are: the gauge of the fullest, and a warning for each tenant and day."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from quarantine_place import DAY, ONE, PREFIX, TWO, Place, mail

from hosting.metrics import Metrics
from hosting.quarantine.fill import FillWatch
from storage.quarantine.values import Limits

SIZE = len(PREFIX) + len(mail("0"))


@pytest.mark.parametrize(
    ("limits", "held", "fill"),
    [
        (Limits(messages=4), 0, 0.0),
        (Limits(messages=4), 1, 0.25),
        (Limits(messages=4), 4, 1.0),
        (Limits(messages=100, octets=4 * SIZE), 3, 0.75),
        (Limits(messages=4, octets=100 * SIZE), 3, 0.75),
        (Limits(messages=0), 0, 0.0),
    ],
)
def test_what_is_nearest_to_its_limit_counts(tmp_path: Path, limits: Limits, held: int, fill: float) -> None:
    place = Place(tmp_path, limits)
    try:
        for number in range(held):
            place.held(str(number))
        assert place.quarantine.fill(ONE) == pytest.approx(fill)
        assert place.quarantine.fill(TWO) == 0.0
    finally:
        place.close()


def test_the_reserve_makes_it_no_fuller_than_full(tmp_path: Path) -> None:
    place = Place(tmp_path, Limits(messages=1))
    try:
        for number in range(2):
            place.quarantine.keep(ONE, place.new(str(number)), shared=True)
        assert place.quarantine.fill(ONE) == 1.0
    finally:
        place.close()


def test_the_fullest_is_shown_and_told_once_a_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(tmp_path, Limits(messages=10))
    metrics = Metrics(CollectorRegistry())
    watch = FillWatch(place.installation, place.quarantine, metrics)
    try:
        for number in range(8):
            place.held(str(number))
        place.held("0", tenant_id=TWO)
        assert watch.look() == metrics.registry.get_sample_value("cleanmail_quarantine_fill") == 0.8
        assert caplog.messages == []
        place.held("8")
        for _ in range(3):
            assert watch.look() == 0.9
        assert caplog.messages == ["the quarantine of tenant 1 is full to 90 %"]
        place.clock.advance(DAY)
        watch.look()
        assert len(caplog.messages) == 2
    finally:
        place.close()

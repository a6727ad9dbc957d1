"""The promise beside what was counted: shares, the alarm, the gauges and the warning once a day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from hosting.metrics import Metrics
from hosting.review.shares import DAYS, Shares
from hosting.review.watch import Watch
from storage.clock import FixedClock
from storage.filter.counts import DAY, VERDICTS, Counted
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.values import TenantId

ONE, TWO = TenantId(1), TenantId(2)


def shares(promised: float = 0.02, **counts: int) -> Shares:
    return Shares({what: counts.get(what.value, 0) for what in Counted}, promised)


@pytest.mark.parametrize(
    ("counts", "judged", "reviewed", "wrong", "alarm"),
    [
        ({}, 0, 0.0, 0.0, False),
        ({"deliver": 10_000}, 10_000, 0.0, 0.0, False),
        ({"deliver": 9_000, "junk": 900, "reject": 99, "tag": 1, "viewed": 1}, 10_000, 0.01, 0.0, False),
        ({"deliver": 10_000, "viewed": 2}, 10_000, 0.02, 0.0, True),  # the promise is: less than that
        ({"deliver": 10_001, "viewed": 2}, 10_001, 0.019998, 0.0, False),
        ({"deliver": 10_000, "viewed": 1, "wrong": 2}, 10_000, 0.01, 0.02, True),
        ({"deliver": 100, "quarantine": 100, "viewed": 1, "wrong": 1}, 200, 0.5, 0.5, True),
        ({"deliver": 100, "defer": 9_900, "viewed": 1}, 100, 1.0, 0.0, True),  # what comes again counts once
        ({"defer": 5, "viewed": 1}, 0, 100.0, 0.0, True),
        ({"deliver": 100, "reported": 50}, 100, 0.0, 0.0, False),  # nobody has looked so far
    ],
)
def test_shares(counts: dict[str, int], judged: int, reviewed: float, wrong: float, alarm: bool) -> None:
    found = shares(**counts)
    assert found.judged == judged
    assert found.reviewed == pytest.approx(reviewed, abs=1e-6)
    assert found.wrong == pytest.approx(wrong, abs=1e-6)
    assert found.alarm is alarm


@given(
    st.dictionaries(st.sampled_from([what.value for what in Counted]), st.integers(0, 10**12)), st.floats(0.001, 100)
)
def test_shares_of_anything_are_shares(counts: dict[str, int], promised: float) -> None:
    found = shares(promised, **counts)
    if found.judged:
        parts = [found.percent(what) for what in VERDICTS if what is not Counted.DEFER]
        assert sum(parts) == pytest.approx(100)
    assert found.alarm is (found.reviewed >= promised or found.wrong >= promised)


class TestWatch:
    @pytest.fixture
    def installation(self, tmp_path: Path) -> Iterator[Installation]:
        clock = FixedClock()
        keys = LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))
        Installation.create(tmp_path, keys, clock)
        installation = Installation(tmp_path, keys, clock)
        yield installation
        installation.close()

    def test_gauges_and_a_warning_once_a_day(
        self, installation: Installation, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = installation.clock
        assert isinstance(clock, FixedClock)
        registry = CollectorRegistry()
        watch = Watch(installation, Metrics(registry), 0.02)

        def gauges() -> tuple[float | None, float | None]:
            names = ("cleanmail_filter_reviewed_share", "cleanmail_filter_wrong_share")
            return tuple(map(registry.get_sample_value, names))  # type: ignore[return-value]

        installation.counts.add(ONE, Counted.DELIVER, 9_000)
        installation.counts.add(TWO, Counted.DELIVER, 1_000)
        installation.counts.flush()
        assert not watch.look().alarm
        assert gauges() == (0, 0)
        for number in range(3):
            installation.control.reviews.ask(ONE, f"q{number}")
            installation.control.reviews.view(ONE, f"q{number}")
        installation.control.reviews.decide(ONE, "q0", wrong=True, person="rita")
        for _ in range(3):
            assert watch.look().alarm
        assert gauges() == pytest.approx((0.0003, 0.0001))
        [record] = caplog.records
        assert record.levelname == "WARNING"
        assert "of 10000 messages in 30 days people looked at 3 (0.0300 %) and found 1 wrong" in record.getMessage()
        clock.advance(DAY)
        watch.look()
        watch.look()
        assert len(caplog.records) == 2
        clock.advance((DAYS - 1) * DAY)
        assert not watch.look().alarm
        assert gauges() == (0, 0)

"""Counts of verdicts: nothing waits, nothing is counted twice, sums of days, and the end after 400 days."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.clock import FixedClock
from storage.errors import Unavailable
from storage.filter.counts import DAY, FLUSH_EVERY, KEPT_DAYS, VERDICTS, Counted, Counts, Judged
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.retention import remove_due
from storage.values import TenantId

ONE, TWO = TenantId(1), TenantId(2)


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[DirectoryPremises]:
    premises = DirectoryPremises(tmp_path)
    yield premises
    premises.close()


@pytest.fixture
def judged(premises: DirectoryPremises) -> Judged:
    return premises.control.judged


def counts_of(premises: DirectoryPremises) -> Counts:
    return Counts(lambda: premises.control.judged, premises.clock)


def test_what_is_added_is_seen_after_the_flush(premises: DirectoryPremises, judged: Judged) -> None:
    counts = counts_of(premises)
    counts.add(ONE, "deliver", 3)
    counts.add(ONE, "deliver")
    counts.add(TWO, Counted.JUNK)
    assert judged.sums(1)[Counted.DELIVER] == 0
    counts.flush()
    counts.flush()
    assert judged.sums(1) == {**dict.fromkeys(Counted, 0), Counted.DELIVER: 4, Counted.JUNK: 1}
    assert judged.sums(1, TWO) == {**dict.fromkeys(Counted, 0), Counted.JUNK: 1}


def test_what_nobody_counts_is_a_mistake(premises: DirectoryPremises) -> None:
    with pytest.raises(ValueError, match="lost"):
        counts_of(premises).add(ONE, "lost")


def test_many_processes_and_threads_add_to_the_same_sums(premises: DirectoryPremises, judged: Judged) -> None:
    several = [counts_of(premises) for _ in range(3)]

    def work(counts: Counts) -> None:
        for number in range(200):
            counts.add(ONE, Counted.TAG)
            if number % 50 == 0:
                counts.flush()

    threads = [threading.Thread(target=work, args=(counts,)) for counts in several for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for counts in several:
        counts.close()
    assert judged.sums(1)[Counted.TAG] == 1200


def test_a_flush_is_due_every_few_seconds(premises: DirectoryPremises, judged: Judged) -> None:
    counts = counts_of(premises)
    counts.add(ONE, Counted.REJECT)
    counts.flush_due()
    assert judged.sums(1)[Counted.REJECT] == 0
    premises.clock.advance(FLUSH_EVERY)
    counts.flush_due()
    assert judged.sums(1)[Counted.REJECT] == 1


def test_what_cannot_be_written_is_kept(premises: DirectoryPremises, judged: Judged) -> None:
    ready: list[Judged] = []

    def find() -> Judged:
        if not ready:
            raise Unavailable
        return ready[0]

    counts = Counts(find, premises.clock)
    counts.add(ONE, Counted.DELIVER)
    premises.clock.advance(FLUSH_EVERY)
    counts.flush_due()
    with pytest.raises(Unavailable):
        counts.flush()
    counts.add(ONE, Counted.DELIVER)
    ready.append(judged)
    counts.close()
    assert judged.sums(1)[Counted.DELIVER] == 2


def test_a_day_is_a_day_of_utc(premises: DirectoryPremises, judged: Judged) -> None:
    counts = counts_of(premises)
    premises.clock.advance(DAY - premises.clock.now() % DAY - 1)  # the last second of a day
    counts.add(ONE, Counted.DELIVER)
    premises.clock.advance(1)
    counts.add(ONE, Counted.JUNK)
    counts.flush()
    assert judged.sums(1) == {**dict.fromkeys(Counted, 0), Counted.JUNK: 1}
    assert judged.sums(2)[Counted.DELIVER] == 1
    premises.clock.advance(29 * DAY)
    assert judged.sums(30) == {**dict.fromkeys(Counted, 0), Counted.JUNK: 1}


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([ONE, TWO]), st.sampled_from(Counted), st.integers(1, 9))),
    st.integers(1, 45),
)
@settings(max_examples=30, deadline=None)
def test_sums_are_what_was_added(
    tmp_path_factory: pytest.TempPathFactory, added: list[tuple[int, TenantId, Counted, int]], days: int
) -> None:
    premises = DirectoryPremises(tmp_path_factory.mktemp("sums"))
    try:
        counts = counts_of(premises)
        for day in range(41):
            for _, tenant_id, what, count in (each for each in added if each[0] == day):
                counts.add(tenant_id, what, count)
            if day < 40:
                premises.clock.advance(DAY)
        counts.flush()
        for tenant_id in (None, ONE, TWO):
            expected = dict.fromkeys(Counted, 0)
            for day, of, what, count in added:
                if day > 40 - days and tenant_id in (None, of):
                    expected[what] += count
            assert premises.control.judged.sums(days, tenant_id) == expected
    finally:
        premises.close()


def test_every_verdict_is_counted() -> None:
    assert [each.value for each in VERDICTS] == ["deliver", "tag", "junk", "quarantine", "reject", "defer"]


class TestInstallation:
    @pytest.fixture
    def installation(self, tmp_path: Path) -> Iterator[Installation]:
        clock = FixedClock()
        keys = LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))
        Installation.create(tmp_path, keys, clock)
        installation = Installation(tmp_path, keys, clock)
        yield installation
        installation.close()

    def test_opens_nothing_before_the_first_write_and_writes_when_it_closes(self, installation: Installation) -> None:
        with installation.at_hand(0):
            installation.counts.add(ONE, Counted.DELIVER)
        installation.flush_counts()
        assert not {"control"} & installation._made.keys()
        installation.close()
        assert installation.control.judged.sums(1)[Counted.DELIVER] == 1

    def test_counts_end_after_400_days(self, installation: Installation) -> None:
        clock = installation.clock
        assert isinstance(clock, FixedClock)
        installation.counts.add(ONE, Counted.DELIVER)
        installation.counts.flush()
        clock.advance(KEPT_DAYS * DAY)
        installation.counts.add(ONE, Counted.JUNK)
        installation.counts.flush()
        assert remove_due(installation).rows == 0
        clock.advance(DAY)
        assert remove_due(installation).rows == 1
        sums = installation.control.judged.sums(KEPT_DAYS + 10)
        assert (sums[Counted.DELIVER], sums[Counted.JUNK]) == (0, 1)

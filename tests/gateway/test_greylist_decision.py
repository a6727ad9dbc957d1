"""Greylisting: who waits, who passes, who is trusted; and over several workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.greylist import Greylist, GreylistSettings, client_network
from gateway.greylist.decision import decide
from storage.greylist import GreylistFile, Place

SETTINGS = GreylistSettings(enabled=True, delay=120, retry_within=86400, remembered=10 * 86400, trusted_after=3)
NOW = 1_750_000_000


def greylist(settings: GreylistSettings = SETTINGS) -> Greylist:
    return Greylist(settings, GreylistFile.of_this_process())


@pytest.mark.parametrize(
    ("attempts", "waits"),
    [  # seconds after the first, and what is said
        ([0], [120]),
        ([0, 1, 119], [120, 119, 1]),
        ([0, 120], [120, 0]),
        ([0, 120, 121, 9 * 86400], [120, 0, 0, 0]),
        ([0, 86400], [120, 0]),
        ([0, 86401, 86521], [120, 120, 0]),  # too late: it counts as the first
        ([0, 120, 120 + 10 * 86400, 120 + 20 * 86400], [120, 0, 0, 0]),  # each message keeps it in memory
        ([0, 120, 121 + 10 * 86400], [120, 0, 120]),
        ([0, -50, 120], [120, 120, 0]),  # the clock went back
    ],
)
def test_one_sender_and_recipient(attempts: list[int], waits: list[int]) -> None:
    one = greylist()
    assert [one.pass_("192.0.2.0/24", "a@b", "c@d", NOW + after) for after in attempts] == waits


def test_each_sender_recipient_and_network_waits_by_itself() -> None:
    one = greylist()
    assert one.pass_("n", "a", "b", NOW) == 120
    for network, sender, recipient in (
        ("m", "a", "b"),
        ("n", "x", "b"),
        ("n", "a", "x"),
        ("n", "", "b"),
        ("n", "ab", ""),
    ):
        assert one.pass_(network, sender, recipient, NOW + 60) == 120
    assert one.pass_("n", "A", "B", NOW + 60) == 60  # letters' case is nothing


def test_a_network_that_passed_often_is_trusted() -> None:
    one = greylist()
    for number in range(3):
        assert one.pass_("n", f"{number}", "b", NOW) == 120
        assert one.pass_("n", f"{number}", "b", NOW + 200) == 0
        assert one.pass_("n", f"{number}", "b", NOW + 201) == 0  # once for each
    assert one.pass_("n", "new", "b", NOW + 300) == 0
    assert one.pass_("m", "new", "b", NOW + 300) == 120
    assert one.pass_("n", "newer", "b", NOW + 300 + 10 * 86400) == 0
    assert one.pass_("n", "newest", "b", NOW + 301 + 20 * 86400) == 120


def test_trust_can_be_switched_off_and_so_can_all_of_it() -> None:
    one = greylist(replace(SETTINGS, trusted_after=0))
    for number in range(10):
        one.pass_("n", f"{number}", "b", NOW)
        one.pass_("n", f"{number}", "b", NOW + 200)
    assert one.pass_("n", "new", "b", NOW + 300) == 120
    assert greylist(GreylistSettings()).pass_("n", "a", "b", NOW) == 0


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=20))
def test_nobody_waits_longer_than_the_delay_nor_passes_sooner(gaps: list[int]) -> None:
    place, now, first = None, NOW, None
    for gap in gaps:
        now += gap
        decision = decide(place, now, SETTINGS)
        assert 0 <= decision.wait <= 120
        if place is None or decision.wait == 120:
            first = now if decision.place == Place(now, now) else first
        if decision.passed_now:
            assert first is not None and now - first >= 120
        place = decision.place


def test_workers_share_what_they_remember(tmp_path: Path) -> None:
    one, two = Greylist.open(SETTINGS, tmp_path), Greylist.open(SETTINGS, tmp_path)
    assert one.pass_("n", "a", "b", NOW) == 120
    assert two.pass_("n", "a", "b", NOW + 100) == 20
    assert two.pass_("n", "a", "b", NOW + 120) == 0
    assert one.pass_("n", "a", "b", NOW + 121) == 0
    one.close()
    three = Greylist.open(SETTINGS, tmp_path)
    assert three.pass_("n", "a", "b", NOW + 122) == 0
    two.close()
    three.close()


def test_a_folder_that_cannot_be_written_to_fails_no_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = Greylist.open(SETTINGS, tmp_path / "missing")
    assert one.pass_("n", "a", "b", NOW) == 120
    assert one.pass_("n", "a", "b", NOW + 120) == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nothing", "nothing"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert client_network(address) == network

"""The round of contracts beside others: what a person takes back at the last moment, and many tenants at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from quarantine_place import DAY, ONE, Place

from hosting.config import parse
from hosting.contract_round import ContractRound
from storage.directory.contracts import Contracts
from storage.directory.provisioning import Provisioning
from storage.directory.rows import State
from storage.directory.terms import Contract, ContractLimits
from storage.values import TenantId

CONFIG = parse('[server]\nhostname = "mail.test"\n')


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def test_an_end_that_is_taken_back_at_the_last_moment_ends_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the round found it reached, and before it orders the ending: another process, whose turn came first."""
    place.installation.control.contracts.set_end(ONE, place.clock.now() + 100 * DAY, "olga")
    place.clock.advance(100 * DAY)
    ending = Contracts.ending

    def taken_back(self: Contracts, until: int) -> list[Contract]:
        found = ending(self, until)
        place.clock.jump(-1)  # as that process saw it when it had its turn
        self.set_end(ONE, None, "olga")
        place.clock.jump(1)
        return found

    monkeypatch.setattr(Contracts, "ending", taken_back)
    ContractRound(place.installation, CONFIG).look()
    assert place.installation.control.tenant_state(ONE)[0] is State.ACTIVE
    assert place.installation.control.endings.of(ONE) is None


def test_measuring_is_spread_over_the_hour_and_stops_when_it_has_to(place: Place) -> None:
    """However many tenants there are, reminders and ends wait for some of them only."""
    provisioning = Provisioning(place.installation)
    limited = [provisioning.create_tenant(f"t{number}", "T").tenant_id for number in range(5)]
    for tenant_id in limited:
        place.installation.control.contracts.set_limits(tenant_id, ContractLimits(bytes=4000))

    def measured() -> list[TenantId]:
        return [each for each in limited if place.installation.control.contracts.of(each).measured is not None]

    (place.data / "tenants" / str(int(limited[0])) / "tenant.db").write_bytes(b"damaged")
    stopped = ContractRound(place.installation, CONFIG, at_most=2)
    stopped.stop()
    stopped.look()
    assert measured() == []
    going = ContractRound(place.installation, CONFIG, at_most=2)
    for expected in (2, 4, 5, 5):  # the first cannot be
        going.look()
        assert measured() == limited[1:expected]
        place.clock.advance(60)
    place.clock.advance(3600 - 4 * 60)
    going.look()
    now = place.clock.now()
    assert [each for each in limited if place.installation.control.contracts.of(each).measured == now] == limited[1:2]

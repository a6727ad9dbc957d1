"""Whether an attempt passes, waits or begins to wait: pure.

Standards: RFC 6647 §2 and §5 (what is remembered, and for how long).
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.greylist.settings import GreylistSettings
from storage.greylist import Place

PASSED = 0  # `first` of an attempt that passed


@dataclass(frozen=True, slots=True)
class Decision:
    """`wait`: seconds until another try is taken, 0: it passes. `place`: what is remembered of it from now on."""

    wait: int
    place: Place
    passed_now: bool = False  # and never before


def decide(place: Place | None, now: int, settings: GreylistSettings) -> Decision:
    """`place`: what is remembered of the attempt, if anything."""
    if place is not None and place.first == PASSED and 0 <= now - place.last <= settings.remembered:
        return Decision(0, Place(PASSED, now))
    delay = max(1, round(settings.delay))
    if place is None or place.first == PASSED or not 0 <= now - place.first <= settings.retry_within:
        return Decision(delay, Place(now, now))
    waited = now - place.first
    if waited < delay:
        return Decision(delay - waited, Place(place.first, now))
    return Decision(0, Place(PASSED, now), passed_now=True)


def is_trusted(network: Place | None, now: int, settings: GreylistSettings) -> bool:
    """Whether so much of a network's mail has passed that all of it does."""
    return (
        network is not None
        and 0 < settings.trusted_after <= network.first
        and 0 <= now - network.last <= settings.remembered
    )

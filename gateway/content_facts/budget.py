"""What looking into one message may cost, counted as it is spent.

Work is counted in octets, of what is looked at and of what comes out of unpacking, weighted by what an octet costs; so
the count does not depend on the machine, and tests can hold it.
"""

from __future__ import annotations

from gateway.content_facts.attachment import Incomplete
from gateway.content_facts.facts import ContentLimits


class Stop(Exception):  # noqa: N818 - it ends the reading of one thing and becomes a fact
    """Nothing more of this is read; `reason` says why."""

    def __init__(self, reason: Incomplete) -> None:
        super().__init__(reason)
        self.reason = reason


class Budget:
    """Of one message."""

    __slots__ = ("_limits", "attachments", "held", "held_most", "work")

    def __init__(self, limits: ContentLimits) -> None:
        self._limits = limits
        self.work = 0
        self.held = 0
        self.held_most = 0
        self.attachments = 0

    @property
    def exhausted(self) -> bool:
        return self.work >= self._limits.work

    def spend(self, octets: int) -> None:
        """Raises Stop once the message has cost enough."""
        self.work += octets
        if self.work >= self._limits.work:
            raise Stop(Incomplete.TOO_MUCH_WORK)

    def hold(self, octets: int) -> None:
        """So many octets more are in memory until `release`. Raises Stop, and they are not counted, if too many."""
        if self.held + octets > self._limits.held:
            raise Stop(Incomplete.TOO_LARGE)
        self.held += octets
        self.held_most = max(self.held_most, self.held)

    def release(self, octets: int) -> None:
        self.held -= octets

    def admits_attachment(self) -> bool:
        self.attachments += 1
        return self.attachments <= self._limits.attachments

"""The queue role: delivers here what a crash left between queue and mailbox. (Relaying to other servers comes here.)"""

from __future__ import annotations

from gateway.acceptance.local import deliver_pending
from hosting.composition import Parts
from hosting.roles.housekeeping import Ticking, every_second
from hosting.roles.service import RoleService

INTERVAL = 60.0  # seconds


def make_service(parts: Parts) -> RoleService:
    def pending() -> int:
        return deliver_pending(parts.installation)

    return RoleService([Ticking(parts.reactor, INTERVAL, blocking=[pending], at_once=True), every_second(parts)])

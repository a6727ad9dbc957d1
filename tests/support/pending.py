"""What the queue role does for mailboxes here, without its process: one attempt for everything that is due."""

from __future__ import annotations

from gateway.acceptance.local import deliver_here
from storage.installation import Installation
from storage.queue.entries import LOCAL


def deliver_pending(installation: Installation) -> int:
    """How many entries it tried."""
    queue, now = installation.queue, installation.clock.now()
    due = [each for lane in queue.lanes(now, destination=LOCAL) for each in queue.due(LOCAL, lane.lane, now, 1000)]
    for queue_id in due:
        deliver_here(installation, queue.show(queue_id))
    return len(due)

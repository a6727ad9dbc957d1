"""Works the queue and dies at a step that was asked for, or is told there that the disk is full; a fork server.

`python queue_child.py DATA`; as crash_child, with the one operation. What the next hop took is told on stdout,
{"taken": [recipient, token]}, before our side hears of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from crash_child import Steps, say, serve
from crash_queue import opened, work_queue

from gateway.queue import runner


def carry_out(data: Path, steps: Steps) -> None:
    runner._RECORD_AGAIN = (0.001, 0.01)
    with opened(data, 1) as installation:
        installation.queue  # noqa: B018 - opened before the counting begins
        steps.counting = True
        work_queue(installation, lambda recipient, token: say({"taken": [recipient, token]}))
        steps.counting = False
        say({"acknowledged": {}})


if __name__ == "__main__":
    serve(lambda _, steps: carry_out(Path(sys.argv[1]), steps))

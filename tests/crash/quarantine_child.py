"""Withholds a message, releases one or sends digests; dies at a step, or is told there that the disk is full.

A fork server: `python quarantine_child.py DATA`; as crash_child, with these operations.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from crash_child import Steps, hear, say
from crash_quarantine import ONE, digest, keep, opened, release

from storage.errors import CleanmailError


def carry_out(data: Path, request: dict[str, Any], steps: Steps) -> None:
    with opened(data, request.get("hours", 0)) as (installation, quarantine):
        installation.queue  # noqa: B018 - opened before the counting begins
        quarantine.of(ONE)
        steps.counting = True
        try:
            if request["operation"] == "keep":
                say({"acknowledged": keep(installation, quarantine, request["token"])})
            elif request["operation"] == "digest":
                say({"acknowledged": digest(installation, quarantine)})
            else:
                say({"acknowledged": release(installation, quarantine, request["id"])})
        except CleanmailError as error:
            say({"refused": type(error).__name__, "temporary": error.temporary})
        steps.counting = False


def main(data: Path) -> None:
    while True:
        request = hear()
        steps = Steps(request["stop"], request["at"])
        child = os.fork()
        if not child:
            steps.watch()
            status = 1
            try:
                carry_out(data, request, steps)
                say({"steps": steps.count})
                status = 0
            finally:
                sys.stderr.flush()
                if status:
                    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        say({"ended": os.waitstatus_to_exitcode(ended)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))

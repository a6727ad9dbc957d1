"""Removes by time what is due in a data directory, and dies at a step: `python retention_child.py`.

A fork server, as crash_child: each request on stdin names a data directory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from crash_child import Steps, hear, say
from crash_retention import opened

from storage.errors import CleanmailError
from storage.retention import remove_due


def carry_out(request: dict[str, Any], steps: Steps) -> None:
    with opened(Path(request["data"]), request["now"]) as installation:
        steps.counting = True
        try:
            say({"acknowledged": len(remove_due(installation).receipts)})
        except CleanmailError as error:
            say({"refused": type(error).__name__})
        steps.counting = False


def main() -> None:
    while True:
        request = hear()
        steps = Steps(request["stop"], request["at"])
        child = os.fork()
        if not child:
            steps.watch()
            status = 1
            try:
                carry_out(request, steps)
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
    main()

"""Removes by time what is due in a data directory, and dies at a step: `python retention_child.py`.

A fork server, as crash_child: each request on stdin names a data directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crash_child import Steps, say, serve
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


if __name__ == "__main__":
    serve(carry_out)

"""Withholds a message, releases one or sends digests; dies at a step, or is told there that the disk is full.

A fork server: `python quarantine_child.py DATA`; as crash_child, with these operations.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from crash_child import Steps, say, serve
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


if __name__ == "__main__":
    serve(partial(carry_out, Path(sys.argv[1])))

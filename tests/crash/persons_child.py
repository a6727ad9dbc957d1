"""Erases a person and dies at a step that was asked for: `persons_child.py DATA`. A fork server as `crash_child`."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from crash_child import Steps, say, serve
from person_town import ADA, STRANGER, PersonTown

from storage.errors import CleanmailError
from storage.persons.erase import erase
from storage.persons.sought import seek


def carry_out(data: Path, request: dict[str, Any], steps: Steps) -> None:
    os.pwrite = steps._counted("pwrite", os.pwrite)
    town = PersonTown.again(data)
    address = ADA if request["account"] else STRANGER
    town.installation.audit  # noqa: B018 - opened before the counting begins
    steps.counting = True
    try:
        erased = erase(seek(town.installation, address), "olga", "a letter", logs=bool(request["account"]))
    except CleanmailError as error:
        say({"refused": type(error).__name__})
    else:
        say({"acknowledged": erased.counts})
    steps.counting = False
    town.close()


if __name__ == "__main__":
    serve(partial(carry_out, Path(sys.argv[1])))

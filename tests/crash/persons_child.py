"""Erases a person and dies at a step that was asked for: `persons_child.py DATA`. A fork server as `crash_child`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from crash_child import Steps, hear, say
from person_town import ADA, STRANGER, PersonTown

from storage.errors import CleanmailError
from storage.persons.erase import erase
from storage.persons.sought import seek


def carry_out(data: Path, request: dict[str, Any], steps: Steps) -> None:
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


def main(data: Path) -> None:
    while True:
        request = hear()
        steps = Steps(request["stop"], request["at"])
        child = os.fork()
        if not child:
            steps.watch()
            os.pwrite = steps._counted("pwrite", os.pwrite)
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

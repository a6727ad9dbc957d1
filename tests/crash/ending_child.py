"""Ends a tenant or an account and dies at a step that was asked for, or has no space there: `ending_child.py DATA`.

A fork server as `crash_child`, with the one operation: it orders the ending, unless that was done, and carries it out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from crash_child import Steps, hear, say
from ending_town import EndingTown

from storage.errors import CleanmailError
from storage.values import AccountId, TenantId


def carry_out(data: Path, request: dict[str, Any], steps: Steps) -> None:
    town = EndingTown(data, anew=False)
    town.installation.queue  # noqa: B018 - opened before the counting begins
    steps.counting = True
    try:
        account_id = AccountId(request["account"]) if request["account"] else None
        certificate = town.end(TenantId(request["tenant"]), account_id)
    except CleanmailError as error:
        say({"refused": type(error).__name__})
    else:
        say({"acknowledged": certificate.certificate_id})
    steps.counting = False
    town.close()


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

"""Ends a tenant or an account and dies at a step that was asked for, or has no space there: `ending_child.py DATA`.

A fork server as `crash_child`, with the one operation: it orders the ending, unless that was done, and carries it out.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from crash_child import Steps, say, serve
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


if __name__ == "__main__":
    serve(partial(carry_out, Path(sys.argv[1])))

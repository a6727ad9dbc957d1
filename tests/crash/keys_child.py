"""Destroys keys or wraps them anew, and dies at a step.

A fork server: `python keys_child.py`; as crash_child, with the base of a `KeyPlace` in each request.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from crash_child import Steps, hear, say
from key_tree import ACCOUNT, TENANT, perform

from storage.clock import FixedClock
from storage.keys.keystore import KeyStore
from storage.keys.places import MasterFile


def carry_out(request: dict[str, Any], steps: Steps) -> None:
    base = Path(request["base"])
    store = KeyStore(base / "keys", MasterFile(base / "master"), FixedClock(), mirror=base / "mirror")
    store.account(TENANT, ACCOUNT)  # what is read once is in memory before the counting begins
    steps.counting = True
    perform(store, request["operation"])
    steps.counting = False


def main() -> None:
    while True:
        request = hear()
        steps = Steps(request["stop"], "kill")
        child = os.fork()
        if not child:
            steps.watch()
            status = 1
            try:
                carry_out(request, steps)
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

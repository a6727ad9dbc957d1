"""Destroys keys or wraps them anew, and dies at a step.

A fork server: `python keys_child.py`; as crash_child, with the base of a `KeyPlace` in each request.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crash_child import Steps, serve
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


if __name__ == "__main__":
    serve(carry_out, counted=False)

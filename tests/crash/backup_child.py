"""Makes or restores a backup, and dies at a step that was asked for: `python backup_child.py DATA TO`.

A fork server like crash_child.py, with its steps and its lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from backup_town import ALICE, ONE
from crash_child import Steps, serve

from storage.backup.backup import BackupRun
from storage.backup.place import Place
from storage.backup.restoring import restore_account
from storage.backup.saved import SavedTenant
from storage.backup.whole import restore_installation
from storage.clock import SystemClock
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import read_master_file
from storage.keys.source import LocalKeys


def keys_of(data: Path) -> LocalKeys:
    return LocalKeys(KeyStore(data / "keys", read_master_file(data / "keys" / "master"), SystemClock()))


@contextmanager
def opened(data: Path) -> Iterator[Installation]:
    installation = Installation(data, keys_of(data), SystemClock())
    try:
        yield installation
    finally:
        installation.close()


def carry_out(data: Path, place: Place, request: dict[str, Any], steps: Steps) -> None:
    if request["operation"] == "installation":
        target = Path(request["target"])
        keys = keys_of(target)
        steps.counting = True
        restore_installation(place, place.at(None), target, keys, SystemClock(), queue=True)
        steps.counting = False
        return
    with opened(data) as installation, installation.account(ONE, ALICE) as account:
        installation.queue  # noqa: B018 - opened before the counting begins
        installation.audit  # noqa: B018
        steps.counting = True
        if request["operation"] == "backup":
            BackupRun(installation, place).make()
        else:
            with SavedTenant(place.at(None), ONE, installation.keys, SystemClock(), data) as saved:
                restore_account(saved.account(ALICE), account)
        steps.counting = False


if __name__ == "__main__":
    serve(partial(carry_out, Path(sys.argv[1]), Place(Path(sys.argv[2]))))

"""Folders in run/ that hold copies of a backup's databases while something is read from them.

Their names say whose they are, so that what a killed process left is removed by whoever comes next.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.files import durable

RESTORE, PROOF = "restore", "proof"
_NAME = re.compile(rf"(?:{RESTORE}|{PROOF})-([0-9]+)-")


@contextmanager
def scratch(data: Path, kind: str) -> Iterator[Path]:
    """A folder of this process, gone when the context is left."""
    run = data / "run"
    durable.make_directory(run)
    tidy(data)
    with tempfile.TemporaryDirectory(prefix=f"{kind}-{os.getpid()}-", dir=run) as folder:
        yield Path(folder)


def tidy(data: Path) -> None:
    """Remove the folders of processes that are no more."""
    with suppress(FileNotFoundError):
        for name in os.listdir(data / "run"):
            match = _NAME.match(name)
            if match is not None and not _lives(int(match[1])):
                shutil.rmtree(data / "run" / name, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True

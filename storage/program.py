"""How a process of ours is executed: the command line that runs a module of this program and no other."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def command(module: str, *arguments: str) -> list[str]:
    """`python -m` would look for modules in the current directory first, which may be anybody's: root may run
    `cleanmail` there. Only who was started that way himself, as from a checkout, looks there for others, too."""
    return [sys.executable, *([] if _looks_here() else ["-P"]), "-m", module, *arguments]


def _looks_here() -> bool:
    if "" in sys.path:
        return True
    with suppress(OSError):  # the directory is gone
        return os.getcwd() in sys.path
    return False

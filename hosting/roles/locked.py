"""Memory that is never written to swap (mlock(2)), which a fork does not hand down.

SQLCipher locks the heap for its keys once, when it is loaded; who was forked since has to lock it for itself.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

Range = tuple[int, int]  # addresses of the first octet, and after the last

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ")
_FLAGS, _LOCKED = "VmFlags:", "lo"


def ranges(smaps: Path = Path("/proc/self/smaps")) -> list[Range]:
    """What this process has locked; nothing where the kernel does not tell."""
    found: list[Range] = []
    mapping = 0, 0
    with suppress(OSError):
        for line in smaps.read_text().splitlines():
            if (begins := _MAPPING.match(line)) is not None:
                mapping = int(begins[1], 16), int(begins[2], 16)
            elif line.startswith(_FLAGS) and _LOCKED in line.split():
                found.append(mapping)
    return found


def lock(memory: Sequence[Range]) -> None:
    """As far as the system allows."""
    library = ctypes.CDLL(None)
    for begin, end in memory:
        library.mlock(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin))

"""What the processes of a server that is measured take: processor and memory, from /proc."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def processes(pid: int) -> list[int]:
    """A process and everything below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_seconds(pid: int) -> float:
    """The processor time of a process and everything below it, of what ended meanwhile too."""
    return sum(cpu_seconds_of(each) for each in processes(pid))


def cpu_seconds_of(pid: int) -> float:
    """Likewise of this process alone, and of its children that ended."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0.0
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[13]) + int(fields[14])) / tick  # of children that ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0]) / 1e9
    return total


def proportional_kib(pid: int) -> int:
    """Memory of a process and everything below it, in KiB; what several share is divided among them."""
    return sum(proportional_kib_of(each) for each in processes(pid))


def proportional_kib_of(pid: int) -> int:
    """Likewise of this process alone; 0 if it is gone."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0


def title(pid: int) -> str:
    """What a process is: the role of a worker of Cleanmail, else the program's name."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        if "hosting.roles" in words:
            return words[words.index("hosting.roles") + 1]
        return Path(words[0]).name
    return "ended"

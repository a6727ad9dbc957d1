"""Which processes hold keys of which tenants, and ended because of it; and which workers are ready.

A process is known by its id and by when it was started, so that a number that is used again is nobody's. What is known
stands in a file too, a line for each first lease, since the auth role may be started anew while others hold keys; it
holds numbers only. Safe to use from many threads.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from storage.values import TenantId

_log = logging.getLogger("cleanmail.auth")

_LINES = 10_000  # of the file beyond twice those that count, before it is written anew

_Process = tuple[int, int]  # its id, and the clock ticks of its start after the machine's


class Holders:
    def __init__(self, path: Path | None = None) -> None:
        """`path`: where it is remembered; None: only as long as this process lives."""
        self._lock = threading.Lock()
        self._holding: dict[TenantId, set[_Process]] = {}
        self._ever: dict[TenantId, set[_Process]] = {}
        self._ready: dict[str, set[_Process]] = {}  # by role
        self._path: Path | None = None
        self._file: int | None = None
        self._lines, self._lines_max = 0, _LINES
        if path is not None:
            self._recall(path)

    def ready(self, role: str, pid: int) -> None:
        """A process of a role said that it is."""
        with self._lock:
            known = self._ready.setdefault(role, set())
            if (process := (pid, _started(pid))) not in known:
                _living(known)
                known.add(process)

    def all_ready(self, role: str) -> set[int]:
        """The living ones that said that they are ready, since this auth role was started."""
        with self._lock:
            return _living(self._ready.get(role, set()))

    def took(self, tenant_id: TenantId, pid: int) -> None:
        """Before the key is given away."""
        with self._lock:
            known = self._ever.setdefault(tenant_id, set())
            process = next((each for each in known if each[0] == pid), None)
            if process is None or not _lives(process):
                _living(known)
                process = (pid, _started(pid))
                known.add(process)
                self._remember(tenant_id, process)
            self._holding.setdefault(tenant_id, set()).add(process)

    def forgot(self, tenant_id: TenantId, pid: int) -> None:
        with self._lock:
            holding = self._holding.get(tenant_id, set())
            holding -= {process for process in holding if process[0] == pid}

    def of(self, tenant_id: TenantId) -> set[int]:
        """The living ones that did not say that they forgot."""
        with self._lock:
            return _living(self._holding.get(tenant_id, set()))

    def ever(self, tenant_id: TenantId) -> set[int]:
        """The living ones that ever held some, whatever they said: their memory may still show it."""
        with self._lock:
            return _living(self._ever.get(tenant_id, set()))

    def signal(self, tenant_id: TenantId, pids: Collection[int], how: signal.Signals) -> set[int]:
        """Send it to those of `pids` that ever held keys of the tenant, and to nobody else; whom it was sent to."""
        with self._lock:
            processes = [process for process in self._ever.get(tenant_id, set()) if process[0] in pids]
        return {process[0] for process in processes if _send(process, how)}

    def _recall(self, path: Path) -> None:
        """What an auth role of before knew, of processes that live on; all of them may hold keys."""
        lines: list[bytes] = []
        with suppress(OSError):
            lines = path.read_bytes().splitlines()
        for line in lines:
            words = line.split()
            if len(words) == 3 and all(word.isdigit() for word in words):
                process = (int(words[1]), int(words[2]))
                if _lives(process):
                    for known in (self._ever, self._holding):
                        known.setdefault(TenantId(int(words[0])), set()).add(process)
        self._path = path
        self._write_anew()

    def _remember(self, tenant_id: TenantId, process: _Process) -> None:
        if self._file is None:
            return
        self._lines += 1
        if self._lines > self._lines_max:
            self._write_anew()
            return
        with suppress(OSError):  # a full disk keeps nobody from his keys
            os.write(self._file, b"%d %d %d\n" % (tenant_id, *process))

    def _write_anew(self) -> None:
        """Without the dead. Whoever is killed in between leaves the old file."""
        assert self._path is not None
        for processes in self._ever.values():
            _living(processes)
        lines = [b"%d %d %d\n" % (t, *each) for t, processes in self._ever.items() for each in processes]
        if self._file is not None:
            os.close(self._file)
            self._file = None
        temporary = self._path.with_name(f"{self._path.name}.new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_bytes(b"".join(lines))
            temporary.replace(self._path)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            _log.warning("who holds keys is not remembered: errno %s", error.errno)
        self._lines, self._lines_max = len(lines), 2 * len(lines) + _LINES


def _living(processes: set[_Process]) -> set[int]:
    processes -= {process for process in processes if not _lives(process)}
    return {process[0] for process in processes}


def _lives(process: _Process) -> bool:
    return process[1] != 0 and _started(process[0]) == process[1]


def _started(pid: int) -> int:
    """0 if there is no such process, or only what is left of one that nobody waited for."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read(4096).rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0


def _send(process: _Process, how: signal.Signals) -> bool:
    """To this very process: a descriptor of it is taken first, then it is compared."""
    try:
        descriptor = os.pidfd_open(process[0])
    except OSError:
        return False
    try:
        if not _lives(process):
            return False
        signal.pidfd_send_signal(descriptor, how)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True

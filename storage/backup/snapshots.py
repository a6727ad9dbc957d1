"""The process that takes snapshots (`storage.backup.snapshot`), from the side of the backup.

It is started when the first database has to be copied, and again after it was stopped. While it works, `look` is called
twice a second: what that raises ends the process at once, and with it the keys that it holds.

Raises: what the snapshot raises, Unavailable (the process ended).
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import program
from storage.backup.snapshot import error_of
from storage.errors import Unavailable

_LOOK = 0.5  # seconds
_READ = 1 << 16


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that was taken."""

    size: int
    digest: str
    mark: str
    names: list[str]  # of the files that its rows name


class Snapshots:
    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._process: subprocess.Popen[bytes] | None = None
        self._stale = False
        self._buffer = b""

    def take(self, source: Path, target: Path, key: bytes, kind: str) -> Taken:
        """Copy one database; `key` is its own (`storage.database.driver.database_key`)."""
        request = {"source": str(source), "target": str(target), "key": key.hex(), "kind": kind}
        names: list[str] = []
        if self._stale:
            self.stop()
        try:
            self._say(request)
            while True:
                answer = self._hear()
                if "names" in answer:
                    names += answer["names"]
                    continue
                break
        except BaseException:
            self.stop()
            raise
        if "error" in answer:
            raise error_of(answer)
        return Taken(answer["size"], answer["digest"], answer["mark"], names)

    def renew(self) -> None:
        """The next database is copied by another process: somebody whose key this one had has ended."""
        self._stale = True

    def stop(self) -> None:
        """End the process, whatever it does. May be called again."""
        process, self._process, self._buffer, self._stale = self._process, None, b"", False
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.close()

    def _say(self, request: dict[str, str]) -> None:
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 - the same program
                program.command("storage.backup.snapshot"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
        except OSError:
            raise Unavailable("The process that copies databases ended.") from None

    def _hear(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                self._look()
                if selector.select(_LOOK):
                    read = os.read(self._process.stdout.fileno(), _READ)
                    if not read:
                        raise Unavailable("The process that copies databases ended.")
                    self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

"""What supervisor and worker say to each other: lines of JSON over the worker's standard input and descriptor 3.

Down: a `Start` as the first line, then `reload` (certificates), `sweep` (another worker was killed) and `stop`; the end
of the stream means stop too, so no worker outlives its supervisor. Up: `ready`, or `failed` with a sentence.

The fork server has a socket instead (`forkserver`, `forked`): a `Fork` goes there, a process id comes back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from storage.errors import InvalidInput

UP = 3  # the worker's descriptor for what it says
FIRST_SOCKET = 4
LINE_MAX = 1 << 20

RELOAD, SWEEP, STOP = "reload", "sweep", "stop"
READY, FAILED = "ready", "failed"

FORK_SERVER = "forkserver"  # where the name of a role stands, and longer than each of them
ANSWER_MAX = 64


@dataclass(frozen=True, slots=True)
class Start:
    """All that a worker needs to know. The configuration's text comes along, so that a worker that is started again
    works with what the supervisor found good, whatever stands in the file meanwhile."""

    data: str
    configuration: str
    sockets: list[tuple[str, int]]  # field of [listen], descriptor

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode("ascii") + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Start:
        try:
            fields = json.loads(line)
            sockets = [(str(name), int(descriptor)) for name, descriptor in fields["sockets"]]
            return cls(str(fields["data"]), str(fields["configuration"]), sockets)
        except (ValueError, KeyError, TypeError):
            raise InvalidInput("Roles are started by: cleanmail serve.") from None


@dataclass(frozen=True, slots=True)
class Fork:
    """What the fork server is asked for, with the descriptors of the worker."""

    role: str
    index: int

    def encode(self) -> bytes:
        return json.dumps([self.role, self.index]).encode("ascii")

    @classmethod
    def decode(cls, octets: bytes) -> Fork:
        role, index = json.loads(octets)
        return cls(str(role), int(index))


def encode(word: str, why: str = "") -> bytes:
    return json.dumps([word, why]).encode("ascii") + b"\n"


def read_start() -> Start:
    """The first line of standard input, and not an octet more."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LINE_MAX:
        octet = os.read(0, 1)
        if not octet:
            break
        line += octet
    return Start.decode(bytes(line))


class Lines:
    """Collects octets into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, str]]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message: Any = json.loads(line)
            yield str(message[0]), str(message[1])

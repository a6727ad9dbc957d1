"""The master key: where it comes from, and its generations.

Its text has one line for each generation, "number:64 hexadecimal digits"; the highest number wraps new keys, the others
still unwrap until everything is wrapped anew. A line may begin with CLEANMAIL_MASTER_KEY=, so that an environment file
as systemd reads it will do. Blank lines and lines that begin with # count nothing.

Raises: Unavailable when there is no master where it should be, or its text is not one.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import AlreadyExists, Unavailable
from storage.files import durable
from storage.keys.sealing import new_secret

_LINE = re.compile(r"(?:CLEANMAIL_MASTER_KEY=)?\"?([1-9][0-9]{0,8}):([0-9a-fA-F]{64})\"?\Z")
COMMAND_TIMEOUT = 30  # seconds
_VARIABLE = "CLEANMAIL_MASTER_KEY="


@dataclass(frozen=True, slots=True)
class Master:
    """The generations that are valid now, by number."""

    secrets: dict[int, bytes] = field(repr=False)

    @property
    def generation(self) -> int:
        """The one that wraps new keys."""
        return max(self.secrets)

    @classmethod
    def parse(cls, text: str) -> Master:
        generations: dict[int, bytes] = {}
        for raw in text.splitlines():
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            match = _LINE.match(line)
            if match is None or int(match[1]) in generations:
                raise Unavailable("The master key is not in the form 'generation:64 hexadecimal digits'.")
            generations[int(match[1])] = bytes.fromhex(match[2])
        if not generations:
            raise Unavailable("There is no master key in the given place.")
        return cls(generations)

    @classmethod
    def generate(cls) -> Master:
        return cls({1: new_secret()})

    def succeeded(self) -> Master:
        """With one more generation, which wraps from now on."""
        return Master({**self.secrets, self.generation + 1: new_secret()})

    def newest_only(self) -> Master:
        """After everything is wrapped anew: the older generations are forgotten."""
        return Master({self.generation: self.secrets[self.generation]})

    def text(self) -> str:
        return "".join(f"{number}:{secret.hex()}\n" for number, secret in sorted(self.secrets.items()))


def read_master_file(path: Path) -> Master:
    """From a file that only its owner can read (keys/master, or an environment file outside DATA)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unavailable("The file of the master key does not exist.") from None
    except OSError as error:
        raise Unavailable("The file of the master key cannot be read.", detail=f"errno {error.errno}") from None
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise Unavailable("The file of the master key can be read by others: make it mode 0600.")
        return Master.parse(file.read(65536))


def file_text(before: str, master: Master) -> str:
    """The text that takes the place of `before`: its comments stay, and its form as an environment file."""
    lines = [line for line in before.splitlines() if line.strip().startswith("#")]
    variable = _VARIABLE if any(line.strip().startswith(_VARIABLE) for line in before.splitlines()) else ""
    lines += [variable + line for line in master.text().splitlines()]
    return "".join(f"{line}\n" for line in lines)


def write_master_file(path: Path, master: Master, *, replace: bool = False) -> None:
    """Durable when it returns. Raises AlreadyExists unless it may replace."""
    if path.exists() and not replace:
        raise AlreadyExists("There is a master key already.")
    durable.make_directory(path.parent)
    durable.write_file(path, master.text().encode("ascii"), mode=0o600)


def run_master_command(command: Sequence[str]) -> Master:
    """From what a command of the operator prints (a KMS client, a password store); run once, at start."""
    done = run_command(command)
    if done is None:
        raise Unavailable("The command that gives the master key cannot be run or takes too long.")
    if done.returncode != 0:
        raise Unavailable(f"The command that gives the master key failed with status {done.returncode}.")
    return Master.parse(done.stdout.decode("ascii", "replace"))


def run_command(command: Sequence[str], given: bytes = b"") -> subprocess.CompletedProcess[bytes] | None:
    """A command of the operator; None if it cannot be run or takes too long.

    A process of root that acts as the server's user for a while gives it the rights of that user for good.
    """
    user, group = (os.geteuid(), os.getegid()) if os.getuid() != os.geteuid() else (None, None)
    try:
        return subprocess.run(  # noqa: S603
            list(command),
            input=given,
            capture_output=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
            user=user,
            group=group,
        )
    except (OSError, subprocess.SubprocessError):
        return None

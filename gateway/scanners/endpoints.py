"""Where scanners listen, as the configuration writes it. Raises InvalidInput, with a sentence."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from storage.errors import InvalidInput

_READ = 64 * 1024
_TCP = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+)):(?P<port>[0-9]{1,5})\Z")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Unix socket (`path`), or a host and its port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def authority(self) -> str:
        """As a Host field has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises OSError."""
        if self.path:
            return await asyncio.open_unix_connection(self.path, limit=_READ)
        return await asyncio.open_connection(self.host, self.port, limit=_READ)


def clamd_endpoint(text: str) -> Endpoint:
    """Of "unix:/path" or "host:port"."""
    if text.startswith("unix:/"):
        return Endpoint(path=text.removeprefix("unix:"))
    endpoint = _tcp(text)
    if endpoint is None:
        raise InvalidInput(
            f"'{text[:80]}' is no place of clamd; it is written as unix:/run/clamav/clamd.ctl or 127.0.0.1:3310."
        )
    return endpoint


def rspamd_endpoint(text: str) -> Endpoint:
    """Of "http://host:port"."""
    endpoint = _tcp(text.removeprefix("http://").removesuffix("/")) if text.startswith("http://") else None
    if endpoint is None:
        raise InvalidInput(f"'{text[:80]}' is no place of Rspamd; it is written as http://127.0.0.1:11333.")
    return endpoint


def _tcp(text: str) -> Endpoint | None:
    match = _TCP.match(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        return None
    return Endpoint(host=match["six"] or match["host"], port=int(match["port"]))

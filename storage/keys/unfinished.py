"""Changes of keys that were begun and may have been interrupted: unfinished.json in keys/.

A change stands there, durably, before its first step and until after its last. Raises: Corrupt.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from storage.errors import Corrupt
from storage.files import durable

What = Literal["destroy_tenant", "destroy_account", "rotate"]

_FILE = "unfinished.json"


@dataclass(frozen=True, slots=True)
class Change:
    what: What
    tenant: int = 0
    account: int = 0


def there(directory: Path) -> bool:
    return (directory / _FILE).exists()


def read(directory: Path) -> list[Change]:
    """In the order in which they were begun."""
    try:
        document: Any = json.loads((directory / _FILE).read_bytes())
        changes = [Change(each["what"], int(each["tenant"]), int(each["account"])) for each in document]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise Corrupt(detail="keys/unfinished.json: unreadable file") from None
    if any(change.what not in get_args(What) for change in changes):
        raise Corrupt(detail="keys/unfinished.json: unknown change")
    return changes


def add(directory: Path, change: Change) -> None:
    known = read(directory)
    if change not in known:
        _write(directory, [*known, change])


def remove(directory: Path, change: Change) -> None:
    left = [each for each in read(directory) if each != change]
    if left:
        _write(directory, left)
    else:
        durable.remove_file(directory / _FILE)


def _write(directory: Path, changes: list[Change]) -> None:
    document = json.dumps([asdict(change) for change in changes]).encode("ascii")
    durable.write_file(directory / _FILE, document + b"\n")

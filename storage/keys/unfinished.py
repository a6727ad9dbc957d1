"""Changes of keys that were begun and may have been interrupted: unfinished.json in keys/.

A change stands there, durably, before its first step and until after its last. Raises: Corrupt.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from storage.errors import Corrupt
from storage.files import durable

What = Literal["destroy_tenant", "destroy_account", "rotate"]

_FILE = "unfinished.json"
_DAMAGED = "keys/unfinished.json cannot be read: look what was begun in the audit log, remove the file, and repeat it."


@dataclass(frozen=True, slots=True)
class Change:
    what: What
    tenant: int = 0
    account: int = 0
    # Until when a copy of keys/ could exist that holds what is destroyed: asked for when it is begun.
    until: int | None = field(default=None, compare=False)


def there(directory: Path) -> bool:
    return (directory / _FILE).exists()


def read(directory: Path) -> list[Change]:
    """In the order in which they were begun."""
    try:
        document: Any = json.loads((directory / _FILE).read_bytes())
        changes = [_change(each) for each in document]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise Corrupt(_DAMAGED, detail="keys/unfinished.json: unreadable file") from None
    if any(change.what not in get_args(What) for change in changes):
        raise Corrupt(_DAMAGED, detail="keys/unfinished.json: unknown change")
    return changes


def add(directory: Path, change: Change) -> Change:
    """As it stands there: what was begun before is the same change still."""
    known = read(directory)
    for each in known:
        if each == change:
            return each
    _write(directory, [*known, change])
    return change


def remove(directory: Path, change: Change) -> None:
    left = [each for each in read(directory) if each != change]
    if left:
        _write(directory, left)
    else:
        durable.remove_file(directory / _FILE)


def _change(fields: Any) -> Change:
    until = fields["until"]
    return Change(
        fields["what"], int(fields["tenant"]), int(fields["account"]), int(until) if until is not None else None
    )


def _write(directory: Path, changes: list[Change]) -> None:
    document = json.dumps([asdict(change) for change in changes]).encode("ascii")
    durable.write_file(directory / _FILE, document + b"\n")

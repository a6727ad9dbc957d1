"""An unexpected error as a log may keep it: its type and the places it came through, never its text.

The text of somebody else's exception may quote an address or a line of a message. Errors of our own carry `detail`,
which holds ids only.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from storage.errors import CleanmailError

_ROOT = Path(__file__).resolve().parents[1]
_PLACES = 6


def describe(error: BaseException) -> str:
    """E.g. "Corrupt: account 7 at storage/keys/sealing.py:41 open_sealed < storage/files/format.py:88 read_all"."""
    detail = f": {error.detail}" if isinstance(error, CleanmailError) and error.detail else ""
    places = _places(error.__traceback__)
    return type(error).__name__ + detail + (f" at {' < '.join(places)}" if places else "")


def _places(trace: TracebackType | None) -> list[str]:
    """The innermost first."""
    frames = [(Path(frame.filename), frame.lineno, frame.name) for frame in traceback.extract_tb(trace)]
    return [
        f"{path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path.name}:{line} {name}"
        for path, line, name in reversed(frames[-_PLACES:])
    ]

"""Sizes, times and other quantities as people type them. Raises InvalidInput."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from storage.errors import InvalidInput

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\Z", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_AGO = re.compile(r"([0-9]+)\s*([smhdw])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def size(text: str) -> int:
    """Octets: 500M, 5G, 2GiB, 1048576; `unlimited` is 0."""
    if text.strip().lower() in ("unlimited", "none"):
        return 0
    match = _SIZE.match(text.strip())
    if match is None:
        raise InvalidInput(f"'{text[:40]}' is no size; write 500M, 5G, 2GiB, or unlimited.")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _POWERS[match[2].lower()])


def moment(text: str, now: int) -> int:
    """Unix seconds: 2026-05-01, 2026-05-01T12:30 (UTC unless it says otherwise), or 2h, 3d, 1w ago."""
    ago = _AGO.match(text.strip())
    if ago is not None:
        return now - int(ago[1]) * _SECONDS[ago[2]]
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(
            f"'{text[:40]}' is no time; write 2026-05-01, 2026-05-01T12:30, or 3d for three days ago."
        ) from None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())


def end(text: str, now: int) -> int:
    """The end of a time, itself outside: of a day that is named alone its last midnight, so that the day is inside."""
    try:
        date.fromisoformat(text.strip())
    except ValueError:
        return moment(text, now)
    return moment(text, now) + 86400
